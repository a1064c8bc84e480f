//! Datasets whose files hold uncompressed pixels: CIFAR and MNIST.

use std::hash::Hasher;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Images, LabelledDataset, Split, Targets};
use crate::formats::DataError;
use crate::formats::class_names::{class_name_of, read_class_names_if_present};
use crate::formats::pixels::{PixelImages, read_cifar, read_idx};
use crate::sample::{ImageData, SampleError};

/// `source = "cifar"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CifarConfig {
    /// Folder with `test_batch.bin` and `data_batch_1.bin` to `data_batch_5.bin` (10 classes), or
    /// `test.bin` and `train.bin` (100 classes).
    pub path: PathBuf,
    /// 10 or 100.
    pub classes: usize,
}

/// `source = "idx"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdxConfig {
    /// Folder with `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, and the same files of `train`
    /// for probes and `[classify]`; each may end in `.gz`.
    pub path: PathBuf,
}

struct Pixels {
    folder: PathBuf,
    images: PixelImages,
}

impl Images for Pixels {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        Ok(ImageData::Pixels(self.images.image(index)))
    }

    fn locate(&self, index: usize) -> (String, String) {
        (self.folder.display().to_string(), index.to_string())
    }

    fn fingerprint(&self, hasher: &mut dyn Hasher) {
        hasher.write(&self.images.bytes);
    }
}

fn dataset(
    folder: &Path,
    (images, labels): (PixelImages, Vec<u8>),
    class_names: Option<Vec<String>>,
) -> LabelledDataset {
    LabelledDataset {
        path: folder.to_path_buf(),
        class_names,
        templates: None,
        images: Box::new(Pixels {
            folder: folder.to_path_buf(),
            images,
        }),
        targets: Targets::Classes(labels.into_iter().map(usize::from).collect()),
    }
}

impl CifarConfig {
    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        // With 100 classes, the first of two label bytes is the coarse label.
        let (label_len, files, names) = match (self.classes, split) {
            (10, Split::Test) => (1, vec!["test_batch.bin".to_string()], "batches.meta.txt"),
            (10, Split::Train) => {
                let files = (1..=5).map(|n| format!("data_batch_{n}.bin"));
                (1, files.collect(), "batches.meta.txt")
            }
            (100, Split::Test) => (2, vec!["test.bin".into()], "fine_label_names.txt"),
            (100, Split::Train) => (2, vec!["train.bin".into()], "fine_label_names.txt"),
            _ => {
                let message = format!(
                    "{} classes are not a CIFAR dataset; write 10 or 100",
                    self.classes
                );
                return Err(DataError::key("classes", message));
            }
        };
        let files: Vec<PathBuf> = files.iter().map(|file| self.path.join(file)).collect();
        let (images, labels) = read_cifar(&files, label_len)?;
        let is_class = |label: &u8| usize::from(*label) < self.classes;
        if let Some(at) = labels.iter().position(|label| !is_class(label)) {
            let message = format!(
                "image {at} has the label {}, but there are {} classes",
                labels[at], self.classes
            );
            return Err(DataError::invalid(&self.path, message));
        }
        let class_names = read_class_names_if_present(&self.path.join(names))?;
        let class_names =
            class_names.map(|names| names.iter().map(|name| class_name_of(name)).collect());
        Ok(dataset(&self.path, (images, labels), class_names))
    }
}

impl IdxConfig {
    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let prefix = match split {
            Split::Test => "t10k",
            Split::Train => "train",
        };
        let images = format!("{prefix}-images-idx3-ubyte");
        let labels = format!("{prefix}-labels-idx1-ubyte");
        let read = read_idx(&self.path, &images, &labels)?;
        Ok(dataset(&self.path, read, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn pixels(dataset: &LabelledDataset, index: usize) -> Vec<u8> {
        match dataset.images.read(index).unwrap() {
            ImageData::Pixels(pixels) => pixels.into_raw(),
            ImageData::Encoded(_) => unreachable!("bare pixels"),
        }
    }

    #[test]
    fn cifars_color_planes_become_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = Vec::new();
        for label in [7, 3] {
            rows.extend([1, label]);
            for plane in [10, 20, 30] {
                rows.extend([plane + label; 1024]);
            }
        }
        fs::write(folder.path().join("test.bin"), &rows).unwrap();
        let table = |classes| CifarConfig {
            path: folder.path().into(),
            classes,
        };
        let dataset = table(100).open(Split::Test).unwrap();
        assert_eq!(dataset.targets, Targets::Classes(vec![7, 3]));
        assert_eq!(pixels(&dataset, 1)[..6], [13, 23, 33, 13, 23, 33]);
        fs::write(folder.path().join("test.bin"), &rows[1..]).unwrap();
        let error = table(100).open(Split::Test).unwrap_err().to_string();
        assert!(error.contains("multiple of 3074"), "{error}");
        let error = table(10).open(Split::Train).unwrap_err().to_string();
        assert!(error.contains("data_batch_1.bin"), "{error}");
    }

    #[test]
    fn mnists_files_are_read_gzipped_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let images = [
            &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3][..],
            &[1, 2, 3, 4, 5, 6],
        ];
        let images = images.concat();
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 9, 4];
        let path = |name: &str| folder.path().join(name);
        let file = fs::File::create(path("t10k-images-idx3-ubyte.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        packed.write_all(&images).unwrap();
        packed.finish().unwrap();
        fs::write(path("t10k-labels-idx1-ubyte"), labels).unwrap();
        let table = IdxConfig {
            path: folder.path().into(),
        };
        let dataset = table.open(Split::Test).unwrap();
        assert_eq!(dataset.targets, Targets::Classes(vec![9, 4]));
        assert_eq!(pixels(&dataset, 1), [4, 4, 4, 5, 5, 5, 6, 6, 6]);
        fs::write(path("t10k-labels-idx1-ubyte"), &labels[..9]).unwrap();
        assert!(table.open(Split::Test).is_err());
    }
}
