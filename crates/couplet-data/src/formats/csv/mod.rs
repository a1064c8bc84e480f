//! CSV and TSV tables with a header row: an image file and one other cell per row.

mod records;
mod table;

pub use table::count_rows;
pub(crate) use table::{CsvColumns, CsvRow, first_rows};
