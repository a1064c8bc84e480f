//! Labelled images for evaluation.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::decode::{IMAGE_EXTENSIONS, is_image_name};
use crate::draw::{Purpose, stream};
use crate::sample::{Fault, Picture, SkipCause, Skipped};
use crate::shapes::{Classes, LabelledShapes, Split};
use crate::{Transform, decode_exact};

/// Where labelled images lie: the source's part of a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum LabelledTable {
    /// Pictures of coloured shapes, drawn by Couplet itself.
    Shapes(LabelledShapesTable),
    /// A folder with one sub-folder a class.
    ClassFolder(ClassFolderTable),
}

/// `source = "shapes"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledShapesTable {
    pub split: Split,
    pub classes: Classes,
    pub samples: usize,
}

/// `source = "class-folder"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassFolderTable {
    /// Sub-folders are classes, in the order of their names.
    pub path: PathBuf,
}

/// Why a labelled set could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LabelledError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
}

/// Images with their class, in a fixed order.
#[derive(Debug)]
pub struct LabelledSet {
    class_names: Vec<String>,
    images: Images,
}

#[derive(Debug)]
enum Images {
    Shapes(LabelledShapes),
    Files(Vec<(PathBuf, usize)>),
}

/// A batch of transformed images; unreadable ones are left out.
#[derive(Debug)]
pub struct LabelledBatch {
    /// `[len, image_size, image_size, 3]`
    pub pixels: Vec<u8>,
    pub labels: Vec<usize>,
    pub skipped: Vec<Skipped>,
}

impl LabelledSet {
    /// Opens a set; images are read later.
    /// - image_size: side of the pictures that are drawn, in pixels.
    ///
    /// # Errors
    /// If the folder is missing or holds no images in sub-folders.
    pub fn open(table: &LabelledTable, image_size: u32) -> Result<Self, LabelledError> {
        match table {
            LabelledTable::Shapes(table) => {
                let shapes = LabelledShapes {
                    split: table.split,
                    classes: table.classes,
                    samples: table.samples,
                    image_size,
                };
                Ok(Self {
                    class_names: shapes.class_names(),
                    images: Images::Shapes(shapes),
                })
            }
            LabelledTable::ClassFolder(table) => Self::open_folder(&table.path),
        }
    }

    fn open_folder(path: &Path) -> Result<Self, LabelledError> {
        let (class_names, files) = Self::class_files(path)?;
        Ok(Self {
            class_names,
            images: Images::Files(files),
        })
    }

    /// The names of a folder's sub-folders, and their images with the sub-folder's number.
    #[expect(clippy::type_complexity, reason = "two lists")]
    pub(crate) fn class_files(
        path: &Path,
    ) -> Result<(Vec<String>, Vec<(PathBuf, usize)>), LabelledError> {
        if !path.is_dir() {
            return Err(LabelledError::Malformed {
                path: path.to_path_buf(),
                message: "not a folder; it should hold one sub-folder of images a class".into(),
            });
        }
        let mut class_names = Vec::new();
        let mut files = Vec::new();
        for folder in sorted(path)?.into_iter().filter(|entry| entry.is_dir()) {
            let label = class_names.len();
            class_names.push(name_of(&folder));
            files.extend(
                sorted(&folder)?
                    .into_iter()
                    .filter(|file| is_image_name(file))
                    .map(|file| (file, label)),
            );
        }
        if files.is_empty() {
            return Err(LabelledError::Malformed {
                path: path.to_path_buf(),
                message: format!(
                    "no images ({}) in its {} sub-folders",
                    IMAGE_EXTENSIONS.join(", "),
                    class_names.len()
                ),
            });
        }
        Ok((class_names, files))
    }

    /// Images in the set, unreadable ones included.
    pub fn len(&self) -> usize {
        match &self.images {
            Images::Shapes(shapes) => shapes.samples,
            Images::Files(files) => files.len(),
        }
    }

