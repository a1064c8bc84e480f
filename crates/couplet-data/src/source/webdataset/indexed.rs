//! Shards with an index of their members: samples are read at random.

use std::hash::Hasher;
use std::io;
use std::path::PathBuf;

use rayon::prelude::*;

use super::super::captions::{CaptionRule, no_image};
use super::super::dataset::MapDataset;
use crate::decode::IMAGE_EXTENSIONS;
use crate::formats::files::{MAX_IMAGE_BYTES, MAX_TEXT_BYTES};
use crate::formats::tar::index::WHOLE_SHARD;
use crate::formats::tar::records::{TarRecord, TarRecords, read_spans};
use crate::formats::{Damage, DataError, Lost};
use crate::listing::{ListedFile, fingerprint, is_sampled};
use crate::sample::{ImageData, Sample, SampleError, SkipCause};

#[derive(Debug)]
struct Entry {
    shard: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Record(TarRecord),
    /// Counts for the samples that are lost to damage.
    Damage(Damage),
}

/// Samples read by index, found by reading the tar headers once.
#[derive(Debug)]
pub(super) struct TarPairs {
    shards: Vec<PathBuf>,
    entries: Vec<Entry>,
    /// The number of samples found in each shard.
    found: Vec<usize>,
    /// The average number of samples in an undamaged shard.
    held: usize,
    captions: CaptionRule,
}

impl TarPairs {
    pub fn open(shards: Vec<PathBuf>, captions: CaptionRule) -> Result<Self, DataError> {
        let extension = captions.extension();
        // In parallel: the time goes into waiting for the disks.
        let indexed: Vec<_> = (shards.par_iter())
            .map(|path| TarRecords::open(path, extension))
            .collect();
        let mut entries = Vec::new();
        let (mut found, mut whole) = (Vec::new(), Vec::new());
        for (shard, indexed) in indexed.into_iter().enumerate() {
            if let Err(error) = &indexed
                && error.kind() == io::ErrorKind::Unsupported
            {
                return Err(DataError::invalid(&shards[shard], error));
            }
            let TarRecords { records, damage } = indexed.unwrap_or_else(|error| TarRecords {
                records: Vec::new(),
                damage: vec![Damage {
                    place: WHOLE_SHARD.into(),
                    message: format!("the shard cannot be read: {error}"),
                    lost: Lost::Rest,
                }],
            });
            found.push(records.len());
            if damage.is_empty() {
                whole.push(records.len());
            }
            let records = records.into_iter().map(Content::Record);
            let contents = records.chain(damage.into_iter().map(Content::Damage));
            entries.extend(contents.map(|content| Entry { shard, content }));
        }
        if found.iter().all(|records| *records == 0) {
            let path = shards.first().cloned().unwrap_or_default();
            let damage = entries.iter().find_map(|entry| match &entry.content {
                Content::Damage(damage) => Some(&damage.message),
                Content::Record(_) => None,
            });
            let message = match damage {
                Some(damage) => format!("no shard can be read: {damage}; check the paths"),
                None => format!(
                    "no shard holds an image ({}) or a .{extension} caption file",
                    IMAGE_EXTENSIONS.join(", ")
                ),
            };
            return Err(DataError::invalid(&path, message));
        }
        let seen = if whole.is_empty() { &found } else { &whole };
        let held = seen.iter().sum::<usize>().div_ceil(seen.len());
        Ok(Self {
            shards,
            entries,
            found,
            held,
            captions,
        })
    }
}

