//! Parquet files, as img2dataset and Hugging Face write them.

pub(crate) mod columns;
pub(crate) mod file;
pub(crate) mod kinds;
pub(crate) mod values;
