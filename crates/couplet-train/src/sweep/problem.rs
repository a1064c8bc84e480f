//! A problem of a sweep's config.

use toml::de::Error;

use crate::config::ConfigIssue;

#[derive(Debug, PartialEq)]
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

impl Problem {
    /// As a mistake in the sweep's file; the message begins with the key.
    pub fn into_issue(self) -> ConfigIssue {
        let (key, mut text) = match self.message.split_once(": ") {
            Some((key, text)) => (key.replace('"', ""), text.to_string()),
            None => (String::new(), self.message),
        };
        if let Some(source) = &self.source {
            text.push_str(&format!(": {}", source.message()));
        }
        ConfigIssue::new(&key, text)
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
