//! The speed of a binary compared with an older one's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What is timed.
enum Case {
    /// The median step of `bench step`.
    Step {
        model: &'static str,
        batch: &'static str,
        /// Of a caption.
        tokens: &'static str,
        steps: &'static str,
        precision: &'static str,
    },
    /// The program's start.
    Start,
}

/// Model, batch, tokens of a caption and steps: few enough for a round to take about two minutes on two cores.
const STEPS: [[&str; 4]; 3] = [
    ["ViT-Ti-16-64", "64", "16", "30"],
    ["ViT-B-32", "4", "77", "3"],
    ["RN50", "2", "16", "3"],
];

fn cases() -> impl Iterator<Item = Case> {
    let steps = STEPS.into_iter().flat_map(|[model, batch, tokens, steps]| {
        ["f32", "bf16"].map(|precision| Case::Step {
            model,
            batch,
            tokens,
            steps,
            precision,
        })
    });
    steps.chain([Case::Start])
}

/// Prints a table of both binaries' medians and their ratios; they run in turn.
/// - old, new: programs.
///
/// # Errors
/// If a binary cannot be started.
pub(crate) fn run(old: &Path, new: &Path, rounds: usize) -> Result<(), String> {
    println!("| | old, ms | new, ms | speed ratio | of each round |");
    println!("|---|---|---|---|---|");
    for case in cases() {
        let mut seconds = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (binary, seconds) in [old, new].into_iter().zip(&mut seconds) {
                seconds.extend(case.seconds(binary)?);
            }
        }
        let [old, new] = seconds;
        if old.len() < rounds || new.len() < rounds {
            let which = if old.len() < rounds { "old" } else { "new" };
            println!("| {case} | | | the {which} binary fails | |");
            continue;
        }
        let ratios: Vec<f64> = old.iter().zip(&new).map(|(old, new)| old / new).collect();
        let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "| {case} | {:.1} | {:.1} | {:.2} | {} |",
            1e3 * median(&old),
            1e3 * median(&new),
            median(&ratios),
            each.join(", ")
        );
    }
    Ok(())
}

impl Case {
    fn arguments(&self) -> Vec<&'static str> {
        match *self {
            Self::Start => vec!["--version"],
            Self::Step {
                model,
                batch,
                tokens,
                steps,
                precision,
            } => {
                let mut all = vec![
                    "bench",
                    "step",
                    "--device",
                    "cpu",
                    "--warm-up",
                    "2",
                    "--json",
                ];
                all.extend([
                    "--model",
                    model,
                    "--batch",
                    batch,
                    "--caption-tokens",
                    tokens,
                ]);
                all.extend(["--steps", steps, "--precision", precision]);
                all
            }
        }
    }

    /// - returns nothing if the command fails, as that of an older binary may.
    fn seconds(&self, binary: &Path) -> Result<Option<f64>, String> {
        let start = Instant::now();
        let output = Command::new(binary)
            .args(self.arguments())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let whole = start.elapsed().as_secs_f64();
        if !output.status.success() {
            return Ok(None);
        }
        Ok(match self {
            Self::Start => Some(whole),
            Self::Step { .. } => step_seconds(&String::from_utf8_lossy(&output.stdout)),
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start of the program"),
            Self::Step {
                model,
                batch,
                tokens,
                precision,
                ..
            } => write!(
                f,
                "step of {model}, {batch} pairs of {tokens} tokens, {precision}"
            ),
        }
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