impl MapDataset for TarPairs {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let Entry { shard, content } = &self.entries[index];
        let record = match content {
            Content::Record(record) => record,
            Content::Damage(damage) => {
                return Err(SampleError {
                    samples: damage.lost.samples(self.held, self.found[*shard]),
                    ..SampleError::new(SkipCause::Unreadable, &damage.message)
                });
            }
        };
        let image = record.image.as_ref().ok_or_else(no_image)?;
        let caption = record.field.as_ref();
        let caption = caption.ok_or_else(|| self.captions.no_caption())?;
        let spans = [(caption, MAX_TEXT_BYTES), (image, MAX_IMAGE_BYTES)];
        let [caption, image] = read_spans(&self.shards[*shard], spans)
            .map_err(|error| SampleError::new(SkipCause::Unreadable, error))?;
        Ok(Sample {
            label: None,
            caption: self.captions.draw(caption, index as u64, epoch)?,
            image: ImageData::Encoded(image),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let entry = &self.entries[index];
        let key = match &entry.content {
            Content::Record(record) => &record.key,
            Content::Damage(damage) => &damage.place,
        };
        let shard = self.shards[entry.shard].display().to_string();
        (shard, key.clone())
    }

    fn listing(&self) -> Vec<ListedFile> {
        let hash = |index: usize| -> u64 {
            let mut digest = fingerprint();
            let Entry { shard, content } = &self.entries[index];
            let Content::Record(record) = content else {
                return digest.finish();
            };
            digest.write_text(&record.key);
            for span in [&record.image, &record.field] {
                digest.write_u64(span.as_ref().map_or(u64::MAX, |span| span.len));
            }
            if let Some(caption) = &record.field
                && is_sampled(index, self.len())
            {
                match read_spans(&self.shards[*shard], [(caption, MAX_TEXT_BYTES)]) {
                    Ok([bytes]) => digest.write(&bytes),
                    Err(_) => digest.write_u8(0),
                }
            }
            digest.finish()
        };
        let hashes: Vec<u64> = (0..self.len()).into_par_iter().map(hash).collect();
        let mut digests = vec![fingerprint(); self.shards.len()];
        for (entry, hash) in self.entries.iter().zip(hashes) {
            digests[entry.shard].write_u64(hash);
        }
        let shards = self.shards.iter().zip(&self.found).zip(digests);
        shards
            .map(|((path, found), digest)| ListedFile::of_file(path, Some(*found), Some(digest)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn shard(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        file
    }

    fn open(file: &tempfile::NamedTempFile, caption_key: Option<&str>) -> TarPairs {
        let captions = CaptionRule {
            key: caption_key.map(str::to_string),
            ..CaptionRule::default()
        };
        TarPairs::open(vec![file.path().to_path_buf()], captions).unwrap()
    }

    #[test]
    fn members_with_the_same_stem_make_one_sample() {
        let long = format!("{}/b.jpeg", "d".repeat(120));
        let file = shard(&[
            ("a/1.png", b"image"),
            ("a/1.txt", b" words \n"),
            (&long, b"other"),
            (&long.replace("jpeg", "txt"), b"more"),
        ]);
        let source = open(&file, None);
        assert_eq!(source.len(), 2);
        let sample = source.read(0, 0).unwrap();
        assert_eq!(sample.caption, "words");
        assert!(matches!(sample.image, ImageData::Encoded(bytes) if bytes == b"image"));
        assert_eq!(source.locate(0, 0).1, "a/1");
        assert_eq!(source.read(1, 0).unwrap().caption, "more");
    }

    #[test]
    fn captions_come_from_json_if_a_key_is_set() {
        let file = shard(&[
            ("1.jpg", b"i"),
            ("1.json", br#"{"title": "from json"}"#),
            ("2.jpg", b"i"),
            ("2.json", br#"{"other": 1}"#),
            ("3.jpg", b"i"),
            ("3.json", b"{"),
        ]);
        let source = open(&file, Some("title"));
        assert_eq!(source.read(0, 0).unwrap().caption, "from json");
        assert_eq!(
            source.read(1, 0).unwrap_err().cause,
            SkipCause::MissingCaption
        );
        assert_eq!(
            source.read(2, 0).unwrap_err().cause,
            SkipCause::InvalidCaption
        );
    }

    #[test]
    fn bad_samples_are_errors_with_their_cause() {
        let file = shard(&[
            ("1.jpg", b"i"),
            ("2.txt", b"words"),
            ("3.jpg", b"i"),
            ("3.txt", b" \n"),
            ("4.jpg", b"i"),
            ("4.txt", b"\xff\xfe"),
        ]);
        let source = open(&file, None);
        let causes: Vec<_> = (0..4)
            .map(|i| source.read(i, 0).unwrap_err().cause)
            .collect();
        assert_eq!(
            causes,
            [
                SkipCause::MissingCaption,
                SkipCause::MissingImage,
                SkipCause::EmptyCaption,
                SkipCause::InvalidCaption
            ]
        );
    }

    #[test]
    fn a_truncated_shard_keeps_the_samples_before_the_damage() {
        let file = shard(&[("1.jpg", b"i"), ("1.txt", b"words"), ("2.jpg", &[7; 4000])]);
        file.as_file().set_len(4 * 512 + 600).unwrap();
        let source = open(&file, None);
        assert_eq!(source.len(), 2);
        assert_eq!(source.read(0, 0).unwrap().caption, "words");
        let error = source.read(1, 0).unwrap_err();
        assert_eq!(error.cause, SkipCause::Unreadable);
        assert_eq!(source.locate(1, 0).1, "2.jpg");
    }

    #[test]
    fn a_file_that_is_not_a_tar_is_rejected_by_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'x'; 2048]).unwrap();
        let shards = vec![file.path().to_path_buf()];
        let error = TarPairs::open(shards, CaptionRule::default());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
    }
}
