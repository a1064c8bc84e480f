//! Extracts the caption of an image from the text next to it.

use rand::RngExt;

use crate::decode::IMAGE_EXTENSIONS;
use crate::draw::{Purpose, stream};
use crate::formats::json;
use crate::formats::text::{caption_problem, decode_text};
use crate::sample::{SampleError, SkipCause};

/// How to get a caption from a file's bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct CaptionRule {
    /// The bytes are JSON with the caption under this key: a text, or a list of which one is drawn.
    pub key: Option<String>,
    /// Every line is a caption, and one of them is drawn.
    pub one_of_lines: bool,
    pub seed: u64,
}

/// The error of a sample without an image.
pub(super) fn no_image() -> SampleError {
    let wanted = IMAGE_EXTENSIONS.join(", .");
    let message = format!("no .{wanted} next to the caption");
    SampleError::new(SkipCause::MissingImage, message)
}

/// The error of a sample without an image or a caption in a shard.
pub(super) fn in_shard(mut error: SampleError) -> SampleError {
    const HINT: &str = "in a shard, the members of a sample follow each other (`tar --sort=name`)";
    error.detail = format!("{}; {HINT}", error.detail);
    error
}

impl CaptionRule {
    /// The error of a sample without a caption.
    pub fn no_caption(&self) -> SampleError {
        let message = format!("no .{} next to the image", self.extension());
        SampleError::new(SkipCause::MissingCaption, message)
    }

    /// The extension of the caption file next to an image.
    pub fn extension(&self) -> &'static str {
        if self.key.is_some() { "json" } else { "txt" }
    }

    /// Draws the caption of a sample in `epoch`.
    /// - index: the sample's index, or another number that identifies it.
    pub fn draw(&self, bytes: Vec<u8>, index: u64, epoch: u64) -> Result<String, SampleError> {
        match &self.key {
            Some(key) => self.one_of(json_captions(&bytes, key)?, index, epoch),
            None if self.one_of_lines => {
                let lines = text(bytes)?.lines().map(str::to_string).collect();
                self.one_of(lines, index, epoch)
            }
            None => caption_text(bytes),
        }
    }

    /// All captions of a sample; empty ones do not count.
    pub fn all(&self, bytes: Vec<u8>) -> Result<Vec<String>, SampleError> {
        let texts = match &self.key {
            Some(key) => json_captions(&bytes, key)?,
            None if self.one_of_lines => text(bytes)?.lines().map(str::to_string).collect(),
            None => vec![caption_text(bytes)?],
        };
        let texts = texts.iter().map(|text| text.trim().to_string());
        let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
        if texts.is_empty() {
            return Err(empty());
        }
        texts.iter().try_for_each(|text| check_len(text))?;
        Ok(texts)
    }

    /// Draws one of several captions; empty ones do not count.
    pub fn one_of(
        &self,
        texts: Vec<String>,
        index: u64,
        epoch: u64,
    ) -> Result<String, SampleError> {
        let texts: Vec<String> = (texts.into_iter())
            .filter(|text| !text.trim().is_empty())
            .collect();
        if texts.is_empty() {
            return Err(empty());
        }
        // Not the drawn one's alone: a sample is usable in every epoch or in none.
        texts.iter().try_for_each(|text| check_len(text))?;
        let mut rng = stream(self.seed, Purpose::Caption, epoch, index);
        let drawn = rng.random_range(0..texts.len());
        Ok(texts[drawn].trim().to_string())
    }
}

/// Reads a caption's bytes as text.
fn caption_text(bytes: Vec<u8>) -> Result<String, SampleError> {
    let text = text(bytes)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(empty());
    }
    check_len(text)?;
    Ok(text.to_string())
}

fn text(bytes: Vec<u8>) -> Result<String, SampleError> {
    decode_text(bytes).map_err(|error| SampleError::new(SkipCause::InvalidCaption, error))
}

fn check_len(text: &str) -> Result<(), SampleError> {
    caption_problem(text).map_or(Ok(()), |problem| {
        Err(SampleError::new(SkipCause::InvalidCaption, problem))
    })
}

