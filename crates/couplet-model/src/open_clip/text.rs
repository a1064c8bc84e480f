//! `text_cfg`, key by key. Source: open_clip `CLIPTextCfg`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::hf_text::{self, HfConfig};
use super::refused::{Others, Refused, act_kwargs, is_false, is_unset, norm_kwargs};
use crate::source::TokenizerCfg;
use crate::spec::{Activation, TextEncoder, TextPool, TextProjection, TextTowerSpec};

const TOKENIZER_NAME: &str = "hf_tokenizer_name";
const TOKENIZER_KWARGS: &str = "tokenizer_kwargs";
const CLEAN: &str = "clean";
const STRIP: &str = "strip_sep_token";
/// Keys of `tokenizer_kwargs` that change no id.
const TOKENIZER_IGNORED: [&str; 6] = [
    "use_fast",
    "cache_dir",
    "local_files_only",
    "revision",
    "token",
    "force_download",
];
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
    /// - encoder: where a Hugging Face encoder is described.
    pub fn spec(
        &self,
        quick_gelu: bool,
        encoder: &HfConfig,
        refused: &mut Refused,
    ) -> TextTowerSpec {
        let found = hf_text::tower(&self.others, self.context_length, encoder, refused);
        let ignored = [&IGNORED[..], &hf_text::KEYS].concat();
        refused.others("text_cfg.", &self.others, &ignored);
        if let Some(tower) = found {
            return tower;
        }
        TextTowerSpec {
            context_length: self.context_length,
            vocab_size: self.vocab_size,
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            mlp_ratio: self.mlp_ratio,
            activation: refused.activation("text_cfg", self.act_kwargs.as_ref(), quick_gelu),
            norm_eps: refused.norm_eps("text_cfg", self.norm_kwargs.as_ref()),
            encoder: TextEncoder::Clip,
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
            // The last two are said in keys of Hugging Face's encoders.
            TextPool::Argmax | TextPool::Mean | TextPool::Pooler => (None, None, None),
            TextPool::First => (Some("first"), None, None),
            TextPool::Last => (Some("last"), None, None),
            TextPool::Eos { id } => (Some("eos"), Some(id), None),
            TextPool::Map { heads } => (Some("map"), None, Some(heads)),
        };
        if !text.is_clip() {
            return Self {
                context_length: text.context_length,
                vocab_size: text.vocab_size,
                others: hf_text::keys(text),
                ..Self::default()
            };
        }
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

    /// The tokenizer; unsupported settings are added to `refused`. Source: open_clip `get_tokenizer`.
    pub fn tokenizer(&self, refused: &mut Refused) -> TokenizerCfg {
        let name = self.others.get(TOKENIZER_NAME).and_then(Value::as_str);
        let mut cfg = TokenizerCfg {
            hugging_face: name.filter(|name| !name.is_empty()).map(str::to_string),
            ..TokenizerCfg::default()
        };
        let kwargs = match self.others.get(TOKENIZER_KWARGS) {
            None | Some(Value::Null) => return cfg,
            Some(Value::Object(kwargs)) => kwargs,
            Some(other) => {
                refused.reject("text_cfg.tokenizer_kwargs", other, "expected an object");
                return cfg;
            }
        };
        for (key, value) in kwargs {
            let full = format!("text_cfg.{TOKENIZER_KWARGS}.{key}");
            match (key.as_str(), value) {
                (CLEAN, Value::String(clean))
                    if matches!(clean.as_str(), "whitespace" | "lower" | "canonicalize") =>
                {
                    cfg.clean = Some(clean.clone());
                }
                (CLEAN, other) if !other.is_null() => {
                    let known = "expected \"whitespace\", \"lower\" or \"canonicalize\"";
                    refused.reject(&full, other, known);
                }
                (STRIP, Value::Bool(is_on)) if cfg.hugging_face.is_some() => {
                    cfg.strip_sep_token = *is_on;
                }
                ("reduction_mask", Value::String(mode)) if !mode.is_empty() => {
                    let reason = "Couplet cuts long texts at their end only";
                    refused.reject(&full, value, reason);
                }
                (known, _) if TOKENIZER_IGNORED.contains(&known) => {}
                _ if is_unset(value) => {}
                _ => refused.reject(&full, value, "not supported by Couplet"),
            }
        }
        cfg
    }

    pub fn set_tokenizer(&mut self, tokenizer: &TokenizerCfg) {
        let others = &mut self.others;
        if let Some(name) = &tokenizer.hugging_face {
            others.insert(TOKENIZER_NAME.into(), name.as_str().into());
        }
        let clean = tokenizer
            .clean
            .as_deref()
            .map(|clean| (CLEAN, json!(clean)));
        let strip = tokenizer.strip_sep_token.then(|| (STRIP, json!(true)));
        let kwargs: Map<_, _> = [clean, strip]
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.to_string(), value))
            .collect();
        if !kwargs.is_empty() {
            others.insert(TOKENIZER_KWARGS.into(), kwargs.into());
        }
    }
}
