//! From a training command of open_clip to a config.

mod arguments;
mod checkpoint;
mod command;
mod data;
mod datacomp;
mod devices;
mod error;
mod flag_table;
mod flags;
mod kind;
mod model;
mod output;
mod page;
mod python;
mod training;
mod translation;

use std::path::{Path, PathBuf};

use couplet_model::Precision;
use toml::Value;

pub use checkpoint::{ImportCheckpointError, ImportedCheckpoint, import_checkpoint};
pub use error::ImportError;
pub use flags::flags_page;
pub use translation::{ImportNote, ImportNoteKind};

use arguments::Arguments;
use flag_table::Takes;
use flags::Fate;
use page::{Page, text};
use translation::Translation;

use crate::device::DeviceSetting;

/// How a command is translated.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The run's name instead of the command's.
    pub name: Option<String>,
    /// Number of devices that the command runs on, if it does not say it.
    pub devices: Option<usize>,
    /// open_clip's description of a model that is no preset: a JSON file with `vision_cfg`.
    pub model_config: Option<PathBuf>,
    /// The config's file, for the comment that it begins with; by default the run's name with `.toml`.
    pub file: Option<PathBuf>,
    /// Whether the run goes on from a checkpoint, so that pretrained weights are not needed again.
    pub continues: bool,
    /// Where the command's relative paths start from, if not from the config's folder.
    pub base: Option<PathBuf>,
}

/// A command's translation.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The run's name.
    pub name: String,
    /// The config, a TOML file with comments.
    pub config: String,
    /// One line that says what the run is.
    pub summary: String,
    pub notes: Vec<ImportNote>,
    /// The checkpoint that the command goes on from.
    pub resume: Option<String>,
}

/// Translates a training command of open_clip, or the `params.txt` of a run.
/// - command: what a shell would run, with its launcher and comments, or the text of a `params.txt`.
///
/// # Errors
/// If it is no such command, or has flags or values that open_clip 3.3 does not have; all are listed.
pub fn import(command: &str, options: &ImportOptions) -> Result<Imported, ImportError> {
    let arguments = if is_params(command) {
        Arguments::of_params(command)
    } else {
        Arguments::of_command(command::find(command)?)
    };
    let mut from = Translation::new(arguments, options.base.clone());
    let resumes = from
        .arguments
        .text("resume")
        .is_some_and(|path| path != "latest");
    from.continues = options.continues || resumes;
    let name = run_name(&mut from, options);
    let mut page = Page::default();
    write_top(&mut page, &mut from, &name);
    let model_config = options.model_config.as_deref();
    model::write(&mut page, &mut from, model_config);
    // The batch decides the number of steps, but is read after the data.
    let mut batch = Page::default();
    training::write_batch(&mut batch, &mut from, options.devices);
    data::write(&mut page, &mut from);
    page.line(batch.into_text().trim_end());
    training::write_loss(&mut page, &from);
    training::write_optimizer(&mut page, &mut from);
    model::write_freeze(&mut page, &mut from, model_config);
    output::write_evals(&mut page, &mut from);
    output::write_checkpoint(&mut page, &mut from);
    output::write_log(&mut page, &mut from);
    note_flags(&mut from);
    if !from.arguments.problems.is_empty() {
        return Err(ImportError::Problems(from.arguments.problems));
    }
    let resume = from.arguments.text("resume").map(str::to_string);
    Ok(Imported {
        config: head(&name, options, &from) + &page.into_text(),
        summary: summary(&mut from),
        name,
        resume: resume
            .filter(|path| path != "latest")
            .map(|path| from.place(&path)),
        notes: from.notes,
    })
}

/// Whether a text is a `params.txt`: lines of `key: value`, the first of them with a flag.
fn is_params(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let is_line = |line: &str| {
        line.split_once(':')
            .is_some_and(|(key, _)| flags::find(key.trim()).is_some())
    };
    let mut few = lines.by_ref().take(5).map(is_line);
    few.any(|is_line| is_line) && !text.contains("--train-data")
}

