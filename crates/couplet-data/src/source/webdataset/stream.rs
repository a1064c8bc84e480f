//! Tar shards that are read from front to back.

use std::time::Duration;

use rayon::prelude::*;

use super::super::captions::{CaptionRule, no_image};
use crate::formats::DataError;
use crate::formats::storage::Location;
#[cfg(feature = "object-store")]
use crate::formats::storage::Stores;
use crate::formats::tar::group::{Loss, ReadRecord, TarItem};
use crate::formats::tar::reader::read_tar;
use crate::formats::tar::shard::Shard;
use crate::listing::{ListedFile, fingerprint, hash_file};
use crate::sample::{ImageData, Sample, SampleError, SkipCause};
use crate::stream::{ShardedDataset, StreamSample};

/// Bytes of all shards that are hashed for a listing, and the least and most of each.
const HASHED: u64 = 256 << 20;
const HASHED_OF_A_SHARD: (u64, u64) = (64 << 10, 4 << 20);

/// How shards are streamed.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamSettings {
    /// The number of samples that are shuffled together.
    pub shuffle_buffer: usize,
    /// How long a server may send nothing before a shard is given up.
    #[cfg_attr(
        not(feature = "object-store"),
        expect(dead_code, reason = "only servers have a timeout")
    )]
    pub server_timeout: Duration,
}

/// Tar shards on disk or in object stores.
#[derive(Debug)]
pub(super) struct TarShards {
    locations: Vec<Location>,
    shards: Vec<Shard>,
    captions: CaptionRule,
    shuffle_buffer: usize,
    samples: Option<usize>,
}

impl TarShards {
    /// - samples: the number of samples in all shards, if it is known.
    pub fn open(
        locations: Vec<Location>,
        captions: CaptionRule,
        settings: StreamSettings,
        samples: Option<usize>,
    ) -> Result<Self, DataError> {
        #[cfg(feature = "object-store")]
        let mut stores = Stores::new(settings.server_timeout);
        let mut shards = Vec::new();
        for location in &locations {
            shards.push(match location {
                Location::File(path) => Shard::file(path.clone()),
                #[cfg(feature = "object-store")]
                Location::Url(url) => Shard::object(
                    (stores.object(url)).map_err(|message| DataError::url(url, message))?,
                ),
                #[cfg(not(feature = "object-store"))]
                Location::Url(url) => {
                    return Err(DataError::url(url, crate::formats::storage::NOT_BUILT));
                }
            });
        }
        // If one shard answers, the credentials, the URL and the network are right.
        #[cfg(feature = "object-store")]
        if let (Some(object), Some(location)) =
            (shards.first().and_then(Shard::as_object), locations.first())
        {
            let failed = |message| DataError::url(&location.to_string(), message);
            object.check().map_err(failed)?;
        }
        Ok(Self {
            locations,
            shards,
            captions,
            shuffle_buffer: settings.shuffle_buffer,
            samples,
        })
    }

