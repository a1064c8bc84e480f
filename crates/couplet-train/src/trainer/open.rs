//! The state that a run starts or resumes from.

use std::collections::HashSet;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use couplet_data::StageTimes;
use couplet_data::printable_path;
use couplet_data::source::PairDataset;
use couplet_eval::{ChosenCheckpoint, EMA_HEAD_FILE, HEAD_FILE, choose_model};
use couplet_loss::Loss;
use couplet_model::{Clip, Loaded, load_as};

use super::classes::first_head;
use super::position::{check_length, check_parts, recount};
use super::{TrainError, Trainer, Window};
use crate::checkpoint::{Checkpoint, RunFolder, TrainerState};
use crate::config::{Classes, HeadStart, ResolvedRun};
use crate::diagnosis::Diagnosis;
use crate::ema::Ema;
use crate::log::JsonLines;
use crate::optimizer::ModelOptimizer;
use crate::overfitting::Overfitting;
use crate::step::{Objective, StepContext, StepOptions};
use crate::tensorboard::EventFile;

impl<'a> Trainer<'a> {
    /// Loads the folder's latest checkpoint, or initialises a new run.
    ///
    /// # Errors
    /// If the device, the weights or the run's files cannot be opened.
    pub(super) fn open(run: &'a ResolvedRun, folder: &'a RunFolder) -> Result<Self, TrainError> {
        let config = &run.config;
        let device = config.device.open()?.autodiff();
        let spec = config.model.spec();
        let mut optimizer = ModelOptimizer::new(&config.optimizer, &spec);
        let checkpoint = folder.latest();
        let preprocess = run.data.preprocess.clone();
        let mut notes = folder.notes().to_vec();
        let model = open_model(run, checkpoint.as_ref(), &device, &mut notes)?;
        let mut state = match &checkpoint {
            Some(checkpoint) => folder.load(checkpoint, &model, &mut optimizer)?,
            None => TrainerState::default(),
        };
        let data = folder.inputs(run).train.digest();
        check_parts(&state, run)?;
        notes.extend(recount(&mut state, run, &data));
        if let PairDataset::Stream(shards) = &run.data.set {
            check_shards(&state, shards.len())?;
        }
        check_length(&state, run)?;
        let average = |ema_config| -> Result<Ema, TrainError> {
            let without_graph = device.clone().without_autodiff();
            let start = match (&checkpoint, model.head()) {
                (Some(checkpoint), None) => checkpoint.load_ema(&without_graph)?,
                (Some(checkpoint), Some(_)) => {
                    let head = checkpoint.load_head(EMA_HEAD_FILE, &without_graph)?;
                    checkpoint.load_ema(&without_graph)?.with_head(head)
                }
                (None, _) => model.valid(),
            };
            Ok(Ema::new(ema_config, start.with_precision(config.precision)))
        };
        let ema = config.ema.map(average).transpose()?;
        let events = (config.log.tensorboard)
            .then(|| EventFile::create(&folder.tensorboard(), state.step))
            .transpose()?;
        let context = StepContext::new(StepOptions {
            spec: &spec,
            preprocess: preprocess.clone(),
            device: config.device,
            autodiff: device,
            freeze: config.freeze,
            recompute_blocks: config.batch.recompute_blocks,
            objective: objective(run),
            batch: config.batch.global,
            micro_batch: config.batch.micro,
            logit_rows: config.batch.logit_rows,
        });
        let context = context.map_err(TrainError::Threads)?;
        // Nothing in the folder has changed until here.
        if let Some(checkpoint) = &checkpoint {
            notes.extend(folder.settle(checkpoint, &mut state)?);
        }
        folder.commit(run)?;
        let now = Instant::now();
        Ok(Self {
            metrics: JsonLines::open(&folder.metrics(), state.metrics_len)?,
            skipped: JsonLines::open(&folder.skipped(), state.skipped_len)?,
            context,
            time_before: state.time,
            run,
            folder,
            spec,
            preprocess,
            model: Some(model),
            optimizer,
            ema,
            diagnosis: Diagnosis::default(),
            overfitting: match &checkpoint {
                Some(_) => Overfitting::of_log(&folder.metrics()),
                None => Overfitting::default(),
            },
            events,
            skipped_in_epoch: (state.position.skipped() + state.position.lost()) as u64,
            first_skipped: None,
            state,
            checkpoint,
            notes,
            reported_unreadable: HashSet::new(),
            window: Window::new(),
            loading: StageTimes::default(),
            loading_before: StageTimes::default(),
            started: now,
            epoch_started: now,
            saved_at: now,
        })
    }
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
    let model = (model.freeze(config.freeze, &spec)).with_precision(config.precision);
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

/// What a classification head starts from.
fn describe_head(classes: &Classes) -> String {
    let from = match classes.head {
        HeadStart::Zeros => "initialized with zeros",
        HeadStart::ZeroShot => "initialized with the features of the class names",
    };
    let count = classes.class_names.len();
    format!("new        a head of {count} classes, {from}")
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
