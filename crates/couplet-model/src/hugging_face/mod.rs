//! Hugging Face's folders of CLIP, SigLIP and dual encoders (`CLIPModel`, `SiglipModel`,
//! `VisionTextDualEncoderModel`): `config.json`, `model.safetensors`, and
//! `processor_config.json` or `preprocessor_config.json`. ViTs only: transformers has no class for
//! CLIP's ResNets.

mod activations;
mod config;
mod dual_encoder;
mod names;
mod processor;
mod siglip;
mod size;
pub(crate) mod text_encoder;
pub(crate) mod text_names;
mod token_ids;
mod vit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::ClipConfig;
use dual_encoder::DualEncoderConfig;
pub use processor::IMAGE_PROCESSOR_FILE;
pub use processor::read as read_preprocess;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use siglip::SiglipConfig;
pub use token_ids::TokenIds;

use crate::clip::Clip;
use crate::files::{FolderError, check, parse_json, read_text, write_json};
use crate::spec::{ModelSpec, PreprocessSpec, VitSpec};
use crate::weights;

pub(crate) use names::stored_as;

/// The config's file name inside a model folder.
pub const CONFIG_FILE: &str = "config.json";
/// The weights' file name inside a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// As errors call what is written.
const FORMAT: &str = "a Hugging Face model";
/// The index of a model in several files: tensor names to file names.
const INDEX_END: &str = ".index.json";
const WEIGHTS_FILES: [&str; 4] = [
    WEIGHTS_FILE,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The architecture and the preprocessing of the model in `folder`.
///
/// # Errors
/// If it is not a CLIP model, or one that Couplet does not build.
pub(crate) fn read_config(folder: &Path) -> Result<(ModelSpec, PreprocessSpec), FolderError> {
    let path = folder.join(CONFIG_FILE);
    let config: Value = parse_json(&path, &read_text(&path)?)?;
    let spec = spec(&path, config)?.map_err(|list| FolderError::unsound(&path, &list))?;
    check(&path, &spec)?;
    let preprocess = read_preprocess(folder, spec.image.image_size())?;
    Ok((spec, preprocess))
}

/// The architecture that a config describes, or every setting that Couplet does not support.
fn spec(path: &Path, config: Value) -> Result<Result<ModelSpec, Vec<String>>, FolderError> {
    fn parsed<T: DeserializeOwned>(path: &Path, config: Value) -> Result<T, FolderError> {
        serde_json::from_value(config).map_err(|source| FolderError::Config {
            path: path.to_path_buf(),
            kind: "Hugging Face",
            source,
        })
    }
    let model_type = config.get("model_type").and_then(Value::as_str);
    let refused = |reason: &str| {
        let given = model_type.map_or("no model_type".into(), |name| {
            format!("model_type = {name:?}")
        });
        Ok(Err(vec![format!("{given}: {reason}")]))
    };
    match model_type {
        Some(config::MODEL_TYPE) => Ok(parsed::<ClipConfig>(path, config)?.spec()),
        Some(siglip::MODEL_TYPE) => Ok(parsed::<SiglipConfig>(path, config)?.spec()),
        Some(dual_encoder::MODEL_TYPE) => Ok(parsed::<DualEncoderConfig>(path, config)?.spec()),
        Some("siglip2") => refused(
            "SigLIP 2's NaFlex model, which takes images of any shape, is not built by Couplet; its models of fixed \
             resolution, such as google/siglip2-base-patch16-224, are",
        ),
        _ => refused(
            "expected \"clip\" (CLIPModel), \"siglip\" (SiglipModel) or \"vision-text-dual-encoder\" \
             (VisionTextDualEncoderModel)",
        ),
    }
}

/// The weights in a model folder, the preferred ones first: each a file, or the index of several.
pub(crate) fn weights_candidates(folder: &Path) -> Vec<PathBuf> {
    let candidates = WEIGHTS_FILES.iter().map(|name| folder.join(name));
    candidates.filter(|path| path.is_file()).collect()
}

/// The files of a model's weights.
/// - path: the only file, or the index of several.
///
/// # Errors
/// If the index cannot be read, or names a file outside its folder.
pub(crate) fn list_files(path: &Path) -> Result<Vec<PathBuf>, FolderError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    if !path.to_string_lossy().ends_with(INDEX_END) {
        return Ok(vec![path.to_path_buf()]);
    }
    let index: Index = parse_json(path, &read_text(path)?)?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        let problem = "weight_map names no file".to_string();
        return Err(FolderError::unsound(path, &[problem]));
    }
    let file = |name: &String| {
        let file = path.with_file_name(name);
        let is_inside = Path::new(name)
            .file_name()
            .is_some_and(|only| only == name.as_str());
        if is_inside && file.is_file() {
            return Ok(file);
        }
        let problem = format!("weight_map names {name:?}, which is no file in the same folder");
        Err(FolderError::unsound(path, &[problem]))
    };
    names.iter().map(file).collect()
}

