//! Pairs of images and captions: which of them the model holds for wrong, and where both towers put their features.

use burn::tensor::{Tensor, TensorData};
use couplet_data::labelled::prepare;
use couplet_data::source::{PairDataset, Picked};
use couplet_data::{ImageData, RgbImage, decode};
use couplet_eval::{Dataset, Encoder};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::classes::name_of;
use super::images::picture;
use super::map::{Map, gap};
use super::problem::Problem;

/// Pairs that are shown.
const SHOWN: usize = 12;

/// Pairs of one origin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PairFindings {
    pub of: String,
    /// Pairs that were looked at, and all, where that is known.
    pub pairs: usize,
    pub total: Option<usize>,
    /// Mean cosine of the pairs, and of an image and another's caption.
    cosine: f64,
    other_cosine: f64,
    /// The distance of the mean image feature and the mean text feature. Source: Liang et al. 2022.
    gap: f64,
    map: Map,
    /// By loss, the largest first.
    worst: Vec<Worst>,
}

/// A pair that the model does not recognise among the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Worst {
    picture: String,
    file: String,
    key: String,
    caption: String,
    /// The contrastive loss of the pair among those that were looked at, in nats.
    loss: f64,
    /// Captions that suit the image better.
    before: usize,
    cosine: f32,
    /// The caption that suits the image best, if that is another.
    nearest: Option<String>,
    nearest_cosine: f32,
}

/// A pair that can be used.
struct Pair {
    file: String,
    key: String,
    caption: String,
    picture: String,
    pixels: Vec<u8>,
}

/// Pairs, and the features of both sides.
#[derive(Default)]
struct Encoded {
    /// Without their pixels.
    pairs: Vec<Pair>,
    images: Vec<f32>,
    texts: Vec<f32>,
}

/// Looks at pairs from all over a dataset.
pub(super) fn of_dataset(
    encoder: &Encoder,
    of: &str,
    dataset: &PairDataset,
    most: usize,
    most_pixels: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<PairFindings, Problem> {
    let total = dataset.samples();
    let count = most.min(total.unwrap_or(most));
    let mut seen = Encoded::default();
    let mut failed = None;
    let mut done = 0;
    dataset.pick(most, |picked| {
        done += picked.len();
        let pairs = picked
            .into_par_iter()
            .filter_map(|Picked { file, key, sample }| {
                pair(
                    encoder,
                    (file, key),
                    sample.image,
                    sample.caption,
                    most_pixels,
                )
            });
        let pairs: Vec<Pair> = pairs.collect();
        failed = seen.add(encoder, pairs).err();
        progress(done, count.max(done));
        failed.is_none()
    });
    match failed {
        Some(problem) => Err(problem),
        None => seen.findings(encoder, of, total),
    }
}

/// Looks at images from all over a dataset with captions, each with its first one.
pub(super) fn of_captions(
    encoder: &Encoder,
    dataset: &Dataset,
    most: usize,
    most_pixels: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<PairFindings, Problem> {
    const TOGETHER: usize = 64;
    let captions = dataset.captions()?;
    let (all, count) = (captions.len(), most.min(captions.len()));
    let indices: Vec<usize> = (0..count).map(|at| at * all / count).collect();
    let mut seen = Encoded::default();
    for (at, some) in indices.chunks(TOGETHER).enumerate() {
        let pairs = some.par_iter().filter_map(|index| {
            let image = dataset.images.read(*index).ok()?;
            let caption = captions[*index].first()?.clone();
            pair(
                encoder,
                dataset.images.locate(*index),
                image,
                caption,
                most_pixels,
            )
        });
        seen.add(encoder, pairs.collect())?;
        progress(at * TOGETHER + some.len(), count);
    }
    seen.findings(encoder, &dataset.name, Some(all))
}

fn pair(
    encoder: &Encoder,
    (file, key): (String, String),
    image: ImageData,
    caption: String,
    most_pixels: u64,
) -> Option<Pair> {
    let tokens = encoder.tokens().ok()?;
    tokens.encode(&caption).ok().filter(|ids| !ids.is_empty())?;
    let image: RgbImage = decode(image, most_pixels).ok()?;
    Some(Pair {
        picture: picture(&image),
        pixels: prepare(ImageData::Pixels(image), encoder.transform(), most_pixels).ok()?,
        file: name_of(&file),
        key,
        caption,
    })
}

impl Encoded {
    fn add(&mut self, encoder: &Encoder, mut pairs: Vec<Pair>) -> Result<(), Problem> {
        if pairs.is_empty() {
            return Ok(());
        }
        let pixels: Vec<u8> = pairs
            .iter_mut()
            .flat_map(|pair| std::mem::take(&mut pair.pixels))
            .collect();
        self.images
            .extend(encoder.image_rows(pixels, |row| pairs[row].key.clone())?);
        let captions: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
        self.texts.extend(encoder.text_rows(&captions)?);
        self.pairs.extend(pairs);
        Ok(())
    }

    fn findings(
        self,
        encoder: &Encoder,
        of: &str,
        total: Option<usize>,
    ) -> Result<PairFindings, Problem> {
        let count = self.pairs.len();
        if count < 2 {
            let message = format!("{count} of its pairs can be used; two are compared at least");
            return Err(Problem::Unfit(message));
        }
        let width = encoder.spec().embed_dim;
        let device = encoder.model().device();
        let tensor = |values: &[f32]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values.to_vec(), [count, width]), &device)
        };
        let cosines = tensor(&self.images)
            .matmul(tensor(&self.texts).transpose())
            .into_data();
        let cosines: Vec<f32> = cosines.try_to_vec().expect("cosines are f32");
        let scale: f32 = encoder.model().logit_scale.val().exp().into_scalar();
        let captions: Vec<&str> = self
            .pairs
            .iter()
            .map(|pair| pair.caption.as_str())
            .collect();
        let losses = losses(&cosines, &captions, scale);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| losses[*b].total_cmp(&losses[*a]));
        let worst = order.into_iter().take(SHOWN).map(|at| {
            let row = &cosines[at * count..(at + 1) * count];
            let before = (0..count).filter(|other| row[*other] > row[at]).count();
            let nearest = (0..count)
                .max_by(|a, b| row[*a].total_cmp(&row[*b]))
                .unwrap_or(at);
            let pair = &self.pairs[at];
            Worst {
                picture: pair.picture.clone(),
                file: pair.file.clone(),
                key: pair.key.clone(),
                caption: pair.caption.clone(),
                loss: losses[at],
                before,
                cosine: row[at],
                nearest: (captions[nearest] != pair.caption).then(|| captions[nearest].to_string()),
                nearest_cosine: row[nearest],
            }
        });
        let worst = worst.collect();
        let (cosine, other_cosine) = means(&cosines, count);
        Ok(PairFindings {
            of: of.to_string(),
            pairs: count,
            total,
            cosine,
            other_cosine,
            gap: gap(&self.images, &self.texts, width),
            map: Map::of(&self.images, &self.texts, width),
            worst,
        })
    }
}

