//! `couplet data pack` and `couplet data shapes`.

use std::path::Path;

use anyhow::{Context, anyhow};
use couplet_data::shapes::{MIN_IMAGE_SIZE, write_class_folder};
use couplet_data::source::{PairDataset, ShapesConfig, SourceConfig};
use couplet_data::{PackFormat, PackOptions, pack};
use couplet_train::ResolvedData;

use super::bar;
use crate::data_arguments::{DataPackArguments, DataShapesArguments, PackFormatName, PackTarget};

/// Bad samples that are printed.
const SHOWN: usize = 20;

pub(crate) fn run(arguments: &DataPackArguments) -> anyhow::Result<u8> {
    let data = ResolvedData::read(&arguments.config, &arguments.set)?;
    let options = PackOptions {
        format: arguments.target.format()?,
        shorter_side: arguments.resize,
        max_pixels: data.table.max_image_pixels,
    };
    write(&data.set, &arguments.target.out, options)
}

pub(crate) fn shapes(arguments: &DataShapesArguments) -> anyhow::Result<u8> {
    if arguments.image_size < MIN_IMAGE_SIZE {
        return Err(anyhow!(
            "--image-size: shapes cannot be told apart below {MIN_IMAGE_SIZE} pixels"
        ));
    }
    let target = &arguments.target;
    if matches!(target.format, PackFormatName::ClassFolder) {
        return class_folder(arguments);
    }
    let table = SourceConfig::Shapes(ShapesConfig {
        samples: arguments.samples as usize,
    });
    let set = table.open(arguments.seed, arguments.image_size)?;
    let options = PackOptions {
        format: target.format()?,
        shorter_side: None,
        max_pixels: u64::MAX,
    };
    write(&set, &target.out, options)
}

fn class_folder(arguments: &DataShapesArguments) -> anyhow::Result<u8> {
    let out = &arguments.target.out;
    must_be_empty(out)?;
    let (samples, size) = (arguments.samples as usize, arguments.image_size);
    let bar = bar(Some(samples), "samples");
    let progress = |done: usize| bar.set_position(done as u64);
    write_class_folder(samples, arguments.seed, size, out, progress)
        .with_context(|| format!("{}: cannot be written", out.display()))?;
    bar.finish_and_clear();
    println!("{samples} pictures in {}, a folder a class", out.display());
    println!("source = \"class-folder\", path = \"{}\"", out.display());
    Ok(0)
}

fn must_be_empty(folder: &Path) -> anyhow::Result<()> {
    let is_empty = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(anyhow!("{} is not empty", folder.display()));
    }
    Ok(())
}

fn write(set: &PairDataset, out: &Path, options: PackOptions) -> anyhow::Result<u8> {
    must_be_empty(out)?;
    let bar = bar(set.samples(), "samples");
    let packed = pack(set, out, options, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    for bad in packed.skipped.iter().take(SHOWN) {
        println!("left out {bad}");
    }
    println!(
        "{} samples in {}, {} left out",
        packed.samples,
        out.display(),
        packed.skipped.len()
    );
    println!("{}", how_to_read(out, options.format, packed.files));
    Ok(0)
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
    fn format(&self) -> anyhow::Result<PackFormat> {
        let many = self.samples_per_shard as usize;
        Ok(match self.format {
            PackFormatName::Webdataset => PackFormat::Webdataset {
                samples_per_shard: many,
            },
            PackFormatName::Csv => PackFormat::Csv,
            PackFormatName::Folder => PackFormat::Folder,
            PackFormatName::Parquet => PackFormat::Parquet {
                rows_per_file: many,
            },
            PackFormatName::ClassFolder => {
                return Err(anyhow!(
                    "--format: only `couplet data shapes` knows the classes of a class-folder"
                ));
            }
        })
    }
}
