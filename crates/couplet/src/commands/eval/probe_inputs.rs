//! What a probe is fitted to and evaluated on: datasets and a model, or files of features.

use std::path::PathBuf;

use clap::Args;
use couplet_eval::{Dataset, Encoder, FeatureFile, ProbeData};

use super::cache_arguments::CacheArguments;
use super::datasets::{open_datasets, options, print_subjects};
use crate::commands::config_arguments::DataArguments;
use crate::commands::model_arguments::OptionalModel;
use crate::progress::{Progress, Screen};

#[derive(Debug, Args)]
pub(super) struct ProbeInputs {
    #[command(flatten)]
    model: OptionalModel,
    /// Dataset with training and test images: a built-in one (see `couplet eval datasets`), a
    /// dataset file or a folder. Repeat for several
    #[arg(long, required_unless_present = "features")]
    dataset: Vec<PathBuf>,
    /// Train on precomputed features instead: a safetensors file with image_features and labels
    #[arg(long, value_name = "FILE", requires = "test_features", conflicts_with_all = ["dataset", "model"])]
    features: Option<PathBuf>,
    /// Evaluate on precomputed features: a safetensors file with image_features and labels
    #[arg(long, value_name = "FILE", requires = "features")]
    test_features: Option<PathBuf>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

impl ProbeInputs {
    /// Computes or reads the features of each dataset.
    /// - record: gets them, one dataset after the other.
    /// - returns the model and the datasets, if features were computed.
    pub fn each(
        &self,
        mut record: impl FnMut(&ProbeData) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<(Encoder, Vec<Dataset>)>> {
        if let (Some(train), Some(test)) = (&self.features, &self.test_features) {
            let device = self.model.open_device()?;
            let name = test.display().to_string();
            let files = (FeatureFile::read(train)?, FeatureFile::read(test)?);
            record(&ProbeData::of_files(&name, files.0, files.1, &device)?)?;
            return Ok(None);
        }
        let encoder = self.model.open()?;
        let cache = self.cache.open(&encoder);
        let datasets = open_datasets(&self.dataset, &self.data, &encoder)?;
        print_subjects(&encoder, &datasets);
        for dataset in &datasets {
            let mut progress = Progress::new();
            let mut last = String::new();
            let read = ProbeData::extract(
                &encoder,
                dataset,
                options(cache.as_ref()),
                |part, done, of| {
                    if part != last {
                        progress.finish();
                        last = part.to_string();
                    }
                    progress.evaluating(&format!("{} {part}", dataset.name), done, of);
                },
            );
            progress.finish();
            record(&read?)?;
        }
        Ok(Some((encoder, datasets)))
    }
}
