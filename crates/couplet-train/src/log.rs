//! `metrics.jsonl` and `skipped.jsonl`: one JSON object per line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use couplet_eval::metric::{
    DATA_WAIT, GRAD_NORM, IMAGES, LOGIT_SCALE, LOSS, LR, SAMPLES_PER_SECOND, SKIPPED,
};
use couplet_eval::{Metric, MetricInfo, Report};
use couplet_model::{FileDigest, RunningDigest};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::checkpoint::Identity;
use crate::numbers::{as_written, rounded, thousandths};

/// A log that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written", path.display())]
pub struct LogError {
    pub path: PathBuf,
    pub source: std::io::Error,
}

/// A training line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrainLine {
    /// Number of steps so far, including this one.
    pub step: u64,
    /// The epoch of this step, counted from 1.
    pub epoch: u64,
    /// Samples trained on so far, repetitions included.
    pub samples_seen: u64,
    /// Seconds of training, over all resumes.
    #[serde(serialize_with = "rounded")]
    pub time: f64,
    /// This step's loss. The log has the digits with which an f32 reads back to the bit.
    #[serde(serialize_with = "as_written")]
    pub loss: f64,
    /// The schedule's learning rate, before the scales of groups and layers.
    #[serde(serialize_with = "as_written")]
    pub lr: f64,
    /// The factor on cosine similarities, not its log.
    #[serde(serialize_with = "as_written")]
    pub logit_scale: f64,
    /// The global gradient norm before clipping.
    #[serde(serialize_with = "as_written")]
    pub grad_norm: f64,
    /// Mean since the last log line.
    #[serde(serialize_with = "rounded")]
    pub samples_per_second: f64,
    /// Share of the time since the last log line that was spent waiting for data, from 0 to 1.
    #[serde(serialize_with = "rounded")]
    pub data_wait: f64,
    /// The factor on gradients; only with f16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
}

/// The metrics of a training line, in the order of its fields.
pub(crate) const TRAIN_METRICS: [MetricInfo; 6] = [
    LOSS,
    LR,
    LOGIT_SCALE,
    GRAD_NORM,
    SAMPLES_PER_SECOND,
    DATA_WAIT,
];

impl TrainLine {
    /// The metrics, in the order of the fields.
    pub fn metrics(&self) -> [Metric; 6] {
        [
            LOSS.of(self.loss),
            LR.of(self.lr),
            LOGIT_SCALE.of(self.logit_scale),
            GRAD_NORM.of(self.grad_norm),
            SAMPLES_PER_SECOND.of(self.samples_per_second),
            DATA_WAIT.of(self.data_wait),
        ]
    }
}

/// The key of a line that says that weights were mixed.
pub(crate) const MIXED: &str = "mixed";

/// The line of `metrics.jsonl` for a step that was skipped because f16 overflowed.
/// - loss_scale: the factor that the next step uses.
pub(crate) fn skipped_line(line: &LineHead, loss_scale: f64) -> Value {
    let mut map = line.map();
    map.insert("skipped_step".into(), true.into());
    map.insert("loss_scale".into(), loss_scale.into());
    Value::Object(map)
}

/// The line of `metrics.jsonl` for weights that the guard has mixed with those of the beginning. The step's evaluations before
/// it are of the model before, those after it of the mix.
/// - share: how much of what was trained is left.
pub(crate) fn mixed_line(line: &LineHead, share: f64) -> Value {
    let mut map = line.map();
    map.insert(MIXED.into(), share.into());
    Value::Object(map)
}

/// The line of `metrics.jsonl` for changes of the config or the data with which a run goes on.
pub(crate) fn changes_line(line: &LineHead, changes: &[String]) -> Value {
    let mut map = line.map();
    map.insert("changes".into(), changes.into());
    Value::Object(map)
}

/// An evaluation line of `metrics.jsonl`.
pub(crate) fn eval_line(line: &LineHead, report: &Report) -> Value {
    let mut map = line.map();
    let dataset = &report.dataset;
    for metric in &report.metrics.0 {
        map.insert(metric.info.logged_as(dataset), metric.logged().into());
    }
    map.insert(IMAGES.logged_as(dataset), report.images.into());
    map.insert(SKIPPED.logged_as(dataset), report.skipped.into());
    Value::Object(map)
}

/// The fields that every line begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineHead {
    pub step: u64,
    pub epoch: u64,
    pub samples_seen: u64,
    pub time: f64,
}

impl LineHead {
    fn map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("step".into(), self.step.into());
        map.insert("epoch".into(), self.epoch.into());
        map.insert("samples_seen".into(), self.samples_seen.into());
        map.insert("time".into(), thousandths(self.time).into());
        map
    }
}

/// The bytes that values take as JSON lines.
pub(crate) fn lines_len(values: &[impl Serialize]) -> u64 {
    let line = |value| serde_json::to_vec(value).map_or(0, |line| line.len() as u64 + 1);
    values.iter().map(line).sum()
}

