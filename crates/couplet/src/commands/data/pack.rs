//! `couplet data pack` and `couplet data shapes`.

use std::path::Path;

use anyhow::anyhow;
use couplet_data::shapes::{MIN_IMAGE_SIZE, ShapesTable};
use couplet_data::source::{Set, SourceTable};
use couplet_data::{PackFormat, PackOptions, pack};
use couplet_train::CheckedData;

use super::bar;
use crate::{DataPackArguments, DataShapesArguments, PackFormatName, PackTarget};

/// Bad samples that are printed.
const SHOWN: usize = 20;

pub(crate) fn run(arguments: &DataPackArguments) -> anyhow::Result<u8> {
    let data = CheckedData::read(&arguments.config, &arguments.set)?;
    let options = PackOptions {
        format: arguments.target.format(),
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
    let table = SourceTable::Shapes(ShapesTable {
        samples: arguments.samples,
    });
    let set = table.open(arguments.seed, arguments.image_size)?;
    let options = PackOptions {
        format: arguments.target.format(),
        shorter_side: None,
        max_pixels: u64::MAX,
    };
    write(&set, &arguments.target.out, options)
}

fn write(set: &Set, out: &Path, options: PackOptions) -> anyhow::Result<u8> {
    let is_empty = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(anyhow!("{} is not empty", out.display()));
    }
    let bar = bar(set.samples());
    let packed = pack(set, out, options, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    for bad in packed.skipped.iter().take(SHOWN) {
        println!(
            "left out {}: {}: {}: {}",
            bad.shard, bad.key, bad.cause, bad.detail
        );
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
    let out = out.display();
    match format {
        PackFormat::Webdataset { .. } => format!(
            "source = \"webdataset\", shards = \"{out}/{{000000..{:06}}}.tar\"",
            files.saturating_sub(1)
        ),
        PackFormat::Csv => format!("source = \"csv\", path = \"{out}/pairs.csv\""),
        PackFormat::Folder => format!("source = \"folder\", path = \"{out}\""),
    }
}

impl PackTarget {
    fn format(&self) -> PackFormat {
        match self.format {
            PackFormatName::Webdataset => PackFormat::Webdataset {
                samples_per_shard: self.samples_per_shard as usize,
            },
            PackFormatName::Csv => PackFormat::Csv,
            PackFormatName::Folder => PackFormat::Folder,
        }
    }
}
