//! What a run reads, stored in its folder so that a resumed run notices what changed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use couplet_data::{DataListing, Fingerprint};
use serde::{Deserialize, Serialize};

use super::names::INPUTS;
use crate::config::{EvalTarget, ResolvedRun};

/// What a run reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// Where the relative paths of `config.toml` start.
    pub working_dir: PathBuf,
    /// The `--data-root` of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_root: Option<PathBuf>,
    /// A digest of `model.tokenizer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// The training data.
    pub train: DataListing,
    /// A digest of the data of each evaluation, by its name.
    #[serde(default)]
    pub evals: BTreeMap<String, String>,
}

impl Inputs {
    pub fn of(run: &ResolvedRun) -> Self {
        let eval = |eval: &crate::config::ResolvedEval| {
            let listing = match &eval.target {
                EvalTarget::ZeroShot(dataset)
                | EvalTarget::Retrieval(dataset)
                | EvalTarget::Classification(dataset) => dataset.images.listing(),
                EvalTarget::HeldOut(data) => data.set.listing(),
            };
            (eval.name().to_string(), listing.digest())
        };
        Self {
            working_dir: std::env::current_dir().unwrap_or_default(),
            data_root: run.data_root.clone(),
            tokenizer: run.config.model.tokenizer.as_deref().and_then(digest_of),
            train: run.data.set.listing(),
            evals: run.evals.iter().map(eval).collect(),
        }
    }

    /// Those of a run's folder; `None` if it has none, as one of an earlier version.
    pub fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(INPUTS);
        let bytes = fs::read(path.is_file().then_some(path)?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("the inputs of a run serialise") + "\n"
    }
}

fn digest_of(file: &Path) -> Option<String> {
    let mut digest = Fingerprint::new("couplet tokenizer 1");
    digest.write(&fs::read(file).ok()?);
    Some(format!("{:016x}", digest.finish()))
}
