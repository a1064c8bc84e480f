//! The state that a run starts or resumes from.

use std::collections::HashSet;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use couplet_data::StageTimes;
use couplet_data::loader::LoaderState;
use couplet_data::printable_path;
use couplet_data::source::PairDataset;
use couplet_eval::{ChosenCheckpoint, HEAD_FILE, choose_model};
use couplet_loss::Loss;
use couplet_model::{ClassifierHead, Clip, FileDigest, Loaded, load_as};
use couplet_ranks::Lost;

use super::average::start_of_average;
use super::books::{Books, RunPlace};
use super::classes::{describe_head, first_head};
use super::guard::start_of;
use super::position::{check_length, recount, regroup};
use super::share::{share_model, share_moments};
use super::{TrainError, Trainer, Window, data_plane};
use crate::checkpoint::{Checkpoint, RunFolder, TrainerState, UpdatesOf};
use crate::comm::Comm;
use crate::config::{MicroBatch, ResolvedRun};
use crate::device::DeviceSetting;
use crate::device_memory::settle;
use crate::diagnosis::Diagnosis;
use crate::ema::Ema;
use crate::optimizer::ModelOptimizer;
use crate::overfitting::Overfitting;
use crate::ranks::{Disagreement, Ranks, other_rank};
use crate::step::{Objective, StepContext, StepOptions};
use crate::tensorboard::EventFile;

impl<'a> Trainer<'a> {
    /// Loads the folder's latest checkpoint, or initialises a new run. Rank 0 does, and gives it to the others.
    ///
    /// # Errors
    /// If the device, the weights or the run's files cannot be opened on any rank, or a rank is lost.
    pub(super) fn open(
        run: &'a ResolvedRun,
        place: RunPlace<'a>,
        comm: &Comm,
    ) -> Result<Self, TrainError> {
        check_equal(run, comm)?;
        let (comm, exchanges) = data_plane::settle(run.config.ranks.data, run.config.device, comm)?;
        let comm = &comm;
        let mut opened = agree(comm, begin(run, place, comm))?;
        opened.notes.extend(exchanges);
        let slow = run.config.device.slow_because(run.config.precision);
        opened.notes.extend(slow.map(str::to_string));
        opened.notes.extend(run.config.device.kernel_cache_note());
        if run.config.batch.micro == Some(MicroBatch::Auto) {
            opened.agree_on_micro_batch(comm)?;
        }
        let books = place.folder().map(|folder| opened.books(run, folder));
        let books = agree(comm, books.transpose())?;
        let opened = share(opened, comm)?;
        let run_id = place
            .folder()
            .map_or(&[][..], |folder| folder.id().as_bytes())
            .to_vec();
        let run_id = comm
            .of_first("the run's ID", run_id)
            .map_err(lost_at_start)?;
        let Opened {
            context,
            model,
            optimizer,
            ema,
            start,
            state,
            checkpoint,
            notes,
        } = opened;
        let now = Instant::now();
        Ok(Self {
            context,
            time_before: state.time,
            run,
            place,
            spec: run.config.model.spec(),
            preprocess: run.data.preprocess.clone(),
            model: Some(settle(model)),
            optimizer,
            ema,
            start,
            diagnosis: Diagnosis::default(),
            overfitting: match (&checkpoint, &books) {
                (Some(_), Some(books)) => Overfitting::of_log(&books.folder.metrics()),
                _ => Overfitting::default(),
            },
            books,
            due: false,
            held: None,
            run_id: String::from_utf8_lossy(&run_id).into_owned(),
            pending: Vec::new(),
            saved_unevaluated: state.unevaluated,
            last_line: None,
            unreported: Vec::new(),
            skipped_in_epoch: (state.position.skipped() + state.position.lost()) as u64,
            first_skipped: None,
            skipped_len: state.skipped_len,
            state,
            checkpoint,
            notes,
            reported_unreadable: HashSet::new(),
            window: Window::new(),
            waited: 0.0,
            loading: StageTimes::default(),
            loading_before: StageTimes::default(),
            started: now,
            epoch_started: now,
            saved_at: now,
        })
    }
}

