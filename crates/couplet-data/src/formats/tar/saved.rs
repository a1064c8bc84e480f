//! The index that is saved next to a shard, as `0000.tar.index.json` next to `0000.tar`.

use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::headers::BLOCK;
use super::index::{ShardIndex, Span};
use crate::error::printable_path;
use crate::fingerprint::Fingerprint;
use crate::formats::damage::Damage;
use crate::formats::files::{open_regular, read_regular};

/// Changes with the meaning of the file.
const VERSION: u32 = 2;
/// Members whose headers tell whether an index is this shard's.
const CHECKED: usize = 16;

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    /// The shard's length in bytes.
    shard_len: u64,
    /// XXH64 of the blocks before the data of some members ([`digest`]).
    headers: u64,
    members: Vec<(String, Span)>,
    damage: Vec<Damage>,
}

impl ShardIndex {
    /// Reads the index next to the shard if it is valid ([`Self::saved`]), else the shard's headers.
    ///
    /// # Errors
    /// If the shard cannot be read; of kind `Unsupported` if it is compressed.
    pub fn open(shard: &Path) -> io::Result<Self> {
        match Self::saved(shard) {
            Some(index) => Ok(index),
            None => Self::scan(shard),
        }
    }

    /// Reads the index next to the shard. `None` if there is none, and with a warning if it is not
    /// this shard's.
    pub fn saved(shard: &Path) -> Option<Self> {
        match read(shard) {
            Ok(index) => index,
            Err(message) => {
                tracing::warn!(
                    "{}: {message}; reading the shard's headers instead; run `couplet data index` again",
                    printable_path(&path(shard))
                );
                None
            }
        }
    }

    /// Reads a shard's headers and writes the index next to it.
    pub fn write(shard: &Path) -> io::Result<Self> {
        let index = Self::scan(shard)?;
        if index.members.is_empty() {
            return Err(io::Error::other(
                "not a tar file, or one that holds no files",
            ));
        }
        write(shard, &index)?;
        Ok(index)
    }
}

/// The path of a shard's index.
fn path(shard: &Path) -> PathBuf {
    let mut name = shard.file_name().unwrap_or_default().to_os_string();
    name.push(".index.json");
    shard.with_file_name(name)
}

/// Reads a shard's index; `None` if there is none.
///
/// # Errors
/// If it is damaged or not this shard's, as a message.
fn read(shard: &Path) -> Result<Option<ShardIndex>, String> {
    let path = path(shard);
    let (Ok(now), Ok(own)) = (fs::metadata(shard), fs::metadata(&path)) else {
        return Ok(None);
    };
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // A member has a header at least, whose name takes no more than six characters a byte.
    let most = (4 * now.len()).saturating_add(1 << 16);
    let bytes = read_regular(&path, most).map_err(unreadable)?;
    let version = serde_json::from_slice::<Version>(&bytes);
    let version = version.map_err(|error| format!("not an index: {error}"))?;
    if version.version != Some(VERSION) {
        return Err("from another version of Couplet".into());
    }
    let saved: Saved =
        serde_json::from_slice(&bytes).map_err(|error| format!("not an index: {error}"))?;
    if saved.shard_len != now.len() {
        return Err("the shard's length has changed".into());
    }
    let is_newer = |changed| own.modified().is_ok_and(|indexed| changed > indexed);
    if now.modified().is_ok_and(is_newer) {
        return Err("the shard is newer than its index".into());
    }
    let is_inside = |span: &Span| {
        let end = span.offset.checked_add(span.len);
        span.offset >= BLOCK && end.is_some_and(|end| end <= now.len())
    };
    if !saved.members.iter().all(|(_, span)| is_inside(span)) {
        return Err("it has members outside of the shard".into());
    }
    let mut file = open_regular(shard).map_err(unreadable)?;
    if digest(&mut file, &saved.members).map_err(unreadable)? != saved.headers {
        return Err("it is another shard's: the members' headers differ".into());
    }
    Ok(Some(ShardIndex {
        members: saved.members,
        damage: saved.damage,
    }))
}

#[derive(Deserialize)]
struct Version {
    version: Option<u32>,
}

