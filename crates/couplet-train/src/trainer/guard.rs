//! Old abilities that a run must keep: they are measured before the first step, and what has fallen too far ends the run
//! or is brought back by the weights that it began with.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use couplet_eval::{Report, Unit};
use couplet_model::Clip;
use couplet_model::weights::{HostTensor, NamedTensors, fill, parameters};
use couplet_ranks::Team;

use super::{TrainError, Trainer, Window};
use crate::checkpoint::GuardStop;
use crate::config::{EvalWeights, OnDrop, ResolvedEval, ResolvedGuard};
use crate::log::mixed_line;
use crate::observer::{Event, Observer};

/// Shares of the trained weights that are tried, from the largest; then there is the start itself, which was measured.
const SHARES: [f64; 10] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05];
/// Differences of shares that only rounding makes.
const ROUNDING: f64 = 1e-9;

/// What the guard says of a step's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GuardVerdict {
    /// It has kept what it must.
    Kept,
    /// It was not measured at this step.
    Unmeasured,
    /// It has not, and the run ends.
    Ended,
    /// It had not, and is another now.
    Mixed,
}

/// The largest fall of a guarded dataset.
struct Fall {
    dataset: String,
    drop: f64,
}

impl Trainer<'_> {
    /// Measures the guarded datasets before the first step of a run.
    ///
    /// # Errors
    /// If one cannot be evaluated: nothing could be said of it later.
    pub(super) fn begin_guard(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Some(guard) = &self.run.guard else {
            return Ok(());
        };
        if self.state.step > 0 || !self.state.guarded.is_empty() {
            return Ok(());
        }
        let model = self.judged();
        let found = self.measure(&model, observer)?;
        for (dataset, value) in &found {
            observer.event(Event::Note(&format!(
                "guard      {dataset}: {}, which may fall to {}",
                Unit::Share.format(*value),
                Unit::Share.format(value - guard.max_drop)
            )));
        }
        self.state.guarded = found;
        self.epoch_started = Instant::now();
        Ok(())
    }

    /// Lets a run that the guard has ended go on, if it may fall further now.
    pub(super) fn resume_guard(&mut self, observer: &mut dyn Observer) {
        let guard = self.run.guard.as_ref();
        match &self.state.guard_stop {
            Some(stop) if guard.is_some_and(|guard| guard.forbids(stop.drop)) => {
                observer.event(Event::Note(&format!(
                    "guard      the run ended after step {}: {} had fallen by {}; with a larger guard.max_drop it goes on",
                    stop.step,
                    stop.dataset,
                    points(stop.drop)
                )));
            }
            _ => self.state.guard_stop = None,
        }
    }

    /// Whether an evaluation is of a guarded dataset.
    pub(super) fn is_guarded(&self, eval: &ResolvedEval) -> bool {
        let guard = self.run.guard.as_ref();
        guard.is_some_and(|guard| guard.holds(eval))
    }

    /// Whether the guard has ended the run.
    pub(super) fn is_guard_stopped(&self) -> bool {
        self.state.guard_stop.is_some()
    }

    /// Runs the evaluations that are due, and acts on what is guarded.
    /// - returns the reports of the model that there is then, and whether it may be the best.
    pub(super) fn evaluate_guarded(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Report>, bool), TrainError> {
        let mut reports = self.evaluate(&[], observer)?;
        let verdict = self.guard(&reports, observer)?;
        match verdict {
            GuardVerdict::Kept | GuardVerdict::Unmeasured => {}
            // The last step is evaluated on everything.
            GuardVerdict::Ended => reports.extend(self.evaluate(&reports, observer)?),
            GuardVerdict::Mixed => reports = self.evaluate(&[], observer)?,
        }
        let may_be_best = matches!(verdict, GuardVerdict::Kept | GuardVerdict::Mixed);
        Ok((reports, may_be_best))
    }

    /// Acts on the evaluations of a step.
    fn guard(
        &mut self,
        reports: &[Report],
        observer: &mut dyn Observer,
    ) -> Result<GuardVerdict, TrainError> {
        let run = self.run;
        let Some(guard) = &run.guard else {
            return Ok(GuardVerdict::Kept);
        };
        let found = guarded(run.guard.as_ref(), &run.evals).filter_map(|eval| {
            let report = reports
                .iter()
                .find(|report| report.dataset == eval.name())?;
            Some((eval.name().to_string(), headline(eval, report)))
        });
        let Some(fall) = self.largest_fall(&found.collect()) else {
            return Ok(GuardVerdict::Unmeasured);
        };
        if !guard.forbids(fall.drop) {
            return Ok(GuardVerdict::Kept);
        }
        let step = self.state.step;
        let what = format!(
            "step {step}: guard: {} has fallen by {}, more than {}",
            fall.dataset,
            points(fall.drop),
            points(guard.max_drop)
        );
        match guard.on_drop {
            OnDrop::Stop => {
                observer.event(Event::Warning(&format!("{what}; the run ends")));
                self.state.guard_stop = Some(GuardStop {
                    step,
                    dataset: fall.dataset,
                    drop: fall.drop,
                });
                Ok(GuardVerdict::Ended)
            }
            OnDrop::Mix => {
                let share = self.pull_back(guard, observer)?;
                let line = mixed_line(&self.line_head(), share);
                self.write_metrics(&line, observer)?;
                observer.event(Event::Warning(&format!(
                    "{what}; training goes on with {} of what it has changed since the beginning",
                    Unit::Share.format(share)
                )));
                Ok(GuardVerdict::Mixed)
            }
        }
    }

    /// Mixes the weights with those of the beginning, until nothing has fallen too far. The model stays as it is until it is
    /// known how much that takes: what interrupts the trials costs none of it.
    /// - returns the share of the trained weights that is left.
    fn pull_back(
        &mut self,
        guard: &ResolvedGuard,
        observer: &mut dyn Observer,
    ) -> Result<f64, TrainError> {
        let start = parameters(
            self.start
                .as_ref()
                .expect("a run that may be mixed keeps its start"),
        );
        let judged = self.judged();
        let trained = parameters(&judged);
        let mut left = 0.0;
        for share in SHARES {
            let tried = filled(judged.clone(), mixed(&start, &trained, share));
            let found = self.measure(&tried, observer)?;
            if self
                .largest_fall(&found)
                .is_none_or(|fall| !guard.forbids(fall.drop))
            {
                left = share;
                break;
            }
        }
        let model = self.model.take().expect("there is a model between steps");
        let mix = mixed(&start, &parameters(&model), left);
        self.model = Some(filled(model, mix));
        if let Some(ema) = self.ema.take() {
            let mix = mixed(&start, &parameters(ema.model()), left);
            self.ema = Some(ema.map(|model| filled(model, mix)));
        }
        Ok(left)
    }

    /// The model by whose weights guarded datasets are judged, without autodiff.
    fn judged(&self) -> Clip {
        let mut evals = guarded(self.run.guard.as_ref(), &self.run.evals);
        let weights = evals.next().map(|eval| eval.weights);
        match (&self.ema, weights) {
            (Some(ema), Some(EvalWeights::Ema)) => ema.model().clone(),
            _ => self.model().valid(),
        }
    }

    /// What a model reaches on the guarded datasets.
    fn measure(
        &mut self,
        model: &Clip,
        observer: &mut dyn Observer,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let run = self.run;
        let mut found = BTreeMap::new();
        for eval in guarded(run.guard.as_ref(), &run.evals) {
            let measured = self.judge(model, eval, observer);
            let (own, report) = match measured {
                Ok(report) => (Ok(()), Some(report)),
                Err(source) => match self.context.comm.team().and_then(Team::lost) {
                    Some(lost) => (Err(self.lost(lost)), None),
                    None => (Err(guard_error(eval, source)), None),
                },
            };
            self.settle(own)?;
            let report = report.expect("all ranks have evaluated it");
            found.insert(eval.name().to_string(), headline(eval, &report));
        }
        // Not training speed.
        self.window = Window::new();
        Ok(found)
    }

    fn largest_fall(&self, found: &BTreeMap<String, f64>) -> Option<Fall> {
        let falls = self.state.guarded.iter().filter_map(|(dataset, before)| {
            // What is not a number has lost everything.
            let now = found.get(dataset)?.max(0.0);
            Some(Fall {
                dataset: dataset.clone(),
                drop: before - now,
            })
        });
        falls.max_by(|a, b| a.drop.total_cmp(&b.drop))
    }
}

