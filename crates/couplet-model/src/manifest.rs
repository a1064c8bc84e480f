//! `trainer/manifest.json`: the length and digest of every file of a checkpoint.
//!
//! It is written last and read first. A file that was damaged, cut or replaced by that of another
//! checkpoint differs from what it says.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::FileDigest;

/// The manifest's name in a checkpoint's folder.
pub const MANIFEST_FILE: &str = "trainer/manifest.json";
/// The version of the manifest's contents.
const FORMAT: u32 = 1;
/// A manifest is a few kilobytes; a longer file is none.
const MAX_BYTES: u64 = 4 << 20;
/// Files of tensors, which are checked when they are read.
const TENSORS: &str = ".safetensors";
/// The folder that only training reads.
const TRAINER: &str = "trainer";
/// Separates a folder from the file in it.
const SLASH: char = '/';

/// The files of a checkpoint, as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// The ID of the run that wrote the checkpoint.
    pub run: String,
    /// The checkpoint's step.
    pub step: u64,
    /// By path in the checkpoint's folder, with `/`.
    pub files: BTreeMap<String, FileDigest>,
    /// The run's logs at this step, by file name: their lengths then, and digests of that part.
    pub logs: BTreeMap<String, FileDigest>,
    /// XXH3 of all the above.
    digest: String,
}

/// How a file differs from what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing,
    Length {
        is: u64,
        was: u64,
    },
    Content,
    /// A file that the checkpoint did not have.
    Added,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "is missing"),
            Self::Length { is, was } => write!(f, "has {is} bytes, but was written with {was}"),
            Self::Content => write!(f, "is damaged: its content is not what was written"),
            Self::Added => write!(f, "was added: the checkpoint was written without it"),
        }
    }
}

/// Why a checkpoint's files cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: damaged ({message}), so the checkpoint's files cannot be checked; open another \
         checkpoint, or delete this file to open this one unchecked",
        path.display()
    )]
    Damaged { path: PathBuf, message: String },
    #[error(
        "{}: has format {format}, and this version of Couplet reads format {FORMAT}; use a newer \
         version",
        path.display()
    )]
    Newer { path: PathBuf, format: u64 },
    #[error(
        "{}: {difference} ({MANIFEST_FILE}); open another checkpoint, or delete the manifest if you \
         changed the file on purpose",
        path.display()
    )]
    Differs {
        path: PathBuf,
        difference: Difference,
    },
}

