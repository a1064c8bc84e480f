//! JSON as Python writes it: with `NaN` and `Infinity`, which JSON does not have, and sometimes with a
//! byte-order mark.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::text::{MARK_BYTES, utf16_mark};

/// Parses a document; `NaN`, `Infinity` and `-Infinity` are `null`.
///
/// # Errors
/// If it does not parse otherwise.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if let Some(mark) = utf16_mark(bytes) {
        return Err(format!("the JSON is {mark}; save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(MARK_BYTES).unwrap_or(bytes);
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match without_constants(bytes) {
        Cow::Borrowed(_) => Err(error.to_string()),
        Cow::Owned(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
    }
}

/// The document with `null` for each of Python's constants outside of strings.
fn without_constants(bytes: &[u8]) -> Cow<'_, [u8]> {
    const CONSTANTS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut changed, mut copied) = (Vec::new(), 0);
    let (mut at, mut is_text) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_text => at += 1,
            b'"' => is_text = !is_text,
            b'N' | b'I' | b'-' if !is_text => {
                let found = CONSTANTS.iter().find(|one| bytes[at..].starts_with(one));
                if let Some(constant) = found {
                    changed.extend_from_slice(&bytes[copied..at]);
                    changed.extend_from_slice(b"null");
                    at += constant.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    changed.extend_from_slice(&bytes[copied..]);
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn pythons_constants_and_a_byte_order_mark_are_read() {
        // As `json.dumps` writes it, apart from the mark.
        let text = "\u{feff}{\"a\": NaN, \"b\": [Infinity, -Infinity, -1.5], \"c\": \"NaN \\\" -Infinity\"}";
        let read: Value = parse(text.as_bytes()).unwrap();
        let wanted = json!({"a": null, "b": [null, null, -1.5], "c": "NaN \" -Infinity"});
        assert_eq!(read, wanted);
        for broken in ["{\"a\": Nan}", "{\"a\": NaN", "", "{\"a\": -Infinite}"] {
            assert!(parse::<Value>(broken.as_bytes()).is_err(), "{broken}");
        }
        let utf16 = parse::<Value>(b"\xff\xfe{\0}\0").unwrap_err();
        assert!(utf16.contains("UTF-16"), "{utf16}");
    }
}
