//! The names of all files that a run writes. Nothing else in its folder is ever changed or deleted.

use std::path::{Component, Path, PathBuf};

use couplet_eval::{
    EMA_HEAD_FILE, EMA_WEIGHTS_FILE, EVAL_WEIGHTS_FILE, HEAD_FILE, TRAINER_STATE_FILE,
    checkpoint_name, checkpoint_step,
};
use couplet_model::{MANIFEST_FILE, Manifest, TOKENIZER_FILE, open_clip};

pub(crate) const CONFIG: &str = "config.toml";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const SKIPPED: &str = "skipped.jsonl";
/// What the run printed.
pub(crate) const TRAIN_LOG: &str = "train.log";
/// What ran, where and on what.
pub(super) const RECORD: &str = "record.json";
pub(super) const LATEST: &str = "latest";
pub(super) const BEST: &str = "best";
pub(super) const RUN: &str = "run.json";
pub(super) const LOCK: &str = "lock";
pub(super) const CACHE: &str = "cache";
pub(super) const TENSORBOARD: &str = "tensorboard";
/// What the run reads.
pub(super) const INPUTS: &str = "inputs.json";
/// Every change that the run went on with.
pub(super) const CHANGES: &str = "changes.jsonl";
/// The files in a run's folder, besides `lock` and earlier configs.
pub(super) const FILES: [&str; 10] = [
    LATEST, BEST, METRICS, SKIPPED, TRAIN_LOG, RECORD, INPUTS, CHANGES, CONFIG, RUN,
];
/// Begins the name of an earlier config.
const EARLIER_CONFIG: &str = "config.step-";

/// The folder in a checkpoint's that only training reads.
pub(super) const TRAINER: &str = "trainer";
/// The weights that the run began with, where they may be needed.
pub(super) const START_FILE: &str = "trainer/start.safetensors";
/// Low-rank updates, with the weights that they update.
pub(super) const UPDATES_FILE: &str = "trainer/updates.safetensors";
/// The folder of an adapter in PEFT's form.
pub(super) const ADAPTER: &str = "adapter";
pub(super) const OPTIMIZER_FILE: &str = "trainer/optimizer.safetensors";
/// The files of a checkpoint that decide what resuming reads.
pub(super) const READ_ON_RESUME: [&str; 10] = [
    open_clip::CONFIG_FILE,
    open_clip::WEIGHTS_FILE,
    EMA_WEIGHTS_FILE,
    HEAD_FILE,
    EMA_HEAD_FILE,
    EVAL_WEIGHTS_FILE,
    OPTIMIZER_FILE,
    UPDATES_FILE,
    START_FILE,
    TRAINER_STATE_FILE,
];
/// Its other files.
const OTHER_FILES: [&str; 5] = [
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    MANIFEST_FILE,
];

/// Prefix of folders that are being written or deleted.
const UNFINISHED: &str = ".unfinished-";
/// Suffix of folders that are being deleted.
const OLD: &str = "-old";
/// Prefix of checkpoints that were found damaged and left behind.
const DAMAGED: &str = "damaged-";

/// The config until a step.
pub(super) fn earlier_config(step: u64) -> String {
    format!("{EARLIER_CONFIG}{step:08}.toml")
}

pub(super) fn is_earlier_config(name: &str) -> bool {
    let step = name.strip_prefix(EARLIER_CONFIG);
    step.and_then(|name| name.strip_suffix(".toml"))
        .is_some_and(is_number)
}

/// The folder of a checkpoint until it is complete.
pub(super) fn unfinished(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("{UNFINISHED}{}", checkpoint_name(step)))
}

/// The folder of a checkpoint that is being deleted.
pub(super) fn old(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("{UNFINISHED}{}{OLD}", checkpoint_name(step)))
}

/// Where a damaged checkpoint is kept: `damaged-step-N`, or `damaged-step-N.K` if there is one already.
pub(super) fn free_for_damaged(checkpoints: &Path, step: u64) -> PathBuf {
    let place = |number: u32| {
        let name = format!("{DAMAGED}{}", checkpoint_name(step));
        checkpoints.join(match number {
            0 => name,
            number => format!("{name}.{number}"),
        })
    };
    let mut places = (0..u32::MAX).map(place);
    places
        .find(|place| !place.exists())
        .unwrap_or_else(|| place(0))
}

/// What the name of a folder in `checkpoints/` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderKind {
    Checkpoint(u64),
    Unfinished(u64),
    /// A checkpoint that was being deleted.
    Old(u64),
    Damaged(u64),
    Foreign,
}

