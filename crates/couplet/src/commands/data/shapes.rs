//! `couplet data shapes`.

use anyhow::{Context, anyhow};
use clap::Args;
use couplet_data::PackOptions;
use couplet_data::shapes::{MIN_IMAGE_SIZE, write_class_folder};
use couplet_data::source::{ShapesConfig, SourceConfig};

use super::pack::{PackFormatName, PackTarget, check_is_empty, write};
use crate::commands::bar::bar;
use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct ShapesArguments {
    #[command(flatten)]
    target: PackTarget,
    /// Number of samples
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Width and height of the images, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    image_size: u32,
    /// Seed that the images are drawn from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(arguments: &ShapesArguments) -> anyhow::Result<u8> {
    if arguments.image_size < MIN_IMAGE_SIZE {
        return Err(anyhow!(
            "--image-size: expected at least {MIN_IMAGE_SIZE} pixels, below which shapes look alike"
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

fn class_folder(arguments: &ShapesArguments) -> anyhow::Result<u8> {
    let out = &arguments.target.out;
    check_is_empty(out)?;
    let (samples, size) = (arguments.samples as usize, arguments.image_size);
    let bar = bar(Some(samples), "samples");
    let progress = |done: usize| bar.set_position(done as u64);
    write_class_folder(samples, arguments.seed, size, out, progress)
        .with_context(|| format!("{}: cannot be written", out.display()))?;
    bar.finish_and_clear();
    say!(
        "wrote {samples} images to {}, one folder per class",
        out.display()
    );
    say!("source = \"class-folder\", path = \"{}\"", out.display());
    Ok(exit_code::DONE)
}
