//! `open_clip_config.json`, key by key. Source: open_clip `CLIPVisionCfg`, `CLIPTextCfg`,
//! `CLIP.__init__`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ForeignTokenizer;
use super::preprocess::PreprocessCfg;
use super::text::TextCfg;
use super::vision::{Side, VisionCfg};
use crate::spec::DEFAULT_NORM_EPS;
use crate::{Activation, ModelSpec};

#[derive(Serialize, Deserialize)]
pub(super) struct ConfigFile {
    pub model_cfg: ModelCfg,
    #[serde(default)]
    pub preprocess_cfg: PreprocessCfg,
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

/// Keys that are read only to refuse what they ask for.
pub(super) type Others = BTreeMap<String, Value>;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
pub(super) fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// Keys that change nothing in what a model computes.
const MODEL_IGNORED: [&str; 4] = [
    "custom_text",
    "nonscalar_logit_scale",
    "cast_dtype",
    "output_dict",
];

/// What a config asks for and is not built here.
pub(super) struct Refused(pub Vec<String>);

impl Refused {
    pub fn others(&mut self, table: &str, others: &Others, ignored: &[&str]) {
        for (key, value) in others {
            let unset = match value {
                Value::Null => true,
                Value::Bool(on) => !on,
                Value::String(text) => text.is_empty() || text == "default",
                _ => false,
            };
            if ignored.contains(&key.as_str()) || unset {
                continue;
            }
            // Details of a foreign tower that is refused by its name already.
            let foreign = |prefix: &str, name: &str| key.starts_with(prefix) && key != name;
            if foreign("timm_", "timm_model_name") || foreign("hf_", "hf_model_name") {
                continue;
            }
            let reason = match key.as_str() {
                "timm_model_name" => "a tower of timm; Couplet builds open_clip's own towers only",
                "hf_model_name" => {
                    "a tower of Hugging Face transformers; Couplet builds open_clip's own only"
                }
                "multimodal_cfg" => "CoCa's captioning decoder is not built here",
                _ => "not built here",
            };
            self.0.push(format!("{table}{key} = {value}: {reason}"));
        }
    }

    pub fn side(&mut self, key: &str, side: Side) -> usize {
        match side {
            Side::One(side) => side,
            Side::Two([height, width]) => {
                if height != width {
                    self.0.push(format!(
                        "{key} = [{height}, {width}]: only squares are built here"
                    ));
                }
                height
            }
        }
    }

    pub fn unknown(&mut self, key: &str, value: &str, known: &str) {
        self.0.push(format!("{key} = {value:?}: expected {known}"));
    }

    /// The activation that `act_kwargs` make of GELU, if not the model's.
    pub fn activation(
        &mut self,
        table: &str,
        kwargs: Option<&Map<String, Value>>,
        quick_gelu: bool,
    ) -> Option<Activation> {
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty())?;
        match kwargs.get("approximate").and_then(Value::as_str) {
            Some("tanh") if kwargs.len() == 1 && !quick_gelu => Some(Activation::GeluTanh),
            Some("none") if kwargs.len() == 1 && !quick_gelu => None,
            _ => {
                let value = Value::Object(kwargs.clone());
                self.0.push(format!(
                    "{table}.act_kwargs = {value}: expected {{\"approximate\": \"tanh\"}} with GELU"
                ));
                None
            }
        }
    }

    pub fn norm_eps(&mut self, table: &str, kwargs: Option<&Map<String, Value>>) -> f64 {
        let Some(kwargs) = kwargs.filter(|kwargs| !kwargs.is_empty()) else {
            return DEFAULT_NORM_EPS;
        };
        match kwargs.get("eps").and_then(Value::as_f64) {
            Some(eps) if kwargs.len() == 1 => eps,
            _ => {
                let value = Value::Object(kwargs.clone());
                self.0.push(format!(
                    "{table}.norm_kwargs = {value}: expected {{\"eps\": a number}}"
                ));
                DEFAULT_NORM_EPS
            }
        }
    }
}

impl ModelCfg {
    /// The spec, or everything the config asks for that is not built here.
    pub fn spec(&self) -> Result<ModelSpec, Vec<String>> {
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
            text: self.text_cfg.spec(self.quick_gelu, &mut refused),
        };
        if refused.0.is_empty() {
            Ok(spec)
        } else {
            Err(refused.0)
        }
    }

    /// A tokenizer of Hugging Face, which then is not CLIP's.
    pub fn foreign_tokenizer(&self) -> Option<ForeignTokenizer> {
        self.text_cfg.tokenizer()
    }

    pub fn with_tokenizer(mut self, tokenizer: Option<&ForeignTokenizer>) -> Self {
        if let Some(tokenizer) = tokenizer {
            self.text_cfg.set_tokenizer(tokenizer);
        }
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
            others: Others::new(),
        }
    }
}

pub(super) fn act_kwargs(activation: Activation) -> Option<Map<String, Value>> {
    let tanh = || {
        [("approximate".to_string(), "tanh".into())]
            .into_iter()
            .collect()
    };
    (activation == Activation::GeluTanh).then(tanh)
}

pub(super) fn norm_kwargs(eps: f64) -> Option<Map<String, Value>> {
    let kwargs = || [("eps".to_string(), eps.into())].into_iter().collect();
    (eps != DEFAULT_NORM_EPS).then(kwargs)
}
