//! What a model says of each image, and whether two models differ on the same images by more than chance.

use std::collections::HashMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};
use serde::{Deserialize, Serialize};

/// Resamples of the bootstrap.
const RESAMPLES: usize = 10_000;

/// An image of a dataset with classes, and the class that the model gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Prediction {
    pub file: String,
    pub key: String,
    pub class: usize,
    pub predicted: usize,
    pub probability: f32,
}

/// How two models differ on the images that both were shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Difference {
    pub images: usize,
    /// Images that only one of the two gets right.
    pub only_this: u64,
    pub only_other: u64,
    /// The accuracy of this minus that of the other, and the ends of its 95% interval.
    pub accuracy: f64,
    pub low: f64,
    pub high: f64,
}

/// The difference of two models' accuracies, with a paired bootstrap: images are drawn again with replacement, and both
/// models are judged by the same ones. Source: Efron and Tibshirani 1993, chapter 13 (percentiles).
/// - returns `None` if they share no image.
pub(crate) fn difference(this: &[Prediction], other: &[Prediction]) -> Option<Difference> {
    let of_other: HashMap<(&str, &str), bool> = other
        .iter()
        .map(|one| {
            (
                (one.file.as_str(), one.key.as_str()),
                one.class == one.predicted,
            )
        })
        .collect();
    let (mut images, mut only_this, mut only_other) = (0, 0, 0);
    for one in this {
        let Some(other) = of_other.get(&(one.file.as_str(), one.key.as_str())) else {
            continue;
        };
        images += 1;
        match (one.class == one.predicted, *other) {
            (true, false) => only_this += 1,
            (false, true) => only_other += 1,
            _ => {}
        }
    }
    (images > 0).then(|| bootstrap(images, only_this, only_other))
}

/// An image drawn again is one that only this model gets right, one that only the other does, or neither, so that the counts of a
/// resample are multinomial: two binomial draws are as good as one for each image.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn bootstrap(images: usize, only_this: u64, only_other: u64) -> Difference {
    let count = images as f64;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut draw = |trials: u64, share: f64| -> u64 {
        let share = share.clamp(0.0, 1.0);
        Binomial::new(trials, share).map_or(0, |counts| counts.sample(&mut random))
    };
    let shares = [only_this, only_other].map(|only| only as f64 / count);
    let mut resamples: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let this = draw(images as u64, shares[0]);
            let rest = (1.0 - shares[0]).max(f64::MIN_POSITIVE);
            let other = draw(images as u64 - this, shares[1] / rest);
            (this as f64 - other as f64) / count
        })
        .collect();
    resamples.sort_by(f64::total_cmp);
    Difference {
        images,
        only_this,
        only_other,
        accuracy: shares[0] - shares[1],
        low: resamples[RESAMPLES * 25 / 1000],
        high: resamples[RESAMPLES * 975 / 1000 - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(right: impl Fn(usize) -> bool, count: usize) -> Vec<Prediction> {
        (0..count)
            .map(|at| Prediction {
                file: "a".into(),
                key: at.to_string(),
                class: 0,
                predicted: usize::from(!right(at)),
                probability: 0.5,
            })
            .collect()
    }

    #[test]
    fn intervals_are_those_of_the_normal_approximation_where_that_holds() {
        // 60 of 1000 images only by this, 40 only by the other: sd = sqrt(0.1 - 0.02²) / sqrt(1000).
        let this = predictions(|at| !(60..100).contains(&at), 1000);
        let other = predictions(|at| at >= 60, 1000);
        let found = difference(&this, &other).unwrap();
        assert_eq!(
            (found.images, found.only_this, found.only_other),
            (1000, 60, 40)
        );
        assert!((found.accuracy - 0.02).abs() < 1e-12);
        let half = 1.96 * (0.1_f64 - 0.0004).sqrt() / 1000_f64.sqrt();
        assert!((found.low - (0.02 - half)).abs() < 0.0015, "{found:?}");
        assert!((found.high - (0.02 + half)).abs() < 0.0015, "{found:?}");
    }

    #[test]
    fn only_shared_images_count_and_equal_models_do_not_differ() {
        let all = predictions(|at| at % 3 == 0, 30);
        let found = difference(&all, &all[10..]).unwrap();
        assert_eq!(
            (found.images, found.accuracy, found.low, found.high),
            (20, 0.0, 0.0, 0.0)
        );
        assert_eq!(difference(&all[..3], &all[3..]), None);
        let sure = difference(&predictions(|_| true, 50), &predictions(|_| false, 50)).unwrap();
        assert_eq!((sure.low, sure.high), (1.0, 1.0));
    }
}
