//! Gradients of some pairs' features against those of the whole batch.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{FeatureGradients, Features, PairLoss, SigmoidLoss, SoftmaxLoss, gradients};

const BATCH: usize = 24;

/// Features between noise and equality, of unit length: `[rows, width]` each.
fn pairs(rows: usize, width: usize) -> [Tensor<2>; 2] {
    let device = Device::flex();
    let mut state = 7u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(state >> 48).unwrap()) / 65536.0 - 0.5
    };
    let mut matrix = || {
        let values: Vec<f32> = (0..rows * width).map(|_| noise()).collect();
        Tensor::<2>::from_data(TensorData::new(values, [rows, width]), &device)
    };
    let (images, others) = (matrix(), matrix());
    let unit = |rows: Tensor<2>| rows.clone() / rows.square().sum_dim(1).sqrt();
    [unit(images.clone()), unit(images.mul_scalar(0.4) + others)]
}

fn features(batch: usize, width: usize, logit_scale: f32, bias: Option<f32>) -> Features {
    let [image, text] = pairs(batch, width);
    let number = |value: f32| Tensor::from_floats([value], &Device::flex());
    Features {
        image,
        text,
        logit_scale: number(logit_scale),
        logit_bias: bias.map(number),
    }
}

/// A batch in equal parts.
fn equal(batch: usize, ranks: usize) -> Vec<Range<usize>> {
    let own = batch / ranks;
    let rows = |rank| rank * own..(rank + 1) * own;
    (0..ranks).map(rows).collect()
}

/// What ranks with these rows make of a batch together.
fn by_ranks(
    loss: &dyn PairLoss,
    features: &Features,
    ranks: &[Range<usize>],
    chunk: usize,
) -> FeatureGradients {
    let local = loss.local().unwrap();
    let of_rank = |rows: &Range<usize>| local.normalizers(rows.clone(), features, chunk);
    let normalizers: Option<Vec<_>> = ranks.iter().map(of_rank).collect();
    let normalizers = normalizers.map(|parts| Tensor::cat(parts, 0));
    let of_rank = |rows: &Range<usize>| {
        let own = local.gradients(rows.clone(), features, normalizers.clone(), chunk);
        assert_eq!(own.image.dims()[0], rows.len());
        own
    };
    let join = |sum: FeatureGradients, part: FeatureGradients| FeatureGradients {
        loss: sum.loss + part.loss,
        image: Tensor::cat(vec![sum.image, part.image], 0),
        text: Tensor::cat(vec![sum.text, part.text], 0),
        logit_scale: sum.logit_scale + part.logit_scale,
        logit_bias: (sum.logit_bias.zip(part.logit_bias)).map(|(sum, part)| sum + part),
    };
    ranks.iter().map(of_rank).reduce(join).unwrap()
}

/// All numbers of each tensor, in f64.
fn tensors(of: &FeatureGradients) -> Vec<(&'static str, Vec<f64>)> {
    fn values<const D: usize>(of: &Tensor<D>) -> Vec<f64> {
        let data = of.clone().cast(DType::F64).into_data();
        data.try_to_vec().unwrap()
    }
    let mut all = vec![
        ("loss", values(&of.loss)),
        ("image", values(&of.image)),
        ("text", values(&of.text)),
        ("logit_scale", values(&of.logit_scale)),
    ];
    all.extend((of.logit_bias.as_ref()).map(|bias| ("logit_bias", values(bias))));
    all
}

