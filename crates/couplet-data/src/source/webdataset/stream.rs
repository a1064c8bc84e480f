//! Tar shards read from front to back.

use std::io::{self, Read};
use std::path::PathBuf;

use super::super::SourceError;
use super::super::captions::CaptionRule;
use super::super::storage::{self, Location};
use super::index::{BLOCK, NO_FILES, next_header};
use super::{WebdatasetTable, split_member};
use crate::decode::IMAGE_EXTENSIONS;
use crate::sample::{Fault, Picture, Sample, SkipCause};
use crate::stream::{Shards, Streamed};

/// A longer member is not read into memory.
const MAX_MEMBER_BYTES: u64 = 512 << 20;

/// A shard where it is.
#[derive(Debug)]
enum Shard {
    File(PathBuf),
    #[cfg(feature = "object-store")]
    Object(storage::Object),
}

impl Shard {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        match self {
            Self::File(path) => storage::open_file(path, offset),
            #[cfg(feature = "object-store")]
            Self::Object(object) => Ok(object.open(offset)),
        }
    }
}

/// `source = "webdataset"` as a stream.
#[derive(Debug)]
pub(super) struct TarShards {
    locations: Vec<Location>,
    shards: Vec<Shard>,
    captions: CaptionRule,
    shuffle_buffer: usize,
    samples: Option<usize>,
}

impl TarShards {
    /// - samples: of all shards, if they are known.
    pub fn open(
        table: &WebdatasetTable,
        locations: Vec<Location>,
        captions: CaptionRule,
        samples: Option<usize>,
    ) -> Result<Self, SourceError> {
        #[cfg(feature = "object-store")]
        let mut stores = storage::Stores::default();
        let mut shards = Vec::new();
        for location in &locations {
            let shard = match location {
                Location::File(path) => Ok(Shard::File(path.clone())),
                #[cfg(feature = "object-store")]
                Location::Url(url) => stores.object(url).map(Shard::Object),
                #[cfg(not(feature = "object-store"))]
                Location::Url(url) => Err(format!("{url}: built without object stores")),
            };
            shards.push(shard.map_err(|message| SourceError {
                path: PathBuf::from(location.to_string()),
                message,
            })?);
        }
        // One that answers shows that keys, address and network are right.
        #[cfg(feature = "object-store")]
        if let Some(Shard::Object(object)) = shards.first() {
            object.check().map_err(|message| SourceError {
                path: PathBuf::from(locations[0].to_string()),
                message,
            })?;
        }
        Ok(Self {
            locations,
            shards,
            captions,
            shuffle_buffer: table.shuffle_buffer,
            samples,
        })
    }
}

impl Shards for TarShards {
    fn len(&self) -> usize {
        self.shards.len()
    }

    fn samples(&self) -> Option<usize> {
        self.samples
    }

    fn shuffle_buffer(&self) -> usize {
        self.shuffle_buffer
    }

    fn name(&self, shard: usize) -> String {
        self.locations[shard].to_string()
    }

    fn read(&self, shard: usize, from: u64, epoch: u64, give: &mut dyn FnMut(Streamed) -> bool) {
        let name = self.name(shard);
        let mut group = Group {
            give,
            captions: &self.captions,
            seed: name_hash(&name),
            epoch,
            key: None,
            image: None,
            caption: None,
            behind: from,
        };
        // Nothing is left to be told once nobody listens.
        let _: Result<(), Stopped> = read_tar(&self.shards[shard], from, &mut group);
    }
}

/// Nobody takes samples any more.
struct Stopped;

/// How reading headers ended.
enum Ending {
    Whole,
    /// The file ends inside this member.
    Cut(String),
    /// Where there should be a header there is none.
    Broken,
    /// No more bytes could be had.
    Unreadable(io::Error),
}

fn read_tar(shard: &Shard, from: u64, group: &mut Group<'_>) -> Result<(), Stopped> {
    let mut start = from;
    loop {
        let ending = read_members(shard, start, group)?;
        let end = group.behind;
        group.flush()?;
        let (lost, behind) = match ending {
            Ending::Whole if from == 0 && end == 0 => {
                return group.fail(String::new(), NO_FILES.into(), u64::MAX);
            }
            Ending::Whole => {
                // Blocks of zeros end a tar file; what stands behind them was cut off by them.
                let found = shard.open(end).and_then(|bytes| next_header(bytes, end));
                let Ok((Some(next), _)) = found else {
                    return Ok(());
                };
                let message = format!("{} bytes of zeros", next - end);
                group.fail(format!("byte {end}"), message, next)?;
                start = next;
                continue;
            }
            Ending::Cut(member) => {
                return group.fail(member, "the file ends inside this member".into(), u64::MAX);
            }
            Ending::Unreadable(error) => {
                let message = format!("the shard cannot be read: {error}");
                return group.fail(String::new(), message, u64::MAX);
            }
            Ending::Broken => {
                let found = shard
                    .open(end + BLOCK)
                    .and_then(|bytes| next_header(bytes, end + BLOCK));
                match found {
                    Ok((Some(next), _)) => (next - end, next),
                    Ok((None, len)) => (len.saturating_sub(end), u64::MAX),
                    Err(error) => {
                        let message = format!("the shard cannot be read: {error}");
                        return group.fail(String::new(), message, u64::MAX);
                    }
                }
            }
        };
        let message = format!("{lost} bytes at byte {end} are lost: a tar header is damaged");
        group.fail(format!("byte {end}"), message, behind)?;
        if behind == u64::MAX {
            return Ok(());
        }
        start = behind;
    }
}

