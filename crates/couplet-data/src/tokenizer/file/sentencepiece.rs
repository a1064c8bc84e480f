//! SentencePiece's unigram models, such as SigLIP's `spiece.model`, as the `tokenizer.json` that gives the same ids.
//! Source: sentencepiece `sentencepiece_model.proto`, transformers `SiglipTokenizer` and `SpmConverter`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Value, json};

use super::named::content;

/// The file's name in a model folder.
pub(in super::super) const FILE: &str = "spiece.model";
/// A class of transformers that changes texts before SentencePiece does.
const SIGLIP: &str = "SiglipTokenizer";
/// Those whose tokenizers are the model itself, with an end token.
const PLAIN: [&str; 2] = ["T5Tokenizer", "T5TokenizerFast"];
const UNIGRAM: i32 = 1;
/// What stands for a space.
const SPACE: &str = "\u{2581}";

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
}

/// The `tokenizer.json` of a model.
/// - config: its `tokenizer_config.json`, null if there is none.
///
/// # Errors
/// With what is not a SentencePiece model, or not supported here.
pub(super) fn to_json(bytes: &[u8], config: &Value) -> Result<String, String> {
    let model =
        ModelProto::decode(bytes).map_err(|error| format!("not a SentencePiece model: {error}"))?;
    let trainer = model.trainer_spec.clone().unwrap_or_default();
    if trainer.model_type.unwrap_or(UNIGRAM) != UNIGRAM {
        return Err(
            "only unigram models of SentencePiece are supported; save a tokenizer.json with transformers' AutoTokenizer"
                .into(),
        );
    }
    let class = config
        .get("tokenizer_class")
        .and_then(Value::as_str)
        .unwrap_or(SIGLIP);
    if class != SIGLIP && !PLAIN.contains(&class) {
        return Err(format!(
            "tokenizer_class = {class:?}: expected {SIGLIP:?} or \"T5Tokenizer\"; save a tokenizer.json with \
             transformers' AutoTokenizer"
        ));
    }
    let vocabulary: Vec<(&str, f32)> = (model.pieces.iter())
        .map(|piece| (piece.piece(), piece.score()))
        .collect();
    let id_of = |token: &str| vocabulary.iter().position(|(piece, _)| *piece == token);
    let named = |key: &str, default: &'static str| {
        let token = config.get(key).and_then(content);
        token.unwrap_or(default).to_string()
    };
    let end = named("eos_token", "</s>");
    let end_id = id_of(&end).ok_or_else(|| format!("has no end token {end}"))?;
    let special = [
        end.clone(),
        named("pad_token", "</s>"),
        named("unk_token", "<unk>"),
    ];
    let mut added: Vec<(usize, &String)> = special
        .iter()
        .filter_map(|token| Some((id_of(token)?, token)))
        .collect();
    added.sort_unstable();
    added.dedup();
    let added_tokens = added.into_iter().map(|(id, token)| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": true, "rstrip": true,
            "normalized": false, "special": true,
        })
    });
    let lowers = config
        .get("do_lower_case")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let normalizer = model.normalizer_spec.unwrap_or_default();
    let prefix = class == SIGLIP || normalizer.add_dummy_prefix.unwrap_or(true);
    let metaspace = json!({
        "type": "Metaspace", "replacement": SPACE, "split": true,
        "prepend_scheme": if prefix { "always" } else { "never" },
    });
    let file = json!({
        "version": "1.0",
        "added_tokens": added_tokens.collect::<Vec<_>>(),
        "normalizer": {
            "type": "Sequence",
            "normalizers": normalizers(class == SIGLIP, lowers, normalizer.precompiled_charsmap()),
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": { end.as_str(): {"id": end, "ids": [end_id], "tokens": [end]} },
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": trainer.unk_id.unwrap_or(0),
            "byte_fallback": trainer.byte_fallback.unwrap_or(false),
            "vocab": vocabulary,
        },
    });
    Ok(file.to_string())
}

/// What happens to a text before it is cut into pieces.
fn normalizers(is_siglip: bool, lowers: bool, charsmap: &[u8]) -> Vec<Value> {
    let replace = |pattern: &str, by: &str| json!({ "type": "Replace", "pattern": { "Regex": pattern }, "content": by });
    let mut steps = Vec::new();
    if is_siglip {
        if lowers {
            steps.push(json!({ "type": "Lowercase" }));
        }
        // Python's `string.punctuation`.
        steps.push(replace(r"[!-/:-@\[-`{-~]", ""));
    }
    if !charsmap.is_empty() {
        steps.push(
            json!({ "type": "Precompiled", "precompiled_charsmap": STANDARD.encode(charsmap) }),
        );
    }
    // As SentencePiece with `remove_extra_whitespaces`.
    steps.push(replace(&format!("[\\s{SPACE}]+"), " "));
    steps.push(json!({ "type": "Strip", "strip_left": true, "strip_right": true }));
    steps
}