/// The mean of the diagonal, and of what is beside it.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn means(cosines: &[f32], count: usize) -> (f64, f64) {
    let own: f64 = (0..count)
        .map(|at| f64::from(cosines[at * count + at]))
        .sum();
    let all: f64 = cosines.iter().map(|cosine| f64::from(*cosine)).sum();
    (
        own / count as f64,
        (all - own) / (count * (count - 1)) as f64,
    )
}

/// The contrastive loss of each pair among all, of both directions. Pairs with the same caption are no mistakes of each other.
/// - cosines: `[images, texts]`, row-major.
fn losses(cosines: &[f32], captions: &[&str], scale: f32) -> Vec<f64> {
    let count = captions.len();
    let of = |at: usize| {
        let cosine = |other: usize, transposed: bool| {
            let (row, column) = if transposed { (other, at) } else { (at, other) };
            f64::from(scale * cosines[row * count + column])
        };
        let side = |transposed: bool| {
            let others =
                (0..count).filter(|other| *other == at || captions[*other] != captions[at]);
            let logits: Vec<f64> = others.map(|other| cosine(other, transposed)).collect();
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
            most + sum.ln() - cosine(at, transposed)
        };
        f64::midpoint(side(false), side(true))
    };
    (0..count).into_par_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_those_of_the_softmax_without_pairs_of_the_same_caption() {
        let cosines = [0.9, 0.1, 0.3, 0.2, 0.8, 0.2, 0.7, 0.6, 0.1];
        let found = losses(&cosines, &["a", "b", "c"], 2.0);
        let softmax = |own: f64, logits: [f64; 3]| {
            logits
                .iter()
                .map(|logit| (2.0 * (logit - own)).exp())
                .sum::<f64>()
                .ln()
        };
        let wanted = f64::midpoint(softmax(0.1, [0.7, 0.6, 0.1]), softmax(0.1, [0.3, 0.2, 0.1]));
        assert!((found[2] - wanted).abs() < 1e-6, "{} {wanted}", found[2]);
        assert!(found[2] > found[0] && found[2] > found[1]);
        let same = losses(&cosines, &["a", "b", "a"], 2.0);
        assert!(same[2] < found[2], "{} {}", same[2], found[2]);
        let (own, other) = means(&cosines, 3);
        assert!((own - 0.6).abs() < 1e-6 && (other - 2.1 / 6.0).abs() < 1e-6);
    }
}
