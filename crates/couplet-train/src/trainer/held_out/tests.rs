//! Held-out pairs over threads as ranks, against one rank's.

use std::error::Error;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use couplet_data::source::{MapDataset, PairDataset, ShapesConfig, SourceConfig};
use couplet_data::stream::{ShardedDataset, StreamSample};
use couplet_data::{
    ImageData, ListedFile, RgbImage, Sample, SampleError, SkipCause, Tokenizer, with_causes,
};
use couplet_model::{Clip, PreprocessSpec};

use super::*;
use crate::config::{EvalTarget, ModelConfig, ResolvedRun, RunBuilder, RunConfig, ValDataConfig};
use crate::optimizer::OptimizerConfig;
use crate::schedule::ScheduleConfig;

const PAIRS: usize = 151;
const BATCH: usize = 40;
/// Pairs that are encoded at once.
const MOST: usize = 16;

/// Pairs of which some are bad.
#[derive(Clone)]
struct Pairs {
    bad: Vec<usize>,
}

impl MapDataset for Pairs {
    fn len(&self) -> usize {
        PAIRS
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        if self.bad.contains(&index) {
            return Err(SampleError::new(SkipCause::CorruptImage, "bad"));
        }
        let pixel = |x: u32, y: u32| {
            [x, y, x * y].map(|value| {
                u8::try_from((value as usize * 5 + index * 29) % 256).expect("it is below 256")
            })
        };
        Ok(Sample {
            image: ImageData::Pixels(RgbImage::from_fn(8, 8, |x, y| pixel(x, y).into())),
            caption: format!("pair {} {}", index * 13, "and more ".repeat(index % 7)),
            label: None,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("pairs".into(), index.to_string())
    }

    fn listing(&self) -> Vec<ListedFile> {
        Vec::new()
    }
}

/// The same pairs, in four shards.
impl ShardedDataset for Pairs {
    fn len(&self) -> usize {
        4
    }

    fn samples(&self) -> Option<usize> {
        Some(PAIRS)
    }

    fn shuffle_buffer(&self) -> usize {
        32
    }

    fn name(&self, shard: usize) -> String {
        shard.to_string()
    }

    fn listing(&self) -> Vec<ListedFile> {
        Vec::new()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        let own = (0..PAIRS).filter(|index| index % 4 == shard);
        for (at, index) in own.enumerate().skip(usize::try_from(from).unwrap()) {
            let sample = StreamSample {
                key: index.to_string(),
                sample: MapDataset::read(self, index, epoch),
                next: at as u64 + 1,
                lost: None,
            };
            if !give(sample) {
                return;
            }
        }
    }
}

/// One of several threads.
struct Threads {
    rank: usize,
    shared: Arc<(Barrier, Mutex<Vec<Vec<u8>>>)>,
}

impl Division for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.shared.1.lock().unwrap().len()
    }

    fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        let (barrier, messages) = &*self.shared;
        messages.lock().unwrap()[self.rank] = own;
        barrier.wait();
        let all = messages.lock().unwrap().clone();
        barrier.wait();
        Ok(all)
    }
}

fn on_ranks<T: Send>(ranks: usize, work: impl Fn(&dyn Division) -> T + Sync) -> Vec<T> {
    let shared = Arc::new((Barrier::new(ranks), Mutex::new(vec![Vec::new(); ranks])));
    let team = (0..ranks).map(|rank| Threads {
        rank,
        shared: shared.clone(),
    });
    let team: Vec<_> = team.collect();
    let work = &work;
    thread::scope(|scope| {
        let ranks = team.iter().map(|own| scope.spawn(move || work(own)));
        let ranks: Vec<_> = ranks.collect();
        let joined = ranks.into_iter().map(|rank| rank.join().unwrap());
        joined.collect()
    })
}

fn open(pairs: &Pairs) -> ResolvedRun {
    let mut config = RunConfig::new(
        "t",
        ModelConfig::preset("ViT-Ti-8-32").unwrap(),
        SourceConfig::Shapes(ShapesConfig { samples: 64 }),
        BATCH,
        OptimizerConfig::adamw(1e-3),
        ScheduleConfig::cosine("2 epochs".parse().unwrap()),
    );
    config.data.val = Some(ValDataConfig::new(SourceConfig::custom("pairs")));
    let run = RunBuilder::new(config).val_dataset(pairs.clone());
    run.open().unwrap()
}

fn held_out_data(run: &mut ResolvedRun) -> &mut ResolvedData {
    match &mut run.evals[0].target {
        EvalTarget::HeldOut(data) => data,
        _ => panic!("the first evaluation is of held-out pairs"),
    }
}

fn encoder(run: &ResolvedRun) -> Encoder {
    let spec = run.config.model.spec();
    let model = Clip::init(&spec, 0, &Device::flex());
    Encoder::new(model, &spec, &PreprocessSpec::default(), Tokenizer::clip()).unwrap()
}

