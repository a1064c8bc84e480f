//! What only GPUs have.

use burn::tensor::{Device, Tensor, TensorData};

use super::{to_f64, values};
use crate::linear::linear_as;
use crate::update::{AdamW, AdamWState, SumOfSquares};
use crate::update_on_device::{AdamWQueue, Clipped};

/// GPUs that this build and machine can test.
fn gpus() -> Vec<Device> {
    let mut gpus = Vec::new();
    if cfg!(feature = "wgpu") {
        #[cfg(feature = "wgpu")]
        gpus.push(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice));
    }
    #[cfg(feature = "cuda")]
    if std::env::var_os("COUPLET_TEST_CUDA").is_some() {
        gpus.push(Device::cuda(0));
    }
    gpus
}

#[test]
fn a_gpu_clips_and_updates_many_parameters_at_once() {
    // More than one launch takes, of lengths that no vector divides, and longer than a cube.
    let lens: Vec<usize> = (0..23)
        .map(|at| [64, 7, 1, 5000, 4098][at % 5] + at)
        .collect();
    let step = |at: usize, grad_scale: f64| AdamW {
        lr: 1e-2,
        betas: [0.9, 0.98],
        eps: 1e-6,
        weight_decay: [0.0, 0.2][at % 2],
        step: 3,
        grad_scale,
    };
    for device in gpus() {
        // A gradient that is clipped, one that is not, and one that is not finite.
        for (most, poison) in [(Some(0.5), false), (None, false), (Some(0.5), true)] {
            let on = |device: &Device, seed: usize, len: usize| {
                Tensor::<1>::from_data(TensorData::new(values(seed, len), [len]), device)
            };
            let state = |device: &Device, at: usize| {
                let part = |kind: usize| on(device, 100 * kind + at, lens[at]);
                let state = AdamWState {
                    parameter: part(0),
                    first: part(1),
                    second: part(2).square(),
                };
                let gradient = part(3);
                (
                    state,
                    if poison && at == 5 {
                        gradient.log()
                    } else {
                        gradient
                    },
                )
            };
            let squares = |device: &Device| {
                let mut squares = SumOfSquares::default();
                for at in 0..lens.len() {
                    squares.add(&state(device, at).1);
                }
                squares
            };
            let loss = Tensor::<1>::from_floats([1.5], &device);
            let clipped = Clipped::new(&squares(&device), &loss, most, 4.0).unwrap();
            let mut queue = AdamWQueue::default();
            for at in 0..lens.len() {
                let (state, gradient) = state(&device, at);
                assert!(AdamWQueue::takes(&state.parameter));
                queue.push(step(at, 1.0), state, &gradient);
            }
            let mut updated = queue.run(&clipped);
            let numbers = to_f64(clipped.numbers);
            assert_eq!(numbers[0], 1.5);
            let norm = squares(&Device::flex()).total().sqrt() / 4.0;
            assert_eq!(norm.is_finite(), !poison);
            let factor = match most {
                Some(most) => most / (norm + 1e-6) / 4.0,
                None => 0.25,
            };
            if !poison {
                assert!(
                    (numbers[1] - norm).abs() < 1e-5 * norm,
                    "{numbers:?}, {norm}"
                );
            }
            for at in 0..lens.len() {
                let ours: AdamWState<1> = updated.take_next();
                let (before, gradient) = state(&Device::flex(), at);
                let wanted = if poison {
                    before
                } else {
                    step(at, factor).step(before, gradient)
                };
                let parts = |state: AdamWState<1>| [state.parameter, state.first, state.second];
                for (ours, wanted) in parts(ours).into_iter().zip(parts(wanted)) {
                    for (ours, wanted) in to_f64(ours).into_iter().zip(to_f64(wanted)) {
                        assert!((ours - wanted).abs() < 2e-6, "{ours} instead of {wanted}");
                    }
                }
            }
        }
    }
}

/// Of weights that are copied before, once and together.
#[test]
fn copies_of_weights_are_taken_as_long_as_they_live() {
    let dtype = burn::tensor::DType::F16;
    for device in gpus() {
        if !device.supports_dtype(dtype) {
            continue;
        }
        let on = |seed: usize, shape: [usize; 2]| {
            let len = shape[0] * shape[1];
            let values = Tensor::<1>::from_data(TensorData::new(values(seed, len), [len]), &device);
            values.reshape(shape)
        };
        let weights: Vec<Tensor<2>> = (0..40).map(|at| on(at, [at + 1, 33])).collect();
        let x = on(77, [5, 33]);
        let run = |weight: &Tensor<2>| {
            to_f64(linear_as(x.clone(), weight.clone(), None, dtype).flatten::<1>(0, 1))
        };
        let wanted: Vec<_> = weights.iter().map(run).collect();
        let mut copies = crate::NarrowWeights::new(dtype);
        for weight in &weights {
            copies.add(weight);
        }
        copies.copy();
        assert_eq!(weights.iter().map(run).collect::<Vec<_>>(), wanted);
        drop(copies);
        assert_eq!(weights.iter().map(run).collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn a_parameter_that_others_read_is_copied_before_its_update() {
    for device in gpus() {
        let on = |seed: usize| {
            let data = TensorData::new(values(seed, 8 * 33), [8 * 33]);
            Tensor::<1>::from_data(data, &device).reshape([8, 33])
        };
        let step = AdamW {
            lr: 1e-2,
            betas: [0.9, 0.98],
            eps: 1e-6,
            weight_decay: 0.1,
            step: 1,
            grad_scale: 1.0,
        };
        let state = || AdamWState::<2> {
            parameter: on(0),
            first: on(1),
            second: on(2).square(),
        };
        let mut squares = SumOfSquares::default();
        squares.add(&on(3));
        let loss = Tensor::<1>::from_floats([1.0], &device);
        let clipped = Clipped::new(&squares, &loss, None, 1.0).unwrap();
        let updated = |state: AdamWState<2>| {
            let mut queue = AdamWQueue::default();
            queue.push(step, state, &on(3));
            to_f64(queue.run(&clipped).take_next::<2>().parameter)
        };
        let kept = state();
        assert_eq!(updated(kept.clone()), updated(state()));
        assert_eq!(to_f64(kept.parameter), to_f64(on(0)));
    }
}

#[test]
#[should_panic(expected = "cannot be multiplied")]
fn matrices_that_do_not_fit_are_refused() {
    let device = gpus().pop();
    let device = device.expect("without a GPU, matrices cannot be multiplied there");
    let lhs = Tensor::<2>::ones([2, 3], &device);
    crate::matmul(lhs, Tensor::ones([4, 5], &device));
}
