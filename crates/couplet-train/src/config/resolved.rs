//! What a config names, opened: a run that is ready to start, its training data, its evaluations.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use couplet_data::loader::{Loader, LoaderOptions, LoaderState, TokenOptions};
use couplet_data::order::{Order, Parts};
use couplet_data::source::PairDataset;
use couplet_eval::metric::LOSS;
use couplet_eval::{Dataset, MetricInfo, RETRIEVAL_METRICS, class_metrics, eval_transform};
use couplet_loss::PairLoss;
use couplet_model::{Clip, FreezeConfig, ModelSpec, PreprocessSpec};

use super::classify::HeadStart;
use super::evals::EvalWeights;
use super::guard::OnDrop;
use super::tables::{DataConfig, RunConfig};
use crate::adapt::Adaptation;
use crate::cores::share;
use crate::duration::Sizes;
use crate::log::TRAIN_METRICS;
use crate::schedule::Schedule;

/// What the pairs of `[data.val]` are called in logs.
pub(crate) const HELD_OUT: &str = "val";

/// A sound config with what it names, opened.
pub struct ResolvedRun {
    pub config: RunConfig,
    pub(crate) data: ResolvedData,
    pub(crate) evals: Vec<ResolvedEval>,
    /// The loss over pairs: the config's, or the program's own.
    pub(crate) loss: Arc<dyn PairLoss>,
    pub(crate) sizes: Sizes,
    pub(crate) schedule: Schedule,
    /// Of `[guard]`, whose evaluations are among the others.
    pub(crate) guard: Option<ResolvedGuard>,
    /// Of `[adapt]`.
    pub(crate) adaptation: Option<Adaptation>,
    /// What stood for the folders of dataset files, absolute.
    pub(crate) data_root: Option<PathBuf>,
}

impl ResolvedRun {
    /// Judges guarded datasets by the weights that `--model` opens.
    pub(super) fn settle_guard(mut self) -> Self {
        let weights = self.eval_weights();
        let guard = self.guard.as_ref();
        for eval in &mut self.evals {
            if guard.is_some_and(|guard| guard.holds(eval)) {
                eval.weights = weights;
            }
        }
        self
    }

    /// The training data.
    pub fn training_data(&self) -> &ResolvedData {
        &self.data
    }

    /// A model of the run, in which only what the run trains requires gradients.
    pub(crate) fn trained(&self, model: Clip) -> Clip {
        match &self.adaptation {
            Some(adaptation) => adaptation.apply(model),
            None => model.freeze(self.config.freeze, &self.config.model.spec()),
        }
    }

    /// What is frozen, as far as that can be said of whole blocks.
    pub(crate) fn freezing(&self) -> FreezeConfig {
        match &self.adaptation {
            Some(adaptation) => adaptation.freezing(&self.config.model.spec()),
            None => self.config.freeze,
        }
    }

    /// What the run is evaluated on, in the config's order.
    pub fn evaluations(&self) -> impl Iterator<Item = &EvalTarget> {
        self.evals.iter().map(|eval| &eval.target)
    }

    /// Which weights the best checkpoint is the best by.
    pub(crate) fn eval_weights(&self) -> EvalWeights {
        let best = self.config.checkpoint.best.as_deref().unwrap_or_default();
        let is_best = |eval: &&ResolvedEval| {
            let of = format!("eval/{}/", eval.name());
            best.starts_with(&of)
        };
        let eval = (self.evals.iter().find(is_best)).or_else(|| self.evals.first());
        eval.map_or(EvalWeights::Ema, |eval| eval.weights)
    }

    /// All metrics that the run writes to `metrics.jsonl`.
    pub(crate) fn metrics(&self) -> Vec<LoggedMetric> {
        let train = TRAIN_METRICS.map(|info| LoggedMetric {
            name: info.name.into(),
            info,
            is_evaluation: false,
        });
        let evals = self.evals.iter().flat_map(ResolvedEval::metrics);
        train.into_iter().chain(evals).collect()
    }