impl Manifest {
    /// - known: digests of files that were computed while they were written. The others are read,
    ///   and synced to disk.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn of_folder(
        folder: &Path,
        (run, step): (&str, u64),
        known: BTreeMap<String, FileDigest>,
        logs: BTreeMap<String, FileDigest>,
    ) -> Result<Self, ManifestError> {
        let mut files = known;
        for name in files_in(folder)? {
            if name == MANIFEST_FILE || files.contains_key(&name) {
                continue;
            }
            let path = folder.join(&name);
            let digest = FileDigest::of_file(&path)
                .and_then(|digest| File::open(&path)?.sync_all().map(|()| digest));
            files.insert(name, digest.map_err(io_at(&path))?);
        }
        let manifest = Self {
            format: FORMAT,
            run: run.to_string(),
            step,
            files,
            logs,
            digest: String::new(),
        };
        Ok(Self {
            digest: manifest.own_digest(),
            ..manifest
        })
    }

    /// Writes the manifest of a checkpoint's folder and syncs it to disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ManifestError> {
        let path = folder.join(MANIFEST_FILE);
        let text = serde_json::to_string_pretty(self).expect("a manifest serialises");
        fs::write(&path, text + "\n")
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(io_at(&path))
    }

    /// The manifest of a checkpoint's folder; `None` for other folders and for checkpoints of
    /// versions before 0.2.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, ManifestError> {
        let path = folder.join(MANIFEST_FILE);
        let mut bytes = Vec::new();
        // Opening a pipe would wait for its writer.
        let is_file = fs::metadata(&path).map(|metadata| metadata.is_file());
        if let Ok(false) = is_file {
            let message = "it is no regular file".to_string();
            return Err(ManifestError::Damaged { path, message });
        }
        let read = File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(ManifestError::Io { path, source }),
        }
        let damaged = |message: String| ManifestError::Damaged {
            path: path.clone(),
            message,
        };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format > u64::from(FORMAT) => {
                return Err(ManifestError::Newer { path, format });
            }
            _ => {}
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT || manifest.digest != manifest.own_digest() {
            return Err(damaged("it does not have its own digest".to_string()));
        }
        Ok(Some(manifest))
    }

    fn own_digest(&self) -> String {
        let without = Self {
            digest: String::new(),
            ..self.clone()
        };
        let bytes = serde_json::to_vec(&without).expect("a manifest serialises");
        FileDigest::of_bytes(&bytes).xxh3
    }

    /// Reads all files and compares them.
    /// - may_have: names of files that change what a checkpoint means. Whichever was added counts
    ///   as a difference; other files do not.
    ///
    /// # Errors
    /// Not for files that differ: those are returned.
    pub fn differences(&self, folder: &Path, may_have: &[&str]) -> Vec<ManifestError> {
        let listed = self.files.keys();
        let mut found: Vec<_> = listed
            .filter_map(|name| self.check_file(folder, name).err())
            .collect();
        let added = may_have
            .iter()
            .filter(|name| !self.files.contains_key(**name));
        found.extend(
            added
                .map(|name| folder.join(name))
                .filter(|path| path.exists())
                .map(|path| ManifestError::Differs {
                    path,
                    difference: Difference::Added,
                }),
        );
        found
    }

    /// Reads a listed file and compares it.
    fn check_file(&self, folder: &Path, name: &str) -> Result<(), ManifestError> {
        let path = folder.join(name);
        let differs = |difference| ManifestError::Differs {
            path: path.clone(),
            difference,
        };
        let was = &self.files[name];
        match fs::metadata(&path) {
            Err(error) if is_absent(&error) => return Err(differs(Difference::Missing)),
            Err(source) => return Err(io_at(&path)(source)),
            Ok(metadata) if !metadata.is_file() => return Err(differs(Difference::Missing)),
            // Reading is not needed, and could take for ever.
            Ok(metadata) if metadata.len() != was.bytes => {
                let (is, was) = (metadata.len(), was.bytes);
                return Err(differs(Difference::Length { is, was }));
            }
            Ok(_) => {}
        }
        let is = FileDigest::of_file(&path).map_err(io_at(&path))?;
        compare(&path, &is, was)
    }

    /// Checks the files that describe the model in `folder`, if it is a checkpoint's; the tensors
    /// are checked when they are read.
    pub(crate) fn check_description(folder: &Path) -> Result<(), ManifestError> {
        let Some(manifest) = Self::read(folder)? else {
            return Ok(());
        };
        let names = manifest.files.keys();
        names
            .filter(|name| !name.contains(SLASH) && !name.ends_with(TENSORS))
            .try_for_each(|name| manifest.check_file(folder, name))
    }

    /// Reads a file and checks it, if it belongs to a checkpoint.
    ///
    /// # Errors
    /// If it differs from the one that was written.
    pub(crate) fn check_path(path: &Path) -> Result<(), ManifestError> {
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let file = file.to_string_lossy();
        // Or to a folder in one, such as an adapter's. What training reads is checked as a whole before.
        let above = folder.parent().zip(folder.file_name());
        let above = above.filter(|(_, name)| *name != TRAINER);
        let above = above.map(|(above, name)| {
            let name = format!("{}{SLASH}{file}", name.to_string_lossy());
            (above, name)
        });
        for (folder, name) in std::iter::once((folder, file.to_string())).chain(above) {
            match Self::read(folder)? {
                // What somebody put next to a checkpoint's files is theirs.
                Some(manifest) if manifest.files.contains_key(&name) => {
                    return manifest.check_file(folder, &name);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the bytes that were read from a file, if it belongs to a checkpoint.
    ///
    /// # Errors
    /// If they differ from those that were written.
    pub fn check_bytes(path: &Path, bytes: &[u8]) -> Result<(), ManifestError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let Some(manifest) = Self::read(folder)? else {
            return Ok(());
        };
        // What somebody put next to a checkpoint's files is theirs.
        match manifest.files.get(name.to_string_lossy().as_ref()) {
            Some(was) => compare(path, &FileDigest::of_bytes(bytes), was),
            None => Ok(()),
        }
    }
}

fn compare(path: &Path, is: &FileDigest, was: &FileDigest) -> Result<(), ManifestError> {
    if is == was {
        return Ok(());
    }
    let difference = if is.bytes == was.bytes {
        Difference::Content
    } else {
        let (is, was) = (is.bytes, was.bytes);
        Difference::Length { is, was }
    };
    Err(ManifestError::Differs {
        path: path.to_path_buf(),
        difference,
    })
}

/// The files of a checkpoint's folder and of the folders in it, with `/`.
fn files_in(folder: &Path) -> Result<Vec<String>, ManifestError> {
    let mut names = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        for entry in fs::read_dir(&path).map_err(io_at(&path))? {
            let entry = entry.map_err(io_at(&path))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(io_at(&path))?.is_dir() {
                folders.push((entry.path(), format!("{name}{SLASH}")));
            } else {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Whether there is no such file: the path before it may be a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> ManifestError + use<> {
    let path = path.to_path_buf();
    move |source| ManifestError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("trainer")).unwrap();
        for (name, text) in [
            ("a.json", "{}"),
            ("w.safetensors", "weights"),
            ("trainer/s", "1"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let manifest =
            Manifest::of_folder(folder.path(), ("r", 3), BTreeMap::new(), BTreeMap::new());
        manifest.unwrap().write(folder.path()).unwrap();
        folder
    }

    fn differences(folder: &Path) -> Vec<String> {
        let manifest = Manifest::read(folder).unwrap().unwrap();
        let found = manifest.differences(folder, &["head"]);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_damage_is_reported_with_its_file() {
        let folder = checkpoint();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(differences(folder.path()), [""; 0]);
        fs::write(path("notes.txt"), "mine").unwrap();
        assert_eq!(differences(folder.path()), [""; 0]);

        fs::write(path("w.safetensors"), "weightz").unwrap();
        fs::write(path("trainer/s"), "").unwrap();
        fs::remove_file(path("a.json")).unwrap();
        fs::write(path("head"), "").unwrap();
        let found = differences(folder.path());
        let expected = [
            ("a.json", "is missing"),
            ("trainer/s", "has 0 bytes, but was written with 1"),
            ("w.safetensors", "its content is not what was written"),
            ("head", "was added"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, (file, what)) in found.iter().zip(expected) {
            assert!(found.contains(file) && found.contains(what), "{found}");
        }
        let bytes = fs::read(path("w.safetensors")).unwrap();
        assert!(Manifest::check_bytes(&path("w.safetensors"), &bytes).is_err());
        assert!(Manifest::check_bytes(&path("notes.txt"), b"any").is_ok());
        assert!(Manifest::check_description(folder.path()).is_err());
    }

    #[test]
    fn any_changed_byte_of_a_manifest_is_noticed_or_changes_nothing() {
        let folder = checkpoint();
        let path = folder.path().join(MANIFEST_FILE);
        let whole = fs::read(&path).unwrap();
        let manifest = Manifest::read(folder.path()).unwrap();
        for at in 0..whole.len() {
            for bit in [1, 8, 32] {
                let mut bytes = whole.clone();
                bytes[at] ^= bit;
                fs::write(&path, bytes).unwrap();
                if let Ok(read) = Manifest::read(folder.path()) {
                    assert_eq!(read, manifest, "byte {at}");
                }
            }
        }
        for len in 0..whole.len() - 1 {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(Manifest::read(folder.path()).is_err(), "{len} bytes");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_manifest_of_a_later_version_asks_for_that() {
        let folder = checkpoint();
        let path = folder.path().join(MANIFEST_FILE);
        fs::write(&path, r#"{"format": 2, "more": []}"#).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
    }
}
