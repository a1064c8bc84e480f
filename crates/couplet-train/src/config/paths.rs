//! Where the paths in a config start.

use std::path::{Path, PathBuf};

use couplet_data::paths::{PathBase, PathKind};
use couplet_data::with_causes;
use couplet_eval::{dataset_advice, is_model_name, name_hint, named_model};
use serde::Deserialize;
use toml::Table;

use super::collect::is_within;
use super::issue::ConfigIssue;
use super::path_keys::visit;
use super::schema::source_names;
use crate::nearest::nearest;

/// A config's file, and what is given with it.
#[derive(Debug, Clone, Copy)]
pub struct ConfigInput<'a> {
    /// The TOML file.
    pub path: &'a Path,
    /// `key=value` pairs that replace keys of the file.
    pub set: &'a [String],
    /// Where paths in these pairs start; by default in the working directory, as on the command line.
    pub set_base: Option<&'a PathBase>,
    /// Replaces the folders of files as the start of paths to data.
    pub data_root: Option<&'a Path>,
}

impl<'a> ConfigInput<'a> {
    /// A file with pairs of the command line.
    pub fn new(path: &'a Path, set: &'a [String]) -> Self {
        Self {
            path,
            set,
            set_base: None,
            data_root: None,
        }
    }
}

/// Replaces every path by the one that is found, and the name of weights by that of the downloaded ones.
/// - continues: from a checkpoint, which needs no other weights.
/// - returns what is not there.
pub(super) fn find(table: &mut Table, input: &ConfigInput, continues: bool) -> Vec<ConfigIssue> {
    let file = match recorded(input.path) {
        Some(run) => PathBase::recorded(input.path, &run.working_dir, input.data_root),
        None => PathBase::of_file(input.path, input.data_root),
    };
    let here = PathBase::working_dir(input.data_root);
    let set = input.set_base.unwrap_or(&here);
    let set_keys = input.set.iter().filter_map(|pair| pair.split_once('='));
    let set_keys: Vec<&str> = set_keys.map(|(key, _)| key.trim()).collect();
    let mut issues = Vec::new();
    visit(table, &mut |key, kind, path| {
        let dotted = key.replace('[', ".").replace(']', "");
        let is_set = |set: &&str| {
            let rest = dotted.strip_prefix(set);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let base = if set_keys.iter().any(is_set) {
            set
        } else {
            &file
        };
        match base.find(key, path, kind) {
            Ok(found) => *path = found,
            Err(missing) => {
                let is_weights = key == "model.weights";
                if is_weights && continues && is_model_name(path) {
                    return;
                }
                let message = match kind {
                    PathKind::Dataset { .. } => {
                        format!("`{path}`: {}", dataset_advice(&missing))
                    }
                    _ if is_weights => match named_model(path) {
                        Ok(Some(found)) => {
                            *path = found.display().to_string();
                            return;
                        }
                        Ok(None) => match name_hint(path) {
                            Some(hint) => format!("{missing}; or, as a name: {hint}"),
                            None => missing.to_string(),
                        },
                        Err(error) => with_causes(&error),
                    },
                    _ => missing.to_string(),
                };
                *path = base.first_place(path, kind).display().to_string();
                issues.push(ConfigIssue::new(key, message));
            }
        }
    });
    // Nothing is known of the keys of an unknown source.
    for split in ["train", "val"] {
        if !may_be_source(table, split) {
            let below = format!("data.{split}");
            issues.retain(|issue| !is_within(&issue.key, &below));
        }
    }
    issues
}

/// Whether a split's source is a known one, or a misspelt one.
fn may_be_source(table: &Table, split: &str) -> bool {
    let source = table.get("data").and_then(|data| data.get(split));
    let source = source.and_then(|table| table.get("source")?.as_str());
    nearest(source.unwrap_or_default(), source_names()).is_some()
}

/// Leaves out what cannot be said of keys that are wrong otherwise, such as those of an unknown source.
pub(super) fn leave_doubtful(missing: &mut Vec<ConfigIssue>, doubtful: &[String]) {
    missing.retain(|issue| !doubtful.iter().any(|key| is_within(&issue.key, key)));
}

/// The file in a run's folder that says where the run began, and the config next to it.
const INPUTS: &str = "inputs.json";
const CONFIG: &str = "config.toml";
/// The file that only a run's folder has.
const RUN: &str = "run.json";

/// What a run has recorded of the paths in the config that it saved.
#[derive(Deserialize)]
pub(super) struct Recorded {
    /// Where relative ones start.
    working_dir: PathBuf,
    /// The `--data-root` that it had.
    #[serde(default)]
    pub data_root: Option<PathBuf>,
}

/// - returns `None` for a config that is not in the folder of a run.
pub(super) fn recorded(config: &Path) -> Option<Recorded> {
    if config.file_name()? != CONFIG {
        return None;
    }
    let [inputs, run] = [INPUTS, RUN].map(|name| config.with_file_name(name));
    if !inputs.is_file() && !run.is_file() {
        return None;
    }
    let here = || std::env::current_dir().unwrap_or_default();
    let inputs = std::fs::read(inputs).ok();
    let inputs = inputs.and_then(|bytes| serde_json::from_slice::<Recorded>(&bytes).ok());
    Some(inputs.unwrap_or_else(|| Recorded {
        working_dir: here(),
        data_root: None,
    }))
}
