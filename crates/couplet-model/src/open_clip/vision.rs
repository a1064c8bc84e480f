//! `vision_cfg`, key by key. Source: open_clip `CLIPVisionCfg`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refused::{Others, Refused, Side, act_kwargs, is_false, is_zero, norm_kwargs};
use super::timm;
use crate::spec::{
    Activation, AttentionPoolSpec, ImagePool, ImagePositions, ImageProjection, ImageTowerSpec,
    ResNetSpec, VitSpec,
};

/// `head_width` of a config that does not name one.
const DEFAULT_HEAD_WIDTH: usize = 64;
/// The attention pool's heads share `width * 32` channels.
const RESNET_EXPANSION: usize = 32;
/// Keys that change nothing in what a tower computes.
const IGNORED: [&str; 1] = ["output_tokens"];

#[derive(Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own, which open_clip or we have"
)]
pub(super) struct VisionCfg {
    image_size: Side,
    layers: Layers,
    width: usize,
    head_width: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_size: Option<Side>,
    mlp_ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ls_init_value: Option<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    patch_dropout: f64,
    #[serde(skip_serializing_if = "is_absent")]
    attentional_pool: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    attn_pooler_queries: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attn_pooler_heads: Option<usize>,
    #[serde(skip_serializing_if = "is_false")]
    no_ln_pre: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos_embed_type: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    final_ln_after_pool: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act_kwargs: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    norm_kwargs: Option<Map<String, Value>>,
    /// Ours, as the next three: of towers that open_clip does not have.
    #[serde(skip_serializing_if = "is_false")]
    no_class_token: bool,
    #[serde(skip_serializing_if = "is_false")]
    patch_bias: bool,
    #[serde(skip_serializing_if = "is_false")]
    pooler: bool,
    #[serde(skip_serializing_if = "is_false")]
    no_proj: bool,
    #[serde(flatten)]
    others: Others,
}

impl Default for VisionCfg {
    fn default() -> Self {
        Self {
            image_size: Side::One(224),
            layers: Layers::BlockCount(12),
            width: 768,
            head_width: DEFAULT_HEAD_WIDTH,
            patch_size: Some(Side::One(16)),
            mlp_ratio: 4.0,
            ls_init_value: None,
            patch_dropout: 0.0,
            attentional_pool: Value::Null,
            attn_pooler_queries: None,
            attn_pooler_heads: None,
            no_ln_pre: false,
            pos_embed_type: None,
            final_ln_after_pool: false,
            pool_type: None,
            act_kwargs: None,
            norm_kwargs: None,
            no_class_token: false,
            patch_bias: false,
            pooler: false,
            no_proj: false,
            others: Others::new(),
        }
    }
}

/// A transformer's blocks, or those of a ResNet's stages.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number of blocks, or four for a ResNet"
)]
enum Layers {
    BlockCount(usize),
    Stages([usize; 4]),
}

