//! `couplet bench`.

use anyhow::anyhow;
use couplet_model::{Precision, presets};
use couplet_train::{StepBench, StepBenchSettings, bench_step};

use crate::{BenchStepArguments, PrecisionName};

pub(crate) fn step(arguments: &BenchStepArguments) -> anyhow::Result<u8> {
    let spec = presets::find(&arguments.model).ok_or_else(|| {
        let names: Vec<_> = presets::names().collect();
        anyhow!(
            "--model {}: not a preset; there are {}",
            arguments.model,
            names.join(", ")
        )
    })?;
    let bench = bench_step(&StepBenchSettings {
        micro: arguments.micro,
        precision: arguments.precision.into(),
        device: arguments.device,
        caption_tokens: arguments.caption_tokens,
        steps: arguments.steps as usize,
        warm_up: arguments.warm_up,
        ..StepBenchSettings::new(spec, arguments.batch)
    })?;
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&to_json(arguments, &bench))?
        );
    } else {
        print(arguments, &bench);
    }
    Ok(0)
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
            PrecisionName::F16 => Self::F16,
        }
    }
}

/// The middle, the least and the most.
fn spread(seconds: &[f64]) -> [f64; 3] {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    [
        sorted[sorted.len() / 2],
        sorted[0],
        sorted[sorted.len() - 1],
    ]
}

#[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
fn to_json(arguments: &BenchStepArguments, bench: &StepBench) -> serde_json::Value {
    let part = |seconds: &[f64], flops: f64| {
        let [median, least, most] = spread(seconds);
        serde_json::json!({
            "median_seconds": median,
            "least_seconds": least,
            "most_seconds": most,
            "samples_per_second": arguments.batch as f64 / median,
            "flops_per_second": flops / median,
            "share_of_matmul_peak": flops / median / bench.matmul_flops,
        })
    };
    serde_json::json!({
        "model": arguments.model,
        "batch": arguments.batch,
        "precision": format!("{:?}", Precision::from(arguments.precision)).to_lowercase(),
        "device": arguments.device.resolved().to_string(),
        "caption_tokens": bench.tokens,
        "steps": bench.steps.len(),
        "step": part(&bench.steps, bench.step_flops),
        "image_forward": part(&bench.forward, bench.forward_flops),
        "matmul_flops_per_second": bench.matmul_flops,
        "peak_memory_bytes": bench.peak_memory,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn print(arguments: &BenchStepArguments, bench: &StepBench) {
    let (device, tokens) = (arguments.device.resolved(), bench.tokens);
    println!(
        "{} on {device}, {:?}, batch {}, captions of {tokens} tokens, {} steps\n",
        arguments.model,
        Precision::from(arguments.precision),
        arguments.batch,
        bench.steps.len()
    );
    println!(
        "  {:16}{:>10}{:>20}{:>12}{:>12}{:>9}",
        "", "median", "least to most", "samples/s", "TFLOP/s", "of peak"
    );
    for (name, seconds, flops) in [
        ("training step", &bench.steps, bench.step_flops),
        ("image forward", &bench.forward, bench.forward_flops),
    ] {
        let [median, least, most] = spread(seconds);
        println!(
            "  {name:16}{median:>9.3}s{:>20}{:>12.1}{:>12.3}{:>8.0}%",
            format!("{least:.3} to {most:.3}s"),
            arguments.batch as f64 / median,
            flops / median / 1e12,
            100.0 * flops / median / bench.matmul_flops
        );
    }
    println!(
        "\n  peak: a matrix product's {:.3} TFLOP/s",
        bench.matmul_flops / 1e12
    );
    if let Some(bytes) = bench.peak_memory {
        println!(
            "  memory: at most {:.0} MiB",
            bytes as f64 / f64::from(1 << 20)
        );
    }
}
