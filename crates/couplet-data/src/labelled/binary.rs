//! Sets whose files hold bare pixels: CIFAR's and MNIST's.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use super::{Images, LabelledDataset, LabelledError, Split, Targets, hash_of, lines_of};
use crate::sample::{ImageData, SampleError};

/// `source = "cifar"` in a dataset file.
/// Source: Krizhevsky 2009, the sets' binary version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarConfig {
    /// With `test_batch.bin` and `data_batch_1.bin` to `_5` (10 classes), or `test.bin` and
    /// `train.bin` (100).
    pub path: PathBuf,
    /// 10 or 100.
    pub classes: usize,
}

/// `source = "idx"` in a dataset file.
/// Source: LeCun et al. 1998, the MNIST database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdxConfig {
    /// With `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, and the same of `train`;
    /// each may end in `.gz`.
    pub path: PathBuf,
}

/// Pixels of images of one size, one after the other.
struct Pixels {
    files: PathBuf,
    bytes: Vec<u8>,
    width: u32,
    height: u32,
    layout: Layout,
}

#[derive(Clone, Copy)]
enum Layout {
    /// One byte a pixel.
    Grey,
    /// All red, then all green, then all blue.
    Planes,
}

impl Images for Pixels {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        let area = (self.width * self.height) as usize;
        let pixels = match self.layout {
            Layout::Grey => {
                let bytes = self.bytes[index * area..(index + 1) * area].to_vec();
                let grey = GrayImage::from_raw(self.width, self.height, bytes);
                image::DynamicImage::from(grey.expect("an image's bytes")).into_rgb8()
            }
            Layout::Planes => {
                let planes = &self.bytes[index * area * 3..(index + 1) * area * 3];
                let pixels = (0..area).flat_map(|at| [0, 1, 2].map(|c| planes[c * area + at]));
                RgbImage::from_raw(self.width, self.height, pixels.collect())
                    .expect("an image's bytes")
            }
        };
        Ok(ImageData::Pixels(pixels))
    }

    fn locate(&self, index: usize) -> (String, String) {
        (self.files.display().to_string(), index.to_string())
    }

    fn fingerprint(&self) -> u64 {
        hash_of(&self.bytes)
    }
}

/// A set is whole only if every label is one of a class.
fn check_labels(path: &Path, labels: &[usize], classes: usize) -> Result<(), LabelledError> {
    match labels.iter().position(|label| *label >= classes) {
        Some(at) => Err(LabelledError::malformed(
            path,
            format!(
                "image {at} has the label {}, of {classes} classes",
                labels[at]
            ),
        )),
        None => Ok(()),
    }
}

impl CifarConfig {
    const SIDE: u32 = 32;
    const AREA: usize = (Self::SIDE * Self::SIDE) as usize;

    pub(super) fn open(&self, part: Split) -> Result<LabelledDataset, LabelledError> {
        // Of a hundred classes, the first of two bytes is the coarse label.
        let (label_len, files, names) = match (self.classes, part) {
            (10, Split::Test) => (1, vec!["test_batch.bin".to_string()], "batches.meta.txt"),
            (10, Split::Train) => {
                let files = (1..=5).map(|n| format!("data_batch_{n}.bin"));
                (1, files.collect(), "batches.meta.txt")
            }
            (100, Split::Test) => (2, vec!["test.bin".into()], "fine_label_names.txt"),
            (100, Split::Train) => (2, vec!["train.bin".into()], "fine_label_names.txt"),
            _ => {
                let message = format!("classes = {}: 10 or 100", self.classes);
                return Err(LabelledError::malformed(&self.path, message));
            }
        };
        let row = label_len + 3 * Self::AREA;
        let (mut bytes, mut labels) = (Vec::new(), Vec::new());
        for file in files {
            let path = self.path.join(file);
            let read = fs::read(&path).map_err(LabelledError::io(&path))?;
            if read.is_empty() || read.len() % row != 0 {
                let message = format!("{} bytes are not rows of {row}", read.len());
                return Err(LabelledError::malformed(&path, message));
            }
            for row in read.chunks_exact(row) {
                labels.push(usize::from(row[label_len - 1]));
                bytes.extend_from_slice(&row[label_len..]);
            }
        }
        check_labels(&self.path, &labels, self.classes)?;
        Ok(LabelledDataset {
            path: self.path.clone(),
            class_names: lines_of(&self.path.join(names))?,
            templates: None,
            images: Box::new(Pixels {
                files: self.path.clone(),
                bytes,
                width: Self::SIDE,
                height: Self::SIDE,
                layout: Layout::Planes,
            }),
            targets: Targets::Classes(labels),
        })
    }
}

