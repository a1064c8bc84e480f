//! `couplet model mix` and `couplet model soup`: models whose weights are sums of other models'.

mod along;
mod mix;
mod plot;
mod soup;

use std::path::{Path, PathBuf};

use anyhow::Context;
use couplet_data::printable_path;
use couplet_eval::{Dataset, Encoder, EvalOptions, Report};

pub(super) use mix::{MixArguments, run as run_mix};
pub(super) use soup::{SoupArguments, run as run_soup};

use crate::commands::eval::datasets::options;
use crate::commands::model_arguments::ModelOptions;
use crate::printing;
use crate::progress::{Progress, Screen};

/// Opens models that are to be mixed.
fn open_models(paths: &[PathBuf], options: &ModelOptions) -> anyhow::Result<Vec<Encoder>> {
    let models: Vec<Encoder> = (paths.iter())
        .map(|path| options.open_aloud(path))
        .collect::<anyhow::Result<_>>()?;
    for other in &models[1..] {
        models[0].check_mixable(other)?;
    }
    if models.iter().any(|model| model.head().is_some()) {
        tell_of_heads();
    }
    Ok(models)
}

fn tell_of_heads() {
    printing::note("classification heads are left out: a mix is a model of images and texts");
}

/// Evaluates a model on several datasets.
/// - what: the model, for the screen.
fn evaluate(what: &str, encoder: &Encoder, datasets: &[Dataset]) -> anyhow::Result<Vec<Report>> {
    let options: EvalOptions = options(None);
    let evaluate = |dataset: &Dataset| {
        let mut progress = Progress::new();
        let images = dataset.images.len();
        let name = format!("{what} on {}", dataset.name);
        let found = couplet_eval::evaluate(encoder, dataset, options, |done| {
            progress.evaluating(&name, done, images);
        });
        progress.finish();
        found.with_context(|| format!("{}: cannot be evaluated", dataset.name))
    };
    datasets.iter().map(evaluate).collect()
}

/// The mean over datasets.
#[expect(clippy::cast_precision_loss, reason = "there are few datasets")]
fn mean(found: &[Report], datasets: &[Dataset]) -> f64 {
    let values = found
        .iter()
        .zip(datasets)
        .map(|(one, set)| one.headline(set.metric).1);
    values.sum::<f64>() / found.len() as f64
}

/// With as many digits as metrics have in JSON.
fn rounded(value: f64) -> f64 {
    (value * 1e12).round() / 1e12
}

/// Writes a mix, and says where.
fn write(encoder: &Encoder, out: &Path, what: &str) -> anyhow::Result<()> {
    encoder.save_for_couplet(out)?;
    say!("wrote      {}: {what}", printable_path(out));
    Ok(())
}
