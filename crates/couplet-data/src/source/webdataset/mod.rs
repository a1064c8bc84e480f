//! webdataset shards: tar files in which the members of one sample share a stem.

mod index;
mod members;
mod reader;
mod stream;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::index::{ShardIndex, Span, WHOLE_SHARD};
use self::stream::TarShards;
use super::captions::CaptionRule;
use super::files::Patterns;
use super::storage::{Location, is_url};
use super::{MapDataset, PairDataset, SourceError};
use crate::decode::IMAGE_EXTENSIONS;
use crate::sample::{ImageData, Sample, SampleError, SkipCause};
use crate::stream::{DEFAULT_SHUFFLE_BUFFER, Lost};

pub use self::index::Damage;
pub(crate) use self::members::{ShardFile, ShardMembers};

/// `source = "webdataset"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebdatasetConfig {
    /// Paths of tar files, or addresses of them in object stores; `{0000..0003}`, `{a,b}`,
    /// `*` and `?` are expanded.
    pub shards: Patterns,
    /// Read whole shards from front to back, and shuffle what comes in a buffer. Otherwise
    /// every shard is indexed at the start, and its samples are read at random. By default
    /// only where a shard lies in an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Samples of a stream that are shuffled together; twice as many are in memory.
    #[serde(default = "default_shuffle_buffer")]
    pub shuffle_buffer: usize,
    /// How long a server may give nothing before a shard is given up, in seconds.
    #[serde(default = "default_server_timeout")]
    pub server_timeout: u64,
    /// Take the caption from this key of the sample's `.json` rather than from `.txt`; of a
    /// list one is drawn each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<String>,
    /// Every line of the `.txt` is a caption; one is drawn each epoch.
    #[serde(default)]
    pub one_of_lines: bool,
}

fn default_shuffle_buffer() -> usize {
    DEFAULT_SHUFFLE_BUFFER
}

fn default_server_timeout() -> u64 {
    120
}

impl WebdatasetConfig {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = self.shards.location_problems("shards");
        if self.shuffle_buffer == 0 {
            problems.push(("shuffle_buffer", "must be at least 1".into()));
        }
        if self.server_timeout == 0 {
            problems.push(("server_timeout", "must be at least 1 second".into()));
        }
        problems
    }

    /// - seed: what one of several captions is drawn from.
    pub(super) fn open(&self, seed: u64) -> Result<PairDataset, SourceError> {
        let locations = self.shards.locations().map_err(|message| SourceError {
            path: PathBuf::from("shards"),
            message,
        })?;
        let captions = CaptionRule {
            key: self.caption_key.clone(),
            one_of_lines: self.one_of_lines,
            seed,
        };
        let path = |location: &Location| match location {
            Location::File(path) => Some(path.clone()),
            Location::Url(_) => None,
        };
        let paths: Option<Vec<PathBuf>> = locations.iter().map(path).collect();
        let stream = self.stream.unwrap_or(paths.is_none());
        match paths {
            Some(paths) if !stream => Ok(PairDataset::indexed(WebdatasetSource::open(
                paths, captions,
            )?)),
            None if !stream => Err(SourceError {
                path: PathBuf::from("stream"),
                message: "shards in an object store can only be read as a stream: take the key \
                          out, or copy them to a disk"
                    .into(),
            }),
            paths => {
                let samples = paths.and_then(|paths| count_indexed(&paths, &captions));
                let shards = TarShards::open(self, locations, captions, samples)?;
                Ok(PairDataset::Stream(std::sync::Arc::new(shards)))
            }
        }
    }
}

/// Samples of shards that all have an index beside them.
fn count_indexed(paths: &[PathBuf], captions: &CaptionRule) -> Option<usize> {
    let counts = paths.par_iter().map(|path| {
        let mut shard = ShardEntries::new(0, captions.extension());
        shard.take(ShardIndex::saved(path)?);
        Some(shard.entries.len())
    });
    counts.sum()
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    key: String,
    image: Option<Span>,
    caption: Option<Span>,
    /// Set for a stand-in that reports damage.
    damage: Option<Damage>,
}

/// Shards with an index of their members, made by reading the tar headers once.
#[derive(Debug)]
pub(super) struct WebdatasetSource {
    shards: Vec<PathBuf>,
    entries: Vec<Entry>,
    /// How many samples were found in each shard.
    found: Vec<usize>,
    /// How many a shard holds that is whole.
    held: usize,
    captions: CaptionRule,
}

