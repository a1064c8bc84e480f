//! The datasets that a model is evaluated on, and what is printed of them.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::bail;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, printable, printable_path};
use couplet_eval::{
    ChosenCheckpoint, Dataset, DatasetConfig, Encoder, EvalOptions, FeatureCache, Report,
};
use couplet_model::Precision;
use serde_json::Value;

use crate::commands::config_arguments::DataArguments;
use crate::printing;
use crate::quantities::count_of;

/// Worst confusions to print.
pub(super) const WORST: usize = 5;

/// Opens every dataset before the first is evaluated, so that wrong names fail at once.
pub(in crate::commands) fn open_datasets(
    paths: &[PathBuf],
    data: &DataArguments,
    encoder: &Encoder,
) -> anyhow::Result<Vec<Dataset>> {
    open_changed(paths, data, encoder, |_| Ok(()))
}

/// As [`open_datasets`], with changes to what their files say.
pub(super) fn open_changed(
    paths: &[PathBuf],
    data: &DataArguments,
    encoder: &Encoder,
    change: impl Fn(&mut DatasetConfig) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Dataset>> {
    let image_size = encoder.transform().image_size();
    let open = |path: &PathBuf| -> anyhow::Result<Dataset> {
        let mut config = DatasetConfig::find(path, data.root())?;
        change(&mut config)?;
        Ok(config.open(image_size)?)
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

/// Prints which weights are evaluated, and where the datasets are.
pub(super) fn print_subjects(encoder: &Encoder, datasets: &[Dataset]) {
    if let Some(weights) = encoder.weights() {
        let why = encoder.checkpoint();
        let why = why.map_or(String::new(), |chosen| format!(" ({chosen})"));
        let precision = match encoder.model().precision() {
            Precision::F32 => String::new(),
            narrow => format!(" in {narrow}"),
        };
        let weights = printable_path(weights);
        printing::note(&format!("evaluating {weights}{why}{precision}"));
    }
    for dataset in datasets {
        let (images, path) = (dataset.images.len(), place(dataset));
        let name = printable(&dataset.name);
        let found = dataset.found.as_ref();
        let found = found.map_or(String::new(), |found| format!(" ({found})"));
        let images = count_of(images, "image");
        printing::note(&format!("{name}: {images} of {}{found}", printable(&path)));
    }
}

/// Reports as JSON, with the weights that were evaluated and the place of each dataset.
pub(super) fn to_json(
    reports: &[Report],
    encoder: &Encoder,
    datasets: &[Dataset],
) -> serde_json::Result<Vec<Value>> {
    let value = |report: &Report| {
        let mut value = serde_json::to_value(report)?;
        let weights = encoder.weights().map(|path| path.display().to_string());
        let mut sets = datasets.iter();
        let set = sets.find(|set| set.name == report.dataset);
        value["model"] = weights.into();
        value["precision"] = encoder.model().precision().to_string().into();
        value["checkpoint"] = encoder.checkpoint().map(checkpoint_json).into();
        value["dataset_path"] = set.map(place).into();
        Ok(value)
    };
    reports.iter().map(value).collect()
}

/// Which checkpoint of a run was opened, and why.
fn checkpoint_json(chosen: &ChosenCheckpoint) -> Value {
    let (metric, value) = chosen.best.clone().unzip();
    serde_json::json!({
        "step": chosen.step,
        "chosen": chosen.choice.name(),
        "best_by": metric,
        "best_value": value,
    })
}

/// The absolute path of a dataset on disk.
fn place(dataset: &Dataset) -> String {
    let path = dataset.images.path();
    let absolute = path.canonicalize();
    absolute.as_deref().unwrap_or(path).display().to_string()
}

pub(in crate::commands) fn options(cache: Option<&FeatureCache>) -> EvalOptions<'_> {
    EvalOptions {
        max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
        cache,
        division: None,
    }
}
