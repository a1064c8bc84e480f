//! Finds the next tar header after damage.

use std::io::{self, Read};

/// The block size of tar files, in bytes.
pub(super) const BLOCK: u64 = 512;
const BLOCK_LEN: usize = 512;

/// Finds the next block with the checksum of a tar header.
/// - start: the position of `bytes` in the shard.
/// - returns the header's position, if there is one, and where reading ended.
pub(super) fn next_header(mut bytes: impl Read, start: u64) -> io::Result<(Option<u64>, u64)> {
    let mut block = Vec::with_capacity(BLOCK_LEN);
    let mut at = start;
    loop {
        block.clear();
        let len = bytes.by_ref().take(BLOCK).read_to_end(&mut block)?;
        let Ok(whole) = <&[u8; BLOCK_LEN]>::try_from(&block[..]) else {
            return Ok((None, at + len as u64));
        };
        let header = tar::Header::from_byte_slice(whole);
        let is_empty = block.iter().all(|byte| *byte == 0);
        if !is_empty && header.cksum().is_ok_and(|sum| sum == checksum(whole)) {
            return Ok((Some(at), at));
        }
        at += BLOCK;
    }
}

/// The sum of a header's bytes, with its checksum field taken as spaces. Source: POSIX ustar.
fn checksum(block: &[u8; BLOCK_LEN]) -> u32 {
    const FIELD: std::ops::Range<usize> = 148..156;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[FIELD].iter().map(|byte| u32::from(*byte)).sum();
    sum - own + 8 * u32::from(b' ')
}
