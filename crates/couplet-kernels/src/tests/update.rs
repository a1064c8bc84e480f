//! The update of parameters.

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::{to_f64, values};
use crate::graph::is_supported;
use crate::update::{AdamW, AdamWState, SumOfSquares, add};

#[test]
fn a_step_of_adamw_by_hand() {
    let tensor = |values: [f32; 2]| Tensor::<1>::from_floats(values, &Device::flex());
    let settings = AdamW {
        lr: 0.1,
        betas: [0.9, 0.99],
        eps: 0.0,
        weight_decay: 0.5,
        step: 1,
        grad_scale: 0.5,
    };
    let state = AdamWState {
        parameter: tensor([1.0, -2.0]),
        first: tensor([0.0; 2]),
        second: tensor([0.0; 2]),
    };
    let state = settings.step(state, tensor([4.0, -8.0]));
    let values = |x: Tensor<1>| x.into_data().try_to_vec::<f32>().unwrap();
    // The first step is as long as the learning rate, whatever the gradient.
    let parameter = values(state.parameter);
    assert!((parameter[0] - (0.95 - 0.1)).abs() < 1e-6, "{parameter:?}");
    assert!((parameter[1] - (-1.9 + 0.1)).abs() < 1e-6, "{parameter:?}");
    let (first, second) = (values(state.first), values(state.second));
    assert!((first[0] - 0.2).abs() < 1e-6 && (second[1] - 0.16).abs() < 1e-6);
}

/// Values, a gradient and moments after two steps, by one path.
fn two_steps_of_adamw(device: &Device, dtype: FloatDType) -> [Vec<f64>; 3] {
    let tensor = |seed: usize| {
        let data = TensorData::new(values(seed, 20_000), [100, 200]);
        Tensor::<2>::from_data(data, device).cast(dtype)
    };
    let zeros = || tensor(0).zeros_like();
    let mut state = AdamWState {
        parameter: tensor(0),
        first: zeros(),
        second: zeros(),
    };
    for step in 1..=2 {
        let adamw = AdamW {
            lr: 0.01,
            betas: [0.9, 0.98],
            eps: 1e-6,
            weight_decay: 0.2,
            step,
            grad_scale: 0.5,
        };
        state = adamw.step(state, tensor(step));
    }
    [state.parameter, state.first, state.second].map(to_f64)
}

#[test]
fn adamw_without_a_kernel_has_the_same_steps() {
    let kernel = two_steps_of_adamw(&Device::flex(), FloatDType::F32);
    let in_f64 = two_steps_of_adamw(&Device::flex(), FloatDType::F64);
    // No kernel takes a tensor that has a graph.
    let in_graph = two_steps_of_adamw(&Device::flex().autodiff(), FloatDType::F32);
    for other in [in_f64, in_graph] {
        for (ours, theirs) in kernel.iter().flatten().zip(other.iter().flatten()) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} instead of {theirs}");
        }
    }
}

#[test]
fn sums_of_many_values() {
    let sum_of_squares = |tensors: &[Tensor<1>]| {
        let mut sum = SumOfSquares::default();
        for tensor in tensors {
            sum.add(tensor);
        }
        sum.total()
    };
    let x = Tensor::<1>::ones([100_000], &Device::flex());
    assert_eq!(sum_of_squares(std::slice::from_ref(&x)), 100_000.0);
    let sum = add(x.clone(), x.clone().mul_scalar(2.0));
    assert_eq!(sum_of_squares(std::slice::from_ref(&sum)), 900_000.0);
    // By Burn's operations, of two dtypes and of a tensor with a graph.
    let wide = x.clone().cast(FloatDType::F64);
    let in_graph = Tensor::<1>::ones([100_000], &Device::flex().autodiff());
    assert!(!is_supported(&wide) && is_supported(&in_graph));
    let sum = add(wide.clone(), wide.clone().mul_scalar(2.0));
    assert_eq!(sum_of_squares(&[sum, in_graph.clone(), x]), 1_100_000.0);
    let leaf = in_graph.require_grad();
    let gradients = add(leaf.clone(), leaf.clone()).sum().backward();
    assert_eq!(to_f64(leaf.grad(&gradients).unwrap()), vec![2.0; 100_000]);
}
