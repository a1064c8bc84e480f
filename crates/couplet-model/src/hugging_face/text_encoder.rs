//! `config.json` of BERT, RoBERTa, XLM-RoBERTa and ModernBERT, key by key. Source: transformers `BertConfig`,
//! `RobertaConfig`, `XLMRobertaConfig`, `ModernBertConfig`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::activations::{activation, activation_name};
use crate::spec::{Activation, TextEncoder, TextPool, TextProjection, TextTowerSpec, mlp_ratio};

pub(crate) const BERT: &str = "bert";
pub(crate) const ROBERTA: &str = "roberta";
pub(crate) const XLM_ROBERTA: &str = "xlm-roberta";
pub(crate) const MODERN_BERT: &str = "modernbert";

/// The keys of BERT and of its kin.
#[derive(Deserialize)]
struct BertConfig {
    vocab_size: Option<usize>,
    #[serde(default = "base_width")]
    hidden_size: usize,
    #[serde(default = "base_layers")]
    num_hidden_layers: usize,
    #[serde(default = "base_layers")]
    num_attention_heads: usize,
    #[serde(default = "base_mlp")]
    intermediate_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "base_positions")]
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "bert_eps")]
    layer_norm_eps: f64,
    pad_token_id: Option<u32>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn base_width() -> usize {
    768
}
fn base_layers() -> usize {
    12
}
fn base_mlp() -> usize {
    3072
}
fn base_positions() -> usize {
    512
}
fn two() -> usize {
    2
}
fn bert_eps() -> f64 {
    1e-12
}
fn gelu() -> String {
    "gelu".into()
}

#[derive(Deserialize)]
#[serde(default)]
struct ModernBertConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_activation: String,
    max_position_embeddings: usize,
    norm_eps: f64,
    norm_bias: bool,
    pad_token_id: Option<u32>,
    attention_bias: bool,
    mlp_bias: bool,
    layer_types: Option<Vec<String>>,
    global_attn_every_n_layers: usize,
    local_attention: usize,
    global_rope_theta: f64,
    local_rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<Value>,
}

impl Default for ModernBertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50_368,
            hidden_size: 768,
            intermediate_size: 1152,
            num_hidden_layers: 22,
            num_attention_heads: 12,
            hidden_activation: gelu(),
            max_position_embeddings: 8192,
            norm_eps: 1e-5,
            norm_bias: false,
            pad_token_id: Some(50_283),
            attention_bias: false,
            mlp_bias: false,
            layer_types: None,
            global_attn_every_n_layers: 3,
            local_attention: 128,
            global_rope_theta: 160_000.0,
            local_rope_theta: None,
            rope_parameters: None,
            rope_scaling: None,
        }
    }
}

#[derive(Deserialize)]
struct RopeParameters {
    full_attention: Option<Rope>,
    sliding_attention: Option<Rope>,
}

#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

const LOCAL_THETA: f64 = 10_000.0;
const GLOBAL_LAYER: &str = "full_attention";
const LOCAL_LAYER: &str = "sliding_attention";

/// The encoder that a config describes, pooled at its first token, without a projection and with texts as long as its
/// positions allow; or every setting that Couplet does not support.
/// - key: what precedes the config's keys in problems, such as `text_config.`.
pub(crate) fn read(config: &Value, key: &str) -> Result<TextTowerSpec, Vec<String>> {
    let model_type = config.get("model_type").and_then(Value::as_str);
    let parsed = match model_type {
        Some(kind @ (BERT | ROBERTA | XLM_ROBERTA)) => {
            serde_json::from_value::<BertConfig>(config.clone()).map(|bert| bert.spec(kind, key))
        }
        Some(MODERN_BERT) => serde_json::from_value::<ModernBertConfig>(config.clone())
            .map(|modern| modern.spec(key)),
        other => {
            let other = other.unwrap_or("not given");
            return Err(vec![format!(
                "{key}model_type = {other:?}: Couplet builds the text towers {BERT:?}, {ROBERTA:?}, \
                 {XLM_ROBERTA:?} and {MODERN_BERT:?}, and open_clip's own"
            )]);
        }
    };
    parsed.unwrap_or_else(|error| Err(vec![format!("{key}{error}")]))
}

