//! The halves of a block, and kernels that take f32 and bf16 side by side.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::{check, check_mixed, to_f64, values};
use crate::activation::Activation;
use crate::batch_norm::batch_norm;
use crate::block::{Half, LinearLayer, NormLayer, residual_attention, residual_mlp};
use crate::branch::add_branch;
use crate::conv::conv2d;
use crate::layer_norm::layer_norm_as;
use crate::linear::linear_as;

/// A half of a block of width 12 whose inner width is `inner`, from inputs after x.
/// - second: the input width of the second layer.
fn half(i: &[Tensor<1>], [inner, second]: [usize; 2], dtype: DType) -> Half {
    let layer = |at: usize, sizes: [usize; 2]| LinearLayer {
        weight: i[at].clone().reshape(sizes),
        bias: i[at + 1].clone(),
    };
    Half {
        norm: NormLayer {
            gain: i[1].clone(),
            bias: i[2].clone(),
            eps: 1e-5,
        },
        layers: [layer(3, [inner, 12]), layer(5, [12, second])],
        dtype,
    }
}

#[test]
fn halves_of_a_block() {
    let x = |i: &[Tensor<1>]| i[0].clone().reshape([3, 15, 12]);
    let sizes = [3 * 15 * 12, 12, 12, 40 * 12, 40, 12 * 40, 12];
    for activation in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
    ] {
        let run = |i: &[Tensor<1>], dtype| {
            residual_mlp(x(i), half(i, [40, 40], dtype), activation).flatten(0, 2)
        };
        check(&sizes, |i| run(i, i[0].dtype()));
        check_narrow_inside(&sizes, run);
    }
    let sizes = [3 * 15 * 12, 12, 12, 36 * 12, 36, 12 * 12, 12];
    for is_causal in [false, true] {
        let run = |i: &[Tensor<1>], dtype| {
            let x = x(i);
            let mask = is_causal.then(|| {
                let ahead = |at: usize| at % 15 > at / 15;
                let mask: Vec<f32> = (0..15 * 15)
                    .map(|at| if ahead(at) { f32::NEG_INFINITY } else { 0.0 })
                    .collect();
                let mask = TensorData::new(mask, [1, 1, 15, 15]);
                let as_x: FloatDType = x.dtype().into();
                Tensor::<4>::from_data(mask, &x.device()).cast(as_x)
            });
            residual_attention(x, half(i, [36, 12], dtype), 3, mask.as_ref()).flatten(0, 2)
        };
        check(&sizes, |i| run(i, i[0].dtype()));
        check_narrow_inside(&sizes, run);
    }
}

/// Products in bf16 between inputs and an output in f32.
fn check_narrow_inside(sizes: &[usize], run: impl Fn(&[Tensor<1>], DType) -> Tensor<1>) {
    let is_narrow = vec![false; sizes.len()];
    check_mixed(sizes, &is_narrow, FloatDType::F32, |i, _| {
        let inside = match i[0].dtype() {
            DType::F64 => DType::F64,
            _ => DType::BF16,
        };
        run(i, inside)
    });
}

#[test]
fn inputs_of_a_half_that_are_not_trained_get_no_gradient() {
    // By the kernel, and composed.
    for dtype in [FloatDType::F32, FloatDType::F64] {
        for inner in [40, 36] {
            let second = if inner == 36 { 12 } else { inner };
            let sizes = [3 * 15 * 12, 12, 12, inner * 12, inner, 12 * second, 12];
            let run = |i: &[Tensor<1>]| {
                let x = i[0].clone().reshape([3, 15, 12]);
                let half = half(i, [inner, second], dtype.into());
                if inner == 36 {
                    residual_attention(x, half, 3, None)
                } else {
                    residual_mlp(x, half, Activation::Gelu)
                }
            };
            let gradients = |is_trained: &dyn Fn(usize) -> bool| -> Vec<Option<Vec<f64>>> {
                let device = Device::flex().autodiff();
                let input = |at: usize| {
                    let data = TensorData::new(values(at, sizes[at]), [sizes[at]]);
                    let input = Tensor::<1>::from_data(data, &device).cast(dtype).inner();
                    Tensor::from_inner(input).set_require_grad(is_trained(at))
                };
                let inputs: Vec<Tensor<1>> = (0..sizes.len()).map(input).collect();
                let gradients = run(&inputs).sum().backward();
                let found = inputs.iter().map(|input| input.grad(&gradients));
                found.map(|gradient| gradient.map(to_f64)).collect()
            };
            let all = gradients(&|_| true);
            for trained in 0..sizes.len() {
                let found = gradients(&|at| at == trained);
                for at in 0..sizes.len() {
                    let wanted = all[at].as_ref().filter(|_| at == trained);
                    assert_eq!(found[at].as_ref(), wanted, "input {at} of {trained}");
                }
            }
        }
    }
}

#[test]
fn kernels_take_f32_and_bf16_side_by_side() {
    let bf16 = FloatDType::BF16;
    for x_is_narrow in [false, true] {
        let is_narrow = [x_is_narrow, false, false];
        check_mixed(&[150 * 24, 40 * 24, 40], &is_narrow, bf16, |i, dtype| {
            let x = i[0].clone().reshape([3, 50, 24]);
            let weight = i[1].clone().reshape([40, 24]);
            linear_as(x, weight, Some(i[2].clone()), dtype.into()).flatten(0, 2)
        });
        check_mixed(
            &[300 * 160, 150 * 160],
            &is_narrow[..2],
            bf16,
            |i, dtype| {
                let x = i[0].clone().reshape([300, 160]);
                let weight = i[1].clone().reshape([150, 160]);
                linear_as(x, weight, None, dtype.into()).flatten(0, 1)
            },
        );
    }
    check_mixed(&[45 * 70, 70, 70], &[false; 3], bf16, |i, dtype| {
        let x = i[0].clone().reshape([3, 15, 70]).add_scalar(5.0);
        layer_norm_as(x, i[1].clone(), i[2].clone(), 1e-5, dtype.into()).flatten(0, 2)
    });
    check_mixed(&[7000, 7000], &[false, true], FloatDType::F32, |i, _| {
        add_branch(i[0].clone(), i[1].clone())
    });
    for (stride, kernel) in [(1, 3), (2, 3), (1, 1)] {
        let sizes = [7 * 2 * 35 * 33, 3 * 2 * kernel * kernel];
        check_mixed(&sizes, &[true, false], bf16, |i, _| {
            let x = i[0].clone().reshape([7, 2, 35, 33]);
            let weight = i[1].clone().reshape([3, 2, kernel, kernel]);
            conv2d(x, weight, stride, kernel / 2).flatten(0, 3)
        });
    }
    for shape in [[4, 6, 5, 7], [9, 3, 4, 4]] {
        let sizes = [shape.iter().product(), shape[1], shape[1]];
        check_mixed(&sizes, &[true, false, false], bf16, |i, _| {
            let x = i[0].clone().reshape(shape);
            batch_norm(x, i[1].clone(), i[2].clone(), 1e-5, false)
                .output
                .flatten(0, 3)
        });
    }
}
