//! Whether a run's logs are whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use couplet_model::FileDigest;
use serde_json::Value;

use crate::checkpoint::{METRICS, TRAIN_LOG};

/// A longer line is damage.
const MAX_LINE: u64 = 16 << 20;
/// Problems that are listed of one log.
const MOST_LISTED: usize = 20;

/// A log and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    pub name: &'static str,
    /// Lines that can be read.
    pub lines: usize,
    /// Empty if the log is whole.
    pub problems: Vec<String>,
    /// What is no damage but good to know.
    pub notes: Vec<String>,
}

/// Reads a log.
/// - saved: what checkpoints say of its beginning, the shortest part first, with their names.
pub(super) fn check_log(
    run: &Path,
    name: &'static str,
    saved: &[(String, &FileDigest)],
) -> LogReport {
    let path = run.join(name);
    let mut report = LogReport {
        name,
        lines: 0,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let longest = saved.iter().map(|(_, digest)| digest.bytes).max();
    let mut same = 0;
    let mut differences = Vec::new();
    if path.is_file() {
        for (checkpoint, was) in saved {
            match FileDigest::of_beginning(&path, was.bytes) {
                Ok(is) if is == **was => same = was.bytes,
                Ok(is) => {
                    let (end, is) = (was.bytes, is.bytes);
                    differences.push(if is < end {
                        format!("has {is} bytes, and had {end} at {checkpoint}")
                    } else {
                        format!(
                            "bytes {same} to {end} are not those that {checkpoint} was saved with"
                        )
                    });
                    break;
                }
                Err(error) => differences.push(format!("cannot be read: {error}")),
            }
        }
    }
    match File::open(&path) {
        Ok(file) => read_lines(file, longest.unwrap_or(0), same, &mut report),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if longest.is_some() {
                report.problems.push("is missing".to_string());
            }
            return report;
        }
        Err(error) => {
            report.problems.push(format!("cannot be read: {error}"));
            return report;
        }
    }
    report.problems.extend(differences);
    let more = report.problems.len().saturating_sub(MOST_LISTED);
    if more > 0 {
        report.problems.truncate(MOST_LISTED);
        report.problems.push(format!("and {more} more"));
    }
    report
}

/// - saved: bytes that a checkpoint counts on; what comes after is truncated on resuming.
/// - same: bytes that are known to be those that were written, so that no line among them is missing.
fn read_lines(file: File, saved: u64, same: u64, report: &mut LogReport) {
    let mut reader = BufReader::new(file);
    let mut steps = Vec::new();
    let (mut start, mut bytes) = (0, Vec::new());
    for number in 1_u64.. {
        bytes.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                report.problems.push(format!("line {number}: {error}"));
                break;
            }
        }
        let end = start + bytes.len() as u64;
        if report.name == TRAIN_LOG {
            // Text, which resuming only adds to.
            report.lines += 1;
            if bytes.contains(&0) {
                let problem = format!("line {number} has bytes of zero");
                report.problems.push(problem);
            }
            start = end;
            continue;
        }
        let line: Option<Value> = serde_json::from_slice(&bytes).ok();
        let line = line.filter(Value::is_object);
        match line.filter(|_| bytes.ends_with(b"\n")) {
            Some(line) => {
                report.lines += 1;
                let step = line["step"].as_u64().filter(|_| line["loss"].is_number());
                steps.extend(step.map(|step| (step, end <= same)));
            }
            None if start >= saved => {
                let note = format!("line {number} was being written; resuming removes it");
                report.notes.push(note);
            }
            None if bytes.contains(&0) => {
                report
                    .problems
                    .push(format!("line {number} has bytes of zero"));
            }
            None => report
                .problems
                .push(format!("line {number} is not a JSON object")),
        }
        start = end;
    }
    if report.name == METRICS {
        // The last line that is known to be followed by the next.
        let known = steps.iter().rposition(|(_, is_known)| *is_known);
        let steps: Vec<u64> = steps.iter().map(|(step, _)| *step).collect();
        let found = missing_steps(&steps[known.unwrap_or(0)..], known.is_none());
        report.problems.extend(found);
    }
}

