//! An index of a tar shard's members, read from its headers or from a file next to the shard.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::headers::{BLOCK, next_header};
use super::links::is_file;
use super::sparse::{PaxSparse, Sparse, gnu_map};
use crate::formats::damage::{Damage, Lost};
use crate::formats::files::open_regular;
use crate::formats::packing::Packing;

/// The key of the skipped entry when nothing of a shard can be read.
pub(crate) const WHOLE_SHARD: &str = "(all)";
/// The message for a valid but empty shard.
pub(crate) const NO_FILES: &str = "the shard holds no files";
pub(super) const CUT: &str = "the file ends inside this member";

pub(super) fn header_damage(lost: u64) -> String {
    format!("lost {lost} bytes: a tar header is damaged")
}

/// The position of a member's bytes in its shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    pub offset: u64,
    pub len: u64,
    /// Set if some of the member's zeros are not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Box<Sparse>>,
}

/// The files of a shard, in order. A hard link is at the position of the file that it names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ShardIndex {
    pub members: Vec<(String, Span)>,
    pub damage: Vec<Damage>,
}

/// How reading headers ended.
enum Ending {
    Whole,
    /// The file ends inside this member.
    Cut(String),
    /// A block that should be a header is not one.
    Broken,
}

impl ShardIndex {
    /// Reads the headers. After damage it continues at the next valid header.
    ///
    /// # Errors
    /// If the shard cannot be read; of kind `Unsupported` if it is compressed.
    pub(super) fn scan(path: &Path) -> io::Result<Self> {
        let file = &open_regular(path)?;
        let shard_len = file.metadata()?.len();
        let mut first = Vec::new();
        (&mut &*file).take(Packing::MARK).read_to_end(&mut first)?;
        if let Some(packing) = Packing::of(&first) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the shard is compressed with {packing}, so its members cannot be read at random; \
                     decompress it (`{}`), or set stream = true to train on it as it is",
                    packing.tool()
                ),
            ));
        }
        let mut index = Self::default();
        let mut start = 0;
        loop {
            let (end, ending) = index.scan_from((path, file), shard_len, start)?;
            match ending {
                Ending::Whole => {
                    // Blocks of zeros end a tar file; a header after them means that they are damage.
                    let mut rest = BufReader::new(file);
                    rest.seek(SeekFrom::Start(end))?;
                    let (Some(next), _) = next_header(rest, end)? else {
                        break;
                    };
                    let message = format!(
                        "{} bytes of zeros before the next sample; the shard is damaged there",
                        next - end
                    );
                    index.fail(
                        format!("byte {end}"),
                        message,
                        Lost::part(next - end, shard_len),
                    );
                    start = next;
                }
                Ending::Cut(member) => {
                    index.fail(member, CUT.into(), Lost::Rest);
                    break;
                }
                Ending::Broken => {
                    let mut rest = BufReader::with_capacity(1 << 20, file);
                    rest.seek(SeekFrom::Start(end + BLOCK))?;
                    let (next, shard_end) = next_header(rest, end + BLOCK)?;
                    let lost = next.unwrap_or(shard_end).saturating_sub(end);
                    let part = next.map_or(Lost::Rest, |_| Lost::part(lost, shard_len));
                    index.fail(format!("byte {end}"), header_damage(lost), part);
                    match next {
                        Some(next) => start = next,
                        None => break,
                    }
                }
            }
        }
        if index.members.is_empty() && index.damage.is_empty() {
            index.fail(WHOLE_SHARD.into(), NO_FILES.into(), Lost::Rest);
        }
        Ok(index)
    }

    fn fail(&mut self, place: String, message: String, lost: Lost) {
        self.damage.push(Damage {
            place,
            message,
            lost,
        });
    }

    /// - returns where reading ended, and why.
    fn scan_from(
        &mut self,
        (path, file): (&Path, &File),
        shard_len: u64,
        start: u64,
    ) -> io::Result<(u64, Ending)> {
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(start))?;
        let mut archive = tar::Archive::new(Tail { reader, start });
        let mut end = start;
        // The positions of files by name, as soon as there is a hard link.
        let mut by_name: Option<HashMap<String, Span>> = None;
        let mut pieces = 0;
        // The archive's positions are relative to `start`.
        for member in archive.entries_with_seek()? {
            // The archive's error quotes the damaged bytes, so it is dropped.
            let Ok(mut member) = member else {
                return Ok((end, Ending::Broken));
            };
            let kind = member.header().entry_type();
            let mut name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            let mut span = Span {
                offset: start + member.raw_file_position(),
                len: member.size(),
                sparse: None,
            };
            if let Some(header) = member.header().as_gnu().filter(|_| kind.is_gnu_sparse()) {
                span.len = member.header().entry_size()?;
                let map = gnu_map(header, at(path, span.offset)?);
                let (map, map_len) = boxed(map);
                span.sparse = map;
                span.offset += map_len;
            }
            let member_end = span.offset.checked_add(span.len);
            let Some(member_end) = member_end.filter(|end| *end <= shard_len) else {
                return Ok((end, Ending::Cut(name)));
            };
            end = member_end.next_multiple_of(BLOCK);
            if let Some(mut sparse) = PaxSparse::of(&mut member) {
                name = sparse.name.take().unwrap_or(name);
                let (map, map_len) = boxed(sparse.read_map(&mut at(path, span.offset)?));
                span.sparse = map;
                span.offset += map_len;
                span.len = span.len.saturating_sub(map_len);
            }
            if kind.is_hard_link() {
                let target = member.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target);
                let by_name = by_name.get_or_insert_with(|| self.members.iter().cloned().collect());
                let Some(found) = by_name.get(&*target) else {
                    continue;
                };
                span = found.clone();
            } else if !is_file(kind) {
                continue;
            }
            // A link has its own copy of the map.
            pieces += span.sparse.as_ref().map_or(0, |map| map.pieces.len());
            if pieces > MAX_PIECES_OF_SHARD {
                span.sparse = span.sparse.map(|_| Box::new(damaged_map()));
            }
            if let Some(by_name) = &mut by_name {
                by_name.insert(name.clone(), span.clone());
            }
            self.members.push((name, span));
        }
        Ok((end, Ending::Whole))
    }
}

