//! Files in memory, of which the system reads what is used.
#![expect(
    unsafe_code,
    reason = "who maps a file must know that nobody shortens it"
)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::IndexError;

/// A file of an index. Whoever writes an index only appends to its files, or makes new ones.
#[derive(Debug)]
pub(crate) struct Mapped(Option<Mmap>);

impl Mapped {
    /// - least: bytes that it must have.
    pub fn open(path: &Path, least: u64) -> Result<Self, IndexError> {
        let file = File::open(path).map_err(IndexError::io(path))?;
        let bytes = file.metadata().map_err(IndexError::io(path))?.len();
        if bytes < least {
            let message = format!("it has {bytes} bytes of {least}");
            return Err(IndexError::damaged(path, message));
        }
        if bytes == 0 {
            // The system maps no empty file.
            return Ok(Self(None));
        }
        // SAFETY: the file is only appended to or replaced as a whole while it is mapped, as `writer` does. A program that shortens
        // it nevertheless ends this one, as with any mapped file; it cannot make it read what is not there.
        let map = unsafe { Mmap::map(&file) }.map_err(IndexError::io(path))?;
        Ok(Self(Some(map)))
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
