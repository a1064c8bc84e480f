//! Decodes HTML entities. Source: Python's `html.unescape`, and ftfy's stricter `unescape_html`.

use std::sync::LazyLock;

use fancy_regex::{Captures, Regex};

use super::tables::TABLES;

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")
        .expect("a pattern that is compiled in")
});
static STRICT_REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"&(#?[0-9A-Za-z]{1,24};)").expect("a pattern that is compiled in")
});

/// As `html.unescape`: semicolons may be missing, and the longest name that starts a word is decoded.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('&') {
        return text.to_string();
    }
    REFERENCE
        .replace_all(text, |found: &Captures| reference(&found[1]))
        .into_owned()
}

/// As ftfy's `unescape_html`: only complete references are decoded.
pub(super) fn unescape_strict(text: &str) -> String {
    if !text.contains('&') {
        return text.to_string();
    }
    let replace = |found: &Captures| {
        let name = &found[1];
        if let Some(character) = TABLES.ftfy_entities.get(name) {
            return character.clone();
        }
        if name.starts_with('#') {
            let unescaped = unescape(&found[0]);
            if !unescaped.contains(';') {
                return unescaped;
            }
        }
        found[0].to_string()
    };
    STRICT_REFERENCE.replace_all(text, replace).into_owned()
}

/// Decodes one reference.
/// - name: what follows the ampersand.
fn reference(name: &str) -> String {
    if let Some(number) = name.strip_prefix('#') {
        let digits = number.trim_end_matches(';');
        let value = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        // A number of more than 32 bits is not a character either.
        return numbered(value.unwrap_or(u32::MAX));
    }
    if let Some(character) = TABLES.html5.get(name) {
        return character.clone();
    }
    let mut ends = name
        .char_indices()
        .map(|(at, _)| at)
        .skip(2)
        .collect::<Vec<_>>();
    ends.reverse();
    for end in ends {
        if let Some(character) = TABLES.html5.get(&name[..end]) {
            return format!("{character}{}", &name[end..]);
        }
    }
    format!("&{name}")
}

fn numbered(value: u32) -> String {
    if let Some(character) = TABLES.html_invalid_charrefs.get(&value) {
        return character.clone();
    }
    if TABLES.html_invalid_codepoints.binary_search(&value).is_ok() {
        return String::new();
    }
    char::from_u32(value).unwrap_or('\u{fffd}').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_decoded_as_by_python() {
        // Printed by html.unescape of CPython 3.11.
        for (text, expected) in [
            ("&lt;3 &amp;amp;", "<3 &amp;"),
            ("&amp &copy2020 &notit;", "& ©2020 ¬it;"),
            ("&#128; &#x9f; &#0;", "€ Ÿ \u{fffd}"),
            (
                "&#xD800; &#1114112; &#99999999999;",
                "\u{fffd} \u{fffd} \u{fffd}",
            ),
            ("a&#1;b &bogus; &", "ab &bogus; &"),
        ] {
            assert_eq!(unescape(text), expected);
        }
    }
}
