//! What a dataset consists of, so that a resumed run notices that its data changed.
//!
//! A listing has the names, sizes and numbers of samples of a dataset's files, and a digest of each
//! that costs little: of the whole of a table, of the names and sizes in a shard or folder. Captions
//! are hashed too, of at most [`SAMPLED`] samples in a shard's or folder's own files. Modification
//! times are not part of it: copies have others.

use std::collections::HashMap;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::formats::files::open_regular;

/// Samples of a dataset whose captions are hashed, where each costs a read of its own.
pub(crate) const SAMPLED: usize = 8192;
/// The layout of the hashed bytes.
const FORMAT: &str = "couplet listing 1";
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Changes that are written out, of each kind.
const SHOWN: usize = 3;

/// A file of a dataset, or a folder of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    /// Its path, from the folder on that all files of the dataset share; or a URL.
    pub name: String,
    /// In bytes; `None` where it is not known without asking a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `None` where it is not known without reading the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// XXH64 of what is in it, as 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The files of a dataset, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataListing(pub Vec<ListedFile>);

/// How a dataset differs from an earlier listing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingChange {
    Same,
    /// Its files have other names; what is in them is the same, in the same order.
    Moved,
    /// What changed, in words.
    Changed(Vec<String>),
}

impl ListedFile {
    /// Data that is not a file, such as rows of a database, with a digest of what tells its samples apart.
    /// - name: what messages call it; texts: one of each sample, in the dataset's order, such as its caption.
    pub fn of_texts<T: AsRef<str>>(
        name: impl Into<String>,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        let (mut samples, mut digest) = (0, fingerprint());
        for text in texts {
            samples += 1;
            digest.write_text(text.as_ref());
        }
        Self {
            name: name.into(),
            size: None,
            samples: Some(samples),
            digest: Some(format!("{:016x}", digest.finish())),
        }
    }

    /// A file on a disk.
    pub(crate) fn of_file(
        path: &Path,
        samples: Option<usize>,
        digest: Option<Fingerprint>,
    ) -> Self {
        Self {
            name: path.display().to_string(),
            size: std::fs::metadata(path).ok().map(|found| found.len()),
            samples,
            digest: digest.map(|digest| format!("{:016x}", digest.finish())),
        }
    }

    fn has_same_content(&self, other: &Self) -> bool {
        let is_known = self.size.is_some() || self.digest.is_some();
        let content = |file: &Self| (file.size, file.samples, file.digest.clone());
        is_known && content(self) == content(other)
    }
}

impl DataListing {
    /// - files: named by their whole paths.
    pub(crate) fn new(mut files: Vec<ListedFile>) -> Self {
        let is_path = |file: &&mut ListedFile| !file.name.contains("://");
        let folders = files.iter_mut().filter(is_path);
        let shared = folders
            .map(|file| {
                Path::new(&file.name)
                    .parent()
                    .unwrap_or(Path::new(""))
                    .to_path_buf()
            })
            .reduce(|shared, folder| {
                let both = shared.components().zip(folder.components());
                both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
            });
        let shared = shared.unwrap_or_default();
        for file in files.iter_mut().filter(is_path) {
            let rest = Path::new(&file.name)
                .strip_prefix(&shared)
                .map(Path::to_path_buf);
            if let Ok(rest) = rest {
                // The same on every platform.
                let parts = rest
                    .components()
                    .map(|part| part.as_os_str().to_string_lossy());
                file.name = parts.collect::<Vec<_>>().join("/");
            }
        }
        Self(files)
    }

    /// A digest of what is in the files, wherever they are.
    pub fn digest(&self) -> String {
        let mut digest = fingerprint();
        for file in &self.0 {
            digest.write_u64(file.size.unwrap_or(u64::MAX));
            digest.write_u64(file.samples.map_or(u64::MAX, |samples| samples as u64));
            let is_known = file.size.is_some() || file.digest.is_some();
            let content = file.digest.as_deref().unwrap_or_default();
            digest.write_text(if is_known { content } else { &file.name });
        }
        format!("{:016x}", digest.finish())
    }

