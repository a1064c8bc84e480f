//! Images for evaluation with their targets, read by index and transformed in batches.

use std::hash::Hasher;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

use crate::decode::decode;
use crate::draw::{Purpose, stream};
use crate::formats::DataError;
use crate::formats::class_names::class_name_of;
use crate::formats::image_files::read_image;
use crate::listing::{DataListing, ListedFile, fingerprint, folders};
use crate::panics::catch_panic;
use crate::sample::{ImageData, SampleError, Skipped};
use crate::transform::Transform;

/// A split of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The images that a model is evaluated on.
    Test,
    /// The images that a probe or a classifier is fitted to.
    Train,
}

/// The targets of a dataset, one per image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// The class number of each image.
    Classes(Vec<usize>),
    /// Whether each image shows each class: `[images][classes]`.
    MultiLabel(Vec<Vec<bool>>),
    /// The captions of each image: at least one, except of images that [`LabelledDataset::of_any_images`] found.
    Captions(Vec<Vec<String>>),
}

/// Images that can be read in any order, from any thread.
pub(crate) trait Images: Send + Sync {
    fn read(&self, index: usize) -> Result<ImageData, SampleError>;

    /// Reads a range of images, where that is cheaper than reading them one by one; else `None`.
    fn read_ahead(&self, _range: Range<usize>) -> Option<Vec<Result<ImageData, SampleError>>> {
        None
    }

    /// The file that holds an image, and the image's key in it.
    fn locate(&self, index: usize) -> (String, String);

    /// Hashes what identifies the images besides their files and keys: their content, or how they are found in the files.
    fn fingerprint(&self, _hasher: &mut dyn Hasher) {}
}

/// Hashes a text with its length.
pub(super) fn hash_text(hasher: &mut dyn Hasher, text: &str) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    hasher.write(text.as_bytes());
}

/// Hashes a file's size and modification time.
pub(super) fn hash_state(hasher: &mut dyn Hasher, file: &Path) {
    let found = std::fs::metadata(file).ok();
    let changed = found.as_ref().and_then(|found| found.modified().ok());
    let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    hasher.write(&found.map_or(u64::MAX, |found| found.len()).to_le_bytes());
    let nanoseconds = since.map_or(u128::MAX, |since| since.as_nanos());
    hasher.write(&nanoseconds.to_le_bytes());
}

/// Images with their targets, in a fixed order.
pub struct LabelledDataset {
    /// The dataset's location, for errors.
    pub(super) path: PathBuf,
    /// The class names that the storage provides.
    pub(super) class_names: Option<Vec<String>>,
    /// The templates that the storage provides.
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

/// A batch of transformed images, without unreadable ones.
#[derive(Debug)]
pub struct LabelledBatch {
    /// `[len, image_size, image_size, 3]`
    pub pixels: Vec<u8>,
    /// The index of each image in the dataset.
    pub indices: Vec<usize>,
    pub skipped: Vec<Skipped>,
}

/// One file per image.
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
    /// The number of images in the dataset, including unreadable ones.
    pub fn len(&self) -> usize {
        match &self.targets {
            Targets::Classes(labels) => labels.len(),
            Targets::MultiLabel(labels) => labels.len(),
            Targets::Captions(captions) => captions.len(),
        }
    }

    /// Whether the dataset holds no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dataset's location, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The class names that the storage provides, in class order.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The prompt templates that the storage provides.
    pub fn templates(&self) -> Option<&[String]> {
        self.templates.as_deref()
    }

