//! `couplet eval retrieval`.

use std::path::PathBuf;

use clap::Args;
use couplet_eval::{FeatureFile, retrieval, retrieval_of_features};

use super::cache_arguments::CacheArguments;
use super::datasets::{open_datasets, options, print_subjects, to_json};
use crate::commands::config_arguments::DataArguments;
use crate::commands::model_arguments::OptionalModel;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::progress::{Progress, Screen, print_reports};

#[derive(Debug, Args)]
pub(crate) struct RetrievalArguments {
    #[command(flatten)]
    model: OptionalModel,
    /// Dataset to evaluate on: a built-in one (see `couplet eval datasets`), a dataset file or a
    /// dataset's folder. Repeat for several
    #[arg(long, required_unless_present = "features")]
    dataset: Vec<PathBuf>,
    /// Evaluate precomputed features instead: a safetensors file with image_features,
    /// text_features and, unless --captions-per-image is given, image_of_text
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dataset", "model"])]
    features: Option<PathBuf>,
    /// Captions per image in the features file, where each image's captions are consecutive
    #[arg(long, value_name = "N", requires = "features")]
    captions_per_image: Option<usize>,
    #[command(flatten)]
    pub(super) json: JsonArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

pub(super) fn run(arguments: &RetrievalArguments) -> anyhow::Result<u8> {
    let mut reports = Vec::new();
    let json;
    if let Some(path) = &arguments.features {
        let file = FeatureFile::read(path)?;
        let device = arguments.model.open_device()?;
        let name = path.display().to_string();
        let each = arguments.captions_per_image;
        reports.push(retrieval_of_features(&name, &file, each, &device)?);
        json = serde_json::to_value(&reports)?;
    } else {
        let encoder = arguments.model.open()?;
        let cache = arguments.cache.open(&encoder);
        let datasets = open_datasets(&arguments.dataset, &arguments.data, &encoder)?;
        print_subjects(&encoder, &datasets);
        for dataset in &datasets {
            let mut progress = Progress::new();
            let found = retrieval(&encoder, dataset, options(cache.as_ref()), |done| {
                progress.evaluating(&dataset.name, done, dataset.images.len());
            });
            progress.finish();
            reports.push(found?);
        }
        json = to_json(&reports, &encoder, &datasets)?.into();
    }
    print_reports(&reports);
    arguments.json.write(&json)?;
    Ok(exit_code::DONE)
}
