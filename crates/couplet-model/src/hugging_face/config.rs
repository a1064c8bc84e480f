//! `config.json` of `CLIPModel`, key by key. Source: transformers `CLIPConfig`.

use serde::{Deserialize, Serialize};

use super::activations::{activation, activation_name};
use super::token_ids::TokenIds;
use crate::spec::mlp_ratio;
use crate::spec::{
    Activation, ImagePool, ImagePositions, ImageProjection, ImageTowerSpec, ModelSpec, TextEncoder,
    TextPool, TextProjection, TextTowerSpec, VitSpec,
};

pub(super) const MODEL_TYPE: &str = "clip";
/// transformers pools at the highest id of a text where `eos_token_id` is 2, as its older configs
/// have it, and else at the first token with this id.
const LEGACY_EOS: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct ClipConfig {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    model_type: String,
    #[serde(default = "default_projection")]
    projection_dim: usize,
    #[serde(default = "default_logit_scale")]
    logit_scale_init_value: f32,
    #[serde(default)]
    text_config: Option<TextConfig>,
    #[serde(default)]
    vision_config: Option<VisionConfig>,
    /// Of older versions. transformers fills it up with defaults, and prefers it to `text_config`.
    #[serde(default, skip_serializing)]
    text_config_dict: Option<TextConfig>,
    #[serde(default, skip_serializing)]
    vision_config_dict: Option<VisionConfig>,
}

pub(super) fn default_projection() -> usize {
    512
}

pub(super) fn default_logit_scale() -> f32 {
    2.6592
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct TextConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    projection_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            model_type: "clip_text_model".into(),
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: default_projection(),
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            bos_token_id: Some(49_406),
            eos_token_id: Some(49_407),
            pad_token_id: Some(1),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct VisionConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    projection_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            model_type: "clip_vision_model".into(),
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: default_projection(),
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipConfig {
    /// The spec, or every setting of the config that Couplet does not support.
    pub fn spec(&self) -> Result<ModelSpec, Vec<String>> {
        let mut problems = Vec::new();
        let (default_text, default_vision) = (TextConfig::default(), VisionConfig::default());
        let text = self.text_config_dict.as_ref().or(self.text_config.as_ref());
        let text = text.unwrap_or(&default_text);
        let vision = (self.vision_config_dict.as_ref()).or(self.vision_config.as_ref());
        let vision = vision.unwrap_or(&default_vision);
        let text_activation = activation("text_config", &text.hidden_act, &mut problems);
        let (vit, image_activation) = match clip_vit(vision) {
            Ok(found) => found,
            Err(list) => return Err([problems, list].concat()),
        };
        let pool = match text.eos_token_id {
            None | Some(LEGACY_EOS) => TextPool::Argmax,
            // The last id is the highest, so open_clip's rule gives the same token.
            Some(id) if id as usize + 1 == text.vocab_size => TextPool::Argmax,
            Some(id) => TextPool::Eos { id },
        };
        let spec = ModelSpec {
            embed_dim: self.projection_dim,
            activation: image_activation,
            init_logit_scale: self.logit_scale_init_value,
            init_logit_bias: None,
            image: ImageTowerSpec::Vit(vit),
            text: TextTowerSpec {
                context_length: text.max_position_embeddings,
                vocab_size: text.vocab_size,
                width: text.hidden_size,
                layers: text.num_hidden_layers,
                heads: text.num_attention_heads,
                mlp_ratio: mlp_ratio(text.hidden_size, text.intermediate_size),
                activation: (text_activation != image_activation).then_some(text_activation),
                norm_eps: text.layer_norm_eps,
                layer_scale: None,
                encoder: TextEncoder::Clip,
                causal: true,
                pool,
                // Nothing reads the padding of a causal tower; zeros stay in any vocabulary.
                pad_id: 0,
                projection: TextProjection::Linear,
            },
        };
        if problems.is_empty() {
            Ok(spec)
        } else {
            Err(problems)
        }
    }

    /// The config of a model that `CLIPModel` can be, or every reason why it cannot.
    /// - ids: the tokenizer's.
    pub fn from_spec(spec: &ModelSpec, vit: &VitSpec, ids: TokenIds) -> Result<Self, Vec<String>> {
        let reasons = foreign_to_clip_model(spec, vit);
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let text = &spec.text;
        Ok(Self {
            architectures: Some(vec!["CLIPModel".into()]),
            model_type: MODEL_TYPE.into(),
            projection_dim: spec.embed_dim,
            logit_scale_init_value: spec.init_logit_scale,
            text_config: Some(TextConfig {
                vocab_size: text.vocab_size,
                hidden_size: text.width,
                intermediate_size: text.mlp_width(),
                projection_dim: spec.embed_dim,
                num_hidden_layers: text.layers,
                num_attention_heads: text.heads,
                max_position_embeddings: text.context_length,
                hidden_act: activation_name(spec.text_activation()),
                layer_norm_eps: text.norm_eps,
                bos_token_id: ids.start,
                eos_token_id: Some(match text.pool {
                    TextPool::Eos { id } => id,
                    _ => ids.highest_end.unwrap_or(LEGACY_EOS),
                }),
                pad_token_id: ids.pad,
                ..TextConfig::default()
            }),
            vision_config: Some(VisionConfig::from_vit(vit, spec.activation, spec.embed_dim)),
            text_config_dict: None,
            vision_config_dict: None,
        })
    }
}

/// CLIP's vision transformer, and the activation of its MLPs; or every setting that Couplet does not support.
pub(super) fn clip_vit(vision: &VisionConfig) -> Result<(VitSpec, Activation), Vec<String>> {
    let mut problems = Vec::new();
    if vision.num_channels != 3 {
        problems.push(format!(
            "vision_config.num_channels = {}: expected 3",
            vision.num_channels
        ));
    }
    let activation = activation("vision_config", &vision.hidden_act, &mut problems);
    let vit = VitSpec {
        image_size: vision.image_size,
        patch_size: vision.patch_size,
        width: vision.hidden_size,
        layers: vision.num_hidden_layers,
        heads: vision.num_attention_heads,
        mlp_ratio: mlp_ratio(vision.hidden_size, vision.intermediate_size),
        norm_eps: vision.layer_norm_eps,
        ..VitSpec::clip_form()
    };
    if problems.is_empty() {
        Ok((vit, activation))
    } else {
        Err(problems)
    }
}

impl VisionConfig {
    /// - activation: the model's, for a tower that does not name its own.
    pub fn from_vit(vit: &VitSpec, activation: Activation, projection_dim: usize) -> Self {
        Self {
            hidden_size: vit.width,
            intermediate_size: vit.mlp_width(),
            projection_dim,
            num_hidden_layers: vit.layers,
            num_attention_heads: vit.heads,
            image_size: vit.image_size,
            patch_size: vit.patch_size,
            hidden_act: activation_name(vit.activation.unwrap_or(activation)),
            layer_norm_eps: vit.norm_eps,
            ..Self::default()
        }
    }
}

/// What CLIP's vision transformer does not have.
pub(super) fn foreign_to_clip_vision(vit: &VitSpec) -> Vec<&'static str> {
    let is_learned = vit.positions == ImagePositions::Learned;
    let foreign = [
        (!vit.pre_norm, "image.pre_norm = false"),
        (!vit.class_token, "image.class_token = false"),
        (vit.patch_bias, "image.patch_bias"),
        (!is_learned, "image.positions but learned"),
        (vit.layer_scale.is_some(), "image.layer_scale"),
        (vit.attention_pool.is_some(), "image.attention_pool"),
        (vit.pool != ImagePool::Class, "image.pool but class"),
        (vit.pooler, "image.pooler"),
        (
            vit.projection != ImageProjection::Linear,
            "image.projection but linear",
        ),
    ];
    let given = foreign.into_iter().filter(|(is, _)| *is);
    given.map(|(_, what)| what).collect()
}

