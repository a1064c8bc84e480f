//! `couplet embed`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::tensor::Tensor;
use clap::Args;
use couplet_eval::{Encoder, NotFinite};
use couplet_model::l2_normalize;
use couplet_model::weights::{self, HostTensor, NamedTensors};
use couplet_search::npy_header;

use super::inputs::{exit_code, image_files, print_left_out, usable_lines};
use super::model_arguments::ModelArguments;
use super::output_file::{self, write_whole};
use crate::progress::{Progress, Screen};

#[derive(Debug, Args)]
pub(crate) struct EmbedArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Image files, or folders of images, which are searched with their sub-folders. Bad images are
    /// reported and left out, and the exit code is 1
    #[arg(long, num_args = 1.., value_name = "PATH")]
    images: Vec<PathBuf>,
    /// File with one text per line, or - for standard input. Texts that the tokenizer cannot encode are
    /// left out like bad images
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// File to write: .safetensors with image_features, text_features and, in its metadata, the
    /// paths and texts of the rows, or .npy with one of the two and a .names.json file next to it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write the towers' outputs without L2 normalization
    #[arg(long)]
    raw: bool,
}

/// Images per forward pass.
const IMAGE_BATCH: usize = 32;
/// Texts encoded between two updates of the progress bar.
const TEXT_BATCH: usize = 256;
/// The end of the name of the file with the names of a .npy file's rows.
const NAMES_END: &str = "names.json";

pub(crate) fn run(arguments: &EmbedArguments) -> anyhow::Result<u8> {
    let is_npy = is_npy(&arguments.out)?;
    output_file::check(&arguments.out)?;
    let images = image_files(&arguments.images)?;
    let (texts, bad_lines) = match &arguments.texts {
        Some(path) => usable_lines(path)?,
        None => (Vec::new(), 0),
    };
    if images.is_empty() && texts.is_empty() {
        bail!("nothing to embed; give --images, --texts or both");
    }
    if is_npy && !images.is_empty() && !texts.is_empty() {
        bail!(
            "--out: a .npy file holds one array; embed images and texts separately or write .safetensors"
        );
    }
    let model = arguments.model.open_aloud()?;
    let mut outputs = Vec::new();
    let mut progress = Progress::new();
    if !images.is_empty() {
        let embedded = embed_images(&model, &images, arguments.raw, &mut progress);
        progress.finish();
        outputs.push(("image_features", "images", embedded?));
    }
    if !texts.is_empty() {
        let embedded = embed_texts(&model, &texts, arguments.raw, &mut progress);
        progress.finish();
        outputs.push(("text_features", "texts", embedded?));
    }
    let names_file = arguments.out.with_extension(NAMES_END);
    for (_, _, Embedded { names, .. }) in outputs.iter().filter(|_| is_npy) {
        // One name a line, and JSON, because a name may hold any character.
        let text = serde_json::to_string_pretty(names)? + "\n";
        write_whole(&names_file, |path| Ok(fs::write(path, text)?))?;
    }
    let mut tensors = NamedTensors::new();
    let mut metadata = BTreeMap::new();
    let (mut left_out, mut total, mut what) = (bad_lines, bad_lines, Vec::new());
    for (tensor, items, embedded) in outputs {
        metadata.insert(items.to_string(), serde_json::to_string(&embedded.names)?);
        total += embedded.names.len() + embedded.left_out;
        left_out += embedded.left_out;
        what.push(items);
        tensors.insert(tensor.to_string(), embedded.features);
    }
    write_whole(&arguments.out, |path| {
        for tensor in tensors.values().filter(|_| is_npy) {
            write_npy(path, tensor)?;
        }
        if !is_npy {
            weights::save_with(path, &tensors, metadata)?;
        }
        Ok(())
    })?;
    for (name, tensor) in &tensors {
        say!("{name} {:?} in {}", tensor.shape, arguments.out.display());
    }
    if is_npy {
        say!("the rows' {} in {}", what.concat(), names_file.display());
    }
    Ok(exit_code(left_out, total, &what.join(" and ")))
}

