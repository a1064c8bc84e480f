//! Hard links in a shard that is read from front to back: the file that one names came before it.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};

use super::headers::BLOCK;
use super::shard::Shard;
use super::sparse::PaxSparse;

/// Whether a member is a file with content.
pub(super) fn is_file(kind: tar::EntryType) -> bool {
    kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse()
}

/// The bytes that a member takes in its shard, without its headers.
pub(super) fn stored_len<R: Read>(member: &tar::Entry<'_, R>) -> io::Result<u64> {
    if member.header().entry_type().is_gnu_sparse() {
        member.header().entry_size()
    } else {
        Ok(member.size())
    }
}

/// Reads a member.
/// - most: the largest length of a sparse one.
///
/// # Errors
/// If the shard ends before the member does. A damaged map of a sparse member is an error of the
/// content.
pub(super) fn content<R: Read>(
    member: &mut tar::Entry<'_, R>,
    sparse: Option<PaxSparse>,
    most: u64,
) -> io::Result<Result<Vec<u8>, String>> {
    let size = member.size();
    let mut bytes = Vec::new();
    if member.read_to_end(&mut bytes)? as u64 != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Some(sparse) = sparse else {
        return Ok(Ok(bytes));
    };
    let mut stored = &bytes[..];
    Ok(match sparse.read_map(&mut stored) {
        Ok((map, _)) => map.expand(stored, most),
        Err(error) => Err(error.to_string()),
    })
}

/// Where the files of a shard begin, by name.
pub(super) struct Links<'a> {
    shard: &'a Shard,
    starts: HashMap<String, u64>,
    /// Files that begin before this byte are not known yet.
    from: u64,
    /// What was read last, by where it begins: files without duplicates have many links to one.
    recent: VecDeque<(u64, Vec<u8>)>,
}

/// The link targets that are kept, and their bytes.
const RECENT: usize = 64;
const RECENT_BYTES: usize = 16 << 20;

impl<'a> Links<'a> {
    /// - from: where reading begins.
    pub fn new(shard: &'a Shard, from: u64) -> Self {
        Self {
            shard,
            starts: HashMap::new(),
            from,
            recent: VecDeque::new(),
        }
    }

    /// Notes a file.
    /// - start: the end of the member before it.
    pub fn add(&mut self, name: &str, start: u64) {
        self.starts.insert(name.to_string(), start);
    }

    /// The content of the file that a link names; `None` if there is no such file before it.
    pub fn read(&mut self, link: &str, target: &str, most: u64) -> Option<Result<Vec<u8>, String>> {
        if !self.starts.contains_key(target) && self.from > 0 {
            let known = std::mem::take(&mut self.starts);
            // What cannot be read before the beginning is not found.
            let _ = self.read_starts();
            self.starts.extend(known);
            self.from = 0;
        }
        let start = *self.starts.get(target)?;
        self.add(link, start);
        let known = self.recent.iter().find(|(at, _)| *at == start);
        if let Some((_, bytes)) = known.filter(|(_, bytes)| bytes.len() as u64 <= most) {
            return Some(Ok(bytes.clone()));
        }
        let read = self
            .read_at(start, most)
            .unwrap_or_else(|error| Err(format!("`{target}`, which it links to: {error}")));
        if let Ok(bytes) = &read {
            self.recent.push_back((start, bytes.clone()));
            let kept = |recent: &VecDeque<(u64, Vec<u8>)>| -> usize {
                recent.iter().map(|(_, bytes)| bytes.len()).sum()
            };
            while self.recent.len() > RECENT || kept(&self.recent) > RECENT_BYTES {
                self.recent.pop_front();
            }
        }
        Some(read)
    }

    fn read_at(&self, start: u64, most: u64) -> io::Result<Result<Vec<u8>, String>> {
        let mut archive = tar::Archive::new(self.shard.open(start)?);
        let member = archive.entries()?.next();
        let mut member = member.ok_or(io::ErrorKind::UnexpectedEof)??;
        if member.size() > most {
            let size = member.size();
            return Ok(Err(format!("{size} bytes, more than the limit of {most}")));
        }
        let sparse = PaxSparse::of(&mut member);
        content(&mut member, sparse, most)
    }

    /// Notes the files before the beginning.
    fn read_starts(&mut self) -> io::Result<()> {
        let read = Cell::new(0);
        let mut archive = tar::Archive::new(Counted {
            bytes: self.shard.open(0)?.take(self.from),
            read: &read,
        });
        let mut end = 0;
        for member in archive.entries()? {
            let mut member = member?;
            let sparse = PaxSparse::of(&mut member);
            let name = sparse.and_then(|sparse| sparse.name);
            let path = || String::from_utf8_lossy(&member.path_bytes()).into_owned();
            let name = name.unwrap_or_else(path);
            let kind = member.header().entry_type();
            if is_file(kind) {
                self.add(&name, end);
            } else if let Some(target) = member.link_name_bytes().filter(|_| kind.is_hard_link()) {
                let start = self.starts.get(&*String::from_utf8_lossy(&target)).copied();
                self.starts.extend(start.map(|start| (name, start)));
            }
            let stored = stored_len(&member)?;
            let after = read.get().checked_add(stored);
            end = after
                .and_then(|end| end.checked_next_multiple_of(BLOCK))
                .ok_or(io::ErrorKind::InvalidData)?;
        }
        Ok(())
    }
}

/// Counts the bytes that are read.
struct Counted<'a, R> {
    bytes: R,
    read: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(bytes)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
