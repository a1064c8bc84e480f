//! `config.json` of `SiglipModel`, key by key. The SigLIP 2 models of fixed resolution are such models, too. Source:
//! transformers `SiglipConfig`.

use serde::{Deserialize, Serialize};

use super::activations::{activation, activation_name};
use super::token_ids::TokenIds;
use crate::spec::{
    ImageTowerSpec, ModelSpec, TextEncoder, TextPool, TextProjection, TextTowerSpec, VitSpec,
    mlp_ratio,
};

pub(super) const MODEL_TYPE: &str = "siglip";
/// What `SiglipModel` starts its scale and bias from is in its weights alone. Source: transformers
/// `SiglipPreTrainedModel._init_weights`, Zhai et al. 2023.
const INIT_LOGIT_SCALE: f32 = std::f32::consts::LN_10;
const INIT_LOGIT_BIAS: f32 = -10.0;

#[derive(Serialize, Deserialize)]
pub(super) struct SiglipConfig {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    model_type: String,
    #[serde(default)]
    text_config: Option<TextConfig>,
    #[serde(default)]
    vision_config: Option<VisionConfig>,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct TextConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    pad_token_id: Option<u32>,
    bos_token_id: Option<u32>,
    /// One id or several.
    eos_token_id: Option<serde_json::Value>,
    projection_size: Option<usize>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            model_type: "siglip_text_model".into(),
            vocab_size: 32_000,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 64,
            hidden_act: "gelu_pytorch_tanh".into(),
            layer_norm_eps: 1e-6,
            pad_token_id: Some(1),
            bos_token_id: Some(49_406),
            eos_token_id: Some(49_407.into()),
            projection_size: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct VisionConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    vision_use_head: bool,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            model_type: "siglip_vision_model".into(),
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 16,
            hidden_act: "gelu_pytorch_tanh".into(),
            layer_norm_eps: 1e-6,
            vision_use_head: true,
        }
    }
}

impl SiglipConfig {
    /// The spec, or every setting of the config that Couplet does not support.
    pub fn spec(&self) -> Result<ModelSpec, Vec<String>> {
        let mut problems = Vec::new();
        let (default_text, default_vision) = (TextConfig::default(), VisionConfig::default());
        let text = self.text_config.as_ref().unwrap_or(&default_text);
        let vision = self.vision_config.as_ref().unwrap_or(&default_vision);
        if vision.num_channels != 3 {
            let channels = vision.num_channels;
            problems.push(format!(
                "vision_config.num_channels = {channels}: expected 3"
            ));
        }
        if !vision.vision_use_head {
            let problem =
                "vision_config.vision_use_head = false: Couplet builds SigLIP with its MAP head";
            problems.push(problem.into());
        }
        let embed_dim = text.projection_size.unwrap_or(text.hidden_size);
        if embed_dim != vision.hidden_size {
            problems.push(format!(
                "text_config.projection_size = {embed_dim}: the image tower has no projection, so it must be \
                 vision_config.hidden_size = {}",
                vision.hidden_size
            ));
        }
        let text_activation = activation("text_config", &text.hidden_act, &mut problems);
        let image_activation = activation("vision_config", &vision.hidden_act, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(ModelSpec {
            embed_dim,
            activation: image_activation,
            init_logit_scale: INIT_LOGIT_SCALE,
            init_logit_bias: Some(INIT_LOGIT_BIAS),
            image: ImageTowerSpec::Vit(VitSpec {
                image_size: vision.image_size,
                patch_size: vision.patch_size,
                width: vision.hidden_size,
                layers: vision.num_hidden_layers,
                heads: vision.num_attention_heads,
                mlp_ratio: mlp_ratio(vision.hidden_size, vision.intermediate_size),
                norm_eps: vision.layer_norm_eps,
                ..VitSpec::siglip_form()
            }),
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
                causal: false,
                pool: TextPool::Last,
                pad_id: text.pad_token_id.unwrap_or(0),
                projection: TextProjection::LinearBias,
            },
        })
    }

    /// The config of a model that `SiglipModel` can be, or every reason why it cannot.
    /// - ids: the tokenizer's.
    pub fn from_spec(spec: &ModelSpec, vit: &VitSpec, ids: TokenIds) -> Result<Self, Vec<String>> {
        let reasons = foreign(spec);
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let text = &spec.text;
        Ok(Self {
            architectures: Some(vec!["SiglipModel".into()]),
            model_type: MODEL_TYPE.into(),
            text_config: Some(TextConfig {
                vocab_size: text.vocab_size,
                hidden_size: text.width,
                intermediate_size: text.mlp_width(),
                num_hidden_layers: text.layers,
                num_attention_heads: text.heads,
                max_position_embeddings: text.context_length,
                hidden_act: activation_name(spec.text_activation()),
                layer_norm_eps: text.norm_eps,
                pad_token_id: Some(ids.pad.unwrap_or(text.pad_id)),
                bos_token_id: ids.start,
                eos_token_id: ids.end.map(Into::into),
                projection_size: Some(spec.embed_dim),
                ..TextConfig::default()
            }),
            vision_config: Some(VisionConfig {
                hidden_size: vit.width,
                intermediate_size: vit.mlp_width(),
                num_hidden_layers: vit.layers,
                num_attention_heads: vit.heads,
                image_size: vit.image_size,
                patch_size: vit.patch_size,
                hidden_act: activation_name(vit.activation.unwrap_or(spec.activation)),
                layer_norm_eps: vit.norm_eps,
                ..VisionConfig::default()
            }),
        })
    }
}

/// - spec: of a model with SigLIP's image tower.
fn foreign(spec: &ModelSpec) -> Vec<String> {
    let text = &spec.text;
    let is_biased = text.projection == TextProjection::LinearBias;
    let foreign = [
        (text.causal, "text.causal = true"),
        (text.layer_scale.is_some(), "text.layer_scale"),
        (text.pool != TextPool::Last, "text.pool but last"),
        (!is_biased, "text.projection but linear-bias"),
    ];
    let given = foreign.into_iter().filter(|(is, _)| *is);
    let mut reasons: Vec<String> = given
        .map(|(_, what)| format!("SiglipModel has no {what}"))
        .collect();
    if spec.init_logit_bias.is_none() {
        reasons.push("SiglipModel needs a logit_bias".into());
    }
    reasons
}
