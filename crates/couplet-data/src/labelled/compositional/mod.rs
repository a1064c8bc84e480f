//! Compositional sets: tables of images with captions of which only some are right.
//!
//! Source: SugarCrepe (Hsieh et al. 2023) and Winoground (Thrush et al. 2022), whose own files are read as they are.

mod columns;
mod options;
mod parquet;
mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use self::parquet::ParquetTable;
use self::table::Table;
use super::any_images::{Joined, unlabelled};
use super::dataset::{Files, Images, LabelledDataset};
use super::detect::has_end;
use crate::decode::IMAGE_EXTENSIONS;
use crate::formats::walk::visible_entries;
use crate::formats::{DataError, Patterns};

pub use options::{CompositionalKind, CompositionalOptions};

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompositionalExample {
    /// Indices of its images; of SugarCrepe, twice the same.
    pub images: [usize; 2],
    /// The caption and the negative one, or the first and the second image's caption.
    pub captions: [String; 2],
    /// By default the name of its file, if there are several.
    pub category: Option<String>,
}

/// The rows of all tables, and their images, each file once.
#[derive(Debug)]
pub struct CompositionalSet {
    pub kind: CompositionalKind,
    /// Without captions of their own.
    pub images: LabelledDataset,
    /// At least one.
    pub examples: Vec<CompositionalExample>,
}

/// Ends of the names of tables.
const TABLES: [&str; 5] = ["json", "jsonl", "csv", "tsv", "parquet"];

impl CompositionalSet {
    /// Reads tables: `.csv`, `.tsv`, `.jsonl`, `.json` (a list of objects, or SugarCrepe's object of objects) or
    /// `.parquet`, with the images in it or their paths. The images themselves are read later.
    /// - paths: of files, patterns of files, or folders of tables.
    ///
    /// # Errors
    /// If a table cannot be read, lacks a column or has no rows, or a cell is empty.
    pub fn open(paths: &[PathBuf], options: &CompositionalOptions) -> Result<Self, DataError> {
        let files = paths.iter().map(|path| files_at(path));
        let files = files.collect::<Result<Vec<_>, _>>()?.concat();
        let Some(first) = files.first() else {
            let message = "no table is given";
            return Err(DataError::invalid(Path::new(""), message));
        };
        let is_parquet = |file: &PathBuf| has_end(file, &["parquet"]);
        if files.iter().all(is_parquet) {
            return Self::of_parquet(&files, first, options);
        }
        if let Some(mixed) = files.iter().find(|file| is_parquet(file)) {
            let message = "Parquet files cannot be read together with other tables";
            return Err(DataError::invalid(mixed, message));
        }
        Self::of_tables(&files, first, options)
    }

    fn of_tables(
        files: &[PathBuf],
        first: &Path,
        options: &CompositionalOptions,
    ) -> Result<Self, DataError> {
        let mut images = Vec::new();
        let mut places: HashMap<PathBuf, usize> = HashMap::new();
        let mut examples = Vec::new();
        let mut kind = None;
        for file in files {
            let Table { kind: own, rows } = Table::read(file, options)?;
            if kind.is_some_and(|kind| kind != own) {
                let message =
                    "its columns are of another kind of set than those of the first table";
                return Err(DataError::invalid(file, message));
            }
            kind = Some(own);
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let name = (files.len() > 1).then(|| stem.into_owned());
            for row in rows {
                let mut index = |path: PathBuf| {
                    let path = with_extension(path);
                    *places.entry(path.clone()).or_insert_with(|| {
                        images.push(path);
                        images.len() - 1
                    })
                };
                let [a, b] = row.images;
                examples.push(CompositionalExample {
                    images: [index(a), index(b)],
                    captions: row.captions,
                    category: row.category.or_else(|| name.clone()),
                });
            }
        }
        let kind = kind.unwrap_or(CompositionalKind::SugarCrepe);
        Ok(Self::new(
            kind,
            first,
            Box::new(Files(images)),
            places.len(),
            examples,
        ))
    }

    fn of_parquet(
        files: &[PathBuf],
        first: &Path,
        options: &CompositionalOptions,
    ) -> Result<Self, DataError> {
        let ParquetTable {
            kind,
            images,
            captions,
            categories,
        } = ParquetTable::read(files, first, options)?;
        let [captions, others] = captions;
        let rows = captions.len();
        let second = (images.len() - 1) * rows;
        let pairs = captions.into_iter().zip(others).zip(categories).enumerate();
        let examples = pairs.map(|(row, ((caption, other), category))| CompositionalExample {
            images: [row, second + row],
            captions: [caption, other],
            category,
        });
        let examples: Vec<_> = examples.collect();
        let count = images.len() * rows;
        let joined = Joined {
            starts: (0..images.len()).map(|part| part * rows).collect(),
            parts: images,
        };
        Ok(Self::new(kind, first, Box::new(joined), count, examples))
    }

    fn new(
        kind: CompositionalKind,
        path: &Path,
        images: Box<dyn Images>,
        count: usize,
        examples: Vec<CompositionalExample>,
    ) -> Self {
        let captions = vec![Vec::new(); count];
        Self {
            kind,
            images: unlabelled(path.to_path_buf(), images, captions),
            examples,
        }
    }
}

/// The tables at a path, in order.
fn files_at(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_dir() {
        let entries = visible_entries(path).map_err(DataError::io(path))?;
        let of_kind = |end: &str| -> Vec<PathBuf> {
            let files = entries.iter().filter(|file| file.is_file());
            files
                .filter(|file| has_end(file, &[end]))
                .cloned()
                .collect()
        };
        let found = TABLES
            .iter()
            .map(|end| of_kind(end))
            .find(|found| !found.is_empty());
        return found.ok_or_else(|| {
            let message = format!("no tables ({}) in this folder", TABLES.join(", "));
            DataError::invalid(path, message)
        });
    }
    let found = Patterns::One(path.display().to_string()).paths();
    let found = found.map_err(|message| DataError::invalid(path, message))?;
    if let Some(missing) = found.iter().find(|file| !file.is_file()) {
        let message = "no such file or folder; check the path";
        return Err(DataError::invalid(missing, message));
    }
    if let Some(other) = found.iter().find(|file| !has_end(file, &TABLES)) {
        let message = format!(
            "not a table; expected a file whose name ends in {}",
            TABLES.join(", ")
        );
        return Err(DataError::invalid(other, message));
    }
    Ok(found)
}

/// An image's file, whose name may lack its extension, as in Winoground's list.
fn with_extension(path: PathBuf) -> PathBuf {
    if path.extension().is_some() || path.is_file() {
        return path;
    }
    let named = IMAGE_EXTENSIONS.iter().map(|end| path.with_extension(end));
    let found = named.into_iter().find(|path| path.is_file());
    found.unwrap_or(path)
}

#[cfg(test)]
mod tests;