/// Steps between those that were logged, where the distance is another than before and after. The
/// distance of all lines after a line may change, since `log.every` may.
/// - is_beginning: whether `steps` begin with the log's first line.
fn missing_steps(steps: &[u64], is_beginning: bool) -> Vec<String> {
    let mut problems = Vec::new();
    for pair in steps.windows(2) {
        if pair[1] <= pair[0] {
            problems.push(format!("step {} comes after step {}", pair[1], pair[0]));
        }
    }
    let gaps: Vec<u64> = steps
        .windows(2)
        .map(|pair| pair[1].abs_diff(pair[0]))
        .collect();
    if let [first, second, ..] = gaps[..]
        && first == second
        && is_beginning
        && steps[0] > first
    {
        problems.push(format!("the steps before {} are missing", steps[0]));
    }
    for (at, gaps) in gaps.windows(3).enumerate() {
        if gaps[0] == gaps[2] && gaps[1] > gaps[0] {
            let (before, after) = (steps[at + 1], steps[at + 2]);
            problems.push(format!(
                "the steps between {before} and {after} are missing"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> String {
        format!("{{\"step\":{step},\"loss\":1.5}}\n")
    }

    fn check(text: &[u8], saved: &[(u64, &[u8])]) -> LogReport {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(METRICS), text).unwrap();
        let digests: Vec<_> = (saved.iter())
            .map(|(step, bytes)| (format!("step-{step}"), FileDigest::of_bytes(bytes)))
            .collect();
        let saved: Vec<_> = digests
            .iter()
            .map(|(name, digest)| (name.clone(), digest))
            .collect();
        check_log(folder.path(), METRICS, &saved)
    }

    #[test]
    fn lines_that_are_damaged_or_missing_are_reported() {
        let lines: Vec<String> = (1..=8).map(|at| line(10 * at)).collect();
        let whole = lines.concat().into_bytes();
        let (first, second) = (&whole[..lines[..3].concat().len()], &whole[..]);
        let saved = [(30, first), (80, second)];
        let report = check(&whole, &saved);
        assert_eq!((report.lines, &report.problems[..]), (8, &[][..]));

        let mut zeros = whole.clone();
        zeros[first.len() + 2..first.len() + 12].fill(0);
        let found = check(&zeros, &saved).problems.join("; ");
        assert!(found.contains("line 4 has bytes of zero"), "{found}");
        let range = format!("bytes {} to {}", first.len(), second.len());
        assert!(found.contains(&range), "{found}");

        let found = check(&whole[..first.len()], &saved).problems.join("; ");
        assert!(found.contains("at step-80"), "{found}");

        let without = [&lines[..4], &lines[5..]].concat().concat();
        let found = check(without.as_bytes(), &[]).problems;
        assert_eq!(found, ["the steps between 40 and 60 are missing"]);
        let found = check(lines[2..].concat().as_bytes(), &[]).problems;
        assert_eq!(found, ["the steps before 30 are missing"]);
    }

    #[test]
    fn a_line_that_was_being_written_is_no_damage() {
        let text = line(1) + "{\"step\":2,\"lo";
        let report = check(text.as_bytes(), &[(1, line(1).as_bytes())]);
        assert_eq!((report.problems.len(), report.notes.len()), (0, 1));
    }

    #[test]
    fn a_changed_distance_of_lines_is_no_damage() {
        assert_eq!(missing_steps(&[1, 2, 3, 10, 20, 30, 33], true), [""; 0]);
        assert_eq!(missing_steps(&[10, 20, 30, 50, 75, 100], true), [""; 0]);
        assert_eq!(missing_steps(&[], true), [""; 0]);
        assert_eq!(missing_steps(&[3, 2], true).len(), 1);
    }
}
