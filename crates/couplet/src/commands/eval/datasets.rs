//! The datasets that a model is evaluated on, and what is printed of them.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::bail;
use couplet_data::DEFAULT_MAX_IMAGE_PIXELS;
use couplet_eval::{Dataset, DatasetConfig, Encoder, EvalOptions, FeatureCache};

/// Worst confusions to print.
pub(super) const WORST: usize = 5;

/// Opens every dataset before the first is evaluated, so that wrong names fail at once.
pub(super) fn open_datasets(paths: &[PathBuf], encoder: &Encoder) -> anyhow::Result<Vec<Dataset>> {
    let image_size = encoder.transform().image_size();
    let open = |path: &PathBuf| -> anyhow::Result<Dataset> {
        if !path.exists() {
            bail!(
                "{}: no such dataset; expected a file of datasets/, a folder with one sub-folder per \
                 class, or a CLIP_benchmark folder of tar shards",
                path.display()
            );
        }
        Ok(DatasetConfig::read(path)?.open(image_size)?)
    };
    let datasets = paths.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let mut names = HashSet::new();
    if let Some(twice) = datasets.iter().find(|set| !names.insert(&set.name)) {
        bail!(
            "two datasets are named `{}`; rename one of them in its file",
            twice.name
        );
    }
    Ok(datasets)
}

pub(super) fn options(cache: Option<&FeatureCache>) -> EvalOptions<'_> {
    EvalOptions {
        max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
        cache,
    }
}
