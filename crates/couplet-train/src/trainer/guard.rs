//! Old abilities that a run must keep: they are measured before the first step, and what has fallen too far ends the run
//! or is brought back by the weights that it began with.

use std::collections::BTreeMap;

use burn::module::Module;
use couplet_eval::Report;
use couplet_model::Clip;
use couplet_model::weights::{HostTensor, NamedTensors, fill, parameters};

use super::{TrainError, Trainer};
use crate::checkpoint::GuardStop;
use crate::config::{OnDrop, ResolvedEval, ResolvedGuard};
use crate::observer::{Event, Observer};

/// Shares of the trained weights that are tried, from the largest.
const SHARES: [f64; 10] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0];

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
        let found = self.measure(observer)?;
        for (dataset, value) in &found {
            observer.event(Event::Note(&format!(
                "guard      {dataset}: {}, which may fall to {}",
                percent(*value),
                percent(value - guard.max_drop)
            )));
        }
        self.state.guarded = found;
        Ok(())
    }

    /// Lets a run that the guard has ended go on, if it may fall further now.
    pub(super) fn resume_guard(&mut self, observer: &mut dyn Observer) {
        let most = self
            .run
            .guard
            .as_ref()
            .map_or(f64::INFINITY, |guard| guard.max_drop);
        match &self.state.guard_stop {
            Some(stop) if stop.drop > most => observer.event(Event::Note(&format!(
                "guard      the run ended after step {}: {} had fallen by {}; with a larger guard.max_drop it goes on",
                stop.step,
                stop.dataset,
                points(stop.drop)
            ))),
            _ => self.state.guard_stop = None,
        }
    }

    /// Acts on the evaluations of a step.
    /// - returns whether the step's model may be kept as the best: not if it has lost an ability, or is no longer the one
    ///   that was evaluated.
    pub(super) fn guard(
        &mut self,
        reports: &[Report],
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        let Some(guard) = &self.run.guard else {
            return Ok(true);
        };
        let found = reports
            .iter()
            .map(|report| (report.dataset.clone(), report.headline().1));
        let Some(fall) = self.largest_fall(&found.collect()) else {
            return Ok(true);
        };
        if fall.drop <= guard.max_drop {
            return Ok(true);
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
            }
            OnDrop::Mix => {
                let share = self.pull_back(guard, observer)?;
                observer.event(Event::Warning(&format!(
                    "{what}; training goes on with {} of what it has changed since the beginning",
                    percent(share)
                )));
            }
        }
        Ok(false)
    }

    /// Mixes the weights with those of the beginning, until nothing has fallen too far.
    /// - returns the share of the trained weights that is left.
    fn pull_back(
        &mut self,
        guard: &ResolvedGuard,
        observer: &mut dyn Observer,
    ) -> Result<f64, TrainError> {
        let start = self
            .start
            .take()
            .expect("a run that may be mixed keeps its start");
        let of_start = parameters(&start);
        self.start = Some(start);
        let trained = self.model.take().expect("there is a model between steps");
        let of_model = parameters(&trained);
        let of_average = self.ema.as_ref().map(|ema| parameters(ema.model()));
        self.model = Some(trained);
        let mut left = 0.0;
        for share in SHARES {
            left = share;
            let model = self.model.take().expect("there is a model between steps");
            self.model = Some(filled(model, mixed(&of_start, &of_model, share)));
            if let (Some(average), Some(ema)) = (&of_average, self.ema.take()) {
                let mix = mixed(&of_start, average, share);
                let ema = ema.try_map(|model| Ok::<_, TrainError>(filled(model, mix)))?;
                self.ema = Some(ema);
            }
            let found = self.measure(observer)?;
            let fall = self.largest_fall(&found);
            if fall.is_none_or(|fall| fall.drop <= guard.max_drop) {
                break;
            }
        }
        Ok(left)
    }

    /// What the model reaches on the guarded datasets now.
    fn measure(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let run = self.run;
        let guard = run.guard.as_ref();
        let is_guarded = |eval: &&ResolvedEval| {
            guard.is_some_and(|guard| guard.datasets.iter().any(|name| name == eval.name()))
        };
        let mut found = BTreeMap::new();
        for eval in run.evals.iter().filter(is_guarded) {
            let measured = self.judge(eval, observer);
            let report = measured.map_err(|source| TrainError::Guard {
                dataset: eval.name().to_string(),
                source,
            });
            let (own, report) = match report {
                Ok(report) => (Ok(()), Some(report)),
                Err(error) => (Err(error), None),
            };
            self.settle(own)?;
            let report = report.expect("all ranks have evaluated it");
            found.insert(eval.name().to_string(), report.headline().1);
        }
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

/// The start, with a share of what has changed. An update that began at nothing is scaled: then its product is.
fn mixed(start: &NamedTensors, trained: &NamedTensors, share: f64) -> NamedTensors {
    let is_nothing = |name: &str| {
        let b = format!("{}.b", name.trim_end_matches(".a").trim_end_matches(".b"));
        let b = start.get(&b);
        b.is_some_and(|b| b.values.iter().all(|value| *value == 0.0))
    };
    let mix = |(name, tensor): (&String, &HostTensor)| {
        let values = if name.ends_with(".lora.a") && is_nothing(name) {
            tensor.values.clone()
        } else {
            let pairs = start[name].values.iter().zip(&tensor.values);
            pairs
                .map(|(start, value)| between(*start, *value, share))
                .collect()
        };
        let shape = tensor.shape.clone();
        (name.clone(), HostTensor { shape, values })
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
    let filled = fill(model, tensors, std::path::Path::new("a mix"));
    filled.expect("the tensors are the model's")
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

fn points(share: f64) -> String {
    format!("{:.1} points", 100.0 * share)
}

/// The weights that a run began with, which a mix needs.
pub(super) fn start_of(guard: Option<&ResolvedGuard>, model: &Clip) -> Option<Clip> {
    let mixes = guard.is_some_and(|guard| guard.on_drop == OnDrop::Mix);
    mixes.then(|| model.valid())
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
