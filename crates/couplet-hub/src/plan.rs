//! What would be downloaded, and what was.

use std::path::PathBuf;

use crate::listing::ListedFile;
use crate::names::ModelName;
use crate::pretrained::{Activation, Licence, Preprocess};

/// What a download would bring, before any of it happens.
#[derive(Debug)]
pub struct Plan {
    /// The name that was asked for.
    pub name: ModelName,
    /// Where it would come from: a link without its query, or the page of a repository.
    pub source: String,
    /// The commit of a repository.
    pub commit: Option<String>,
    /// The licence; `None` if the repository's card states none.
    pub licence: Option<Licence>,
    /// The files, weights last.
    pub files: Vec<PlannedFile>,
    /// What the user should know, such as that the hub could not be reached and the cache is used.
    pub notes: Vec<String>,
    pub(crate) step: Step,
}

/// A file of a plan.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    /// Its name, relative to the repository.
    pub name: String,
    /// Its size, if the server announced it.
    pub bytes: Option<u64>,
    /// Whether it is in a cache.
    pub cached: bool,
}

/// What is left to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Everything is there.
    Cached(PathBuf),
    /// One file of a link.
    Link,
    /// Files of a repository at the plan's commit.
    Repository {
        id: String,
        revision: String,
        files: Vec<ListedFile>,
    },
}

impl Plan {
    /// Bytes that are left to download; `None` if a server did not announce a size.
    pub fn bytes_to_download(&self) -> Option<u64> {
        self.files
            .iter()
            .filter(|file| !file.cached)
            .map(|file| file.bytes)
            .sum()
    }

    /// Whether nothing is left to download.
    pub fn is_cached(&self) -> bool {
        matches!(self.step, Step::Cached(_)) || self.files.iter().all(|file| file.cached)
    }

    /// Whether the licence forbids commercial use, as far as is known. To be told before the download.
    pub fn forbids_commercial_use(&self) -> bool {
        self.licence
            .as_ref()
            .is_some_and(|licence| licence.commercial == Some(false))
    }
}

/// Weights on the disk, checked.
#[derive(Debug)]
pub struct Fetched {
    /// A repository's snapshot (a folder with a config, weights and files of a tokenizer), or one file of weights.
    pub path: PathBuf,
    /// The architecture, as open_clip names it, for weights of the table. Needed for a file, which has no config; for a folder,
    /// it goes before the folder's config (`ViT-SO400M-14-SigLIP-378` uses another size than its repository says).
    pub architecture: Option<&'static str>,
    /// The activation that the weights were trained with, for weights of the table.
    pub activation: Option<Activation>,
    /// The preprocessing of open_clip's table, for weights of the table.
    pub preprocess: Option<Preprocess>,
    /// The licence, if it is known.
    pub licence: Option<Licence>,
    /// The commit of a repository.
    pub commit: Option<String>,
    /// Where it came from: a link without its query, or the page of a repository.
    pub source: String,
    /// What the user should know.
    pub notes: Vec<String>,
}
