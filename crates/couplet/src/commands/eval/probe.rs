//! `couplet eval linear-probe` and `couplet eval knn`.

use std::path::{Path, PathBuf};

use clap::Args;
use couplet_eval::metric::{C, TOP1};
use couplet_eval::{
    ConfusionMatrix, Ending, LinearProbe, ProbeData, ProbeSettings, Report, SolverOptions, knn,
    linear_probe,
};
use couplet_model::weights::{self, HostTensor, NamedTensors};

use super::datasets::{WORST, to_json};
use super::probe_inputs::ProbeInputs;
use super::result_arguments::ResultArguments;
use crate::commands::numbers::positive;
use crate::commands::output_file::write_whole;
use crate::exit_code;
use crate::printing;
use crate::progress::print_reports;

/// What a probe is fitted to and evaluated on, and what is written of it.
#[derive(Debug, Args)]
pub(super) struct ProbeArguments {
    #[command(flatten)]
    inputs: ProbeInputs,
    #[command(flatten)]
    pub(super) results: ResultArguments,
}

/// Classes that a warning lists.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct LinearProbeArguments {
    #[command(flatten)]
    pub(super) probe: ProbeArguments,
    /// Inverse regularization strength, scikit-learn's C [default: the best of a search from 1e-6
    /// to 1e6, validated on every fifth training image]
    #[arg(short = 'C', long = "c", value_name = "C", value_parser = positive)]
    c: Option<f64>,
    /// Maximum number of L-BFGS iterations
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_iter: u64,
    /// Stop once no component of the gradient is larger, as scikit-learn's tol
    #[arg(long, default_value_t = 1e-4, value_parser = positive)]
    tol: f64,
    /// Write the fitted classifier to this safetensors file, as coef and intercept
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KnnArguments {
    #[command(flatten)]
    pub(super) probe: ProbeArguments,
    /// Number of neighbors that vote
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
}

pub(super) fn linear(arguments: &LinearProbeArguments) -> anyhow::Result<u8> {
    let settings = ProbeSettings {
        c: arguments.c,
        search: SolverOptions {
            max_iterations: arguments.max_iter,
            tolerance: arguments.tol,
        },
    };
    evaluate(&arguments.probe, |data| {
        let probe = linear_probe(data, settings, |c, accuracy| {
            printing::note(&format!(
                "{}: -C {}: top1 {} on the validation images",
                data.name,
                C.of(c),
                TOP1.of(accuracy)
            ));
        })?;
        let fit = &probe.classifier;
        match fit.ending {
            Ending::Converged => {}
            Ending::MaxIterations => printing::warn(&format!(
                "{}: not converged after {} iterations; raise --max-iter",
                data.name, arguments.max_iter
            )),
            Ending::Stalled => printing::warn(&format!(
                "{}: the fit ended after {} iterations, because no better point is found while a \
                 component of the gradient is {:.1e}, more than --tol; features with very large values \
                 are a cause: normalize them",
                data.name, fit.iterations, fit.gradient
            )),
        }
        if let Some(path) = &arguments.out {
            write_classifier(path, &probe.classifier)?;
        }
        Ok((probe.report, probe.confusion))
    })
}

pub(super) fn nearest(arguments: &KnnArguments) -> anyhow::Result<u8> {
    evaluate(&arguments.probe, |data| {
        warn_of_few_neighbours(data, arguments.k as usize);
        Ok(knn(data, arguments.k as usize))
    })
}

/// Warns if there are fewer training images than neighbors.
pub(super) fn warn_of_few_neighbours(data: &ProbeData, k: usize) {
    let images = data.train.labels.len();
    if k > images {
        printing::warn(&format!(
            "{}: k is {k}, but there are only {images} training images; all of them vote",
            data.name
        ));
    }
}

fn evaluate(
    arguments: &ProbeArguments,
    protocol: impl Fn(&ProbeData) -> anyhow::Result<(Report, ConfusionMatrix)>,
) -> anyhow::Result<u8> {
    let mut reports = Vec::new();
    let subjects = arguments.inputs.each(|data| {
        let untrained = data.untrained_classes();
        if !untrained.is_empty() {
            printing::warn(&format!(
                "{}: no training images of {} of {} classes, which are never predicted: {}",
                data.name,
                untrained.len(),
                data.class_names.len(),
                untrained[..untrained.len().min(SHOWN)].join(", ")
            ));
        }
        let (report, confusion) = protocol(data)?;
        let name = Path::new(&data.name).file_stem().unwrap_or_default();
        arguments
            .results
            .write_details(&name.to_string_lossy(), &confusion)?;
        if arguments.results.details.is_some() {
            for line in confusion.worst_in_words(WORST) {
                printing::line(&format!("{}: {line}", data.name));
            }
        }
        reports.push(report);
        Ok(())
    })?;
    print_reports(&reports);
    let json = &arguments.results.json;
    match &subjects {
        Some((encoder, datasets)) => json.write(&to_json(&reports, encoder, datasets)?)?,
        None => json.write(&reports)?,
    }
    Ok(exit_code::DONE)
}

/// Writes `coef` and `intercept` in scikit-learn's shapes: for two classes one row, the second
/// class's minus the first's.
fn write_classifier(path: &Path, probe: &LinearProbe) -> anyhow::Result<()> {
    let classes = probe.intercept.len();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "f32 is what the file holds"
    )]
    let narrow =
        |values: &[f64]| -> Vec<f32> { values.iter().map(|value| *value as f32).collect() };
    let (coef, intercept, rows) = if classes == 2 {
        let (first, second) = probe.weights.split_at(probe.embed_dim);
        let coef: Vec<f64> = first.iter().zip(second).map(|(a, b)| b - a).collect();
        (
            narrow(&coef),
            narrow(&[probe.intercept[1] - probe.intercept[0]]),
            1,
        )
    } else {
        (narrow(&probe.weights), narrow(&probe.intercept), classes)
    };
    let tensors = NamedTensors::from([
        (
            "coef".to_string(),
            HostTensor {
                shape: vec![rows, probe.embed_dim],
                values: coef,
            },
        ),
        (
            "intercept".to_string(),
            HostTensor {
                shape: vec![rows],
                values: intercept,
            },
        ),
    ]);
    write_whole(path, |path| {
        weights::save(path, &tensors)?;
        Ok(())
    })
}
