//! `ViTModel` as the image tower of a dual encoder: its config and its names. Source: transformers `ViTConfig`,
//! `ViTModel`.

use serde::{Deserialize, Serialize};

use super::activations::{activation, activation_name};
use crate::spec::{Activation, VitSpec, mlp_ratio};
use crate::tensors::StoredAs;

pub(super) const MODEL_TYPE: &str = "vit";

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct VitConfig {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: usize,
    patch_size: usize,
    num_channels: usize,
    qkv_bias: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pooler_output_size: Option<usize>,
    pooler_act: String,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            model_type: MODEL_TYPE.into(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-12,
            image_size: 224,
            patch_size: 16,
            num_channels: 3,
            qkv_bias: true,
            pooler_output_size: None,
            pooler_act: "tanh".into(),
        }
    }
}

impl VitConfig {
    /// The tower, and the activation of its MLPs; or every setting that Couplet does not support.
    pub fn spec(&self) -> Result<(VitSpec, Activation), Vec<String>> {
        let mut problems = Vec::new();
        if self.num_channels != 3 {
            let channels = self.num_channels;
            problems.push(format!(
                "vision_config.num_channels = {channels}: expected 3"
            ));
        }
        if !self.qkv_bias {
            problems.push("vision_config.qkv_bias = false: expected true".into());
        }
        if self.pooler_act != "tanh" {
            let name = &self.pooler_act;
            problems.push(format!(
                "vision_config.pooler_act = {name:?}: expected \"tanh\""
            ));
        }
        if self
            .pooler_output_size
            .is_some_and(|size| size != self.hidden_size)
        {
            problems.push("vision_config.pooler_output_size: expected hidden_size".into());
        }
        let activation = activation("vision_config", &self.hidden_act, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let spec = VitSpec {
            image_size: self.image_size,
            patch_size: self.patch_size,
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            mlp_ratio: mlp_ratio(self.hidden_size, self.intermediate_size),
            norm_eps: self.layer_norm_eps,
            ..VitSpec::hugging_face_form()
        };
        Ok((spec, activation))
    }

    /// - activation: the model's, for a tower that does not name its own.
    pub fn from_spec(vit: &VitSpec, activation: Activation) -> Self {
        Self {
            hidden_size: vit.width,
            num_hidden_layers: vit.layers,
            num_attention_heads: vit.heads,
            intermediate_size: vit.mlp_width(),
            hidden_act: activation_name(vit.activation.unwrap_or(activation)),
            layer_norm_eps: vit.norm_eps,
            image_size: vit.image_size,
            patch_size: vit.patch_size,
            ..Self::default()
        }
    }
}

const PREFIX: &str = "vision_model.";
/// Ours, transformers', and how many axes of size 1 it has before ours.
const OUTSIDE_BLOCKS: [(&str, &str, usize); 8] = [
    ("visual.class_embedding", "embeddings.cls_token", 2),
    (
        "visual.positional_embedding",
        "embeddings.position_embeddings",
        1,
    ),
    (
        "visual.conv1.weight",
        "embeddings.patch_embeddings.projection.weight",
        0,
    ),
    (
        "visual.conv1.bias",
        "embeddings.patch_embeddings.projection.bias",
        0,
    ),
    ("visual.ln_post.weight", "layernorm.weight", 0),
    ("visual.ln_post.bias", "layernorm.bias", 0),
    ("visual.pooler.weight", "pooler.dense.weight", 0),
    ("visual.pooler.bias", "pooler.dense.bias", 0),
];
const IN_BLOCK: [(&str, &str); 5] = [
    ("ln_1.", "layernorm_before."),
    ("attn.out_proj.", "attention.output.dense."),
    ("ln_2.", "layernorm_after."),
    ("mlp.c_fc.", "intermediate.dense."),
    ("mlp.c_proj.", "output.dense."),
];
const PACKED: [&str; 3] = ["query", "key", "value"];

/// Where a tensor of the tower is kept; `None` for its projection and for other tensors.
pub(super) fn stored_as(name: &str) -> Option<StoredAs> {
    let outside = OUTSIDE_BLOCKS.iter().find(|(ours, ..)| *ours == name);
    if let Some((_, theirs, axes)) = outside {
        return Some(StoredAs::WithLeadingAxes(
            format!("{PREFIX}{theirs}"),
            *axes,
        ));
    }
    let (layer, part) = name
        .strip_prefix("visual.transformer.resblocks.")?
        .split_once('.')?;
    let block = format!("{PREFIX}encoder.layer.{layer}.");
    if let Some(kind) = part.strip_prefix("attn.in_proj_") {
        let parts = PACKED.map(|part| (format!("{block}attention.attention.{part}.{kind}"), 1));
        return Some(StoredAs::Packed(parts.into()));
    }
    let renamed = |(ours, theirs): &(&str, &str)| {
        Some(format!("{block}{theirs}{}", part.strip_prefix(ours)?))
    };
    IN_BLOCK.iter().find_map(renamed).map(StoredAs::Same)
}