/// The run's name: no slashes.
fn run_name(from: &mut Translation, options: &ImportOptions) -> String {
    let given = options
        .name
        .clone()
        .or_else(|| from.arguments.text("name").map(str::to_string));
    let name = given.unwrap_or_else(|| {
        let model = from.model_name().to_lowercase();
        model
            .rsplit([':', '/'])
            .next()
            .unwrap_or(&model)
            .to_string()
    });
    let plain = name.replace(['/', '\\'], "-");
    if plain != name {
        from.note("--name", format!("`{plain}`: a run's name has no slashes"));
    }
    plain
}

/// The keys before the first table.
fn write_top(page: &mut Page, from: &mut Translation, name: &str) {
    page.key("name", text(name));
    let seed: u64 = from.arguments.number("seed", 0);
    page.key("seed", seed.to_string());
    let device = from.arguments.text("device").unwrap_or("cuda").to_string();
    let device = match device.as_str() {
        "cuda" | "cuda:0" => DeviceSetting::Auto,
        "cpu" => DeviceSetting::Flex,
        "mps" => DeviceSetting::Metal,
        other => other.parse().unwrap_or_else(|_| {
            from.missing(
                "--device",
                &format!("no device `{other}`: `auto` takes the fastest one"),
            );
            DeviceSetting::Auto
        }),
    };
    page.key("device", value(&device));
    let choices = [
        "amp",
        "amp_bf16",
        "amp_bfloat16",
        "bf16",
        "fp16",
        "pure_bf16",
        "pure_fp16",
        "fp32",
    ];
    let given = from.arguments.choice("precision", &choices);
    let precision = match given {
        "fp32" => Precision::F32,
        // PyTorch's automatic precision on a CPU is bf16.
        "amp" if device == DeviceSetting::Flex => Precision::Bf16,
        "amp" | "fp16" | "pure_fp16" => Precision::F16,
        _ => Precision::Bf16,
    };
    if !given.starts_with("amp") && precision != Precision::F32 {
        from.note(
            "--precision",
            format!("{given}: parameters and norms stay fp32"),
        );
    }
    page.key("precision", value(&precision));
}

/// As the config's own table prints it.
fn value<T: serde::Serialize>(setting: &T) -> String {
    Value::try_from(setting)
        .expect("a setting has a TOML form")
        .to_string()
}

/// Values that open_clip gives flags without counterpart if nobody does: a `params.txt` has them.
const DEFAULTS: [(&str, &str); 5] = [
    ("coca-caption-loss-weight", "2.0"),
    ("coca-contrastive-loss-weight", "1.0"),
    ("remote-sync-frequency", "300"),
    ("remote-sync-protocol", "s3"),
    ("wandb-project-name", "open-clip"),
];

