//! Classifies a dataset by the names of its classes:
//! `cargo run --release --example zero_shot -- MODEL DATASET`
//!
//! DATASET is a folder with one folder per class, or a TOML file such as `datasets/shapes.toml`.

use std::path::Path;

use couplet::eval::{DatasetConfig, EvalOptions, zero_shot};
use couplet::{Device, Encoder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(dataset)) = (arguments.next(), arguments.next()) else {
        return Err("expected MODEL DATASET".into());
    };
    let encoder = Encoder::open(Path::new(&model), &Device::flex())?;
    let dataset = DatasetConfig::read(Path::new(&dataset))?;
    let dataset = dataset.open(encoder.transform().image_size())?;
    let progress = |done| eprint!("\r{done} of {} images", dataset.images.len());
    let found = zero_shot(&encoder, &dataset, EvalOptions::default(), progress)?;
    eprintln!();
    println!(
        "{} images of `{}`",
        found.report.images, found.report.dataset
    );
    for metric in &found.report.metrics.0 {
        println!("{:24} {metric}", metric.info.name);
    }
    Ok(())
}
