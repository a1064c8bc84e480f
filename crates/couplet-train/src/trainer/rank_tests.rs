//! The whole trainer on several ranks, which are threads here.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use couplet_data::source::{MapDataset, SourceConfig};
use couplet_data::{ImageData, ListedFile, RgbImage, Sample, SampleError, SkipCause};
use couplet_eval::checkpoints_of;
use couplet_ranks::{Fault, Trouble};
use serde_json::Value;

use super::{RunPlace, TrainError, train_on_ranks};
use crate::adapt::{AdaptConfig, AdaptKind};
use crate::checkpoint::{AllowedChanges, RunFolder};
use crate::comm::Comm;
use crate::comm::threads::{on_faulty_ranks, on_ranks};
use crate::config::{
    EvalConfig, GuardConfig, ModelConfig, OnDrop, ResolvedRun, RunBuilder, RunConfig, ValDataConfig,
};
use crate::device::DeviceSetting;
use crate::ema::EmaConfig;
use crate::observer::{Event, NoopObserver, Observer, Outcome, StopReason, StopSignal};
use crate::optimizer::OptimizerConfig;
use crate::ranks::Ranks;
use crate::schedule::ScheduleConfig;

const SAMPLES: usize = 41;
const BAD: [usize; 3] = [7, 12, 31];

/// Images of one color each, some of which are bad.
struct Colors;

impl MapDataset for Colors {
    fn len(&self) -> usize {
        SAMPLES
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        if BAD.contains(&index) {
            return Err(SampleError::new(SkipCause::Unreadable, "it is gone"));
        }
        let level = |of: usize| u8::try_from(index * of % 256).expect("below 256");
        let color = [level(37), level(91), level(151)];
        Ok(Sample {
            image: ImageData::Pixels(RgbImage::from_pixel(40, 40, color.into())),
            caption: format!("color number {index}"),
            label: None,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("colors".into(), index.to_string())
    }

    fn listing(&self) -> Vec<ListedFile> {
        vec![ListedFile::of_texts("colors", ["these".to_string()])]
    }
}

fn open(steps: usize, change: impl Fn(&mut RunConfig)) -> ResolvedRun {
    let mut config = RunConfig::new(
        "colors",
        ModelConfig::preset("ViT-Ti-8-32").unwrap(),
        SourceConfig::custom("colors"),
        8,
        OptimizerConfig::adamw(1e-3),
        ScheduleConfig::cosine(format!("{steps} steps").parse().unwrap()),
    );
    config.device = DeviceSetting::Flex;
    config.data.max_skipped = 0.2;
    config.data.threads = 1;
    config.batch.micro = Some(2.into());
    config.log.every = "1 step".parse().unwrap();
    change(&mut config);
    let mut builder = RunBuilder::new(config.clone()).dataset(Colors);
    if config.data.val.is_some() {
        builder = builder.val_dataset(Colors);
    }
    builder.open().unwrap()
}

/// Stops a run after some steps.
struct StopAfter(u64, StopSignal);

impl Observer for StopAfter {
    fn event(&mut self, event: Event) {
        if let Event::Step(line) = event
            && line.step >= self.0
        {
            self.1.stop();
        }
    }
}

/// What one rank does; rank 0 has the folder.
fn train_rank(
    run: &ResolvedRun,
    path: &Path,
    comm: Comm,
    stop_after: Option<u64>,
) -> Result<Outcome, TrainError> {
    let folder =
        (comm.is_first()).then(|| RunFolder::resume(path, run, AllowedChanges::Longer).unwrap());
    let place = match &folder {
        Some(folder) => RunPlace::Open(folder),
        None => RunPlace::Path(path),
    };
    let (stop, ranks) = (StopSignal::default(), Ranks(comm));
    match stop_after {
        // One rank alone is asked to stop.
        Some(steps) if ranks.place().rank == ranks.place().ranks - 1 => {
            let mut observer = StopAfter(steps, stop.clone());
            train_on_ranks(run, place, &ranks, &stop, &mut observer)
        }
        _ => train_on_ranks(run, place, &ranks, &stop, &mut NoopObserver),
    }
}

fn train(path: &Path, ranks: usize, stop_after: Option<u64>) -> Vec<Outcome> {
    let outcomes = on_ranks(ranks, |comm| {
        train_rank(&open(9, |_| {}), path, comm, stop_after)
    });
    outcomes.into_iter().map(Result::unwrap).collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn losses(path: &Path) -> Vec<f64> {
    let lines = lines(&path.join("metrics.jsonl"));
    lines
        .iter()
        .map(|line| line["loss"].as_f64().unwrap())
        .collect()
}

fn assert_close(own: &[f64], other: &[f64]) {
    assert_eq!(own.len(), other.len());
    for (own, other) in own.iter().zip(other) {
        assert!((own - other).abs() < 1e-5 * other.abs(), "{own} {other}");
    }
}

#[test]
fn several_ranks_train_as_one_and_go_on_as_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, ranks) in [("one", 1), ("two", 2), ("four", 4), ("again", 4)] {
        let outcomes = train(&path(name), ranks, None);
        assert!(
            outcomes
                .iter()
                .all(|one| one.steps == 9 && one.ending == StopReason::Finished)
        );
        assert_close(&losses(&path(name)), &losses(&path("one")));
        // The same samples in the same batches, bad ones included.
        let skipped = |name: &str| lines(&path(name).join("skipped.jsonl"));
        assert_eq!(skipped(name), skipped("one"));
        assert!(skipped(name).len() >= BAD.len());
    }
    assert_eq!(losses(&path("again")), losses(&path("four")));

    for (ranks, stop_after) in [(4, Some(3)), (2, Some(7)), (1, None)] {
        let outcomes = train(&path("changing"), ranks, stop_after);
        let ending = match stop_after {
            Some(_) => StopReason::Interrupted,
            None => StopReason::Finished,
        };
        let steps = stop_after.unwrap_or(9);
        assert!(
            outcomes
                .iter()
                .all(|one| one.steps == steps && one.ending == ending)
        );
    }
    assert_close(&losses(&path("changing")), &losses(&path("one")));
    assert_eq!(
        lines(&path("changing").join("skipped.jsonl")),
        lines(&path("one").join("skipped.jsonl"))
    );
}

#[test]
fn several_ranks_adapt_as_one_and_go_on_as_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let adapt = |name: &str, ranks: usize, stop_after: Option<u64>| {
        let outcomes = on_ranks(ranks, |comm| {
            let run = open(6, |config| {
                let mut table = AdaptConfig::new(AdaptKind::Lora);
                table.also_train = vec!["visual.proj".to_string()];
                config.adapt = Some(table);
                config.ema = Some(EmaConfig { decay: 0.5 });
            });
            train_rank(&run, &path(name), comm, stop_after)
        });
        assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
        losses(&path(name))
    };
    let whole = adapt("one", 1, None);
    assert_close(&adapt("two", 2, None), &whole);
    adapt("changing", 4, Some(2));
    adapt("changing", 2, Some(4));
    assert_close(&adapt("changing", 1, None), &whole);
}

