//! Each kernel in f32 beside Burn's own operations in f64, which no kernel takes: outputs,
//! and the gradients of a sum that weighs every output differently.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData, module};

use crate::*;

/// Outputs and the gradient of each input.
type Results = Vec<Vec<f64>>;

/// Values between -1 and 1 without a pattern.
fn values(seed: usize, len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32.wrapping_mul(u32::try_from(seed).unwrap() + 1);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f32::from(i16::try_from(state >> 17).unwrap()) / 16384.0 - 1.0
        })
        .collect()
}

fn results(
    dtype: FloatDType,
    sizes: &[usize],
    run: &impl Fn(&[Tensor<1>]) -> Tensor<1>,
) -> Results {
    let device = Device::flex().autodiff();
    let leaf = |seed: usize, len: usize| {
        let data = TensorData::new(values(seed, len), [len]);
        Tensor::<1>::from_data(data, &device).cast(dtype)
    };
    let inputs: Vec<Tensor<1>> = (sizes.iter().enumerate())
        .map(|(seed, len)| leaf(seed, *len).inner())
        .map(|input| Tensor::from_inner(input).require_grad())
        .collect();
    let output = run(&inputs);
    let weights = leaf(99, output.dims()[0]);
    let gradients = (output.clone() * weights).sum().backward();
    let of_inputs = inputs
        .iter()
        .map(|input| input.grad(&gradients).expect("every input is read"));
    let as_f64 = |x: Tensor<1>| x.into_data().convert::<f64>().try_to_vec::<f64>().unwrap();
    std::iter::once(output.inner())
        .chain(of_inputs)
        .map(as_f64)
        .collect()
}

/// - sizes: of the inputs, which are flat.
fn check(sizes: &[usize], run: impl Fn(&[Tensor<1>]) -> Tensor<1>) {
    let ours = results(FloatDType::F32, sizes, &run);
    let reference = results(FloatDType::F64, sizes, &run);
    for (at, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
        let largest = reference
            .iter()
            .fold(0.0f64, |max, value| max.max(value.abs()));
        assert_eq!(ours.len(), reference.len());
        assert!(largest > 0.01, "nothing to compare in {at}");
        for (value, (ours, reference)) in ours.iter().zip(reference).enumerate() {
            let error = (ours - reference).abs();
            assert!(
                error <= 4e-6 * largest,
                "value {value} of {at} (0 is the output): {ours} instead of {reference}"
            );
        }
    }
}

#[test]
fn activations() {
    // More than one task's, and as wide as their tails.
    let spread = |x: &[Tensor<1>]| x[0].clone().mul_scalar(6.0);
    check(&[40_000], |x| gelu(spread(x)));
    check(&[40_000], |x| gelu_tanh(spread(x)));
    check(&[40_000], |x| quick_gelu(spread(x)));
}

#[test]
fn linear_layers_with_and_without_bias() {
    let x = |x: &[Tensor<1>]| x[0].clone().reshape([3, 50, 24]);
    let weight = |x: &[Tensor<1>]| x[1].clone().reshape([40, 24]);
    check(&[3600, 960, 40], |i| {
        linear(x(i), weight(i), Some(i[2].clone())).flatten(0, 2)
    });
    check(&[3600, 960], |i| {
        linear(x(i), weight(i), None).flatten(0, 2)
    });
    // A weight that lies on its side, a part of x, and a product worth dividing.
    check(&[300 * 200, 160 * 150], |i| {
        let x = i[0].clone().reshape([300, 200]).narrow(1, 20, 160);
        let weight = i[1].clone().reshape([160, 150]).transpose();
        linear(x, weight, None).flatten(0, 1)
    });
}

#[test]
fn layer_norms() {
    for width in [8, 70, 192] {
        check(&[45 * width, width, width], |i| {
            let x = i[0].clone().reshape([3, 15, width]).add_scalar(5.0);
            layer_norm(x, i[1].clone(), i[2].clone(), 1e-5).flatten(0, 2)
        });
    }
}

