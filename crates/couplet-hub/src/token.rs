//! The access token, which no text shows.

use std::fmt;

/// An access token of the Hugging Face Hub.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token. `None` if the text is empty or no header can carry it; line breaks within are dropped, as huggingface_hub's
    /// `_clean_token` does.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.replace(['\r', '\n'], "");
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(text.to_owned()))
    }

    /// The value of an `Authorization` header.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
