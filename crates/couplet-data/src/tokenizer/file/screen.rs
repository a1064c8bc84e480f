//! What the crate `tokenizers` does not survive, or what makes its ids random, is refused before.

use serde::Deserialize;
use serde_json::Value;

/// The parts of a `tokenizer.json` but its vocabulary.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    dropout: Option<Value>,
}

/// # Errors
/// With what is wrong, and the key.
pub(super) fn check(text: &str) -> Result<(), String> {
    // What cannot be read so far is described better by the crate.
    let Ok(parts) = serde_json::from_str::<Parts>(text) else {
        return Ok(());
    };
    let dropout = parts.model.and_then(|model| model.dropout);
    if let Some(dropout) = dropout.filter(|dropout| dropout.as_f64() != Some(0.0)) {
        return Err(format!(
            "model.dropout = {dropout}: the same text would get other ids every time; set it to null"
        ));
    }
    parts.normalizer.as_ref().map_or(Ok(()), check_normalizer)
}

fn check_normalizer(normalizer: &Value) -> Result<(), String> {
    if let Some(Value::Array(list)) = normalizer.get("normalizers") {
        list.iter().try_for_each(check_normalizer)?;
    }
    match normalizer.get("precompiled_charsmap") {
        Some(Value::String(charsmap)) if !is_charsmap(charsmap) => {
            Err("normalizer.precompiled_charsmap: its trie is longer than all of it".into())
        }
        _ => Ok(()),
    }
}

/// Whether a charsmap of SentencePiece is as long as it says in its first four bytes, little-endian, as
/// much memory as its reader allocates.
/// - charsmap: in base64.
fn is_charsmap(charsmap: &str) -> bool {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u64;
    for digit in charsmap.bytes().take(6) {
        let Some(value) = ALPHABET.iter().position(|one| *one == digit) else {
            // Not base64: refused by its reader.
            return true;
        };
        bits = bits << 6 | value as u64;
    }
    // Six digits are 36 bits, of which the first 32 are the length.
    let Ok(bytes) = u32::try_from(bits >> 4) else {
        return true;
    };
    charsmap.len() < 6 || u64::from(bytes.swap_bytes()) <= charsmap.len() as u64
}