    /// - seed: the shard's seed.
    fn sample(&self, record: ReadRecord, seed: u64, epoch: u64) -> Result<Sample, SampleError> {
        let unreadable = |message| SampleError::new(SkipCause::Unreadable, message);
        let image = record.image.ok_or_else(no_image)?;
        let image = image.map_err(unreadable)?;
        let caption = (record.field).ok_or_else(|| self.captions.no_caption())?;
        let caption = caption.map_err(unreadable)?;
        let draw = seed ^ name_hash(&record.key);
        Ok(Sample {
            label: None,
            caption: self.captions.draw(caption, draw, epoch)?,
            image: ImageData::Encoded(image),
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

    fn listing(&self) -> Vec<ListedFile> {
        let most = HASHED / self.locations.len().max(1) as u64;
        let most = most.clamp(HASHED_OF_A_SHARD.0, HASHED_OF_A_SHARD.1);
        let list = |location: &Location| match location {
            Location::File(path) => {
                let mut digest = fingerprint();
                let hashed = hash_file(path, most, &mut digest);
                ListedFile::of_file(path, None, hashed.is_ok().then_some(digest))
            }
            Location::Url(url) => ListedFile {
                // What follows may be a signature that expires.
                name: url.split('?').next().unwrap_or(url).to_string(),
                size: None,
                samples: None,
                digest: None,
            },
        };
        self.locations.par_iter().map(list).collect()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        let seed = name_hash(&self.name(shard));
        let mut take = |item| match item {
            TarItem::Record(record) => give(StreamSample {
                key: record.key.clone(),
                next: record.next,
                sample: self.sample(record, seed, epoch),
                lost: None,
            }),
            TarItem::Loss(Loss {
                key,
                message,
                lost,
                next,
            }) => give(StreamSample {
                key,
                next,
                sample: Err(SampleError::new(SkipCause::Unreadable, message)),
                lost: Some(lost),
            }),
        };
        read_tar(
            &self.shards[shard],
            self.captions.extension(),
            from,
            &mut take,
        );
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
    use crate::formats::Patterns;
    use crate::formats::tar::index::{NO_FILES, ShardIndex, WHOLE_SHARD};
    use crate::source::{PairDataset, SourceConfig, WebdatasetConfig, index_shards};
    use std::path::{Path, PathBuf};

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

    fn stream(dataset: &PairDataset, from: u64) -> Vec<(String, Result<String, SkipCause>, u64)> {
        let PairDataset::Stream(shards) = dataset else {
            unreachable!("the dataset was opened as a stream");
        };
        let mut samples = Vec::new();
        shards.read(0, from, 0, &mut |one| {
            let sample = one.sample.map(|sample| sample.caption);
            samples.push((one.key, sample.map_err(|error| error.cause), one.next));
            true
        });
        samples
    }

    #[test]
    fn every_sample_is_read_and_reading_resumes_after_any() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = open(&shard(folder.path()), true);
        assert_eq!(dataset.samples(), None);
        let all = stream(&dataset, 0);
        assert_eq!(all.len(), 10);
        assert_eq!(all[4].0, "d".repeat(130));
        assert_eq!(all[6].1, Err(SkipCause::MissingCaption));
        assert_eq!(all[9].1, Ok("caption 9".into()));
        for at in 0..10 {
            assert_eq!(stream(&dataset, all[at].2), all[at + 1..], "after {at}");
        }
    }

    #[test]
    fn an_empty_shard_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        std::fs::write(&path, b"").unwrap();
        let samples = stream(&open(&path, true), 0);
        assert_eq!(
            samples,
            [(WHOLE_SHARD.into(), Err(SkipCause::Unreadable), u64::MAX)]
        );
        assert!(stream(&open(&path, true), u64::MAX).is_empty());
        let index = ShardIndex::open(&path).unwrap();
        assert_eq!(index.damage[0].message, NO_FILES);
    }

    #[test]
    fn an_index_gives_the_number_of_a_streams_samples() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path());
        index_shards(&[path.display().to_string()], |_, _, _| {}).unwrap();
        assert_eq!(open(&path, true).samples(), Some(10));
    }

    #[test]
    fn a_block_of_zeros_does_not_end_a_shard_that_continues() {
        let folder = tempfile::tempdir().unwrap();
        let path = shard(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        // The header of the second sample's first member.
        let at = usize::try_from(stream(&open(&path, true), 0)[0].2).unwrap();
        bytes[at..at + 512].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        for stream in [true, false] {
            assert_eq!(open(&path, stream).read_all().len(), 8, "stream {stream}");
        }
    }

    /// However a shard is damaged, a stream yields the usable samples that an index finds, except for
    /// the sample that holds the damage.
    #[test]
    fn damage_loses_no_more_samples_of_a_stream_than_of_an_index() {
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
                let captions = |dataset: &PairDataset| -> Vec<String> {
                    dataset
                        .read_all()
                        .into_iter()
                        .map(|one| one.caption)
                        .collect()
                };
                let streamed = captions(&open(&path, true));
                // Indexing rejects a shard without a complete sample.
                let indexed = table
                    .open(0)
                    .map_or(Vec::new(), |dataset| captions(&dataset));
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
