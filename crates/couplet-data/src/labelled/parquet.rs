//! Parquet files with images and labels or captions.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Images, LabelledDataset, Split, label_or_caption, split_path};
use crate::formats::{DataError, Patterns};

/// `source = "parquet"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledParquetConfig {
    /// The files of the test images.
    pub files: Patterns,
    /// The files of the training images, for probes and `[classify]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_files: Option<Patterns>,
    /// Column of images: image bytes, paths, or Hugging Face's `{bytes, path}`.
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Column of class numbers, counted from 0, or of class names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Column of captions: texts, or lists of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_column: Option<String>,
    /// Folder that relative image paths start from. By default the file's own folder, or the working
    /// directory for an image that is not found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

fn default_image_column() -> String {
    "image".into()
}

impl LabelledParquetConfig {
    /// Files with these columns.
    pub(super) fn new(
        files: Patterns,
        image_column: String,
        label_column: Option<String>,
        caption_column: Option<String>,
    ) -> Self {
        Self {
            files,
            train_files: None,
            image_column,
            label_column,
            caption_column,
            root: None,
        }
    }

    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let files = split_path(split, &self.files, self.train_files.as_ref(), "train_files")?;
        let (column, kind) =
            label_or_caption(self.label_column.as_ref(), self.caption_column.as_ref())?;
        if let Some((key, message)) = files.problems("files").into_iter().next() {
            return Err(DataError::key(key, message));
        }
        #[cfg(feature = "parquet")]
        return rows::open(self, files, column, kind);
        #[cfg(not(feature = "parquet"))]
        {
            let _ = (column, kind);
            Err(crate::formats::patterns::without_parquet())
        }
    }
}

/// Images with the captions of each, which may be none.
type Found = (Box<dyn Images>, Vec<Vec<String>>);

/// The column of images that is known by its name, with that of captions, if there is one.
#[cfg(feature = "parquet")]
pub(super) fn any_parquet(files: &Patterns, first: &Path) -> Result<Found, DataError> {
    rows::any(files, first)
}

#[cfg(not(feature = "parquet"))]
pub(super) fn any_parquet(_files: &Patterns, _first: &Path) -> Result<Found, DataError> {
    Err(crate::formats::patterns::without_parquet())
}

#[cfg(feature = "parquet")]
mod rows {
    use std::hash::Hasher;
    use std::ops::Range;
    use std::path::Path;

    use super::super::dataset::{
        ColumnKind, Images, LabelledDataset, Targets, class_numbers, hash_state, hash_text,
    };
    use super::LabelledParquetConfig;
    use crate::formats::class_names::class_name_of;
    use crate::formats::column_names::{CAPTION_NAMES, IMAGE_NAMES};
    use crate::formats::parquet::columns::Column;
    use crate::formats::parquet::file::{ParquetColumns, ParquetFiles};
    use crate::formats::parquet::kinds::columns_of;
    use crate::formats::table_layout::is_known;
    use crate::formats::{DataError, Patterns};
    use crate::sample::{ImageData, SampleError};

