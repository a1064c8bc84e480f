//! Which run a folder belongs to, and whether it is still the same folder.

use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;

use couplet_model::FileDigest;
use serde::{Deserialize, Serialize};

use super::names::RUN;

/// `run.json`: tells a run's folder from any other, and its checkpoints from those of other runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    /// The run's ID, random.
    run: String,
    /// XXH3 of the ID.
    xxh3: String,
}

/// A new run's ID.
pub(super) fn new_id() -> String {
    // The standard library's keys are random.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// The text of `run.json`.
pub(super) fn run_file(id: &str) -> String {
    let file = RunFile {
        run: id.to_string(),
        xxh3: FileDigest::of_bytes(id.as_bytes()).xxh3,
    };
    serde_json::to_string(&file).expect("two texts serialise") + "\n"
}

/// Reads the ID of the run in a folder; `None` if there is none, or if the file is damaged.
pub(super) fn read_id(run: &Path) -> Option<String> {
    let path = run.join(RUN);
    let is_small = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() < 1024);
    let bytes = is_small.then(|| fs::read(&path).ok())??;
    let file: RunFile = serde_json::from_slice(&bytes).ok()?;
    (FileDigest::of_bytes(file.run.as_bytes()).xxh3 == file.xxh3).then_some(file.run)
}

/// A file or folder, whatever its path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    number: u64,
}

impl Identity {
    /// What is at a path, links followed.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    /// An open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::of(&metadata))
    }

    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: metadata.dev(),
            number: metadata.ino(),
        }
    }

    /// Only Unix has numbers for files; elsewhere an open file cannot be renamed.
    #[cfg(not(unix))]
    pub fn of(_metadata: &Metadata) -> Self {
        Self {
            device: 0,
            number: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_run_file_gives_no_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RUN);
        let id = new_id();
        assert_eq!(read_id(folder.path()), None);
        let whole = run_file(&id).into_bytes();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(
                read_id(folder.path()).is_none_or(|read| read == id),
                "byte {at}"
            );
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(read_id(folder.path()), Some(id));
        assert_ne!(new_id(), new_id());
    }
}
