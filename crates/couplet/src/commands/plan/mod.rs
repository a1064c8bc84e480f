//! `couplet plan`.

mod lines;
mod ranks;

use clap::Args;
use couplet_train::{DeviceCheck, ResolvedRun, RunPlan};

use self::lines::{print_line, rounded};
use self::ranks::{RanksArguments, RanksResult};
use super::config_arguments::ConfigArguments;
use super::numbers::{at_least_two, positive};
use crate::commands::bar::working;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::quantities::{count, duration};

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Tokens per caption, start and end tokens included [default: the model's context length]
    #[arg(long, value_name = "T", value_parser = at_least_two)]
    caption_tokens: Option<usize>,
    /// Estimate the time at this throughput; with --ranks, of one rank without the others
    #[arg(long, value_name = "SAMPLES/S", conflicts_with = "measure", value_parser = positive)]
    speed: Option<f64>,
    /// Estimate the time from a few steps on random data
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    ranks: RanksArguments,
    #[command(flatten)]
    json: JsonArguments,
}

const MIB: f64 = (1 << 20) as f64;

pub(crate) fn run(arguments: &PlanArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let set = arguments.config.set();
    let run = ResolvedRun::open_input(&arguments.config.input(&set), DeviceCheck::Skip)?;
    let plan = run.plan(arguments.caption_tokens);
    let ranks = arguments.ranks.plan(&run, arguments.caption_tokens)?;
    let measured = if arguments.measure {
        let plan = ranks.as_ref().map_or(&plan, |ranks| &ranks.rank);
        let working = working("measuring");
        let speed = run.measure_speed(plan);
        working.finish_and_clear();
        Some(speed?)
    } else {
        None
    };
    let ranks = ranks.map(|plan| RanksResult::new(plan, measured, arguments.speed));
    let speed = match &ranks {
        Some(ranks) => ranks.samples_per_second(),
        None => measured.or(arguments.speed),
    };
    print(arguments, &plan, ranks.as_ref(), speed);
    let json = to_json(&plan, ranks.as_ref(), speed);
    arguments.json.write(&json)?;
    Ok(exit_code::DONE)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn seconds(plan: &RunPlan, speed: f64) -> f64 {
    plan.samples() as f64 / speed
}

fn to_json(plan: &RunPlan, ranks: Option<&RanksResult>, speed: Option<f64>) -> serde_json::Value {
    let rank = ranks.map_or(plan, |ranks| &ranks.plan.rank);
    let parts = rank.memory.iter().map(|part| {
        serde_json::json!({"name": part.name, "bytes": part.bytes.round(), "on_host": part.on_host})
    });
    let mut json = serde_json::json!({
        "device": plan.device.to_string(),
        "precision": plan.precision.to_string(),
        "parameters": {
            "image": plan.model.image.parameters,
            "text": plan.model.text.parameters,
            "trained": plan.trained_parameters,
        },
        "caption_tokens": plan.tokens,
        "forward_flops_per_sample": plan.forward_flops,
        "step_flops_per_sample": plan.step_flops,
        "batch": plan.batch,
        "micro_batch": rank.micro_batch,
        "samples_per_epoch": plan.samples_per_epoch,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": plan.total_steps,
        "samples": plan.samples(),
        "memory": parts.collect::<Vec<_>>(),
        "memory_bytes": rank.bytes(false).round(),
        "host_memory_bytes": rank.bytes(true).round(),
        "samples_per_second": speed,
        "seconds": speed.map(|speed| seconds(plan, speed)),
    });
    if let Some(ranks) = ranks {
        json["ranks"] = ranks.to_json();
    }
    json
}

#[expect(clippy::cast_precision_loss, reason = "counts are printed in millions")]
fn print(
    arguments: &PlanArguments,
    plan: &RunPlan,
    ranks: Option<&RanksResult>,
    speed: Option<f64>,
) {
    let millions = |count: u64| count as f64 / 1e6;
    let (image, text) = (plan.model.image.parameters, plan.model.text.parameters);
    say!(
        "{} on {}, {}\n",
        arguments.config.path.display(),
        plan.device,
        plan.precision
    );
    print_line(
        "parameters",
        format!(
            "{:.2} M: image tower {:.2} M, text tower {:.2} M; {:.2} M are trained",
            millions(image + text),
            millions(image),
            millions(text),
            millions(plan.trained_parameters)
        ),
    );
    print_line(
        "arithmetic",
        format!(
            "{} GFLOPs per sample forward, {} in a training step, with captions of {} tokens",
            rounded(plan.forward_flops / 1e9),
            rounded(plan.step_flops / 1e9),
            plan.tokens
        ),
    );
    let parts = match plan.batch / plan.micro_batch {
        parts if parts == 1 || ranks.is_some() => String::new(),
        parts => format!(" (in {parts} micro-batches of {})", plan.micro_batch),
    };
    print_line(
        "steps",
        format!(
            "{} of {} samples{parts}, {} per epoch of {} samples; {:.3} M samples in total",
            count(plan.total_steps, "step"),
            plan.batch,
            plan.steps_per_epoch,
            plan.samples_per_epoch,
            millions(plan.samples())
        ),
    );
    if let Some(ranks) = ranks {
        ranks.print_layout();
        print_memory(&ranks.plan.rank, "of each rank, estimated");
        ranks.print_step();
    } else {
        print_memory(plan, "estimated");
    }
    print_line("time", describe_time(arguments, plan, ranks, speed));
}

fn print_memory(plan: &RunPlan, whose: &str) {
    print_line(
        "memory",
        format!("{whose}, in MiB, without the program itself and shuffle buffers"),
    );
    for part in &plan.memory {
        let on_host = if part.on_host { ", on the host" } else { "" };
        say!(
            "  {:12}{:>10.1}  {}{on_host}",
            "",
            part.bytes / MIB,
            part.name
        );
    }
    say!(
        "  {:12}{:>10.1}  total",
        "",
        (plan.bytes(false) + plan.bytes(true)) / MIB
    );
}

fn describe_time(
    arguments: &PlanArguments,
    plan: &RunPlan,
    ranks: Option<&RanksResult>,
    speed: Option<f64>,
) -> String {
    let Some(speed) = speed else {
        return "unknown; give --speed SAMPLES/S or --measure".into();
    };
    let source = match ranks {
        Some(_) => ", predicted",
        None if arguments.measure => ", measured on random data",
        None => "",
    };
    let (time, speed) = (duration(seconds(plan, speed)), rounded(speed));
    format!("{time} for all steps at {speed} samples/s{source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_speeds_are_rounded_to_three_significant_digits() {
        assert_eq!(duration(59.6), "60 s");
        assert_eq!(duration(600.0), "10 min");
        assert_eq!(duration(9_000.0), "2.5 h");
        assert_eq!(duration(864_000.0), "10.0 days");
        assert_eq!([543.2, 54.32, 5.432].map(rounded), ["543", "54.3", "5.432"]);
    }
}