impl BertConfig {
    fn spec(&self, kind: &str, key: &str) -> Result<TextTowerSpec, Vec<String>> {
        let mut problems = Vec::new();
        let positions = self.position_embedding_type.as_deref();
        if let Some(other) = positions.filter(|kind| *kind != "absolute") {
            problems.push(format!(
                "{key}position_embedding_type = {other:?}: expected \"absolute\""
            ));
        }
        if self.is_decoder {
            problems.push(format!("{key}is_decoder = true: expected an encoder"));
        }
        let Some(vocab_size) = self.vocab_size else {
            return Err(vec![format!("{key}vocab_size: missing")]);
        };
        let default_pad = u32::from(kind != BERT);
        let (positions, token_types) = (self.max_position_embeddings, self.type_vocab_size);
        let spec = TextTowerSpec {
            vocab_size,
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            mlp_ratio: mlp_ratio(self.hidden_size, self.intermediate_size),
            activation: Some(activation(
                key.trim_end_matches('.'),
                &self.hidden_act,
                &mut problems,
            )),
            norm_eps: self.layer_norm_eps,
            pad_id: self.pad_token_id.unwrap_or(default_pad),
            encoder: match kind {
                BERT => TextEncoder::Bert {
                    positions,
                    token_types,
                },
                ROBERTA => TextEncoder::Roberta {
                    positions,
                    token_types,
                },
                _ => TextEncoder::XlmRoberta {
                    positions,
                    token_types,
                },
            },
            ..blank()
        };
        finished(spec, problems)
    }
}

impl ModernBertConfig {
    fn spec(&self, key: &str) -> Result<TextTowerSpec, Vec<String>> {
        let mut problems = Vec::new();
        let biases = [
            (self.norm_bias, "norm_bias"),
            (self.attention_bias, "attention_bias"),
            (self.mlp_bias, "mlp_bias"),
        ];
        for (_, name) in biases.into_iter().filter(|(is_on, _)| *is_on) {
            problems.push(format!(
                "{key}{name} = true: Couplet's ModernBERT has no biases"
            ));
        }
        if self
            .rope_scaling
            .as_ref()
            .is_some_and(|value| !value.is_null())
        {
            problems.push(format!("{key}rope_scaling: not supported by Couplet"));
        }
        let mut thetas = [
            self.global_rope_theta,
            self.local_rope_theta.unwrap_or(LOCAL_THETA),
        ];
        if let Some(rope) = &self.rope_parameters {
            let kinds = [&rope.full_attention, &rope.sliding_attention];
            for (theta, rope) in thetas.iter_mut().zip(kinds) {
                let Some(rope) = rope else { continue };
                if let Some(other) = rope.rope_type.as_deref().filter(|kind| *kind != "default") {
                    problems.push(format!(
                        "{key}rope_parameters.rope_type = {other:?}: expected \"default\""
                    ));
                }
                *theta = rope.rope_theta.unwrap_or(*theta);
            }
        }
        let global_every = self.global_every().unwrap_or_else(|| {
            problems.push(format!(
                "{key}layer_types: expected {GLOBAL_LAYER:?} for the first layer and then for every so many, and \
                 {LOCAL_LAYER:?} between them"
            ));
            1
        });
        let spec = TextTowerSpec {
            vocab_size: self.vocab_size,
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            mlp_ratio: mlp_ratio(self.hidden_size, self.intermediate_size),
            activation: Some(activation(
                key.trim_end_matches('.'),
                &self.hidden_activation,
                &mut problems,
            )),
            norm_eps: self.norm_eps,
            pad_id: self.pad_token_id.unwrap_or(0),
            encoder: TextEncoder::ModernBert {
                positions: self.max_position_embeddings,
                global_every,
                local_window: self.local_attention,
                global_theta: thetas[0],
                local_theta: thetas[1],
            },
            ..blank()
        };
        finished(spec, problems)
    }

    /// Every how many layers one looks at all tokens; `None` if they do not follow such a rule.
    fn global_every(&self) -> Option<usize> {
        let Some(types) = &self.layer_types else {
            return Some(self.global_attn_every_n_layers);
        };
        let is_global = |at: usize| types[at] == GLOBAL_LAYER;
        let every = (1..types.len())
            .find(|at| is_global(*at))
            .unwrap_or(types.len().max(1));
        let follows = |(at, kind): (usize, &String)| {
            let right = if at.is_multiple_of(every) {
                GLOBAL_LAYER
            } else {
                LOCAL_LAYER
            };
            kind == right
        };
        types.iter().enumerate().all(follows).then_some(every)
    }
}