type Outcome = (Report, Vec<Skipped>, Vec<(usize, usize)>);

fn evaluate(
    encoder: &Encoder,
    run: &ResolvedRun,
    data: &ResolvedData,
    division: Option<&dyn Division>,
) -> Result<Outcome, TrainError> {
    let mut counts = Vec::new();
    let progress = |done, all| counts.push((done, all));
    let loss = (run.loss.as_ref(), MOST);
    let (report, skipped) = held_out(encoder, data, loss, division, progress)?;
    Ok((report, skipped, counts))
}

#[test]
fn any_number_of_ranks_reports_what_one_reports() {
    // Whole batches, single pairs, and none.
    let some_bad = (32..50).chain([0, 77, 150]).collect();
    for bad in [vec![], some_bad, (2..PAIRS).collect()] {
        let pairs = Pairs { bad: bad.clone() };
        let mut run = open(&pairs);
        let encoder = encoder(&run);
        for is_stream in [false, true] {
            if is_stream {
                held_out_data(&mut run).set = PairDataset::Stream(Arc::new(pairs.clone()));
            }
            let EvalTarget::HeldOut(data) = &run.evals[0].target else {
                panic!("the first evaluation is of held-out pairs");
            };
            let (alone, skipped, counts) = evaluate(&encoder, &run, data, None).unwrap();
            assert_eq!(alone.images, PAIRS - bad.len());
            assert_eq!(skipped.len(), bad.len());
            assert_eq!(counts.last(), Some(&(PAIRS, PAIRS)));
            for ranks in [1, 2, 3, 5, 11] {
                let found = on_ranks(ranks, |division| {
                    evaluate(&encoder, &run, data, Some(division)).unwrap()
                });
                for (report, own_skipped, counts) in found {
                    assert_eq!(report, alone, "{ranks} ranks");
                    assert_eq!(own_skipped, skipped);
                    assert!(counts.is_sorted());
                    assert_eq!(counts.last(), Some(&(PAIRS, PAIRS)));
                }
            }
        }
    }
}

#[test]
fn an_error_on_one_rank_is_everyones() {
    let sound = open(&Pairs { bad: vec![] });
    let mut fewer = open(&Pairs { bad: vec![] });
    let encoder = encoder(&sound);
    held_out_data(&mut fewer).epoch_len -= 1;
    let mut strict = open(&Pairs {
        bad: (0..PAIRS).collect(),
    });
    held_out_data(&mut strict).table.max_skipped = 0.0;
    let wanted = [
        (
            &fewer,
            "rank 2: the number of pairs in `data.val` differs from that of rank 0",
        ),
        (&strict, "rank 2: 16 of 151 samples were skipped in epoch 1"),
    ];
    for (other, start) in wanted {
        let errors = on_ranks(3, |division| {
            let run = if division.rank() == 2 { other } else { &sound };
            let EvalTarget::HeldOut(data) = &run.evals[0].target else {
                panic!("the first evaluation is of held-out pairs");
            };
            let error = evaluate(&encoder, run, data, Some(division)).unwrap_err();
            with_causes(&error)
        });
        assert!(errors[0].starts_with(start), "{}", errors[0]);
        assert!(errors.iter().all(|error| *error == errors[0]));
    }
}

#[test]
fn the_loss_is_that_of_batches_of_usable_pairs() {
    let run = open(&Pairs { bad: vec![5, 60] });
    let encoder = encoder(&run);
    let EvalTarget::HeldOut(data) = &run.evals[0].target else {
        panic!("the first evaluation is of held-out pairs");
    };
    let (report, ..) = evaluate(&encoder, &run, data, None).unwrap();
    // The usable pairs in their order, encoded one by one.
    let loader = data.load_once(0..PAIRS, 1).unwrap();
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let batch = loader.next_batch().unwrap();
        if !batch.is_empty() {
            let (tokens, length) = batch.tokens(0..1);
            images.push(encoder.encode_pixels(batch.pixels(0..1)));
            texts.push(l2_normalize(encoder.encode_tokens_raw(tokens, length)));
        }
    }
    assert_eq!(images.len(), PAIRS - 2);
    let mut sum = 0.0;
    for (image, text) in images.chunks(BATCH).zip(texts.chunks(BATCH)) {
        let features = Features {
            image: Tensor::cat(image.to_vec(), 0),
            text: Tensor::cat(text.to_vec(), 0),
            logit_scale: encoder.model().logit_scale.val(),
            logit_bias: None,
        };
        let loss = parts(run.loss.as_ref(), &features, image.len());
        let loss: f32 = loss.into_iter().map(Tensor::into_scalar::<f32>).sum();
        sum += f64::from(loss) * f64::from(u32::try_from(image.len()).unwrap());
    }
    let wanted = sum / f64::from(u32::try_from(PAIRS - 2).unwrap());
    let found = report.metrics.get(LOSS.name).unwrap();
    assert!((found - wanted).abs() < 1e-5, "{found}, not {wanted}");
}
