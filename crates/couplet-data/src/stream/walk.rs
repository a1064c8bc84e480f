//! The samples of all shards in sequence, before they are permuted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::{ShardState, ShardedDataset, StreamSample, StreamState};
use crate::draw::{Purpose, stream};
use crate::formats::Lost;
use crate::sample::{SampleError, SkipCause};

/// Shards that are read at once, so that neighbors in a shard are not neighbors in a block. The parts of
/// a batch share them, and each reads one at least.
const LANES: usize = 4;
/// Samples that the readers of all shards may be ahead of the walks, and at least each of them.
const AHEAD: usize = 128;
const LEAST_AHEAD: usize = 2;
/// The largest estimate of a shard's samples before one has been read completely: as many as
/// img2dataset writes to a shard.
const MOST_GUESSED: usize = 10_000;

/// The order of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardOrder {
    /// As listed, one at a time.
    Listed,
    Random {
        seed: u64,
        /// Whether shards are drawn with replacement.
        resample: bool,
        /// The part of a batch that the samples are for, and the number of parts: each has its own
        /// shards of a pass.
        part: (usize, usize),
        /// The number of parts that this process reads.
        own_parts: usize,
    },
}

impl ShardOrder {
    /// Shards that are read at once.
    fn lanes(self) -> usize {
        match self {
            Self::Listed => 1,
            Self::Random { part, .. } => (LANES / part.1).max(1),
        }
    }

    /// Samples that a shard's reader may be ahead of the walk.
    fn ahead(self) -> usize {
        match self {
            Self::Listed => AHEAD / LANES,
            Self::Random { own_parts, .. } => {
                (AHEAD / (own_parts * self.lanes())).clamp(LEAST_AHEAD, AHEAD / LANES)
            }
        }
    }
}

/// Reads shards, each in its own thread.
pub(crate) struct Walk {
    shards: Arc<dyn ShardedDataset>,
    order: ShardOrder,
    epoch: u64,
    pass: u64,
    /// The shards of this pass, in order.
    list: Vec<usize>,
    begun: usize,
    lanes: Vec<Lane>,
    turn: usize,
    whole: usize,
    whole_samples: usize,
    /// Estimated samples per shard until one has been read completely.
    guess: usize,
}

struct Lane {
    mark: ShardState,
    samples: Receiver<StreamSample>,
}

impl Walk {
    /// - epoch_len: samples per epoch, if it is set.
    /// - mark: where to continue; the epoch's beginning by default.
    pub fn new(
        shards: Arc<dyn ShardedDataset>,
        order: ShardOrder,
        (epoch, epoch_len): (u64, Option<usize>),
        mark: Option<&StreamState>,
    ) -> Self {
        let each = |samples: usize| samples / shards.len().max(1);
        let guess = epoch_len.map_or(1, |len| each(len).min(MOST_GUESSED));
        let guess = shards.samples().map_or(guess, each);
        let mark = mark.cloned().unwrap_or_default();
        let mut walk = Self {
            list: pass_list(shards.as_ref(), order, epoch, mark.pass),
            shards,
            order,
            epoch,
            pass: mark.pass,
            begun: mark.begun,
            lanes: Vec::new(),
            turn: mark.turn,
            whole: mark.whole,
            whole_samples: mark.whole_samples,
            guess,
        };
        walk.lanes = mark.lanes.iter().map(|lane| walk.open(*lane)).collect();
        walk
    }

    /// The current position, for [`Self::new`].
    pub fn mark(&self, place: usize) -> StreamState {
        StreamState {
            place,
            pass: self.pass,
            begun: self.begun,
            lanes: self.lanes.iter().map(|lane| lane.mark).collect(),
            turn: self.turn,
            whole: self.whole,
            whole_samples: self.whole_samples,
        }
    }

    /// The next sample with its shard; `None` at the end of a pass.
    pub fn next(&mut self) -> Option<(usize, StreamSample)> {
        while self.lanes.len() < self.order.lanes()
            && let Some(lane) = self.begin()
        {
            self.lanes.push(lane);
        }
        while !self.lanes.is_empty() {
            let turn = self.turn % self.lanes.len();
            self.turn = turn;
            if let Ok(mut sample) = self.lanes[turn].samples.recv() {
                let held = self.shard_samples();
                let mark = &mut self.lanes[turn].mark;
                mark.advance(&mut sample, held);
                self.turn = turn + 1;
                return Some((mark.shard, sample));
            }
            let ended = self.lanes[turn].mark;
            if !ended.damaged {
                self.whole += 1;
                self.whole_samples += ended.given;
            }
            match self.begin() {
                Some(lane) => self.lanes[turn] = lane,
                None => drop(self.lanes.remove(turn)),
            }
        }
        None
    }

