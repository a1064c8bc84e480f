//! Texts in files: their encoding, and how long a caption may be.

use std::path::Path;

use super::error::DataError;

/// Longer captions are unusable. A context of 77 tokens needs a few hundred bytes.
pub(crate) const MAX_CAPTION_BYTES: usize = 256 << 10;

/// Reads bytes as text, without a byte-order mark.
///
/// # Errors
/// If they are UTF-16 or not UTF-8; the message says which.
pub(crate) fn decode_text(bytes: Vec<u8>) -> Result<String, String> {
    let mark = utf16_mark(&bytes).or(has_utf16_zeros(&bytes).then_some("UTF-16"));
    if let Some(mark) = mark {
        return Err(format!("the text is {mark}; save it as UTF-8"));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    Ok(text)
}

/// As [`decode_text`], for a whole file.
pub(crate) fn decode_file(path: &Path, bytes: Vec<u8>) -> Result<String, DataError> {
    decode_text(bytes).map_err(|message| DataError::invalid(path, message))
}

/// Why a caption is unusable, if it is.
pub(crate) fn caption_problem(caption: &str) -> Option<String> {
    let len = caption.len();
    (len > MAX_CAPTION_BYTES)
        .then(|| format!("the caption has {len} bytes, more than the limit of {MAX_CAPTION_BYTES}"))
}

const MARK: char = '\u{feff}';

/// The UTF-8 byte-order mark.
pub(crate) const MARK_BYTES: &[u8] = b"\xef\xbb\xbf";

/// The encoding that a byte-order mark names, unless it is UTF-8.
pub(crate) fn utf16_mark(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Whether at least half of the even or of the odd bytes are zero, as in UTF-16 without a byte-order
/// mark: that is valid UTF-8 too, with a zero after each letter.
fn has_utf16_zeros(bytes: &[u8]) -> bool {
    let zeros = |first: usize| {
        let half = bytes.iter().skip(first).step_by(2);
        half.filter(|byte| **byte == 0).count()
    };
    bytes.len() >= 2 && bytes.contains(&0) && zeros(0).max(zeros(1)) * 4 >= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped_and_other_encodings_are_named() {
        let read = |bytes: &[u8]| decode_text(bytes.to_vec());
        assert_eq!(read(b"\xef\xbb\xbfa cat").unwrap(), "a cat");
        assert_eq!(read("a\0b caf\u{e9}".as_bytes()).unwrap(), "a\0b caf\u{e9}");
        for utf16 in [
            &b"\xff\xfea\0"[..],
            b"\xfe\xff\0a",
            b"a\0 \0c\0",
            b"\0a\0 \0c",
        ] {
            assert!(read(utf16).unwrap_err().contains("UTF-16"), "{utf16:?}");
        }
        assert!(read(b"caf\xe9").unwrap_err().contains("not UTF-8"));
        assert_eq!(read(b"").unwrap(), "");
    }
}
