//! A problem of a sweep's config.

use toml::de::Error;

#[derive(Debug)]
pub(super) struct Problem {
    pub message: String,
    pub source: Option<Box<Error>>,
}

impl Problem {
    pub fn caused_by(message: &str, source: Error) -> Self {
        Self {
            message: message.to_string(),
            source: Some(Box::new(source)),
        }
    }
}

impl<T: Into<String>> From<T> for Problem {
    fn from(message: T) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }
}
