//! Batches in a fixed order, made ahead of the training loop by the loader's own threads.
//!
//! The content of a batch depends on (seed, epoch, dataset, number of parts) alone, never on the number
//! of threads or ranks: an unusable sample is replaced by the next one of its part's order, and the
//! positions of all parts after a batch are all that resuming needs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rayon::ThreadPoolBuilder;

use crate::error::LastCause;
use crate::read_ahead::ReadAhead;
use crate::source::PairDataset;
use crate::stages::{StageClock, StageTimes};

mod batch;
mod error;
mod maker;
mod options;
mod samples;
mod state;

pub use batch::{HostBatch, TOKEN_MULTIPLE, TokenOptions};
pub use error::{LoaderError, check_skipped};
use maker::BatchMaker;
pub use options::LoaderOptions;
pub use state::{LoaderState, PartState};

/// Finished batches that may wait for the training loop, in addition to the one being made.
const QUEUE: usize = 2;
/// Pixels held in addition to one whole batch: this many bytes, or this fraction of a batch.
const READ_AHEAD_BYTES: usize = 8 << 20;
const READ_AHEAD_PART: usize = 16;

/// Makes batches in the background until it is dropped.
#[derive(Debug)]
pub struct Loader {
    batches: Receiver<Result<HostBatch, LoaderError>>,
    room: Arc<ReadAhead>,
    clock: Arc<StageClock>,
}

impl Loader {
    /// Starts making batches at `position`.
    /// - position: of the loader's own parts.
    ///
    /// # Errors
    /// If the system cannot start threads.
    ///
    /// # Panics
    /// If the position has another number of parts.
    pub fn start(
        dataset: PairDataset,
        options: LoaderOptions,
        mut position: LoaderState,
    ) -> std::io::Result<Self> {
        let own = options.parts.own.len();
        if position.parts.is_empty() {
            position.parts = LoaderState::start_of(0, own).parts;
        }
        assert_eq!(
            position.parts.len(),
            own,
            "a position of the loader's parts"
        );
        let (sender, batches) = sync_channel(QUEUE);
        let batch_bytes = options.own_rows() * options.transform.output_len();
        let extra = READ_AHEAD_BYTES.max(batch_bytes / READ_AHEAD_PART);
        let room = ReadAhead::new(batch_bytes + extra);
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|at| format!("loader-{at}"))
            .build()
            .map_err(|error| std::io::Error::other(LastCause(error)))?;
        let clock = Arc::new(StageClock::default());
        let maker = BatchMaker {
            dataset,
            options,
            pool,
            room: room.clone(),
            clock: clock.clone(),
        };
        thread::Builder::new()
            .name("loader".into())
            .spawn(move || maker.run(position, &sender))?;
        Ok(Self {
            batches,
            room,
            clock,
        })
    }

    /// The time that all threads have spent in each stage so far.
    pub fn stage_times(&self) -> StageTimes {
        self.clock.times()
    }

    /// What [`Self::stage_times`] reads, for whoever gives the loader away.
    pub fn clock(&self) -> Arc<StageClock> {
        self.clock.clone()
    }

    /// The next batch, if it is ready.
    ///
    /// # Errors
    /// As [`Self::next_batch`].
    pub fn ready_batch(&self) -> Option<Result<HostBatch, LoaderError>> {
        self.batches.try_recv().ok()
    }

    /// The next batch; blocks until it is ready.
    ///
    /// # Errors
    /// If too many samples were skipped, or the loader's thread died.
    pub fn next_batch(&self) -> Result<HostBatch, LoaderError> {
        self.room.set_awaited(true);
        let batch = self.batches.recv().unwrap_or(Err(LoaderError::Died));
        self.room.set_awaited(false);
        batch
    }

    /// The next batch, if it is ready within some time.
    ///
    /// # Errors
    /// As [`Self::next_batch`].
    pub fn batch_within(&self, time: Duration) -> Option<Result<HostBatch, LoaderError>> {
        self.room.set_awaited(true);
        let batch = self.batches.recv_timeout(time);
        self.room.set_awaited(false);
        match batch {
            Ok(batch) => Some(batch),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(LoaderError::Died)),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Unblocks the maker, so that it notices that the receiver is gone.
        self.room.set_awaited(true);
    }
}

#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod tests;