impl WebdatasetSource {
    fn open(shards: Vec<PathBuf>, captions: CaptionRule) -> Result<Self, SourceError> {
        let caption_extension = captions.extension();
        // Headers of many shards are read at once: what counts is how long each disk takes.
        let indices: Vec<_> = shards
            .par_iter()
            .map(|path| ShardIndex::open(path))
            .collect();
        let mut entries = Vec::new();
        let (mut found, mut whole) = (Vec::new(), Vec::new());
        for (at, index) in indices.into_iter().enumerate() {
            let mut shard = ShardEntries::new(at, caption_extension);
            match index {
                Ok(index) => shard.take(index),
                Err(error) => shard.fail(Damage {
                    place: WHOLE_SHARD.into(),
                    message: format!("the shard cannot be read: {error}"),
                    lost: Lost::Rest,
                }),
            }
            let is_sample = |entry: &&Entry| entry.damage.is_none();
            found.push(shard.entries.iter().filter(is_sample).count());
            if found[at] == shard.entries.len() {
                whole.push(found[at]);
            }
            entries.extend(shard.entries);
        }
        if entries.iter().all(|entry| entry.damage.is_some()) {
            return Err(SourceError {
                path: shards.first().cloned().unwrap_or_default(),
                message: match entries.first().and_then(|entry| entry.damage.as_ref()) {
                    Some(damage) => format!("no shard can be read: {}", damage.message),
                    None => format!(
                        "no shard holds an image ({}) or a .{caption_extension} caption",
                        IMAGE_EXTENSIONS.join(", ")
                    ),
                },
            });
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

    /// The bytes of two members of one shard. Shards are opened for each sample: there may
    /// be more of them than a process may have open.
    fn bytes(&self, entry: &Entry, spans: [Span; 2]) -> Result<[Vec<u8>; 2], SampleError> {
        let path = &self.shards[entry.shard];
        let read = || -> std::io::Result<[Vec<u8>; 2]> {
            let mut file = File::open(path)?;
            let mut member = |span: Span| -> std::io::Result<Vec<u8>> {
                let mut bytes = vec![0; usize::try_from(span.len).map_err(std::io::Error::other)?];
                file.seek(SeekFrom::Start(span.offset))?;
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            };
            Ok([member(spans[0])?, member(spans[1])?])
        };
        read().map_err(|error| SampleError::new(SkipCause::Unreadable, error))
    }
}

/// Reads the headers of shards and writes an index beside each, so that a run needs not
/// read them again.
/// - patterns: as `shards` takes them.
/// - progress: told each shard, its number of files, and what is damaged in it.
///
/// # Errors
/// If a pattern stands for nothing, or a file cannot be read or written.
pub fn index_shards(
    patterns: &[String],
    mut progress: impl FnMut(&Path, usize, &[Damage]),
) -> Result<(), SourceError> {
    let table = WebdatasetConfig {
        shards: Patterns::Several(patterns.to_vec()),
        caption_key: None,
        one_of_lines: false,
        stream: Some(false),
        shuffle_buffer: DEFAULT_SHUFFLE_BUFFER,
        server_timeout: default_server_timeout(),
    };
    if let Some(url) = patterns.iter().find(|pattern| is_url(pattern)) {
        return Err(SourceError {
            path: PathBuf::from(url),
            message: "an index stands beside a shard on a disk; shards in an object store are \
                      streams, which need none"
                .into(),
        });
    }
    if let Some((_, message)) = table.problems().into_iter().next() {
        let path = PathBuf::from(patterns.join(" "));
        return Err(SourceError { path, message });
    }
    for path in table.shards.paths().unwrap_or_default() {
        let index = ShardIndex::write(&path).map_err(|error| SourceError {
            path: path.clone(),
            message: error.to_string(),
        })?;
        progress(&path, index.members.len(), &index.damage);
    }
    Ok(())
}

/// The samples of one shard while its members are sorted.
struct ShardEntries<'a> {
    shard: usize,
    caption_extension: &'a str,
    entries: Vec<Entry>,
    by_key: HashMap<String, usize>,
}

impl<'a> ShardEntries<'a> {
    fn new(shard: usize, caption_extension: &'a str) -> Self {
        Self {
            shard,
            caption_extension,
            entries: Vec::new(),
            by_key: HashMap::new(),
        }
    }

