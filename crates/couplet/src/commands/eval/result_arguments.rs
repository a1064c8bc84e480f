//! Files that an evaluation writes, in addition to what it prints.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use couplet_eval::ConfusionMatrix;

use crate::commands::output_file::write_whole;
use crate::json_output::JsonArguments;

/// Files of a classification's results.
#[derive(Debug, Args)]
pub(super) struct ResultArguments {
    /// Write the accuracy per class and the confusion matrix to this folder, as
    /// DATASET-classes.csv, DATASET-confusion.svg and DATASET-confusion.png
    #[arg(long, value_name = "DIR")]
    pub details: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArguments,
}

impl ResultArguments {
    /// Writes the details of a dataset if they were requested.
    pub fn write_details(&self, dataset: &str, confusion: &ConfusionMatrix) -> anyhow::Result<()> {
        let Some(folder) = &self.details else {
            return Ok(());
        };
        fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be written", folder.display()))?;
        for (end, text) in [
            ("classes.csv", confusion.to_csv()),
            ("confusion.svg", confusion.to_svg()),
        ] {
            let path = folder.join(format!("{dataset}-{end}"));
            write_text(&path, text)?;
        }
        let png = confusion.to_png()?;
        let path = folder.join(format!("{dataset}-confusion.png"));
        write_whole(&path, |path| Ok(fs::write(path, png)?))?;
        Ok(())
    }
}

pub(super) fn write_text(file: &Path, text: String) -> anyhow::Result<()> {
    write_whole(file, |path| Ok(fs::write(path, text)?))
}
