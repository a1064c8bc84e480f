//! open_clip's model folder: `open_clip_config.json` beside
//! `open_clip_model.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::spec::default_mlp_ratio;
use crate::weights::{self, WeightsError};
use crate::{Activation, Clip, ImageTowerSpec, ModelSpec, PreprocessSpec, TextTowerSpec, VitSpec};

/// The config's file name inside a model folder.
pub const CONFIG_FILE: &str = "open_clip_config.json";
/// The weights' file name inside a model folder.
pub const WEIGHTS_FILE: &str = "open_clip_model.safetensors";

/// open_clip's `CLIPVisionCfg.head_width` where a config does not name one.
const DEFAULT_HEAD_WIDTH: usize = 64;

/// Why a model folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: not found; a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}", path.display())]
    Missing { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not an open_clip config that Couplet reads: {source}", path.display())]
    Config {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}: {problems}", path.display())]
    Unsound { path: PathBuf, problems: String },
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// A model read from a folder.
#[derive(Debug)]
pub struct Loaded {
    pub model: Clip,
    pub spec: ModelSpec,
    pub preprocess: PreprocessSpec,
}

#[derive(Serialize, Deserialize)]
struct ConfigFile {
    model_cfg: ModelCfg,
    #[serde(default)]
    preprocess_cfg: PreprocessCfg,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelCfg {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_logit_scale: Option<f32>,
    vision_cfg: VisionCfg,
    text_cfg: TextCfg,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VisionCfg {
    image_size: usize,
    layers: usize,
    width: usize,
    #[serde(default = "default_head_width")]
    head_width: usize,
    patch_size: usize,
    #[serde(default = "default_mlp_ratio")]
    mlp_ratio: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextCfg {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    #[serde(default = "default_mlp_ratio")]
    mlp_ratio: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct PreprocessCfg {
    mean: [f32; 3],
    std: [f32; 3],
    mode: String,
    interpolation: String,
    resize_mode: String,
}

impl Default for PreprocessCfg {
    fn default() -> Self {
        PreprocessSpec::default().into()
    }
}

impl From<PreprocessSpec> for PreprocessCfg {
    fn from(spec: PreprocessSpec) -> Self {
        Self {
            mean: spec.mean,
            std: spec.std,
            mode: "RGB".into(),
            interpolation: "bicubic".into(),
            resize_mode: "shortest".into(),
        }
    }
}

fn default_head_width() -> usize {
    DEFAULT_HEAD_WIDTH
}

impl From<&ModelSpec> for ModelCfg {
    fn from(spec: &ModelSpec) -> Self {
        let ImageTowerSpec::Vit(vit) = &spec.image;
        Self {
            embed_dim: spec.embed_dim,
            quick_gelu: spec.activation == Activation::QuickGelu,
            init_logit_scale: Some(spec.init_logit_scale),
            vision_cfg: VisionCfg {
                image_size: vit.image_size,
                layers: vit.layers,
                width: vit.width,
                head_width: vit.width / vit.heads,
                patch_size: vit.patch_size,
                mlp_ratio: vit.mlp_ratio,
            },
            text_cfg: TextCfg {
                context_length: spec.text.context_length,
                vocab_size: spec.text.vocab_size,
                width: spec.text.width,
                heads: spec.text.heads,
                layers: spec.text.layers,
                mlp_ratio: spec.text.mlp_ratio,
            },
        }
    }
}

impl From<ModelCfg> for ModelSpec {
    fn from(cfg: ModelCfg) -> Self {
        let (vision, text) = (cfg.vision_cfg, cfg.text_cfg);
        Self {
            embed_dim: cfg.embed_dim,
            activation: if cfg.quick_gelu {
                Activation::QuickGelu
            } else {
                Activation::Gelu
            },
            init_logit_scale: cfg
                .init_logit_scale
                .unwrap_or_else(crate::spec::clip_init_logit_scale),
            image: ImageTowerSpec::Vit(VitSpec {
                image_size: vision.image_size,
                patch_size: vision.patch_size,
                width: vision.width,
                layers: vision.layers,
                heads: vision.width.checked_div(vision.head_width).unwrap_or(0),
                mlp_ratio: vision.mlp_ratio,
            }),
            text: TextTowerSpec {
                context_length: text.context_length,
                vocab_size: text.vocab_size,
                width: text.width,
                layers: text.layers,
                heads: text.heads,
                mlp_ratio: text.mlp_ratio,
            },
        }
    }
}

/// Writes `model` into the existing folder `folder`, each file synced to disk.
///
/// # Errors
/// If a file cannot be written; the message names it.
pub fn save(
    folder: &Path,
    model: &Clip,
    spec: &ModelSpec,
    preprocess: &PreprocessSpec,
) -> Result<(), FolderError> {
    let path = folder.join(CONFIG_FILE);
    let config = ConfigFile {
        model_cfg: spec.into(),
        preprocess_cfg: preprocess.clone().into(),
    };
    let text = serde_json::to_string_pretty(&config).expect("a config of plain values serialises");
    let write = || {
        fs::write(&path, text + "\n")?;
        fs::File::open(&path)?.sync_all()
    };
    write().map_err(|source| FolderError::Io {
        path: path.clone(),
        source,
    })?;
    weights::save(&folder.join(WEIGHTS_FILE), &weights::parameters(model))?;
    Ok(())
}

/// Reads the model and preprocessing specs of a model folder, without its weights.
///
/// # Errors
/// If the config is missing, is of a kind that Couplet does not read, or is unsound.
pub fn load_spec(folder: &Path) -> Result<(ModelSpec, PreprocessSpec), FolderError> {
    let path = folder.join(CONFIG_FILE);
    if !path.is_file() {
        return Err(FolderError::Missing { path });
    }
    let text = fs::read_to_string(&path).map_err(|source| FolderError::Io {
        path: path.clone(),
        source,
    })?;
    let config: ConfigFile = serde_json::from_str(&text).map_err(|source| FolderError::Config {
        path: path.clone(),
        source,
    })?;
    let spec: ModelSpec = config.model_cfg.into();
    let problems = spec.problems();
    if !problems.is_empty() {
        let list: Vec<_> = problems
            .iter()
            .map(|problem| format!("{}: {}", problem.field, problem.message))
            .collect();
        return Err(FolderError::Unsound {
            path,
            problems: list.join("; "),
        });
    }
    let preprocess = PreprocessSpec {
        mean: config.preprocess_cfg.mean,
        std: config.preprocess_cfg.std,
    };
    Ok((spec, preprocess))
}

/// Reads a model folder onto `device`.
///
/// # Errors
/// As [`load_spec`], and if any tensor is missing, surplus or misshapen.
pub fn load(folder: &Path, device: &Device) -> Result<Loaded, FolderError> {
    let (spec, preprocess) = load_spec(folder)?;
    let model = weights::load(&folder.join(WEIGHTS_FILE), Clip::init(&spec, 0, device))?;
    Ok(Loaded {
        model,
        spec,
        preprocess,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn a_saved_folder_reads_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let model = Clip::init(&spec, 3, &device);
        save(folder.path(), &model, &spec, &PreprocessSpec::default()).unwrap();
        let loaded = load(folder.path(), &device).unwrap();
        assert_eq!(loaded.spec, spec);
        assert_eq!(loaded.preprocess, PreprocessSpec::default());
        assert_eq!(
            weights::parameters(&loaded.model),
            weights::parameters(&model)
        );
    }

    #[test]
    fn every_preset_survives_the_round_trip_through_open_clips_config() {
        for name in presets::names() {
            let spec = presets::find(name).unwrap();
            let cfg = ModelCfg::from(&spec);
            assert_eq!(ModelSpec::from(cfg), spec, "{name}");
        }
    }

    #[test]
    fn a_missing_folder_says_what_it_should_hold() {
        let error = load_spec(Path::new("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert!(error.contains(WEIGHTS_FILE), "{error}");
    }

    #[test]
    fn a_foreign_tower_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(CONFIG_FILE),
            r#"{"model_cfg": {"embed_dim": 8, "vision_cfg": {"timm_model_name": "vit"}}}"#,
        )
        .unwrap();
        let error = load_spec(folder.path()).unwrap_err().to_string();
        assert!(error.contains("timm_model_name"), "{error}");
    }
}