    /// How `now` differs from this earlier listing.
    pub fn compare(&self, now: &Self) -> ListingChange {
        let (before, now) = (&self.0, &now.0);
        if before == now {
            return ListingChange::Same;
        }
        let has_moved = before.len() == now.len()
            && (before.iter().zip(now)).all(|(before, now)| before.has_same_content(now));
        if has_moved {
            return ListingChange::Moved;
        }
        let by_name = |files: &[ListedFile]| -> HashMap<String, ListedFile> {
            let named = files.iter().map(|file| (file.name.clone(), file.clone()));
            named.collect()
        };
        let (old_names, new_names) = (by_name(before), by_name(now));
        let missing = before
            .iter()
            .filter(|file| !new_names.contains_key(&file.name));
        let added = now
            .iter()
            .filter(|file| !old_names.contains_key(&file.name));
        let changed = now.iter().filter_map(|file| {
            let earlier = old_names.get(&file.name)?;
            (earlier != file)
                .then(|| format!("{} ({})", printable(&file.name), difference(earlier, file)))
        });
        let name = |file: &ListedFile| printable(&file.name);
        let kinds = [
            ("missing", missing.map(name).collect::<Vec<_>>()),
            ("new", added.map(name).collect()),
            ("changed", changed.collect()),
        ];
        let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        let mut lines: Vec<String> = kinds.map(|(kind, names)| summary(kind, &names)).collect();
        if lines.is_empty() {
            lines.push("the files are in another order".into());
        }
        ListingChange::Changed(lines)
    }
}

fn difference(before: &ListedFile, now: &ListedFile) -> String {
    let number = |number: Option<u64>| number.map_or("unknown".into(), |n| n.to_string());
    if before.samples != now.samples {
        let count = |samples: Option<usize>| number(samples.map(|n| n as u64));
        return format!(
            "{} samples became {}",
            count(before.samples),
            count(now.samples)
        );
    }
    if before.size != now.size {
        return format!("{} bytes became {}", number(before.size), number(now.size));
    }
    "the same size, but other content".into()
}

/// A file's name without what would steer a terminal.
fn printable(name: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    name.chars().map(escape).collect()
}

fn summary(kind: &str, names: &[String]) -> String {
    let shown = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let verb = if names.len() == 1 {
        "file is"
    } else {
        "files are"
    };
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} {verb} {kind}: {shown}{more}", names.len())
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint::new(FORMAT)
}

/// Whether the caption of sample `index` of `samples` is hashed.
pub(crate) fn is_sampled(index: usize, samples: usize) -> bool {
    index.is_multiple_of(samples.div_ceil(SAMPLED).max(1))
}

/// Hashes the first `most` bytes of a file, or all of it.
pub(crate) fn hash_file(path: &Path, most: u64, hasher: &mut Fingerprint) -> io::Result<()> {
    let mut file = open_regular(path)?.take(most);
    let mut bytes = vec![0; CHUNK];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(()),
            read => hasher.write(&bytes[..read]),
        }
    }
}

/// The folders of files, each with the number of its samples and a digest of them.
/// - samples: in order, the folder of each and what is hashed of it.
pub(crate) fn folders(samples: impl IntoIterator<Item = (PathBuf, u64)>) -> Vec<ListedFile> {
    struct Folder {
        path: PathBuf,
        samples: usize,
        digest: Fingerprint,
    }
    let mut folders: Vec<Folder> = Vec::new();
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    for (path, hash) in samples {
        let at = *places.entry(path.clone()).or_insert_with(|| {
            folders.push(Folder {
                path,
                samples: 0,
                digest: fingerprint(),
            });
            folders.len() - 1
        });
        folders[at].samples += 1;
        folders[at].digest.write_u64(hash);
    }
    let listed = folders.into_iter().map(|folder| ListedFile {
        name: folder.path.display().to_string(),
        size: None,
        samples: Some(folder.samples),
        digest: Some(format!("{:016x}", folder.digest.finish())),
    });
    listed.collect()
}

/// Hashes a file's name and its size.
pub(crate) fn hash_name_and_size(path: &Path, hasher: &mut Fingerprint) {
    let name = path.file_name().unwrap_or_default();
    hasher.write_text(&name.to_string_lossy());
    let size = std::fs::metadata(path).map_or(u64::MAX, |found| found.len());
    hasher.write_u64(size);
}

#[cfg(test)]
mod tests;
