//! `couplet embed`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::Tensor;
use couplet_model::weights::{self, HostTensor, NamedTensors};

use super::{image_files, open_model, read_lines};
use crate::EmbedArguments;
use crate::progress::{Progress, Screen};

/// Images that are read and encoded at once.
const IMAGE_BATCH: usize = 32;
/// Texts whose features are computed between two looks at the progress bar.
const TEXT_BATCH: usize = 256;

pub(crate) fn run(arguments: &EmbedArguments) -> anyhow::Result<u8> {
    let is_npy = match arguments.out.extension().and_then(|end| end.to_str()) {
        Some("npy") => true,
        Some("safetensors") => false,
        _ => bail!(
            "{}: --out ends in .safetensors or .npy",
            arguments.out.display()
        ),
    };
    let images = image_files(&arguments.images)?;
    let texts = match &arguments.texts {
        Some(path) => read_lines(path)?,
        None => Vec::new(),
    };
    if images.is_empty() && texts.is_empty() {
        bail!("there is nothing to embed: give --images, --texts or both");
    }
    if is_npy && !images.is_empty() && !texts.is_empty() {
        bail!(
            "a .npy file holds one array: embed images and texts one by one, or use .safetensors"
        );
    }
    let model = open_model(&arguments.model)?;
    let mut tensors = NamedTensors::new();
    let mut metadata = BTreeMap::new();
    let mut progress = Progress::new();
    if !images.is_empty() {
        let mut features = Vec::new();
        for chunk in images.chunks(IMAGE_BATCH) {
            let encoded = if arguments.raw {
                model.encode_images_raw(chunk)?
            } else {
                model.encode_images(chunk)?
            };
            features.push(encoded);
            let done = features.len() * IMAGE_BATCH;
            progress.evaluating("images", done.min(images.len()), images.len());
        }
        tensors.insert("image_features".into(), on_host(features));
        metadata.insert("images".to_string(), serde_json::to_string(&images)?);
    }
    if !texts.is_empty() {
        let mut features = Vec::new();
        for chunk in texts.chunks(TEXT_BATCH) {
            let encoded = if arguments.raw {
                model.encode_texts_raw(chunk)?
            } else {
                model.encode_texts(chunk)?
            };
            features.push(encoded);
            let done = features.len() * TEXT_BATCH;
            progress.evaluating("texts", done.min(texts.len()), texts.len());
        }
        tensors.insert("text_features".into(), on_host(features));
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
    Ok(0)
}

fn on_host(features: Vec<Tensor<2>>) -> HostTensor {
    HostTensor::from_tensor(Tensor::cat(features, 0))
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