/// Checks that transformers can represent such a model.
///
/// # Errors
/// If they cannot, with every reason.
pub fn check_writable(spec: &ModelSpec, preprocess: &PreprocessSpec) -> Result<(), FolderError> {
    files(spec, preprocess, TokenIds::default()).map(|_| ())
}

/// The config of the model, or every reason why transformers has no such model.
/// - ids: the tokenizer's.
///
/// # Errors
/// With the reasons.
pub fn model_config(spec: &ModelSpec, ids: TokenIds) -> Result<Value, Vec<String>> {
    match spec.image.as_vit() {
        None => Err(vec![
            "transformers has no class for CLIP's ResNets; --format open_clip keeps it".into(),
        ]),
        Some(vit) if vit.is_siglip() => SiglipConfig::from_spec(spec, vit, ids).map(json_of),
        Some(vit) if !spec.text.is_clip() => {
            DualEncoderConfig::from_spec(spec, vit, ids).map(json_of)
        }
        Some(vit) => ClipConfig::from_spec(spec, vit, ids).map(json_of),
    }
}

/// The config of the model's image processor, or the reason why transformers has none that does the same.
///
/// # Errors
/// With the reasons.
pub fn image_processor_config(
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
) -> Result<Value, Vec<String>> {
    let is_siglip = spec.image.as_vit().is_some_and(VitSpec::is_siglip);
    processor::from_spec(preprocess, spec.image.image_size(), is_siglip)
}

/// The configs of the model and of its image processor.
fn files(
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    ids: TokenIds,
) -> Result<[Value; 2], FolderError> {
    let config = model_config(spec, ids);
    match (config, image_processor_config(spec, preprocess)) {
        (Ok(config), Ok(processor)) => Ok([config, processor]),
        (config, processor) => {
            let reasons = [config.err(), processor.err()];
            let reasons: Vec<String> = reasons.into_iter().flatten().flatten().collect();
            Err(FolderError::NotWritable {
                format: FORMAT,
                reasons: reasons.join("; "),
            })
        }
    }
}

/// That a model's texts cannot be prepared by transformers' tokenizer, and why.
pub fn foreign_tokenizer(reason: String) -> FolderError {
    FolderError::NotWritable {
        format: FORMAT,
        reasons: reason,
    }
}

/// Writes `model` into the existing folder `folder`, without a tokenizer.
/// - ids: the tokenizer's, for the config.
///
/// # Errors
/// As [`check_writable`]; or if a file cannot be written.
pub fn save(
    folder: &Path,
    model: &Clip,
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    ids: TokenIds,
) -> Result<(), FolderError> {
    let [config, processor] = files(spec, preprocess, ids)?;
    let mut tensors = names::to_hugging_face(weights::parameters(model), spec);
    if spec.image.as_vit().is_some_and(VitSpec::is_siglip) {
        // CLIPModel has scalars here.
        for name in ["logit_scale", "logit_bias"] {
            if let Some(tensor) = tensors.get_mut(name) {
                tensor.shape = vec![1];
            }
        }
    }
    write_json(&folder.join(CONFIG_FILE), &config)?;
    write_json(&folder.join(IMAGE_PROCESSOR_FILE), &processor)?;
    weights::save(&folder.join(WEIGHTS_FILE), &tensors)?;
    Ok(())
}

fn json_of(config: impl Serialize) -> Value {
    serde_json::to_value(config).expect("plain values serialise")
}
