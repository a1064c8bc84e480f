//! Times the operations of a ViT-B-32's step (batch 256, 77 tokens) on a device, and compares the
//! gradients of a small batch with the CPU's. `experiments/performance/operations.py` times the same
//! operations in PyTorch.
//!
//!     cargo run --release -p couplet-train --example operations --features cuda,autotune -- cuda:0

use std::error::Error;
use std::time::Instant;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, FloatDType, Int, Tensor, TensorData, activation, module};
use couplet_loss::{Features, PairLoss, SoftmaxLoss};
use couplet_model::{
    Clip, ForwardContext, ModelSpec, ParameterVisitor, Precision, l2_normalize, presets,
    visit_parameters,
};
use couplet_train::DeviceSetting;

const BATCH: usize = 256;
/// Tokens, width and heads of the image and of the text tower.
const TOWERS: [(&str, usize, usize, usize); 2] = [("image", 50, 768, 12), ("text", 77, 512, 8)];
const WARM_UP: usize = 3;
const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "auto".to_string());
    let device = name.parse::<DeviceSetting>()?.open()?;
    println!("| operation | ms |\n|---|---|");
    products(&device);
    reductions(&device);
    passes(&device);
    println!();
    gradients(&device)
}

/// Prints the milliseconds of one operation: all rounds are queued, then the device is waited for.
fn time<T>(device: &Device, name: &str, operation: impl Fn() -> T) {
    for _ in 0..WARM_UP {
        operation();
        device.sync().expect("the device works");
    }
    let start = Instant::now();
    for _ in 0..ROUNDS {
        operation();
    }
    device.sync().expect("the device works");
    let milliseconds =
        start.elapsed().as_secs_f64() * 1e3 / f64::from(u32::try_from(ROUNDS).unwrap_or(1));
    println!("| {name} | {milliseconds:.4} |");
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

fn bf16<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    random(shape, device).cast(FloatDType::BF16)
}

fn products(device: &Device) {
    let (a, b) = (bf16([8192, 8192], device), bf16([8192, 8192], device));
    time(device, "product 8192", || a.clone().matmul(b.clone()));
    let (a, b) = (random([4096, 4096], device), random([4096, 4096], device));
    time(device, "product 4096 f32", || a.clone().matmul(b.clone()));
    for (tower, tokens, width, _) in TOWERS {
        let rows = BATCH * tokens;
        for (inputs, outputs) in [
            (width, width),
            (width, 3 * width),
            (width, 4 * width),
            (4 * width, width),
        ] {
            let weight = bf16([outputs, inputs], device);
            let x = bf16([BATCH, tokens, inputs], device);
            let flat = x.clone().reshape([rows, inputs]);
            let gradient = bf16([rows, outputs], device);
            let name = format!("{tower} {inputs} to {outputs}");
            time(device, &format!("{name}, [b, t, in]"), || {
                module::linear(x.clone(), weight.clone().transpose(), None)
            });
            time(device, &format!("{name}, [b t, in]"), || {
                module::linear(flat.clone(), weight.clone().transpose(), None)
            });
            time(device, &format!("{name}, weight gradient"), || {
                gradient.clone().transpose().matmul(flat.clone())
            });
            for parts in [4, 16] {
                time(
                    device,
                    &format!("{name}, weight gradient in {parts} parts"),
                    || {
                        let part = |x: &Tensor<2>, n| x.clone().reshape([parts, rows / parts, n]);
                        let of_parts = part(&gradient, outputs)
                            .swap_dims(1, 2)
                            .matmul(part(&flat, inputs));
                        of_parts.cast(FloatDType::F32).sum_dim(0)
                    },
                );
            }
        }
    }
}

fn reductions(device: &Device) {
    for (tower, tokens, width, _) in TOWERS {
        let rows = BATCH * tokens;
        let columns = 4 * width;
        let x = bf16([rows, columns], device);
        time(
            device,
            &format!("{tower} sum of {rows} rows of {columns}"),
            || x.clone().sum_dim(0),
        );
        time(
            device,
            &format!("{tower} sum of {rows} rows of {columns} in two stages"),
            || {
                x.clone()
                    .reshape([rows / 64, 64, columns])
                    .sum_dim(1)
                    .sum_dim(0)
            },
        );
        let x = random([rows, width], device);
        time(
            device,
            &format!("{tower} sum of {rows} rows of {width} f32"),
            || x.clone().sum_dim(0),
        );
        time(
            device,
            &format!("{tower} sum of {rows} rows of {width} f32 in two stages"),
            || {
                x.clone()
                    .reshape([rows / 64, 64, width])
                    .sum_dim(1)
                    .sum_dim(0)
            },
        );
    }
    let x = random([768 * 3072], device);
    time(device, "sum of 2.4 M values", || x.clone().sum());
    let x = random([1 << 28], device);
    time(device, "copy of 1 GiB", || x.clone().mul_scalar(2.0));
}

