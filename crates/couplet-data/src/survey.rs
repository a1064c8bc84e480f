//! Statistics of a dataset, from reading every sample once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::decode;
use crate::loader::TokenOptions;
use crate::sample::{ImageData, Sample, SampleError, SkipCause, Skipped};
use crate::source::{PairDataset, Read};

/// Samples between two calls of `progress`.
const CHUNK: usize = 256;

/// Statistics of a dataset.
#[derive(Debug, Default)]
pub struct DatasetStats {
    /// The number of samples, including unusable ones.
    pub samples: usize,
    pub skipped: Vec<Skipped>,
    /// Of usable samples, sorted: the sides of images in pixels, the bytes of encoded images, and the
    /// numbers of tokens of captions, including their start and end tokens.
    pub widths: Vec<u32>,
    pub heights: Vec<u32>,
    pub bytes: Vec<usize>,
    pub tokens: Vec<usize>,
    /// Captions with more tokens than the context length.
    pub cut_captions: usize,
    /// Samples whose caption is that of an earlier sample; likewise for encoded images.
    pub repeated_captions: usize,
    pub repeated_images: usize,
}

/// Measurements of one usable sample.
struct Seen {
    size: [u32; 2],
    bytes: Option<usize>,
    tokens: usize,
    caption_hash: u64,
    image_hash: u64,
}

impl DatasetStats {
    /// Reads, decodes and tokenizes every sample, as in the first epoch.
    /// - max_pixels: larger images are unusable.
    /// - progress: called with the number of samples that are done.
    pub fn collect(
        dataset: &PairDataset,
        tokens: &TokenOptions,
        max_pixels: u64,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let mut stats = Self::default();
        let (mut captions, mut images, mut done) = (Vec::new(), Vec::new(), 0);
        let measure = |read: Read<'_>| measure(read, tokens, max_pixels);
        let all: Result<(), Infallible> = dataset.for_each_chunk(CHUNK, measure, |seen| {
            done += seen.len();
            for outcome in seen {
                match outcome {
                    Ok(seen) => {
                        stats.samples += 1;
                        stats.widths.push(seen.size[0]);
                        stats.heights.push(seen.size[1]);
                        stats.bytes.extend(seen.bytes);
                        stats.tokens.push(seen.tokens);
                        captions.push(seen.caption_hash);
                        images.push(seen.image_hash);
                    }
                    Err(skipped) => {
                        stats.samples += skipped.samples;
                        stats.skipped.push(skipped);
                    }
                }
            }
            progress(done);
            Ok(())
        });
        let Ok(()) = all;
        let context = tokens.context_length;
        stats.cut_captions = stats.tokens.iter().filter(|len| **len > context).count();
        stats.repeated_captions = repeated(captions);
        stats.repeated_images = repeated(images);
        stats.widths.sort_unstable();
        stats.heights.sort_unstable();
        stats.bytes.sort_unstable();
        stats.tokens.sort_unstable();
        stats
    }

    /// The number of unusable samples by cause.
    pub fn causes(&self) -> BTreeMap<SkipCause, usize> {
        let mut causes = BTreeMap::new();
        for skipped in &self.skipped {
            *causes.entry(skipped.cause).or_default() += skipped.samples;
        }
        causes
    }
}

fn measure(read: Read<'_>, tokens: &TokenOptions, max_pixels: u64) -> Result<Seen, SampleError> {
    let Sample { image, caption, .. } = read()?;
    let (bytes, image_hash) = match &image {
        ImageData::Encoded(bytes) => (Some(bytes.len()), hash(bytes)),
        ImageData::Pixels(pixels) => (None, hash(pixels.as_raw())),
    };
    let image = decode(image, max_pixels)?;
    Ok(Seen {
        size: [image.width(), image.height()],
        bytes,
        tokens: tokens.tokenizer.encode(&caption, usize::MAX)?.len(),
        caption_hash: hash(&caption),
        image_hash,
    })
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The number of values that occurred before.
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
                image: ImageData::Encoded(bytes),
                caption: ["a", "a", "a b c d e f g h", "x"][index].into(),
            })
        }

        fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
            ("three".into(), index.to_string())
        }

        fn listing(&self) -> Vec<crate::ListedFile> {
            Vec::new()
        }
    }

    #[test]
    fn statistics_cover_every_sample() {
        let tokens = TokenOptions {
            tokenizer: Tokenizer::clip(),
            context_length: 6,
            pad_id: 0,
            cut: true,
        };
        let mut done = 0;
        let stats = DatasetStats::collect(
            &PairDataset::Indexed(Arc::new(Three)),
            &tokens,
            100,
            |so_far| {
                done = so_far;
            },
        );
        assert_eq!((stats.samples, done), (4, 4));
        assert_eq!(
            stats.causes(),
            BTreeMap::from([(SkipCause::CorruptImage, 1)])
        );
        assert_eq!(stats.skipped[0].key, "3");
        assert_eq!((stats.widths, stats.heights), (vec![3; 3], vec![5; 3]));
        assert_eq!(stats.tokens, [3, 3, 10]);
        assert_eq!(stats.cut_captions, 1);
        assert_eq!((stats.repeated_captions, stats.repeated_images), (1, 2));
    }
}
