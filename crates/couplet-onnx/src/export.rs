//! A model as a folder of ONNX files.

use std::fs;
use std::path::Path;

use couplet_model::hugging_face::{
    CONFIG_FILE, IMAGE_PROCESSOR_FILE, TokenIds, image_processor_config,
};
use couplet_model::weights::NamedTensors;
use couplet_model::{ModelSpec, PreprocessSpec, write_json};
use serde_json::Value;

use crate::config::config;
use crate::error::OnnxError;
use crate::file::{MOST_INLINE, write};
use crate::model::{Part, build};
use crate::options::{OnnxOptions, Precision};
use crate::weights::Weights;

/// Where the ONNX files are in a model's folder.
const FOLDER: &str = "onnx";

/// Checks that the readers of such folders can prepare the model's images.
///
/// # Errors
/// If they cannot, with the reasons.
pub fn check(spec: &ModelSpec, preprocess: &PreprocessSpec) -> Result<(), OnnxError> {
    image_processor(spec, preprocess).map(|_| ())
}

/// Writes a model into the existing folder `folder`, without a tokenizer: `onnx/`, `config.json` and
/// `preprocessor_config.json`.
/// - tensors: the model's parameters and buffers, under open_clip's names.
/// - ids: the tokenizer's, for the config.
///
/// # Errors
/// As [`check`]; if the tensors are not those of such a model, if a weight does not fit in f16 and that is asked for, or
/// if a file cannot be written.
pub fn save(
    folder: &Path,
    tensors: &NamedTensors,
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    ids: TokenIds,
    options: OnnxOptions,
) -> Result<(), OnnxError> {
    let processor = image_processor(spec, preprocess)?;
    check_tensors(tensors, spec, options)?;
    let onnx = folder.join(FOLDER);
    fs::create_dir_all(&onnx).map_err(|source| OnnxError::Io {
        path: onnx.clone(),
        source,
    })?;
    let written = write_all(folder, tensors, spec, ids, options, &processor);
    if written.is_err() {
        // Half of gigabytes is of no use, and would be in the way of the next try.
        let _ = fs::remove_dir_all(&onnx);
        for name in [CONFIG_FILE, IMAGE_PROCESSOR_FILE] {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    written
}

fn write_all(
    folder: &Path,
    tensors: &NamedTensors,
    spec: &ModelSpec,
    ids: TokenIds,
    options: OnnxOptions,
    processor: &Value,
) -> Result<(), OnnxError> {
    let onnx = folder.join(FOLDER);
    let architecture = serde_json::to_string(spec).expect("plain values serialise");
    let mut external = Vec::new();
    for precision in options.precisions() {
        for part in Part::ALL {
            let weights = Weights::new(tensors);
            let graph = build(spec, &weights, precision, part)?;
            let file = format!("{}{}.onnx", part.name(), precision.suffix());
            let path = onnx.join(&file);
            let metadata = [
                ("couplet.model", architecture.clone()),
                ("couplet.precision", precision.name().to_string()),
            ];
            let written = write(&path, &graph, part.name(), &metadata, MOST_INLINE);
            let is_external = written.map_err(|source| OnnxError::Io { path, source })?;
            if is_external {
                external.push(file);
            }
        }
    }
    write_json(&folder.join(CONFIG_FILE), &config(spec, ids, &external))?;
    write_json(&folder.join(IMAGE_PROCESSOR_FILE), processor)?;
    Ok(())
}

/// Builds what is cheap to build, before anything is written.
fn check_tensors(
    tensors: &NamedTensors,
    spec: &ModelSpec,
    options: OnnxOptions,
) -> Result<(), OnnxError> {
    let weights = Weights::new(tensors);
    build(spec, &weights, Precision::Fp32, Part::Both)?;
    weights.check_all_taken()?;
    if options.fp16 {
        build(spec, &weights, Precision::Fp16, Part::Both)?;
    }
    Ok(())
}

fn image_processor(spec: &ModelSpec, preprocess: &PreprocessSpec) -> Result<Value, OnnxError> {
    image_processor_config(spec, preprocess).map_err(|reasons| OnnxError::NotWritable {
        reasons: reasons.join("; "),
    })
}