    /// Steps between two lines of `metrics.jsonl`.
    pub fn log_steps(&self) -> u64 {
        self.config.log.every.steps(self.sizes).unwrap_or(1).max(1)
    }
}

impl std::fmt::Debug for ResolvedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolvedRun")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A training set, opened.
pub struct ResolvedData {
    /// The training set.
    pub set: PairDataset,
    /// How captions become ids.
    pub tokens: TokenOptions,
    pub table: DataConfig,
    pub(crate) preprocess: PreprocessSpec,
    /// Samples of an epoch.
    pub(crate) epoch_len: usize,
    pub(super) spec: ModelSpec,
    pub(super) seed: u64,
    pub(crate) batch_size: usize,
    /// The number of parts of a batch, unless a position says another.
    pub(super) parts: usize,
    /// Of `[classify]`.
    pub(crate) classes: Option<Classes>,
    /// Whether each sample is read once and no more: as those that are held out.
    pub(super) once: bool,
}

impl ResolvedData {
    /// The number of parts of a batch, each with its own order of samples, from a position on: those that
    /// the position has, or the config's where it has none.
    pub fn parts(&self, position: &LoaderState) -> usize {
        match position.parts.len() {
            0 => self.parts,
            parts => parts,
        }
    }

    /// Starts loading batches as the run does.
    /// - position: of all parts.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start_loader(&self, position: &LoaderState) -> std::io::Result<Loader> {
        self.start_loader_of(position, 0..self.parts(position))
    }

    /// Starts loading some neighbouring parts of every batch, as a rank of the run does.
    /// - position: of all parts; that of a batch ([`couplet_data::loader::HostBatch::next`]) is of these.
    ///
    /// # Errors
    /// If the system gives no threads.
    ///
    /// # Panics
    /// If a batch has no such parts.
    pub fn start_loader_of(
        &self,
        position: &LoaderState,
        parts: Range<usize>,
    ) -> std::io::Result<Loader> {
        let total = self.parts(position);
        assert!(!parts.is_empty() && parts.end <= total, "parts of a batch");
        let own = position.split(parts.clone());
        let options = LoaderOptions {
            parts: Parts { total, own: parts },
            ..self.loader_options()
        };
        Loader::start(self.set.clone(), options, own)
    }

    /// Starts loading neighbouring samples of data that are read once.
    /// - samples: by their places in the epoch; a stream gives those after them, too.
    /// - batch_size: samples of a batch, including unusable ones, which are left out.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(crate) fn load_once(
        &self,
        samples: Range<usize>,
        batch_size: usize,
    ) -> std::io::Result<Loader> {
        let mut options = self.loader_options();
        options.batch_size = batch_size;
        // The order of a stream depends on the length of its epoch.
        if let PairDataset::Indexed(_) = self.set {
            options.order.epoch_len = samples.end;
        }
        let mut position = LoaderState::start_of(0, 1);
        position.parts[0].samples = samples.start;
        Loader::start(self.set.clone(), options, position)
    }

    /// To load batches of one part.
    fn loader_options(&self) -> LoaderOptions {
        LoaderOptions {
            order: Order {
                len: self.set.samples().unwrap_or(self.epoch_len),
                epoch_len: self.epoch_len,
                resample: self.table.train.resample,
                seed: self.seed,
            },
            parts: Parts::ONE,
            batch_size: self.batch_size,
            transform: eval_transform(&self.spec, &self.preprocess)
                .augmented(&self.table.train.augment),
            tokens: self.tokens.clone(),
            max_image_pixels: self.table.max_image_pixels,
            dct_scaling: self.table.train.dct_scaling,
            max_skipped: self.table.max_skipped,
            threads: match self.table.threads {
                0 => share().unwrap_or(0),
                threads => threads,
            },
            once: self.once,
        }
    }
}

