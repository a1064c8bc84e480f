//! The contract: every public function gives the same numbers by its kernel, in f32, by a composition with its own
//! backward pass, in other dtypes and on other backends, and by Burn's operations, in f64. Compared are outputs, and the
//! gradients of a sum that weights every output differently.

mod blocks;
#[cfg(feature = "_cube")]
mod gpu;
mod images;
mod update;

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::activation::{gelu, gelu_tanh, quick_gelu};
use crate::attention::{attention, self_attention};
use crate::batch_norm::add_relu;
use crate::branch::add_branch;
use crate::conv::conv2d;
use crate::embedding::{TokenRuns, embedding};
use crate::graph::BURN_ALONE;
use crate::layer_norm::layer_norm;
use crate::linear::{linear, linear_as};
use crate::matmul::matmul;
use crate::update::add;

/// Outputs and the gradient of each input.
type Results = Vec<Vec<f64>>;

/// Values between -1 and 1 without a pattern.
pub(crate) fn values(seed: usize, len: usize) -> Vec<f32> {
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
    device: Device,
    dtype: FloatDType,
    sizes: &[usize],
    run: &impl Fn(&[Tensor<1>]) -> Tensor<1>,
) -> Results {
    mixed_results(device, &vec![dtype; sizes.len()], sizes, run)
}

/// - dtypes: of the inputs.
fn mixed_results(
    device: Device,
    dtypes: &[FloatDType],
    sizes: &[usize],
    run: &impl Fn(&[Tensor<1>]) -> Tensor<1>,
) -> Results {
    let device = device.autodiff();
    let leaf = |seed: usize, len: usize, dtype: FloatDType| {
        let data = TensorData::new(values(seed, len), [len]);
        Tensor::<1>::from_data(data, &device).cast(dtype)
    };
    let inputs: Vec<Tensor<1>> = (sizes.iter().zip(dtypes).enumerate())
        .map(|(seed, (len, dtype))| leaf(seed, *len, *dtype).inner())
        .map(|input| Tensor::from_inner(input).require_grad())
        .collect();
    let output = run(&inputs);
    let weights = leaf(99, output.dims()[0], output.dtype().into());
    let gradients = (output.clone() * weights).sum().backward();
    let of_inputs = inputs.iter().map(|input| {
        let gradient = input.grad(&gradients).expect("every input is read");
        assert_eq!(gradient.dtype(), input.dtype(), "a gradient's dtype");
        gradient
    });
    std::iter::once(output.inner())
        .chain(of_inputs)
        .map(to_f64)
        .collect()
}

/// - sizes: of the inputs, which are flat.
fn check(sizes: &[usize], run: impl Fn(&[Tensor<1>]) -> Tensor<1>) {
    BURN_ALONE.set(true);
    let reference = results(Device::flex(), FloatDType::F64, sizes, &run);
    BURN_ALONE.set(false);
    let on_flex = |dtype| results(Device::flex(), dtype, sizes, &run);
    assert_near("kernels", 4e-6, &on_flex(FloatDType::F32), &reference);
    assert_near("compositions", 1e-12, &on_flex(FloatDType::F64), &reference);
    // Outputs and gradients are rounded to 8 bits, as are what is between them.
    assert_near("bf16", 3e-2, &on_flex(FloatDType::BF16), &reference);
    // Mesa's llvmpipe ends a loop after 65,535 rounds, of which Burn's direct convolution has more for large images.
    #[cfg(feature = "wgpu")]
    if sizes[0] <= 40_000 {
        let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        let on_wgpu = results(device, FloatDType::F32, sizes, &run);
        assert_near("wgpu", 1e-5, &on_wgpu, &reference);
    }
    // Builds are tested without such a GPU too.
    #[cfg(feature = "cuda")]
    if std::env::var_os("COUPLET_TEST_CUDA").is_some() {
        let device = || Device::cuda(0);
        let f32 = results(device(), FloatDType::F32, sizes, &run);
        assert_near("cuda", 2e-5, &f32, &reference);
        let bf16 = results(device(), FloatDType::BF16, sizes, &run);
        assert_near("cuda in bf16", 3e-2, &bf16, &reference);
    }
}

/// As [`check`], of operations that take and give f32 and bf16 side by side.
/// - is_narrow: for each input, whether it is in bf16.
fn check_mixed(
    sizes: &[usize],
    is_narrow: &[bool],
    output: FloatDType,
    run: impl Fn(&[Tensor<1>], FloatDType) -> Tensor<1>,
) {
    BURN_ALONE.set(true);
    let wide = |i: &[Tensor<1>]| run(i, FloatDType::F64);
    let reference = results(Device::flex(), FloatDType::F64, sizes, &wide);
    BURN_ALONE.set(false);
    let dtypes: Vec<_> = (is_narrow.iter())
        .map(|is_narrow| {
            if *is_narrow {
                FloatDType::BF16
            } else {
                FloatDType::F32
            }
        })
        .collect();
    let mixed = |i: &[Tensor<1>]| {
        let found = run(i, output);
        assert_eq!(found.dtype(), output.into(), "the dtype of the output");
        found
    };
    let ours = mixed_results(Device::flex(), &dtypes, sizes, &mixed);
    assert_near("mixed", 2e-2, &ours, &reference);
}

