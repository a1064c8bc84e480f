//! What the ranks agree on at the start of each step, so that all take the same branch.
//!
//! Between two agreements a rank runs a fixed sequence of exchanges. What can fail on one rank alone (reading
//! data, writing files) is told at the next agreement, and all ranks leave together.

use couplet_data::loader::{LoaderError, LoaderState, check_skipped};
use couplet_data::{Skipped, with_causes};
use couplet_ranks::Lost;
use serde::{Deserialize, Serialize};

use super::{TrainError, Trainer};
use crate::comm::Comm;
use crate::ranks::{OtherRank, other_rank, settle, settle_saved};
use crate::step::StepBatch;

/// What one rank says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Word {
    /// Why it cannot go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// Whether it was asked to stop.
    stop: bool,
    /// Whether a checkpoint is due by its clock or its evaluations.
    due: bool,
    /// Seconds that it waited for its next batch.
    waited: f64,
    /// Samples that were skipped for its next batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
    /// Where its data continue after its next batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<LoaderState>,
}

/// What all ranks do next.
pub(super) struct Agreed {
    /// This rank's pairs; `None` at the end.
    pub batch: Option<StepBatch>,
    pub stop: bool,
    pub due: bool,
    /// Of all ranks, in their order.
    pub skipped: Vec<Skipped>,
    /// Where the data continue after the batch, for all ranks.
    pub next: LoaderState,
}

impl Trainer<'_> {
    /// Agrees on the next step.
    /// - fetched: this rank's pairs; `None` if the run ends here.
    ///
    /// # Errors
    /// If any rank failed or is lost; then every rank gets an error.
    pub(super) fn agree(
        &mut self,
        fetched: Result<Option<StepBatch>, TrainError>,
        stop: bool,
    ) -> Result<Agreed, TrainError> {
        let held = self.held.take().map_or(Ok(()), Err);
        let mut own = held.and(fetched);
        let mut word = Word {
            stop,
            due: self.due,
            waited: std::mem::take(&mut self.waited),
            ..Word::default()
        };
        match &mut own {
            Ok(Some(batch)) => {
                word.skipped = std::mem::take(&mut batch.skipped);
                word.next = Some(batch.next.clone());
            }
            Ok(None) => {}
            Err(error) => {
                word.failed = Some(with_causes(&*error));
                if let TrainError::Data(LoaderError::TooManySkipped { list, .. }) = error {
                    word.skipped.clone_from(list);
                }
            }
        }
        let words = self.exchange(word)?;
        let first = words.iter().position(|word| word.failed.is_some());
        let stop = words.iter().any(|word| word.stop);
        let due = words[0].due;
        // The slowest rank's data make all wait.
        self.window.waited += words.iter().map(|word| word.waited).fold(0.0, f64::max);
        let (mut skipped, mut next, mut message) = (Vec::new(), Vec::new(), None);
        for (rank, word) in words.into_iter().enumerate() {
            skipped.extend(word.skipped);
            next.extend(word.next);
            if first == Some(rank) {
                message = word.failed;
            }
        }
        if let (Some(rank), Some(message)) = (first, message) {
            self.unreported = skipped;
            own?;
            return Err(TrainError::OtherRank {
                failure: other_rank(&self.context.comm, rank, message),
                last_good: self.last_good(),
            });
        }
        // All ranks are here: what was logged of this step is complete.
        self.state.unevaluated = false;
        let batch = own?.filter(|_| !stop);
        let next = LoaderState::merge(next);
        if batch.is_some() {
            self.check_skipped(&skipped)?;
        }
        let next = match (next, &batch) {
            (Some(next), _) => next,
            (None, None) => self.state.position.clone(),
            (None, Some(_)) => return Err(TrainError::OtherPlaces),
        };
        Ok(Agreed {
            batch,
            stop,
            due,
            skipped,
            next,
        })
    }

    /// Fails if the ranks together have skipped too many samples. A loader knows only its own.
    fn check_skipped(&mut self, skipped: &[Skipped]) -> Result<(), TrainError> {
        if self.context.comm.is_alone() {
            return Ok(());
        }
        let data = &self.run.data;
        let position = &self.state.position;
        let lost: usize = skipped
            .iter()
            .map(|one| one.samples.saturating_sub(1))
            .sum();
        let counts = (position.skipped() + skipped.len(), position.lost() + lost);
        let (len, limit) = (data.epoch_len, data.table.max_skipped);
        let Some(mut error) = check_skipped(position.epoch, len, counts, limit) else {
            return Ok(());
        };
        self.unreported = skipped.to_vec();
        if let LoaderError::TooManySkipped { list, .. } = &mut error {
            *list = skipped.to_vec();
        }
        Err(error.into())
    }

    /// The words of all ranks.
    fn exchange(&self, own: Word) -> Result<Vec<Word>, TrainError> {
        let comm = &self.context.comm;
        if comm.is_alone() {
            return Ok(vec![own]);
        }
        let own = serde_json::to_vec(&own).expect("a word serialises");
        let words = comm.gather("the ranks to agree on a step", own);
        let words = words.map_err(|lost| self.lost(lost))?;
        let words = words.iter().enumerate().map(|(rank, word)| {
            serde_json::from_slice(word).unwrap_or_else(|_| Word {
                failed: Some(format!("rank {rank} runs another version of Couplet")),
                ..Word::default()
            })
        });
        Ok(words.collect())
    }

    /// Agrees that no rank has failed since the last agreement.
    /// - own: what this rank did.
    ///
    /// # Errors
    /// If any rank failed or is lost; then every rank gets an error.
    pub(super) fn settle(&mut self, own: Result<(), TrainError>) -> Result<(), TrainError> {
        self.settle_by(own, settle)
    }

    /// The same after rank 0 has written a checkpoint, for which the others wait also after a signal to stop.
    pub(super) fn settle_saved(&mut self, own: Result<(), TrainError>) -> Result<(), TrainError> {
        self.settle_by(own, settle_saved)
    }

    fn settle_by(
        &mut self,
        own: Result<(), TrainError>,
        settle: impl FnOnce(&Comm, Option<String>) -> Result<Option<OtherRank>, Lost>,
    ) -> Result<(), TrainError> {
        let own = self.held.take().map_or(own, Err);
        let failed = own.as_ref().err().map(|error| with_causes(error));
        let failure = settle(&self.context.comm, failed);
        let failure = failure.map_err(|lost| self.lost(lost))?;
        own?;
        let last_good = self.last_good();
        failure.map_or(Ok(()), |failure| {
            Err(TrainError::OtherRank { failure, last_good })
        })
    }

    /// Keeps a failure of this rank for the next agreement; a rank that is alone fails at once.
    pub(super) fn hold(&mut self, own: Result<(), TrainError>) -> Result<(), TrainError> {
        if self.context.comm.is_alone() {
            return own;
        }
        if let Err(error) = own {
            self.held.get_or_insert(error);
        }
        Ok(())
    }
}
