//! The speed of a binary compared with an older one's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A command that is timed.
struct Case {
    name: &'static str,
    /// Of the program.
    arguments: &'static [&'static str],
    seconds: Seconds,
}

/// What is compared.
#[derive(Clone, Copy)]
enum Seconds {
    /// The median step that `bench step --json` prints.
    Step,
    /// The whole process.
    Process,
}

macro_rules! step {
    ($name:literal, $model:literal, $batch:literal, $tokens:literal, $precision:literal, $steps:literal) => {
        Case {
            name: $name,
            arguments: &[
                "bench",
                "step",
                "--model",
                $model,
                "--batch",
                $batch,
                "--caption-tokens",
                $tokens,
                "--precision",
                $precision,
                "--steps",
                $steps,
                "--warm-up",
                "2",
                "--device",
                "cpu",
                "--json",
            ],
            seconds: Seconds::Step,
        }
    };
}

/// Small enough for a round to take about a minute on two cores.
const CASES: [Case; 7] = [
    step!(
        "step, ViT-Ti-16-64, 64, f32",
        "ViT-Ti-16-64",
        "64",
        "16",
        "f32",
        "30"
    ),
    step!(
        "step, ViT-Ti-16-64, 64, bf16",
        "ViT-Ti-16-64",
        "64",
        "16",
        "bf16",
        "30"
    ),
    step!(
        "step, ViT-B-32, 4, 77 tokens, f32",
        "ViT-B-32",
        "4",
        "77",
        "f32",
        "3"
    ),
    step!(
        "step, ViT-B-32, 4, 77 tokens, bf16",
        "ViT-B-32",
        "4",
        "77",
        "bf16",
        "3"
    ),
    step!("step, RN50, 2, f32", "RN50", "2", "16", "f32", "3"),
    step!("step, RN50, 2, bf16", "RN50", "2", "16", "bf16", "3"),
    Case {
        name: "start of the program",
        arguments: &["--version"],
        seconds: Seconds::Process,
    },
];

/// Prints a table of both binaries' medians and their ratios; they run in turn.
/// - old, new: programs.
///
/// # Errors
/// If a binary cannot be started.
pub(crate) fn run(old: &Path, new: &Path, rounds: usize) -> Result<(), String> {
    println!("| | old, ms | new, ms | speed ratio | of each round |");
    println!("|---|---|---|---|---|");
    for case in &CASES {
        let mut seconds = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (binary, seconds) in [old, new].into_iter().zip(&mut seconds) {
                seconds.extend(case.seconds(binary)?);
            }
        }
        let [old, new] = seconds;
        if old.len() < rounds || new.len() < rounds {
            let which = if old.len() < rounds { "old" } else { "new" };
            println!("| {} | | | the {which} binary fails | |", case.name);
            continue;
        }
        let ratios: Vec<f64> = old.iter().zip(&new).map(|(old, new)| old / new).collect();
        let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "| {} | {:.1} | {:.1} | {:.2} | {} |",
            case.name,
            1e3 * median(&old),
            1e3 * median(&new),
            median(&ratios),
            each.join(", ")
        );
    }
    Ok(())
}

impl Case {
    /// - returns nothing if the command fails, as that of an older binary may.
    fn seconds(&self, binary: &Path) -> Result<Option<f64>, String> {
        let start = Instant::now();
        let output = Command::new(binary)
            .args(self.arguments)
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let whole = start.elapsed().as_secs_f64();
        if !output.status.success() {
            return Ok(None);
        }
        Ok(match self.seconds {
            Seconds::Process => Some(whole),
            Seconds::Step => step_seconds(&String::from_utf8_lossy(&output.stdout)),
        })
    }
}

/// `step.median_seconds` of what `bench step --json` prints, where it is the first of its name.
fn step_seconds(json: &str) -> Option<f64> {
    let (_, after) = json.split_once("\"median_seconds\":")?;
    let number = after.split([',', '}']).next()?;
    number.trim().parse().ok()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The binary of a release build.
pub(crate) fn built() -> PathBuf {
    crate::workspace::root().join("target/release/couplet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_read_before_the_forward_pass() {
        let json =
            r#"{"step": {"median_seconds": 0.25, "x": 1}, "image_forward": {"median_seconds": 9}}"#;
        assert_eq!(step_seconds(json), Some(0.25));
        assert_eq!(step_seconds("{}"), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
