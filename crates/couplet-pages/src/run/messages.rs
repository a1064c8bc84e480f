//! The warnings in `train.log`, and the steps at which they were printed.

use std::path::Path;

use serde::Serialize;

use super::file::{ReadError, text_of};

const WARNING: &str = "warning: ";

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Message {
    /// UTC.
    pub time: String,
    /// The last step that had been printed; 0 before the first.
    pub step: u64,
    pub text: String,
    /// How often it was printed: the same text again is counted, not listed.
    pub times: u64,
}

pub(super) fn warnings(log: &Path) -> Result<Vec<Message>, ReadError> {
    let text = text_of(log)?;
    let mut step = 0;
    let mut found: Vec<Message> = Vec::new();
    for line in text.lines() {
        let Some((time, text)) = line.split_once(' ') else {
            continue;
        };
        if let Some(printed) = step_of(text) {
            step = printed;
        }
        let Some(text) = text.strip_prefix(WARNING) else {
            continue;
        };
        match found.iter_mut().find(|message| message.text == text) {
            Some(message) => message.times += 1,
            None => found.push(Message {
                time: time.to_string(),
                step,
                text: text.to_string(),
                times: 1,
            }),
        }
    }
    Ok(found)
}

/// Of `step 12/240  epoch 1 …`.
fn step_of(text: &str) -> Option<u64> {
    let (step, _) = text.strip_prefix("step ")?.split_once('/')?;
    step.parse().ok()
}