/// Ranks whose models differ are found when a checkpoint is written.
#[test]
fn all_ranks_are_guarded_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (name, on_drop) in [("stop", OnDrop::Stop), ("mix", OnDrop::Mix)] {
        let outcomes = on_ranks(2, |comm| {
            let run = open(4, |config| {
                config.optimizer = OptimizerConfig::adamw(0.1);
                config.ema = Some(EmaConfig { decay: 0.5 });
                config.guard = Some(GuardConfig {
                    datasets: vec!["shapes".into()],
                    max_drop: 0.0,
                    on_drop,
                    every: "2 steps".parse().unwrap(),
                });
            });
            train_rank(&run, &folder.path().join(name), comm, None)
        });
        let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes[0].steps, outcomes[1].steps);
        assert_eq!(outcomes[0].ending, outcomes[1].ending);
    }
}

#[test]
fn too_many_bad_samples_end_all_ranks_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut saved = Vec::new();
    for ranks in [1, 4] {
        let path = folder.path().join(ranks.to_string());
        let errors = on_ranks(ranks, |comm| {
            let run = open(9, |config| config.data.max_skipped = 0.05);
            train_rank(&run, &path, comm, None).unwrap_err().to_string()
        });
        // A rank that has all of them says so to the others.
        let is_alike = |error: &String| error.contains("3 of 41 samples were skipped in epoch 2");
        assert!(errors.iter().all(is_alike), "{errors:?}");
        // What was trained until then is saved.
        saved.push(checkpoints_of(&path).unwrap().last().map(|(step, _)| *step));
    }
    assert_eq!(saved[0], saved[1]);
}

#[test]
fn ranks_that_cannot_share_a_batch_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let errors = on_ranks(3, |comm| {
        let error = train_rank(&open(2, |_| {}), folder.path(), comm, None);
        error.unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.contains("start 1, 2, 4, 8 ranks"), "{error}");
    }
}

