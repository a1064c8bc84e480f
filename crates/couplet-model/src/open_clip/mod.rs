//! open_clip's model folder: `open_clip_config.json` with
//! `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`.

mod config;
mod preprocess;
mod refused;
mod text;
mod vision;

use std::path::{Path, PathBuf};

use config::{ConfigFile, ModelCfg};

use crate::clip::Clip;
use crate::digest::FileDigest;
use crate::files::{FolderError, parse_json, read_text, write_synced};
pub use crate::source::ForeignTokenizer;
use crate::spec::{ModelSpec, PreprocessSpec, TextPool};
use crate::weights;

/// The config's file name inside a model folder.
pub const CONFIG_FILE: &str = "open_clip_config.json";
/// The weights' file name inside a model folder.
pub const WEIGHTS_FILE: &str = "open_clip_model.safetensors";
/// The names of weights in a model folder, the preferred ones first.
/// Source: open_clip `_find_checkpoint_in_dir`.
pub const WEIGHTS_FILES: [&str; 8] = [
    WEIGHTS_FILE,
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
];

/// A config read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub spec: ModelSpec,
    pub preprocess: PreprocessSpec,
    pub foreign_tokenizer: Option<ForeignTokenizer>,
}

/// How open_clip cleans a text for a foreign tokenizer unless the config says.
pub const DEFAULT_CLEAN: &str = "whitespace";

/// Writes `model` into the existing folder `folder`, each file synced to disk.
/// - tokenizer: if it is not CLIP's; its own files are not written here.
/// - returns the digest of [`WEIGHTS_FILE`].
///
/// # Errors
/// If a file cannot be written; the message names it.
pub fn save(
    folder: &Path,
    model: &Clip,
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    tokenizer: Option<&ForeignTokenizer>,
) -> Result<FileDigest, FolderError> {
    let config = ConfigFile {
        model_cfg: ModelCfg::from(spec).with_tokenizer(tokenizer),
        preprocess_cfg: preprocess.clone().into(),
    };
    let text = serde_json::to_string_pretty(&config).expect("a config of plain values serialises");
    write_synced(&folder.join(CONFIG_FILE), &(text + "\n"))?;
    let digest = weights::save(&folder.join(WEIGHTS_FILE), &weights::parameters(model))?;
    Ok(digest)
}

/// Why open_clip cannot build the model, if it cannot: only Couplet reads checkpoints of such a
/// model.
pub fn obstacle(spec: &ModelSpec) -> Option<String> {
    match spec.text.pool {
        TextPool::Map { .. } => Some("open_clip's text tower has no MAP pooling".into()),
        _ => None,
    }
}

/// Reads `open_clip_config.json`, or a bare `model_cfg` such as open_clip's own files of
/// model configs.
///
/// # Errors
/// If the file is missing or invalid, or Couplet does not build such a model.
pub fn read_config(path: &Path) -> Result<Config, FolderError> {
    let mut value: serde_json::Value = parse_json(path, &read_text(path)?)?;
    if value.get("model_cfg").is_none() && value.get("vision_cfg").is_some() {
        value = serde_json::json!({ "model_cfg": value });
    }
    let config: ConfigFile =
        serde_json::from_value(value).map_err(|source| FolderError::Config {
            path: path.to_path_buf(),
            kind: "open_clip",
            source,
        })?;
    let model_cfg: ModelCfg = config.model_cfg;
    let spec = model_cfg
        .spec()
        .map_err(|list| FolderError::unsound(path, &list))?;
    crate::files::check(path, &spec)?;
    Ok(Config {
        spec,
        preprocess: config.preprocess_cfg.into(),
        foreign_tokenizer: model_cfg.foreign_tokenizer(),
    })
}

/// The weights of a model folder.
///
/// # Errors
/// If there are none.
pub fn find_weights(folder: &Path) -> Result<PathBuf, FolderError> {
    let mut candidates = WEIGHTS_FILES.iter().map(|name| folder.join(name));
    candidates
        .find(|path| path.is_file())
        .ok_or_else(|| FolderError::NoWeights {
            path: folder.to_path_buf(),
            expected: WEIGHTS_FILES[..3].join(", "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use crate::spec::{Activation, TextProjection};

    #[test]
    fn every_preset_survives_the_round_trip_through_open_clips_config() {
        for name in presets::names() {
            let spec = presets::find(name).unwrap();
            assert_eq!(ModelCfg::from(&spec).spec().unwrap(), spec, "{name}");
        }
    }

    fn config(model_cfg: &str) -> Result<Config, FolderError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG_FILE);
        std::fs::write(&path, format!(r#"{{"model_cfg": {model_cfg}}}"#)).unwrap();
        read_config(&path)
    }

    #[test]
    fn foreign_towers_are_rejected_by_name() {
        let error = config(
            r#"{"embed_dim": 8, "vision_cfg": {"timm_model_name": "vit_b", "timm_pool": "map"},
                "text_cfg": {"hf_model_name": "roberta-base"}}"#,
        );
        let error = error.unwrap_err().to_string();
        for part in ["vit_b", "timm", "roberta-base", "Hugging Face"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("timm_pool"), "{error}");
    }

    #[test]
    fn unsupported_settings_are_rejected_by_key() {
        let error = config(
            r#"{"embed_dim": 8, "vision_cfg": {"qk_norm": true, "image_size": [224, 160]},
                "text_cfg": {"embed_cls": true, "pool_type": "mean", "scale_fc": false}}"#,
        );
        let error = error.unwrap_err().to_string();
        for part in ["qk_norm", "[224, 160]", "embed_cls", "\"mean\""] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("scale_fc"), "{error}");
    }

    #[test]
    fn a_siglip_style_config_keeps_every_setting() {
        let read = config(
            r#"{"embed_dim": 16, "init_logit_bias": -10, "custom_text": true,
                "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1,
                    "pool_type": "avg", "no_ln_pre": true, "norm_kwargs": {"eps": 1e-6}},
                "text_cfg": {"context_length": 9, "vocab_size": 50, "width": 16, "heads": 2,
                    "layers": 1, "no_causal_mask": true, "pool_type": "last", "pad_id": 1,
                    "proj_bias": true, "act_kwargs": {"approximate": "tanh"},
                    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
                    "tokenizer_kwargs": {"clean": "canonicalize"}}}"#,
        )
        .unwrap();
        let text = &read.spec.text;
        assert!(!text.causal && !text.reads_no_padding());
        assert_eq!((text.pool, text.pad_id), (TextPool::Last, 1));
        assert_eq!(text.projection, TextProjection::LinearBias);
        assert_eq!(read.spec.text_activation(), Activation::GeluTanh);
        assert_eq!(read.spec.image_activation(), Some(Activation::Gelu));
        assert_eq!(read.spec.init_logit_bias, Some(-10.0));
        let tokenizer = read.foreign_tokenizer.unwrap();
        assert_eq!(tokenizer.name, "timm/ViT-B-16-SigLIP");
        assert_eq!(tokenizer.clean.as_deref(), Some("canonicalize"));
        let written = ModelCfg::from(&read.spec).with_tokenizer(Some(&tokenizer));
        assert_eq!(written.spec().unwrap(), read.spec);
        assert_eq!(written.foreign_tokenizer(), Some(tokenizer));
    }
}
