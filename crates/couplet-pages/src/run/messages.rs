//! The warnings in `train.log`, and the steps at which they were printed.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use super::file::{ReadError, text_of};

const WARNING: &str = "warning: ";

const OVERFLOW: &str = "fp16 overflowed: step";

/// Different warnings that a page shows.
const MOST: usize = 500;

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
    let mut places = HashMap::new();
    for line in text.lines() {
        let Some((time, text)) = line.split_once(' ') else {
            continue;
        };
        if let Some(printed) = step_of(text) {
            step = printed;
        }
        let text = text.strip_prefix(WARNING);
        // `metrics.jsonl` counts them.
        let Some(text) = text.filter(|text| !text.starts_with(OVERFLOW)) else {
            continue;
        };
        if let Some(at) = places.get(text) {
            let message: &mut Message = &mut found[*at];
            message.times += 1;
        } else if found.len() < MOST {
            places.insert(text.to_string(), found.len());
            found.push(Message {
                time: time.to_string(),
                step,
                text: text.to_string(),
                times: 1,
            });
        }
    }
    Ok(found)
}

/// Of `step 12/240  epoch 1 …` or `continuing after step 12`.
fn step_of(text: &str) -> Option<u64> {
    if let Some(step) = text.strip_prefix("continuing after step ") {
        return step.parse().ok();
    }
    let (step, _) = text.strip_prefix("step ")?.split_once('/')?;
    step.parse().ok()
}
