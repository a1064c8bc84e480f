//! Whether a run lasts, and how it ended.

use std::path::Path;

use couplet_train::RunFolder;
use serde::Serialize;
use serde_json::Value;

/// What a run does, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Running,
    Finished,
    /// Stopped by a signal; can be resumed.
    Interrupted,
    Failed,
    /// Its process ended without a word.
    Killed,
    /// A run of an earlier version, without a record.
    Unknown,
}

impl State {
    /// - starts: of the run's record.
    pub(super) fn of(folder: &Path, starts: &[Value]) -> Self {
        if RunFolder::is_held(folder) == Some(true) {
            return Self::Running;
        }
        match starts.last().map(|start| start["outcome"].as_str()) {
            None => Self::Unknown,
            Some(None) => Self::Killed,
            Some(Some("finished")) => Self::Finished,
            Some(Some("interrupted")) => Self::Interrupted,
            Some(Some(_)) => Self::Failed,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Unknown => "unknown",
        })
    }
}
