//! CLIP_benchmark's folders of tar shards, with a label or captions for each image.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Images, LabelledDataset, Split, Targets};
use crate::formats::DataError;
use crate::formats::class_names::{CLASS_NAMES_FILE, read_class_names_if_present};
use crate::formats::files::{MAX_IMAGE_BYTES, MAX_TEXT_BYTES, read_regular};
use crate::formats::lines::read_lines_if_present;
use crate::formats::npy::flags;
use crate::formats::tar::index::Span;
use crate::formats::tar::records::{TarRecords, read_spans};
use crate::formats::text::{caption_problem, decode_file, decode_text};
use crate::sample::{ImageData, SampleError, SkipCause};

/// `source = "webdataset"` in a dataset file: a folder with `test/nshards.txt`, `test/0.tar` and so
/// on, and optionally `classnames.txt`, `zeroshot_classification_templates.txt` and
/// `dataset_type.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledWebdatasetConfig {
    /// The dataset's folder.
    pub path: PathBuf,
    /// Subfolder of the test images.
    #[serde(default = "default_split")]
    pub split: String,
    /// Subfolder of the training images, for probes and `[classify]`.
    #[serde(default = "default_train_split")]
    pub train_split: String,
}

fn default_split() -> String {
    "test".into()
}

fn default_train_split() -> String {
    "train".into()
}

/// The kind of dataset, as in its `dataset_type.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Classification,
    MultiLabel,
    Retrieval,
}

impl Kind {
    /// The extension of the file next to an image.
    fn extension(self) -> &'static str {
        match self {
            Self::Classification => "cls",
            Self::MultiLabel => "npy",
            Self::Retrieval => "txt",
        }
    }
}

/// Images in tar shards.
pub(super) struct TarImages {
    shards: Vec<PathBuf>,
    entries: Vec<Entry>,
}

struct Entry {
    shard: usize,
    key: String,
    image: Span,
}

impl Images for TarImages {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        let entry = &self.entries[index];
        let spans = [(&entry.image, MAX_IMAGE_BYTES)];
        read_spans(&self.shards[entry.shard], spans)
            .map(|[bytes]| ImageData::Encoded(bytes))
            .map_err(|error| SampleError::new(SkipCause::Unreadable, error))
    }

    fn locate(&self, index: usize) -> (String, String) {
        let entry = &self.entries[index];
        let shard = self.shards[entry.shard].display().to_string();
        (shard, entry.key.clone())
    }
}

impl LabelledWebdatasetConfig {
    /// Whether a folder has this layout.
    pub fn is_here(path: &Path) -> bool {
        let split = path.join(default_split());
        split.join("nshards.txt").is_file() || path.join("dataset_type.txt").is_file()
    }

    /// A dataset in a folder, with the default settings.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            split: default_split(),
            train_split: default_train_split(),
        }
    }

    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let split = match split {
            Split::Test => &self.split,
            Split::Train => &self.train_split,
        };
        let folder = self.path.join(split);
        let kind = self.kind()?;
        let shards = (0..shard_count(&folder)?).map(|shard| folder.join(format!("{shard}.tar")));
        let (images, labels) = read_shards(shards.collect(), kind.extension())?;
        let class_names = read_class_names_if_present(&self.path.join(CLASS_NAMES_FILE))?;
        let targets = targets(kind, labels, class_names.as_deref())
            .map_err(|message| DataError::invalid(&folder, message))?;
        let templates = self.path.join("zeroshot_classification_templates.txt");
        Ok(LabelledDataset {
            path: self.path.clone(),
            class_names,
            templates: read_lines_if_present(&templates)?,
            images: Box::new(images),
            targets,
        })
    }

    fn kind(&self) -> Result<Kind, DataError> {
        let path = self.path.join("dataset_type.txt");
        let lines = read_lines_if_present(&path)?.unwrap_or_default();
        let kind = lines.first().map(|line| line.to_ascii_lowercase());
        match kind.as_deref() {
            None | Some("classification") => Ok(Kind::Classification),
            Some("multilabel") => Ok(Kind::MultiLabel),
            Some("retrieval") => Ok(Kind::Retrieval),
            Some(other) => Err(DataError::invalid(
                &path,
                format!(
                    "`{other}` is not a type of dataset; write classification, multilabel or \
                     retrieval"
                ),
            )),
        }
    }
}

/// A key, and the bytes of its label.
pub(super) type KeyedLabel = (String, Vec<u8>);

/// The images of all shards, with the label of each.
/// - extension: of the members that hold the labels.
pub(super) fn read_shards(
    shards: Vec<PathBuf>,
    extension: &str,
) -> Result<(TarImages, Vec<KeyedLabel>), DataError> {
    let (mut entries, mut labels) = (Vec::new(), Vec::new());
    for (shard, path) in shards.iter().enumerate() {
        let TarRecords { records, damage } =
            TarRecords::open(path, extension).map_err(DataError::io(path))?;
        if let Some(damage) = damage.first() {
            let message = format!("{}: {}", damage.place, damage.message);
            return Err(DataError::invalid(path, message));
        }
        for record in records {
            let (Some(image), Some(label)) = (record.image, record.field) else {
                let message = format!(
                    "{} has no image or no .{extension} file; add it or remove the sample",
                    record.key
                );
                return Err(DataError::invalid(path, message));
            };
            let [label] =
                read_spans(path, [(&label, MAX_TEXT_BYTES)]).map_err(DataError::io(path))?;
            labels.push((record.key.clone(), label));
            entries.push(Entry {
                shard,
                key: record.key,
                image,
            });
        }
    }
    Ok((TarImages { shards, entries }, labels))
}

