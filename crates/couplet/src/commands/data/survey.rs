//! `couplet data check` and `couplet data stats`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use couplet_data::DatasetStats;
use couplet_train::ResolvedData;
use serde_json::{Map, Value, json};

use crate::commands::bar::bar;
use crate::commands::config_arguments::ConfigArguments;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Write every bad sample to this file, one JSON object per line as in skipped.jsonl
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    json: JsonArguments,
}

/// Maximum number of bad samples to print; the file of `--out` lists all of them.
const SHOWN: usize = 20;

fn survey(data: &ResolvedData) -> DatasetStats {
    let bar = bar(data.set.samples(), "samples");
    let max_pixels = data.table.max_image_pixels;
    let survey = DatasetStats::collect(&data.set, &data.tokens, max_pixels, |done| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    survey
}

pub(crate) fn check(arguments: &CheckArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let set = arguments.config.set();
    let data = ResolvedData::read_input(&arguments.config.input(&set))?;
    let survey = survey(&data);
    for bad in survey.skipped.iter().take(SHOWN) {
        say!("{bad}");
    }
    if survey.skipped.len() > SHOWN {
        say!("… and {} more", survey.skipped.len() - SHOWN);
    }
    if let Some(path) = &arguments.out {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            for bad in &survey.skipped {
                serde_json::to_writer(&mut file, bad)?;
                file.write_all(b"\n")?;
            }
            file.flush()
        };
        write().with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    print_counts(&survey);
    let most = data.table.max_skipped;
    if bad_share(&survey) > most {
        printing::warn(&format!(
            "more than data.max_skipped = {most} are bad, so that training ends in its first epoch; fix them or \
             raise the key"
        ));
    }
    arguments.json.write(&counts_json(&survey))?;
    Ok(if survey.skipped.is_empty() {
        exit_code::DONE
    } else {
        exit_code::FAILED
    })
}

/// The share of bad samples.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn bad_share(survey: &DatasetStats) -> f64 {
    let bad: usize = survey.causes().values().sum();
    bad as f64 / survey.samples.max(1) as f64
}

fn print_counts(survey: &DatasetStats) {
    let bad: usize = survey.causes().values().sum();
    let share = 100.0 * bad_share(survey);
    say!("{} samples, {bad} bad ({share:.2}%)", survey.samples);
    for (cause, count) in survey.causes() {
        say!("  {count:8} {cause}");
    }
}

pub(crate) fn stats(arguments: &StatsArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let set = arguments.config.set();
    let data = ResolvedData::read_input(&arguments.config.input(&set))?;
    let survey = survey(&data);
    print_counts(&survey);
    let widths: Vec<usize> = survey.widths.iter().map(|side| *side as usize).collect();
    let heights: Vec<usize> = survey.heights.iter().map(|side| *side as usize).collect();
    let head = ["", "min", "5%", "median", "95%", "max"];
    let mut table = Table::new(head.map(String::from).into());
    for (name, sorted) in [
        ("width, pixels", &widths),
        ("height, pixels", &heights),
        ("image file, bytes", &survey.bytes),
        ("caption, tokens", &survey.tokens),
    ] {
        if sorted.is_empty() {
            continue;
        }
        let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100].to_string();
        let values = [0, 5, 50, 95, 100].map(at);
        table.row(std::iter::once(name.to_string()).chain(values).collect());
    }
    let table = table.render(terminal::table_columns());
    printing::block(&format!("\n{table}"));
    say!(
        "\n  {:8} captions are truncated to {} tokens",
        survey.cut_captions,
        data.tokens.context_length
    );
    say!(
        "  {:8} captions repeat an earlier sample's",
        survey.repeated_captions
    );
    say!(
        "  {:8} images repeat an earlier sample's",
        survey.repeated_images
    );
    arguments.json.write(&stats_json(&survey))?;
    Ok(exit_code::DONE)
}

fn counts_json(survey: &DatasetStats) -> Value {
    let causes = survey.causes().into_iter();
    let causes: Map<_, _> = causes
        .map(|(cause, count)| (cause.to_string(), count.into()))
        .collect();
    let bad: usize = survey.causes().values().sum();
    json!({ "samples": survey.samples, "bad": bad, "causes": causes })
}

fn stats_json(survey: &DatasetStats) -> Value {
    let mut all = counts_json(survey);
    let mut spread = |name: &str, sorted: &[usize]| {
        let at = |percent: usize| sorted.get((sorted.len().max(1) - 1) * percent / 100);
        all[name] = json!({
            "min": at(0), "p5": at(5), "median": at(50), "p95": at(95), "max": at(100),
        });
    };
    let sizes = |sides: &[u32]| -> Vec<usize> { sides.iter().map(|side| *side as usize).collect() };
    spread("width", &sizes(&survey.widths));
    spread("height", &sizes(&survey.heights));
    spread("image_bytes", &survey.bytes);
    spread("caption_tokens", &survey.tokens);
    all["truncated_captions"] = survey.cut_captions.into();
    all["repeated_captions"] = survey.repeated_captions.into();
    all["repeated_images"] = survey.repeated_images.into();
    all
}
