//! Cleaning of texts before they are split into tokens.

use std::borrow::Cow;

use super::{ftfy, html};

/// How a text is cleaned. Source: open_clip `get_clean_fn`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clean {
    /// Not at all.
    #[default]
    None,
    /// Fix broken encodings, decode HTML entities, replace runs of whitespace by one space.
    Whitespace,
    /// As `Whitespace`, and convert to lower case; for CLIP.
    Lower,
    /// As `Lower`, and remove punctuation; for SigLIP.
    Canonicalize,
}

impl Clean {
    /// The variant with this name in open_clip.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "whitespace" => Some(Self::Whitespace),
            "lower" => Some(Self::Lower),
            "canonicalize" => Some(Self::Canonicalize),
            _ => None,
        }
    }

    /// The variant's name in open_clip; `None` has no name there.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Whitespace => Some("whitespace"),
            Self::Lower => Some("lower"),
            Self::Canonicalize => Some("canonicalize"),
        }
    }

    pub(super) fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::None => Cow::Borrowed(text),
            Self::Whitespace => Cow::Owned(single_spaces(&fixed_text(text))),
            Self::Lower => Cow::Owned(lowercase(&single_spaces(&fixed_text(text)))),
            Self::Canonicalize => {
                let fixed_text = fixed_text(text);
                let letters = fixed_text.chars().filter_map(|c| match c {
                    '_' => Some(' '),
                    c if c.is_ascii_punctuation() => None,
                    c => Some(c),
                });
                Cow::Owned(single_spaces(&lowercase(&letters.collect::<String>())))
            }
        }
    }
}

/// Fixes encodings and decodes entities. Source: open_clip `basic_clean`.
fn fixed_text(text: &str) -> Cow<'_, str> {
    let fixed = ftfy::fix_text(text);
    if !fixed.contains('&') {
        return fixed;
    }
    Cow::Owned(html::unescape(&html::unescape(&fixed)))
}

fn lowercase(text: &str) -> String {
    if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        text.to_lowercase()
    }
}

/// Replaces runs of whitespace by one space. Source: open_clip `whitespace_clean`.
fn single_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_python_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Where Python's `str.split()` splits: at Unicode whitespace and four other separators.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variant_cleans_as_open_clip_does() {
        let text = "  Tom &amp;amp; Jerry_s\tCafÃ©! ";
        assert_eq!(Clean::None.apply(text), text);
        assert_eq!(Clean::Whitespace.apply(text), "Tom & Jerry_s Café!");
        assert_eq!(Clean::Lower.apply(text), "tom & jerry_s café!");
        assert_eq!(Clean::Canonicalize.apply(text), "tom jerry s café");
    }
}
