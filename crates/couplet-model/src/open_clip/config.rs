//! `open_clip_config.json`, key by key. Source: open_clip `CLIPVisionCfg`, `CLIPTextCfg`,
//! `CLIP.__init__`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::hf_text::HfConfig;
use super::refused::{Others, Refused, is_false};
use super::text::TextCfg;
use super::vision::VisionCfg;
use crate::source::TokenizerCfg;
use crate::spec::{Activation, ModelSpec};

#[derive(Serialize, Deserialize)]
pub(super) struct ConfigFile {
    pub model_cfg: ModelCfg,
    #[serde(default)]
    pub preprocess_cfg: Option<Map<String, Value>>,
    /// Ours, which open_clip does not read: transformers' config of the text encoder that `hf_model_name` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hf_text_config: Option<Value>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ModelCfg {
    embed_dim: usize,
    #[serde(default, skip_serializing_if = "is_false")]
    quick_gelu: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_logit_scale: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init_logit_bias: Option<f32>,
    vision_cfg: VisionCfg,
    text_cfg: TextCfg,
    #[serde(flatten)]
    others: Others,
}

const CUSTOM_TEXT: &str = "custom_text";
/// Keys that change nothing in what a model computes.
const MODEL_IGNORED: [&str; 4] = [
    CUSTOM_TEXT,
    "nonscalar_logit_scale",
    "cast_dtype",
    "output_dict",
];

impl ModelCfg {
    /// The spec and the tokenizer, or every setting of the config that Couplet does not support.
    pub fn spec(&self, encoder: &HfConfig) -> Result<(ModelSpec, TokenizerCfg), Vec<String>> {
        let mut refused = Refused(Vec::new());
        refused.others("", &self.others, &MODEL_IGNORED);
        let spec = ModelSpec {
            embed_dim: self.embed_dim,
            activation: if self.quick_gelu {
                Activation::QuickGelu
            } else {
                Activation::Gelu
            },
            init_logit_scale: self
                .init_logit_scale
                .unwrap_or_else(crate::spec::clip_init_logit_scale),
            init_logit_bias: self.init_logit_bias,
            image: self.vision_cfg.spec(self.quick_gelu, &mut refused),
            text: self.text_cfg.spec(self.quick_gelu, encoder, &mut refused),
        };
        let tokenizer = self.text_cfg.tokenizer(&mut refused);
        if refused.0.is_empty() {
            Ok((spec, tokenizer))
        } else {
            Err(refused.0)
        }
    }

    pub fn with_tokenizer(mut self, tokenizer: &TokenizerCfg) -> Self {
        self.text_cfg.set_tokenizer(tokenizer);
        self
    }
}

impl From<&ModelSpec> for ModelCfg {
    fn from(spec: &ModelSpec) -> Self {
        Self {
            embed_dim: spec.embed_dim,
            quick_gelu: spec.activation == Activation::QuickGelu,
            init_logit_scale: Some(spec.init_logit_scale),
            init_logit_bias: spec.init_logit_bias,
            vision_cfg: VisionCfg::from_spec(&spec.image, spec.image_activation()),
            text_cfg: TextCfg::from_spec(&spec.text, spec.text_activation()),
            others: if spec.text.is_clip() {
                Others::new()
            } else {
                [(CUSTOM_TEXT.to_string(), true.into())].into()
            },
        }
    }
}
