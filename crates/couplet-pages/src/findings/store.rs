//! Findings in a run's folder, for whoever reads the numbers of a page, and for the next page.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use couplet_eval::FINDINGS_FOLDER;
use serde::{Deserialize, Serialize};

use super::predictions::Prediction;
use super::{Findings, Looked};

const FILE: &str = "findings.json";

/// Where a run's findings are.
pub fn findings_folder(run: &Path) -> PathBuf {
    run.join(FINDINGS_FOLDER)
}

/// Findings, and what they are of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    /// Name and version of what found them.
    program: String,
    /// The step of the checkpoint, and its file of weights in the run's folder.
    step: Option<u64>,
    weights: String,
    looked: Looked,
    #[serde(flatten)]
    findings: Findings,
    /// Of each dataset with classes, in the findings' order.
    #[serde(skip)]
    predictions: Vec<Vec<Prediction>>,
}

impl Stored {
    /// - step, weights: of the checkpoint.
    pub fn new(
        program: &str,
        (step, weights): (Option<u64>, &Path),
        looked: Looked,
        mut findings: Findings,
    ) -> Self {
        let predictions = findings
            .classes
            .iter_mut()
            .map(|one| std::mem::take(&mut one.predictions));
        Self {
            program: program.to_string(),
            step,
            weights: weights.display().to_string(),
            looked,
            predictions: predictions.collect(),
            findings,
        }
    }

    /// The findings in a run's folder, if they are of this checkpoint, this version and as much data.
    pub fn read(run: &Path, program: &str, weights: &Path, looked: Looked) -> Option<Self> {
        let stored = Self::last(run)?;
        let is_same = stored.program == program
            && stored.weights == weights.display().to_string()
            && stored.looked == looked;
        // What could not be looked at then may be there now.
        (is_same && stored.findings.problems.is_empty()).then_some(stored)
    }

    /// The findings in a run's folder, whatever they are of.
    pub fn last(run: &Path) -> Option<Self> {
        let folder = findings_folder(run);
        let bytes = fs::read(folder.join(FILE)).ok()?;
        let mut stored: Self = serde_json::from_slice(&bytes).ok()?;
        for one in &stored.findings.classes {
            let text = fs::read_to_string(folder.join(predictions_file(&one.dataset))).ok()?;
            let lines = text
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<Vec<_>, _>>();
            stored.predictions.push(lines.ok()?);
        }
        Some(stored)
    }

    /// Writes them into a run's folder.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn write(&self, run: &Path) -> io::Result<()> {
        let folder = findings_folder(run);
        fs::create_dir_all(&folder)?;
        for (one, predictions) in self.findings.classes.iter().zip(&self.predictions) {
            let mut text = Vec::new();
            for prediction in predictions {
                serde_json::to_writer(&mut text, prediction)?;
                text.push(b'\n');
            }
            write(&folder.join(predictions_file(&one.dataset)), &text)?;
            let csv = folder.join(format!("confusion-{}.csv", one.dataset));
            write(&csv, one.confusion_csv.as_bytes())?;
        }
        // Last: whoever finds it finds the others.
        write(&folder.join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// The datasets with classes, and what the model says of their images.
    pub(crate) fn predictions(&self) -> impl Iterator<Item = (&str, &[Prediction])> {
        let names = self.findings.classes.iter().map(|one| one.dataset.as_str());
        names.zip(self.predictions.iter().map(Vec::as_slice))
    }
}

fn predictions_file(dataset: &str) -> String {
    format!("predictions-{dataset}.jsonl")
}

/// Replaces a file as a whole.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
