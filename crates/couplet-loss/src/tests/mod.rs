use burn::tensor::{Device, Int, Tensor};

use crate::{
    Features, Loss, PairLoss, SigmoidLoss, SoftmaxLoss, class_cross_entropy, gradients, parts,
};

mod local;

fn scalar(tensor: Tensor<1>) -> f32 {
    tensor.into_scalar()
}

fn features(image: Tensor<2>, text: Tensor<2>, factor: f32, bias: Option<f32>) -> Features {
    let device = image.device();
    Features {
        image,
        text,
        logit_scale: Tensor::from_floats([factor.ln()], &device),
        logit_bias: bias.map(|bias| Tensor::from_floats([bias], &device)),
    }
}

/// With scale 2 the logits are [[1.2, 0.0], [1.6, 2.0]].
fn two_pairs(bias: Option<f32>) -> Features {
    let device = Device::flex();
    let images = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
    let texts = Tensor::<2>::from_floats([[0.6, 0.8], [0.0, 1.0]], &device);
    features(images, texts, 2.0, bias)
}

#[test]
fn identical_features_cost_the_log_of_the_batch() {
    let same = Tensor::<2>::from_floats([[1.0, 0.0]; 4], &Device::flex());
    let loss = scalar(SoftmaxLoss::default().forward(features(same.clone(), same, 20.0, None)));
    assert!((loss - 4f32.ln()).abs() < 1e-5, "{loss}");
}

#[test]
fn a_pair_worked_out_by_hand() {
    let nll = |own: f32, other: f32| (own.exp() + other.exp()).ln() - own;
    let per_image = f32::midpoint(nll(1.2, 0.0), nll(2.0, 1.6));
    let per_text = f32::midpoint(nll(1.2, 1.6), nll(2.0, 0.0));
    let loss = scalar(SoftmaxLoss::default().forward(two_pairs(None)));
    assert!(
        (loss - f32::midpoint(per_image, per_text)).abs() < 1e-6,
        "{loss}"
    );
}

#[test]
fn smoothed_targets_worked_out_by_hand() {
    // 0.9 + 0.05 on the own class, 0.05 on the other.
    let nll = |own: f32, other: f32| (own.exp() + other.exp()).ln() - 0.95 * own - 0.05 * other;
    let all = nll(1.2, 0.0) + nll(2.0, 1.6) + nll(1.2, 1.6) + nll(2.0, 0.0);
    let smooth = SoftmaxLoss {
        label_smoothing: 0.1,
    };
    let loss = scalar(smooth.forward(two_pairs(None)));
    assert!((loss - all / 4.0).abs() < 1e-6, "{loss}");
    let too_much = Loss::Softmax(SoftmaxLoss {
        label_smoothing: 1.0,
    });
    assert_eq!(too_much.problems()[0].0, "label_smoothing");
}

#[test]
fn every_pair_counts_by_itself_in_the_sigmoid_loss() {
    // With bias -1 the logits are [[0.2, -1.0], [0.6, 1.0]].
    let nll = |signed: f32| (1.0 + (-signed).exp()).ln();
    let expected = (nll(0.2) + nll(1.0) + nll(-0.6) + nll(1.0)) / 2.0;
    let loss = scalar(SigmoidLoss {}.forward(two_pairs(Some(-1.0))));
    assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
}

#[test]
fn large_scales_stay_finite() {
    let images = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &Device::flex());
    let far = features(images.clone(), images, 10f32.exp(), None);
    let loss = scalar(SoftmaxLoss::default().forward(far));
    assert!(loss.abs() < 1e-6, "{loss}");
}

/// Distinct rows without a pattern.
fn scattered(rows: usize, phase: f32) -> Tensor<2> {
    let angles = Tensor::<1, Int>::arange(0..i64::try_from(rows).unwrap(), &Device::flex());
    let angles = angles.float().mul_scalar(2.4) + phase;
    Tensor::stack(vec![angles.clone().cos(), angles.sin()], 1)
}

fn close<const D: usize>(ours: Tensor<D>, theirs: Tensor<D>) {
    let gap: f32 = (ours - theirs.clone()).square().sum().sqrt().into_scalar();
    let norm: f32 = theirs.square().sum().sqrt().into_scalar();
    assert!(gap <= 1e-6 * norm, "{gap} of {norm}");
}

/// Not a sum over pairs: it has no parts.
struct Apart;

impl PairLoss for Apart {
    fn name(&self) -> &'static str {
        "apart"
    }

    fn forward(&self, features: Features) -> Tensor<1> {
        let gap = (features.image - features.text).square().sum();
        let bias = features.logit_bias.map(Tensor::exp);
        gap.sqrt() * features.logit_scale + bias.unwrap()
    }
}

#[test]
fn chunks_add_up_to_the_whole_batch_and_its_gradients() {
    let smooth = SoftmaxLoss {
        label_smoothing: 0.2,
    };
    let losses: [(&dyn PairLoss, Option<f32>); 4] = [
        (&SoftmaxLoss::default(), None),
        (&smooth, None),
        (&SigmoidLoss {}, Some(-2.0)),
        (&Apart, Some(0.5)),
    ];
    for (loss, bias) in losses {
        let features = features(scattered(10, 0.0), scattered(10, 0.3), 5.0, bias);
        let whole = gradients(loss, 0..10, &features, 10);
        close(whole.loss.clone(), loss.forward(features.clone()));
        let sum = parts(loss, &features, 3).into_iter().reduce(|a, b| a + b);
        close(sum.unwrap(), whole.loss.clone());
        // Ten rows in chunks of four, and on two ranks.
        let ranks = [0..5, 5..10].map(|rows| gradients(loss, rows, &features, 2));
        let [first, second] = ranks;
        for parts in [gradients(loss, 0..10, &features, 4), first.plus(second)] {
            close(parts.loss, whole.loss.clone());
            close(parts.image, whole.image.clone());
            close(parts.text, whole.text.clone());
            close(parts.logit_scale, whole.logit_scale.clone());
            if let (Some(ours), Some(theirs)) = (parts.logit_bias, &whole.logit_bias) {
                close(ours, theirs.clone());
            }
        }
    }
}

/// Reference values from `torch.nn.functional.cross_entropy`, for two rows of a batch of four.
#[test]
fn class_cross_entropy_matches_torch() {
    let device = Device::flex();
    let logits = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], &device);
    let labels = Tensor::<1, Int>::from_ints([0, 2], &device);
    let found = class_cross_entropy(logits, labels, 0.1, 4);
    let loss: f32 = found.loss.into_scalar();
    assert!((loss - 0.857_100_8).abs() < 1e-6, "{loss}");
    let gradient = found.logits.into_data().try_to_vec::<f32>().unwrap();
    for (own, torchs) in gradient
        .iter()
        .zip([-0.2108, 0.0528, 0.1580, 0.1283, 0.0222, -0.1505])
    {
        assert!((own - torchs).abs() < 6e-5, "{gradient:?}");
    }
}
