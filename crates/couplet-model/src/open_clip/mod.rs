//! open_clip's model folder: `open_clip_config.json` with
//! `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`.

mod config;
mod hf_text;
mod names;
mod parameter_order;
mod preprocess;
mod refused;
mod text;
mod timm;
mod training_run;
mod vision;

use std::path::{Path, PathBuf};

use config::{ConfigFile, ModelCfg};
use hf_text::HfConfig;

use crate::clip::Clip;
use crate::digest::FileDigest;
use crate::files::{FolderError, parse_json, read_text, write_synced};
pub use crate::source::TokenizerCfg;
use crate::spec::{ImagePool, ImageProjection, Interpolation, ModelSpec, PreprocessSpec, TextPool};
use crate::weights;
pub use names::tensors;
pub(crate) use names::{module_prefix, stored_as};
pub use parameter_order::sort_parameters;
pub(crate) use training_run::read_training_params;

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
    pub tokenizer: TokenizerCfg,
}

/// Writes `model` into the existing folder `folder`, each file synced to disk.
/// - tokenizer: its entries in the config; its own files are not written here.
/// - returns the digest of [`WEIGHTS_FILE`].
///
/// # Errors
/// If a file cannot be written; the message names it.
pub fn save(
    folder: &Path,
    model: &Clip,
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    tokenizer: &TokenizerCfg,
) -> Result<FileDigest, FolderError> {
    write_config(folder, spec, preprocess, tokenizer)?;
    let digest = weights::save(&folder.join(WEIGHTS_FILE), &tensors(model, spec))?;
    Ok(digest)
}

/// Writes [`CONFIG_FILE`] into the existing folder `folder`, synced to disk.
/// - tokenizer: its entries in the config.
///
/// # Errors
/// If the file cannot be written.
pub fn write_config(
    folder: &Path,
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    tokenizer: &TokenizerCfg,
) -> Result<(), FolderError> {
    let text = config_text(spec, preprocess, tokenizer);
    write_synced(&folder.join(CONFIG_FILE), &text)
}

/// The text of [`CONFIG_FILE`].
/// - tokenizer: its entries in the config.
///
/// # Panics
/// Never: every value of a config has a form in JSON.
pub fn config_text(
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
    tokenizer: &TokenizerCfg,
) -> String {
    let config = ConfigFile {
        model_cfg: ModelCfg::from(spec).with_tokenizer(tokenizer),
        hf_text_config: hf_text::config(spec),
        preprocess_cfg: Some(preprocess::to_cfg(preprocess)),
    };
    let text = serde_json::to_string_pretty(&config).expect("a config of plain values serialises");
    text + "\n"
}

/// Why open_clip cannot build the model or preprocess its images, if it cannot: only Couplet reads
/// checkpoints of such a model.
pub fn obstacle(spec: &ModelSpec, preprocess: &PreprocessSpec) -> Option<String> {
    if let Some(obstacle) = hf_text::obstacle(spec) {
        return Some(obstacle);
    }
    if matches!(spec.text.pool, TextPool::Map { .. }) {
        return Some("open_clip's text tower has no MAP pooling".into());
    }
    if let Some(vit) = spec.image.as_vit() {
        let activation = spec.image_activation().unwrap_or_default();
        let foreign = [
            (!vit.class_token, "form without class token"),
            (vit.patch_bias, "bias of patches"),
            (vit.pool == ImagePool::Map, "MAP pooling"),
            (vit.pooler, "pooler"),
            (
                vit.projection != ImageProjection::Linear,
                "form without projection",
            ),
        ];
        if vit.is_siglip() {
            if let Some(obstacle) = timm::obstacle(vit, activation) {
                return Some(obstacle);
            }
        } else if let Some((_, what)) = foreign.into_iter().find(|(is, _)| *is) {
            return Some(format!(
                "open_clip's image tower has no {what} but as SigLIP's"
            ));
        }
    }
    if let Some(side) = preprocess.resize_size {
        return Some(format!(
            "open_clip resizes to the image size, not to preprocess.resize_size = {side}"
        ));
    }
    let interpolation = preprocess.interpolation;
    let is_known = matches!(
        interpolation,
        Interpolation::Bicubic | Interpolation::Bilinear
    );
    (!is_known).then(|| format!("open_clip has no {} interpolation", interpolation.name()))
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
    let encoder = HfConfig {
        own: config.hf_text_config.as_ref(),
        folder: path.parent(),
    };
    let (spec, tokenizer) = model_cfg
        .spec(&encoder)
        .map_err(|list| FolderError::unsound(path, &list))?;
    crate::files::check(path, &spec)?;
    let preprocess_cfg = config.preprocess_cfg.unwrap_or_default();
    let preprocess = preprocess::to_spec(&preprocess_cfg, spec.image.image_size())
        .map_err(|list| FolderError::unsound(path, &list))?;
    Ok(Config {
        spec,
        preprocess,
        tokenizer,
    })
}

