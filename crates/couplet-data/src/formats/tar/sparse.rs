//! Sparse members: files whose zeros are not stored.
//!
//! Source: GNU tar's manual, "Storing Sparse Files": the old GNU format, and the PAX formats 0.0, 0.1
//! and 1.0.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::headers::BLOCK;

/// The longest number of a sparse map.
const MAX_DIGITS: usize = 20;
/// More pieces are taken as damage.
const MAX_PIECES: usize = 1 << 16;
const BLOCK_LEN: usize = 512;

/// Which parts of a file are stored; zeros are in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sparse {
    /// The file's length in bytes, with its zeros.
    pub len: u64,
    /// The offset and the length of each part in the file, as they are stored one after the other.
    pub pieces: Vec<[u64; 2]>,
}

impl Sparse {
    /// The file's bytes.
    /// - stored: the parts, one after the other; most: the largest length of a file.
    pub fn expand(&self, mut stored: &[u8], most: u64) -> Result<Vec<u8>, String> {
        if self.len > most {
            let len = self.len;
            return Err(format!("{len} bytes, more than the limit of {most}"));
        }
        let damaged = || "the map of the sparse file is damaged".to_string();
        let index = |at: u64| usize::try_from(at).map_err(|_| damaged());
        let mut bytes = vec![0; index(self.len)?];
        for [offset, len] in &self.pieces {
            let (offset, len) = (index(*offset)?, index(*len)?);
            let end = offset.checked_add(len).ok_or_else(damaged)?;
            let part = bytes.get_mut(offset..end).ok_or_else(damaged)?;
            let (piece, rest) = stored.split_at_checked(len).ok_or_else(damaged)?;
            part.copy_from_slice(piece);
            stored = rest;
        }
        Ok(bytes)
    }
}

/// What PAX extensions say of a sparse file.
pub(super) struct PaxSparse {
    /// The file's name, where the member's own name is a stand-in.
    pub name: Option<String>,
    len: u64,
    /// `None` if the map comes before the data.
    pieces: Option<Vec<[u64; 2]>>,
}

impl PaxSparse {
    /// `None` if the member is not sparse, or not in a known format.
    pub fn of<R: Read>(member: &mut tar::Entry<'_, R>) -> Option<Self> {
        let (mut name, mut len, mut is_in_data) = (None, None, false);
        let mut numbers = Vec::new();
        for extension in member.pax_extensions().ok()??.flatten() {
            let Some(key) = extension.key_bytes().strip_prefix(b"GNU.sparse.") else {
                continue;
            };
            let value = String::from_utf8_lossy(extension.value_bytes());
            match key {
                b"name" => name = Some(value.into_owned()),
                b"size" | b"realsize" => len = value.parse().ok(),
                b"major" => is_in_data = value == "1",
                b"map" => numbers.extend(value.split(',').map_while(|one| one.parse::<u64>().ok())),
                b"offset" | b"numbytes" => numbers.extend(value.parse::<u64>().ok()),
                _ => {}
            }
        }
        let pieces = (numbers.chunks_exact(2)).map(|piece| [piece[0], piece[1]]);
        let pieces: Vec<_> = pieces.take(MAX_PIECES).collect();
        Some(Self {
            name,
            len: len?,
            pieces: (!is_in_data).then_some(pieces),
        })
    }

    /// Reads the map where it comes before the data.
    /// - data: the stored bytes.
    /// - returns the map, and its length in bytes.
    pub fn read_map(self, data: &mut impl Read) -> io::Result<(Sparse, u64)> {
        let len = self.len;
        if let Some(pieces) = self.pieces {
            return Ok((Sparse { len, pieces }, 0));
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a sparse map is damaged");
        let (mut text, mut read, mut whole) = (Vec::new(), 0, 0);
        let mut block = [0; BLOCK_LEN];
        // A count, then as many pairs of numbers, each on a line.
        loop {
            data.read_exact(&mut block)?;
            read += BLOCK;
            text.extend_from_slice(&block);
            whole += memchr::memchr_iter(b'\n', &block).count();
            let mut lines = text.split(|byte| *byte == b'\n');
            let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse::<u64>().ok();
            // The rest of the last block is zeros.
            if whole == 0 || text.len() > whole * (MAX_DIGITS + 1) + BLOCK_LEN {
                return Err(damaged());
            }
            let count = lines.next().and_then(number).ok_or_else(damaged)?;
            let count = usize::try_from(count).map_err(|_| damaged())?;
            if count > MAX_PIECES {
                return Err(damaged());
            }
            if whole > 2 * count {
                let numbers = lines.take(2 * count).map(number);
                let numbers: Vec<u64> = numbers.collect::<Option<_>>().ok_or_else(damaged)?;
                let pieces = numbers.chunks_exact(2).map(|piece| [piece[0], piece[1]]);
                let pieces = pieces.collect();
                return Ok((Sparse { len, pieces }, read));
            }
        }
    }
}

/// The map of a member in the old GNU format.
/// - after: the shard from the end of the member's header on.
/// - returns the map, and the length in bytes of the headers that continue it.
pub(super) fn gnu_map(header: &tar::GnuHeader, mut after: impl Read) -> io::Result<(Sparse, u64)> {
    let mut pieces = Vec::new();
    let mut add = |parts: &[tar::GnuSparseHeader]| -> io::Result<()> {
        for part in parts.iter().filter(|part| !part.is_empty()) {
            pieces.push([part.offset()?, part.length()?]);
        }
        Ok(())
    };
    add(&header.sparse)?;
    let (mut more, mut read) = (header.is_extended(), 0);
    while more {
        let mut next = tar::GnuExtSparseHeader::new();
        after.read_exact(next.as_mut_bytes())?;
        add(&next.sparse)?;
        more = next.is_extended();
        read += BLOCK;
        if read > BLOCK * MAX_PIECES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let len = header.real_size()?;
    Ok((Sparse { len, pieces }, read))
}
