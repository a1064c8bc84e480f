//! `couplet model soup`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_eval::{Encoder, Unit, greedy_soup};
use serde_json::{Value, json};

use super::{evaluate, mean, rounded, tell_of_heads, write};
use crate::commands::config_arguments::DataArguments;
use crate::commands::eval::datasets::open_datasets;
use crate::commands::model_arguments::ModelOptions;
use crate::commands::output_file::check_folder;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct SoupArguments {
    /// Models that were fine-tuned from the same one, or a sweep's folder, which stands for the models of its trials
    #[arg(required = true, value_name = "MODEL|SWEEP")]
    models: Vec<PathBuf>,
    /// Dataset that decides which models the soup is of: held out of the training, and of what is reported later. Repeat
    /// for several; the mean over them counts
    #[arg(long, required_unless_present = "uniform")]
    dataset: Vec<PathBuf>,
    /// Mix all models in equal parts instead of those that make it better
    #[arg(long, conflicts_with = "dataset")]
    uniform: bool,
    /// Folder to create for the soup, in open_clip's layout
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    json: JsonArguments,
}

/// The file in a sweep's folder that names its trials, best first.
const RANKING: &str = "ranking.json";

pub(crate) fn run(arguments: &SoupArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    check_folder(&arguments.out)?;
    let mut paths = Vec::new();
    for path in &arguments.models {
        match trials_of(path)? {
            Some(trials) => paths.extend(trials),
            None => paths.push(path.clone()),
        }
    }
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    if paths.len() < 2 {
        bail!("a soup is of two models or more, not {}", paths.len());
    }
    let mut kitchen = Kitchen {
        paths: &paths,
        options: &arguments.options,
        first: arguments.options.open_aloud(&paths[0])?,
        soup: None,
        has_told: false,
    };
    let (ingredients, value) = if arguments.uniform {
        ((0..paths.len()).collect(), None)
    } else {
        let (ingredients, value) = choose(arguments, &mut kitchen)?;
        (ingredients, Some(value))
    };
    let soup = kitchen.soup_of(&ingredients)?;
    let names: Vec<String> = ingredients
        .iter()
        .map(|at| paths[*at].display().to_string())
        .collect();
    let reached = value.map_or(String::new(), |value| {
        format!(", {}", Unit::Share.format(value))
    });
    let what = format!("{} in equal parts{reached}", names.join(", "));
    write(&soup, &arguments.out, &what)?;
    let value = value.map(rounded);
    (arguments.json).write(&json!({ "ingredients": names, "value": value }))?;
    Ok(exit_code::DONE)
}

/// Where soups are made: of many models, few are in memory at once.
struct Kitchen<'a> {
    paths: &'a [PathBuf],
    options: &'a ModelOptions,
    /// The first model, which the others are held against.
    first: Encoder,
    /// The latest soup, by its ingredients.
    soup: Option<(Vec<usize>, Encoder)>,
    /// Whether the user knows that heads are left out.
    has_told: bool,
}

impl Kitchen<'_> {
    fn open(&mut self, at: usize) -> anyhow::Result<Encoder> {
        let model = self.options.open(&self.paths[at])?;
        self.first.check_mixable(&model)?;
        if model.head().is_some() && !self.has_told {
            tell_of_heads();
        }
        self.has_told |= model.head().is_some();
        Ok(model)
    }

    /// The mean of some models; one more than in the latest soup costs one model.
    #[expect(clippy::cast_precision_loss, reason = "there are few models")]
    fn soup_of(&mut self, places: &[usize]) -> anyhow::Result<Encoder> {
        if let Some((of, soup)) = &self.soup
            && of == places
        {
            return Ok(soup.clone());
        }
        let (last, before) = places.split_last().context("a soup has an ingredient")?;
        if before.is_empty() {
            return self.open(*last);
        }
        let soup = self.soup_of(before)?;
        let next = self.open(*last)?;
        let share = 1.0 / places.len() as f64;
        let mixed = soup.mixed(1.0 - share, &[(&next, share)])?;
        self.soup = Some((before.to_vec(), soup));
        Ok(mixed)
    }
}

/// The ingredients of the greedy soup, and what it reaches.
fn choose(arguments: &SoupArguments, kitchen: &mut Kitchen) -> anyhow::Result<(Vec<usize>, f64)> {
    let datasets = open_datasets(&arguments.dataset, &arguments.data, &kitchen.first)?;
    let paths = kitchen.paths;
    let mut alone = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        let model = kitchen.open(at)?;
        let found = evaluate(&path.display().to_string(), &model, &datasets)?;
        alone.push(mean(&found, &datasets));
    }
    let mut table = Table::new(["soup of", "value", ""].map(String::from).to_vec());
    for (path, value) in paths.iter().zip(&alone) {
        let row = [
            path.display().to_string(),
            Unit::Share.format(*value),
            "alone".to_string(),
        ];
        table.row(row.to_vec());
    }
    let mut best = alone.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let chosen = greedy_soup(&alone, |soup| -> anyhow::Result<f64> {
        let last = soup.last().context("a soup has an ingredient")?;
        let with = paths[*last].display();
        let model = kitchen.soup_of(soup)?;
        let found = evaluate(&format!("soup with {with}"), &model, &datasets)?;
        let value = mean(&found, &datasets);
        let is_taken = value >= best;
        best = best.max(value);
        let verdict = if is_taken { "taken" } else { "left out" };
        table.row(vec![
            format!("+ {with}"),
            Unit::Share.format(value),
            verdict.to_string(),
        ]);
        if is_taken {
            kitchen.soup = Some((soup.to_vec(), model));
        }
        Ok(value)
    })?;
    printing::block(&table.render(terminal::table_columns()));
    Ok(chosen)
}

/// The folders of a sweep's trials that have a result; `None` for another folder.
fn trials_of(path: &Path) -> anyhow::Result<Option<Vec<PathBuf>>> {
    let file = path.join(RANKING);
    if !file.is_file() {
        return Ok(None);
    }
    let text =
        fs::read_to_string(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let ranking: Vec<Value> = serde_json::from_str(&text)
        .with_context(|| format!("{}: not a sweep's ranking", file.display()))?;
    let has_result = |trial: &&Value| trial.get("value").is_some_and(Value::is_number);
    let names = ranking.iter().filter(has_result);
    let folders = names.filter_map(|trial| Some(path.join(trial.get("trial")?.as_str()?)));
    Ok(Some(folders.collect()))
}
