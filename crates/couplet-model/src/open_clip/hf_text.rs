//! Text towers that open_clip takes from transformers. Source: open_clip `HFTextEncoder`, `CLIPTextCfg`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::refused::{Others, Refused};
use crate::files::read_text;
use crate::hugging_face::text_encoder::{self, BERT, MODERN_BERT, ROBERTA, XLM_ROBERTA};
use crate::spec::{ModelSpec, TextEncoder, TextPool, TextProjection, TextTowerSpec};

const NAME: &str = "hf_model_name";
const POOLER: &str = "hf_pooler_type";
const PROJECTION: &str = "hf_proj_type";
const PRETRAINED: &str = "hf_model_pretrained";
/// The keys of a text tower from transformers.
pub(super) const KEYS: [&str; 4] = [NAME, POOLER, PROJECTION, PRETRAINED];
/// Stands for an encoder that has no known name. Its sizes are in the file's `hf_text_config`.
const OWN: &str = "couplet_text_encoder";

/// Where the encoder that `hf_model_name` names is described.
#[derive(Default)]
pub(super) struct HfConfig<'a> {
    /// In the file.
    pub own: Option<&'a Value>,
    /// The file's folder, which relative paths may start from.
    pub folder: Option<&'a Path>,
}

/// A model of the hub: its name, without the organisation that some write, and what its config says: model type,
/// vocabulary, width, layers, heads, MLP width, positions, token types, epsilon, padding.
struct Known {
    name: &'static str,
    organisation: &'static str,
    kind: &'static str,
    vocab_size: usize,
    sizes: [usize; 4],
}

const BASE: [usize; 4] = [768, 12, 12, 3072];
const LARGE: [usize; 4] = [1024, 24, 16, 4096];

#[rustfmt::skip]
const KNOWN: [Known; 14] = [
    Known { name: "roberta-base", organisation: "FacebookAI", kind: ROBERTA, vocab_size: 50_265, sizes: BASE },
    Known { name: "roberta-large", organisation: "FacebookAI", kind: ROBERTA, vocab_size: 50_265, sizes: LARGE },
    Known { name: "distilroberta-base", organisation: "distilbert", kind: ROBERTA, vocab_size: 50_265, sizes: [768, 6, 12, 3072] },
    Known { name: "xlm-roberta-base", organisation: "FacebookAI", kind: XLM_ROBERTA, vocab_size: 250_002, sizes: BASE },
    Known { name: "xlm-roberta-large", organisation: "FacebookAI", kind: XLM_ROBERTA, vocab_size: 250_002, sizes: LARGE },
    Known { name: "bert-base-uncased", organisation: "google-bert", kind: BERT, vocab_size: 30_522, sizes: BASE },
    Known { name: "bert-base-cased", organisation: "google-bert", kind: BERT, vocab_size: 28_996, sizes: BASE },
    Known { name: "bert-large-uncased", organisation: "google-bert", kind: BERT, vocab_size: 30_522, sizes: LARGE },
    Known { name: "bert-large-cased", organisation: "google-bert", kind: BERT, vocab_size: 28_996, sizes: LARGE },
    Known { name: "bert-base-multilingual-cased", organisation: "google-bert", kind: BERT, vocab_size: 119_547, sizes: BASE },
    Known { name: "bert-base-multilingual-uncased", organisation: "google-bert", kind: BERT, vocab_size: 105_879, sizes: BASE },
    Known { name: "bert-base-chinese", organisation: "google-bert", kind: BERT, vocab_size: 21_128, sizes: BASE },
    Known { name: "ModernBERT-base", organisation: "answerdotai", kind: MODERN_BERT, vocab_size: 50_368, sizes: [768, 22, 12, 1152] },
    Known { name: "ModernBERT-large", organisation: "answerdotai", kind: MODERN_BERT, vocab_size: 50_368, sizes: [1024, 28, 16, 2624] },
];

impl Known {
    /// Whether a config means this model.
    fn is_called(&self, name: &str) -> bool {
        let plain = name
            .strip_prefix(self.organisation)
            .and_then(|name| name.strip_prefix('/'));
        plain.unwrap_or(name) == self.name
    }