    /// Whether the set holds no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names that the storage itself gives its classes.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Reads and transforms images `range` in parallel.
    pub fn batch(
        &self,
        range: std::ops::Range<usize>,
        transform: &Transform,
        max_pixels: u64,
    ) -> LabelledBatch {
        let images: Vec<_> = range
            .into_par_iter()
            .map(|index| self.read(index, transform, max_pixels))
            .collect();
        let mut batch = LabelledBatch {
            pixels: Vec::with_capacity(images.len() * transform.output_len()),
            labels: Vec::with_capacity(images.len()),
            skipped: Vec::new(),
        };
        for image in images {
            match image {
                Ok((pixels, label)) => {
                    batch.pixels.extend_from_slice(&pixels);
                    batch.labels.push(label);
                }
                Err(skipped) => batch.skipped.push(skipped),
            }
        }
        batch
    }

    fn read(
        &self,
        index: usize,
        transform: &Transform,
        max_pixels: u64,
    ) -> Result<(Vec<u8>, usize), Skipped> {
        let (picture, label) = match &self.images {
            Images::Shapes(shapes) => {
                let (picture, label) = shapes.read(index);
                (Ok(picture), label)
            }
            Images::Files(files) => {
                let (path, label) = &files[index];
                let picture = fs::read(path)
                    .map(Picture::Encoded)
                    .map_err(|error| Fault::new(SkipCause::Unreadable, error));
                (picture, *label)
            }
        };
        let pixels = picture
            .and_then(|picture| prepare(picture, transform, max_pixels))
            .map_err(|fault| Skipped {
                epoch: 0,
                shard: match &self.images {
                    Images::Shapes(_) => "shapes".into(),
                    Images::Files(files) => files[index].0.display().to_string(),
                },
                key: index.to_string(),
                cause: fault.cause,
                detail: fault.detail,
            })?;
        Ok((pixels, label))
    }
}

/// Decodes and transforms one image as for evaluation.
/// - max_pixels: a larger image is refused before its pixels are decoded.
/// - returns `[image_size, image_size, 3]`, rows first.
///
/// # Errors
/// If the image is corrupt, of another format, or too large.
pub fn prepare(picture: Picture, transform: &Transform, max_pixels: u64) -> Result<Vec<u8>, Fault> {
    let image = decode_exact(picture, max_pixels)?;
    let mut out = vec![0; transform.output_len()];
    // An evaluation's transform draws nothing.
    let mut unused = stream(0, Purpose::Augment, 0, 0);
    transform
        .apply(&image, &mut unused, &mut out)
        .map_err(|error| Fault::new(SkipCause::CorruptImage, error))?;
    Ok(out)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, LabelledError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        Ok(paths)
    };
    list().map_err(|source| LabelledError::Io {
        path: folder.to_path_buf(),
        source,
    })
}

fn name_of(folder: &Path) -> String {
    folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Filter, Fit};
    use image::RgbImage;

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
        let table = LabelledTable::ClassFolder(ClassFolderTable {
            path: folder.path().into(),
        });
        let set = LabelledSet::open(&table, 2).unwrap();
        assert_eq!(set.class_names(), ["a", "b"]);
        let batch = set.batch(
            0..set.len(),
            &Transform::eval(2, Fit::Crop, Filter::Bicubic),
            1000,
        );
        assert_eq!(batch.labels, [0, 0, 1]);
        assert_eq!(batch.skipped.len(), 1);
        assert_eq!(batch.pixels.len(), 3 * 12);
        assert_eq!(batch.pixels[..3], [50, 60, 70]);
    }

    #[test]
    fn an_empty_folder_says_what_it_should_hold() {
        let folder = tempfile::tempdir().unwrap();
        let table = LabelledTable::ClassFolder(ClassFolderTable {
            path: folder.path().into(),
        });
        let error = LabelledSet::open(&table, 2).unwrap_err().to_string();
        assert!(
            error.contains("no images (jpg, jpeg, png, webp, gif, bmp, tif, tiff)"),
            "{error}"
        );
    }
}