fn shard_count(folder: &Path) -> Result<usize, DataError> {
    let path = folder.join("nshards.txt");
    let bytes = read_regular(&path, MAX_TEXT_BYTES).map_err(|error| {
        let message = format!("{error}; create it with the number of shards in its folder");
        DataError::invalid(&path, message)
    })?;
    let text = decode_file(&path, bytes)?;
    let count = text.trim().parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| DataError::invalid(&path, "must hold the number of shards in its folder"))
}

fn targets(
    kind: Kind,
    labels: Vec<KeyedLabel>,
    class_names: Option<&[String]>,
) -> Result<Targets, String> {
    let classes = class_names.map(<[String]>::len);
    match kind {
        Kind::Classification => {
            let number = |(key, bytes): KeyedLabel| {
                let text = decode_text(bytes).map_err(|error| format!("{key}.cls: {error}"))?;
                let label = text.trim().parse::<usize>();
                let label = label
                    .map_err(|_| format!("{key}.cls: `{}` is not a class number", text.trim()))?;
                match classes {
                    Some(classes) if label >= classes => Err(format!(
                        "{key}.cls: class {label}, but there are {classes} classes"
                    )),
                    _ => Ok(label),
                }
            };
            let labels: Result<_, String> = labels.into_iter().map(number).collect();
            Ok(Targets::Classes(labels?))
        }
        Kind::MultiLabel => {
            let row = |(key, bytes): KeyedLabel| {
                let row = flags(&bytes).map_err(|message| format!("{key}.npy: {message}"))?;
                match classes {
                    Some(classes) if row.len() != classes => Err(format!(
                        "{key}.npy: {} values for {classes} classes",
                        row.len()
                    )),
                    _ => Ok(row),
                }
            };
            let rows = labels
                .into_iter()
                .map(row)
                .collect::<Result<Vec<_>, String>>()?;
            let len = rows.first().map_or(0, Vec::len);
            if rows.iter().any(|row| row.len() != len) {
                return Err("its .npy files have different lengths".into());
            }
            Ok(Targets::MultiLabel(rows))
        }
        Kind::Retrieval => {
            let captions = |(key, bytes): KeyedLabel| {
                let text = decode_text(bytes).map_err(|error| format!("{key}.txt: {error}"))?;
                let lines: Vec<String> = text.lines().map(str::to_string).collect();
                if lines.iter().all(|line| line.trim().is_empty()) {
                    return Err(format!("{key}.txt: no caption"));
                }
                if let Some(problem) = lines.iter().find_map(|line| caption_problem(line)) {
                    return Err(format!("{key}.txt: {problem}"));
                }
                Ok(lines)
            };
            let captions: Result<_, String> = labels.into_iter().map(captions).collect();
            Ok(Targets::Captions(captions?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(folder: &Path, kind: &str, members: &[(&str, &[u8])]) {
        fs::create_dir_all(folder.join("test")).unwrap();
        fs::write(folder.join("dataset_type.txt"), kind).unwrap();
        fs::write(folder.join("test/nshards.txt"), "1\n").unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        fs::write(folder.join("test/0.tar"), builder.into_inner().unwrap()).unwrap();
    }

    fn open(folder: &Path) -> Result<LabelledDataset, String> {
        let dataset = LabelledWebdatasetConfig::new(folder).open(Split::Test);
        dataset.map_err(|error| error.to_string())
    }

    #[test]
    fn labels_and_captions_are_next_to_images() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let members: [(&str, &[u8]); 4] = [
            ("s0.cls", b"1"),
            ("s0.webp", b"i"),
            ("s1.jpg", b"j"),
            ("s1.cls", b"0\n"),
        ];
        put(folder, "classification\n", &members);
        assert!(LabelledWebdatasetConfig::is_here(folder));
        fs::write(folder.join("classnames.txt"), "cat\ndog\n").unwrap();
        fs::write(
            folder.join("zeroshot_classification_templates.txt"),
            "a {c}\n",
        )
        .unwrap();
        let dataset = open(folder).unwrap();
        assert_eq!(*dataset.targets(), Targets::Classes(vec![1, 0]));
        assert_eq!(dataset.class_names().unwrap(), ["cat", "dog"]);
        assert_eq!(dataset.templates().unwrap(), ["a {c}"]);
        assert!(matches!(dataset.images.read(1), Ok(ImageData::Encoded(bytes)) if bytes == b"j"));

        fs::write(folder.join("classnames.txt"), "cat\n").unwrap();
        assert!(
            open(folder)
                .unwrap_err()
                .contains("s0.cls: class 1, but there are 1 classes")
        );
        let captioned: [(&str, &[u8]); 2] = [("s0.png", b"i"), ("s0.txt", b"one\ntwo")];
        put(folder, "retrieval", &captioned);
        let wanted = vec![vec!["one".to_string(), "two".to_string()]];
        assert_eq!(*open(folder).unwrap().targets(), Targets::Captions(wanted));
        put(folder, "retrieval", &captioned[..1]);
        assert!(
            open(folder)
                .unwrap_err()
                .contains("s0 has no image or no .txt")
        );
        put(folder, "detection", &captioned);
        assert!(
            open(folder)
                .unwrap_err()
                .contains("`detection` is not a type of dataset")
        );
        put(folder, "retrieval", &captioned);
        fs::write(folder.join("test/nshards.txt"), "2").unwrap();
        assert!(open(folder).unwrap_err().contains("1.tar"));
    }
}