/// By Burn's operations in every dtype.
fn attention_in_parts(qkv: &Tensor<3>, heads: usize, mask: Option<&Tensor<4>>) -> Tensor<3> {
    let [batch, tokens, width] = qkv.dims();
    let width = width / 3;
    let part = |at: usize| {
        let part = qkv.clone().narrow(2, at * width, width);
        part.reshape([batch, tokens, heads, width / heads])
            .swap_dims(1, 2)
    };
    #[expect(clippy::cast_precision_loss, reason = "a small width")]
    let scale = (width as f64 / heads as f64).sqrt().recip();
    let mut scores = part(0).matmul(part(1).swap_dims(2, 3)).mul_scalar(scale);
    if let Some(mask) = mask {
        scores = scores + mask.clone();
    }
    let out = burn::tensor::activation::softmax(scores, 3).matmul(part(2));
    out.swap_dims(1, 2).reshape([batch, tokens, width])
}

#[test]
fn attention_with_and_without_mask() {
    for (tokens, heads, width) in [(1, 2, 8), (17, 3, 24), (77, 2, 128)] {
        for is_causal in [false, true] {
            let run = |i: &[Tensor<1>]| {
                let qkv = i[0].clone().mul_scalar(3.0).reshape([2, tokens, 3 * width]);
                let mask = is_causal.then(|| {
                    let ahead = |at: usize| at % tokens > at / tokens;
                    let mask: Vec<f32> = (0..tokens * tokens)
                        .map(|at| if ahead(at) { f32::NEG_INFINITY } else { 0.0 })
                        .collect();
                    let data = TensorData::new(mask, [1, 1, tokens, tokens]);
                    let dtype: FloatDType = qkv.dtype().into();
                    Tensor::<4>::from_data(data, &qkv.device()).cast(dtype)
                });
                let attended = match self_attention(&qkv, heads, mask.as_ref()) {
                    Some(attended) => {
                        assert_eq!(qkv.dtype(), DType::F32);
                        attended
                    }
                    None => attention_in_parts(&qkv, heads, mask.as_ref()),
                };
                attended.flatten(0, 2)
            };
            check(&[2 * tokens * 3 * width], run);
        }
    }
}

#[test]
fn convolutions_of_every_tiling() {
    // [batch, in, out, kernel, stride, padding, height, width]
    let cases = [
        [3, 5, 7, 3, 1, 1, 9, 11],
        [3, 5, 7, 3, 2, 1, 9, 11],
        [2, 3, 4, 3, 2, 1, 8, 8],
        [1, 3, 4, 3, 1, 1, 1, 1],
        [5, 6, 8, 1, 1, 0, 7, 7],
        [2, 6, 8, 1, 2, 0, 7, 7],
        // Rows of one image by turns.
        [2, 2, 3, 3, 1, 1, 45, 40],
        [2, 4, 3, 1, 1, 0, 45, 40],
        [2, 2, 3, 3, 2, 1, 90, 80],
        [1, 2, 3, 5, 1, 2, 12, 2000],
        [2, 3, 4, 4, 4, 0, 8, 12],
    ];
    for [
        batch,
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        height,
        width,
    ] in cases
    {
        let sizes = [
            batch * inputs * height * width,
            outputs * inputs * kernel * kernel,
        ];
        check(&sizes, |i| {
            let x = i[0].clone().reshape([batch, inputs, height, width]);
            let weight = i[1].clone().reshape([outputs, inputs, kernel, kernel]);
            conv2d(x, weight, stride, padding).flatten(0, 3)
        });
    }
}

