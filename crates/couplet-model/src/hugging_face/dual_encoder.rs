//! `config.json` of `VisionTextDualEncoderModel`, key by key: CLIP's vision transformer, or `ViTModel`, with the text
//! encoder of another model. Source: transformers `VisionTextDualEncoderConfig`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{VisionConfig, clip_vit};
use super::text_encoder;
use super::token_ids::TokenIds;
use super::vit::{self, VitConfig};
use crate::spec::{Activation, ImageTowerSpec, ModelSpec, TextPool, TextProjection, VitSpec};

pub(super) const MODEL_TYPE: &str = "vision-text-dual-encoder";

#[derive(Serialize, Deserialize)]
pub(super) struct DualEncoderConfig {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    model_type: String,
    #[serde(default = "super::config::default_projection")]
    projection_dim: usize,
    #[serde(default = "super::config::default_logit_scale")]
    logit_scale_init_value: f32,
    vision_config: Value,
    text_config: Value,
}

impl DualEncoderConfig {
    /// The spec, or every setting of the config that Couplet does not support.
    pub fn spec(&self) -> Result<ModelSpec, Vec<String>> {
        let mut problems = Vec::new();
        let image = self.vision().unwrap_or_else(|list| {
            problems.extend(list);
            None
        });
        let text = text_encoder::read(&self.text_config, "text_config.");
        let (Some((image, activation)), Ok(mut text)) = (image, text.clone()) else {
            problems.extend(text.err().into_iter().flatten());
            return Err(problems);
        };
        if matches!(text.encoder, crate::spec::TextEncoder::ModernBert { .. }) {
            return Err(vec![
                "text_config.model_type = \"modernbert\": transformers pools a dual encoder's texts by a pooler, which \
                 ModernBERT does not have"
                    .into(),
            ]);
        }
        text.pool = TextPool::Pooler;
        text.projection = TextProjection::Linear;
        if text.activation == Some(activation) {
            text.activation = None;
        }
        Ok(ModelSpec {
            embed_dim: self.projection_dim,
            activation,
            init_logit_scale: self.logit_scale_init_value,
            init_logit_bias: None,
            image: ImageTowerSpec::Vit(image),
            text,
        })
    }

    fn vision(&self) -> Result<Option<(VitSpec, Activation)>, Vec<String>> {
        let kind = self.vision_config.get("model_type").and_then(Value::as_str);
        if kind == Some(vit::MODEL_TYPE) {
            let config: VitConfig = serde_json::from_value(self.vision_config.clone())
                .map_err(|error| vec![format!("vision_config: {error}")])?;
            return config.spec().map(Some);
        }
        let config = match kind {
            // A whole CLIP's config holds that of its tower.
            Some("clip") => self.vision_config.get("vision_config"),
            Some("clip_vision_model") => Some(&self.vision_config),
            _ => None,
        };
        let Some(config) = config else {
            let kind = kind.unwrap_or("not given");
            return Err(vec![format!(
                "vision_config.model_type = {kind:?}: Couplet builds dual encoders with \"clip_vision_model\" and \"vit\""
            )]);
        };
        let vision: VisionConfig = serde_json::from_value(config.clone())
            .map_err(|error| vec![format!("vision_config: {error}")])?;
        clip_vit(&vision).map(Some)
    }

    /// The config of a model that `VisionTextDualEncoderModel` can be, or every reason why it cannot.
    /// - ids: the tokenizer's.
    pub fn from_spec(spec: &ModelSpec, vit: &VitSpec, ids: TokenIds) -> Result<Self, Vec<String>> {
        let text = &spec.text;
        let mut reasons = if vit.is_hugging_faces() {
            Vec::new()
        } else {
            super::config::foreign_to_clip_vision(vit)
        };
        if text.pool != TextPool::Pooler {
            reasons.push("text.pool but pooler");
        }
        if text.projection != TextProjection::Linear {
            reasons.push("text.projection but linear");
        }
        if spec.init_logit_bias.is_some() {
            reasons.push("logit_bias");
        }
        let Some(mut text_config) =
            text_encoder::write(text, spec.text_activation()).filter(|_| reasons.is_empty())
        else {
            let reason = |what| format!("VisionTextDualEncoderModel has no {what}");
            return Err(reasons.into_iter().map(reason).collect());
        };
        if ids != TokenIds::default() {
            text_config["bos_token_id"] = ids.start.into();
            text_config["eos_token_id"] = ids.end.into();
        }
        let vision = if vit.is_hugging_faces() {
            serde_json::to_value(VitConfig::from_spec(vit, spec.activation))
        } else {
            let vision = VisionConfig::from_vit(vit, spec.activation, spec.embed_dim);
            serde_json::to_value(vision)
        };
        Ok(Self {
            architectures: Some(vec!["VisionTextDualEncoderModel".into()]),
            model_type: MODEL_TYPE.into(),
            projection_dim: spec.embed_dim,
            logit_scale_init_value: spec.init_logit_scale,
            vision_config: vision.expect("plain values serialise"),
            text_config,
        })
    }
}