    fn take(&mut self, index: ShardIndex) {
        for (path, span) in index.members {
            self.add(&path, span);
        }
        for damage in index.damage {
            self.fail(damage);
        }
    }

    fn add(&mut self, path: &str, span: Span) {
        let Some((key, extension)) = split_member(path) else {
            return;
        };
        let extension = extension.to_ascii_lowercase();
        let is_image = IMAGE_EXTENSIONS.contains(&extension.as_str());
        if !is_image && extension != self.caption_extension {
            return;
        }
        let at = *self.by_key.entry(key.to_string()).or_insert_with(|| {
            self.entries.push(Entry {
                shard: self.shard,
                key: key.to_string(),
                image: None,
                caption: None,
                damage: None,
            });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[at];
        let slot = if is_image {
            &mut entry.image
        } else {
            &mut entry.caption
        };
        slot.get_or_insert(span);
    }

    fn fail(&mut self, damage: Damage) {
        self.entries.push(Entry {
            shard: self.shard,
            key: damage.place.clone(),
            image: None,
            caption: None,
            damage: Some(damage),
        });
    }
}

fn no_image() -> SampleError {
    let wanted = IMAGE_EXTENSIONS.join(", .");
    let message = format!("no .{wanted} beside the caption");
    SampleError::new(SkipCause::MissingImage, message)
}

fn no_caption(captions: &CaptionRule) -> SampleError {
    let message = format!("no .{} beside the image", captions.extension());
    SampleError::new(SkipCause::MissingCaption, message)
}

/// A member's key and extension: the path up to the first dot of its file name, and
/// what follows the dot. Source: webdataset's `base_plus_ext`.
fn split_member(path: &str) -> Option<(&str, &str)> {
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = &path[name_at..];
    let dot = name.find('.').filter(|dot| *dot > 0)?;
    Some((&path[..name_at + dot], &name[dot + 1..]))
}

impl MapDataset for WebdatasetSource {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let entry = &self.entries[index];
        if let Some(damage) = &entry.damage {
            return Err(SampleError {
                samples: damage.lost.samples(self.held, self.found[entry.shard]),
                ..SampleError::new(SkipCause::Unreadable, &damage.message)
            });
        }
        let image = entry.image.ok_or_else(no_image)?;
        let caption = (entry.caption).ok_or_else(|| no_caption(&self.captions))?;
        let [caption, image] = self.bytes(entry, [caption, image])?;
        Ok(Sample {
            label: None,
            caption: self.captions.draw(caption, index as u64, epoch)?,
            picture: ImageData::Encoded(image),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let entry = &self.entries[index];
        let shard = self.shards[entry.shard].display().to_string();
        (shard, entry.key.clone())
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

    fn open(file: &tempfile::NamedTempFile, caption_key: Option<&str>) -> WebdatasetSource {
        let captions = CaptionRule {
            key: caption_key.map(str::to_string),
            ..CaptionRule::default()
        };
        WebdatasetSource::open(vec![file.path().to_path_buf()], captions).unwrap()
    }

    #[test]
    fn members_with_one_stem_make_one_sample() {
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
        assert!(matches!(sample.picture, ImageData::Encoded(bytes) if bytes == b"image"));
        assert_eq!(source.locate(0, 0).1, "a/1");
        assert_eq!(source.read(1, 0).unwrap().caption, "more");
    }

    #[test]
    fn captions_come_from_json_where_a_key_is_named() {
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
    fn bad_samples_are_faults_by_cause() {
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
    fn a_truncated_shard_keeps_what_stands_before_the_damage() {
        let file = shard(&[("1.jpg", b"i"), ("1.txt", b"words"), ("2.jpg", &[7; 4000])]);
        file.as_file().set_len(4 * 512 + 600).unwrap();
        let source = open(&file, None);
        assert_eq!(source.len(), 2);
        assert_eq!(source.read(0, 0).unwrap().caption, "words");
        let fault = source.read(1, 0).unwrap_err();
        assert_eq!(fault.cause, SkipCause::Unreadable);
        assert_eq!(source.locate(1, 0).1, "2.jpg");
    }

    #[test]
    fn a_file_that_is_no_tar_is_refused_with_its_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'x'; 2048]).unwrap();
        let shards = vec![file.path().to_path_buf()];
        let error = WebdatasetSource::open(shards, CaptionRule::default());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&file.path().display().to_string()),
            "{error}"
        );
    }
}
