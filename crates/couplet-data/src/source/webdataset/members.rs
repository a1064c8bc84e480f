//! A shard's images with what lies beside each, for evaluation.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::ShardEntries;
use super::index::{Damage, ShardIndex, Span};

/// A shard whose samples are whole.
pub(crate) struct ShardFile {
    pub path: PathBuf,
    pub samples: Vec<ShardSample>,
}

/// Where an image and its label lie.
pub(crate) struct ShardSample {
    pub key: String,
    pub image: Span,
    pub label: Span,
}

/// A shard with all that is wrong with it.
pub(crate) struct ShardMembers {
    pub file: ShardFile,
    pub damage: Vec<Damage>,
    /// Keys of samples that lack a part.
    pub incomplete: Vec<String>,
}

impl ShardMembers {
    /// - extension: of the labels.
    pub fn open(path: &Path, extension: &str) -> io::Result<Self> {
        let mut index = ShardIndex::open(path)?;
        let damage = std::mem::take(&mut index.damage);
        let mut shard = ShardEntries::new(0, extension);
        shard.take(index);
        let (mut samples, mut incomplete) = (Vec::new(), Vec::new());
        for entry in shard.entries {
            match (entry.image, entry.caption) {
                (Some(image), Some(label)) => samples.push(ShardSample {
                    key: entry.key,
                    image,
                    label,
                }),
                _ => incomplete.push(entry.key),
            }
        }
        let path = path.to_path_buf();
        Ok(Self {
            file: ShardFile { path, samples },
            damage,
            incomplete,
        })
    }
}

impl ShardFile {
    /// A member's bytes.
    pub fn read(&self, span: Span) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(span.offset))?;
        let mut bytes = vec![0; usize::try_from(span.len).map_err(io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