/// A run that loses a rank in its last evaluation evaluates when it goes on.
#[test]
fn an_evaluation_that_was_not_done_is_done_later() {
    let whole = tempfile::tempdir().unwrap();
    let cut = tempfile::tempdir().unwrap();
    let with_evaluation = || {
        open(2, |config| {
            let val = ValDataConfig::new(SourceConfig::custom("colors"));
            config.data.val = Some(val);
            config.eval.push(EvalConfig::held_out());
            config.batch.parts = Some(2);
            config.checkpoint.best = Some("eval/val/loss".to_string());
        })
    };
    let lines_of = |folder: &Path| -> Vec<(Value, Value)> {
        let lines = lines(&folder.join("metrics.jsonl"));
        let what = |line: &Value| (line["step"].clone(), line["eval/val/loss"].clone());
        lines.iter().map(what).collect()
    };
    let outcomes = on_ranks(2, |comm| {
        train_rank(&with_evaluation(), whole.path(), comm, None)
    });
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(
        lines_of(whole.path())
            .iter()
            .any(|(_, loss)| loss.is_number())
    );
    // Every exchange from the end of the run backwards, until it is one of a step.
    let mut evaluations_lost = 0;
    for exchange in 1.. {
        fs::remove_dir_all(cut.path()).unwrap();
        let fault = Fault {
            exchange,
            trouble: Trouble::Fail,
        };
        let results = on_faulty_ranks(
            2,
            Duration::from_mins(1),
            |rank| (rank == 1).then_some(fault),
            |comm| train_rank(&with_evaluation(), cut.path(), comm, None),
        );
        if results.iter().all(Result::is_ok) {
            break;
        }
        let state = cut
            .path()
            .join("checkpoints/step-00000002/trainer/state.json");
        let state = fs::read_to_string(state).unwrap_or_default();
        evaluations_lost += u32::from(state.contains("\"unevaluated\": true"));
        let goes_on = on_ranks(1, |comm| {
            train_rank(&with_evaluation(), cut.path(), comm, None)
        });
        assert!(goes_on[0].is_ok(), "{exchange}: {goes_on:?}");
        let (own, expected) = (lines_of(cut.path()), lines_of(whole.path()));
        let steps = |lines: &[(Value, Value)]| -> Vec<(Value, bool)> {
            let one = |(step, loss): &(Value, Value)| (step.clone(), loss.is_number());
            lines.iter().map(one).collect()
        };
        assert_eq!(steps(&own), steps(&expected), "after exchange {exchange}");
        let state = cut
            .path()
            .join("checkpoints/step-00000002/trainer/state.json");
        let state = fs::read_to_string(state).unwrap();
        assert!(
            !state.contains("unevaluated") && state.contains("eval/val/loss"),
            "{state}"
        );
    }
    assert!(evaluations_lost > 0, "the last evaluation has exchanges");
}

#[test]
fn ranks_with_other_configs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let errors = on_ranks(2, |comm| {
        let is_first = comm.is_first();
        let run = open(2, |config| config.seed = u64::from(is_first));
        train_rank(&run, folder.path(), comm, None)
            .unwrap_err()
            .to_string()
    });
    for error in errors {
        assert!(
            error.starts_with("rank 1 (") && error.contains("another config"),
            "{error}"
        );
    }
}

/// Runs two steps with one fault; all ranks end alike and soon.
/// - returns whether the fault was in the way.
fn with_fault(limit: Duration, faulty: usize, fault: Fault) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let ranks = 2;
    let results = on_faulty_ranks(
        ranks,
        limit,
        |rank| (rank == faulty).then_some(fault),
        |comm| {
            let run = open(2, |config| {
                config.checkpoint.every.0 = vec!["1 step".parse().unwrap()];
            });
            train_rank(&run, folder.path(), comm, None)
        },
    );
    assert!(
        begun.elapsed() < limit * 4 + Duration::from_mins(1),
        "{fault:?}: a rank hangs"
    );
    let failed = results.iter().filter(|result| result.is_err()).count();
    let is_last = failed > 0 && failed < ranks;
    // Only in the very last exchange may one rank have finished before the other fails.
    assert!(
        !is_last || results.iter().flatten().all(|one| one.steps == 2),
        "{fault:?}"
    );
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        let lost = matches!(error, TrainError::RankLost { .. });
        assert!(lost, "{fault:?}: {error}");
    }
    // What is there is whole, and the run goes on to its end.
    let found = checkpoints_of(folder.path()).unwrap();
    let goes_on = on_ranks(1, |comm| {
        train_rank(
            &open(2, |config| {
                config.checkpoint.every.0 = vec!["1 step".parse().unwrap()];
            }),
            folder.path(),
            comm,
            None,
        )
        .unwrap()
    });
    assert_eq!(goes_on[0].steps, 2, "{fault:?} after {found:?}");
    assert_eq!(losses(folder.path()).len(), 2);
    failed > 0
}

#[test]
fn whatever_exchange_fails_nobody_hangs() {
    const LIMIT: Duration = Duration::from_mins(1);
    // The first exchange is that of the start of the ranks.
    let mut exchange = 1;
    while with_fault(
        LIMIT,
        usize::try_from(exchange % 2).unwrap(),
        Fault {
            exchange,
            trouble: Trouble::Fail,
        },
    ) {
        exchange += 1;
        assert!(exchange < 500, "the run has an end");
    }
    assert!(exchange > 20, "a run has exchanges");
}

#[test]
fn bytes_that_do_not_arrive_are_not_waited_for_longer_than_the_patience() {
    let fault = |exchange, trouble| Fault { exchange, trouble };
    // Each kind of exchange is among them.
    let mut exchange = 2;
    while with_fault(Duration::from_secs(5), 1, fault(exchange, Trouble::Drop)) {
        let delay = Trouble::Delay(Duration::from_millis(200));
        assert!(!with_fault(
            Duration::from_mins(1),
            1,
            fault(exchange, delay)
        ));
        exchange += 5;
        assert!(exchange < 500, "the run has an end");
    }
    assert!(exchange > 20, "a run has exchanges");
}
