//! Images for evaluation with what belongs to each: a class, several, or captions.

mod binary;
mod class_folder;
mod coco;
mod csv;
mod npy;
mod parquet;
mod webdataset;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::draw::{Purpose, stream};
use crate::sample::{ImageData, SampleError, SkipCause, Skipped};
use crate::shapes::{LabelledShapes, ShapesClasses, ShapesSplit};
use crate::{Transform, decode_exact};

pub use binary::{CifarConfig, IdxConfig};
pub use class_folder::LabelledClassFolderConfig;
pub(crate) use class_folder::class_files;
pub use coco::CocoCaptionsConfig;
pub use csv::LabelledCsvConfig;
pub use parquet::LabelledParquetConfig;
pub use webdataset::LabelledWebdatasetConfig;

/// Where labelled images lie: the source's part of a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum LabelledConfig {
    /// Pictures of coloured shapes, drawn by Couplet itself.
    Shapes(LabelledShapesConfig),
    /// A folder with one sub-folder a class.
    ClassFolder(LabelledClassFolderConfig),
    /// CLIP_benchmark's folder of tar shards.
    Webdataset(LabelledWebdatasetConfig),
    /// CIFAR-10's and CIFAR-100's binary files.
    Cifar(CifarConfig),
    /// MNIST's files, and those of sets in its format.
    Idx(IdxConfig),
    /// Tables with images and labels or captions, as Hugging Face writes them. Needs the
    /// feature `parquet`.
    Parquet(LabelledParquetConfig),
    /// A table that names image files and their labels or captions.
    Csv(LabelledCsvConfig),
    /// COCO's captions, and those of sets in its format.
    CocoCaptions(CocoCaptionsConfig),
}

/// `source = "shapes"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledShapesConfig {
    pub split: ShapesSplit,
    pub classes: ShapesClasses,
    pub samples: usize,
}

/// Which images of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Those that are judged by.
    Test,
    /// Those that a probe is fitted to.
    Train,
}

/// Why a labelled set could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LabelledError {
    #[error("{}: cannot be read", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
}

impl LabelledError {
    fn malformed(path: &Path, message: impl std::fmt::Display) -> Self {
        Self::Malformed {
            path: path.to_path_buf(),
            message: message.to_string(),
        }
    }

    fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }
}

/// What belongs to each image of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// The number of its class.
    Classes(Vec<usize>),
    /// Whether it shows each class: `[images][classes]`.
    MultiLabel(Vec<Vec<bool>>),
    /// Its captions, at least one.
    Captions(Vec<Vec<String>>),
}

/// Images that can be read in any order, from any thread.
trait Images: Send + Sync {
    fn read(&self, index: usize) -> Result<ImageData, SampleError>;

    /// Images that are cheaper to read together than one by one.
    fn read_ahead(&self, _range: Range<usize>) -> Option<Vec<Result<ImageData, SampleError>>> {
        None
    }

    /// The file that holds an image, and its key inside it.
    fn locate(&self, index: usize) -> (String, String);

    /// What else says which images these are, where files do not.
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// Images with what belongs to each, in a fixed order.
pub struct LabelledDataset {
    /// Where it lies, for errors.
    path: PathBuf,
    /// The names that the storage itself gives its classes.
    class_names: Option<Vec<String>>,
    /// The sentences that the storage itself has.
    templates: Option<Vec<String>>,
    images: Box<dyn Images>,
    targets: Targets,
}

impl std::fmt::Debug for LabelledDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelledDataset")
            .field("path", &self.path)
            .field("images", &self.len())
            .finish_non_exhaustive()
    }
}

/// A batch of transformed images; unreadable ones are left out.
#[derive(Debug)]
pub struct LabelledBatch {
    /// `[len, image_size, image_size, 3]`
    pub pixels: Vec<u8>,
    /// Which images of the set they are.
    pub indices: Vec<usize>,
    pub skipped: Vec<Skipped>,
}

impl LabelledConfig {
    /// Opens a part of the set; images are read later.
    /// - image_size: side of the pictures that are drawn, in pixels.
    ///
    /// # Errors
    /// If files are missing or not of the kind they should be, or the part is not named.
    pub fn open(&self, part: Split, image_size: u32) -> Result<LabelledDataset, LabelledError> {
        match self {
            Self::Shapes(table) => table.open(part, image_size),
            Self::ClassFolder(table) => table.open(part),
            Self::Webdataset(table) => table.open(part),
            Self::Cifar(table) => table.open(part),
            Self::Idx(table) => table.open(part),
            Self::Parquet(table) => table.open(part),
            Self::Csv(table) => table.open(part),
            Self::CocoCaptions(table) => table.open(part),
        }
    }