    pub(super) fn open(
        config: &LabelledParquetConfig,
        files: &Patterns,
        column: (&str, &'static str),
        kind: ColumnKind,
    ) -> Result<LabelledDataset, DataError> {
        let columns = ParquetColumns {
            image: (&config.image_column, "image_column"),
            value: column,
            root: config.root.as_deref(),
        };
        let paths = files
            .paths()
            .map_err(|error| DataError::key("files", error))?;
        let files = ParquetFiles::open(paths, columns)?;
        let (name, key) = column;
        let fail = |message: String| Err(DataError::key(key, message));
        let (targets, class_names) = match (files.column()?, kind) {
            (Column::Numbers(numbers), ColumnKind::Label) => {
                let names = files.class_names(name);
                let names =
                    names.map(|names| names.iter().map(|name| class_name_of(name)).collect());
                (Targets::Classes(numbers), names)
            }
            (Column::Texts(texts), ColumnKind::Label) => {
                let mut names = Vec::new();
                for (row, mut texts) in texts.into_iter().enumerate() {
                    match (texts.pop(), texts.is_empty()) {
                        (Some(name), true) => names.push(name),
                        _ => return fail(format!("row {row} of all files: expected one label")),
                    }
                }
                let (numbers, names) = class_numbers(&names);
                (Targets::Classes(numbers), names)
            }
            (Column::Texts(texts), ColumnKind::Caption) => {
                if let Some(row) = texts.iter().position(Vec::is_empty) {
                    return fail(format!("row {row} of all files: no caption"));
                }
                (Targets::Captions(texts), None)
            }
            (Column::Numbers(_), ColumnKind::Caption) => {
                return fail(format!("the column `{name}` holds numbers, not captions"));
            }
        };
        Ok(LabelledDataset {
            path: files.find(0).path.clone(),
            class_names,
            templates: None,
            images: Box::new(files),
            targets,
        })
    }

    pub(super) fn any(files: &Patterns, first: &Path) -> Result<super::Found, DataError> {
        let all: Vec<String> = (columns_of(first)?.into_iter())
            .map(|column| column.name)
            .collect();
        let named = |known: &[&str]| all.iter().find(|name| is_known(name, known));
        let image = named(&IMAGE_NAMES).ok_or_else(|| {
            let message = format!(
                "its columns are `{}`; none is known for images ({})",
                all.join("`, `"),
                IMAGE_NAMES.join(", ")
            );
            DataError::invalid(first, message)
        })?;
        let caption = named(&CAPTION_NAMES).filter(|caption| *caption != image);
        let paths = files
            .paths()
            .map_err(|error| DataError::key("files", error))?;
        let columns = ParquetColumns {
            image: (image, "image_column"),
            value: caption.map_or((image, "image_column"), |caption| {
                (caption, "caption_column")
            }),
            root: None,
        };
        let files = ParquetFiles::open(paths, columns)?;
        // An image without a caption is an image all the same.
        let captions = match caption.map(|_| files.column()) {
            Some(Ok(Column::Texts(texts))) => texts,
            _ => vec![Vec::new(); files.len()],
        };
        Ok((Box::new(files), captions))
    }

    impl Images for ParquetFiles {
        fn read(&self, index: usize) -> Result<ImageData, SampleError> {
            let file = self.find(index);
            file.image(&file.row(index)?, 0).map(ImageData::Encoded)
        }

        /// Reads consecutive rows, decoding each page once.
        fn read_ahead(&self, range: Range<usize>) -> Option<Vec<Result<ImageData, SampleError>>> {
            let mut images = Vec::with_capacity(range.len());
            let mut next = range.start;
            while next < range.end {
                let file = self.find(next);
                let (group, skip) = file.place(next);
                let rows = (range.end - next).min(file.rows_of(group) - skip);
                let before = images.len();
                let batches = file.read(group, skip, rows).into_iter().flatten();
                for batch in batches.map_while(Result::ok) {
                    let image = |row| file.image(&batch, row).map(ImageData::Encoded);
                    images.extend((0..batch.num_rows()).map(image));
                }
                // Rows missing from the batch are read one by one, which reports the errors.
                let missing = next + images.len() - before..next + rows;
                images.extend(missing.map(|index| self.read(index)));
                next += rows;
            }
            Some(images)
        }

        fn locate(&self, index: usize) -> (String, String) {
            ParquetFiles::locate(self, index)
        }

        fn fingerprint(&self, hasher: &mut dyn Hasher) {
            for file in &self.0 {
                hash_text(hasher, &file.image_column);
                hash_text(hasher, &file.image_folder().to_string_lossy());
                for image in file.image_files() {
                    hash_text(hasher, &image.to_string_lossy());
                    hash_state(hasher, &image);
                }
            }
        }
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use super::super::dataset::Targets;
    use super::*;
    use crate::sample::ImageData;

    fn table(name: &str, label: Option<&str>, caption: Option<&str>) -> LabelledParquetConfig {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        LabelledParquetConfig {
            files: Patterns::One(format!("{folder}{name}.parquet")),
            train_files: None,
            image_column: "image".into(),
            label_column: label.map(str::to_string),
            caption_column: caption.map(str::to_string),
            root: None,
        }
    }

    /// The fixture is written by `tests/fixtures/make_parquet.py`, with Hugging Face's metadata.
    #[test]
    fn labels_are_numbers_or_names() {
        let wanted = Targets::Classes(vec![0, 1, 2, 0, 1, 2, 0]);
        for column in ["label", "name"] {
            let dataset = table("labels", Some(column), None)
                .open(Split::Test)
                .unwrap();
            assert_eq!(*dataset.targets(), wanted);
            assert_eq!(dataset.class_names().unwrap(), ["cat", "dog", "owl"]);
        }
        let dataset = table("labels", Some("label"), None)
            .open(Split::Test)
            .unwrap();
        let together = dataset.images.read_ahead(2..7).unwrap();
        for (index, image) in (2..7).zip(together) {
            for image in [image, dataset.images.read(index)] {
                let Ok(ImageData::Encoded(bytes)) = image else {
                    unreachable!("the table holds bytes");
                };
                assert_eq!(bytes, format!("image {index}").into_bytes());
            }
        }
    }

    #[test]
    fn images_are_found_with_the_captions_that_there_are() {
        let find = |name: &str| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
            let path = std::path::PathBuf::from(format!("{path}{name}.parquet"));
            LabelledDataset::of_any_images(&[path]).unwrap()
        };
        let bytes = |dataset: &LabelledDataset, index: usize| match dataset.read(index) {
            Ok(ImageData::Encoded(bytes)) => String::from_utf8(bytes).unwrap(),
            _ => unreachable!("the table holds bytes"),
        };
        // Without a column of captions.
        let labels = find("labels");
        assert_eq!((labels.len(), bytes(&labels, 3)), (7, "image 3".into()));
        assert_eq!(*labels.targets(), Targets::Captions(vec![Vec::new(); 7]));
    }

    /// Features that are kept for one column, folder or state of the files are not those of another.
    #[test]
    fn images_are_identified_by_their_column_and_the_files_it_names() {
        use std::hash::{DefaultHasher, Hasher};

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/labels.parquet");
        std::fs::copy(fixture, path("a.parquet")).unwrap();
        let fingerprint = |column: &str, root: Option<&str>| {
            let config = LabelledParquetConfig {
                files: Patterns::One(path("a.parquet").display().to_string()),
                image_column: column.into(),
                root: root.map(path),
                ..table("labels", Some("label"), None)
            };
            let mut hasher = DefaultHasher::new();
            config.open(Split::Test).unwrap().fingerprint(&mut hasher);
            hasher.finish()
        };
        let bytes = fingerprint("image", None);
        assert_eq!(bytes, fingerprint("image", None));
        let paths = fingerprint("name", None);
        assert_ne!(bytes, paths);
        assert_ne!(paths, fingerprint("name", Some("other")));
        std::fs::write(path("owl"), b"an image").unwrap();
        let with_owl = fingerprint("name", None);
        assert_ne!(paths, with_owl);
        std::fs::write(path("owl"), b"another image").unwrap();
        assert_ne!(with_owl, fingerprint("name", None));
    }

    #[test]
    fn a_list_is_an_images_captions() {
        let dataset = table("hugging_face", None, Some("captions"))
            .open(Split::Test)
            .unwrap();
        let Targets::Captions(captions) = dataset.targets() else {
            unreachable!("the config names a caption column");
        };
        assert_eq!(captions[1], ["first 1", "second 1"]);
        let error = table("labels", None, Some("label"))
            .open(Split::Test)
            .unwrap_err();
        assert!(error.to_string().contains("holds numbers"), "{error}");
        let error = table("labels", Some("label"), None)
            .open(Split::Train)
            .unwrap_err();
        assert!(error.to_string().contains("set train_files"), "{error}");
    }
}
