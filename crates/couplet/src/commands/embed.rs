//! `couplet embed`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::Tensor;
use clap::Args;
use couplet_model::weights::{self, HostTensor, NamedTensors};

use super::inputs::{image_files, read_lines};
use super::model_arguments::ModelArguments;
use crate::exit_code;
use crate::progress::{Progress, Screen};

#[derive(Debug, Args)]
pub(crate) struct EmbedArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Image files, or folders of images
    #[arg(long, num_args = 1.., value_name = "PATH")]
    images: Vec<PathBuf>,
    /// File with one text per line, or - for standard input
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// File to write: .safetensors with image_features, text_features and their names, or .npy
    /// with one of the two
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

pub(crate) fn run(arguments: &EmbedArguments) -> anyhow::Result<u8> {
    let is_npy = is_npy(&arguments.out)?;
    let images = image_files(&arguments.images)?;
    let texts = match &arguments.texts {
        Some(path) => read_lines(path)?,
        None => Vec::new(),
    };
    if images.is_empty() && texts.is_empty() {
        bail!("nothing to embed; give --images, --texts or both");
    }
    if is_npy && !images.is_empty() && !texts.is_empty() {
        bail!(
            "--out: a .npy file holds one array; embed images and texts separately or write .safetensors"
        );
    }
    let model = arguments.model.open()?;
    let mut tensors = NamedTensors::new();
    let mut metadata = BTreeMap::new();
    let mut progress = Progress::new();
    if !images.is_empty() {
        let features = encode(&images, IMAGE_BATCH, "images", &mut progress, |chunk| {
            Ok(if arguments.raw {
                model.encode_images_raw(chunk)?
            } else {
                model.encode_images(chunk)?
            })
        })?;
        tensors.insert("image_features".into(), features);
        metadata.insert("images".to_string(), serde_json::to_string(&images)?);
    }
    if !texts.is_empty() {
        let features = encode(&texts, TEXT_BATCH, "texts", &mut progress, |chunk| {
            Ok(if arguments.raw {
                model.encode_texts_raw(chunk)?
            } else {
                model.encode_texts(chunk)?
            })
        })?;
        tensors.insert("text_features".into(), features);
        metadata.insert("texts".to_string(), serde_json::to_string(&texts)?);
    }
    progress.finish();
    if is_npy {
        for tensor in tensors.values() {
            write_npy(&arguments.out, tensor)
                .with_context(|| format!("{}: cannot be written", arguments.out.display()))?;
        }
    } else {
        weights::save_with(&arguments.out, &tensors, metadata)?;
    }
    for (name, tensor) in &tensors {
        println!("{name} {:?} in {}", tensor.shape, arguments.out.display());
    }
    Ok(exit_code::DONE)
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

/// The features of all items, encoded in batches.
/// - name: of the items, for the progress bar.
fn encode<T>(
    items: &[T],
    batch: usize,
    name: &str,
    progress: &mut Progress,
    encode_batch: impl Fn(&[T]) -> anyhow::Result<Tensor<2>>,
) -> anyhow::Result<HostTensor> {
    let mut features = Vec::new();
    for chunk in items.chunks(batch) {
        features.push(encode_batch(chunk)?);
        let done = features.len() * batch;
        progress.evaluating(name, done.min(items.len()), items.len());
    }
    Ok(HostTensor::from_tensor(Tensor::cat(features, 0)))
}

/// NumPy's format, version 1.0: little-endian f32, rows first.
fn write_npy(path: &Path, tensor: &HostTensor) -> std::io::Result<()> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    /// Magic, header length and header together are a multiple of this.
    const ALIGNMENT: usize = 64;
    let sizes: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}",
        sizes.join(", ")
    );
    let unpadded = MAGIC.len() + 2 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(std::io::Error::other)?;
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(MAGIC)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for value in &tensor.values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}