/// - tolerance: relative to the largest value of each tensor.
fn assert_near(by: &str, tolerance: f64, ours: &Results, reference: &Results) {
    for (at, (ours, reference)) in ours.iter().zip(reference).enumerate() {
        let largest = reference
            .iter()
            .fold(0.0f64, |max, value| max.max(value.abs()));
        assert_eq!(ours.len(), reference.len());
        assert!(largest > 0.01, "nothing to compare in {at}");
        for (value, (ours, reference)) in ours.iter().zip(reference).enumerate() {
            let error = (ours - reference).abs();
            assert!(
                error <= tolerance * largest,
                "{by}: value {value} of {at} (0 is the output): {ours} instead of {reference}"
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
    // A transposed weight, a part of x, and a product worth dividing.
    check(&[300 * 200, 160 * 150], |i| {
        let x = i[0].clone().reshape([300, 200]).narrow(1, 20, 160);
        let weight = i[1].clone().reshape([160, 150]).transpose();
        linear(x, weight, None).flatten(0, 1)
    });
}

#[test]
fn products_in_half_precision_give_gradients_as_wide_as_their_inputs() {
    let device = Device::flex().autodiff();
    let leaf = |seed: usize, len: usize| {
        let values = TensorData::new(values(seed, len), [len]);
        Tensor::<1>::from_data(values, &device).require_grad()
    };
    let (x, weight, bias) = (leaf(0, 15 * 24), leaf(1, 40 * 24), leaf(2, 40));
    let dtype = FloatDType::BF16;
    let run = |x: Tensor<1>, weight: Tensor<1>, bias: Tensor<1>| {
        let (x, weight) = (x.reshape([15, 24]), weight.reshape([40, 24]));
        linear_as(x, weight, Some(bias), dtype.into())
    };
    let output = run(x.clone(), weight.clone(), bias.clone());
    assert_eq!(output.dtype(), dtype.into());
    let narrow = |x: &Tensor<1>| x.clone().inner().cast(dtype);
    let wanted = run(narrow(&x), narrow(&weight), bias.clone().inner());
    assert_eq!(
        to_f64(output.clone().inner().flatten::<1>(0, 1)),
        to_f64(wanted.flatten::<1>(0, 1))
    );
    let gradients = output.cast(FloatDType::F32).sum().backward();
    for input in [&x, &weight, &bias] {
        let gradient = input.grad(&gradients).unwrap();
        assert_eq!(gradient.dtype(), FloatDType::F32.into());
        assert!(to_f64(gradient).iter().any(|value| *value != 0.0));
    }
    let of_bias = bias.grad(&gradients).unwrap();
    assert_eq!(to_f64(of_bias), vec![15.0; 40]);
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

#[test]
fn products_of_pairs() {
    check(&[5 * 7 * 12, 5 * 12 * 9], |i| {
        let lhs = i[0].clone().reshape([5, 7, 12]);
        matmul(lhs, i[1].clone().reshape([5, 12, 9])).flatten(0, 2)
    });
    check(&[33 * 40, 25 * 40], |i| {
        let rhs = i[1].clone().reshape([25, 40]).transpose();
        matmul(i[0].clone().reshape([33, 40]), rhs).flatten(0, 1)
    });
}

#[test]
fn residual_branches() {
    check(&[7000, 7000], |i| add_branch(i[0].clone(), i[1].clone()));
    check(&[30, 30], |i| add_branch(i[0].clone(), i[1].clone()));
}

#[test]
fn embeddings_sum_the_gradients_of_each_token() {
    // One token in two of three places, others once or never.
    let ids: Vec<i32> = (0..3 * 50_i32)
        .map(|at| if at % 3 > 0 { 7 } else { (at * at) % 41 })
        .collect();
    for has_runs in [false, true] {
        check(&[41 * 20], |i| {
            let data = TensorData::new(ids.clone(), [3, 50]);
            let tokens = Tensor::<2, Int>::from_data(data, &i[0].device());
            let runs = has_runs.then(|| TokenRuns::new(&ids, 41));
            let weight = i[0].clone().reshape([41, 20]);
            embedding(weight, tokens, runs.as_ref()).flatten(0, 2)
        });
    }
}

#[test]
fn embeddings_are_divided_into_tasks() {
    // A task has 21 rows of this width, the last fewer; tokens 20, 21 and 63 are at the ends of tasks.
    const WIDTH: usize = 768;
    let ids: Vec<i32> = (0..50).map(|at| [63, 20, 5, 21, 42, 20][at % 6]).collect();
    check(&[64 * WIDTH], |i| {
        let data = TensorData::new(ids.clone(), [2, 25]);
        let tokens = Tensor::<2, Int>::from_data(data, &i[0].device());
        let weight = i[0].clone().reshape([64, WIDTH]);
        embedding(weight, tokens, None).flatten(0, 2)
    });
}

#[test]
#[should_panic(expected = "out of range")]
fn an_id_beyond_the_table_is_no_other_row() {
    let device = Device::flex();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(vec![4_i32], [1, 1]), &device);
    embedding(Tensor::zeros([4, 8], &device), tokens, None);
}

#[test]
fn attention_with_and_without_mask() {
    for (tokens, heads, width) in [(1, 2, 8), (17, 3, 24), (50, 3, 48), (77, 2, 128)] {
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
                self_attention(qkv, heads, mask.as_ref()).flatten(0, 2)
            };
            check(&[2 * tokens * 3 * width], run);
        }
    }
}

#[test]
fn attention_with_a_mask_of_each_sequence() {
    // Each sequence's own number of tokens, for all of its queries; then a window of each query, too.
    for rows in [1, 17] {
        check(&[3 * 17 * 3 * 24], |i| {
            let qkv = i[0].clone().mul_scalar(3.0).reshape([3, 17, 3 * 24]);
            let hidden = |at: usize| {
                let (sequence, row, token) = (at / (rows * 17), at / 17 % rows, at % 17);
                token > 16 - 5 * sequence || (rows > 1 && token.abs_diff(row) > 6 && token > 0)
            };
            let mask: Vec<f32> = (0..3 * rows * 17)
                .map(|at| if hidden(at) { f32::MIN } else { 0.0 })
                .collect();
            let data = TensorData::new(mask, [3, 1, rows, 17]);
            let dtype: FloatDType = qkv.dtype().into();
            let mask = Tensor::<4>::from_data(data, &qkv.device()).cast(dtype);
            self_attention(qkv, 3, Some(&mask)).flatten(0, 2)
        });
    }
}

#[test]
fn attention_of_other_queries() {
    // Shared by the sequences, as those of a pool of tokens; a mask of each sequence.
    check(&[3 * 8, 2 * 5 * 6 * 8], |i| {
        let q = i[0].clone().reshape([1, 3, 2, 4]).swap_dims(1, 2);
        let q = q.expand([2, 2, 3, 4]);
        let kv = i[1].clone().mul_scalar(2.0).reshape([2, 5, 6, 8]);
        let kv = kv.swap_dims(1, 2);
        let k = kv.clone().narrow(1, 0, 2).narrow(3, 0, 4);
        let v = kv.narrow(1, 3, 2).narrow(3, 2, 4);
        let hidden = |at: usize| at % 5 == 4 - at / 15;
        let mask: Vec<f32> = (0..30)
            .map(|at| if hidden(at) { f32::NEG_INFINITY } else { 0.5 })
            .collect();
        let mask = TensorData::new(mask, [2, 1, 3, 5]);
        let dtype: FloatDType = q.dtype().into();
        let mask = Tensor::<4>::from_data(mask, &q.device()).cast(dtype);
        attention(q, k, v, Some(&mask)).flatten(0, 3)
    });
}

#[test]
fn an_input_that_needs_no_gradient_gets_none() {
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

fn to_f64<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_to_vec().unwrap()
}

#[test]
fn shapes_that_no_kernel_takes_are_left_to_burn() {
    let device = Device::flex();
    let column = Tensor::<2>::ones([3, 1], &device);
    let row = Tensor::<2>::ones([1, 4], &device);
    assert_eq!(add(column, row).dims(), [3, 4]);
    let (image, pixel) = ([1, 2, 4, 4], [1, 2, 1, 1]);
    let sum = add_relu(Tensor::ones(image, &device), Tensor::ones(pixel, &device));
    assert_eq!(sum.dims(), image);
    let oblong = Tensor::<4>::ones([3, 2, 1, 3], &device);
    let convolved = conv2d(Tensor::ones(image, &device), oblong, 1, 0);
    assert_eq!(convolved.dims(), [1, 3, 4, 2]);
    // The first sequence sees all, the second its first token alone.
    let data = TensorData::new(values(0, 2 * 2 * 12), [2, 2, 12]);
    let qkv = Tensor::<3>::from_data(data, &device);
    let hidden = f32::NEG_INFINITY;
    let mask = Tensor::<4>::from_floats(
        [[[[0.0, 0.0], [0.0, 0.0]]], [[[0.0, hidden], [0.0, hidden]]]],
        &device,
    );
    let both = self_attention(qkv.clone(), 2, Some(&mask));
    let first = self_attention(qkv.clone().narrow(0, 0, 1), 2, None);
    let expected = [
        to_f64(first),
        to_f64(qkv.narrow(0, 1, 1).narrow(1, 0, 1).narrow(2, 8, 4)),
    ];
    let expected = [&expected[0][..], &expected[1], &expected[1]].concat();
    for (ours, theirs) in to_f64(both).into_iter().zip(expected) {
        assert!((ours - theirs).abs() < 1e-6, "{ours} instead of {theirs}");
    }
}

#[test]
fn a_tensor_without_a_graph_is_a_constant_in_one() {
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