/// Members up to the end or to what is damaged, behind which is `group.behind`.
fn read_members(shard: &Shard, start: u64, group: &mut Group<'_>) -> Result<Ending, Stopped> {
    group.behind = start;
    if start == u64::MAX {
        return Ok(Ending::Whole);
    }
    let bytes = match shard.open(start) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Ending::Unreadable(error)),
    };
    let failure = std::cell::RefCell::new(None);
    let mut archive = tar::Archive::new(Watched {
        bytes,
        failure: &failure,
    });
    let ending = |fallback| {
        let failure = failure.borrow_mut().take();
        Ok(failure.map_or(fallback, Ending::Unreadable))
    };
    let Ok(members) = archive.entries() else {
        return ending(Ending::Broken);
    };
    for member in members {
        let Ok(mut member) = member else {
            return ending(Ending::Broken);
        };
        let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let size = member.size();
        let end = start
            .checked_add(member.raw_file_position())
            .and_then(|at| at.checked_add(size))
            .and_then(|end| end.checked_next_multiple_of(BLOCK));
        let Some(end) = end else {
            return Ok(Ending::Cut(path));
        };
        let part = if member.header().entry_type().is_file() {
            group.wants(&path)
        } else {
            None
        };
        // Read before the sample before it is given: its end is the place to go on from.
        let read = match &part {
            Some(_) if size > MAX_MEMBER_BYTES => {
                let len = io::copy(&mut member, &mut io::sink());
                len.map(|len| (len, Err(format!("{size} bytes are too many for one file"))))
            }
            Some(_) => {
                let mut bytes = Vec::new();
                let len = member.read_to_end(&mut bytes);
                len.map(|len| (len as u64, Ok(bytes)))
            }
            None => io::copy(&mut member, &mut io::sink()).map(|len| (len, Ok(Vec::new()))),
        };
        match read {
            Ok((len, bytes)) if len == size => {
                if let Some((key, part)) = part {
                    group.add(key, part, bytes)?;
                }
                group.behind = end;
            }
            _ => return ending(Ending::Cut(path)),
        }
    }
    ending(Ending::Whole)
}

/// Remembers what could not be read, which the archive would take for damage.
struct Watched<'a> {
    bytes: Box<dyn Read>,
    failure: &'a std::cell::RefCell<Option<io::Error>>,
}

impl Read for Watched<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(bytes).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.failure.borrow_mut() = Some(error);
            }
            kind.into()
        })
    }
}

#[derive(Clone, Copy)]
enum Part {
    Image,
    Caption,
}

/// Neighbours with one key, which make one sample.
struct Group<'a> {
    give: &'a mut dyn FnMut(Streamed) -> bool,
    captions: &'a CaptionRule,
    seed: u64,
    epoch: u64,
    key: Option<String>,
    image: Option<Result<Vec<u8>, String>>,
    caption: Option<Result<Vec<u8>, String>>,
    /// Where the last whole member ends.
    behind: u64,
}

impl Group<'_> {
    /// Whether a member belongs to a sample: its key, and what it is of it.
    fn wants(&self, path: &str) -> Option<(String, Part)> {
        let (key, extension) = split_member(path)?;
        let extension = extension.to_ascii_lowercase();
        if IMAGE_EXTENSIONS.contains(&extension.as_str()) {
            return Some((key.to_string(), Part::Image));
        }
        (extension == self.captions.extension()).then(|| (key.to_string(), Part::Caption))
    }

    fn add(
        &mut self,
        key: String,
        part: Part,
        bytes: Result<Vec<u8>, String>,
    ) -> Result<(), Stopped> {
        if self.key.as_ref() != Some(&key) {
            self.flush()?;
            self.key = Some(key);
        }
        let slot = match part {
            Part::Image => &mut self.image,
            Part::Caption => &mut self.caption,
        };
        slot.get_or_insert(bytes);
        Ok(())
    }

    /// Gives the sample that is whole.
    fn flush(&mut self) -> Result<(), Stopped> {
        let Some(key) = self.key.take() else {
            return Ok(());
        };
        let sample = self.sample(&key);
        self.give(Streamed {
            key,
            sample,
            behind: self.behind,
        })
    }

    fn fail(&mut self, key: String, message: String, behind: u64) -> Result<(), Stopped> {
        self.give(Streamed {
            key,
            sample: Err(Fault::new(SkipCause::Unreadable, message)),
            behind,
        })
    }

    fn give(&mut self, sample: Streamed) -> Result<(), Stopped> {
        if (self.give)(sample) {
            Ok(())
        } else {
            Err(Stopped)
        }
    }

    fn sample(&mut self, key: &str) -> Result<Sample, Fault> {
        let (image, caption) = (self.image.take(), self.caption.take());
        let unreadable = |message| Fault::new(SkipCause::Unreadable, message);
        let image = image.ok_or_else(super::no_image)?.map_err(unreadable)?;
        let caption = caption
            .ok_or_else(|| super::no_caption(self.captions))?
            .map_err(unreadable)?;
        let draw = self.seed ^ name_hash(key);
        Ok(Sample {
            caption: self.captions.draw(caption, draw, self.epoch)?,
            picture: Picture::Encoded(image),
        })
    }
}