/// What a run starts or goes on with.
struct Opened {
    context: StepContext,
    model: Clip,
    optimizer: ModelOptimizer,
    ema: Option<Ema>,
    start: Option<Clip>,
    state: TrainerState,
    /// On rank 0, if there is one.
    checkpoint: Option<Checkpoint>,
    notes: Vec<String>,
}

impl Opened {
    /// Takes the smallest micro-batch of all ranks, by which they divide evaluations too, and keeps it for when the run goes
    /// on.
    fn agree_on_micro_batch(&mut self, comm: &Comm) -> Result<(), TrainError> {
        let own = (self.context.micro_batch as u64).to_le_bytes().to_vec();
        let all = comm.gather("the ranks to agree on batch.micro", own);
        let number = |bytes: Vec<u8>| <[u8; 8]>::try_from(bytes).ok().map(u64::from_le_bytes);
        let least = all
            .map_err(lost_at_start)?
            .into_iter()
            .filter_map(number)
            .min();
        let least = least.and_then(|least| usize::try_from(least).ok());
        let own = &mut self.context.micro_batch;
        *own = least.unwrap_or(*own).min(*own);
        self.state.micro_batch = Some(*own);
        Ok(())
    }
}

/// This rank's value, if every rank has one.
fn agree<T>(comm: &Comm, own: Result<T, TrainError>) -> Result<T, TrainError> {
    let agreed = Ranks(comm.clone()).agree(own);
    agreed.map_err(|disagreement| match disagreement {
        Disagreement::Own(error) => error,
        Disagreement::Other(failure) => TrainError::OtherRank {
            failure,
            last_good: None,
        },
        Disagreement::Lost(lost) => lost_at_start(lost),
    })
}

/// Checks that all ranks train the same model on the same data.
fn check_equal(run: &ResolvedRun, comm: &Comm) -> Result<(), TrainError> {
    const WHAT: [&str; 2] = ["config", "listing of the training data"];
    if comm.is_alone() {
        return Ok(());
    }
    let mut config = run.config.clone();
    // Each has its own device, of the same kind.
    config.device = match config.device.resolved() {
        DeviceSetting::Cuda(_) => DeviceSetting::Cuda(0),
        DeviceSetting::Rocm(_) => DeviceSetting::Rocm(0),
        other => other,
    };
    let digests = [config.to_toml(), run.data.set.listing().digest()];
    let digests = digests.map(|text| FileDigest::of_bytes(text.as_bytes()).xxh3);
    let own = serde_json::to_vec(&digests).expect("two texts serialise");
    let all = comm.gather("the ranks to compare their configs", own);
    let all = all.map_err(lost_at_start)?;
    let of = |rank: &[u8]| serde_json::from_slice::<[String; 2]>(rank).unwrap_or_default();
    let first = of(&all[0]);
    for (rank, digests) in all.iter().enumerate() {
        let digests = of(digests);
        if let Some(at) = (0..WHAT.len()).find(|at| digests[*at] != first[*at]) {
            return Err(TrainError::Unequal {
                who: other_rank(comm, rank, String::new()).who,
                what: WHAT[at],
            });
        }
    }
    Ok(())
}

