//! An index that is searched.

use std::path::{Path, PathBuf};

use crate::error::IndexError;
use crate::files::{FEATURES_FILE, HEADER, OFFSETS_FILE, ROWS_FILE, Row};
use crate::manifest::Manifest;
use crate::mapped::Mapped;
use crate::scan;

/// An open index.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    manifest: Manifest,
    features: Mapped,
    rows: Mapped,
    offsets: Mapped,
}

/// A row that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub row: usize,
    /// The cosine of the query and the image.
    pub score: f32,
    pub image: Row,
}

impl Index {
    /// Opens the index in a folder, as far as it is written.
    ///
    /// # Errors
    /// If it is none, or damaged.
    pub fn open(folder: &Path) -> Result<Self, IndexError> {
        let manifest = Manifest::read(folder)?;
        let open = |name: &str, least: u64| Mapped::open(&folder.join(name), least);
        Ok(Self {
            features: open(FEATURES_FILE, HEADER as u64 + manifest.bytes())?,
            rows: open(ROWS_FILE, manifest.row_bytes)?,
            offsets: open(OFFSETS_FILE, (manifest.rows * size_of::<u64>()) as u64)?,
            folder: folder.to_path_buf(),
            manifest,
        })
    }

    /// What it is of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.manifest.rows
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[rows, embed_dim]`, row-major.
    fn features(&self) -> &[f32] {
        let bytes = usize::try_from(self.manifest.bytes())
            .expect("files that are mapped fit in memory's addresses");
        bytemuck::cast_slice(&self.features.bytes()[HEADER..HEADER + bytes])
    }

    /// The features of a row, `[embed_dim]`, L2-normalized.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_features(&self, row: usize) -> &[f32] {
        let width = self.manifest.embed_dim;
        &self.features()[row * width..(row + 1) * width]
    }

    /// The image of a row.
    ///
    /// # Errors
    /// If there is no such row, or its line is damaged.
    pub fn row(&self, row: usize) -> Result<Row, IndexError> {
        let path = self.folder.join(ROWS_FILE);
        if row >= self.len() {
            return Err(IndexError::other(&path, format!("there is no row {row}")));
        }
        let damaged =
            || IndexError::damaged(&path, format!("the line of row {row} cannot be read"));
        let offsets = self.offsets.bytes().as_chunks::<8>().0;
        let start = usize::try_from(u64::from_le_bytes(offsets[row])).ok();
        let rest = start
            .and_then(|start| self.rows.bytes().get(start..))
            .ok_or_else(damaged)?;
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
        serde_json::from_slice(line).map_err(|_| damaged())
    }

    /// The images whose features have the largest inner products with a query's, the best first. All rows are compared.
    /// - query: `[embed_dim]`, L2-normalized.
    ///
    /// # Errors
    /// If the line of a row that is found is damaged.
    ///
    /// # Panics
    /// If the query has another width.
    pub fn search(&self, query: &[f32], limit: usize) -> Result<Vec<Hit>, IndexError> {
        assert_eq!(query.len(), self.manifest.embed_dim, "the query's width");
        let found = scan::best(self.features(), query, limit.min(self.len()));
        let hits = found.into_iter().map(|one| {
            Ok(Hit {
                row: one.row,
                score: one.score,
                image: self.row(one.row)?,
            })
        });
        hits.collect()
    }
}
