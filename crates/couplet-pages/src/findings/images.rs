//! The features of a part of a dataset's images.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use couplet_data::RgbImage;
use couplet_data::labelled::LabelledDataset;
use couplet_eval::{Encoder, NotFinite, for_each_batch};

use crate::pictures::jpeg_within;

/// Neighbours that are taken together.
const TOGETHER: usize = 16;
/// The longer side of pictures on a page, in pixels.
const SIDE: u32 = 160;

/// Images that could be used.
pub(super) struct Encoded {
    /// `[images, embed_dim]`, row-major, L2-normalized.
    pub features: Vec<f32>,
    /// Their places in the dataset.
    pub indices: Vec<usize>,
    pub skipped: usize,
}

/// Encodes images from all over a dataset, in its order.
/// - most: images that are looked at.
pub(super) fn encode(
    encoder: &Encoder,
    images: &LabelledDataset,
    most: usize,
    most_pixels: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Encoded, NotFinite> {
    let ranges = spread(images.len(), most);
    let of = ranges.iter().map(Range::len).sum();
    let mut seen = Encoded {
        features: Vec::new(),
        indices: Vec::new(),
        skipped: 0,
    };
    let mut done = 0;
    let (transform, ranges) = (encoder.transform(), ranges.into_iter());
    for_each_batch(images, transform, most_pixels, ranges, |batch, _| {
        done += batch.indices.len() + batch.skipped.len();
        seen.skipped += batch.skipped.len();
        if !batch.indices.is_empty() {
            let name = |row: usize| {
                let (file, key) = images.locate(batch.indices[row]);
                format!("{file}: {key}")
            };
            seen.features
                .extend(encoder.image_rows(batch.pixels, name)?);
            seen.indices.extend(batch.indices.iter().copied());
        }
        progress(done, of);
        Ok::<(), NotFinite>(())
    })?;
    Ok(seen)
}

/// Ranges of neighbours, evenly spaced: of all images, or of about `most`.
fn spread(all: usize, most: usize) -> Vec<Range<usize>> {
    let groups = all.div_ceil(TOGETHER);
    let taken = groups.min(most.div_ceil(TOGETHER));
    let first = |at: usize| at * groups / taken * TOGETHER;
    (0..taken)
        .map(|at| first(at)..all.min(first(at) + TOGETHER))
        .collect()
}

/// A picture, as the address of an image in a page.
pub(super) fn picture(image: &RgbImage) -> String {
    let jpeg = jpeg_within(image, SIDE);
    format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_spread_over_all_and_takes_none_twice() {
        for (all, most) in [(0, 5), (5, 100), (100, 100), (1000, 100), (50_001, 2000)] {
            let ranges = spread(all, most);
            let count: usize = ranges.iter().map(Range::len).sum();
            assert!(
                count <= most.next_multiple_of(TOGETHER),
                "{all} {most}: {count}"
            );
            assert!(
                count >= all.min(most).saturating_sub(TOGETHER),
                "{all} {most}: {count}"
            );
            assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert!(ranges.last().is_none_or(|last| last.end <= all));
        }
        assert_eq!(spread(100, 100).iter().map(Range::len).sum::<usize>(), 100);
    }
}
