//! Texts from foreign files, as they may be printed.

use std::fmt::{Display, Write};

/// The longest text that is printed, in characters.
const LONGEST: usize = 300;

/// The text without the codes that a terminal obeys, cut where it is too long to read.
pub(crate) fn printable(text: impl Display) -> String {
    let text = text.to_string();
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == LONGEST {
            shown.push('…');
            break;
        }
        if is_unprintable(character) && character != '\n' {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Control characters, and those that reorder text or break lines: the same as in the messages about data.
fn is_unprintable(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_codes_are_shown_and_long_texts_are_cut() {
        assert_eq!(printable("a\u{1b}[2Jb é"), "a\\u{1b}[2Jb é");
        assert_eq!(printable("png\u{202e}gpj"), "png\\u{202e}gpj");
        assert_eq!(printable("x".repeat(1000)).chars().count(), LONGEST + 1);
    }
}
