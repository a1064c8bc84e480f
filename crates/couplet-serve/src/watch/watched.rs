//! What is watched: a run, or folders of runs. A request names runs among these, and nothing else is read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use couplet_data::with_causes;
use couplet_pages::{ReadError, Report, Run, RunList, Stored, find_runs};
use tokio::sync::Semaphore;

use crate::api_error::ApiError;

/// Pages that may be open at a time.
const PAGES: usize = 16;
/// Runs of a page at most.
pub(super) const MOST_RUNS: usize = 32;

/// What was read last, and when runs may be read again.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub not_before: Option<Instant>,
    pub last: Option<Read>,
}

/// What pages are told of runs in a state.
#[derive(Debug)]
pub(super) struct Read {
    /// `None` for the list of all.
    pub runs: Option<Vec<PathBuf>>,
    pub stamps: Vec<Stamp>,
    pub json: Arc<str>,
}

/// What tells that a file has changed.
pub(super) type Stamp = Option<(u64, Option<SystemTime>)>;

/// Runs that pages show.
#[derive(Debug)]
pub struct Watched {
    /// Name and version of what shows them.
    program: String,
    places: Vec<PathBuf>,
    /// Whether the one place is a run, also before it has a log.
    is_run: bool,
    pub(super) open: Arc<Semaphore>,
    /// One reading at a time, whoever asks.
    pub(super) reading: tokio::sync::Mutex<Reading>,
}

impl Watched {
    /// - program: name and version of what shows the pages; places: runs, or folders of runs.
    pub fn new(program: &str, places: Vec<PathBuf>) -> Self {
        Self::of(program, places, false)
    }

    /// A run whose folder may not have a log yet.
    pub fn of_run(program: &str, run: PathBuf) -> Self {
        Self::of(program, vec![run], true)
    }

    fn of(program: &str, places: Vec<PathBuf>, is_run: bool) -> Self {
        Self {
            program: program.to_string(),
            places,
            is_run,
            open: Arc::new(Semaphore::new(PAGES)),
            reading: tokio::sync::Mutex::new(Reading::default()),
        }
    }

    /// The run that the first page shows; `None` for a list.
    pub(super) fn single(&self) -> Option<&PathBuf> {
        let [place] = &self.places[..] else {
            return None;
        };
        // It may have begun since the server started.
        (self.is_run || place.join("metrics.jsonl").is_file()).then_some(place)
    }

    /// The folders of the runs that a request names.
    pub(super) fn named(&self, names: &[String]) -> Result<Vec<PathBuf>, ApiError> {
        if names.len() > MOST_RUNS {
            return Err(ApiError::invalid(
                "run",
                format!("at most {MOST_RUNS} runs at a time"),
            ));
        }
        if self.single().is_some() {
            return Ok(self.places.clone());
        }
        let found = self.found();
        let runs = names.iter().map(|name| {
            let run = found.iter().find(|run| run.display().to_string() == *name);
            run.cloned()
                .ok_or_else(|| ApiError::not_found(format!("there is no run `{name}` here")))
        });
        runs.collect()
    }

    /// - with_findings: those that are in the runs' folders; they are long, and do not change while a page is open.
    pub(super) fn report(
        &self,
        runs: &[PathBuf],
        events: &str,
        with_findings: bool,
    ) -> Result<Report, ApiError> {
        let runs = runs.iter().map(|path| {
            let run = Run::read(path)?;
            Ok(match Stored::last(path).filter(|_| with_findings) {
                Some(found) => run.with_findings(found),
                None => run,
            })
        });
        let runs = runs.collect::<Result<Vec<_>, ReadError>>();
        let runs = runs.map_err(|error| ApiError::not_found(with_causes(&error)))?;
        Ok(Report::new(&self.program, runs).live(events))
    }

    pub(super) fn list(&self) -> RunList {
        RunList::read(&self.program, &self.places, "/events")
    }

    /// The runs that are there now.
    pub(super) fn found(&self) -> Vec<PathBuf> {
        let places = self.places.iter();
        let found = places.flat_map(|place| find_runs(place, |_, _| ()).unwrap_or_default());
        found.collect()
    }
}
