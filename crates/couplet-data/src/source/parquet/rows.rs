//! Rows of Parquet files, read by index.

use std::path::PathBuf;

use arrow_array::{Array, RecordBatch};
use rayon::prelude::*;

use super::super::captions::CaptionRule;
use super::super::dataset::MapDataset;
use crate::formats::DataError;
use crate::formats::parquet::file::{ParquetColumns, ParquetFile, ParquetFiles};
use crate::formats::parquet::values::{is_text_column, texts_of};
use crate::listing::{ListedFile, fingerprint};
use crate::sample::{ImageData, Sample, SampleError, SkipCause};

/// The rows of several files, counted from their footers.
pub(super) struct ParquetPairs {
    pub files: ParquetFiles,
    captions: CaptionRule,
}

impl ParquetPairs {
    /// - seed: seed of choosing among several captions.
    pub fn open(
        paths: Vec<PathBuf>,
        columns: ParquetColumns,
        seed: u64,
    ) -> Result<Self, DataError> {
        let files = ParquetFiles::open(paths, columns)?;
        let is_wrong = |file: &&ParquetFile| !is_text_column(&file.value_type);
        if let Some(wrong) = files.0.iter().find(is_wrong) {
            let (name, key) = columns.value;
            let message = format!(
                "the column `{name}` holds {}, neither text nor lists of texts; set {key}",
                wrong.value_type
            );
            return Err(DataError::invalid(&wrong.path, message));
        }
        Ok(Self {
            files,
            captions: CaptionRule {
                seed,
                ..CaptionRule::default()
            },
        })
    }

    /// The sample in a row.
    /// - batch: rows of the two columns; at: the row's index in it.
    /// - index: the row's index among the rows of all files.
    pub fn sample(
        &self,
        file: &ParquetFile,
        (batch, at): (&RecordBatch, usize),
        index: usize,
        epoch: u64,
    ) -> Result<Sample, SampleError> {
        let image = file.image(batch, at)?;
        let caption = file.value(batch, at)?;
        let invalid = |message| SampleError::new(SkipCause::InvalidCaption, message);
        let texts = texts_of(&caption, 0).map_err(invalid)?;
        if caption.is_null(0) {
            return Err(SampleError::new(
                SkipCause::MissingCaption,
                "the caption is null",
            ));
        }
        let caption = self.captions.one_of(texts, index as u64, epoch)?;
        Ok(Sample {
            label: None,
            image: ImageData::Encoded(image),
            caption,
        })
    }
}

impl MapDataset for ParquetPairs {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let file = self.files.find(index);
        self.sample(file, (&file.row(index)?, 0), index, epoch)
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        self.files.locate(index)
    }

    fn listing(&self) -> Vec<ListedFile> {
        let files = self.files.0.par_iter();
        files
            .map(|file| {
                let mut digest = fingerprint();
                let hashed = file.hash_value_pages(&mut digest);
                let digest = hashed.is_ok().then_some(digest);
                ListedFile::of_file(&file.path, Some(file.rows), digest)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ParquetConfig;
    use super::*;
    use crate::formats::Patterns;
    use crate::source::PairDataset;

    fn fixture(name: &str) -> String {
        format!(
            "{}/tests/fixtures/{name}.parquet",
            env!("CARGO_MANIFEST_DIR")
        )
    }

    fn table(name: &str, image: &str, caption: &str) -> ParquetConfig {
        ParquetConfig {
            files: Patterns::One(fixture(name)),
            image_column: image.into(),
            caption_column: caption.into(),
            root: None,
            stream: Some(false),
            shuffle_buffer: 8,
        }
    }

    fn open(name: &str, caption: &str) -> ParquetPairs {
        let table = table(name, "image", caption);
        assert_eq!(table.problems(), []);
        table.rows(0).unwrap()
    }

    fn bytes(sample: Sample) -> Vec<u8> {
        match sample.image {
            ImageData::Encoded(bytes) => bytes,
            ImageData::Pixels(_) => unreachable!("the tables hold encoded images"),
        }
    }

    /// The fixture is written by `tests/fixtures/make_parquet.py`: 50 rows in groups of 20,
    /// with small pages.
    #[test]
    fn every_row_is_found_in_its_page() {
        let source = open("bytes", "caption");
        assert_eq!(source.len(), 50);
        for index in (0..50).rev() {
            if index == 13 {
                let error = source.read(index, 0).unwrap_err();
                assert_eq!(error.cause, SkipCause::MissingCaption);
                continue;
            }
            let sample = source.read(index, 0).unwrap();
            assert_eq!(sample.caption, format!("caption {index}"));
            let wanted = format!("image {index} ").repeat(40);
            assert_eq!(bytes(sample), wanted.into_bytes());
        }
        assert_eq!(source.locate(31, 0).1, "row 31");
    }

    #[test]
    fn hugging_faces_images_and_lists_of_captions_are_read() {
        let source = open("hugging_face", "captions");
        let drawn: std::collections::BTreeSet<String> = (0..40)
            .map(|epoch| source.read(2, epoch).unwrap().caption)
            .collect();
        assert_eq!(
            drawn.into_iter().collect::<Vec<_>>(),
            ["first 2", "second 2"]
        );
        assert_eq!(bytes(source.read(2, 0).unwrap()), b"image 2");
        // Row 3 has a path to a missing file instead of bytes.
        assert_eq!(
            source.read(3, 0).unwrap_err().cause,
            SkipCause::MissingImage
        );
    }

    #[test]
    fn unusable_columns_are_rejected_by_name() {
        let error = |image, caption| {
            let table = table("bytes", image, caption);
            table.open(0).err().unwrap().to_string()
        };
        let missing = error("jpg", "caption");
        assert!(
            missing.contains("no column `jpg` among `image`, `caption`"),
            "{missing}"
        );
        let wrong = error("image", "image");
        assert!(wrong.contains("both image_column and"), "{wrong}");
        let wrong = error("image", "width");
        assert!(wrong.contains("`width` holds Int64"), "{wrong}");
    }

    #[test]
    fn a_stream_has_every_row_and_resumes_from_any() {
        let table = ParquetConfig {
            stream: Some(true),
            ..table("bytes", "image", "caption")
        };
        let PairDataset::Stream(shards) = table.open(0).unwrap() else {
            unreachable!("the config asks for a stream");
        };
        assert_eq!((shards.len(), shards.samples()), (3, Some(50)));
        let read = |shard, from| {
            let mut keys = Vec::new();
            shards.read(shard, from, 0, &mut |sample| {
                assert_eq!(sample.sample.is_err(), sample.key == "row 13");
                keys.push((sample.key, sample.next));
                true
            });
            keys
        };
        let all: Vec<_> = (0..3).flat_map(|shard| read(shard, 0)).collect();
        let rows: Vec<String> = (0..50).map(|row| format!("row {row}")).collect();
        assert_eq!(
            all.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            rows.iter().collect::<Vec<_>>()
        );
        assert_eq!(read(1, 17), all[37..40]);
        assert!(read(2, 10).is_empty());
    }
}