/// Opens what this rank opens by itself: rank 0 the checkpoint and the weights.
fn begin(run: &ResolvedRun, place: RunPlace, comm: &Comm) -> Result<Opened, TrainError> {
    let config = &run.config;
    let spec = config.model.spec();
    check_norms(run, comm.ranks())?;
    let folder = place.folder();
    let checkpoint = folder.and_then(RunFolder::latest);
    let mut notes = folder.map_or_else(Vec::new, |folder| folder.notes().to_vec());
    // While nothing else of the run is on the device.
    let before = || checkpoint.as_ref().and_then(Checkpoint::micro_batch);
    let micro_batch = run.fit_micro_batch(comm.ranks(), before, &mut notes)?;
    let device = config.device.open()?.autodiff();
    let mut optimizer = ModelOptimizer::new(&config.optimizer, &spec);
    let model = match folder {
        Some(_) => open_model(run, checkpoint.as_ref(), &device, &mut notes)?,
        None => model_to_fill(run, &device),
    };
    let mut state = match (folder, &checkpoint) {
        (Some(folder), Some(checkpoint)) => folder.load(checkpoint, &model, &mut optimizer)?,
        _ => TrainerState::default(),
    };
    if let Some(folder) = folder {
        let data = folder.inputs(run).train.digest();
        regroup(&mut state, run)?;
        check_divisible(run.data.parts(&state.position), comm.ranks())?;
        notes.extend(recount(&mut state, run, &data));
        if let PairDataset::Stream(shards) = &run.data.set {
            check_shards(&state, shards.len())?;
        }
        check_length(&state, run)?;
    }
    let average = |table| {
        let start = start_of_average(run, checkpoint.as_ref(), &model, &device)?;
        Ok::<_, TrainError>(Ema::new(table, start.with_precision(config.precision)))
    };
    let ema = config.ema.map(average).transpose()?;
    let context = StepContext::new(StepOptions {
        spec: &spec,
        preprocess: run.data.preprocess.clone(),
        device: config.device,
        autodiff: device,
        freeze: run.freezing(),
        recompute_blocks: config.batch.recompute_blocks,
        objective: objective(run),
        batch: config.batch.global,
        micro_batch,
        logit_rows: config.batch.logit_rows,
        comm: comm.clone(),
    });
    let mut start = start_of(run.guard.as_ref(), &model);
    if let Some(checkpoint) = &checkpoint {
        start = start
            .map(|model| checkpoint.load_start(model))
            .transpose()?;
    }
    Ok(Opened {
        context: context.map_err(TrainError::Threads)?,
        start,
        model,
        optimizer,
        ema,
        state,
        checkpoint,
        notes,
    })
}

/// Gives every rank what rank 0 has opened.
fn share(own: Opened, comm: &Comm) -> Result<Opened, TrainError> {
    let share = || -> Result<Opened, Lost> {
        let state = serde_json::to_vec(&own.state).expect("a trainer state serialises");
        let state = comm.of_first("the trainer's state", state)?;
        let state = if comm.is_first() {
            own.state
        } else {
            serde_json::from_slice(&state).expect("rank 0 sent it")
        };
        let model = share_model(own.model, comm)?;
        let mut optimizer = own.optimizer;
        share_moments(&mut optimizer, &model, comm)?;
        let ema = own
            .ema
            .map(|ema| ema.try_map(|model| share_model(model, comm)));
        let start = own.start.map(|model| share_model(model, comm));
        Ok(Opened {
            state,
            model,
            optimizer,
            start: start.transpose()?,
            ema: ema.transpose()?,
            ..own
        })
    };
    share().map_err(lost_at_start)
}

fn lost_at_start(lost: Lost) -> TrainError {
    TrainError::RankLost {
        lost,
        last_good: None,
    }
}

impl Opened {
    /// Opens the logs, and settles what the folder holds. Nothing in it has changed until here.
    fn books<'a>(
        &mut self,
        run: &ResolvedRun,
        folder: &'a RunFolder,
    ) -> Result<Books<'a>, TrainError> {
        let events = (run.config.log.tensorboard)
            .then(|| EventFile::create(&folder.tensorboard(), self.state.step))
            .transpose()?;
        if let Some(checkpoint) = &self.checkpoint {
            self.notes
                .extend(folder.settle(checkpoint, &mut self.state)?);
        }
        folder.commit(run)?;
        Ok(Books::open(folder, &self.state, events)?)
    }
}

impl ResolvedRun {
    /// Checks that so many ranks can share the batches of a new run.
    ///
    /// # Errors
    /// If they cannot share a batch's parts equally, or batch norms would see other images than with one rank.
    pub fn check_ranks(&self, ranks: usize) -> Result<(), TrainError> {
        check_divisible(self.data.parts(&LoaderState::default()), ranks)?;
        check_norms(self, ranks)
    }
}

/// Checks that every rank gets as many parts of a batch.
fn check_divisible(parts: usize, ranks: usize) -> Result<(), TrainError> {
    if parts.is_multiple_of(ranks) {
        return Ok(());
    }
    let possible = (1..=parts).filter(|ranks| parts.is_multiple_of(*ranks));
    let possible: Vec<String> = possible.map(|ranks| ranks.to_string()).collect();
    Err(TrainError::Indivisible {
        parts,
        ranks,
        possible: possible.join(", "),
    })
}

