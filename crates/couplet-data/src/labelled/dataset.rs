//! Images for evaluation with their targets, read by index and transformed in batches.

use std::hash::Hasher;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

use crate::decode::decode_exact;
use crate::draw::{Purpose, stream};
use crate::formats::DataError;
use crate::formats::class_names::class_name_of;
use crate::formats::image_files::read_image;
use crate::sample::{ImageData, SampleError, SkipCause, Skipped};
use crate::transform::Transform;

/// Which images of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Those that a model is evaluated on.
    Test,
    /// Those that a probe or a classifier is fitted to.
    Train,
}

/// The targets of a dataset, one per image.
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
pub(crate) trait Images: Send + Sync {
    fn read(&self, index: usize) -> Result<ImageData, SampleError>;

    /// Images that are cheaper to read together than one by one.
    fn read_ahead(&self, _range: Range<usize>) -> Option<Vec<Result<ImageData, SampleError>>> {
        None
    }

    /// The file that holds an image, and its key inside it.
    fn locate(&self, index: usize) -> (String, String);

    /// Feeds the content of the images, where their files do not identify it.
    fn fingerprint(&self, _hasher: &mut dyn Hasher) {}
}

/// Images with their targets, in a fixed order.
pub struct LabelledDataset {
    /// Where it is, for errors.
    pub(super) path: PathBuf,
    /// The names that the storage itself has for the classes.
    pub(super) class_names: Option<Vec<String>>,
    /// The templates that the storage itself has.
    pub(super) templates: Option<Vec<String>>,
    pub(super) images: Box<dyn Images>,
    pub(super) targets: Targets,
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

/// One image file each.
pub(super) struct Files(pub Vec<PathBuf>);

impl Images for Files {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        read_image(&self.0[index]).map(ImageData::Encoded)
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

    pub(crate) fn image(&self, index: usize) -> Result<ImageData, SampleError> {
        self.images.read(index)
    }

    /// The file that holds an image, and its key inside it.
    pub(crate) fn locate(&self, index: usize) -> (String, String) {
        self.images.locate(index)
    }

    /// Feeds everything that identifies the images: their files with sizes and times, and their
    /// keys. The bytes are the same on every platform.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        self.images.fingerprint(hasher);
        let mut last = None;
        for index in 0..self.len() {
            let (file, key) = self.images.locate(index);
            if last.as_ref() != Some(&file) {
                let found = std::fs::metadata(&file).ok();
                let changed = found.as_ref().and_then(|found| found.modified().ok());
                let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                hasher.write(&found.map_or(u64::MAX, |found| found.len()).to_le_bytes());
                hasher.write(
                    &since
                        .map_or(u128::MAX, |since| since.as_nanos())
                        .to_le_bytes(),
                );
            }
            for text in [&file, &key] {
                hasher.write(&(text.len() as u64).to_le_bytes());
                hasher.write(text.as_bytes());
            }
            last = Some(file);
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

/// Which of a table's other columns is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Label,
    Caption,
}

/// The column that the config names, its config key, and what it holds.
pub(super) fn label_or_caption<'a>(
    label_column: Option<&'a String>,
    caption_column: Option<&'a String>,
) -> Result<((&'a str, &'static str), ColumnKind), DataError> {
    match (label_column, caption_column) {
        (Some(column), None) => Ok(((column, "label_column"), ColumnKind::Label)),
        (None, Some(column)) => Ok(((column, "caption_column"), ColumnKind::Caption)),
        _ => Err(DataError::key(
            "label_column",
            "set either label_column or caption_column",
        )),
    }
}

/// The files of a split, or why there are none.
/// - key: the config key of the training files.
pub(super) fn split_path<'a, T>(
    split: Split,
    test: &'a T,
    train: Option<&'a T>,
    key: &'static str,
) -> Result<&'a T, DataError> {
    match split {
        Split::Test => Ok(test),
        Split::Train => train.ok_or_else(|| {
            let message = format!("no training images: set {key} in the dataset's file");
            DataError::key(key, message)
        }),
    }
}

/// Class numbers of labels that are numbers, or else names, which count in alphabetical order.
/// - returns the names of the classes, where labels are names.
pub(super) fn class_numbers(labels: &[String]) -> (Vec<usize>, Option<Vec<String>>) {
    let numbers: Option<Vec<usize>> = labels.iter().map(|label| label.parse().ok()).collect();
    if let Some(numbers) = numbers {
        return (numbers, None);
    }
    let mut names = labels.to_vec();
    names.sort();
    names.dedup();
    let number = |label: &String| names.binary_search(label).expect("every label is a name");
    (
        labels.iter().map(number).collect(),
        Some(names.iter().map(|name| class_name_of(name)).collect()),
    )
}