fn foreign_to_clip_model(spec: &ModelSpec, vit: &VitSpec) -> Vec<String> {
    let text = &spec.text;
    let is_end_token = matches!(text.pool, TextPool::Argmax | TextPool::Eos { .. });
    let foreign = [
        (!text.causal, "text.causal = false"),
        (text.layer_scale.is_some(), "text.layer_scale"),
        (!is_end_token, "text.pool but argmax and eos"),
        (
            text.pool == TextPool::Eos { id: LEGACY_EOS },
            "text.pool.id = 2, which it takes for argmax",
        ),
        (
            text.projection != TextProjection::Linear,
            "text.projection but linear",
        ),
        (spec.init_logit_bias.is_some(), "logit_bias"),
    ];
    let of_text = foreign.into_iter().filter(|(is, _)| *is);
    let of_text = of_text.map(|(_, what)| what);
    (foreign_to_clip_vision(vit).into_iter().chain(of_text))
        .map(|what| format!("CLIPModel has no {what}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(towers: &str) -> ModelSpec {
        let text = format!(r#"{{"model_type": "clip", "projection_dim": 64, {towers}}}"#);
        let config: ClipConfig = serde_json::from_str(&text).unwrap();
        config.spec().unwrap()
    }

    /// Source: transformers, `CLIPConfig.__init__`.
    #[test]
    fn older_names_of_the_towers_tables_come_first() {
        let both = r#""text_config": {"hidden_size": 128, "num_hidden_layers": 3},
            "text_config_dict": {"hidden_size": 256}, "vision_config": null, "vision_config_dict": null"#;
        let text = spec(both).text;
        // What the older table leaves out has its default, whatever the newer one says.
        assert_eq!((text.width, text.layers), (256, 12));
        let newer = spec(r#""text_config": {"hidden_size": 128}, "text_config_dict": null"#).text;
        assert_eq!(newer.width, 128);
    }
}
