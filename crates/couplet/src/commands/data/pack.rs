//! `couplet data pack`, and what `couplet data shapes` shares with it.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use couplet_data::source::PairDataset;
use couplet_data::{PackFormat, PackOptions, pack};
use couplet_train::ResolvedData;

use crate::commands::bar::bar;
use crate::commands::config_arguments::ConfigArguments;
use crate::exit_code;

/// Maximum number of bad samples to print.
const SHOWN: usize = 20;

/// Where and how samples are written.
#[derive(Debug, Args)]
pub(super) struct PackTarget {
    /// Folder to write to; it is created, or must be empty
    pub out: PathBuf,
    /// Format to write
    #[arg(long, default_value = "webdataset")]
    pub format: PackFormatName,
    /// Samples per tar shard or Parquet file
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub samples_per_shard: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PackFormatName {
    /// Tar shards with .txt captions
    Webdataset,
    /// Images and a pairs.csv with the columns filepath and title
    Csv,
    /// Images with a .txt caption next to each
    Folder,
    /// Parquet files with the columns image and caption
    Parquet,
    /// One folder per class, without captions (`couplet data shapes` only)
    ClassFolder,
}

#[derive(Debug, Args)]
pub(crate) struct PackArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    target: PackTarget,
    /// Resize images so that their shorter side is at most this long, and store them as JPEG of
    /// quality 95
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    resize: Option<u32>,
}

pub(crate) fn run(arguments: &PackArguments) -> anyhow::Result<u8> {
    let set = arguments.config.set();
    let data = ResolvedData::read_input(&arguments.config.input(&set))?;
    let options = PackOptions {
        format: arguments.target.format()?,
        shorter_side: arguments.resize,
        max_pixels: data.table.max_image_pixels,
    };
    write(&data.set, &arguments.target.out, options)
}

pub(super) fn check_is_empty(folder: &Path) -> anyhow::Result<()> {
    let is_empty = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(anyhow!(
            "{}: the folder is not empty; give a new or an empty one",
            folder.display()
        ));
    }
    Ok(())
}

pub(super) fn write(set: &PairDataset, out: &Path, options: PackOptions) -> anyhow::Result<u8> {
    check_is_empty(out)?;
    let bar = bar(set.samples(), "samples");
    let packed = pack(set, out, options, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    for bad in packed.skipped.iter().take(SHOWN) {
        say!("skipped {bad}");
    }
    say!(
        "wrote {} samples to {}, skipped {}",
        packed.samples,
        out.display(),
        packed.skipped.len()
    );
    say!("{}", how_to_read(out, options.format, packed.files));
    Ok(exit_code::DONE)
}

fn how_to_read(out: &Path, format: PackFormat, files: usize) -> String {
    let (out, last) = (out.display(), files.saturating_sub(1));
    match format {
        PackFormat::Webdataset { .. } => {
            format!("source = \"webdataset\", shards = \"{out}/{{000000..{last:06}}}.tar\"")
        }
        PackFormat::Parquet { .. } => {
            format!("source = \"parquet\", files = \"{out}/{{000000..{last:06}}}.parquet\"")
        }
        PackFormat::Csv => format!("source = \"csv\", path = \"{out}/pairs.csv\""),
        PackFormat::Folder => format!("source = \"folder\", path = \"{out}\""),
    }
}

impl PackTarget {
    pub(super) fn format(&self) -> anyhow::Result<PackFormat> {
        let per_file = self.samples_per_shard as usize;
        Ok(match self.format {
            PackFormatName::Webdataset => PackFormat::Webdataset {
                samples_per_shard: per_file,
            },
            PackFormatName::Csv => PackFormat::Csv,
            PackFormatName::Folder => PackFormat::Folder,
            PackFormatName::Parquet => PackFormat::Parquet {
                rows_per_file: per_file,
            },
            PackFormatName::ClassFolder => {
                return Err(anyhow!(
                    "--format: class-folder needs classes, which only `couplet data shapes` has"
                ));
            }
        })
    }
}
