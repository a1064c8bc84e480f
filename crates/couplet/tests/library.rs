//! The library as a program uses it: a run with the program's own data, loss and observer.

use std::path::Path;
use std::sync::Mutex;

use couplet::Tensor;
use couplet::data::{
    ImageData, ListedFile, MapDataset, RgbImage, Sample, SampleError, SkipCause, SourceConfig,
};
use couplet::loss::{Features, PairLoss};
use couplet::train::{
    AllowedChanges, EvalConfig, Event, ModelConfig, Observer, OptimizerConfig, RunBuilder,
    RunConfig, RunFolder, ScheduleConfig, StopReason, StopSignal, ValDataConfig, train,
};
use couplet::{Device, DeviceSetting, Encoder};

const SAMPLES: usize = 41;
/// This sample cannot be read.
const BAD: usize = 7;

/// Images of one color each.
struct Colors {
    samples: usize,
}

impl Colors {
    fn caption(index: usize) -> String {
        format!("color number {index}")
    }
}

impl MapDataset for Colors {
    fn len(&self) -> usize {
        self.samples
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        if index == BAD {
            return Err(SampleError::new(SkipCause::Unreadable, "it is gone"));
        }
        let level = |of: usize| u8::try_from(index * of % 256).expect("below 256");
        let color = [level(37), level(91), level(151)];
        Ok(Sample {
            image: ImageData::Pixels(RgbImage::from_pixel(40, 40, color.into())),
            caption: Self::caption(index),
            label: None,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("colors".into(), index.to_string())
    }

    fn listing(&self) -> Vec<ListedFile> {
        let captions = (0..self.samples).map(Self::caption);
        vec![ListedFile::of_texts("colors", captions)]
    }
}

/// The distance of pairs over the distance of all: not a sum over pairs.
struct Apart(&'static str);

impl PairLoss for Apart {
    fn name(&self) -> &str {
        self.0
    }

    fn forward(&self, features: Features) -> Tensor<1> {
        let all = features
            .image
            .clone()
            .matmul(features.text.clone().transpose());
        let own = (features.image * features.text).sum_dim(1).mean();
        all.exp().mean().log() - own
    }
}

/// The losses of all steps, and how often samples were skipped; stops a run after some steps.
#[derive(Default)]
struct Watch {
    losses: Vec<f64>,
    skipped: u64,
    stop: Option<(usize, StopSignal)>,
}

impl Observer for Watch {
    fn event(&mut self, event: Event) {
        match event {
            Event::Step(line) => self.losses.push(line.loss),
            Event::Skipped { samples, .. } => self.skipped += samples,
            _ => {}
        }
        if let Some((after, stop)) = &self.stop
            && self.losses.len() >= *after
        {
            stop.stop();
        }
    }
}

fn config(micro: Option<usize>) -> RunConfig {
    let mut config = RunConfig::new(
        "colors",
        ModelConfig::preset("ViT-Ti-8-32").expect("a preset"),
        SourceConfig::custom("colors"),
        8,
        OptimizerConfig::adamw(1e-3),
        ScheduleConfig::cosine("7 steps".parse().expect("a length")),
    );
    config.device = DeviceSetting::Flex;
    config.data.max_skipped = 0.1;
    config.batch.micro = micro.map(Into::into);
    config
}

fn run(
    folder: &Path,
    micro: Option<usize>,
    stop_after: Option<usize>,
) -> (Watch, couplet::train::Outcome) {
    let builder = RunBuilder::new(config(micro)).dataset(Colors { samples: SAMPLES });
    let run = builder.loss(Apart("apart")).open().unwrap();
    let folder = RunFolder::resume(folder, &run, AllowedChanges::Longer).unwrap();
    let stop = StopSignal::default();
    let mut watch = Watch {
        stop: stop_after.map(|steps| (steps, stop.clone())),
        ..Watch::default()
    };
    let outcome = train(&run, &folder, &stop, &mut watch).unwrap();
    (watch, outcome)
}

/// Tests share the cores, not the runs.
static ONE_BY_ONE: Mutex<()> = Mutex::new(());

#[test]
fn a_run_with_own_data_and_loss_resumes_bit_for_bit() {
    let _one = ONE_BY_ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let (whole, outcome) = run(&folder.path().join("whole"), Some(4), None);
    assert_eq!((outcome.steps, outcome.ending), (7, StopReason::Finished));
    // Once in each of the two epochs, if the second comes to it.
    assert!((1..=2).contains(&whole.skipped), "{}", whole.skipped);
    let skipped = std::fs::read_to_string(folder.path().join("whole/skipped.jsonl")).unwrap();
    assert!(skipped.contains("\"key\":\"7\"") && skipped.contains("it is gone"));

    let parts = folder.path().join("parts");
    let (first, outcome) = run(&parts, Some(4), Some(3));
    assert_eq!(outcome.ending, StopReason::Interrupted);
    let (second, _) = run(&parts, Some(4), None);
    assert_eq!([first.losses, second.losses].concat(), whole.losses);

    // Another micro-batch has the same gradients.
    let (at_once, _) = run(&folder.path().join("at-once"), None, None);
    for (own, other) in at_once.losses.iter().zip(&whole.losses) {
        assert!((own - other).abs() < 1e-4, "{own} {other}");
    }

    let model = folder.path().join("whole");
    let encoder = Encoder::open(&model, &Device::flex()).unwrap();
    assert_eq!(
        encoder.encode_texts(&["color number 3"]).unwrap().dims(),
        [1, 64]
    );
}

#[test]
fn a_run_is_not_resumed_without_what_it_was_given() {
    let _one = ONE_BY_ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    run(&path, None, Some(2));

    // As the command would.
    let file = path.join("config.toml");
    let error = RunBuilder::from_file(&file).resuming(Some(&path)).open();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("`apart`") && error.contains("`colors`"),
        "{error}"
    );

    let resume = |builder: RunBuilder| {
        let run = builder.resuming(Some(&path)).open().unwrap();
        let folder = RunFolder::resume(&path, &run, AllowedChanges::Longer);
        folder.map(|_| ()).unwrap_err().to_string()
    };
    let colors = |samples| RunBuilder::new(config(None)).dataset(Colors { samples });
    let other_loss = resume(colors(SAMPLES).loss(Apart("another")));
    assert!(
        other_loss.contains("loss.name: \"apart\" became \"another\""),
        "{other_loss}"
    );
    let built_in = resume(colors(SAMPLES));
    assert!(
        built_in.contains("loss.kind: \"custom\" became \"softmax\""),
        "{built_in}"
    );
    let other_data = resume(colors(SAMPLES - 1).loss(Apart("apart")));
    assert!(other_data.contains("41 samples became 40"), "{other_data}");
    // The file's own config, with the dataset and loss that it names.
    let builder = RunBuilder::from_file(&file).dataset(Colors { samples: SAMPLES });
    let run = builder
        .loss(Apart("apart"))
        .resuming(Some(&path))
        .open()
        .unwrap();
    RunFolder::resume(&path, &run, AllowedChanges::Harmless).unwrap();
}

#[test]
fn own_pairs_are_held_out() {
    let _one = ONE_BY_ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(None);
    config.schedule = ScheduleConfig::constant("1 step".parse().unwrap());
    config.data.val = Some(ValDataConfig::new(SourceConfig::custom("other-colors")));
    config.eval = vec![EvalConfig::held_out()];
    config.checkpoint.best = Some("eval/val/loss".into());
    let missing = RunBuilder::new(config.clone()).dataset(Colors { samples: SAMPLES });
    let error = missing.open().unwrap_err().to_string();
    assert!(
        error.contains("data.val.source") && error.contains("`other-colors`"),
        "{error}"
    );

    let builder = RunBuilder::new(config).dataset(Colors { samples: SAMPLES });
    let run = builder.val_dataset(Colors { samples: 5 }).open().unwrap();
    let folder = RunFolder::create(&folder.path().join("run"), &run.config).unwrap();
    let mut watch = Watch::default();
    let outcome = train(&run, &folder, &StopSignal::default(), &mut watch).unwrap();
    let best = outcome.best.unwrap();
    // Five pairs cost about as much as chance.
    assert!((best.value - 5f64.ln()).abs() < 1.0, "{}", best.value);
}