/// Forward passes, and forward passes with their backward passes.
fn passes(device: &Device) {
    let graph = device.clone().autodiff();
    for (tower, tokens, width, heads) in TOWERS {
        let shape = [BATCH, tokens, width];
        let norm = |x: Tensor<3>, gain: Tensor<1>, bias: Tensor<1>| {
            couplet_kernels::layer_norm(x, gain, bias, 1e-5)
        };
        let parameter = |device: &Device| (random([width], device), random([width], device));
        let (x, (gain, bias)) = (random(shape, device), parameter(device));
        time(device, &format!("{tower} layer norm"), || {
            norm(x.clone(), gain.clone(), bias.clone())
        });
        let (x, (gain, bias)) = (random(shape, &graph).require_grad(), parameter(&graph));
        let (gain, bias) = (gain.require_grad(), bias.require_grad());
        time(device, &format!("{tower} layer norm, both passes"), || {
            norm(x.clone(), gain.clone(), bias.clone()).backward()
        });
        let wide = [BATCH, tokens, 4 * width];
        let x = bf16(wide, device);
        time(device, &format!("{tower} GELU"), || {
            couplet_kernels::gelu(x.clone())
        });
        let x = bf16(wide, &graph).require_grad();
        time(device, &format!("{tower} GELU, both passes"), || {
            couplet_kernels::gelu(x.clone()).backward()
        });
        let scores = [BATCH, heads, tokens, tokens];
        let x = random(scores, device);
        time(device, &format!("{tower} softmax"), || {
            activation::softmax(x.clone(), 3)
        });
        let x = random(scores, &graph).require_grad();
        time(device, &format!("{tower} softmax, both passes"), || {
            activation::softmax(x.clone(), 3).backward()
        });
        let packed = [BATCH, tokens, 3 * width];
        let x = bf16(packed, device);
        time(device, &format!("{tower} attention"), || {
            couplet_kernels::self_attention(x.clone(), heads, None)
        });
        let x = bf16(packed, &graph).require_grad();
        time(device, &format!("{tower} attention, both passes"), || {
            couplet_kernels::self_attention(x.clone(), heads, None).backward()
        });
        let x = random(shape, device);
        time(device, &format!("{tower} cast to bf16"), || {
            x.clone().cast(FloatDType::BF16)
        });
        let y = random(shape, device);
        time(device, &format!("{tower} residual sum"), || {
            x.clone() + y.clone()
        });
    }
    let table = random([49_408, 512], &graph).require_grad();
    let ids: Vec<i32> = (0..BATCH * 77)
        .map(|at| i32::try_from(at * 7919 % 49_408).unwrap_or(0))
        .collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [BATCH, 77]), &graph);
    time(device, "embedding, both passes", || {
        module::embedding(table.clone(), ids.clone()).backward()
    });
}

/// Compares every parameter's gradient with the CPU's in f32.
fn gradients(device: &Device) -> Result<(), Box<dyn Error>> {
    let spec = presets::find("ViT-B-32").ok_or("the preset is there")?;
    let expected = gradients_on(&Device::flex(), &spec, Precision::F32);
    println!(
        "| precision | largest relative difference of a gradient | of parameter | second |\n|---|---|---|---|"
    );
    for precision in [Precision::F32, Precision::Bf16] {
        let found = gradients_on(device, &spec, precision);
        let mut gaps: Vec<(f64, &str)> = (expected.iter().zip(&found))
            .map(|((name, theirs), (_, ours))| (distance(ours, theirs), name.as_str()))
            .collect();
        gaps.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!(
            "| {precision:?} | {:.2e} | {} | {:.2e}, {} |",
            gaps[0].0, gaps[0].1, gaps[1].0, gaps[1].1
        );
    }
    Ok(())
}

/// ‖ours − theirs‖ / ‖theirs‖
fn distance(ours: &[f32], theirs: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let gap = norm(
        &mut ours
            .iter()
            .zip(theirs)
            .map(|(a, b)| f64::from(*a) - f64::from(*b)),
    );
    gap / norm(&mut theirs.iter().map(|v| f64::from(*v))).max(1e-30)
}

fn gradients_on(
    device: &Device,
    spec: &ModelSpec,
    precision: Precision,
) -> Vec<(String, Vec<f32>)> {
    const PAIRS: usize = 8;
    let device = device.clone().autodiff();
    let model = Clip::init(spec, 0, &device).with_precision(precision);
    let side = spec.image.image_size();
    let values = (0..PAIRS * 3 * side * side).map(|at| {
        let hash = u32::try_from(at).unwrap_or(0).wrapping_mul(2_654_435_761) >> 24;
        f32::from(u8::try_from(hash).unwrap_or(0)) / 128.0 - 1.0
    });
    let images = TensorData::new(values.collect::<Vec<f32>>(), [PAIRS, 3, side, side]);
    let ids = (0..PAIRS * 77).map(|at| match at % 77 {
        0 => 49_406,
        76 => 49_407,
        _ => i32::try_from(at * 31 % 40_000).unwrap_or(0),
    });
    let tokens = TensorData::new(ids.collect::<Vec<i32>>(), [PAIRS, 77]);
    let pass = ForwardContext {
        seed: 0,
        step: 0,
        first_row: 0,
    };
    let (image, _) = model.encode_image_train(Tensor::from_data(images, &device), &pass);
    let loss = SoftmaxLoss::default().forward(Features {
        image: l2_normalize(image),
        text: l2_normalize(model.encode_text(Tensor::from_data(tokens, &device))),
        logit_scale: model.logit_scale.val(),
        logit_bias: model.logit_bias.as_ref().map(Param::val),
    });
    let mut found = Found {
        gradients: GradientsParams::from_grads(loss.backward(), &model),
        values: Vec::new(),
    };
    visit_parameters(&model, &mut found);
    found.values
}

struct Found {
    gradients: GradientsParams,
    values: Vec<(String, Vec<f32>)>,
}

impl ParameterVisitor for Found {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let values = gradient.into_data().convert::<f32>();
            self.values.push((
                name.to_string(),
                values.try_to_vec().expect("converted to f32"),
            ));
        }
    }
}
