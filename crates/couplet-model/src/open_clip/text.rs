//! `text_cfg`, key by key. Source: open_clip `CLIPTextCfg`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::refused::{Others, Refused, act_kwargs, is_false, norm_kwargs};
use crate::source::ForeignTokenizer;
use crate::spec::{Activation, TextPool, TextProjection, TextTowerSpec};

const TOKENIZER_NAME: &str = "hf_tokenizer_name";
const TOKENIZER_KWARGS: &str = "tokenizer_kwargs";
const CLEAN: &str = "clean";
/// Keys that change nothing in what a tower computes.
const IGNORED: [&str; 5] = [
    TOKENIZER_NAME,
    TOKENIZER_KWARGS,
    "output_tokens",
    // Only CoCa's own forward pass normalises in that order.
    "final_ln_after_pool",
    "correct_cls_mask",
];

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TextCfg {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    mlp_ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ls_init_value: Option<f64>,
    #[serde(skip_serializing_if = "is_zero_id")]
    pad_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos_id: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    no_causal_mask: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_type: Option<String>,
    /// Ours: heads of the `map` pool, which open_clip's text tower does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    attn_pooler_heads: Option<usize>,
    #[serde(skip_serializing_if = "is_false")]
    proj_bias: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proj_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act_kwargs: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    norm_kwargs: Option<Map<String, Value>>,
    #[serde(flatten)]
    others: Others,
}

impl Default for TextCfg {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49_408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            ls_init_value: None,
            pad_id: 0,
            eos_id: None,
            no_causal_mask: false,
            pool_type: None,
            attn_pooler_heads: None,
            proj_bias: false,
            proj_type: None,
            act_kwargs: None,
            norm_kwargs: None,
            others: Others::new(),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
fn is_zero_id(value: &u32) -> bool {
    *value == 0
}

impl TextCfg {
    /// The tower's spec; unsupported settings are added to `refused`.
    pub fn spec(&self, quick_gelu: bool, refused: &mut Refused) -> TextTowerSpec {
        refused.others("text_cfg.", &self.others, &IGNORED);
        TextTowerSpec {
            context_length: self.context_length,
            vocab_size: self.vocab_size,
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            mlp_ratio: self.mlp_ratio,
            activation: refused.activation("text_cfg", self.act_kwargs.as_ref(), quick_gelu),
            norm_eps: refused.norm_eps("text_cfg", self.norm_kwargs.as_ref()),
            layer_scale: self.ls_init_value,
            causal: !self.no_causal_mask,
            pool: match self.pool_type.as_deref() {
                None | Some("argmax") => TextPool::Argmax,
                Some("first") => TextPool::First,
                Some("last") => TextPool::Last,
                Some("eos") => TextPool::Eos {
                    id: self.eos_id.unwrap_or(2),
                },
                Some("map") => TextPool::Map {
                    heads: self.attn_pooler_heads.unwrap_or(self.heads),
                },
                Some(other) => {
                    let known = "\"argmax\", \"first\", \"last\" or \"eos\"";
                    refused.unknown("text_cfg.pool_type", other, known);
                    TextPool::Argmax
                }
            },
            pad_id: self.pad_id,
            projection: match self.proj_type.as_deref() {
                Some("none") => TextProjection::None,
                None | Some("linear") if self.proj_bias => TextProjection::LinearBias,
                None | Some("linear") => TextProjection::Linear,
                Some(other) => {
                    refused.unknown("text_cfg.proj_type", other, "\"linear\" or \"none\"");
                    TextProjection::Linear
                }
            },
        }
    }

    /// - activation: of the tower's MLPs.
    pub fn from_spec(text: &TextTowerSpec, activation: Activation) -> Self {
        let (pool_type, eos_id, attn_pooler_heads) = match text.pool {
            TextPool::Argmax => (None, None, None),
            TextPool::First => (Some("first"), None, None),
            TextPool::Last => (Some("last"), None, None),
            TextPool::Eos { id } => (Some("eos"), Some(id), None),
            TextPool::Map { heads } => (Some("map"), None, Some(heads)),
        };
        Self {
            context_length: text.context_length,
            vocab_size: text.vocab_size,
            width: text.width,
            heads: text.heads,
            layers: text.layers,
            mlp_ratio: text.mlp_ratio,
            ls_init_value: text.layer_scale,
            pad_id: text.pad_id,
            eos_id,
            no_causal_mask: !text.causal,
            pool_type: pool_type.map(str::to_string),
            attn_pooler_heads,
            proj_bias: text.projection == TextProjection::LinearBias,
            proj_type: (text.projection == TextProjection::None).then(|| "none".into()),
            act_kwargs: act_kwargs(activation),
            norm_kwargs: norm_kwargs(text.norm_eps),
            others: Others::new(),
        }
    }

    /// A tokenizer of Hugging Face, which then is not CLIP's.
    pub fn tokenizer(&self) -> Option<ForeignTokenizer> {
        let name = self.others.get(TOKENIZER_NAME)?.as_str()?;
        let kwargs = self.others.get(TOKENIZER_KWARGS);
        let clean = kwargs.and_then(|kwargs| kwargs.get(CLEAN)?.as_str());
        (!name.is_empty()).then(|| ForeignTokenizer {
            name: name.to_string(),
            clean: clean.map(str::to_string),
        })
    }

    pub fn set_tokenizer(&mut self, tokenizer: &ForeignTokenizer) {
        let others = &mut self.others;
        others.insert(TOKENIZER_NAME.into(), tokenizer.name.as_str().into());
        if let Some(clean) = &tokenizer.clean {
            others.insert(TOKENIZER_KWARGS.into(), json!({ CLEAN: clean }));
        }
    }
}
