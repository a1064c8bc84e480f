//! Repairs text that was decoded with the wrong encoding. Source: ftfy 6.3.1 `fix_text` (Apache-2.0,
//! Robyn Speer), whose tables are in `assets/text_fixes.json.gz`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use fancy_regex::{Captures, Regex};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::html;
use super::tables::TABLES;

/// `ftfy.fix_text` with its default settings.
pub(super) fn fix_text(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut unescape = true;
    let segments = text.split_inclusive('\n').map(|segment| {
        // Text with tags is markup, where entities are intentional; so is everything after it.
        unescape &= !segment.contains('<');
        fix_segment(segment, unescape)
    });
    Cow::Owned(segments.collect())
}

/// Whether nothing here can change: printable ASCII without entities.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'\t' | b'\n' | b' '..=b'~') && byte != b'&')
}

fn fix_segment(segment: &str, unescape: bool) -> String {
    let mut text = segment.to_string();
    loop {
        let before = text.clone();
        if unescape {
            text = html::unescape_strict(&text);
        }
        text = fix_encoding(text);
        text = text.chars().map(fix_c1).collect();
        text = text.chars().flat_map(spelled_out).collect();
        text = text
            .replace("\r\n", "\n")
            .replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        text = TERMINAL_ESCAPE.replace_all(&text, "").into_owned();
        text.retain(|c| !is_control(c));
        if !is_nfc(&text) {
            text = text.nfc().collect();
        }
        if text == before {
            return text;
        }
    }
}

static TERMINAL_ESCAPE: LazyLock<Regex> = LazyLock::new(|| regex("\u{1b}\\[(?:\\d|;)*[a-zA-Z]"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern that is compiled in")
}

/// Spells out ligatures and full-width forms, and straightens curly quotes.
fn spelled_out(c: char) -> impl Iterator<Item = char> {
    let straight = match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => Some("'"),
        '\u{201c}'..='\u{201f}' => Some("\""),
        _ if c.is_ascii() => None,
        // A ligature's spelling is not looked up again in the same pass.
        _ => TABLES
            .ligatures
            .get(&c)
            .or_else(|| TABLES.widths.get(&c))
            .map(String::as_str),
    };
    let plain = straight.is_none().then_some(c);
    plain.into_iter().chain(straight.unwrap_or("").chars())
}

fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}'
        | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

/// Replaces C1 controls by the characters of the same bytes in Windows-1252.
fn fix_c1(c: char) -> char {
    match c {
        '\u{80}'..='\u{9f}' => {
            let windows_1252 = CHARMAPS.iter().find(|map| map.name == WINDOWS_1252);
            let map = windows_1252.expect("the tables have this encoding");
            map.decoded[c as usize - 0x80]
        }
        _ => c,
    }
}

const WINDOWS_1252: &str = "sloppy-windows-1252";
const LATIN_1: &str = "latin-1";
const MAC_ROMAN: &str = "macroman";
/// The byte that represents one that was decoded as U+FFFD.
const LOST: u8 = 0x1a;

/// A single-byte encoding.
struct Charmap {
    name: String,
    /// The characters of the bytes 0x80 to 0xff.
    decoded: Vec<char>,
    bytes: HashMap<char, u8>,
    is_sloppy: bool,
}

static CHARMAPS: LazyLock<Vec<Charmap>> = LazyLock::new(|| {
    let maps = TABLES.charmaps.iter().map(|(name, decoded)| {
        let decoded: Vec<char> = decoded.chars().collect();
        let high = (0x80..=0xff).chain([LOST]);
        Charmap {
            name: name.clone(),
            bytes: decoded.iter().copied().zip(high).collect(),
            decoded,
            is_sloppy: name.starts_with("sloppy"),
        }
    });
    maps.collect()
});

impl Charmap {
    /// `None` if the encoding lacks one of the characters.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let byte = |c: char| match u8::try_from(c) {
            Ok(byte) if byte < 0x80 && byte != LOST => Some(byte),
            _ => self.bytes.get(&c).copied(),
        };
        text.chars().map(byte).collect()
    }
}

static BADNESS: LazyLock<Regex> = LazyLock::new(|| regex(&TABLES.badness));
static UTF8_DETECTOR: LazyLock<Regex> = LazyLock::new(|| regex(&TABLES.utf8_detector));

fn is_bad(text: &str) -> bool {
    BADNESS.is_match(text).unwrap_or(false)
}

