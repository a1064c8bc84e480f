//! An index of a tar shard's members, read from its headers or from a file next to the shard.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::headers::{BLOCK, next_header};
use crate::formats::damage::{Damage, Lost};

/// The key of the skipped entry when nothing of a shard can be read.
pub(crate) const WHOLE_SHARD: &str = "(all)";
/// The message for a valid but empty shard.
pub(crate) const NO_FILES: &str = "the shard holds no files";
pub(super) const CUT: &str = "the file ends inside this member";

pub(super) fn header_damage(lost: u64) -> String {
    format!("lost {lost} bytes: a tar header is damaged")
}

/// The position of a member's bytes in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub offset: u64,
    pub len: u64,
}

/// The files of a shard, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardIndex {
    /// The shard's length in bytes when it was indexed.
    pub(super) shard_len: u64,
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

/// The path of a shard's index: `0000.tar.index.json` next to `0000.tar`.
pub(super) fn index_path(shard: &Path) -> PathBuf {
    let mut name = shard.file_name().unwrap_or_default().to_os_string();
    name.push(".index.json");
    shard.with_file_name(name)
}

impl ShardIndex {
    /// Reads the index next to the shard if it is valid ([`Self::saved`]), else the shard's headers.
    pub fn open(shard: &Path) -> io::Result<Self> {
        let file = File::open(shard)?;
        match Self::saved(shard) {
            Some(index) => Ok(index),
            None => Self::scan(&file, file.metadata()?.len()),
        }
    }

    /// Reads the index next to the shard; `None` if there is none, if the shard's length has changed,
    /// or if the shard is newer than the index.
    pub fn saved(shard: &Path) -> Option<Self> {
        let (now, path) = (fs::metadata(shard).ok()?, index_path(shard));
        let indexed = fs::metadata(&path).ok()?.modified().ok()?;
        let saved: Self = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let is_newer = now.modified().is_ok_and(|changed| changed > indexed);
        Some(saved).filter(|index| index.shard_len == now.len() && !is_newer)
    }

    /// Reads a shard's headers and writes the index next to it.
    pub fn write(shard: &Path) -> io::Result<Self> {
        let file = File::open(shard)?;
        let index = Self::scan(&file, file.metadata()?.len())?;
        if index.members.is_empty() {
            return Err(io::Error::other(
                "not a tar file, or one that holds no files",
            ));
        }
        let path = index_path(shard);
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, serde_json::to_vec(&index)?)?;
        fs::rename(&unfinished, &path)?;
        Ok(index)
    }

    /// Reads the headers. After damage it continues at the next valid header.
    fn scan(file: &File, shard_len: u64) -> io::Result<Self> {
        let mut index = Self {
            shard_len,
            ..Self::default()
        };
        let mut start = 0;
        loop {
            let (end, ending) = index.scan_from(file, start)?;
            match ending {
                Ending::Whole => {
                    // Blocks of zeros end a tar file; a header after them means that they are damage.
                    let mut rest = BufReader::new(file);
                    rest.seek(SeekFrom::Start(end))?;
                    let (Some(next), _) = next_header(rest, end)? else {
                        break;
                    };
                    let message = format!("{} bytes of zeros", next - end);
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
    fn scan_from(&mut self, file: &File, start: u64) -> io::Result<(u64, Ending)> {
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(start))?;
        let mut archive = tar::Archive::new(Tail { reader, start });
        let mut end = start;
        // The archive's positions are relative to `start`.
        for member in archive.entries_with_seek()? {
            // The archive's error quotes the damaged bytes, so it is dropped.
            let Ok(member) = member else {
                return Ok((end, Ending::Broken));
            };
            let span = Span {
                offset: start + member.raw_file_position(),
                len: member.size(),
            };
            let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            let member_end = span.offset.checked_add(span.len);
            let Some(member_end) = member_end.filter(|end| *end <= self.shard_len) else {
                return Ok((end, Ending::Cut(path)));
            };
            end = member_end.next_multiple_of(BLOCK);
            if member.header().entry_type().is_file() {
                self.members.push((path, span));
            }
        }
        Ok((end, Ending::Whole))
    }
}

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
        // The headers are overwritten, the index is not.
        let len = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![7; usize::try_from(len).unwrap()]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(written, ShardIndex::open(&path).unwrap());
        // A shard of the same length that is newer than its index is read again.
        let later = std::time::SystemTime::now() + std::time::Duration::from_mins(1);
        file.set_modified(later).unwrap();
        assert_ne!(written, ShardIndex::open(&path).unwrap());
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
