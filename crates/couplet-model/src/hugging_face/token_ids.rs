//! The special tokens that a model's config names.

/// The special tokens of a model's tokenizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenIds {
    pub start: Option<u32>,
    pub end: Option<u32>,
    /// The end token, if it has the tokenizer's highest id, as CLIP's.
    pub highest_end: Option<u32>,
    pub pad: Option<u32>,
}
