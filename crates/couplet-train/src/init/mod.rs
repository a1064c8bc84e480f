//! A first config for data that was found at a path.

mod options;
mod text;

use std::io;
use std::path::{Path, PathBuf};

use couplet_data::detect::Detected;

pub use self::options::InitOptions;
use self::options::Sizes;
use crate::config::{ConfigError, DeviceCheck, ResolvedRun};
use crate::memory;
use crate::plan::RunPlan;

/// A config, and the plan of its run.
#[derive(Debug)]
pub struct FirstConfig {
    /// The TOML file's text.
    pub text: String,
    pub plan: RunPlan,
}

/// Why no config could be written for data.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{}: cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the config for this data would be wrong")]
    Config(#[source] ConfigError),
}

/// The share of the free memory that a proposed run may take.
const SHARE_OF_MEMORY: f64 = 0.6;
/// Passes over the data that a small set gets: enough steps to learn, and no more than anyone waits for.
const STEPS: usize = 3_000;
/// The paper's.
const MOST_EPOCHS_OF_LARGE_SETS: usize = 32;
const LARGE_SET: usize = 100_000;
/// Smaller micro-batches cost speed without saving much more memory.
const LEAST_MICRO_BATCH: usize = 8;

/// Writes a config for `found` that passes all checks and whose plan fits into the memory.
/// - folder: where the config will be; its relative paths start there.
///
/// # Errors
/// If a file cannot be written in the folder, or the data does not make a run.
pub fn first_config(
    found: &Detected,
    options: &InitOptions,
    folder: &Path,
) -> Result<FirstConfig, InitError> {
    let samples = found.trial.samples.unwrap_or(LARGE_SET);
    let preset = options.preset.clone();
    let preset =
        preset.unwrap_or_else(|| preset_for(samples, found.trial.short_side()).to_string());
    let mut sizes = sizes_for(samples);
    #[expect(clippy::cast_precision_loss, reason = "a part of the memory, roughly")]
    let memory = memory::free().map(|bytes| SHARE_OF_MEMORY * bytes as f64);
    loop {
        let text = text::write(found, options, &preset, sizes);
        let plan = plan(&text, folder)?;
        let bytes = plan.bytes(false) + plan.bytes(true);
        let micro = sizes.micro.unwrap_or(sizes.batch);
        let is_small = memory.is_none_or(|memory| bytes <= memory);
        if is_small || micro <= LEAST_MICRO_BATCH {
            return Ok(FirstConfig { text, plan });
        }
        sizes.micro = Some(micro / 2);
    }
}

/// Opens a config from its text, as from a file in the folder.
fn plan(text: &str, folder: &Path) -> Result<RunPlan, InitError> {
    let write = |source| InitError::Write {
        path: folder.to_path_buf(),
        source,
    };
    let mut file = tempfile::Builder::new();
    let file = file
        .prefix(".couplet-init-")
        .suffix(".toml")
        .tempfile_in(folder)
        .map_err(write)?;
    std::fs::write(file.path(), text).map_err(write)?;
    let run = ResolvedRun::open(file.path(), &[], DeviceCheck::Skip).map_err(InitError::Config)?;
    Ok(run.plan(None))
}

/// - side: the median of the images' shorter sides, in pixels.
fn preset_for(samples: usize, side: u32) -> &'static str {
    match samples {
        _ if side <= 40 => "ViT-Ti-8-32",
        0..LARGE_SET => "ViT-Ti-16-64",
        LARGE_SET..1_000_000 => "ViT-S-32",
        _ => "ViT-B-32",
    }
}

fn sizes_for(samples: usize) -> Sizes {
    let most = match samples {
        0..LARGE_SET => 1024,
        _ => 4096,
    };
    // An eighth of the data at most: eight different batches an epoch.
    let batch = (samples / 8).max(16).min(samples).min(most);
    let batch = (batch + 1).next_power_of_two() / 2;
    let steps = (samples / batch.max(1)).max(1);
    let epochs = if samples < LARGE_SET {
        (STEPS / steps).clamp(5, 100)
    } else {
        MOST_EPOCHS_OF_LARGE_SETS
    };
    Sizes {
        batch: batch.max(1),
        micro: None,
        epochs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_suit_the_number_of_pairs() {
        let sizes = |samples| {
            let Sizes { batch, epochs, .. } = sizes_for(samples);
            (batch, epochs)
        };
        assert_eq!(sizes(3), (2, 100));
        assert_eq!(sizes(16), (16, 100));
        assert_eq!(sizes(600), (64, 100));
        assert_eq!(sizes(10_240), (1024, 100));
        assert_eq!(sizes(60_000), (1024, 51));
        assert_eq!(sizes(12_000_000), (4096, 32));
    }

    #[test]
    fn presets_suit_the_images() {
        assert_eq!(preset_for(600, 28), "ViT-Ti-8-32");
        assert_eq!(preset_for(600, 480), "ViT-Ti-16-64");
        assert_eq!(preset_for(300_000, 256), "ViT-S-32");
        assert_eq!(preset_for(12_000_000, 256), "ViT-B-32");
    }
}
