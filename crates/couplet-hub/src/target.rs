//! What a download is to become.

use std::path::{Path, PathBuf};

use crate::address::Address;

/// A file to download.
pub(crate) struct Target<'a> {
    /// Its name, for messages.
    pub(crate) name: &'a str,
    pub(crate) address: Address,
    /// What it must be.
    pub(crate) expected: Expected,
    /// Where it goes. The part that is there already is beside it, with `.incomplete` behind its name.
    pub(crate) destination: PathBuf,
    /// The file that processes lock while they download it.
    pub(crate) lock: PathBuf,
}

/// What is known of a file before it is downloaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) size: Option<u64>,
    /// SHA-256, or its first digits.
    pub(crate) sha256: Option<String>,
    /// Git's hash of the content.
    pub(crate) git: Option<String>,
}

impl Expected {
    /// What a hash of the hub's says: SHA-256 of large files, git's of small ones.
    pub(crate) fn of_etag(etag: &str, size: Option<u64>) -> Self {
        let is_hash = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = |length| (is_hash && etag.len() == length).then(|| etag.to_ascii_lowercase());
        Self {
            size,
            sha256: hash(64),
            git: hash(40),
        }
    }

    /// Whether a hash can tell if the content is right.
    pub(crate) fn is_checkable(&self) -> bool {
        self.sha256.is_some() || self.git.is_some()
    }
}

/// A file beside another, whose name it has with a suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
