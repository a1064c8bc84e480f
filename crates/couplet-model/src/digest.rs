//! Lengths and digests of files.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// The length and the digest of a file, or of its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Length in bytes.
    pub bytes: u64,
    /// XXH3, 64 bits with seed 0, as 16 hexadecimal digits.
    pub xxh3: String,
}

impl FileDigest {
    /// The digest of bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            xxh3: hex(XxHash3_64::oneshot(bytes)),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut running = RunningDigest::default();
        running.read(&mut File::open(path)?)?;
        Ok(running.digest())
    }

    /// Reads the first `bytes` bytes of a file, or all of a shorter one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_beginning(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut running = RunningDigest::default();
        running.read(&mut File::open(path)?.take(bytes))?;
        Ok(running.digest())
    }
}

fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}

/// The digest of what has been written so far.
#[derive(Clone)]
pub struct RunningDigest {
    hasher: XxHash3_64,
    bytes: u64,
}

impl Default for RunningDigest {
    fn default() -> Self {
        Self {
            hasher: XxHash3_64::with_seed(0),
            bytes: 0,
        }
    }
}

impl std::fmt::Debug for RunningDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RunningDigest")
            .field(&self.digest())
            .finish()
    }
}

impl RunningDigest {
    /// Adds bytes at the end.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Adds what a reader still holds.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&mut self, reader: &mut impl Read) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => self.update(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The digest so far.
    pub fn digest(&self) -> FileDigest {
        FileDigest {
            bytes: self.bytes,
            xxh3: hex(self.hasher.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the reference implementation, `xxhash.xxh3_64_hexdigest` of Python's xxhash.
    #[test]
    fn digests_are_those_of_the_reference_implementation() {
        assert_eq!(FileDigest::of_bytes(b"").xxh3, "2d06800538d394c2");
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let whole = FileDigest::of_bytes(&bytes);
        assert_eq!(
            (whole.bytes, &whole.xxh3[..]),
            (12_000_000, "1b2ce584f4f2c878")
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut running = RunningDigest::default();
        running.update(&bytes[..7]);
        running.update(&bytes[7..]);
        assert_eq!(running.digest(), whole);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(FileDigest::of_file(&path).unwrap(), whole);
        let beginning = FileDigest::of_beginning(&path, 1000).unwrap();
        assert_eq!(beginning, FileDigest::of_bytes(&bytes[..1000]));
    }
}