/// Asserts that no number differs by more than `tolerance` times its tensor's largest.
fn assert_same(ours: &FeatureGradients, exact: &FeatureGradients, tolerance: f64, case: &str) {
    let (ours, exact) = (tensors(ours), tensors(exact));
    assert_eq!(ours.len(), exact.len(), "{case}");
    for ((name, ours), (_, exact)) in ours.into_iter().zip(exact) {
        assert_eq!(ours.len(), exact.len(), "{case}: {name}");
        let largest = exact
            .iter()
            .fold(0.0, |max: f64, value| max.max(value.abs()));
        let gaps = ours.iter().zip(&exact).map(|(a, b)| (a - b).abs());
        let gap = gaps.fold(0.0, f64::max);
        assert!(
            gap <= tolerance * largest,
            "{case}: {name}: {gap:e} of {largest:e}"
        );
        assert!(ours.iter().all(|value| value.is_finite()), "{case}: {name}");
    }
}

const SMOOTH: SoftmaxLoss = SoftmaxLoss {
    label_smoothing: 0.1,
};

#[test]
fn each_ranks_gradients_are_its_rows_of_the_whole_batchs() {
    let losses: [(&dyn PairLoss, Option<f32>); 5] = [
        (&SoftmaxLoss::default(), None),
        (&SMOOTH, Some(-3.0)),
        (&SigmoidLoss {}, None),
        (&SigmoidLoss {}, Some(-10.0)),
        (&SigmoidLoss {}, Some(0.5)),
    ];
    let mut partitions: Vec<_> = [1, 2, 3, 4, 6].map(|ranks| equal(BATCH, ranks)).into();
    partitions.push(vec![0..7, 7..8, 8..BATCH]);
    for (loss, bias) in losses {
        for logit_scale in [0.0, (1.0f32 / 0.07).ln(), 100f32.ln()] {
            let features = features(BATCH, 16, logit_scale, bias);
            let in_f64 = Features {
                image: features.image.clone().cast(DType::F64),
                text: features.text.clone().cast(DType::F64),
                logit_scale: features.logit_scale.clone().cast(DType::F64),
                logit_bias: (features.logit_bias.clone()).map(|bias| bias.cast(DType::F64)),
            };
            let exact = gradients(loss, 0..BATCH, &in_f64, BATCH);
            // A logit of 50 has steps of 4e-6, and products of other shapes may round it the other way.
            let tolerance = if logit_scale > 4.0 { 3e-6 } else { 1e-6 };
            for ranks in &partitions {
                for chunk in [1, 3, 5, BATCH] {
                    let ours = by_ranks(loss, &features, ranks, chunk);
                    let name = loss.name();
                    let case =
                        format!("{name}, {logit_scale}, {bias:?}, {ranks:?} by {chunk} rows");
                    assert_same(&ours, &exact, tolerance, &case);
                }
            }
        }
    }
}

/// Large enough for Burn to share the work among threads.
#[test]
fn the_same_ranks_give_the_same_bits() {
    let losses: [(&dyn PairLoss, Option<f32>); 2] =
        [(&SMOOTH, None), (&SigmoidLoss {}, Some(-5.0))];
    for (loss, bias) in losses {
        let features = features(768, 64, 3.0, bias);
        for ranks in [1, 2].map(|ranks| equal(768, ranks)) {
            let of = || tensors(&by_ranks(loss, &features, &ranks, 256));
            let first = of();
            assert!((0..4).all(|_| of() == first), "{} {ranks:?}", loss.name());
        }
    }
}

/// Logits from -22026 to 22026: every pair is told from every other, and an exponential of one would overflow.
#[test]
fn gradients_of_large_logits_are_finite() {
    let images = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &Device::flex());
    let far = Features {
        text: images.clone(),
        image: images,
        logit_scale: Tensor::from_floats([10.0], &Device::flex()),
        logit_bias: None,
    };
    let losses: [&dyn PairLoss; 2] = [&SoftmaxLoss::default(), &SigmoidLoss {}];
    for loss in losses {
        for ranks in [1, 2].map(|ranks| equal(2, ranks)) {
            for (name, values) in tensors(&by_ranks(loss, &far, &ranks, 1)) {
                assert!(
                    values.iter().all(|value| *value == 0.0),
                    "{name}: {values:?}"
                );
            }
        }
    }
}
