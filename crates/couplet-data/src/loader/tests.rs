use std::sync::Arc;

use super::*;
use crate::order::{Order, Parts};
use crate::sample::{ImageData, Sample, SampleError, SkipCause};
use crate::source::MapDataset;
use crate::stream::{ShardedDataset, StreamSample};
use crate::transform::Transform;
use crate::{Clean, Interpolation, ResizeMode, Tokenizer};
use image::RgbImage;

/// Gray images whose level is their index; some indices are bad.
struct Levels {
    len: u8,
    bad: Vec<usize>,
}

impl MapDataset for Levels {
    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        if self.bad.contains(&index) {
            return Err(SampleError::new(SkipCause::CorruptImage, "bad"));
        }
        assert!(index != 200, "a decoder's bug");
        let level = u8::try_from(index).unwrap();
        Ok(Sample {
            label: None,
            image: ImageData::Pixels(RgbImage::from_pixel(2, 2, [level; 3].into())),
            caption: "a word ".repeat(index % 5),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("levels".into(), index.to_string())
    }

    fn listing(&self) -> Vec<crate::ListedFile> {
        Vec::new()
    }
}

fn token_options(context_length: usize, cut: bool) -> TokenOptions {
    TokenOptions {
        tokenizer: Tokenizer::clip(),
        context_length,
        pad_id: 0,
        cut,
    }
}

fn options(threads: usize) -> LoaderOptions {
    LoaderOptions {
        order: Order {
            len: 0,
            epoch_len: 0,
            resample: false,
            seed: 1,
        },
        parts: Parts::ONE,
        batch_size: 0,
        transform: Transform::eval(2, ResizeMode::Shortest, Interpolation::Bicubic),
        tokens: token_options(20, true),
        max_image_pixels: 100,
        dct_scaling: false,
        max_skipped: 0.2,
        threads,
        once: false,
    }
}

fn start(source: Levels, batch_size: usize, threads: usize, position: LoaderState) -> Loader {
    let mut options = options(threads);
    options.order.len = source.len();
    options.order.epoch_len = source.len();
    options.batch_size = batch_size;
    Loader::start(PairDataset::Indexed(Arc::new(source)), options, position).unwrap()
}

fn levels(batch: &HostBatch) -> Vec<u8> {
    let pixels = batch.pixels(0..batch.len());
    pixels.chunks_exact(12).map(|image| image[0]).collect()
}

fn take(loader: &Loader, batches: usize) -> Vec<(Vec<u8>, Vec<i32>, LoaderState)> {
    (0..batches)
        .map(|_| {
            let batch = loader.next_batch().unwrap();
            (levels(&batch), batch.tokens, batch.next)
        })
        .collect()
}

fn some_bad() -> Levels {
    Levels {
        len: 40,
        bad: vec![3, 17, 30],
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_batch() {
    let one = take(&start(some_bad(), 8, 1, LoaderState::default()), 12);
    let four = take(&start(some_bad(), 8, 4, LoaderState::default()), 12);
    assert_eq!(one, four);
    assert_eq!(one[4].2.epoch, 1, "40 samples make 5 batches of 8");
}

#[test]
fn reading_once_gives_every_usable_sample_exactly_once() {
    for (bad, batch_size) in [
        (vec![3, 17, 30], 8),
        (vec![], 16),
        ((0..30).collect(), 8),
        ((0..40).collect(), 8),
    ] {
        let mut options = options(2);
        (options.order.len, options.order.epoch_len) = (40, 40);
        (options.batch_size, options.once, options.max_skipped) = (batch_size, true, 1.0);
        let source = Arc::new(Levels {
            len: 40,
            bad: bad.clone(),
        });
        let loader = Loader::start(
            PairDataset::Indexed(source),
            options,
            LoaderState::default(),
        )
        .unwrap();
        let (mut seen, mut skipped) = (Vec::new(), 0);
        loop {
            let batch = loader.next_batch().unwrap();
            let captions = batch.tokens.len() / batch.token_length.max(1);
            assert_eq!(captions, batch.len());
            // Each caption still belongs to its image.
            for (level, tokens) in levels(&batch).iter().zip(&batch.caption_lengths) {
                assert_eq!(*tokens, 2 + 2 * usize::from(level % 5));
            }
            seen.extend(levels(&batch));
            skipped += batch.skipped.len();
            if batch.next.epoch > 0 {
                break;
            }
        }
        seen.sort_unstable();
        let usable: Vec<u8> = (0..40)
            .filter(|at| !bad.contains(&usize::from(*at)))
            .collect();
        assert_eq!((seen, skipped), (usable, bad.len()));
    }
}

#[test]
fn a_batch_of_samples_that_are_read_once_has_the_usable_ones_of_its_places() {
    let mut options = options(2);
    (options.order.len, options.order.epoch_len) = (251, 251);
    (options.once, options.max_skipped) = (true, 1.0);
    let order = options.order.epoch(0);
    // Index 200 is a decoder's bug. A whole chunk is bad, and some of the others.
    let mut bad: Vec<usize> = order[..super::batch::CHUNK].to_vec();
    bad.extend(
        order[super::batch::CHUNK..]
            .iter()
            .filter(|index| *index % 3 == 0),
    );
    let is_usable = |index: &usize| !bad.contains(index) && *index != 200;
    for (start, batch_size) in [(0, 7), (21, 7), (0, 200), (100, 151), (0, 400)] {
        options.batch_size = batch_size;
        let source = Arc::new(Levels {
            len: 251,
            bad: bad.clone(),
        });
        let mut position = LoaderState::start_of(0, 1);
        position.parts[0].samples = start;
        let loader = Loader::start(PairDataset::Indexed(source), options.clone(), position);
        let loader = loader.unwrap();
        for places in order[start..].chunks(batch_size) {
            let batch = loader.next_batch().unwrap();
            let usable = places.iter().copied().filter(is_usable);
            let usable: Vec<u8> = usable.map(|index| u8::try_from(index).unwrap()).collect();
            assert_eq!(levels(&batch), usable);
            assert_eq!(batch.skipped.len(), places.len() - usable.len());
            let tokens = usable.iter().map(|level| 2 + 2 * usize::from(level % 5));
            assert_eq!(batch.caption_lengths, tokens.collect::<Vec<_>>());
        }
        assert!(loader.next_batch().is_err());
    }
}

#[test]
fn a_loader_resumes_from_any_position() {
    let whole = take(&start(some_bad(), 8, 2, LoaderState::default()), 12);
    for at in [0, 3, 4, 6] {
        let rest = take(&start(some_bad(), 8, 2, whole[at].2.clone()), 3);
        assert_eq!(rest, whole[at + 1..at + 4]);
    }
}

#[test]
fn bad_samples_are_replaced_and_listed() {
    let loader = start(some_bad(), 8, 2, LoaderState::default());
    let batches: Vec<_> = (0..5).map(|_| loader.next_batch().unwrap()).collect();
    let seen: Vec<u8> = batches.iter().flat_map(levels).collect();
    assert!(!seen.contains(&3) && !seen.contains(&17) && !seen.contains(&30));
    let mut keys: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.skipped)
        .map(|skipped| skipped.key.as_str())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys, ["17", "3", "30"]);
}

#[test]
fn an_epoch_that_begins_again_counts_its_bad_samples_once() {
    let bad: Vec<usize> = (0..20).collect();
    let mut options = options(2);
    (options.order.len, options.order.epoch_len) = (40, 40);
    (options.batch_size, options.max_skipped) = (8, 0.5);
    let source = Arc::new(Levels { len: 40, bad });
    let dataset = PairDataset::Indexed(source);
    let loader = Loader::start(dataset, options, LoaderState::default()).unwrap();
    for epoch in 0..3 {
        // 40 usable samples, each one twice.
        let batches: Vec<_> = (0..5).map(|_| loader.next_batch().unwrap()).collect();
        let skipped: usize = batches.iter().map(|batch| batch.skipped.len()).sum();
        assert_eq!(skipped, 20, "epoch {epoch}");
        assert!(batches.iter().all(|batch| batch.next.skipped() <= 20));
    }
}

#[test]
fn too_many_bad_samples_stop_the_loader_with_their_causes() {
    let bad = (0..30).collect();
    let loader = start(Levels { len: 40, bad }, 8, 2, LoaderState::default());
    let error = loop {
        match loader.next_batch() {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("corrupt image"), "{error}");
    assert!(error.contains("max_skipped = 0.2"), "{error}");
}

#[test]
fn a_panicking_decoder_skips_one_sample() {
    let source = Levels {
        len: 201,
        bad: Vec::new(),
    };
    let loader = start(source, 201, 2, LoaderState::default());
    let batch = loader.next_batch().unwrap();
    assert_eq!(batch.skipped.len(), 1);
    assert_eq!(
        batch.skipped[0].detail,
        "the decoder panicked: a decoder's bug"
    );
}

#[test]
fn captions_are_padded_to_the_longest_rounded_up() {
    let (tokens, length) = token_options(77, true).pad(&[vec![9, 8, 7], vec![9, 7]]);
    assert_eq!(length, 8);
    assert_eq!(tokens[..4], [9, 8, 7, 0]);
    assert_eq!(tokens[8..12], [9, 7, 0, 0]);
    assert_eq!(token_options(6, true).pad(&[vec![1; 5]]).1, 6);
    // A tower that reads its padding gets the whole context length.
    let options = TokenOptions {
        pad_id: 3,
        ..token_options(12, false)
    };
    let (tokens, length) = options.pad(&[vec![9, 7]]);
    assert_eq!(length, 12);
    assert_eq!(tokens[1..4], [7, 3, 3]);
}

/// Shards of ten levels each; every ninth sample is bad.
struct LevelShards;

impl ShardedDataset for LevelShards {
    fn len(&self) -> usize {
        6
    }

    fn samples(&self) -> Option<usize> {
        Some(60)
    }

    fn shuffle_buffer(&self) -> usize {
        13
    }

    fn name(&self, shard: usize) -> String {
        format!("shard {shard}")
    }

    fn listing(&self) -> Vec<crate::ListedFile> {
        Vec::new()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        let source = Levels {
            len: 60,
            bad: (0..60).step_by(9).collect(),
        };
        for at in from..10 {
            let index = shard * 10 + usize::try_from(at).unwrap();
            let streamed = StreamSample {
                key: index.to_string(),
                sample: source.read(index, epoch),
                next: at + 1,
                lost: None,
            };
            if !give(streamed) {
                return;
            }
        }
    }
}

fn start_stream(threads: usize, position: LoaderState) -> Loader {
    let options = LoaderOptions {
        order: Order {
            len: 60,
            epoch_len: 60,
            resample: false,
            seed: 1,
        },
        batch_size: 8,
        ..options(threads)
    };
    Loader::start(
        PairDataset::Stream(Arc::new(LevelShards)),
        options,
        position,
    )
    .unwrap()
}

#[test]
fn a_stream_is_the_same_with_any_number_of_threads_and_from_any_position() {
    let one = take(&start_stream(1, LoaderState::default()), 18);
    let four = take(&start_stream(4, LoaderState::default()), 18);
    assert_eq!(one, four);
    assert_eq!(one[6].2.epoch, 1, "60 samples make 7 batches of 8");
    for at in [0, 3, 5, 6, 9] {
        let position: LoaderState =
            serde_json::from_str(&serde_json::to_string(&one[at].2).unwrap()).unwrap();
        let rest = take(&start_stream(2, position), 3);
        assert_eq!(rest, one[at + 1..at + 4]);
    }
}

#[test]
fn a_caption_that_cannot_be_tokenized_is_skipped_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    // Knows one word, and no token for an unknown one.
    let file = serde_json::json!({
        "model": {"type": "WordLevel", "vocab": {"a": 0, "word": 1, "aword": 2}, "unk_token": "?"},
        "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": [],
    });
    std::fs::write(&path, file.to_string()).unwrap();
    let mut options = options(2);
    (options.order.len, options.order.epoch_len) = (10, 10);
    (options.batch_size, options.once, options.max_skipped) = (10, true, 1.0);
    options.tokens.tokenizer = Tokenizer::from_file(&path, Clean::None).unwrap().into();
    let first = |options: &LoaderOptions| {
        let set = PairDataset::Indexed(Arc::new(Levels {
            len: 10,
            bad: vec![],
        }));
        let loader = Loader::start(set, options.clone(), LoaderState::default()).unwrap();
        loader.next_batch().unwrap()
    };
    assert!(first(&options).skipped.is_empty());
    let without = file.to_string().replace("\"word\"", "\"other\"");
    std::fs::write(&path, without).unwrap();
    options.tokens.tokenizer = Tokenizer::from_file(&path, Clean::None).unwrap().into();
    let batch = first(&options);
    // Two of the ten captions are empty, which needs no word.
    assert_eq!((batch.len(), batch.skipped.len()), (2, 8));
    let skipped = &batch.skipped[0];
    assert_eq!(skipped.cause, SkipCause::InvalidCaption);
    assert!(skipped.detail.contains("does not encode"), "{skipped}");
}
