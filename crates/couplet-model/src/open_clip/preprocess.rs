//! The `preprocess_cfg` of `open_clip_config.json`. Source: open_clip `PreprocessCfg`.

use serde::{Deserialize, Serialize};

use crate::spec::{Interpolation, PreprocessSpec, ResizeMode};

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PreprocessCfg {
    mean: [f32; 3],
    std: [f32; 3],
    mode: String,
    interpolation: String,
    resize_mode: ResizeMode,
    fill_color: u8,
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
            interpolation: match spec.interpolation {
                Interpolation::Bicubic => "bicubic".into(),
                Interpolation::Bilinear => "bilinear".into(),
            },
            resize_mode: spec.resize_mode,
            fill_color: spec.fill_color,
        }
    }
}

impl From<PreprocessCfg> for PreprocessSpec {
    fn from(cfg: PreprocessCfg) -> Self {
        Self {
            mean: cfg.mean,
            std: cfg.std,
            // open_clip uses the bicubic filter for every other value.
            interpolation: if cfg.interpolation == "bilinear" {
                Interpolation::Bilinear
            } else {
                Interpolation::Bicubic
            },
            resize_mode: cfg.resize_mode,
            fill_color: cfg.fill_color,
        }
    }
}