/// Checks that a rank's micro-batches are those of one rank, over which batch norms compute their statistics.
fn check_norms(run: &ResolvedRun, ranks: usize) -> Result<(), TrainError> {
    let config = &run.config;
    let own = config.batch.global / ranks;
    let trains_norms = config.trains_norms();
    match config.batch.micro {
        Some(MicroBatch::Pairs(micro))
            if trains_norms && ranks > 1 && !own.is_multiple_of(micro) =>
        {
            Err(TrainError::UnevenNorms { micro, own, ranks })
        }
        _ => Ok(()),
    }
}

/// A model of the run's architecture, whose parameters come from rank 0.
fn model_to_fill(run: &ResolvedRun, device: &Device) -> Clip {
    let config = &run.config;
    let spec = config.model.spec();
    let model = Clip::init(&spec, config.seed, device);
    let model = run.trained(model).with_precision(config.precision);
    let Some(classes) = &run.data.classes else {
        return model;
    };
    let weight = Tensor::zeros([classes.class_names.len(), spec.embed_dim], device);
    (model.with_head(ClassifierHead::new(weight))).freeze_all_but_classifier()
}

/// The model that a run starts or goes on with, with its head if it has one.
/// - notes: gets what a user should know of it.
fn open_model(
    run: &ResolvedRun,
    checkpoint: Option<&Checkpoint>,
    device: &Device,
    notes: &mut Vec<String>,
) -> Result<Clip, TrainError> {
    let config = &run.config;
    let spec = config.model.spec();
    let model = match (checkpoint, &config.model.weights) {
        (Some(checkpoint), _) => couplet_model::load(&checkpoint.path, None, device)?.model,
        (None, Some(weights)) => {
            let found = choose_model(weights)?;
            let (loaded, resized) = load_as(&found.path, &spec, device)?;
            notes.push(describe_loaded(&loaded, found.checkpoint.as_ref()));
            notes.extend(resized.into_iter().map(|what| format!("resized    {what}")));
            loaded.model
        }
        (None, None) => {
            let seed = config.seed;
            notes.push(format!("weights    initialized at random, seed {seed}"));
            Clip::init(&spec, seed, device)
        }
    };
    let mut model = run.trained(model).with_precision(config.precision);
    if let (Some(checkpoint), Some(_)) = (checkpoint, &run.adaptation) {
        model = checkpoint.load_updates(model, UpdatesOf::Model)?;
    }
    notes.extend(run.adaptation.as_ref().map(|own| own.describe(&spec)));
    let Some(classes) = &run.data.classes else {
        return Ok(model);
    };
    let head = if let Some(checkpoint) = checkpoint {
        checkpoint.load_head(HEAD_FILE, device)?
    } else {
        notes.push(describe_head(classes));
        first_head(&model, run, classes, device)?
    };
    Ok(model.with_head(head).freeze_all_but_classifier())
}

/// Where initial weights are from.
fn describe_loaded(loaded: &Loaded, chosen: Option<&ChosenCheckpoint>) -> String {
    let (count, file) = (loaded.tensors, printable_path(&loaded.source.weights));
    let why = chosen.map_or(String::new(), |chosen| format!(" ({chosen})"));
    format!("weights    {count} tensors of {file}{why}")
}

/// What the run minimizes.
fn objective(run: &ResolvedRun) -> Objective {
    if run.config.classify.is_none() {
        return Objective::Contrast(run.loss.clone());
    }
    let Loss::Softmax(softmax) = &run.config.loss else {
        unreachable!("a classifier has the softmax loss");
    };
    Objective::Classify {
        label_smoothing: softmax.label_smoothing,
    }
}

/// Checks that a stream's position is in shards that the data has.
fn check_shards(state: &TrainerState, shards: usize) -> Result<(), TrainError> {
    let streams = (state.position.parts.iter()).filter_map(|part| part.stream.as_ref());
    let lanes = streams.flat_map(|stream| &stream.lanes);
    match lanes.map(|lane| lane.shard).max() {
        Some(last) if last >= shards => Err(TrainError::NoSuchShard { last, shards }),
        _ => Ok(()),
    }
}
