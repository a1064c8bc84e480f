use super::*;
use crate::sample::{Picture, Sample};
use crate::{Filter, Fit};
use image::RgbImage;

/// Grey pictures whose level is their index; some indices are bad.
struct Levels {
    len: u8,
    bad: Vec<usize>,
}

impl Source for Levels {
    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, Fault> {
        if self.bad.contains(&index) {
            return Err(Fault::new(SkipCause::CorruptImage, "bad"));
        }
        assert!(index != 200, "a decoder's bug");
        let level = u8::try_from(index).unwrap();
        Ok(Sample {
            picture: Picture::Pixels(RgbImage::from_pixel(2, 2, [level; 3].into())),
            caption: "a word ".repeat(index % 5),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("levels".into(), index.to_string())
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

fn start(source: Levels, batch_size: usize, threads: usize, position: Position) -> Loader {
    let options = LoaderOptions {
        order: Order {
            len: source.len(),
            epoch_len: source.len(),
            resample: false,
            share: crate::order::Share::ALL,
            seed: 1,
        },
        batch_size,
        transform: Transform::eval(2, Fit::Crop, Filter::Bicubic),
        tokens: token_options(20, true),
        max_image_pixels: 100,
        max_skipped: 0.2,
        threads,
    };
    Loader::start(Arc::new(source), options, position).unwrap()
}

fn levels(batch: &HostBatch) -> Vec<u8> {
    let pixels = batch.pixels(0..batch.len());
    pixels.chunks_exact(12).map(|image| image[0]).collect()
}

fn take(loader: &Loader, batches: usize) -> Vec<(Vec<u8>, Vec<i32>, Position)> {
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
fn threads_do_not_change_what_a_batch_holds() {
    let one = take(&start(some_bad(), 8, 1, Position::default()), 12);
    let four = take(&start(some_bad(), 8, 4, Position::default()), 12);
    assert_eq!(one, four);
    assert_eq!(one[4].2.epoch, 1, "40 samples make 5 batches of 8");
}

#[test]
fn a_position_takes_up_where_it_was() {
    let whole = take(&start(some_bad(), 8, 2, Position::default()), 12);
    for at in [0, 3, 4, 6] {
        let rest = take(&start(some_bad(), 8, 2, whole[at].2), 3);
        assert_eq!(rest, whole[at + 1..at + 4]);
    }
}

#[test]
fn bad_samples_are_replaced_and_listed() {
    let loader = start(some_bad(), 8, 2, Position::default());
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
fn too_many_bad_samples_stop_the_loader_with_their_causes() {
    let bad = (0..30).collect();
    let loader = start(Levels { len: 40, bad }, 8, 2, Position::default());
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
fn a_panicking_decoder_costs_one_sample() {
    let source = Levels {
        len: 201,
        bad: Vec::new(),
    };
    let loader = start(source, 201, 2, Position::default());
    let batch = loader.next_batch().unwrap();
    assert_eq!(batch.skipped.len(), 1);
    assert_eq!(batch.skipped[0].detail, "the decoder panicked");
}

#[test]
fn captions_are_padded_to_the_longest_rounded_up() {
    let (tokens, length) = token_options(77, true).pad(&[vec![9, 8, 7], vec![9, 7]]);
    assert_eq!(length, 8);
    assert_eq!(tokens[..4], [9, 8, 7, 0]);
    assert_eq!(tokens[8..12], [9, 7, 0, 0]);
    assert_eq!(token_options(6, true).pad(&[vec![1; 5]]).1, 6);
    // A tower that reads its padding gets all of it.
    let options = TokenOptions {
        pad_id: 3,
        ..token_options(12, false)
    };
    let (tokens, length) = options.pad(&[vec![9, 7]]);
    assert_eq!(length, 12);
    assert_eq!(tokens[1..4], [7, 3, 3]);
}