fn empty() -> SampleError {
    SampleError::new(SkipCause::EmptyCaption, "the caption is blank")
}

fn json_captions(bytes: &[u8], key: &str) -> Result<Vec<String>, SampleError> {
    use serde_json::Value;
    let invalid =
        |message: &dyn std::fmt::Display| SampleError::new(SkipCause::InvalidCaption, message);
    let json: Value = json::parse(bytes).map_err(|error| invalid(&error))?;
    let no_text = || {
        invalid(&format!(
            "`{key}` in the .json is neither a text nor a list of texts"
        ))
    };
    match json.get(key) {
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(texts)) => (texts.iter())
            .map(|text| text.as_str().map(str::to_string).ok_or_else(no_text))
            .collect(),
        Some(Value::Null) | None => Err(SampleError::new(
            SkipCause::MissingCaption,
            format!("`{key}` is missing or null in the .json"),
        )),
        Some(_) => Err(no_text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn drawn(rule: &CaptionRule, bytes: &[u8]) -> HashSet<String> {
        (0..50)
            .map(|epoch| rule.draw(bytes.to_vec(), 3, epoch).unwrap())
            .collect()
    }

    #[test]
    fn one_of_several_captions_is_drawn_each_epoch() {
        let lines = CaptionRule {
            one_of_lines: true,
            ..CaptionRule::default()
        };
        let expected: HashSet<String> = ["a cat", "a dog"].map(str::to_string).into();
        assert_eq!(drawn(&lines, b"a cat\n\n a dog \n"), expected);
        assert_eq!(
            lines.draw(b"a\nb\nc".to_vec(), 1, 2).unwrap(),
            lines.draw(b"a\nb\nc".to_vec(), 1, 2).unwrap()
        );
        let json = CaptionRule {
            key: Some("captions".into()),
            ..CaptionRule::default()
        };
        assert_eq!(
            drawn(&json, br#"{"captions": ["a cat", "a dog"]}"#),
            expected
        );
        let error = json
            .draw(br#"{"captions": [1]}"#.to_vec(), 0, 0)
            .unwrap_err();
        assert_eq!(error.cause, SkipCause::InvalidCaption);
    }

    #[test]
    fn files_as_python_and_windows_write_them_are_read() {
        let json = CaptionRule {
            key: Some("caption".into()),
            ..CaptionRule::default()
        };
        let bytes = "\u{feff}{\"caption\": \"a cat\", \"aesthetic\": NaN}".as_bytes();
        assert_eq!(json.draw(bytes.to_vec(), 0, 0).unwrap(), "a cat");
        let plain = CaptionRule::default();
        let marked = "\u{feff}a cat\r\n".as_bytes();
        assert_eq!(plain.draw(marked.to_vec(), 0, 0).unwrap(), "a cat");
        let error = plain.draw(b"\xff\xfea\0".to_vec(), 0, 0).unwrap_err();
        assert!(error.detail.contains("UTF-16"), "{error}");
    }

    #[test]
    fn a_caption_that_is_too_long_makes_a_bad_sample() {
        let long = vec![b'x'; 262_145];
        let plain = CaptionRule::default();
        assert!(plain.draw(long[1..].to_vec(), 0, 0).is_ok());
        let error = plain.draw(long.clone(), 0, 0).unwrap_err();
        assert!(error.detail.contains("262145 bytes"), "{error}");
        let lines = CaptionRule {
            one_of_lines: true,
            ..CaptionRule::default()
        };
        let two = [b"short\n", &long[..]].concat();
        assert!((0..20).all(|epoch| lines.draw(two.clone(), 0, epoch).is_err()));
    }

    #[test]
    fn by_default_the_whole_text_is_the_caption() {
        let text = CaptionRule::default().draw(b" a cat\non a mat\n".to_vec(), 0, 0);
        assert_eq!(text.unwrap(), "a cat\non a mat");
    }
}
