//! What is done to a text before it is split into tokens.

use std::borrow::Cow;

use super::{ftfy, html};

/// How much of a text's form is ironed out. Source: open_clip `get_clean_fn`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clean {
    /// Nothing.
    #[default]
    None,
    /// Broken encodings mended, entities read, runs of whitespace made one space.
    Whitespace,
    /// That, in lower case: CLIP's.
    Lower,
    /// That, without punctuation: SigLIP's.
    Canonicalize,
}

impl Clean {
    /// By open_clip's name of it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "whitespace" => Some(Self::Whitespace),
            "lower" => Some(Self::Lower),
            "canonicalize" => Some(Self::Canonicalize),
            _ => None,
        }
    }

    /// open_clip's name of it; it has none for doing nothing.
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
            Self::Whitespace => Cow::Owned(single_spaces(&mended(text))),
            Self::Lower => Cow::Owned(lowercase(&single_spaces(&mended(text)))),
            Self::Canonicalize => {
                let mended = mended(text);
                let letters = mended.chars().filter_map(|c| match c {
                    '_' => Some(' '),
                    c if c.is_ascii_punctuation() => None,
                    c => Some(c),
                });
                Cow::Owned(single_spaces(&lowercase(&letters.collect::<String>())))
            }
        }
    }
}

/// Source: open_clip `basic_clean`.
fn mended(text: &str) -> Cow<'_, str> {
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

/// Source: open_clip `whitespace_clean`.
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

/// What `str.split()` of Python splits at: four separators more than Unicode's whitespace.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_cleans_as_open_clips() {
        let text = "  Tom &amp;amp; Jerry_s\tCafÃ©! ";
        assert_eq!(Clean::None.apply(text), text);
        assert_eq!(Clean::Whitespace.apply(text), "Tom & Jerry_s Café!");
        assert_eq!(Clean::Lower.apply(text), "tom & jerry_s café!");
        assert_eq!(Clean::Canonicalize.apply(text), "tom jerry s café");
    }
}