impl IdxConfig {
    pub(super) fn open(&self, part: Split) -> Result<LabelledDataset, LabelledError> {
        let part = match part {
            Split::Test => "t10k",
            Split::Train => "train",
        };
        let (images, shape) = self.read(&format!("{part}-images-idx3-ubyte"))?;
        let (labels, label_shape) = self.read(&format!("{part}-labels-idx1-ubyte"))?;
        let (&[count, height, width], &[label_count]) = (&shape[..], &label_shape[..]) else {
            let message = format!("images of shape {shape:?}, labels of {label_shape:?}");
            return Err(LabelledError::malformed(&self.path, message));
        };
        if count != label_count {
            let message = format!("{count} images, but {label_count} labels");
            return Err(LabelledError::malformed(&self.path, message));
        }
        if height == 0 || width == 0 {
            let message = format!("images of {width}x{height} pixels");
            return Err(LabelledError::malformed(&self.path, message));
        }
        let labels: Vec<usize> = labels.into_iter().map(usize::from).collect();
        Ok(LabelledDataset {
            path: self.path.clone(),
            class_names: None,
            templates: None,
            images: Box::new(Pixels {
                files: self.path.clone(),
                bytes: images,
                width,
                height,
                layout: Layout::Grey,
            }),
            targets: Targets::Classes(labels),
        })
    }

    /// The bytes of a file, and the sizes of its dimensions.
    fn read(&self, name: &str) -> Result<(Vec<u8>, Vec<u32>), LabelledError> {
        const BYTES: u8 = 8;
        let plain = self.path.join(name);
        let packed = self.path.join(format!("{name}.gz"));
        let (path, bytes) = if packed.is_file() && !plain.is_file() {
            let mut bytes = Vec::new();
            let read = fs::File::open(&packed)
                .and_then(|file| GzDecoder::new(file).read_to_end(&mut bytes));
            read.map_err(LabelledError::io(&packed))?;
            (packed, bytes)
        } else {
            let bytes = fs::read(&plain).map_err(LabelledError::io(&plain))?;
            (plain, bytes)
        };
        let no_idx = || LabelledError::malformed(&path, "not an IDX file of bytes");
        let [0, 0, BYTES, dimensions, rest @ ..] = &bytes[..] else {
            return Err(no_idx());
        };
        let (sizes, data) = rest
            .split_at_checked(usize::from(*dimensions) * 4)
            .ok_or_else(no_idx)?;
        let sizes: Vec<u32> = sizes
            .chunks_exact(4)
            .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]))
            .collect();
        let wanted: u64 = sizes.iter().map(|size| u64::from(*size)).product();
        if wanted != data.len() as u64 {
            let message = format!("{} bytes of data where {sizes:?} need {wanted}", data.len());
            return Err(LabelledError::malformed(&path, message));
        }
        Ok((data.to_vec(), sizes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pixels(set: &LabelledDataset, index: usize) -> Vec<u8> {
        match set.images.read(index).unwrap() {
            ImageData::Pixels(pixels) => pixels.into_raw(),
            ImageData::Encoded(_) => unreachable!("bare pixels"),
        }
    }

    #[test]
    fn cifars_planes_become_pixels() {
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
        let set = table(100).open(Split::Test).unwrap();
        assert_eq!(set.targets, Targets::Classes(vec![7, 3]));
        assert_eq!(pixels(&set, 1)[..6], [13, 23, 33, 13, 23, 33]);
        fs::write(folder.path().join("test.bin"), &rows[1..]).unwrap();
        let error = table(100).open(Split::Test).unwrap_err().to_string();
        assert!(error.contains("rows of 3074"), "{error}");
        let error = table(10).open(Split::Train).unwrap_err().to_string();
        assert!(error.contains("data_batch_1.bin"), "{error}");
    }

    #[test]
    fn mnists_files_are_read_packed_or_not() {
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
        let set = table.open(Split::Test).unwrap();
        assert_eq!(set.targets, Targets::Classes(vec![9, 4]));
        assert_eq!(pixels(&set, 1), [4, 4, 4, 5, 5, 5, 6, 6, 6]);
        fs::write(path("t10k-labels-idx1-ubyte"), &labels[..9]).unwrap();
        assert!(table.open(Split::Test).is_err());
    }
}
