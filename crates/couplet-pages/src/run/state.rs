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
    /// No process trains in the folder, and no end is recorded.
    Killed,
    /// Without a record, as of an earlier version, or without the lock that would tell, as in a copy.
    Unknown,
}

impl State {
    /// - starts: of the run's record.
    pub(super) fn of(folder: &Path, starts: &[Value]) -> Self {
        let is_held = RunFolder::is_held(folder);
        if is_held == Some(true) {
            return Self::Running;
        }
        match starts.last().map(|start| start["outcome"].as_str()) {
            None => Self::Unknown,
            Some(None) if is_held.is_none() => Self::Unknown,
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