/// The weights in a model folder, the preferred ones first.
pub(crate) fn weights_candidates(folder: &Path) -> Vec<PathBuf> {
    let candidates = WEIGHTS_FILES.iter().map(|name| folder.join(name));
    candidates.filter(|path| path.is_file()).collect()
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
            let (read, tokenizer) = ModelCfg::from(&spec).spec(&HfConfig::default()).unwrap();
            assert_eq!((read, tokenizer), (spec, TokenizerCfg::default()), "{name}");
        }
    }

    #[test]
    fn a_tower_that_only_couplet_builds_keeps_what_it_is() {
        let mut spec = presets::find("ViT-Ti-16-64").unwrap();
        let crate::spec::ImageTowerSpec::Vit(vit) = &mut spec.image else {
            unreachable!("a ViT");
        };
        (vit.patch_bias, vit.pooler) = (true, true);
        let kept = |spec: &ModelSpec| {
            let read = ModelCfg::from(spec).spec(&HfConfig::default());
            assert_eq!(&read.unwrap().0, spec);
        };
        kept(&spec);
        let crate::spec::ImageTowerSpec::Vit(vit) = &mut spec.image else {
            unreachable!("a ViT");
        };
        (vit.class_token, vit.pooler, vit.pool) = (false, false, ImagePool::Map);
        vit.projection = ImageProjection::None;
        assert!(!vit.is_siglip());
        kept(&spec);
        let obstacle = obstacle(&spec, &PreprocessSpec::default());
        assert!(obstacle.unwrap().contains("without class token"));
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
                "text_cfg": {"hf_model_name": "google/mt5-base"}}"#,
        );
        let error = error.unwrap_err().to_string();
        for part in [
            "vit_b",
            "timm",
            "google/mt5-base",
            "hf_text_config",
            "roberta-base",
        ] {
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
        let tokenizer = read.tokenizer;
        assert_eq!(
            tokenizer.hugging_face.as_deref(),
            Some("timm/ViT-B-16-SigLIP")
        );
        assert_eq!(tokenizer.clean.as_deref(), Some("canonicalize"));
        let written = ModelCfg::from(&read.spec).with_tokenizer(&tokenizer);
        assert_eq!(
            written.spec(&HfConfig::default()).unwrap(),
            (read.spec, tokenizer)
        );
    }

    fn tokenizer(text_cfg: &str) -> Result<TokenizerCfg, FolderError> {
        let read = config(&format!(
            r#"{{"embed_dim": 8, "vision_cfg": {{"image_size": 32, "patch_size": 8, "width": 64,
                "layers": 1}}, "text_cfg": {{"width": 64, "heads": 1, "layers": 1, {text_cfg}}}}}"#
        ));
        read.map(|read| read.tokenizer)
    }

    #[test]
    fn tokenizer_options_are_kept_or_rejected_by_key() {
        let clipa = r#""hf_tokenizer_name": "bert-base-uncased", "pool_type": "last",
            "tokenizer_kwargs": {"strip_sep_token": true, "use_fast": true, "language": null}"#;
        let clipa = tokenizer(clipa).unwrap();
        assert!(clipa.strip_sep_token && clipa.clean.is_none());
        let plain =
            tokenizer(r#""tokenizer_kwargs": {"clean": "canonicalize", "reduction_mask": ""}"#);
        assert_eq!(plain.unwrap().clean.as_deref(), Some("canonicalize"));
        for (text_cfg, key) in [
            (
                r#""tokenizer_kwargs": {"reduction_mask": "syntax"}"#,
                "reduction_mask",
            ),
            (r#""tokenizer_kwargs": {"clean": "none"}"#, "clean"),
            (
                r#""tokenizer_kwargs": {"strip_sep_token": true}"#,
                "strip_sep_token",
            ),
            (
                r#""tokenizer_kwargs": {"additional_special_tokens": ["<x>"]}"#,
                "additional",
            ),
            (
                r#""hf_tokenizer_name": "x", "tokenizer_kwargs": {"language": "fr"}"#,
                "language",
            ),
            (
                r#""hf_tokenizer_name": "x", "tokenizer_mode": "clips""#,
                "tokenizer_mode",
            ),
        ] {
            let error = tokenizer(text_cfg).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn preprocessing_is_kept_or_rejected_by_key() {
        let read = |cfg: &str| {
            let cfg: serde_json::Map<_, _> = serde_json::from_str(cfg).unwrap();
            preprocess::to_spec(&cfg, 64)
        };
        let spec = read(
            r#"{"size": [80, 64], "mean": 0.5, "std": [0.25], "interpolation": "random",
                "resize_mode": "longest", "fill_color": 7, "crop_pct": 0.9, "mode": null}"#,
        )
        .unwrap();
        assert_eq!((spec.mean, spec.std), ([0.5; 3], [0.25; 3]));
        assert_eq!(
            (spec.interpolation, spec.fill_color),
            (Interpolation::Bicubic, 7)
        );
        let own = read(r#"{"resize_size": 80, "crop_rounding": "down", "interpolation": "box"}"#);
        let own = own.unwrap();
        assert_eq!(
            read(&serde_json::to_string(&preprocess::to_cfg(&own)).unwrap()),
            Ok(own)
        );
        for (cfg, key) in [
            (r#"{"interpolation": "cubic"}"#, "interpolation"),
            (r#"{"resize_mode": "stretch"}"#, "resize_mode"),
            (r#"{"mean": [1, 2]}"#, "mean"),
            (r#"{"std": [1, 0, 1]}"#, "std"),
            (r#"{"fill_color": [1, 2, 3]}"#, "fill_color"),
            (r#"{"mode": "L"}"#, "mode"),
            (r#"{"resize_size": 32}"#, "resize_size"),
        ] {
            let problems = read(cfg).unwrap_err().join("; ");
            assert!(
                problems.contains(&format!("preprocess_cfg.{key}")),
                "{problems}"
            );
        }
    }
}
