//! `couplet index`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_data::labelled::LabelledDataset;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, printable_path};
use couplet_search::{Manifest, build};

use super::bar::bar;
use super::inputs::{exit_code, print_left_out};
use super::model_arguments::ModelArguments;
use crate::exit_code::DONE;
use crate::quantities::{bytes, count_of};

#[derive(Debug, Args)]
pub(crate) struct IndexArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Images: files, folders with their sub-folders, tar shards, Parquet files or a table (.csv, .tsv); {0000..0127},
    /// {a,b}, * and ? are expanded. Bad images are reported and left out, and the exit code is 1
    #[arg(required = true, value_name = "IMAGES")]
    images: Vec<PathBuf>,
    /// Folder of the index; the same command goes on with one that was interrupted
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Replace an index of another model or of other images
    #[arg(long)]
    overwrite: bool,
}

/// Sizes from which a search takes long enough to say so.
const LARGE: u64 = 1 << 30;

pub(crate) fn run(arguments: &IndexArguments) -> anyhow::Result<u8> {
    let out = &arguments.out;
    // Whoever searches may do so from another folder.
    let images = arguments.images.iter().map(|path| place_of(path));
    let images: Vec<PathBuf> =
        (images.collect::<Result<_, _>>()).context("the working directory is gone")?;
    let dataset = LabelledDataset::of_any_images(&images)?;
    let encoder = arguments.model.open_aloud()?;
    let size = (dataset.len() * encoder.spec().embed_dim * size_of::<f32>()) as u64;
    say!(
        "{}; their features take {}",
        count_of(dataset.len(), "image"),
        bytes(size)
    );
    say_cost(size);
    let bar = bar(Some(dataset.len()), "images");
    let built = build(
        out,
        &encoder,
        (&images, &dataset),
        arguments.overwrite,
        DEFAULT_MAX_IMAGE_PIXELS,
        |skipped| bar.suspend(|| print_left_out(skipped)),
        |progress| {
            if bar.position() == 0 && progress.done > 0 {
                bar.set_position(progress.done as u64);
                bar.reset_eta();
            }
            bar.set_position(progress.done as u64);
        },
    );
    bar.finish_and_clear();
    let built = built?;
    let manifest = &built.manifest;
    if manifest.rows == 0 {
        bail!("none of the {} images can be used", manifest.total);
    }
    if built.before == manifest.total {
        say!("{}: complete already", printable_path(out));
        return Ok(DONE);
    }
    if built.before > 0 {
        say!("{} done before", count_of(built.before, "image"));
    }
    say!(
        "indexed {} in {}; search with: couplet search {} \"words\"",
        count_of(manifest.rows, "image"),
        printable_path(out),
        printable_path(out)
    );
    Ok(exit_code(manifest.skipped, manifest.total, "images"))
}

/// The one path that images have, whatever links lead there; a pattern is only made absolute.
fn place_of(path: &Path) -> std::io::Result<PathBuf> {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path))
}

/// Says what searches will cost, where that is not little.
fn say_cost(size: u64) {
    if size > LARGE {
        say!(
            "a search compares all of them: it reads {} each time, fast from memory, else as fast as the disk",
            bytes(size)
        );
    }
}

/// Says what a search will cost, before it is slow.
pub(crate) fn note_cost(folder: &Path, manifest: &Manifest) {
    if manifest.bytes() > LARGE {
        crate::printing::note(&format!(
            "{} has {}; a search reads {}, fast from memory, else as fast as the disk",
            printable_path(folder),
            count_of(manifest.rows, "image"),
            bytes(manifest.bytes())
        ));
    }
}