/// The largest number of parts that a batch has unless the config says another.
const MOST_PARTS: usize = 64;

/// The number of parts of a batch.
/// - set: by the config, checked to be possible.
pub(super) fn parts_of(set: Option<usize>, batch_size: usize, data: &PairDataset) -> usize {
    let most = match data {
        PairDataset::Indexed(_) => MOST_PARTS,
        PairDataset::Stream(shards) => MOST_PARTS.min(shards.len()),
    };
    let powers = (0..).map(|power| 1 << power);
    let possible = powers
        .take_while(|parts| *parts <= most)
        .filter(|parts| batch_size.is_multiple_of(*parts));
    set.or(possible.last()).unwrap_or(1)
}

/// The classes that a run learns to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classes {
    pub head: HeadStart,
    pub class_names: Vec<String>,
    pub templates: Vec<String>,
}

/// An entry of `[[eval]]` with its dataset opened.
pub(crate) struct ResolvedEval {
    pub target: EvalTarget,
    pub every_steps: u64,
    pub weights: EvalWeights,
}

/// `[guard]` with the names of its datasets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResolvedGuard {
    pub datasets: Vec<String>,
    pub max_drop: f64,
    pub on_drop: OnDrop,
}

impl ResolvedGuard {
    /// Whether an evaluation is of a guarded dataset.
    pub fn holds(&self, eval: &ResolvedEval) -> bool {
        self.datasets.iter().any(|name| name == eval.name())
    }
}

/// A metric by its name in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoggedMetric {
    pub name: String,
    pub info: MetricInfo,
    /// Of an evaluation, not of a training step.
    pub is_evaluation: bool,
}

/// What an evaluation reads.
pub enum EvalTarget {
    ZeroShot(Dataset),
    Retrieval(Dataset),
    HeldOut(Box<ResolvedData>),
    Classification(Dataset),
}

impl ResolvedEval {
    /// As in `eval/<name>/<metric>`.
    pub fn name(&self) -> &str {
        self.target.name()
    }

    /// Images or pairs that it reads.
    pub fn images(&self) -> usize {
        match &self.target {
            EvalTarget::ZeroShot(dataset)
            | EvalTarget::Retrieval(dataset)
            | EvalTarget::Classification(dataset) => dataset.images.len(),
            EvalTarget::HeldOut(data) => data.epoch_len,
        }
    }

    /// What it writes to `metrics.jsonl`.
    pub fn metrics(&self) -> Vec<LoggedMetric> {
        self.target.metrics()
    }
}

impl EvalTarget {
    /// What it is evaluated on, if not the run's own pairs.
    pub(crate) fn dataset(&self) -> Option<&Dataset> {
        match self {
            Self::ZeroShot(dataset) | Self::Retrieval(dataset) | Self::Classification(dataset) => {
                Some(dataset)
            }
            Self::HeldOut(_) => None,
        }
    }

    /// As in `eval/<name>/<metric>`.
    pub fn name(&self) -> &str {
        match self {
            Self::ZeroShot(dataset) | Self::Retrieval(dataset) | Self::Classification(dataset) => {
                &dataset.name
            }
            Self::HeldOut(_) => HELD_OUT,
        }
    }

    /// What its evaluation writes to `metrics.jsonl`.
    pub(crate) fn metrics(&self) -> Vec<LoggedMetric> {
        let metrics = match self {
            Self::ZeroShot(dataset) | Self::Classification(dataset) => {
                class_metrics(dataset).to_vec()
            }
            Self::Retrieval(_) => RETRIEVAL_METRICS.to_vec(),
            Self::HeldOut(_) => [&[LOSS][..], &RETRIEVAL_METRICS].concat(),
        };
        let logged = |info: MetricInfo| LoggedMetric {
            name: info.logged_as(self.name()),
            info,
            is_evaluation: true,
        };
        metrics.into_iter().map(logged).collect()
    }
}
