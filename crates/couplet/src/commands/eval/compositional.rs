//! `couplet eval compositional`.

use std::borrow::Cow;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use couplet_data::labelled::{CompositionalKind, CompositionalOptions, CompositionalSet};
use couplet_data::{printable, printable_path};
use couplet_eval::{Compositional, Metrics, compositional};
use serde_json::{Map, Value};

use super::cache_arguments::CacheArguments;
use super::datasets::{options, print_subjects, to_json};
use crate::commands::model_arguments::ModelArguments;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::progress::{Progress, Screen, print_reports};
use crate::quantities::count_of;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct CompositionalArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Table of images and captions (.json as SugarCrepe's, .jsonl as Winoground's, .csv, .tsv or
    /// .parquet), a pattern of tables or a folder of them. Repeat for several
    #[arg(long, required = true, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// What is compared [default: what the columns allow]: `sugarcrepe`, an image with a caption and
    /// a negative one; `winoground`, two images with a caption each
    #[arg(long, value_name = "KIND", value_enum)]
    kind: Option<KindName>,
    /// Column of images or their paths, or both of Winoground [default: filename, image or another
    /// usual name; image_0,image_1]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    image_columns: Vec<String>,
    /// Columns of both captions, the right one or the first image's first [default:
    /// caption,negative_caption; caption_0,caption_1]
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    caption_columns: Vec<String>,
    /// Column by which results are also reported [default: category, subset, type or collapsed_tag
    /// if there is one; of several files, their names]
    #[arg(long, value_name = "NAME")]
    category_column: Option<String>,
    /// Separator of a .csv or .tsv file, one ASCII character [default: the one that makes columns]
    #[arg(long, value_name = "CHAR")]
    separator: Option<char>,
    /// Folder that relative image paths start from [default: the table's own]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    pub(super) json: JsonArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindName {
    #[value(name = "sugarcrepe")]
    SugarCrepe,
    Winoground,
}

impl From<KindName> for CompositionalKind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::SugarCrepe => Self::SugarCrepe,
            KindName::Winoground => Self::Winoground,
        }
    }
}

pub(super) fn run(arguments: &CompositionalArguments) -> anyhow::Result<u8> {
    let columns = CompositionalOptions {
        kind: arguments.kind.map(Into::into),
        image_columns: arguments.image_columns.clone(),
        caption_columns: arguments.caption_columns.clone(),
        category_column: arguments.category_column.clone(),
        separator: arguments.separator,
        root: arguments.root.clone(),
    };
    // Before the model, so that wrong names fail at once.
    let set = CompositionalSet::open(&arguments.data, &columns)?;
    let encoder = arguments.model.open()?;
    let kind = match set.kind {
        CompositionalKind::SugarCrepe => "sugarcrepe",
        CompositionalKind::Winoground => "winoground",
    };
    let name = match &arguments.data[..] {
        [only] if only.is_file() => only.file_stem().map(|stem| stem.to_string_lossy()),
        _ => None,
    };
    let name = name.map_or_else(|| kind.to_string(), Cow::into_owned);
    print_subjects(&encoder, &[]);
    printing::note(&format!(
        "{}: {} with {} ({kind}) of {}",
        printable(&name),
        count_of(set.examples.len(), "example"),
        count_of(set.images.len(), "image"),
        printable_path(&arguments.data[0])
    ));
    let cache = arguments.cache.open(&encoder);
    let mut progress = Progress::new();
    let images = set.images.len();
    let found = compositional(&encoder, &name, &set, options(cache.as_ref()), |done| {
        progress.evaluating(&name, done, images);
    });
    progress.finish();
    let Compositional { report, categories } = found?;
    let reports = [report];
    print_reports(&reports);
    if !categories.is_empty() {
        print_categories(&categories);
    }
    let mut values = to_json(&reports, &encoder, &[])?;
    for value in &mut values {
        value["kind"] = kind.into();
        let paths = arguments.data.iter().map(|path| path.display().to_string());
        value["data"] = paths.collect::<Vec<_>>().into();
        let by_name = categories
            .iter()
            .map(|(name, metrics)| Ok((name.clone(), serde_json::to_value(metrics)?)));
        let by_name: serde_json::Result<Map<String, Value>> = by_name.collect();
        value["categories"] = by_name?.into();
    }
    arguments.json.write(&values)?;
    Ok(exit_code::DONE)
}

/// Prints the metrics of each category.
fn print_categories(categories: &[(String, Metrics)]) {
    let labels = categories[0].1.0.iter();
    let labels = labels.map(|metric| metric.info.label.to_string());
    let mut table = Table::new(
        std::iter::once("category".to_string())
            .chain(labels)
            .collect(),
    );
    for (name, metrics) in categories {
        let values = metrics.0.iter().map(ToString::to_string);
        let name = printable(name).to_string();
        table.row(std::iter::once(name).chain(values).collect());
    }
    printing::block(&format!("\n{}", table.render(terminal::table_columns())));
}