#[test]
fn batch_norms_keep_exact_far_from_zero() {
    for (rectify, shift) in [(false, 0.0), (true, 0.0), (false, 4.0)] {
        check(&[4 * 6 * 35, 6, 6], |i| {
            let x = i[0].clone().reshape([4, 6, 5, 7]).add_scalar(shift);
            batch_norm(x, i[1].clone(), i[2].clone(), 1e-5, rectify)
                .output
                .flatten(0, 3)
        });
    }
    let x = Tensor::<1>::from_data(TensorData::new(values(0, 840), [840]), &Device::flex());
    let (x, one) = (
        x.reshape([4, 6, 5, 7]),
        Tensor::<1>::ones([6], &Device::flex()),
    );
    let ours = batch_norm(x.clone(), one.clone(), one.clone(), 1e-5, false);
    let theirs = module::batch_norm_train(x, one.clone(), one, 1e-5);
    let near = burn::tensor::Tolerance::<f32>::absolute(1e-6);
    ours.mean
        .into_data()
        .assert_approx_eq(&theirs.mean.into_data(), near);
    ours.variance
        .into_data()
        .assert_approx_eq(&theirs.variance.into_data(), near);
}

#[test]
fn rectified_sums() {
    check(&[2 * 3 * 20, 2 * 3 * 20], |i| {
        let [a, b] = [0, 1].map(|at: usize| i[at].clone().reshape([2, 3, 4, 5]));
        add_relu(a, b).flatten(0, 3)
    });
}

#[test]
fn an_input_without_gradient_is_passed_over() {
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::ones([1, 2, 4, 4], &device);
    let weight = Tensor::<4>::ones([3, 2, 3, 3], &device).require_grad();
    let gradients = conv2d(x.clone(), weight.clone(), 1, 1).sum().backward();
    assert!(x.grad(&gradients).is_none());
    // The middle tap sees all 16 pixels, one in a corner 9.
    let of_weight = weight.grad(&gradients).unwrap().into_data();
    assert_eq!(
        of_weight.as_slice::<f32>().unwrap()[..5],
        [9.0, 12.0, 9.0, 12.0, 16.0]
    );
}

#[test]
fn a_step_of_adamw_by_hand() {
    let tensor = |values: [f32; 2]| Tensor::<1>::from_floats(values, &Device::flex());
    let settings = AdamW {
        lr: 0.1,
        betas: [0.9, 0.99],
        eps: 0.0,
        weight_decay: 0.5,
        time: 1,
        factor: 0.5,
    };
    let moved = AdamWState {
        parameter: tensor([1.0, -2.0]),
        first: tensor([0.0; 2]),
        second: tensor([0.0; 2]),
    };
    let moved = settings.step(moved, tensor([4.0, -8.0]));
    let values = |x: Tensor<1>| x.into_data().try_to_vec::<f32>().unwrap();
    // The first step is as long as the learning rate, whatever the gradient.
    let parameter = values(moved.parameter);
    assert!((parameter[0] - (0.95 - 0.1)).abs() < 1e-6, "{parameter:?}");
    assert!((parameter[1] - (-1.9 + 0.1)).abs() < 1e-6, "{parameter:?}");
    let (first, second) = (values(moved.first), values(moved.second));
    assert!((first[0] - 0.2).abs() < 1e-6 && (second[1] - 0.16).abs() < 1e-6);
}

#[test]
fn sums_of_many_values() {
    let x = Tensor::<1>::ones([100_000], &Device::flex());
    assert_eq!(sum_of_squares(&x), Some(100_000.0));
    let sum = add(x.clone(), x.mul_scalar(2.0));
    assert_eq!(sum_of_squares(&sum), Some(900_000.0));
}

#[test]
fn what_has_no_graph_is_a_constant_beside_what_has_one() {
    let plain = Device::flex();
    let weight = Tensor::<2>::ones([2, 3], &plain.clone().autodiff()).require_grad();
    let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &plain);
    let gradients = linear(x, weight.clone(), None).sum().backward();
    let of_weight = weight.grad(&gradients).unwrap().into_data();
    assert_eq!(
        of_weight.as_slice::<f32>().unwrap(),
        [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    );
}