/// Writes a shard's index.
fn write(shard: &Path, index: &ShardIndex) -> io::Result<()> {
    let mut file = open_regular(shard)?;
    let saved = Saved {
        version: VERSION,
        shard_len: file.metadata()?.len(),
        headers: digest(&mut file, &index.members)?,
        members: index.members.clone(),
        damage: index.damage.clone(),
    };
    let path = path(shard);
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, serde_json::to_vec(&saved)?)?;
    fs::rename(&unfinished, &path)
}

/// A digest of the blocks before the data of the first and the last member and of some in between: of
/// their headers, which hold names, lengths and times.
fn digest(file: &mut File, members: &[(String, Span)]) -> io::Result<u64> {
    let mut digest = Fingerprint::new("couplet shard index 2");
    let last = members.len().saturating_sub(1);
    let some = (0..CHECKED).map(|at| at * last / (CHECKED - 1));
    for (_, span) in some.filter_map(|at| members.get(at)) {
        let mut block = [0; 512];
        file.seek(SeekFrom::Start(span.offset - BLOCK))?;
        file.read_exact(&mut block)?;
        digest.write(&block);
    }
    Ok(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn shard(path: &Path, files: usize, prefix: &str) {
        let mut builder = tar::Builder::new(Vec::new());
        for file in 0..files {
            let mut header = tar::Header::new_ustar();
            header.set_size(700);
            let name = format!("{prefix}{file}.jpg");
            builder
                .append_data(&mut header, name, &[7; 700][..])
                .unwrap();
        }
        fs::write(path, builder.into_inner().unwrap()).unwrap();
    }

    /// What is wrong with a changed index.
    fn problem(path: &Path, change: impl Fn(&mut serde_json::Value)) -> String {
        let index = super::path(path);
        let whole = fs::read(&index).unwrap();
        let mut json = serde_json::from_slice(&whole).unwrap();
        change(&mut json);
        fs::write(&index, json.to_string()).unwrap();
        let read = read(path);
        fs::write(&index, whole).unwrap();
        read.map(|index| index.unwrap().members.len()).unwrap_err()
    }

    #[test]
    fn an_index_is_held_against_its_shard() {
        let folder = tempfile::tempdir().unwrap();
        let [own, other] = ["0.tar", "1.tar"].map(|name| folder.path().join(name));
        shard(&own, 3, "a");
        shard(&other, 3, "b");
        assert!(read(&own).unwrap().is_none());
        let written = ShardIndex::write(&own).unwrap();
        assert_eq!(read(&own).unwrap().unwrap(), written);

        let outside = problem(&own, |json| {
            json["members"][1][1]["offset"] = u64::MAX.into();
        });
        assert!(outside.contains("outside"), "{outside}");
        let outside = problem(&own, |json| {
            json["members"][1][1]["len"] = (1_u64 << 40).into();
        });
        assert!(outside.contains("outside"), "{outside}");
        let old = problem(&own, |json| {
            json.as_object_mut().unwrap().remove("version");
        });
        assert!(old.contains("another version"), "{old}");
        let damaged = problem(&own, |json| json["members"] = 3.into());
        assert!(damaged.contains("not an index"), "{damaged}");
        let long = problem(&own, |json| {
            json["members"][0][0] = "x".repeat(100_000).into();
        });
        assert!(long.contains("more than the limit"), "{long}");

        fs::copy(path(&own), path(&other)).unwrap();
        let foreign = read(&other).unwrap_err();
        assert!(foreign.contains("another shard's"), "{foreign}");
        assert_eq!(ShardIndex::open(&other).unwrap().members[0].0, "b0.jpg");
    }

    #[test]
    fn a_shard_that_is_newer_or_longer_than_its_index_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        shard(&path, 3, "");
        ShardIndex::write(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_mins(1))
            .unwrap();
        assert!(read(&path).unwrap_err().contains("newer"));
        shard(&path, 2, "");
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(read(&path).unwrap_err().contains("length has changed"));
        assert_eq!(ShardIndex::open(&path).unwrap().members.len(), 2);
    }
}
