//! The records of an indexed shard.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::index::{ShardIndex, Span};
use super::split_member;
use crate::decode::IMAGE_EXTENSIONS;
use crate::formats::damage::Damage;
use crate::formats::files::open_regular;
use crate::formats::hidden::is_hidden_path;

/// The positions of a record's parts; either may be missing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TarRecord {
    pub key: String,
    pub image: Option<Span>,
    /// The member with the requested extension.
    pub field: Option<Span>,
}

/// All records of a shard, and its damage.
#[derive(Debug, Default)]
pub(crate) struct TarRecords {
    pub records: Vec<TarRecord>,
    pub damage: Vec<Damage>,
}

/// A part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordPart {
    Image,
    Field,
}

/// Which members belong to records: images, and one other member each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The other member's extension, in lower case.
    pub field: &'a str,
}

impl Wanted<'_> {
    /// A member's key, which part of the record it is, and its extension; `None` for other files.
    pub fn part<'a>(&self, path: &'a str) -> Option<(&'a str, RecordPart, String)> {
        let (key, extension) = split_member(path)?;
        if is_hidden_path(path) {
            return None;
        }
        let extension = extension.to_ascii_lowercase();
        if IMAGE_EXTENSIONS.contains(&extension.as_str()) {
            return Some((key, RecordPart::Image, extension));
        }
        (extension == self.field).then_some((key, RecordPart::Field, extension))
    }
}

impl TarRecords {
    /// From the index next to the shard, else from the shard's headers.
    /// - field: the extension of the member that belongs to each image.
    pub fn open(shard: &Path, field: &str) -> io::Result<Self> {
        ShardIndex::open(shard).map(|index| Self::new(index, field))
    }

    /// From the index next to the shard, if there is one.
    pub fn saved(shard: &Path, field: &str) -> Option<Self> {
        ShardIndex::saved(shard).map(|index| Self::new(index, field))
    }

    /// Members with the same key form one record, wherever they are in the shard; a repeated extension
    /// begins another record. Source: open_clip's `group_by_keys_nothrow`.
    fn new(index: ShardIndex, field: &str) -> Self {
        struct Open {
            at: usize,
            extensions: Vec<String>,
        }
        let wanted = Wanted { field };
        let mut records: Vec<TarRecord> = Vec::new();
        let mut by_key: HashMap<String, Open> = HashMap::new();
        for (path, span) in index.members {
            let Some((key, part, extension)) = wanted.part(&path) else {
                continue;
            };
            let begins = (by_key.get(key)).is_none_or(|open| open.extensions.contains(&extension));
            if begins {
                let open = Open {
                    at: records.len(),
                    extensions: Vec::new(),
                };
                by_key.insert(key.to_string(), open);
                records.push(TarRecord {
                    key: key.to_string(),
                    image: None,
                    field: None,
                });
            }
            let Some(open) = by_key.get_mut(key) else {
                continue;
            };
            open.extensions.push(extension);
            let record = &mut records[open.at];
            let slot = match part {
                RecordPart::Image => &mut record.image,
                RecordPart::Field => &mut record.field,
            };
            slot.get_or_insert(span);
        }
        Self {
            records,
            damage: index.damage,
        }
    }
}

/// The bytes of members. The shard is opened for each call, because there may be more shards than
/// a process may have open files.
/// - spans: where each member is, and the most bytes that it may have.
pub(crate) fn read_spans<const N: usize>(
    shard: &Path,
    spans: [(&Span, u64); N],
) -> io::Result<[Vec<u8>; N]> {
    let mut file = open_regular(shard)?;
    let mut members = [const { Vec::new() }; N];
    for (bytes, (span, most)) in members.iter_mut().zip(spans) {
        if span.len > most {
            let len = span.len;
            let message = format!("{len} bytes, more than the limit of {most}");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        *bytes = vec![0; usize::try_from(span.len).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(span.offset))?;
        file.read_exact(bytes)?;
        if let Some(sparse) = &span.sparse {
            *bytes = sparse.expand(bytes, most).map_err(io::Error::other)?;
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_and_extension_is_another_record() {
        let mut offset = 0;
        let mut member = |path: &str| {
            offset += 1;
            let span = Span {
                offset,
                len: 1,
                sparse: None,
            };
            (path.to_string(), span)
        };
        let members = [
            "1.jpg",
            "1.txt",
            "1.png",
            "2.txt",
            "1.jpg",
            "1.txt",
            "2.jpg",
            ".hidden",
            "3.cls",
            "._2.jpg",
            "__MACOSX/4.jpg",
            ".thumbs/2.jpg",
        ];
        let index = ShardIndex {
            members: members.iter().map(|path| member(path)).collect(),
            ..ShardIndex::default()
        };
        let found: Vec<_> = (TarRecords::new(index, "txt").records.into_iter())
            .map(|one| {
                let at = |span: Option<Span>| span.map_or(0, |span| span.offset);
                (one.key, at(one.image), at(one.field))
            })
            .collect();
        let wanted = [("1", 1, 2), ("2", 7, 4), ("1", 5, 6)];
        assert_eq!(found, wanted.map(|(key, a, b)| (key.to_string(), a, b)));
    }
}