    /// The folder that the set lies in, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::ClassFolder(table) => Some(&table.path),
            Self::Webdataset(table) => Some(&table.path),
            Self::Cifar(table) => Some(&table.path),
            Self::Idx(table) => Some(&table.path),
            Self::Csv(table) => table.path.parent(),
            Self::Shapes(_) | Self::Parquet(_) | Self::CocoCaptions(_) => None,
        }
    }
}

impl LabelledShapesConfig {
    #[expect(clippy::unnecessary_wraps, reason = "as the other tables")]
    fn open(&self, part: Split, image_size: u32) -> Result<LabelledDataset, LabelledError> {
        let shapes = LabelledShapes {
            split: match part {
                Split::Test => self.split,
                Split::Train => ShapesSplit::Train,
            },
            classes: self.classes,
            image_size,
        };
        let labels = (0..self.samples).map(|index| shapes.label(index));
        Ok(LabelledDataset {
            path: "shapes".into(),
            class_names: Some(shapes.class_names()),
            templates: None,
            targets: Targets::Classes(labels.collect()),
            images: Box::new(shapes),
        })
    }
}

impl Images for LabelledShapes {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        Ok(Self::read(self, index))
    }

    fn locate(&self, index: usize) -> (String, String) {
        ("shapes".into(), index.to_string())
    }

    fn fingerprint(&self) -> u64 {
        hash_of((self.split, self.image_size))
    }
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// One image file each.
struct Files(Vec<PathBuf>);

impl Images for Files {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        let bytes = std::fs::read(&self.0[index]);
        bytes.map(ImageData::Encoded).map_err(|error| {
            let cause = if error.kind() == std::io::ErrorKind::NotFound {
                SkipCause::MissingImage
            } else {
                SkipCause::Unreadable
            };
            SampleError::new(cause, error)
        })
    }

    fn locate(&self, index: usize) -> (String, String) {
        (self.0[index].display().to_string(), index.to_string())
    }
}

impl LabelledDataset {
    /// Images in the set, unreadable ones included.
    pub fn len(&self) -> usize {
        match &self.targets {
            Targets::Classes(labels) => labels.len(),
            Targets::MultiLabel(labels) => labels.len(),
            Targets::Captions(captions) => captions.len(),
        }
    }

    /// Whether the set holds no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names that the storage itself gives its classes.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The sentences about a class that the storage itself has.
    pub fn templates(&self) -> Option<&[String]> {
        self.templates.as_deref()
    }

    /// What belongs to each image.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    pub(crate) fn picture(&self, index: usize) -> Result<ImageData, SampleError> {
        self.images.read(index)
    }

    /// The file that holds an image, and its key inside it.
    pub(crate) fn locate(&self, index: usize) -> (String, String) {
        self.images.locate(index)
    }

    /// Mixes in all that says which images these are: their files with sizes and times, and
    /// their keys.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        self.images.fingerprint().hash(hasher);
        let mut last = None;
        for index in 0..self.len() {
            let place = self.images.locate(index);
            if last.as_ref() != Some(&place.0) {
                let found = std::fs::metadata(&place.0).ok();
                let changed = found.as_ref().and_then(|found| found.modified().ok());
                (found.map(|found| found.len()), changed).hash(hasher);
            }
            place.hash(hasher);
            last = Some(place.0);
        }
    }

    /// Reads and transforms images `range` in parallel.
    pub fn batch(
        &self,
        range: Range<usize>,
        transform: &Transform,
        max_pixels: u64,
    ) -> LabelledBatch {
        let len = transform.output_len();
        let mut pixels = vec![0; range.len() * len];
        let pictures = match self.images.read_ahead(range.clone()) {
            Some(pictures) => pictures.into_iter().map(Some).collect(),
            None => range.clone().map(|_| None).collect::<Vec<_>>(),
        };
        let faults: Vec<Option<Skipped>> = (pixels.par_chunks_exact_mut(len))
            .zip(range.clone())
            .zip(pictures)
            .map(|((out, index), picture)| {
                let picture = picture.unwrap_or_else(|| self.images.read(index));
                self.prepare(index, picture, transform, max_pixels, out)
                    .err()
            })
            .collect();
        let mut batch = LabelledBatch {
            pixels,
            indices: Vec::with_capacity(range.len()),
            skipped: Vec::new(),
        };
        // Images move up to fill the gaps of those that could not be read.
        for (from, (index, fault)) in range.zip(faults).enumerate() {
            if let Some(skipped) = fault {
                batch.skipped.push(skipped);
                continue;
            }
            let to = batch.indices.len();
            if to < from {
                let image = from * len..(from + 1) * len;
                batch.pixels.copy_within(image, to * len);
            }
            batch.indices.push(index);
        }
        batch.pixels.truncate(batch.indices.len() * len);
        batch
    }

    fn prepare(
        &self,
        index: usize,
        picture: Result<ImageData, SampleError>,
        transform: &Transform,
        max_pixels: u64,
        out: &mut [u8],
    ) -> Result<(), Skipped> {
        let prepared =
            picture.and_then(|picture| prepare_into(picture, transform, max_pixels, out));
        prepared.map_err(|fault| fault.at(0, self.images.locate(index)))
    }
}

