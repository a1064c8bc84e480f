//! What each subcommand does.

pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod data;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod model;
pub(crate) mod plan;
pub(crate) mod sweep;
pub(crate) mod tokenize;
pub(crate) mod train;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use couplet_eval::{Encoder, OpenOptions};

use crate::ModelArguments;

/// Keys that `--set` takes where there is a model but no config.
const PREPROCESS: &str = "preprocess.";

/// Opens the model that the arguments name.
fn open_model(arguments: &ModelArguments) -> anyhow::Result<Encoder> {
    let device = (arguments.rest.device.open()).context("--device cannot be used")?;
    let options = OpenOptions {
        arch: arguments.rest.arch.clone(),
        preprocess: arguments
            .rest
            .set
            .iter()
            .map(|entry| {
                let (key, value) = entry
                    .strip_prefix(PREPROCESS)
                    .and_then(|entry| entry.split_once('='))
                    .ok_or_else(|| {
                        anyhow!("--set {entry}: expected preprocess.KEY=VALUE, such as preprocess.resize_mode=squash")
                    })?;
                Ok((key.to_string(), value.to_string()))
            })
            .collect::<anyhow::Result<_>>()?,
    };
    Ok(Encoder::open_with(&arguments.model, &options, &device)?)
}

/// The lines of a file, or of standard input for `-`; a last empty one is no text.
fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + String::from_utf8_lossy(sound).matches('\n').count();
        anyhow!("{}: line {line} is not UTF-8", path.display())
    })?;
    Ok(text.lines().map(str::to_string).collect())
}

/// Files as they are, folders as the images in them, sorted by name.
fn image_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = std::fs::read_dir(path)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()
            })
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        inside.retain(|file| couplet_data::is_image_name(file));
        if inside.is_empty() {
            return Err(anyhow!(
                "{}: no images here; names end in {}",
                path.display(),
                couplet_data::IMAGE_EXTENSIONS.join(", ")
            ));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}
