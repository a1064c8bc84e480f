//! huggingface_hub's cache: `models--ORG--NAME/{refs,blobs,snapshots}` and `.locks`.
//!
//! Source: huggingface_hub's `file_download.py` (`_hf_hub_download_to_cache_dir`). A blob is named by the hub's hash of it, and
//! a snapshot's files are relative links to blobs. A blob may itself be a link into the cache's shared store.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::HubError;

/// Marks the folder for backup programs (<https://bford.info/cachedir/>), as huggingface_hub does.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder can be deleted: it is downloaded again.\n";

/// References that this process began to write: its threads may write the same one.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Deepest folder of a snapshot that is listed.
const DEPTH: usize = 8;

/// The cache's folder of one repository.
pub(crate) struct CachedRepository {
    cache: PathBuf,
    name: String,
}

impl CachedRepository {
    pub(crate) fn new(cache: &Path, id: &str) -> Self {
        Self {
            cache: cache.to_owned(),
            name: format!("models--{}", id.replace('/', "--")),
        }
    }

    /// The repository's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    pub(crate) fn lock(&self, etag: &str) -> PathBuf {
        self.cache
            .join(".locks")
            .join(&self.name)
            .join(format!("{etag}.lock"))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The commit of a branch, tag or commit, as far as the cache knows.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return self
                .snapshot(revision)
                .is_dir()
                .then(|| revision.to_owned());
        }
        let text = fs::read_to_string(self.folder().join("refs").join(revision)).ok()?;
        let commit = text.trim();
        (is_file_name(commit) && self.snapshot(commit).is_dir()).then(|| commit.to_owned())
    }

    /// The files of a snapshot that can be read, as relative paths with `/`. A link to a blob that is gone is no file.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        let mut files = Vec::new();
        list(&self.snapshot(commit), "", DEPTH, &mut files);
        files.sort();
        files
    }

    /// Notes which commit a branch or tag is at.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.folder().join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|text| text == commit) {
            return Ok(());
        }
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let folder = path.parent().expect("a reference is in a folder");
        fs::create_dir_all(folder).map_err(|source| HubError::io("create", folder, source))?;
        let temporary = folder.join(format!(
            ".{}.{}-{number}.tmp",
            path.file_name().unwrap_or_default().display(),
            std::process::id()
        ));
        let written = fs::write(&temporary, commit).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| HubError::io("write", &path, source))
    }

    /// Notes the files that a snapshot has once its download is complete, which its folder alone does not tell.
    pub(crate) fn write_whole(&self, commit: &str, files: &[&str]) {
        let folder = self.folder().join(".couplet");
        // Without the note, the next run asks the hub again, so a failure here is none.
        let _ = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(commit), files.join("\n")));
    }

    /// Whether a snapshot has all files that it was noted to have; `None` if nothing is noted.
    pub(crate) fn is_whole(&self, commit: &str, files: &[String]) -> Option<bool> {
        let noted = fs::read_to_string(self.folder().join(".couplet").join(commit)).ok()?;
        Some(
            noted
                .lines()
                .all(|noted| files.iter().any(|file| file == noted)),
        )
    }

    /// Marks the cache's folder as one that need not be saved. That it cannot be marked is no reason to fail.
    pub(crate) fn mark(&self) {
        let tag = self.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(tag, TAG);
        }
    }

    /// Makes a snapshot's file a relative link to its blob; a copy where links are not possible.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let (path, blob) = (self.snapshot(commit).join(file), self.blob(etag));
        if path.is_file() {
            return Ok(());
        }
        let folder = path.parent().expect("a snapshot's file is in a folder");
        fs::create_dir_all(folder).map_err(|source| HubError::io("create", folder, source))?;
        let ups = 2 + file.split('/').count() - 1;
        let target: PathBuf = std::iter::repeat_n("..", ups)
            .collect::<PathBuf>()
            .join("blobs")
            .join(etag);
        // A link whose blob was deleted is in the way.
        let _ = fs::remove_file(&path);
        match symlink(&target, &path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_file() => Ok(()),
            Err(_) => fs::copy(&blob, &path)
                .map(drop)
                .map_err(|source| HubError::io("write", &path, source)),
        }
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Some(name) = entry
            .file_name()
            .to_str()
            .map(|name| format!("{prefix}{name}"))
        else {
            continue;
        };
        let Ok(kind) = fs::metadata(entry.path()) else {
            continue;
        };
        if kind.is_file() {
            files.push(name);
        } else if kind.is_dir() && depth > 1 {
            list(&entry.path(), &format!("{name}/"), depth - 1, files);
        }
    }
}

/// Whether a revision is a whole commit, which never changes.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text of a server can be a file's name as it is: a commit or a hash.
pub(crate) fn is_file_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a path of a listing stays in the folder that it is relative to, on every system.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path
            .chars()
            .any(|character| character.is_control() || "\\:*?\"<>|".contains(character))
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && Path::new(path)
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::{CachedRepository, is_inside};

    #[test]
    fn paths_that_leave_the_folder_are_recognized() {
        for path in ["a.json", "a/b.json", "..a", "ü"] {
            assert!(is_inside(path), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a//b",
            "./a",
            "a\\..\\b",
            "C:a",
            "a\0b",
            "a/",
            "a\nb",
        ] {
            assert!(!is_inside(path), "{path:?}");
        }
    }

    #[test]
    fn the_layout_is_that_of_huggingface_hub() {
        let folder = tempfile::tempdir().unwrap();
        let repository = CachedRepository::new(folder.path(), "org/name");
        assert!(
            repository
                .lock("e")
                .ends_with(".locks/models--org--name/e.lock")
        );
        std::fs::create_dir_all(repository.blob("e").parent().unwrap()).unwrap();
        std::fs::write(repository.blob("e"), "content").unwrap();
        repository.link("c0", "sub/file.json", "e").unwrap();
        let path = repository.snapshot("c0").join("sub/file.json");
        #[cfg(unix)]
        assert_eq!(
            std::fs::read_link(&path).unwrap(),
            std::path::Path::new("../../../blobs/e")
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "content");
        assert_eq!(repository.files("c0"), ["sub/file.json"]);
        repository.write_ref("refs/pr/1", "c0").unwrap();
        assert_eq!(repository.commit_of("refs/pr/1").as_deref(), Some("c0"));
        std::fs::write(repository.folder().join("refs/evil"), "../../..").unwrap();
        assert_eq!(repository.commit_of("evil"), None);
        std::fs::remove_file(repository.blob("e")).unwrap();
        assert!(repository.files("c0").is_empty());
    }
}