    /// The estimated number of samples per shard.
    fn shard_samples(&self) -> usize {
        let seen = self.whole_samples.checked_div(self.whole);
        match self.shards.samples() {
            Some(_) => self.guess,
            None => seen.unwrap_or(self.guess),
        }
    }

    /// Starts another pass over all shards.
    pub fn next_pass(&mut self) {
        self.pass += 1;
        self.list = pass_list(self.shards.as_ref(), self.order, self.epoch, self.pass);
        self.begun = 0;
        self.turn = 0;
        self.lanes.clear();
    }

    /// Opens the next shard of the pass at its beginning.
    fn begin(&mut self) -> Option<Lane> {
        let shard = *self.list.get(self.begun)?;
        self.begun += 1;
        Some(self.open(ShardState {
            shard,
            from: 0,
            given: 0,
            damaged: false,
        }))
    }

    fn open(&self, mark: ShardState) -> Lane {
        let (sender, samples) = sync_channel(self.order.ahead());
        let (shards, epoch) = (self.shards.clone(), self.epoch);
        let spare_sender = sender.clone();
        let read = move || {
            let mut reached = mark.from;
            let read = AssertUnwindSafe(|| {
                shards.read(mark.shard, mark.from, epoch, &mut |sample| {
                    reached = sample.next;
                    sender.send(sample).is_ok()
                });
            });
            if catch_unwind(read).is_err() {
                report_lost(&sender, reached, "the shard's reader panicked");
            }
        };
        let thread = thread::Builder::new().name("shard".into()).spawn(read);
        if let Err(error) = thread {
            let message = format!("cannot start a thread to read the shard: {error}");
            report_lost(&spare_sender, mark.from, &message);
        }
        Lane { mark, samples }
    }
}

impl ShardState {
    /// Moves past a sample, and sets the number of samples that an error loses.
    /// - held: the estimated number of samples in the shard.
    fn advance(&mut self, sample: &mut StreamSample, held: usize) {
        self.from = sample.next;
        self.given += 1;
        let Some(lost) = sample.lost else {
            return;
        };
        self.damaged = true;
        if let Err(error) = &mut sample.sample {
            error.samples = lost.samples(held, self.given - 1);
        }
    }
}

/// Reports that the rest of a shard was not read.
fn report_lost(sender: &SyncSender<StreamSample>, next: u64, message: &str) {
    // The receiver may be gone.
    let _ = sender.send(StreamSample {
        key: format!("after byte {next}"),
        sample: Err(SampleError::new(SkipCause::Unreadable, message)),
        next: u64::MAX,
        lost: Some(Lost::Rest),
    });
}

/// The shards of one pass, each as often as its weight says; of those, the part's. The deal begins with
/// another part in each pass, so that all get shards, however few there are.
fn pass_list(shards: &dyn ShardedDataset, order: ShardOrder, epoch: u64, pass: u64) -> Vec<usize> {
    let ShardOrder::Random {
        seed,
        resample,
        part: (part, parts),
        ..
    } = order
    else {
        return (0..shards.len()).collect();
    };
    let mut rng = stream(seed, Purpose::Shards, epoch, pass);
    let mut list = Vec::new();
    for shard in 0..shards.len() {
        let weight = shards.weight(shard);
        let mut times = weight.floor();
        if rng.random_range(0.0..1.0) < weight - times {
            times += 1.0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a weight is a small positive number"
        )]
        list.extend(std::iter::repeat_n(shard, times as usize));
    }
    if resample && !list.is_empty() {
        let drawn = list.clone();
        for shard in &mut list {
            *shard = drawn[rng.random_range(0..drawn.len())];
        }
    } else {
        list.shuffle(&mut rng);
    }
    let begins = usize::try_from(pass % parts as u64).unwrap_or(0);
    let dealt = list.into_iter().enumerate();
    let own = dealt.filter(|(at, _)| (at + begins) % parts == part);
    own.map(|(_, shard)| shard).collect()
}
