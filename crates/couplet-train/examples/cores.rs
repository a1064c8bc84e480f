//! Times the kernels of a step on the CPU, forward and backward, with as many threads as the process may use cores.
//! `experiments/performance/cores.py` runs it with different numbers of cores.
//!
//!     taskset -c 0 cargo run --release -p couplet-train --example cores

use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use couplet_kernels::{
    Activation, AdamW, AdamWState, Half, LinearLayer, NormLayer, SumOfSquares, average_pool,
    batch_norm, conv2d, embedding, layer_norm, linear_as, residual_attention, residual_mlp,
};

/// As the command's: with the system's, most of a round is memory that is touched for the first time.
#[global_allocator]
static ALLOCATOR: couplet_alloc::Allocator = couplet_alloc::Allocator;

/// Pairs, tokens and width of a ViT-B-32's image tower.
const SHAPE: [usize; 3] = [16, 50, 768];
const HEADS: usize = 12;
const ROUNDS: usize = 5;
/// As large as the maps of an RN50, `[batch, channels, height, width]`.
const MAPS: [usize; 4] = [4, 256, 28, 28];

fn main() {
    couplet_alloc::keep_freed_memory();
    let device = Device::flex().autodiff();
    for (dtype, name) in [(DType::F32, "fp32"), (DType::BF16, "bf16")] {
        transformer(&device, dtype, name);
        convolutional(&device, dtype, name);
    }
    whole_model(&device);
}

/// Prints the milliseconds of the fastest of some rounds.
fn time<T>(name: &str, operation: impl Fn() -> T) {
    operation();
    let seconds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        operation();
        start.elapsed().as_secs_f64()
    });
    let least = seconds.fold(f64::INFINITY, f64::min);
    println!("{name}\t{:.3}", least * 1e3);
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    random_as(shape, DType::F32, device)
}

fn random_as<const D: usize>(shape: [usize; D], dtype: DType, device: &Device) -> Tensor<D> {
    let values: Tensor<D> = Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device);
    values.cast(dtype).detach().require_grad()
}

fn layer(outputs: usize, inputs: usize, device: &Device) -> LinearLayer {
    LinearLayer {
        weight: random([outputs, inputs], device),
        bias: random([outputs], device),
    }
}

fn half(layers: [LinearLayer; 2], dtype: DType, device: &Device) -> Half {
    let norm = NormLayer {
        gain: random([SHAPE[2]], device),
        bias: random([SHAPE[2]], device),
        eps: 1e-5,
    };
    Half {
        norm,
        layers,
        dtype,
    }
}

fn transformer(device: &Device, dtype: DType, name: &str) {
    let width = SHAPE[2];
    let x = random(SHAPE, device);
    let layers = [layer(3 * width, width, device), layer(width, width, device)];
    let attention = half(layers, dtype, device);
    time(&format!("attention half, {name}"), || {
        residual_attention(x.clone(), attention.clone(), HEADS, None).backward()
    });
    let hidden = 4 * width;
    let layers = [layer(hidden, width, device), layer(width, hidden, device)];
    let mlp = half(layers, dtype, device);
    time(&format!("MLP half, {name}"), || {
        residual_mlp(x.clone(), mlp.clone(), Activation::Gelu).backward()
    });
    let LinearLayer { weight, bias } = layer(4 * width, width, device);
    time(&format!("linear layer, {name}"), || {
        linear_as(x.clone(), weight.clone(), Some(bias.clone()), dtype).backward()
    });
    let (gain, bias) = (random([width], device), random([width], device));
    if dtype == DType::F32 {
        time("layer norm", || {
            layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5).backward()
        });
    }
    let [batch, tokens, _] = SHAPE;
    let hidden = random_as([batch, tokens, 4 * width], dtype, device);
    time(&format!("GELU, {name}"), || {
        Activation::Gelu.forward(hidden.clone()).backward()
    });
}

fn convolutional(device: &Device, dtype: DType, name: &str) {
    let x = random_as(MAPS, dtype, device);
    let channels = MAPS[1];
    for side in [1, 3] {
        let weight = random([channels, channels, side, side], device);
        time(&format!("convolution {side} x {side}, {name}"), || {
            conv2d(x.clone(), weight.clone(), 1, side / 2).backward()
        });
    }
    let (gain, bias) = (random([channels], device), random([channels], device));
    time(&format!("batch norm and ReLU, {name}"), || {
        let normed = batch_norm(x.clone(), gain.clone(), bias.clone(), 1e-5, true);
        normed.output.backward()
    });
    time(&format!("average pooling, {name}"), || {
        average_pool(x.clone(), 2).backward()
    });
}

/// What a step does once.
fn whole_model(device: &Device) {
    const VOCABULARY: usize = 49_408;
    const WIDTH: usize = 512;
    let ids: Vec<i32> = (0..32 * 77)
        .map(|at| i32::try_from(at * 7919 % VOCABULARY).expect("small"))
        .collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [32, 77]), device);
    let table = random([VOCABULARY, WIDTH], device);
    time("token embedding", || {
        embedding(table.clone(), ids.clone(), None).backward()
    });
    let device = Device::flex();
    let gradient: Tensor<2> = Tensor::ones([VOCABULARY, WIDTH], &device);
    time("norm of gradients", || {
        let mut squares = SumOfSquares::default();
        squares.add(&gradient);
        squares.total()
    });
    let zeros = || Tensor::zeros([VOCABULARY, WIDTH], &device);
    let state = std::cell::RefCell::new(Some(AdamWState {
        parameter: zeros(),
        first: zeros(),
        second: zeros(),
    }));
    let update = AdamW {
        lr: 1e-3,
        betas: [0.9, 0.98],
        eps: 1e-6,
        weight_decay: 0.2,
        step: 1,
        grad_scale: 1.0,
    };
    time("AdamW", || {
        let before = state.take().expect("the state is put back");
        state.replace(Some(update.step(before, gradient.clone())));
    });
}
