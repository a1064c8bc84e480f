//! The samples of all shards one after the other, before they are permuted.

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

/// Shards that are read at once, so that neighbours in one shard are none in a block.
const LANES: usize = 4;
/// Samples that a shard's reader may be ahead.
const AHEAD: usize = 32;
/// Most samples that a shard is thought to hold before one was read whole: as many as
/// img2dataset writes into one.
const MOST_GUESSED: usize = 10_000;

/// The order of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardOrder {
    /// As they are listed, one at a time.
    Listed,
    Random {
        seed: u64,
        /// Drawn with replacement.
        resample: bool,
    },
}

/// Reads shards, each in a thread of its own.
pub(crate) struct Walk {
    shards: Arc<dyn ShardedDataset>,
    order: ShardOrder,
    epoch: u64,
    pass: u64,
    /// The shards of this pass in their order.
    list: Vec<usize>,
    begun: usize,
    lanes: Vec<Lane>,
    turn: usize,
    whole: usize,
    whole_samples: usize,
    /// Samples of a shard as long as nothing is known of it.
    guess: usize,
}

struct Lane {
    mark: ShardState,
    samples: Receiver<StreamSample>,
}

impl Walk {
    /// - epoch_len: samples of an epoch, as far as it has been said.
    /// - mark: where to go on; the epoch's beginning by default.
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

    /// Where it is, for [`Self::new`].
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
        let lanes = if self.order == ShardOrder::Listed {
            1
        } else {
            LANES
        };
        while self.lanes.len() < lanes
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
                mark.weigh(&mut sample, held);
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

    /// How many samples a shard is thought to hold.
    fn shard_samples(&self) -> usize {
        let seen = self.whole_samples.checked_div(self.whole);
        match self.shards.samples() {
            Some(_) => self.guess,
            None => seen.unwrap_or(self.guess),
        }
    }

    /// Begins another pass over all shards.
    pub fn next_pass(&mut self) {
        self.pass += 1;
        self.list = pass_list(self.shards.as_ref(), self.order, self.epoch, self.pass);
        self.begun = 0;
        self.turn = 0;
        self.lanes.clear();
    }

    /// The next shard of the pass, from its beginning.
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
        let (sender, samples) = sync_channel(AHEAD);
        let (shards, epoch) = (self.shards.clone(), self.epoch);
        let last_words = sender.clone();
        let read = move || {
            let mut reached = mark.from;
            let read = AssertUnwindSafe(|| {
                shards.read(mark.shard, mark.from, epoch, &mut |sample| {
                    reached = sample.next;
                    sender.send(sample).is_ok()
                });
            });
            if catch_unwind(read).is_err() {
                lost(&sender, reached, "the shard's reader panicked");
            }
        };
        let thread = thread::Builder::new().name("shard".into()).spawn(read);
        if let Err(error) = thread {
            let message = format!("no thread to read the shard: {error}");
            lost(&last_words, mark.from, &message);
        }
        Lane { mark, samples }
    }
}

impl ShardState {
    /// Moves past a sample, and sets what an error costs.
    /// - held: samples that the shard is thought to hold.
    fn weigh(&mut self, sample: &mut StreamSample, held: usize) {
        self.from = sample.next;
        self.given += 1;
        let Some(lost) = sample.lost else {
            return;
        };
        self.damaged = true;
        if let Err(fault) = &mut sample.sample {
            fault.samples = lost.samples(held, self.given - 1);
        }
    }
}

/// Says that the rest of a shard was not read.
fn lost(sender: &SyncSender<StreamSample>, next: u64, message: &str) {
    // Nobody may listen any more.
    let _ = sender.send(StreamSample {
        key: format!("after byte {next}"),
        sample: Err(SampleError::new(SkipCause::Unreadable, message)),
        next: u64::MAX,
        lost: Some(Lost::Rest),
    });
}

/// The shards of one pass, each as often as it weighs.
fn pass_list(shards: &dyn ShardedDataset, order: ShardOrder, epoch: u64, pass: u64) -> Vec<usize> {
    let ShardOrder::Random { seed, resample } = order else {
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
        return list;
    }
    list.shuffle(&mut rng);
    list
}