/// Source: Fowler, Noll and Vo's FNV-1a, 64 bits.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::Patterns;
    use crate::source::{Set, SourceTable};
    use std::path::Path;

    /// Ten samples, one with a long name, one without a caption.
    fn shard(folder: &Path) -> PathBuf {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        for at in 0..10 {
            let key = if at == 4 {
                "d".repeat(130)
            } else {
                format!("a/{at}")
            };
            add(&format!("{key}.jpg"), &vec![at; 900]);
            add(&format!("{key}.cls"), b"7");
            if at != 6 {
                add(&format!("{key}.txt"), format!("caption {at}").as_bytes());
            }
        }
        let path = folder.join("0.tar");
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        path
    }

    fn open(path: &Path, stream: bool) -> Set {
        let table = WebdatasetTable {
            shards: Patterns::One(path.display().to_string()),
            stream: Some(stream),
            shuffle_buffer: 4,
            caption_key: None,
            one_of_lines: false,
        };
        SourceTable::Webdataset(table).open(0, 8).unwrap()
    }

    fn stream(set: &Set, from: u64) -> Vec<(String, Result<String, SkipCause>, u64)> {
        let Set::Stream(shards) = set else {
            unreachable!("it was opened as a stream");
        };
        let mut samples = Vec::new();
        shards.read(0, from, 0, &mut |one| {
            let sample = one.sample.map(|sample| sample.caption);
            samples.push((one.key, sample.map_err(|fault| fault.cause), one.behind));
            true
        });
        samples
    }

    #[test]
    fn every_sample_comes_and_reading_goes_on_behind_any() {
        let folder = tempfile::tempdir().unwrap();
        let set = open(&shard(folder.path()), true);
        assert_eq!(set.samples(), None);
        let all = stream(&set, 0);
        assert_eq!(all.len(), 10);
        assert_eq!(all[4].0, "d".repeat(130));
        assert_eq!(all[6].1, Err(SkipCause::MissingCaption));
        assert_eq!(all[9].1, Ok("caption 9".into()));
        for at in 0..10 {
            assert_eq!(stream(&set, all[at].2), all[at + 1..], "behind {at}");
        }
    }

    #[test]
    fn an_empty_shard_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        std::fs::write(&path, b"").unwrap();
        let told = stream(&open(&path, true), 0);
        assert_eq!(
            told,
            [(String::new(), Err(SkipCause::Unreadable), u64::MAX)]
        );
        assert!(stream(&open(&path, true), u64::MAX).is_empty());
        let index = super::super::index::ShardIndex::open(&path).unwrap();
        assert_eq!(index.damage[0].1, NO_FILES);
    }

    #[test]
    fn an_index_counts_a_streams_samples() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path());
        super::super::index_shards(&[path.display().to_string()], |_, _, _| {}).unwrap();
        assert_eq!(open(&path, true).samples(), Some(10));
    }

    #[test]
    fn a_block_of_zeros_ends_no_shard_that_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        // The second sample's first header.
        let at = usize::try_from(stream(&open(&path, true), 0)[0].2).unwrap();
        bytes[at..at + 512].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        for stream in [true, false] {
            assert_eq!(open(&path, stream).read_all().len(), 8, "stream {stream}");
        }
    }

    /// Whatever is damaged, a stream has the usable samples that an index finds, but for
    /// the one that the damage lies in.
    #[test]
    fn damage_costs_a_stream_what_it_costs_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = 0;
        for at in (20..whole.len()).step_by(373) {
            for cut in [false, true] {
                let mut bytes = whole.clone();
                if cut {
                    bytes.truncate(at);
                } else {
                    bytes[at] ^= 0xff;
                }
                std::fs::write(&path, &bytes).unwrap();
                let table = WebdatasetTable {
                    shards: Patterns::One(path.display().to_string()),
                    stream: Some(false),
                    shuffle_buffer: 4,
                    caption_key: None,
                    one_of_lines: false,
                };
                let captions = |set: &Set| -> Vec<String> {
                    set.read_all().into_iter().map(|one| one.caption).collect()
                };
                let streamed = captions(&open(&path, true));
                // A shard without a whole sample is refused where it is indexed.
                let indexed = table.open(0).map_or(Vec::new(), |set| captions(&set));
                assert!(
                    streamed.iter().all(|one| indexed.contains(one)),
                    "{at}, {cut}"
                );
                assert!(streamed.len() + 1 >= indexed.len(), "byte {at}, cut {cut}");
                damaged += usize::from(streamed.len() < 9);
            }
        }
        assert!(damaged > 50, "{damaged} copies lost a sample");
    }
}
