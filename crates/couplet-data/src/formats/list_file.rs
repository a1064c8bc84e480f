//! Files of lists of texts: one per line, or JSON. Class names and templates in any language come from them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::DataError;
use super::files::{MAX_TEXT_BYTES, read_regular};
use super::json;
use crate::error::printable;

/// Stands between a file and the key of a list in it.
const SEPARATOR: char = '#';
/// Keys that an error lists.
const SHOWN: usize = 20;

/// The file that holds a list, and the list's key in it, of `FILE` or `FILE#KEY`.
pub fn split_key(given: &Path) -> (PathBuf, Option<String>) {
    let text = given.to_string_lossy();
    match text.rsplit_once(SEPARATOR) {
        // A file may have the separator in its name.
        Some((file, key)) if !given.is_file() && is_json(Path::new(file)) => {
            (file.into(), Some(key.to_string()))
        }
        _ => (given.to_path_buf(), None),
    }
}

/// Whether a file is one of JSON by its name.
pub(crate) fn is_json(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("json"))
}

/// The list in a JSON file: the whole file, or what its key leads to, such as `it.imagenet1k` through nested objects.
///
/// # Errors
/// If the file cannot be read, the key leads nowhere, or something other than a list of texts is there.
pub(crate) fn read_json_list(path: &Path, key: Option<&str>) -> Result<Vec<String>, DataError> {
    let invalid = |message: String| DataError::invalid(path, message);
    let bytes = read_regular(path, MAX_TEXT_BYTES).map_err(DataError::io(path))?;
    let document: Value = json::parse(&bytes).map_err(invalid)?;
    let found = match key {
        Some(key) => at(&document, key).ok_or_else(|| {
            let known = keys(&document).unwrap_or_else(|| "a list".into());
            invalid(format!(
                "no `{}` in it, which holds {known}",
                printable(key)
            ))
        })?,
        None => &document,
    };
    let Value::Array(values) = found else {
        let place = key.map_or(String::new(), |key| format!("`{}`: ", printable(key)));
        let message = match keys(found) {
            Some(known) => format!("{place}not a list, but an object with {known}; write FILE#KEY"),
            None => format!("{place}not a list of texts"),
        };
        return Err(invalid(message));
    };
    let texts = values.iter().enumerate().map(|(at, value)| {
        let text = value.as_str().map(|text| text.trim().to_string());
        text.ok_or_else(|| invalid(format!("entry {at} of the list is not a text")))
    });
    texts.collect()
}

/// The value that a key leads to; a key may have dots of its own.
fn at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if let Some(found) = value.get(key) {
        return Some(found);
    }
    let dots = key.match_indices('.');
    let mut parts = dots.map(|(dot, _)| (&key[..dot], &key[dot + 1..]));
    parts.find_map(|(first, rest)| at(value.get(first)?, rest))
}

/// The keys of an object, in words.
fn keys(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let shown = object.keys().take(SHOWN).map(|key| printable(key));
    let shown: Vec<_> = shown.collect();
    let more = if object.len() > SHOWN { ", …" } else { "" };
    Some(format!("`{}`{more}", shown.join("`, `")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_found_through_nested_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.json");
        std::fs::write(
            &path,
            r#"{"it": {"imagenet1k": ["tinca ", "squalo"], "v1.5": ["uno"]}, "en": ["tench"], "n": [1]}"#,
        )
        .unwrap();
        let read =
            |key: Option<&str>| read_json_list(&path, key).map_err(|error| error.to_string());
        assert_eq!(read(Some("it.imagenet1k")).unwrap(), ["tinca", "squalo"]);
        assert_eq!(read(Some("it.v1.5")).unwrap(), ["uno"]);
        assert_eq!(read(Some("en")).unwrap(), ["tench"]);
        for (key, wanted) in [
            (None, "not a list, but an object with `"),
            (
                Some("it"),
                "`it`: not a list, but an object with `imagenet1k`, `v1.5`",
            ),
            (Some("fr"), "no `fr` in it, which holds `"),
            (Some("n"), "entry 0 of the list is not a text"),
        ] {
            let error = read(key).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
        std::fs::write(&path, "[\"\u{72d7}\"]").unwrap();
        assert_eq!(read(None).unwrap(), ["\u{72d7}"]);
    }

    #[test]
    fn a_key_is_what_follows_the_last_separator_of_a_json_file() {
        let split = |text: &str| {
            let (file, key) = split_key(Path::new(text));
            (file.display().to_string(), key)
        };
        assert_eq!(split("a.json#it.x"), ("a.json".into(), Some("it.x".into())));
        assert_eq!(split("a#b.txt"), ("a#b.txt".into(), None));
        assert_eq!(split("a.txt"), ("a.txt".into(), None));
    }
}
