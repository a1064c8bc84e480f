//! Tokens that a config names.

use serde_json::Value;

/// A token given as its text, or as an object with it.
pub(super) fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
