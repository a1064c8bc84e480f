//! Hashes of files.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::error::HubError;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A file's hashes, in hexadecimal digits.
pub(crate) struct Digests {
    pub(crate) sha256: String,
    /// The name that git gives the content: SHA-1 of `blob SIZE\0` and the content.
    pub(crate) git: String,
    pub(crate) size: u64,
}

/// Reads a file and computes its hashes. Git's is computed only of files below 64 MiB, since the hub has larger ones in LFS.
pub(crate) fn of_file(path: &Path) -> Result<Digests, HubError> {
    let fail = |source| HubError::io("read", path, source);
    let mut file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let mut sha256 = Context::new(&SHA256);
    let mut git = (size < 64 << 20).then(|| {
        let mut git = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        git.update(format!("blob {size}\0").as_bytes());
        git
    });
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).map_err(fail)?;
        if read == 0 {
            break;
        }
        sha256.update(&chunk[..read]);
        if let Some(git) = &mut git {
            git.update(&chunk[..read]);
        }
    }
    let git = git.map_or_else(String::new, |git| hex(git.finish().as_ref()));
    Ok(Digests {
        sha256: hex(sha256.finish().as_ref()),
        git,
        size,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::of_file;

    #[test]
    fn hashes_are_those_of_sha256sum_and_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        let digests = of_file(&path).unwrap();
        assert_eq!(
            digests.sha256,
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
        assert_eq!(digests.git, "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