impl FolderKind {
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let step = |name: &str| checkpoint_step(Path::new(name));
        if let Some(step) = step(&name) {
            return Self::Checkpoint(step);
        }
        if let Some(rest) = name.strip_prefix(DAMAGED) {
            let numbered = rest.split_once('.').filter(|(_, number)| is_number(number));
            let name = numbered.map_or(rest, |(name, _)| name);
            if let Some(step) = step(name) {
                return Self::Damaged(step);
            }
        }
        let Some(rest) = name.strip_prefix(UNFINISHED) else {
            return Self::Foreign;
        };
        // Versions before manifests also used the suffix `.old`.
        let old = rest.strip_suffix(OLD).or(rest.strip_suffix(".old"));
        match (step(rest), old.and_then(step)) {
            (Some(step), _) => Self::Unfinished(step),
            (None, Some(step)) => Self::Old(step),
            (None, None) => Self::Foreign,
        }
    }
}

/// Whether a file in `tensorboard/` is a run's event file: a time, and the step that it begins with.
/// TensorFlow's and PyTorch's names have a host in them.
pub(super) fn is_event_file(name: &str) -> bool {
    name.strip_prefix("events.out.tfevents.")
        .is_some_and(|rest| {
            let parts: Vec<&str> = rest.split('.').collect();
            parts.len() == 3 && parts.iter().all(|part| is_number(part))
        })
}

/// Whether a file in `cache/` holds features: the key, and a process's number while it is written.
pub(super) fn is_cache_file(name: &str) -> bool {
    let Some((key, rest)) = name.split_once('.') else {
        return false;
    };
    let is_key = key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_unfinished = || rest.strip_suffix(".new").is_some_and(is_number);
    is_key && (rest == "safetensors" || is_unfinished())
}

/// Whether a file in `findings/` is a report's.
pub(super) fn is_findings_file(name: &str) -> bool {
    let name = name.strip_suffix(".unfinished").unwrap_or(name);
    let is = |start: &str, end: &str| name.starts_with(start) && name.ends_with(end);
    name == "findings.json" || is("predictions-", ".jsonl") || is("confusion-", ".csv")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of a file in a run's folder until it is complete.
pub(super) fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

/// The files in a checkpoint's folder that the run wrote, the manifest's if it can be read.
pub(super) fn files_of_checkpoint(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = (READ_ON_RESUME.iter().chain(&OTHER_FILES))
        .map(|name| folder.join(name))
        .collect();
    let listed = Manifest::read(folder).ok().flatten();
    for name in listed.iter().flat_map(|manifest| manifest.files.keys()) {
        let mut parts = Path::new(name).components();
        if parts.all(|part| matches!(part, Component::Normal(_))) {
            files.push(folder.join(name));
        }
    }
    files
}

/// The names of files, for messages, without what a terminal would act on.
pub(super) fn names_of(paths: &[PathBuf]) -> Vec<String> {
    let names = paths.iter().filter_map(|path| path.file_name());
    names
        .map(|name| name.to_string_lossy().escape_debug().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runs_own_names_are_its_own() {
        use FolderKind::{Checkpoint, Damaged, Foreign, Old, Unfinished};
        for (name, kind) in [
            ("step-00000007", Checkpoint(7)),
            (".unfinished-step-00000007", Unfinished(7)),
            (".unfinished-step-00000007-old", Old(7)),
            (".unfinished-step-00000007.old", Old(7)),
            ("damaged-step-00000007", Damaged(7)),
            ("step-7", Foreign),
            (".unfinished-notes", Foreign),
            ("epoch_1.pt", Foreign),
        ] {
            assert_eq!(FolderKind::of(&Path::new("x").join(name)), kind, "{name}");
        }
        assert!(is_event_file("events.out.tfevents.1764182989.123456.0"));
        for other in ["events.out.tfevents.1764182989.host.1.0", "notes", "1.2.3"] {
            assert!(!is_event_file(other), "{other}");
        }
        assert!(is_findings_file("findings.json"));
        assert!(is_findings_file("predictions-a.b.jsonl.unfinished"));
        assert!(!is_findings_file("notes.json"));
        assert!(is_cache_file("0123456789abcdef.safetensors"));
        assert!(is_cache_file("0123456789abcdef.77.new"));
        for other in [
            "model.safetensors",
            "0123456789abcdef.txt",
            "0123456789abcdeg.safetensors",
        ] {
            assert!(!is_cache_file(other), "{other}");
        }
    }
}