impl ResolvedGuard {
    /// Whether a fall is too large.
    fn forbids(&self, drop: f64) -> bool {
        drop > self.max_drop + ROUNDING
    }
}

/// The evaluations of guarded datasets.
fn guarded<'a>(
    guard: Option<&'a ResolvedGuard>,
    evals: &'a [ResolvedEval],
) -> impl Iterator<Item = &'a ResolvedEval> {
    let is_guarded = move |eval: &&ResolvedEval| guard.is_some_and(|guard| guard.holds(eval));
    evals.iter().filter(is_guarded)
}

/// The number by which a dataset is guarded.
fn headline(eval: &ResolvedEval, report: &Report) -> f64 {
    let main = eval.target.dataset().and_then(|dataset| dataset.metric);
    report.headline(main).1
}

pub(super) fn guard_error(
    eval: &ResolvedEval,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> TrainError {
    TrainError::Guard {
        dataset: eval.name().to_string(),
        source,
    }
}

/// The start, with a share of what has changed. An update that began at nothing is scaled: then its product is.
fn mixed(start: &NamedTensors, trained: &NamedTensors, share: f64) -> NamedTensors {
    let began_at_nothing = |a: &str| {
        let b = a.strip_suffix('a').map(|layer| format!("{layer}b"));
        let b = b.and_then(|b| start.get(&b));
        b.is_some_and(|b| b.values.iter().all(|value| *value == 0.0))
    };
    let mix = |(name, tensor): (&String, &HostTensor)| {
        let values = if name.ends_with(".lora.a") && began_at_nothing(name) {
            tensor.values.clone()
        } else {
            let pairs = start[name].values.iter().zip(&tensor.values);
            pairs
                .map(|(start, value)| between(*start, *value, share))
                .collect()
        };
        let mix = HostTensor {
            shape: tensor.shape.clone(),
            values,
        };
        (name.clone(), mix)
    };
    trained.iter().map(mix).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn between(start: f32, value: f32, share: f64) -> f32 {
    let (start, value) = (f64::from(start), f64::from(value));
    (start + share * (value - start)) as f32
}

/// The model with other values, which require gradients as before.
fn filled(model: Clip, tensors: NamedTensors) -> Clip {
    let filled = fill(model, tensors, Path::new("a mix"));
    filled.expect("the tensors are the model's")
}

fn points(share: f64) -> String {
    format!("{:.1} points", 100.0 * share)
}

/// The weights that a run began with, which a mix needs, on the CPU.
pub(super) fn start_of(guard: Option<&ResolvedGuard>, model: &Clip) -> Option<Clip> {
    let mixes = guard.is_some_and(|guard| guard.on_drop == OnDrop::Mix);
    mixes.then(|| model.valid().to_device(&Device::flex()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_a_share_of_what_has_changed() {
        let tensor = |values: &[f32]| HostTensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let start = NamedTensors::from([
            ("w".to_string(), tensor(&[1.0, 2.0])),
            ("x.lora.a".to_string(), tensor(&[1.0])),
            ("x.lora.b".to_string(), tensor(&[0.0])),
            ("y.lora.a".to_string(), tensor(&[1.0])),
            ("y.lora.b".to_string(), tensor(&[2.0])),
        ]);
        let trained = NamedTensors::from([
            ("w".to_string(), tensor(&[3.0, 0.0])),
            ("x.lora.a".to_string(), tensor(&[5.0])),
            ("x.lora.b".to_string(), tensor(&[4.0])),
            ("y.lora.a".to_string(), tensor(&[3.0])),
            ("y.lora.b".to_string(), tensor(&[4.0])),
        ]);
        let half = mixed(&start, &trained, 0.5);
        let values = |name: &str| half[name].values.clone();
        assert_eq!(values("w"), [2.0, 1.0]);
        assert_eq!(
            (values("x.lora.a"), values("x.lora.b")),
            (vec![5.0], vec![2.0])
        );
        assert_eq!(
            (values("y.lora.a"), values("y.lora.b")),
            (vec![2.0], vec![3.0])
        );
        assert_eq!(mixed(&start, &trained, 1.0), trained);
        assert_eq!(mixed(&start, &trained, 0.0)["w"], start["w"]);
    }
}