    /// As transformers names it today.
    fn full_name(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    fn config(&self) -> Value {
        let [width, layers, heads, mlp] = self.sizes;
        let mut config = json!({
            "model_type": self.kind,
            "vocab_size": self.vocab_size,
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": mlp,
        });
        if [ROBERTA, XLM_ROBERTA].contains(&self.kind) {
            config["max_position_embeddings"] = 514.into();
            config["type_vocab_size"] = 1.into();
            config["layer_norm_eps"] = 1e-5.into();
        }
        config
    }

    fn spec(&self) -> TextTowerSpec {
        text_encoder::read(&self.config(), "").expect("the table has what Couplet builds")
    }
}

/// The tower that `text_cfg` takes from transformers; `None` if it takes none. One that is not built here is refused
/// too.
/// - keys: those that open_clip's own tower does not have.
pub(super) fn tower(
    keys: &Others,
    context_length: usize,
    config: &HfConfig,
    refused: &mut Refused,
) -> Option<TextTowerSpec> {
    let name = keys.get(NAME)?.as_str()?;
    let mut tower = match encoder(name, config) {
        Ok(tower) => tower,
        Err(problems) => {
            for problem in problems {
                refused
                    .0
                    .push(format!("text_cfg.{NAME} = {name:?}: {problem}"));
            }
            return None;
        }
    };
    tower.context_length = context_length;
    let text = |key: &str, default: Option<&'static str>| match keys.get(key) {
        None => default.map(str::to_string),
        Some(value) => value
            .as_str()
            .filter(|value| !value.is_empty())
            .map(str::to_string),
    };
    tower.pool = match text(POOLER, Some("mean_pooler")).as_deref() {
        Some("mean_pooler") => TextPool::Mean,
        Some("cls_last_hidden_state_pooler") => TextPool::First,
        // What is pooled without a pooler of its own is the first token.
        Some("cls_pooler") => match tower.encoder {
            TextEncoder::ModernBert { .. } => TextPool::First,
            _ => TextPool::Pooler,
        },
        // open_clip then takes the model's own.
        None => match tower.encoder {
            TextEncoder::Bert { .. } => TextPool::Pooler,
            _ => TextPool::Mean,
        },
        Some(other) => {
            let known = "\"mean_pooler\", \"cls_pooler\" or \"cls_last_hidden_state_pooler\"";
            refused.unknown(&format!("text_cfg.{POOLER}"), other, known);
            TextPool::Mean
        }
    };
    tower.projection = match text(PROJECTION, Some("mlp")).as_deref() {
        Some("linear") => TextProjection::Linear,
        Some("mlp") => TextProjection::Mlp,
        None => TextProjection::None,
        Some(other) => {
            let known = "\"linear\", \"mlp\" or null";
            refused.unknown(&format!("text_cfg.{PROJECTION}"), other, known);
            TextProjection::Linear
        }
    };
    Some(tower)
}

/// The encoder, from the file's own description, a folder on disk, or the table.
fn encoder(name: &str, config: &HfConfig) -> Result<TextTowerSpec, Vec<String>> {
    if let Some(own) = config.own {
        return text_encoder::read(own, "hf_text_config.");
    }
    let beside = config.folder.map(|folder| folder.join(name));
    let folders = beside.into_iter().chain([PathBuf::from(name)]);
    let mut files = folders.map(|folder| folder.join(crate::hugging_face::CONFIG_FILE));
    if let Some(file) = files.find(|file| file.is_file()) {
        let text = read_text(&file).map_err(|error| vec![error.to_string()])?;
        let config: Value = serde_json::from_str(&text)
            .map_err(|error| vec![format!("{}: {error}", file.display())])?;
        return text_encoder::read(&config, &format!("{}: ", file.display()));
    }
    if let Some(known) = KNOWN.iter().find(|known| known.is_called(name)) {
        return Ok(known.spec());
    }
    let names: Vec<String> = KNOWN.iter().map(Known::full_name).collect();
    Err(vec![format!(
        "the sizes of this text encoder are not known; put transformers' config of it into the file as \
         \"hf_text_config\", or name its folder. Known are {}",
        names.join(", ")
    )])
}

/// The table's model with such an encoder.
fn known(text: &TextTowerSpec) -> Option<&'static Known> {
    KNOWN.iter().find(|known| {
        let spec = known.spec();
        let like = TextTowerSpec {
            context_length: text.context_length,
            pool: text.pool,
            projection: text.projection,
            activation: text.activation,
            mlp_ratio: text.mlp_ratio,
            ..spec.clone()
        };
        like == *text && spec.mlp_width() == text.mlp_width()
    })
}

/// transformers' config of the text encoder; `None` for open_clip's own.
pub(super) fn config(spec: &ModelSpec) -> Option<Value> {
    text_encoder::write(&spec.text, spec.text_activation())
}

/// Why open_clip cannot build the text tower, if it cannot.
pub(super) fn obstacle(spec: &ModelSpec) -> Option<String> {
    let text = &spec.text;
    match text.encoder {
        TextEncoder::Clip => None,
        TextEncoder::ModernBert { .. } => {
            Some("open_clip 3.3 does not build ModernBERT; only Couplet reads it".into())
        }
        TextEncoder::Bert { .. } | TextEncoder::Roberta { .. } | TextEncoder::XlmRoberta { .. } => {
            let is_known =
                known(text).is_some() && spec.text_activation() == crate::spec::Activation::Gelu;
            (!is_known).then(|| {
                "open_clip takes text encoders from the hub by name, and none is known with these sizes".into()
            })
        }
    }
}

/// The keys of `text_cfg` that take the tower from transformers.
pub(super) fn keys(text: &TextTowerSpec) -> Others {
    let name = known(text).map_or(OWN.into(), Known::full_name);
    let pooler = match text.pool {
        TextPool::Pooler => "cls_pooler",
        TextPool::First => "cls_last_hidden_state_pooler",
        _ => "mean_pooler",
    };
    let projection = match text.projection {
        TextProjection::None => Value::Null,
        TextProjection::Mlp => "mlp".into(),
        _ => "linear".into(),
    };
    let keys = [
        (NAME, name.into()),
        (POOLER, pooler.into()),
        (PROJECTION, projection),
        (PRETRAINED, false.into()),
    ];
    keys.map(|(key, value)| (key.to_string(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encoders_keep_their_names() {
        for known_one in &KNOWN {
            let mut spec = known_one.spec();
            (spec.context_length, spec.pool) = (77, TextPool::Mean);
            assert_eq!(known(&spec).unwrap().name, known_one.name);
            assert!(
                known_one.is_called(known_one.name) && known_one.is_called(&known_one.full_name())
            );
            spec.layers += 1;
            assert!(known(&spec).is_none());
        }
    }
}
