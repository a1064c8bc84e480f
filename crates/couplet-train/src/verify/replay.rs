//! Repeating steps of a run, to compare their losses with those that were logged.

use std::fs;
use std::path::Path;

use couplet_model::shortest;
use serde_json::Value;

use super::starting_point;
use crate::checkpoint::{CheckpointError, METRICS, RunFolder};
use crate::config::{ConfigError, ConfigInput, DeviceCheck, ResolvedRun};
use crate::log::MIXED;
use crate::observer::{Event, Observer};
use crate::trainer::{TrainError, repeat};

/// Steps that were repeated, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The step of the checkpoint.
    pub from: u64,
    /// The step of the last repetition.
    pub to: u64,
    /// How many of the steps are in the log.
    pub compared: usize,
    /// The device, as configs name it.
    pub device: String,
    /// How far the losses of a run on several ranks may differ from those of the one that repeats them, relative
    /// to their size; otherwise they are compared bit for bit.
    pub tolerance: Option<f64>,
    /// The first step with another loss, the logged loss and the repeated one.
    pub differs: Option<(u64, f64, f64)>,
}

/// Rounding, which grows from step to step.
const BETWEEN_RANKS: f64 = 1e-4;

/// Why steps could not be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(
        "{}: no step was logged after any of the checkpoints{}, so there is nothing to compare",
        path.display(),
        changed.map_or(String::new(), |step| format!(
            " since the run changed at step {step}; steps before it cannot be repeated"
        ))
    )]
    NothingLogged {
        path: std::path::PathBuf,
        /// The step after which the run last went on with a change.
        changed: Option<u64>,
    },
    #[error("cannot create a temporary folder")]
    Scratch(#[source] std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Repeats `steps` steps of a run in a temporary folder, from the newest checkpoint after which so
/// many steps were logged, and compares the losses bit for bit. Evaluations are left out: they change
/// no step, and weights that `[guard]` has mixed end what is repeated.
/// - observer: receives the steps.
///
/// # Errors
/// If there is nothing to compare, or the run's config, data or checkpoint cannot be opened.
pub fn replay(run: &Path, steps: u64, observer: &mut dyn Observer) -> Result<Replay, ReplayError> {
    let logged = logged_losses(run);
    let nothing = || ReplayError::NothingLogged {
        path: run.join(METRICS),
        changed: RunFolder::last_change(run),
    };
    let (from, checkpoint) = starting_point(run, &logged, steps)?.ok_or_else(nothing)?;
    // Weights that the guard has mixed are not those of the steps before.
    let mixed = mixed_steps(run).into_iter().find(|step| *step > from);
    let steps = mixed.map_or(steps, |mixed| steps.min(mixed - from));
    let config = RunFolder::config_of(run);
    let without_evaluations = [
        "eval=[]",
        "checkpoint.best=",
        "data.val=",
        "log.tensorboard=false",
    ];
    let set = without_evaluations.map(String::from);
    let input = ConfigInput::new(&config, &set);
    let resolved = ResolvedRun::open_to_resume(&input, DeviceCheck::Local, Some(run))?;
    let scratch = tempfile::tempdir().map_err(ReplayError::Scratch)?;
    let folder = RunFolder::scratch(scratch.path(), (from, &checkpoint))?;
    let mut losses = Losses {
        observer,
        losses: Vec::new(),
    };
    let device = repeat(&resolved, &folder, steps, &mut losses)?;
    let repeated = losses.losses;
    let mut replay = Replay {
        from,
        to: repeated.last().map_or(from, |(step, _)| *step),
        compared: 0,
        device,
        tolerance: RunFolder::had_ranks(run).then_some(BETWEEN_RANKS),
        differs: None,
    };
    for (step, loss) in repeated {
        let Some((_, was)) = logged.iter().rfind(|(at, _)| *at == step) else {
            continue;
        };
        replay.compared += 1;
        // As the log has it, or as earlier versions wrote it.
        let is_same = [shortest(loss), loss]
            .map(f64::to_bits)
            .contains(&was.to_bits());
        let is_near = |tolerance| (loss - was).abs() <= tolerance * was.abs();
        let is_same = is_same || replay.tolerance.is_some_and(is_near);
        if !is_same && replay.differs.is_none() {
            replay.differs = Some((step, *was, shortest(loss)));
        }
    }
    Ok(replay)
}

/// Collects the losses of steps.
struct Losses<'a> {
    observer: &'a mut dyn Observer,
    losses: Vec<(u64, f64)>,
}

impl Observer for Losses<'_> {
    fn event(&mut self, event: Event) {
        if let Event::Step(line) = &event {
            self.losses.push((line.step, line.loss));
        }
        self.observer.event(event);
    }
}

/// The steps after which the guard has mixed weights.
fn mixed_steps(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join(METRICS)).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mixed = lines.filter(|line| line.get(MIXED).is_some());
    mixed
        .filter_map(|line| line.get("step")?.as_u64())
        .collect()
}

/// The steps and losses in `metrics.jsonl`; lines that cannot be read are left out.
fn logged_losses(run: &Path) -> Vec<(u64, f64)> {
    let bytes = fs::read(run.join(METRICS)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // serde_json reads floats to within a bit, the standard library exactly.
    let number = |line: &str, key: &str| {
        let (_, rest) = line.split_once(key)?;
        let end = rest.find([',', '}'])?;
        Some(rest[..end].trim().to_string())
    };
    let loss = |line: &str| {
        let step = number(line, "\"step\":")?.parse().ok()?;
        let loss = number(line, "\"loss\":")?.parse().ok()?;
        Some((step, loss))
    };
    text.lines().filter_map(loss).collect()
}