fn is_absent(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

impl VisionCfg {
    /// The tower's spec; unsupported settings are added to `refused`.
    pub fn spec(&self, quick_gelu: bool, refused: &mut Refused) -> ImageTowerSpec {
        let image_size = refused.side("vision_cfg.image_size", self.image_size);
        let timm = timm::Tower::find(&self.others, refused);
        let ignored: &[&str] = if timm.is_some() {
            &["timm_model_name"]
        } else {
            &[]
        };
        refused.others("vision_cfg.", &self.others, &[ignored, &IGNORED].concat());
        let layers = match self.layers {
            Layers::Stages(layers) => {
                let channels = self.width.saturating_mul(RESNET_EXPANSION);
                return ImageTowerSpec::ResNet(ResNetSpec {
                    image_size,
                    layers,
                    width: self.width,
                    heads: channels.checked_div(self.head_width).unwrap_or(0),
                });
            }
            Layers::BlockCount(layers) => layers,
        };
        let patch_size = self.patch_size.unwrap_or(Side::One(0));
        let vit = VitSpec {
            image_size,
            patch_size: refused.side("vision_cfg.patch_size", patch_size),
            width: self.width,
            layers,
            heads: self.width.checked_div(self.head_width).unwrap_or(0),
            mlp_ratio: self.mlp_ratio,
            activation: refused.activation("vision_cfg", self.act_kwargs.as_ref(), quick_gelu),
            norm_eps: refused.norm_eps("vision_cfg", self.norm_kwargs.as_ref()),
            layer_scale: self.ls_init_value,
            pre_norm: !self.no_ln_pre,
            class_token: !self.no_class_token,
            patch_bias: self.patch_bias,
            positions: match self.pos_embed_type.as_deref() {
                None | Some("learnable") => ImagePositions::Learned,
                Some("sin_cos_2d") => ImagePositions::SinCos2d,
                Some(other) => {
                    let known = "\"learnable\" or \"sin_cos_2d\"";
                    refused.unknown("vision_cfg.pos_embed_type", other, known);
                    ImagePositions::Learned
                }
            },
            patch_dropout: self.patch_dropout,
            attention_pool: match &self.attentional_pool {
                Value::Bool(true) => Some(AttentionPoolSpec {
                    queries: self.attn_pooler_queries.unwrap_or(256),
                    heads: self.attn_pooler_heads.unwrap_or(8),
                }),
                value if is_absent(value) => None,
                value => {
                    let text = value.to_string();
                    refused.unknown("vision_cfg.attentional_pool", &text, "true or false");
                    None
                }
            },
            pool: match self.pool_type.as_deref() {
                None | Some("tok") => ImagePool::Class,
                Some("avg") => ImagePool::Mean,
                Some("map") => ImagePool::Map,
                Some(other) => {
                    refused.unknown("vision_cfg.pool_type", other, "\"tok\" or \"avg\"");
                    ImagePool::Class
                }
            },
            norm_after_pool: self.final_ln_after_pool,
            pooler: self.pooler,
            projection: if self.no_proj {
                ImageProjection::None
            } else {
                ImageProjection::Linear
            },
        };
        ImageTowerSpec::Vit(match timm {
            Some(timm) => timm.spec(&vit, refused),
            None => vit,
        })
    }

    /// - activation: of the tower's MLPs, if it has any.
    pub fn from_spec(image: &ImageTowerSpec, activation: Option<Activation>) -> Self {
        let cfg = match image {
            ImageTowerSpec::Vit(vit) if vit.is_siglip() => Self {
                others: timm::keys(vit, activation.unwrap_or_default()),
                no_ln_pre: false,
                pool_type: None,
                no_class_token: false,
                patch_bias: false,
                no_proj: false,
                ..Self::from(vit)
            },
            ImageTowerSpec::Vit(vit) => vit.into(),
            ImageTowerSpec::ResNet(resnet) => resnet.into(),
        };
        Self {
            act_kwargs: activation.and_then(act_kwargs),
            ..cfg
        }
    }
}

impl From<&VitSpec> for VisionCfg {
    fn from(vit: &VitSpec) -> Self {
        Self {
            image_size: Side::One(vit.image_size),
            layers: Layers::BlockCount(vit.layers),
            width: vit.width,
            head_width: vit.width / vit.heads,
            patch_size: Some(Side::One(vit.patch_size)),
            mlp_ratio: vit.mlp_ratio,
            ls_init_value: vit.layer_scale,
            patch_dropout: vit.patch_dropout,
            attentional_pool: vit.attention_pool.map_or(Value::Null, |_| true.into()),
            attn_pooler_queries: vit.attention_pool.map(|pool| pool.queries),
            attn_pooler_heads: vit.attention_pool.map(|pool| pool.heads),
            no_ln_pre: !vit.pre_norm,
            pos_embed_type: match vit.positions {
                ImagePositions::Learned => None,
                ImagePositions::SinCos2d => Some("sin_cos_2d".into()),
            },
            final_ln_after_pool: vit.norm_after_pool,
            pool_type: match vit.pool {
                ImagePool::Class => None,
                ImagePool::Mean => Some("avg".into()),
                // Ours.
                ImagePool::Map => Some("map".into()),
            },
            norm_kwargs: norm_kwargs(vit.norm_eps),
            no_class_token: !vit.class_token,
            patch_bias: vit.patch_bias,
            pooler: vit.pooler,
            no_proj: vit.projection == ImageProjection::None,
            ..Self::default()
        }
    }
}

impl From<&ResNetSpec> for VisionCfg {
    fn from(resnet: &ResNetSpec) -> Self {
        Self {
            image_size: Side::One(resnet.image_size),
            layers: Layers::Stages(resnet.layers),
            width: resnet.width,
            head_width: resnet.feature_width() / resnet.heads,
            patch_size: None,
            ..Self::default()
        }
    }
}
