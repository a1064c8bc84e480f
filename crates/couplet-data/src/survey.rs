//! A look at every sample of a set, once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::decode;
use crate::loader::TokenOptions;
use crate::sample::{ImageData, Sample, SampleError, SkipCause, Skipped};
use crate::source::{PairDataset, Read};

/// Samples between two reports of how far it is.
const CHUNK: usize = 256;

/// What is known of a set after reading all of it.
#[derive(Debug, Default)]
pub struct DatasetStats {
    /// Unusable ones included.
    pub samples: usize,
    pub skipped: Vec<Skipped>,
    /// Of usable samples, sorted: sides of images in pixels, bytes of their files (of those
    /// that are drawn there are none), ids of captions, start and end included.
    pub widths: Vec<u32>,
    pub heights: Vec<u32>,
    pub bytes: Vec<usize>,
    pub tokens: Vec<usize>,
    /// Captions with more ids than the context holds.
    pub cut_captions: usize,
    /// Samples whose caption, or whose image file, stood in an earlier one.
    pub repeated_captions: usize,
    pub repeated_images: usize,
}

/// One usable sample.
struct Seen {
    size: [u32; 2],
    bytes: Option<usize>,
    tokens: usize,
    caption_hash: u64,
    image_hash: u64,
}

impl DatasetStats {
    /// Reads, decodes and tokenizes every sample, as the first epoch shows it.
    /// - max_pixels: larger images are unusable.
    /// - progress: told how many samples are done.
    pub fn collect(
        set: &PairDataset,
        tokens: &TokenOptions,
        max_pixels: u64,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let mut survey = Self::default();
        let (mut captions, mut images, mut done) = (Vec::new(), Vec::new(), 0);
        let look = |read: Read<'_>| look(read, tokens, max_pixels);
        let all: Result<(), Infallible> = set.for_each_chunk(CHUNK, look, |seen| {
            done += seen.len();
            for outcome in seen {
                match outcome {
                    Ok(seen) => {
                        survey.samples += 1;
                        survey.widths.push(seen.size[0]);
                        survey.heights.push(seen.size[1]);
                        survey.bytes.extend(seen.bytes);
                        survey.tokens.push(seen.tokens);
                        captions.push(seen.caption_hash);
                        images.push(seen.image_hash);
                    }
                    Err(skipped) => {
                        survey.samples += skipped.samples;
                        survey.skipped.push(skipped);
                    }
                }
            }
            progress(done);
            Ok(())
        });
        let Ok(()) = all;
        let context = tokens.context_length;
        survey.cut_captions = survey.tokens.iter().filter(|len| **len > context).count();
        survey.repeated_captions = repeated(captions);
        survey.repeated_images = repeated(images);
        survey.widths.sort_unstable();
        survey.heights.sort_unstable();
        survey.bytes.sort_unstable();
        survey.tokens.sort_unstable();
        survey
    }

    /// Unusable samples by cause.
    pub fn causes(&self) -> BTreeMap<SkipCause, usize> {
        let mut causes = BTreeMap::new();
        for skipped in &self.skipped {
            *causes.entry(skipped.cause).or_default() += skipped.samples;
        }
        causes
    }
}

fn look(read: Read<'_>, tokens: &TokenOptions, max_pixels: u64) -> Result<Seen, SampleError> {
    let Sample {
        picture, caption, ..
    } = read()?;
    let (bytes, image_hash) = match &picture {
        ImageData::Encoded(bytes) => (Some(bytes.len()), hash(bytes)),
        ImageData::Pixels(pixels) => (None, hash(pixels.as_raw())),
    };
    let image = decode(picture, max_pixels)?;
    Ok(Seen {
        size: [image.width(), image.height()],
        bytes,
        tokens: tokens.tokenizer.encode(&caption, usize::MAX).len(),
        caption_hash: hash(&caption),
        image_hash,
    })
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How many stood among the others before.
fn repeated(mut hashes: Vec<u64>) -> usize {
    let all = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    all - hashes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use crate::source::MapDataset;
    use image::{ImageFormat, RgbImage};
    use std::sync::Arc;

    struct Three;

    impl MapDataset for Three {
        fn len(&self) -> usize {
            4
        }

        fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
            let mut png = std::io::Cursor::new(Vec::new());
            RgbImage::new(3, 5)
                .write_to(&mut png, ImageFormat::Png)
                .unwrap();
            let mut bytes = png.into_inner();
            if index == 3 {
                bytes.truncate(20);
            }
            Ok(Sample {
                label: None,
                picture: ImageData::Encoded(bytes),
                caption: ["a", "a", "a b c d e f g h", "x"][index].into(),
            })
        }

        fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
            ("three".into(), index.to_string())
        }
    }

    #[test]
    fn a_set_is_counted() {
        let tokens = TokenOptions {
            tokenizer: Tokenizer::clip(),
            context_length: 6,
            pad_id: 0,
            cut: true,
        };
        let mut done = 0;
        let survey = DatasetStats::collect(
            &PairDataset::Indexed(Arc::new(Three)),
            &tokens,
            100,
            |so_far| {
                done = so_far;
            },
        );
        assert_eq!((survey.samples, done), (4, 4));
        assert_eq!(
            survey.causes(),
            BTreeMap::from([(SkipCause::CorruptImage, 1)])
        );
        assert_eq!(survey.skipped[0].key, "3");
        assert_eq!((survey.widths, survey.heights), (vec![3; 3], vec![5; 3]));
        assert_eq!(survey.tokens, [3, 3, 10]);
        assert_eq!(survey.cut_captions, 1);
        assert_eq!((survey.repeated_captions, survey.repeated_images), (1, 2));
    }
}