/// Names the flags that are not translated.
fn note_flags(from: &mut Translation) {
    let mut noted = Vec::new();
    for (flag, values) in from.arguments.flags() {
        let value = values.first().map(String::as_str);
        if DEFAULTS
            .iter()
            .any(|(name, own)| *name == flag.name && value == Some(own))
        {
            continue;
        }
        match flag.fate {
            Fate::Missing(instead) => noted.push((flag.name, true, instead)),
            // A params.txt has all that take a value.
            Fate::Needless(why) if !from.arguments.is_complete || flag.takes == Takes::Nothing => {
                noted.push((flag.name, false, why));
            }
            Fate::Needless(_) | Fate::Keys(..) => {}
        }
    }
    for (name, is_missing, text) in noted {
        let flag = format!("--{name}");
        if is_missing {
            from.missing(&flag, text);
        } else {
            from.needless(&flag, text);
        }
    }
    for setting in std::mem::take(&mut from.arguments.unknown) {
        from.missing(&setting, "not a setting of open_clip 3.3");
    }
    if from.arguments.text("resume") == Some("latest") && !from.continues {
        from.note(
            "--resume",
            "latest: name the checkpoint, --checkpoint epoch_K.pt, to go on from it".into(),
        );
    }
    if let Some(logs) = from
        .arguments
        .text("logs")
        .filter(|logs| !matches!(*logs, "./logs/" | "None"))
    {
        let text = format!(
            "{logs}: a run's folder is runs/NAME; `couplet train --run-dir DIR` chooses another"
        );
        from.note("--logs", text);
    }
    if let Some(folder) = from.arguments.folder.clone() {
        from.note(
            "cd",
            format!("relative paths start from {folder}, as in the command"),
        );
    }
    let mut variables: Vec<String> = (from.arguments.flags())
        .flat_map(|(_, values)| {
            values
                .iter()
                .flat_map(|value| variables(value))
                .collect::<Vec<_>>()
        })
        .collect();
    variables.dedup();
    if !variables.is_empty() {
        let text = format!(
            "replace {} in the config; they are not the shell's here",
            variables.join(", ")
        );
        from.before_training("variables", &text);
    }
}

/// The shell's variables in a text, each with its `$`.
fn variables(text: &str) -> Vec<String> {
    let starts = text.match_indices('$').filter_map(|(at, _)| text.get(at..));
    let name = |start: &str| {
        let end = start.find(|letter: char| !letter.is_alphanumeric() && !"$_{}".contains(letter));
        start
            .get(..end.unwrap_or(start.len()))
            .unwrap_or(start)
            .to_string()
    };
    starts.map(name).collect()
}

/// The comment that the config begins with.
fn head(name: &str, options: &ImportOptions, from: &Translation) -> String {
    let mut page = Page::default();
    let own = || PathBuf::from(format!("{name}.toml"));
    let file = options.file.clone().unwrap_or_else(own);
    page.comment(&format!("couplet train {}", file.display()));
    page.comment("");
    page.comment("Imported from open_clip; what the command leaves out has open_clip's defaults.");
    for (title, kind) in [
        ("Without counterpart:", ImportNoteKind::Missing),
        ("Before the first step:", ImportNoteKind::ToDo),
    ] {
        let notes: Vec<&ImportNote> = from.notes.iter().filter(|note| note.kind == kind).collect();
        if !notes.is_empty() {
            page.comment("");
            page.comment(title);
        }
        for note in notes {
            page.comment(&format!("  {}: {}", note.flag, note.text));
        }
    }
    let flags = |kind| {
        let notes = from.notes.iter().filter(move |note| note.kind == kind);
        notes
            .map(|note| note.flag.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let needless = flags(ImportNoteKind::Needless);
    if !needless.is_empty() {
        page.comment("");
        page.comment(&format!("Not needed here: {needless}"));
    }
    page.into_text()
}

fn summary(from: &mut Translation) -> String {
    let model = from.model_name();
    let data = from.kind.map_or("", kind::Kind::name);
    let epochs: u64 = from.arguments.number("epochs", 32);
    let loss = if from.arguments.has("siglip") {
        "sigmoid"
    } else {
        "softmax"
    };
    format!(
        "{model} on {data} data, {} pairs a batch, {epochs} epochs, {loss} loss",
        from.global_batch
    )
}

/// Reads what a user names: a command, a file with one, a `params.txt`, a run's folder.
///
/// # Errors
/// If a file that is named cannot be read.
pub fn read_command(named: &str) -> Result<String, ImportError> {
    let path = Path::new(named);
    let file = if path.is_dir() {
        path.join("params.txt")
    } else if path.is_file() || (!named.contains(char::is_whitespace) && !named.starts_with("--")) {
        path.to_path_buf()
    } else {
        return Ok(named.to_string());
    };
    std::fs::read_to_string(&file).map_err(|source| ImportError::Io { path: file, source })
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