fn fix_encoding(mut text: String) -> String {
    while let Some(fixed) = fix_encoding_once(&text) {
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// Undoes one wrong decoding step; `None` if there is nothing to undo.
/// Source: ftfy `_fix_encoding_one_step_and_explain`.
fn fix_encoding_once(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    let mut latin_1 = None;
    for map in CHARMAPS.iter() {
        let Some(mut bytes) = map.encode(text) else {
            continue;
        };
        if map.name == LATIN_1 {
            latin_1 = Some(bytes.clone());
        }
        if map.name != MAC_ROMAN {
            bytes = restore_byte_a0(bytes);
        }
        if map.is_sloppy {
            bytes = replace_lossy_sequences(&bytes);
        }
        if let Some(fixed) = decode_utf8_variants(bytes) {
            return Some(fixed);
        }
    }
    let in_parts = UTF8_DETECTOR.replace_all(text, |found: &Captures| {
        let part = &found[0];
        if part.len() < text.len() && is_bad(part) {
            fix_encoding(part.to_string())
        } else {
            part.to_string()
        }
    });
    if in_parts != text {
        return Some(in_parts.into_owned());
    }
    if let Some(fixed) = latin_1.and_then(|bytes| decode_windows_1252(&bytes))
        && fixed != text
    {
        return Some(fixed);
    }
    if text.chars().any(|c| matches!(c, '\u{80}'..='\u{9f}')) {
        return Some(text.chars().map(fix_c1).collect());
    }
    None
}

/// Strict decoding: bytes that Windows-1252 leaves undefined are rejected.
fn decode_windows_1252(bytes: &[u8]) -> Option<String> {
    let decode = |byte: u8| match byte {
        0x81 | 0x8d | 0x8f | 0x90 | 0x9d => None,
        byte => Some(fix_c1(char::from(byte))),
    };
    bytes.iter().copied().map(decode).collect()
}

/// Bytes as the characters with the same numbers, for regular expressions.
fn as_chars(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn as_bytes(chars: &str) -> Vec<u8> {
    chars
        .chars()
        .map(|c| u8::try_from(c).expect("each character was a byte"))
        .collect()
}

static A_GRAVE_WORD: LazyLock<Regex> = LazyLock::new(|| regex("\u{c3} (?! |quele|quela|quilo|s )"));
static ALTERED_UTF8: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        "[\u{c2}\u{c3}\u{c5}\u{ce}\u{d0}\u{d9}][ ]\
         |[\u{e2}\u{e3}][ ][\u{80}-\u{84}\u{86}-\u{9f}\u{a1}-\u{bf}]\
         |[\u{e0}-\u{e3}][\u{80}-\u{84}\u{86}-\u{9f}\u{a1}-\u{bf}][ ]\
         |[\u{f0}][ ][\u{80}-\u{bf}][\u{80}-\u{bf}]\
         |[\u{f0}][\u{80}-\u{bf}][ ][\u{80}-\u{bf}]\
         |[\u{f0}][\u{80}-\u{bf}][\u{80}-\u{bf}][ ]",
    )
});
static LOSSY_UTF8: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        "[\u{c2}-\u{df}][\u{1a}]\
         |[\u{c2}-\u{c3}][?]\
         |\u{ed}[\u{a0}-\u{af}][\u{1a}?]\u{ed}[\u{b0}-\u{bf}][\u{1a}?\u{80}-\u{bf}]\
         |\u{ed}[\u{a0}-\u{af}][\u{1a}?\u{80}-\u{bf}]\u{ed}[\u{b0}-\u{bf}][\u{1a}?]\
         |[\u{e0}-\u{ef}][\u{1a}?][\u{1a}\u{80}-\u{bf}]\
         |[\u{e0}-\u{ef}][\u{1a}\u{80}-\u{bf}][\u{1a}?]\
         |[\u{f0}-\u{f4}][\u{1a}?][\u{1a}\u{80}-\u{bf}][\u{1a}\u{80}-\u{bf}]\
         |[\u{f0}-\u{f4}][\u{1a}\u{80}-\u{bf}][\u{1a}?][\u{1a}\u{80}-\u{bf}]\
         |[\u{f0}-\u{f4}][\u{1a}\u{80}-\u{bf}][\u{1a}\u{80}-\u{bf}][\u{1a}?]\
         |\u{1a}",
    )
});

/// Restores byte 0xa0 in UTF-8 sequences, where it became a space.
fn restore_byte_a0(bytes: Vec<u8>) -> Vec<u8> {
    let chars = as_chars(&bytes);
    if !ALTERED_UTF8.is_match(&chars).unwrap_or(false) {
        return bytes;
    }
    let words = A_GRAVE_WORD.replace_all(&chars, "\u{c3}\u{a0} ");
    let restored =
        ALTERED_UTF8.replace_all(&words, |found: &Captures| found[0].replace(' ', "\u{a0}"));
    as_bytes(&restored)
}

/// Replaces UTF-8 sequences that have lost bytes by U+FFFD.
fn replace_lossy_sequences(bytes: &[u8]) -> Vec<u8> {
    let chars = as_chars(bytes);
    as_bytes(&LOSSY_UTF8.replace_all(&chars, "\u{ef}\u{bf}\u{bd}"))
}

/// Decodes UTF-8, also with surrogate pairs (CESU-8) and with null as two bytes (Java).
/// Source: ftfy `bad_codecs.utf8_variants`.
fn decode_utf8_variants(bytes: Vec<u8>) -> Option<String> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Some(text),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match rest {
            [0xc0, 0x80, tail @ ..] => {
                text.push('\0');
                rest = tail;
            }
            [
                0xed,
                b @ 0xa0..=0xaf,
                c @ 0x80..=0xbf,
                0xed,
                e @ 0xb0..=0xbf,
                f @ 0x80..=0xbf,
                tail @ ..,
            ] => {
                let six = |byte: &u8| u32::from(byte & 0x3f);
                let high = (u32::from(b & 0x0f) << 6) | six(c);
                let low = (u32::from(e & 0x0f) << 6) | six(f);
                text.push(char::from_u32(0x1_0000 + (high << 10) + low)?);
                rest = tail;
            }
            _ => {
                let variant = |start: &[u8]| start[0] == 0xed || start[0] == 0xc0;
                let end = (1..rest.len())
                    .find(|at| variant(&rest[*at..]))
                    .unwrap_or(rest.len());
                text.push_str(std::str::from_utf8(&rest[..end]).ok()?);
                rest = &rest[end..];
            }
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixture is written by `tests/fixtures/make_ftfy.py`.
    #[test]
    fn texts_are_fixed_as_by_ftfy() {
        let fixture = include_str!("../../tests/fixtures/ftfy.json");
        let cases: Vec<(String, String)> = serde_json::from_str(fixture).unwrap();
        assert!(cases.len() > 300);
        for (broken, fixed) in cases {
            assert_eq!(fix_text(&broken), fixed, "{broken:?}");
        }
    }
}