/// What a config of an encoder leaves open.
fn blank() -> TextTowerSpec {
    TextTowerSpec {
        context_length: 0,
        vocab_size: 0,
        width: 0,
        layers: 0,
        heads: 0,
        mlp_ratio: 4.0,
        activation: None,
        norm_eps: 1e-12,
        encoder: TextEncoder::Clip,
        layer_scale: None,
        causal: false,
        pool: TextPool::First,
        pad_id: 0,
        projection: TextProjection::None,
    }
}

fn finished(mut spec: TextTowerSpec, problems: Vec<String>) -> Result<TextTowerSpec, Vec<String>> {
    if !problems.is_empty() {
        return Err(problems);
    }
    spec.context_length = spec.longest_text().unwrap_or(0);
    Ok(spec)
}

/// The config of an encoder; `None` for open_clip's own.
/// - activation: of its MLPs.
pub(crate) fn write(text: &TextTowerSpec, activation: Activation) -> Option<Value> {
    let (kind, class) = match text.encoder {
        TextEncoder::Clip => return None,
        TextEncoder::Bert { .. } => (BERT, "BertModel"),
        TextEncoder::Roberta { .. } => (ROBERTA, "RobertaModel"),
        TextEncoder::XlmRoberta { .. } => (XLM_ROBERTA, "XLMRobertaModel"),
        TextEncoder::ModernBert { .. } => (MODERN_BERT, "ModernBertModel"),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": kind,
        "vocab_size": text.vocab_size,
        "hidden_size": text.width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "intermediate_size": text.mlp_width(),
        "pad_token_id": text.pad_id,
    });
    match text.encoder {
        TextEncoder::Clip => {}
        TextEncoder::Bert {
            positions,
            token_types,
        }
        | TextEncoder::Roberta {
            positions,
            token_types,
        }
        | TextEncoder::XlmRoberta {
            positions,
            token_types,
        } => {
            config["hidden_act"] = activation_name(activation).into();
            config["max_position_embeddings"] = positions.into();
            config["type_vocab_size"] = token_types.into();
            config["layer_norm_eps"] = text.norm_eps.into();
        }
        TextEncoder::ModernBert {
            positions,
            global_every,
            local_window,
            global_theta,
            local_theta,
        } => {
            config["hidden_activation"] = activation_name(activation).into();
            config["max_position_embeddings"] = positions.into();
            config["norm_eps"] = text.norm_eps.into();
            config["global_attn_every_n_layers"] = global_every.into();
            config["local_attention"] = local_window.into();
            config["global_rope_theta"] = global_theta.into();
            config["local_rope_theta"] = local_theta.into();
        }
    }
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let configs = [
            json!({"model_type": "bert", "vocab_size": 99, "hidden_size": 32, "num_attention_heads": 4}),
            json!({"model_type": "xlm-roberta", "vocab_size": 99, "max_position_embeddings": 40}),
            json!({"model_type": "modernbert", "layer_types": [
                "full_attention", "sliding_attention", "full_attention", "sliding_attention"
            ], "num_hidden_layers": 4, "rope_parameters": {"full_attention": {"rope_theta": 7.0}}}),
        ];
        for config in configs {
            let spec = read(&config, "").unwrap();
            let activation = spec.activation.unwrap();
            assert_eq!(read(&write(&spec, activation).unwrap(), "").unwrap(), spec);
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_key() {
        for (config, part) in [
            (
                json!({"model_type": "mt5"}),
                "text_config.model_type = \"mt5\"",
            ),
            (json!({"model_type": "bert"}), "text_config.vocab_size"),
            (
                json!({"model_type": "bert", "vocab_size": 9, "position_embedding_type": "relative_key"}),
                "position_embedding_type",
            ),
            (
                json!({"model_type": "modernbert", "norm_bias": true}),
                "norm_bias",
            ),
            (
                json!({"model_type": "modernbert", "layer_types": ["sliding_attention"]}),
                "layer_types",
            ),
        ] {
            let problems = read(&config, "text_config.").unwrap_err().join("; ");
            assert!(problems.contains(part), "{problems}");
        }
    }
}
