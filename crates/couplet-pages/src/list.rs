//! A page that lists runs.

use std::path::PathBuf;

use serde::Serialize;

use crate::find::find_runs;
use crate::page::{self, Kind};
use crate::run::{BestValue, Summary};

/// Runs in folders, a line each, on a page that a server shows.
#[derive(Debug, Serialize)]
pub struct RunList {
    program: String,
    /// Where the page's server sends lists.
    live: String,
    folders: Vec<String>,
    runs: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    summary: Summary,
    best_shown: Option<String>,
}

impl RunList {
    /// Reads the runs in folders; what cannot be read is left out.
    /// - program: name and version of what shows it; events: the path at which the page's server sends lists.
    pub fn read(program: &str, folders: &[PathBuf], events: &str) -> Self {
        let found = folders
            .iter()
            .flat_map(|folder| find_runs(folder, |_, _| ()).unwrap_or_default());
        let runs = found
            .filter_map(|run| Summary::read(&run).ok())
            .map(|summary| Line {
                best_shown: summary.best.as_ref().map(BestValue::shown),
                summary,
            });
        Self {
            program: program.to_string(),
            live: events.to_string(),
            folders: folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect(),
            runs: runs.collect(),
        }
    }

    /// What the page shows, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("lists serialise")
    }

    /// The page.
    pub fn html(&self) -> String {
        page::html(Kind::List, "Runs", self)
    }
}
