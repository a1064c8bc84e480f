//! `couplet eval linear-probe` and `couplet eval knn`.

use std::path::Path;

use couplet_eval::metric::TOP1;
use couplet_eval::{
    ConfusionMatrix, FeatureFile, LinearProbe, ProbeData, ProbeSettings, Report, SolverOptions,
    knn, linear_probe,
};
use couplet_model::weights::{self, HostTensor, NamedTensors};

use super::{
    WORST, open_cache, open_datasets, open_device, open_optional, options, tell_skipped,
    write_details, write_json,
};
use crate::eval_arguments::{KnnArguments, LinearProbeArguments, ProbeArguments};
use crate::progress::{Progress, Screen, print_reports};

pub(super) fn linear(arguments: &LinearProbeArguments) -> anyhow::Result<u8> {
    let settings = ProbeSettings {
        c: arguments.c,
        search: SolverOptions {
            max_iterations: arguments.max_iter,
            tolerance: arguments.tol,
        },
    };
    judge(&arguments.probe, |data| {
        let probe = linear_probe(data, settings, |c, accuracy| {
            eprintln!(
                "{}: C = {c:.3e}: {} of the validation images",
                data.name,
                TOP1.of(accuracy)
            );
        });
        if !probe.classifier.converged {
            let most = arguments.max_iter;
            eprintln!(
                "{}: not converged after {most} steps; raise --max-iter",
                data.name
            );
        }
        if let Some(path) = &arguments.out {
            write_classifier(path, &probe.classifier)?;
        }
        Ok((probe.report, probe.confusion))
    })
}

pub(super) fn nearest(arguments: &KnnArguments) -> anyhow::Result<u8> {
    judge(&arguments.probe, |data| Ok(knn(data, arguments.k as usize)))
}

fn judge(
    arguments: &ProbeArguments,
    protocol: impl Fn(&ProbeData) -> anyhow::Result<(Report, ConfusionMatrix)>,
) -> anyhow::Result<u8> {
    let mut reports = Vec::new();
    let mut tell = |data: &ProbeData| -> anyhow::Result<()> {
        tell_skipped(&data.skipped);
        let (report, confusion) = protocol(data)?;
        let name = Path::new(&data.name).file_stem().unwrap_or_default();
        write_details(
            arguments.results.details.as_deref(),
            &name.to_string_lossy(),
            &confusion,
        )?;
        if arguments.results.details.is_some() {
            for line in confusion.worst_in_words(WORST) {
                println!("{}: {line}", data.name);
            }
        }
        reports.push(report);
        Ok(())
    };
    if let (Some(train), Some(test)) = (&arguments.features, &arguments.test_features) {
        let device = open_device(&arguments.model)?;
        let name = test.display().to_string();
        let files = (FeatureFile::read(train)?, FeatureFile::read(test)?);
        tell(&ProbeData::of_files(&name, files.0, files.1, &device)?)?;
    } else {
        let encoder = open_optional(&arguments.model)?;
        let cache = open_cache(&arguments.cache, &encoder);
        for dataset in open_datasets(&arguments.dataset, &encoder)? {
            let mut progress = Progress::new();
            let mut last = String::new();
            let read = ProbeData::extract(
                &encoder,
                &dataset,
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
            tell(&read?)?;
        }
    }
    print_reports(&reports);
    if let Some(file) = &arguments.results.json {
        write_json(file, &reports)?;
    }
    Ok(0)
}

/// As scikit-learn has them: of two classes one row, the second's less the first's.
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
    weights::save(path, &tensors)?;
    Ok(())
}