/// Features of the inputs that can be used.
struct Embedded {
    /// `[names, embed_dim]`
    features: HostTensor,
    /// The path or the text of each row.
    names: Vec<String>,
    left_out: usize,
}

impl Embedded {
    /// - items: what is embedded; total: how many were given.
    fn new(
        items: &'static str,
        values: Vec<f32>,
        names: Vec<String>,
        total: usize,
    ) -> anyhow::Result<Self> {
        if names.is_empty() {
            bail!("none of the {total} {items} can be used; nothing is written");
        }
        let width = values.len() / names.len();
        Ok(Self {
            features: HostTensor {
                shape: vec![names.len(), width],
                values,
            },
            left_out: total - names.len(),
            names,
        })
    }
}

/// Whether the file is a .npy, not a .safetensors.
fn is_npy(out: &Path) -> anyhow::Result<bool> {
    match out.extension().and_then(|end| end.to_str()) {
        Some("npy") => Ok(true),
        Some("safetensors") => Ok(false),
        _ => bail!(
            "--out {}: expected a name that ends in .safetensors or .npy",
            out.display()
        ),
    }
}

fn embed_images(
    model: &Encoder,
    files: &[PathBuf],
    raw: bool,
    progress: &mut Progress,
) -> anyhow::Result<Embedded> {
    let (mut values, mut names) = (Vec::new(), Vec::new());
    for (at, chunk) in files.chunks(IMAGE_BATCH).enumerate() {
        let mut pixels = Vec::new();
        let before = names.len();
        for (file, read) in chunk.iter().zip(model.read_images(chunk)) {
            match read {
                Ok(read) => {
                    pixels.extend(read);
                    names.push(file.display().to_string());
                }
                Err(error) => print_left_out(&error),
            }
        }
        if names.len() > before {
            let features = model.encode_pixels_raw(pixels);
            values.extend(finished("images", features, &names[before..], raw)?);
        }
        let done = at * IMAGE_BATCH + chunk.len();
        progress.evaluating("images", done, files.len());
    }
    Embedded::new("images", values, names, files.len())
}

fn embed_texts(
    model: &Encoder,
    texts: &[String],
    raw: bool,
    progress: &mut Progress,
) -> anyhow::Result<Embedded> {
    let (mut values, mut names) = (Vec::new(), Vec::new());
    for (at, chunk) in texts.chunks(TEXT_BATCH).enumerate() {
        let before = names.len();
        let (features, is_usable) = model.encode_usable_texts_raw(chunk)?;
        for (text, is_usable) in chunk.iter().zip(is_usable) {
            if is_usable {
                names.push(text.clone());
            } else {
                print_left_out(&format!("the tokenizer has no ids for `{text}`"));
            }
        }
        if let Some(features) = features {
            values.extend(finished("texts", features, &names[before..], raw)?);
        }
        let done = at * TEXT_BATCH + chunk.len();
        progress.evaluating("texts", done, texts.len());
    }
    Embedded::new("texts", values, names, texts.len())
}

/// The values of features, normalized unless `raw` is set; an error if they are not finite.
/// - features: `[names, embed_dim]`, as a tower outputs them.
fn finished(
    items: &'static str,
    features: Tensor<2>,
    names: &[String],
    raw: bool,
) -> anyhow::Result<Vec<f32>> {
    let output = HostTensor::from_tensor(features.clone());
    NotFinite::check(items, &output.values, output.shape[1], |row| {
        names[row].clone()
    })?;
    Ok(if raw {
        output.values
    } else {
        HostTensor::from_tensor(l2_normalize(features)).values
    })
}

fn write_npy(path: &Path, tensor: &HostTensor) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&npy_header(tensor.shape[0], tensor.shape[1]))?;
    for value in &tensor.values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}
