//! `couplet verify`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use couplet_train::{
    CheckpointReport, Event, Observer, Replay, RunReport, Verdict, replay, verify_with,
};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::bar::bar;
use super::train::enter_working_dir;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Run folder to check; nothing in it is changed
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Also repeat this many steps in a temporary folder, from the newest checkpoint after which so
    /// many steps were logged (else any), and compare the losses bit for bit
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    replay: Option<u64>,
    #[command(flatten)]
    json: JsonArguments,
}

pub(crate) fn run(arguments: &VerifyArguments) -> anyhow::Result<u8> {
    let out = arguments
        .json
        .absolute()
        .context("the working directory is gone")?;
    out.begin()?;
    let checked = bar(Some(0), "checkpoints");
    let report = verify_with(&arguments.run, |done, total| {
        checked.set_length(total as u64);
        checked.set_position(done as u64);
    });
    checked.finish_and_clear();
    let report = report?;
    print_report(&report);
    let mut is_sound = !report.is_damaged();
    let mut json = to_json(&report);
    if let Some(steps) = arguments.replay {
        let run = std::path::absolute(&arguments.run).context("the working directory is gone")?;
        enter_working_dir(&run);
        let mut repeated = Repeated(bar(usize::try_from(steps).ok(), "steps"));
        let replay = replay(&run, steps, &mut repeated);
        repeated.0.finish_and_clear();
        let replay = replay?;
        print_replay(&replay);
        json["replay"] = replay_json(&replay);
        is_sound &= replay.differs.is_none() && replay.compared > 0;
    }
    json["is_sound"] = is_sound.into();
    out.write(&json)?;
    Ok(if is_sound {
        exit_code::DONE
    } else {
        exit_code::FAILED
    })
}

/// Shows the steps that are repeated.
struct Repeated(ProgressBar);

impl Observer for Repeated {
    fn event(&mut self, event: Event) {
        if let Event::Step(_) = event {
            self.0.inc(1);
        }
    }
}

fn print_report(report: &RunReport) {
    say!("{:24} {:>10}  verdict", "checkpoint", "MB");
    for checkpoint in &report.checkpoints {
        print_checkpoint(checkpoint);
    }
    if report.checkpoints.is_empty() {
        say!("there is none");
    }
    say!("\n{:24} {:>10}  verdict", "log", "lines");
    for log in &report.logs {
        let verdict = if log.problems.is_empty() {
            "whole"
        } else {
            "damaged"
        };
        say!("{:24} {:>10}  {verdict}", log.name, log.lines);
        for text in log.problems.iter().chain(&log.notes) {
            say!("  {text}");
        }
    }
    for problem in &report.pointers {
        say!("\n{problem}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are printed in megabytes")]
fn print_checkpoint(checkpoint: &CheckpointReport) {
    let name = checkpoint.path.file_name().unwrap_or_default();
    let size = checkpoint
        .bytes
        .map(|bytes| format!("{:.1}", bytes as f64 / 1e6));
    let (verdict, problems) = match &checkpoint.verdict {
        Verdict::Whole => ("whole", &[][..]),
        Verdict::Unchecked => ("unchecked: an earlier version wrote no manifest", &[][..]),
        Verdict::Damaged(problems) => ("damaged", &problems[..]),
    };
    say!(
        "{:24} {:>10}  {verdict}",
        name.to_string_lossy(),
        size.as_deref().unwrap_or("-")
    );
    for problem in problems {
        say!("  {problem}");
    }
}

fn print_replay(replay: &Replay) {
    let Replay {
        from,
        to,
        compared,
        device,
        tolerance,
        differs,
    } = replay;
    say!(
        "\nreplay     steps {} to {to} on {device}, {compared} of them logged",
        from + 1
    );
    match (differs, tolerance) {
        (None, _) if *compared == 0 => say!("result     nothing to compare; repeat more steps"),
        (None, Some(tolerance)) => say!(
            "result     the losses are the same to {tolerance:e}: the run had several ranks, the repetition has one"
        ),
        (None, None) => say!("result     the losses are the same, bit for bit"),
        (Some((step, logged, repeated)), _) => printing::line(&format!(
            "result     step {step} is the first to differ: {logged} was logged, {repeated} repeated"
        )),
    }
}

fn to_json(report: &RunReport) -> Value {
    let checkpoints = report.checkpoints.iter().map(|checkpoint| {
        let (verdict, problems) = match &checkpoint.verdict {
            Verdict::Whole => ("whole", &[][..]),
            Verdict::Unchecked => ("unchecked", &[][..]),
            Verdict::Damaged(problems) => ("damaged", &problems[..]),
        };
        json!({
            "path": checkpoint.path,
            "step": checkpoint.step,
            "bytes": checkpoint.bytes,
            "verdict": verdict,
            "problems": problems,
        })
    });
    let logs = report.logs.iter().map(|log| {
        json!({ "name": log.name, "lines": log.lines, "problems": log.problems, "notes": log.notes })
    });
    json!({
        "checkpoints": checkpoints.collect::<Value>(),
        "logs": logs.collect::<Value>(),
        "pointers": report.pointers,
    })
}

fn replay_json(replay: &Replay) -> Value {
    let differs = replay.differs.map(
        |(step, logged, repeated)| json!({ "step": step, "logged": logged, "repeated": repeated }),
    );
    json!({
        "from": replay.from,
        "to": replay.to,
        "compared": replay.compared,
        "device": replay.device,
        "tolerance": replay.tolerance,
        "differs": differs,
    })
}