/// A file of JSON lines that can be truncated to an earlier length.
#[derive(Debug)]
pub(crate) struct JsonLines {
    path: PathBuf,
    file: File,
    identity: Identity,
    digest: RunningDigest,
}

impl JsonLines {
    /// Opens the file, creating it if it is missing, and truncates it to `len` bytes.
    ///
    /// # Errors
    /// If the file is shorter than that or cannot be written.
    pub fn open(path: &Path, len: u64) -> Result<Self, LogError> {
        let mut digest = RunningDigest::default();
        let mut open = || -> std::io::Result<(File, Identity)> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)?;
            if file.metadata()?.len() < len {
                return Err(std::io::Error::other(format!(
                    "has fewer than the {len} bytes that it had at the checkpoint"
                )));
            }
            file.set_len(len)?;
            digest.read(&mut file)?;
            let mut last = *b"\n";
            if len > 0 {
                file.seek(SeekFrom::Start(len - 1))?;
                file.read_exact(&mut last)?;
            }
            file.seek(SeekFrom::Start(len))?;
            if last != *b"\n" {
                // A damaged end may not take the next line with it.
                file.write_all(b"\n")?;
                digest.update(b"\n");
            }
            let identity = Identity::of_file(&file)?;
            Ok((file, identity))
        };
        let (file, identity) = open().map_err(|source| LogError {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            identity,
            digest,
        })
    }

    /// Appends a line in a single write.
    ///
    /// # Errors
    /// If that fails, or the path no longer leads to this file.
    pub fn write(&mut self, line: &impl Serialize) -> Result<(), LogError> {
        let mut bytes = serde_json::to_vec(line).expect("log lines serialise");
        bytes.push(b'\n');
        self.check_in_place()
            .and_then(|()| self.file.write_all(&bytes))
            .map_err(|source| self.error(source))?;
        self.digest.update(&bytes);
        Ok(())
    }

    /// Syncs the file to disk.
    /// - returns its length and digest.
    pub fn sync(&mut self) -> Result<FileDigest, LogError> {
        self.check_in_place()
            .and_then(|()| self.file.sync_data())
            .map_err(|source| self.error(source))?;
        Ok(self.digest.digest())
    }

    fn check_in_place(&self) -> std::io::Result<()> {
        match Identity::of_path(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(std::io::Error::other(
                "it was removed, renamed or replaced while the run wrote to it",
            )),
        }
    }

    fn error(&self, source: std::io::Error) -> LogError {
        LogError {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_data::with_causes;

    #[test]
    fn a_training_line_logs_every_train_metric() {
        let line = TrainLine {
            step: 1,
            epoch: 1,
            samples_seen: 8,
            time: 0.5,
            loss: 2.0,
            lr: 3.0,
            logit_scale: 4.0,
            grad_norm: 5.0,
            samples_per_second: 6.0,
            data_wait: 7.0,
            loss_scale: None,
        };
        let logged = serde_json::to_value(line).unwrap();
        for (metric, info) in line.metrics().into_iter().zip(TRAIN_METRICS) {
            assert_eq!(metric.info, info);
            assert_eq!(logged[info.name], metric.value, "{}", info.name);
        }
    }

    #[test]
    fn a_reopened_log_is_truncated_and_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let mut log = JsonLines::open(&path, 0).unwrap();
        log.write(&1).unwrap();
        let len = log.sync().unwrap().bytes;
        log.write(&2).unwrap();
        drop(log);
        let mut log = JsonLines::open(&path, len).unwrap();
        log.write(&3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n3\n");
        let error = with_causes(&JsonLines::open(&path, 99).unwrap_err());
        assert!(error.contains("fewer than the 99 bytes"), "{error}");
        assert_eq!(log.sync().unwrap(), FileDigest::of_bytes(b"1\n3\n"));
    }

    #[test]
    fn the_line_after_a_damaged_end_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        std::fs::write(&path, b"1\n2\0").unwrap();
        let mut log = JsonLines::open(&path, 4).unwrap();
        log.write(&3).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\0\n3\n");
        let digest = FileDigest::of_bytes(b"1\n2\0\n3\n");
        assert_eq!(log.sync().unwrap(), digest);
    }

    #[cfg(unix)]
    #[test]
    fn a_log_that_was_moved_away_is_an_error_at_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let mut log = JsonLines::open(&path, 0).unwrap();
        log.write(&1).unwrap();
        std::fs::rename(&path, folder.path().join("n.jsonl")).unwrap();
        let error = with_causes(&log.write(&2).unwrap_err());
        assert!(error.contains("removed, renamed or replaced"), "{error}");
        std::fs::write(&path, "1\n").unwrap();
        assert!(log.write(&2).is_err());
        assert!(log.sync().is_err());
    }
}
