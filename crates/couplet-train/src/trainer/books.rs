//! The files that a run writes between checkpoints. Rank 0 alone has them.

use std::path::Path;

use couplet_data::{Skipped, with_causes};
use couplet_eval::metric::EVALUATION;
use couplet_eval::{ConfusionMatrix, Pointer, read_pointer};
use serde::Serialize;

use super::TrainError;
use crate::checkpoint::{RunFolder, TrainerState};
use crate::log::{JsonLines, LogError};
use crate::observer::{Event, Observer};
use crate::tensorboard::EventFile;

/// Mistakes that a text lists, and classes whose confusions are drawn, at most.
const WORST: usize = 20;
const DRAWN: usize = 128;

/// Where a run's files are.
#[derive(Debug, Clone, Copy)]
pub enum RunPlace<'a> {
    /// Of rank 0, which writes them.
    Open(&'a RunFolder),
    /// Of any other rank, which writes only if rank 0 is lost.
    Path(&'a Path),
}

impl<'a> RunPlace<'a> {
    pub(super) fn folder(self) -> Option<&'a RunFolder> {
        match self {
            Self::Open(folder) => Some(folder),
            Self::Path(_) => None,
        }
    }

    /// The path of the checkpoint that the folder says is the latest.
    pub(super) fn latest(self) -> Option<String> {
        let path = match self {
            Self::Open(folder) => folder.path(),
            Self::Path(path) => path,
        };
        match read_pointer(path, "latest") {
            Ok(Pointer::To(checkpoint)) => Some(checkpoint.display().to_string()),
            _ => None,
        }
    }
}

/// The logs of a run.
pub(super) struct Books<'a> {
    pub folder: &'a RunFolder,
    pub metrics: JsonLines,
    pub skipped: JsonLines,
    events: Option<EventFile>,
}

impl<'a> Books<'a> {
    /// - state: says where the logs end.
    /// - events: for TensorBoard, if wanted.
    pub fn open(
        folder: &'a RunFolder,
        state: &TrainerState,
        events: Option<EventFile>,
    ) -> Result<Self, LogError> {
        Ok(Self {
            folder,
            metrics: JsonLines::open(&folder.metrics(), state.metrics_len)?,
            skipped: JsonLines::open(&folder.skipped(), state.skipped_len)?,
            events,
        })
    }

    /// Appends a line to `metrics.jsonl` and its numbers to the event file.
    pub fn write_metrics(
        &mut self,
        line: &impl Serialize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.folder.check_in_place()?;
        self.metrics.write(line)?;
        let line = serde_json::to_value(line).expect("log lines serialise");
        self.write_events(observer, |events| events.write(&line));
        Ok(())
    }

    /// Writes what an evaluation confuses to the event file, as a picture and as a text.
    pub fn write_confusion(
        &mut self,
        step: u64,
        dataset: &str,
        confusion: &ConfusionMatrix,
        observer: &mut dyn Observer,
    ) {
        self.write_events(observer, |events| {
            let worst = confusion.worst_in_words(WORST);
            if !worst.is_empty() {
                let text = format!("- {}\n", worst.join("\n- "));
                events.write_text(step, &format!("{EVALUATION}{dataset}/confusions"), &text)?;
            }
            // Of more classes, nothing could be read.
            if confusion.by_class().len() > DRAWN {
                return Ok(());
            }
            match confusion.to_png() {
                Ok(png) => events.write_png(
                    step,
                    &format!("{EVALUATION}{dataset}/confusion_matrix"),
                    &png,
                ),
                Err(_) => Ok(()),
            }
        });
    }

    /// If the event file cannot be written, the run continues without it.
    fn write_events(
        &mut self,
        observer: &mut dyn Observer,
        write: impl FnOnce(&mut EventFile) -> Result<(), LogError>,
    ) {
        if let Some(Err(error)) = self.events.as_mut().map(write) {
            self.events = None;
            let text = format!(
                "stopped writing TensorBoard events: {}",
                with_causes(&error)
            );
            observer.event(Event::Warning(&text));
        }
    }

    pub fn write_skipped(&mut self, skipped: &[Skipped]) -> Result<(), TrainError> {
        for sample in skipped {
            self.skipped.write(sample)?;
        }
        Ok(())
    }
}
