//! Trains a small model on drawn shapes, with a config that is made in code:
//! `cargo run --release --example train -- FOLDER`. The same command again continues the run.

use std::path::PathBuf;

use couplet::data::{ShapesConfig, SourceConfig};
use couplet::train::{
    AllowedChanges, EvalConfig, Event, ModelConfig, Observer, OptimizerConfig, RunBuilder,
    RunConfig, RunFolder, ScheduleConfig, StopSignal, ValDataConfig, train,
};

/// Prints what happens.
struct Printer;

impl Observer for Printer {
    fn event(&mut self, event: Event) {
        match event {
            Event::Started(sizes) => println!(
                "{} parameters, {} steps on {}",
                sizes.parameters, sizes.total_steps, sizes.device
            ),
            Event::Epoch(epoch) => {
                println!("epoch {}: loss {:.4}", epoch.epoch, epoch.loss);
                for report in &epoch.reports {
                    for metric in &report.metrics.0 {
                        println!("  {} {}: {metric}", report.dataset, metric.info.name);
                    }
                }
            }
            Event::Warning(text) => eprintln!("warning: {text}"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1);
    let folder = folder.map_or_else(|| RunConfig::folder_of("example"), PathBuf::from);
    let mut config = RunConfig::new(
        "example",
        ModelConfig::preset("ViT-Ti-8-32")?,
        SourceConfig::Shapes(ShapesConfig { samples: 256 }),
        64,
        OptimizerConfig::adamw(1e-3),
        ScheduleConfig::cosine("2 epochs".parse()?).with_warmup("25 %".parse()?),
    );
    config.batch.micro = Some(32.into());
    config.data.val = Some(ValDataConfig::new(SourceConfig::Shapes(ShapesConfig {
        samples: 64,
    })));
    config.eval = vec![EvalConfig::held_out()];
    config.checkpoint.best = Some("eval/val/loss".into());
    let run = RunBuilder::new(config).open()?;
    let folder = RunFolder::resume(&folder, &run, AllowedChanges::Longer)?;
    let outcome = train(&run, &folder, &StopSignal::default(), &mut Printer)?;
    println!("{} steps: {}", outcome.steps, folder.path().display());
    Ok(())
}