    /// The target of each image.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Reads an image, as it is stored.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        self.images.read(index)
    }

    /// The file that holds an image, and the image's key in it.
    pub fn locate(&self, index: usize) -> (String, String) {
        self.images.locate(index)
    }

    /// Hashes everything that identifies the images: their files with sizes and modification times, and
    /// their keys. The hashed bytes are the same on every platform.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        self.images.fingerprint(hasher);
        let mut last = None;
        for index in 0..self.len() {
            let (file, key) = self.images.locate(index);
            if last.as_ref() != Some(&file) {
                hash_state(hasher, Path::new(&file));
            }
            hash_text(hasher, &file);
            hash_text(hasher, &key);
            last = Some(file);
        }
    }

    /// The folders of the images' files, with what tells a change of them: names, sizes and targets.
    pub fn listing(&self) -> DataListing {
        DataListing::new(self.files())
    }

    /// As [`Self::listing`], named by their whole paths.
    pub(crate) fn files(&self) -> Vec<ListedFile> {
        let mut files: Vec<PathBuf> = Vec::new();
        let located = (0..self.len()).map(|index| {
            let (file, key) = self.images.locate(index);
            if files.last().is_none_or(|last| *last != Path::new(&file)) {
                files.push(file.into());
            }
            (files.len() - 1, key)
        });
        let located: Vec<(usize, String)> = located.collect();
        let sizes = files.par_iter().map(|file| std::fs::metadata(file).ok());
        let sizes: Vec<u64> = sizes
            .map(|found| found.map_or(u64::MAX, |found| found.len()))
            .collect();
        let images = located.into_iter().enumerate().map(|(index, (at, key))| {
            let mut digest = fingerprint();
            let name = files[at].file_name().unwrap_or_default();
            digest.write_text(&name.to_string_lossy());
            digest.write_u64(sizes[at]);
            digest.write_text(&key);
            match &self.targets {
                Targets::Classes(labels) => digest.write_usize(labels[index]),
                Targets::MultiLabel(labels) => {
                    labels[index]
                        .iter()
                        .for_each(|label| digest.write_u8((*label).into()));
                }
                Targets::Captions(captions) => {
                    captions[index]
                        .iter()
                        .for_each(|caption| digest.write_text(caption));
                }
            }
            let folder = files[at].parent().unwrap_or(Path::new(""));
            (folder.to_path_buf(), digest.finish())
        });
        folders(images)
    }

    /// Reads and transforms the images of `range` in parallel.
    /// - max_pixels: larger images are skipped.
    pub fn batch(
        &self,
        range: Range<usize>,
        transform: &Transform,
        max_pixels: u64,
    ) -> LabelledBatch {
        let len = transform.output_len();
        let mut pixels = vec![0; range.len() * len];
        // A reader that panics is asked for one image after the other.
        let ahead = catch_panic(|| Ok(self.images.read_ahead(range.clone())));
        let images = match ahead.ok().flatten() {
            Some(images) => images.into_iter().map(Some).collect(),
            None => range.clone().map(|_| None).collect::<Vec<_>>(),
        };
        let failures: Vec<Option<Skipped>> = (pixels.par_chunks_exact_mut(len))
            .zip(range.clone())
            .zip(images)
            .map(|((out, index), image)| {
                let image = image.unwrap_or_else(|| catch_panic(|| self.images.read(index)));
                self.prepare(index, image, transform, max_pixels, out).err()
            })
            .collect();
        let mut batch = LabelledBatch {
            pixels,
            indices: Vec::with_capacity(range.len()),
            skipped: Vec::new(),
        };
        // Close the gaps that unreadable images leave.
        for (from, (index, failure)) in range.zip(failures).enumerate() {
            if let Some(skipped) = failure {
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
        image: Result<ImageData, SampleError>,
        transform: &Transform,
        max_pixels: u64,
        out: &mut [u8],
    ) -> Result<(), Skipped> {
        let prepared = image.and_then(|image| prepare_into(image, transform, max_pixels, out));
        prepared.map_err(|error| error.at(0, self.images.locate(index)))
    }
}

/// Decodes and transforms one image as for evaluation.
/// - max_pixels: larger images are rejected before their pixels are decoded.
/// - returns `[image_size, image_size, 3]`, row-major.
///
/// # Errors
/// If the image is corrupt, too large, or in an unsupported format.
pub fn prepare(
    image: ImageData,
    transform: &Transform,
    max_pixels: u64,
) -> Result<Vec<u8>, SampleError> {
    let mut out = vec![0; transform.output_len()];
    prepare_into(image, transform, max_pixels, &mut out)?;
    Ok(out)
}

fn prepare_into(
    image: ImageData,
    transform: &Transform,
    max_pixels: u64,
    out: &mut [u8],
) -> Result<(), SampleError> {
    let image = decode(image, max_pixels)?;
    // The evaluation transform makes no random draws.
    let mut unused = stream(0, Purpose::Augment, 0, 0);
    transform.apply(&image, &mut unused, out);
    Ok(())
}

/// What a table's column next to the images holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Label,
    Caption,
}

/// The column that the config names with its config key, and what it holds.
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

/// The files of a split, or an error if the config does not name them.
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

/// The class numbers of labels, which are numbers or else names, sorted alphabetically.
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