/// The shard from `offset` on. Another handle than the archive's, which must stay where it is.
fn at(path: &Path, offset: u64) -> io::Result<BufReader<File>> {
    let mut file = open_regular(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(BufReader::with_capacity(4096, file))
}

/// A map and its length. Where it is damaged, one that no file can have, so that reading the member
/// reports it.
fn boxed(map: io::Result<(Sparse, u64)>) -> (Option<Box<Sparse>>, u64) {
    let (sparse, len) = map.unwrap_or_else(|_| (damaged_map(), 0));
    (Some(Box::new(sparse)), len)
}

fn damaged_map() -> Sparse {
    Sparse {
        len: 0,
        pieces: vec![[0, 1]],
    }
}

/// Pieces of sparse files that an index keeps of a shard; files that have more cannot be read.
const MAX_PIECES_OF_SHARD: usize = 1 << 20;

/// A file seen from `start` on, as if it began there.
struct Tail<'a> {
    reader: BufReader<&'a File>,
    start: u64,
}

impl Read for Tail<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reader.read(bytes)
    }
}

impl Seek for Tail<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(self.start + at),
            to => to,
        };
        let at = self.reader.seek(to)?;
        at.checked_sub(self.start)
            .ok_or_else(|| io::Error::other("a seek to before the start"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn shard(folder: &Path, files: usize) -> PathBuf {
        let mut builder = tar::Builder::new(Vec::new());
        for file in 0..files {
            let bytes = vec![u8::try_from(file).unwrap(); 700];
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder
                .append_data(&mut header, format!("{file}.jpg"), &bytes[..])
                .unwrap();
        }
        let path = folder.join("0.tar");
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        path
    }

    fn names(index: &ShardIndex) -> Vec<&str> {
        index
            .members
            .iter()
            .map(|(path, _)| path.as_str())
            .collect()
    }

    #[test]
    fn a_broken_header_loses_only_its_own_member() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path(), 4);
        let mut bytes = fs::read(&path).unwrap();
        // Each file takes a header and two blocks.
        bytes[2 * 1536 + 20] ^= 0xff;
        fs::write(&path, &bytes).unwrap();
        let index = ShardIndex::open(&path).unwrap();
        assert_eq!(names(&index), ["0.jpg", "1.jpg", "3.jpg"]);
        assert_eq!(index.members[2].1.offset, 3 * 1536 + 512);
        assert_eq!(index.damage.len(), 1, "{index:?}");
        assert_eq!(index.damage[0].place, "byte 3072");
        assert!(
            index.damage[0].message.starts_with("lost 1536 bytes"),
            "{index:?}"
        );
    }

    #[test]
    fn an_index_replaces_the_headers_until_the_shard_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path(), 3);
        let written = ShardIndex::write(&path).unwrap();
        assert_eq!(written, ShardIndex::open(&path).unwrap());
        assert!(folder.path().join("0.tar.index.json").is_file());
        let path = shard(folder.path(), 2);
        assert_eq!(names(&ShardIndex::open(&path).unwrap()), ["0.jpg", "1.jpg"]);
    }

    #[test]
    fn a_truncated_shard_keeps_its_complete_members() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path(), 3);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(2 * 1536 + 600).unwrap();
        let index = ShardIndex::open(&path).unwrap();
        assert_eq!(names(&index), ["0.jpg", "1.jpg"]);
        assert_eq!(index.damage.len(), 1);
    }
}
