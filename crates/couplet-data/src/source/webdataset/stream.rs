//! Tar shards read from front to back.

use std::path::PathBuf;
#[cfg(feature = "object-store")]
use std::time::Duration;

use super::super::SourceError;
use super::super::captions::CaptionRule;
use super::super::storage::Location;
#[cfg(feature = "object-store")]
use super::super::storage::Stores;
use super::reader::{Loss, Shard, Stopped, read_tar};
use super::{WebdatasetConfig, split_member};
use crate::decode::IMAGE_EXTENSIONS;
use crate::sample::{ImageData, Sample, SampleError, SkipCause};
use crate::stream::{ShardedDataset, StreamSample};

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
        table: &WebdatasetConfig,
        locations: Vec<Location>,
        captions: CaptionRule,
        samples: Option<usize>,
    ) -> Result<Self, SourceError> {
        #[cfg(feature = "object-store")]
        let mut stores = Stores::new(Duration::from_secs(table.server_timeout));
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

impl ShardedDataset for TarShards {
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

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
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

#[derive(Clone, Copy)]
pub(super) enum MemberKind {
    Image,
    Caption,
}

/// Neighbours with one key, which make one sample.
pub(super) struct Group<'a> {
    give: &'a mut dyn FnMut(StreamSample) -> bool,
    captions: &'a CaptionRule,
    seed: u64,
    epoch: u64,
    key: Option<String>,
    image: Option<Result<Vec<u8>, String>>,
    caption: Option<Result<Vec<u8>, String>>,
    /// Where the last whole member ends.
    pub behind: u64,
}

impl Group<'_> {
    /// Whether a member belongs to a sample: its key, and what it is of it.
    pub fn wants(&self, path: &str) -> Option<(String, MemberKind)> {
        let (key, extension) = split_member(path)?;
        let extension = extension.to_ascii_lowercase();
        if IMAGE_EXTENSIONS.contains(&extension.as_str()) {
            return Some((key.to_string(), MemberKind::Image));
        }
        (extension == self.captions.extension()).then(|| (key.to_string(), MemberKind::Caption))
    }

    pub fn add(
        &mut self,
        key: String,
        part: MemberKind,
        bytes: Result<Vec<u8>, String>,
    ) -> Result<(), Stopped> {
        if self.key.as_ref() != Some(&key) {
            self.flush()?;
            self.key = Some(key);
        }
        let slot = match part {
            MemberKind::Image => &mut self.image,
            MemberKind::Caption => &mut self.caption,
        };
        slot.get_or_insert(bytes);
        Ok(())
    }

    /// Gives the sample that is whole.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        let Some(key) = self.key.take() else {
            return Ok(());
        };
        let sample = self.sample(&key);
        self.give(StreamSample {
            key,
            sample,
            behind: self.behind,
            lost: None,
        })
    }

    pub fn fail(&mut self, loss: Loss) -> Result<(), Stopped> {
        self.give(StreamSample {
            key: loss.key,
            sample: Err(SampleError::new(SkipCause::Unreadable, loss.message)),
            behind: loss.behind,
            lost: Some(loss.lost),
        })
    }

    fn give(&mut self, sample: StreamSample) -> Result<(), Stopped> {
        if (self.give)(sample) {
            Ok(())
        } else {
            Err(Stopped)
        }
    }

    fn sample(&mut self, key: &str) -> Result<Sample, SampleError> {
        let (image, caption) = (self.image.take(), self.caption.take());
        let unreadable = |message| SampleError::new(SkipCause::Unreadable, message);
        let image = image.ok_or_else(super::no_image)?.map_err(unreadable)?;
        let caption = caption
            .ok_or_else(|| super::no_caption(self.captions))?
            .map_err(unreadable)?;
        let draw = self.seed ^ name_hash(key);
        Ok(Sample {
            label: None,
            caption: self.captions.draw(caption, draw, self.epoch)?,
            picture: ImageData::Encoded(image),
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
    use super::super::index::{NO_FILES, WHOLE_SHARD};
    use super::*;
    use crate::source::files::Patterns;
    use crate::source::{PairDataset, SourceConfig};
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

    fn open(path: &Path, stream: bool) -> PairDataset {
        let table = WebdatasetConfig {
            shards: Patterns::One(path.display().to_string()),
            stream: Some(stream),
            shuffle_buffer: 4,
            server_timeout: 1,
            caption_key: None,
            one_of_lines: false,
        };
        SourceConfig::Webdataset(table).open(0, 8).unwrap()
    }

    fn stream(set: &PairDataset, from: u64) -> Vec<(String, Result<String, SkipCause>, u64)> {
        let PairDataset::Stream(shards) = set else {
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
            [(WHOLE_SHARD.into(), Err(SkipCause::Unreadable), u64::MAX)]
        );
        assert!(stream(&open(&path, true), u64::MAX).is_empty());
        let index = super::super::index::ShardIndex::open(&path).unwrap();
        assert_eq!(index.damage[0].message, NO_FILES);
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
                let table = WebdatasetConfig {
                    shards: Patterns::One(path.display().to_string()),
                    stream: Some(false),
                    shuffle_buffer: 4,
                    server_timeout: 1,
                    caption_key: None,
                    one_of_lines: false,
                };
                let captions = |set: &PairDataset| -> Vec<String> {
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
