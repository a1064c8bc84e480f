//! `couplet bench step`.

use anyhow::anyhow;
use clap::Args;
use couplet_model::{Precision, presets};
use couplet_train::{DeviceSetting, StepBench, StepBenchSettings, bench_step};

use crate::commands::bar::working;
use crate::commands::precision_name::PrecisionName;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct BenchStepArguments {
    /// Preset to measure, one of `couplet model list`
    #[arg(long, value_name = "PRESET")]
    pub(super) model: String,
    /// Pairs per step
    #[arg(long, value_name = "N")]
    batch: usize,
    /// Pairs per micro-batch [default: the whole batch]
    #[arg(long, value_name = "N")]
    micro: Option<usize>,
    /// Precision of matrix products and convolutions
    #[arg(long, default_value = "fp32")]
    precision: PrecisionName,
    /// Device to run on: auto, cpu, cuda:N, rocm:N, metal, vulkan or wgpu
    #[arg(long, default_value = "auto")]
    device: DeviceSetting,
    /// Tokens per caption, start and end tokens included [default: the model's context length]
    #[arg(long, value_name = "T")]
    caption_tokens: Option<usize>,
    /// Number of steps to time
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Number of steps to run before them
    #[arg(long, value_name = "N", default_value_t = 2)]
    warm_up: usize,
    #[command(flatten)]
    pub(super) json: JsonArguments,
}

pub(super) fn run(arguments: &BenchStepArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let slow = (arguments.device).slow_because(arguments.precision.into());
    if let Some(why) = slow {
        printing::note(why);
    }
    let settings = settings(arguments)?;
    let working = working("measuring");
    let bench = bench_step(&settings);
    working.finish_and_clear();
    let bench = bench?;
    print(arguments, &bench);
    arguments.json.write(&to_json(arguments, &bench))?;
    Ok(exit_code::DONE)
}

pub(super) fn settings(arguments: &BenchStepArguments) -> anyhow::Result<StepBenchSettings> {
    let spec = presets::find(&arguments.model).ok_or_else(|| {
        let names: Vec<_> = presets::names().collect();
        anyhow!(
            "--model {}: not a preset; the presets are {}",
            arguments.model,
            names.join(", ")
        )
    })?;
    Ok(StepBenchSettings {
        micro: arguments.micro,
        precision: arguments.precision.into(),
        device: arguments.device,
        caption_tokens: arguments.caption_tokens,
        steps: arguments.steps as usize,
        warm_up: arguments.warm_up,
        ..StepBenchSettings::new(spec, arguments.batch)
    })
}

/// The median, the minimum and the maximum.
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
        "precision": Precision::from(arguments.precision).to_string(),
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
    say!(
        "{} on {device}, {}, batch {}, captions of {tokens} tokens, {} steps\n",
        arguments.model,
        Precision::from(arguments.precision),
        arguments.batch,
        bench.steps.len()
    );
    let head = [
        "",
        "median",
        "min to max",
        "samples/s",
        "TFLOP/s",
        "of peak",
    ];
    let mut table = Table::new(head.map(String::from).into());
    for (name, seconds, flops) in [
        ("training step", &bench.steps, bench.step_flops),
        ("image forward", &bench.forward, bench.forward_flops),
    ] {
        let [median, least, most] = spread(seconds);
        table.row(vec![
            name.to_string(),
            format!("{median:.3} s"),
            format!("{least:.3} to {most:.3} s"),
            format!("{:.1}", arguments.batch as f64 / median),
            format!("{:.3}", flops / median / 1e12),
            format!("{:.0}%", 100.0 * flops / median / bench.matmul_flops),
        ]);
    }
    printing::block(&table.render(terminal::table_columns()));
    say!(
        "\n  peak: {:.3} TFLOP/s, measured on large matrix products",
        bench.matmul_flops / 1e12
    );
    if let Some(bytes) = bench.peak_memory {
        say!(
            "  memory: {:.0} MiB at the peak",
            bytes as f64 / f64::from(1 << 20)
        );
    }
}