/// Decodes and transforms one image as for evaluation.
/// - max_pixels: a larger image is refused before its pixels are decoded.
/// - returns `[image_size, image_size, 3]`, rows first.
///
/// # Errors
/// If the image is corrupt, of another format, or too large.
pub fn prepare(
    picture: ImageData,
    transform: &Transform,
    max_pixels: u64,
) -> Result<Vec<u8>, SampleError> {
    let mut out = vec![0; transform.output_len()];
    prepare_into(picture, transform, max_pixels, &mut out)?;
    Ok(out)
}

fn prepare_into(
    picture: ImageData,
    transform: &Transform,
    max_pixels: u64,
    out: &mut [u8],
) -> Result<(), SampleError> {
    let image = decode_exact(picture, max_pixels)?;
    // An evaluation's transform draws nothing.
    let mut unused = stream(0, Purpose::Augment, 0, 0);
    transform
        .apply(&image, &mut unused, out)
        .map_err(|error| SampleError::new(SkipCause::CorruptImage, error))
}

/// The lines of a file beside a set, if it is there; empty ones at the end are none.
fn lines_of(path: &Path) -> Result<Option<Vec<String>>, LabelledError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(LabelledError::io(path))?;
    let lines = text.trim_end().lines().map(|line| line.trim().to_string());
    Ok(Some(lines.collect()))
}

/// What the second column of a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    Label,
    Caption,
}

/// The column that is named, and what it holds; one of the two must be.
fn label_or_caption<'a>(
    label_column: Option<&'a String>,
    caption_column: Option<&'a String>,
) -> Result<(&'a str, ColumnKind), String> {
    match (label_column, caption_column) {
        (Some(column), None) => Ok((column, ColumnKind::Label)),
        (None, Some(column)) => Ok((column, ColumnKind::Caption)),
        _ => Err("set either label_column or caption_column".into()),
    }
}

/// The file of a part, or why there is none.
fn part_of<'a, T>(
    part: Split,
    test: &'a T,
    train: Option<&'a T>,
    (path, key): (&Path, &str),
) -> Result<&'a T, LabelledError> {
    match part {
        Split::Test => Ok(test),
        Split::Train => train.ok_or_else(|| {
            let message = format!("a probe needs training images: set {key} in the dataset's file");
            LabelledError::malformed(path, message)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interpolation, ResizeMode};
    use image::RgbImage;
    use std::fs;

    fn class_folder(path: &Path) -> Result<LabelledDataset, LabelledError> {
        let table = LabelledConfig::ClassFolder(LabelledClassFolderConfig::new(path));
        table.open(Split::Test, 2)
    }

    #[test]
    fn sub_folders_are_classes_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (class, file) in [
            ("b", "1.png"),
            ("a", "2.png"),
            ("a", "1.png"),
            ("a", "x.txt"),
        ] {
            fs::create_dir_all(folder.path().join(class)).unwrap();
            let path = folder.path().join(class).join(file);
            RgbImage::from_pixel(4, 4, [50, 60, 70].into())
                .save_with_format(path, image::ImageFormat::Png)
                .unwrap();
        }
        fs::write(folder.path().join("a/3.png"), b"broken").unwrap();
        let set = class_folder(folder.path()).unwrap();
        assert_eq!(set.class_names().unwrap(), ["a", "b"]);
        assert_eq!(*set.targets(), Targets::Classes(vec![0, 0, 0, 1]));
        let batch = set.batch(
            0..set.len(),
            &Transform::eval(2, ResizeMode::Shortest, Interpolation::Bicubic),
            1000,
        );
        assert_eq!(batch.indices, [0, 1, 3]);
        assert_eq!(batch.skipped.len(), 1);
        assert_eq!(batch.pixels.len(), 3 * 12);
        assert!(batch.pixels.chunks(3).all(|pixel| pixel == [50, 60, 70]));
    }

    #[test]
    fn an_empty_folder_says_what_it_should_hold() {
        let folder = tempfile::tempdir().unwrap();
        let error = class_folder(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("no images (jpg, jpeg, png, webp, gif, bmp, tif, tiff)"),
            "{error}"
        );
    }
}
