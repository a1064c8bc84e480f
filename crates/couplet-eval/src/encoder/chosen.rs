//! Which checkpoint of a run is opened, and why.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::run_folder::{TRAINER_STATE_FILE, checkpoint_step};
use crate::metric::MetricInfo;

/// The state of a trainer takes some fifty bytes for each parameter.
const MAX_STATE: u64 = 64 << 20;

/// The model at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenModel {
    /// A folder with a model, or a file of weights.
    pub path: PathBuf,
    /// How it was chosen, if the path was the folder of a run.
    pub checkpoint: Option<ChosenCheckpoint>,
}

/// The checkpoint of a run that is opened. Displayed as a reason: `best by eval/shapes/top1, 99.00% at step
/// 920`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenCheckpoint {
    pub step: u64,
    pub choice: Choice,
    /// The metric that it is the best by, and its value.
    pub best: Option<(String, f64)>,
}

/// Why a checkpoint is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The run's file `best` names it.
    Best,
    /// There is no best one, and `latest` names it.
    Latest,
    /// No file names one, and it is the newest that is not damaged.
    NewestWhole,
}

impl Choice {
    /// The choice in one word, for files: `best`, `latest` or `newest-whole`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Latest => "latest",
            Self::NewestWhole => "newest-whole",
        }
    }
}

/// What a trainer's state says of the best checkpoint.
#[derive(Deserialize)]
struct State {
    best: Option<Best>,
}

#[derive(Deserialize)]
struct Best {
    metric: String,
    value: f64,
    step: u64,
}

impl ChosenCheckpoint {
    /// - folder: the checkpoint's.
    pub(super) fn new(folder: &Path, choice: Choice) -> Self {
        let step = checkpoint_step(folder).unwrap_or(0);
        let best = (choice == Choice::Best)
            .then(|| read_best(folder))
            .flatten();
        let best = best.filter(|best| best.step == step);
        Self {
            step,
            choice,
            best: best.map(|best| (best.metric, best.value)),
        }
    }
}

/// The best checkpoint by the state of a checkpoint's trainer, if that can be read.
fn read_best(folder: &Path) -> Option<Best> {
    let file = File::open(folder.join(TRAINER_STATE_FILE)).ok()?;
    let mut text = String::new();
    file.take(MAX_STATE).read_to_string(&mut text).ok()?;
    serde_json::from_str::<State>(&text).ok()?.best
}

impl fmt::Display for ChosenCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step;
        match (self.choice, &self.best) {
            (Choice::Best, Some((metric, value))) => {
                let shown = match MetricInfo::of_logged(metric) {
                    Some(info) => info.unit.format(*value),
                    None => value.to_string(),
                };
                write!(f, "best by {metric}, {shown} at step {step}")
            }
            (Choice::Best, None) => write!(f, "best, at step {step}"),
            (Choice::Latest, _) => write!(f, "latest, at step {step}; none is marked as the best"),
            (Choice::NewestWhole, _) => write!(f, "newest that is not damaged, at step {step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_metric_of_the_best_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("step-00000920");
        std::fs::create_dir_all(folder.join("trainer")).unwrap();
        let reason = |choice| ChosenCheckpoint::new(&folder, choice).to_string();
        assert_eq!(reason(Choice::Best), "best, at step 920");
        let state = |step: u64| {
            let text = format!(
                r#"{{"step":920,"best":{{"metric":"eval/shapes/top1","value":0.99,"step":{step}}}}}"#
            );
            std::fs::write(folder.join(TRAINER_STATE_FILE), text).unwrap();
        };
        state(920);
        let wanted = "best by eval/shapes/top1, 99.00% at step 920";
        assert_eq!(reason(Choice::Best), wanted);
        assert!(reason(Choice::Latest).starts_with("latest, at step 920"));
        // The state of another checkpoint.
        state(900);
        assert_eq!(reason(Choice::Best), "best, at step 920");
    }
}
