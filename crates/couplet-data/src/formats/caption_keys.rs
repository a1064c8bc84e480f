//! Where captions are: in `.txt` files, or under a key of `.json` files.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::column_names::CAPTION_NAMES;
use super::error::DataError;
use super::files::{MAX_TEXT_BYTES, open_regular, read_regular};
use super::json;
use super::packing::Packing;
use crate::error::printable;

/// Members of a shard that are looked at.
const MEMBERS: usize = 64;

/// The key of a shard's `.json` files that has the captions; `None` if they are in `.txt` files.
///
/// # Errors
/// If there are neither in the shard's first members.
pub(crate) fn key_in_shard(shard: &Path) -> Result<Option<String>, DataError> {
    let invalid = |message: &str| DataError::invalid(shard, message);
    let file = open_regular(shard).map_err(DataError::io(shard))?;
    let mut file = BufReader::new(file);
    let start = file.fill_buf().map_err(DataError::io(shard))?;
    let file: Box<dyn Read> = match Packing::of(start) {
        Some(packing) => packing
            .decode(Box::new(file))
            .map_err(DataError::io(shard))?,
        None => Box::new(file),
    };
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().map_err(DataError::io(shard))?;
    let mut document = None;
    for entry in entries.take(MEMBERS) {
        let Ok(entry) = entry else { break };
        let path = entry.path_bytes().to_ascii_lowercase();
        if path.ends_with(b".txt") {
            return Ok(None);
        }
        if document.is_none() && path.ends_with(b".json") {
            let mut bytes = Vec::new();
            let read = entry.take(MAX_TEXT_BYTES).read_to_end(&mut bytes);
            document = read.is_ok().then_some(bytes);
        }
    }
    let Some(document) = document else {
        return Err(invalid(
            "no .txt and no .json among the shard's first members, so there are no captions",
        ));
    };
    key_of(&document)
        .map(Some)
        .map_err(|message| invalid(&message))
}

/// The key of a `.json` file that has the caption.
pub(crate) fn key_in_file(file: &Path) -> Result<String, DataError> {
    let bytes = read_regular(file, MAX_TEXT_BYTES).map_err(DataError::io(file))?;
    key_of(&bytes).map_err(|message| DataError::invalid(file, message))
}

fn key_of(document: &[u8]) -> Result<String, String> {
    let object: Map<String, Value> = json::parse(document)?;
    let is_text = |value: &Value| match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(texts) => !texts.is_empty() && texts.iter().all(Value::is_string),
        _ => false,
    };
    let known = CAPTION_NAMES.iter().find_map(|name| {
        let own = object.keys().find(|key| key.eq_ignore_ascii_case(name))?;
        is_text(&object[own]).then_some(own)
    });
    known.cloned().ok_or_else(|| {
        let keys: Vec<_> = object.keys().map(|key| printable(key)).collect();
        format!(
            "no key for captions among `{}`; write a config or a dataset file with caption_key",
            keys.join("`, `")
        )
    })
}
