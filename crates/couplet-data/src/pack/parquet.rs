//! Writes Parquet files with an image and a caption in each row.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::output::{PackError, Pair, at, publish, unfinished};
use crate::error::LastCause;

/// Rows per row group, as Hugging Face writes images: few enough that one row can be read without
/// decoding many others.
const GROUP: usize = 100;

/// `000000.parquet` and so on.
pub(super) struct Tables {
    folder: PathBuf,
    rows_per_file: usize,
    files: usize,
    /// Rows of the open file, including those of `group`.
    rows: usize,
    group: Vec<(Vec<u8>, String)>,
    open: Option<(PathBuf, ArrowWriter<File>)>,
}

impl Tables {
    pub fn new(folder: PathBuf, rows_per_file: usize) -> Self {
        Self {
            folder,
            rows_per_file: rows_per_file.max(1),
            files: 0,
            rows: 0,
            group: Vec::new(),
            open: None,
        }
    }

    pub fn write(&mut self, pair: &Pair) -> Result<(), PackError> {
        self.group.push((pair.bytes.clone(), pair.caption.clone()));
        self.rows += 1;
        let is_full = self.rows == self.rows_per_file;
        if is_full || self.group.len() == GROUP {
            self.write_group()?;
        }
        if is_full { self.finish_file() } else { Ok(()) }
    }

    /// - returns the number of files written.
    pub fn finish(mut self) -> Result<usize, PackError> {
        if !self.group.is_empty() {
            self.write_group()?;
        }
        self.finish_file()?;
        Ok(self.files)
    }

    fn write_group(&mut self) -> Result<(), PackError> {
        let rows = std::mem::take(&mut self.group);
        let images = BinaryArray::from_iter_values(rows.iter().map(|(image, _)| image));
        let captions = StringArray::from_iter_values(rows.iter().map(|(_, caption)| caption));
        let columns: [(&str, ArrayRef); 2] =
            [("image", Arc::new(images)), ("caption", Arc::new(captions))];
        let batch = RecordBatch::try_from_iter(columns).expect("two columns of one length");
        let path = unfinished(&self.folder, &self.name());
        let failed =
            |error: parquet::errors::ParquetError| at(&path)(io::Error::other(LastCause(error)));
        if self.open.is_none() {
            let file = File::create(&path).map_err(at(&path))?;
            // Image bytes do not compress.
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(false)
                .set_max_row_group_row_count(Some(GROUP))
                .build();
            let writer = ArrowWriter::try_new(file, batch.schema(), Some(properties));
            self.open = Some((path.clone(), writer.map_err(failed)?));
        }
        if let Some((_, writer)) = &mut self.open {
            writer.write(&batch).map_err(failed)?;
            writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    fn finish_file(&mut self) -> Result<(), PackError> {
        let Some((path, writer)) = self.open.take() else {
            return Ok(());
        };
        let file = writer
            .into_inner()
            .map_err(|error| at(&path)(io::Error::other(LastCause(error))))?;
        publish(&file, &path, &self.folder.join(self.name()))?;
        self.files += 1;
        self.rows = 0;
        Ok(())
    }

    fn name(&self) -> String {
        format!("{:06}.parquet", self.files)
    }
}
