//! What a compositional set is, and how its tables are read.

use std::path::PathBuf;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompositionalKind {
    /// An image with its caption and a negative one.
    SugarCrepe,
    /// Two images, each with a caption of its own.
    Winoground,
}

/// How the tables are read. By default columns are found by their usual names.
#[derive(Debug, Clone, Default)]
pub struct CompositionalOptions {
    /// By default what the columns allow.
    pub kind: Option<CompositionalKind>,
    /// The column of image paths or images, or both of Winoground.
    pub image_columns: Vec<String>,
    /// The columns of the caption and the negative one, or of the first and the second image's caption.
    pub caption_columns: Vec<String>,
    pub category_column: Option<String>,
    /// Of a CSV or TSV file, one ASCII character.
    pub separator: Option<char>,
    /// The folder that relative image paths start from; by default the table's own.
    pub root: Option<PathBuf>,
}
