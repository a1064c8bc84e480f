//! The text of a first config: every table says what it decides and what to change next.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use couplet_data::detect::Detected;
use couplet_data::source::SourceConfig;
use couplet_eval::DatasetConfig;
use toml::{Table, Value};

use super::options::{InitOptions, Sizes};
use crate::config::default_max_skipped;

/// Writes the config.
pub(super) fn write(found: &Detected, options: &InitOptions, preset: &str, sizes: Sizes) -> String {
    let name = &options.name;
    let mut text = head(found, &options.file);
    let device = options.device.as_deref().unwrap_or("auto");
    let quoted = |text: &str| Value::from(text).to_string();
    let _ = write!(
        text,
        "name = {}\nseed = 0\n\
         # \"auto\" takes the fastest device that this build has; \"cpu\", \"cuda:0\" and others name one.\n\
         device = {}\n\
         # Half precision is faster on GPUs.\n\
         # precision = \"bf16\"\n\n\
         [model]\n\
         # An architecture of `couplet model list`. Larger ones want more pairs: ViT-S-32 some 100,000, ViT-B-32\n\
         # millions.\n\
         preset = {}\n\
         # A few hundred or thousand pairs teach more to a pretrained model. Replace the preset by its folder or\n\
         # file, and set optimizer.lr to 1e-5:\n\
         # weights = \"path/to/ViT-B-32\"\n\n",
        quoted(name),
        quoted(device),
        quoted(preset)
    );
    let _ = write!(
        text,
        "[data]\n\
         # The run ends if more than this share of an epoch's samples is bad; skipped.jsonl lists those.\n\
         max_skipped = {}\n\n",
        default_max_skipped()
    );
    table(&mut text, "data.train", &found.source);
    if found.trial.samples.is_some()
        && matches!(&found.source, SourceConfig::Webdataset(table) if table.stream == Some(true))
    {
        let samples = found.trial.samples.unwrap_or_default();
        let _ = writeln!(
            text,
            "# Samples of an epoch: a stream does not know its length.\nsamples_per_epoch = {samples}"
        );
    }
    text.push_str(
        "\n[data.train.augment]\n\
         # The paper's crop. More for small data: horizontal_flip = 0.5 (not with texts or left and right),\n\
         # color_jitter = { brightness = 0.4, contrast = 0.4, probability = 0.8 }\n\
         random_resized_crop = { scale = [0.9, 1.0] }\n\n",
    );
    held_out(&mut text, options);
    training(&mut text, sizes);
    evaluation(&mut text, found, options, sizes);
    text
}

fn head(found: &Detected, file: &str) -> String {
    let samples = match found.trial.samples {
        Some(samples) => format!("{samples} pairs"),
        None => "pairs".to_string(),
    };
    let commands = [
        (
            format!("couplet data check {file}"),
            "read every sample and list the bad ones",
        ),
        (
            format!("couplet plan {file} --measure"),
            "memory, steps and time",
        ),
        (
            format!("couplet train {file}"),
            "writes runs/NAME; --resume continues",
        ),
    ];
    let width = commands
        .iter()
        .map(|(command, _)| command.len())
        .max()
        .unwrap_or(0);
    let mut text = format!("# {samples}: {}.\n#\n", found.kind);
    for (command, what) in commands {
        let _ = writeln!(text, "#   {command:width$}   {what}");
    }
    text.push_str("#\n# `couplet config keys` lists every key, also those that are not here.\n");
    text
}

/// A source's table, without keys that have their defaults.
fn table(text: &mut String, name: &str, source: &SourceConfig) {
    let written = Table::try_from(source).unwrap_or_default();
    let plain = plain(source);
    let _ = writeln!(text, "[{name}]");
    for (key, value) in &written {
        if key == "source" || plain.get(key) != Some(value) {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
}

/// The same source with only what must be given.
fn plain(source: &SourceConfig) -> Table {
    use couplet_data::formats::Patterns;
    use couplet_data::source::{
        ClassFolderConfig, CsvConfig, FolderConfig, ParquetConfig, WebdatasetConfig,
    };
    let nowhere = || Patterns::One(String::new());
    let plain = match source {
        SourceConfig::Csv(_) => SourceConfig::Csv(CsvConfig::new("")),
        SourceConfig::Folder(_) => SourceConfig::Folder(FolderConfig::new("")),
        SourceConfig::Webdataset(_) => SourceConfig::Webdataset(WebdatasetConfig::new(nowhere())),
        SourceConfig::Parquet(_) => SourceConfig::Parquet(ParquetConfig::new(nowhere())),
        // The templates are what one wants to change.
        SourceConfig::ClassFolder(_) => SourceConfig::ClassFolder(ClassFolderConfig {
            templates: Vec::new(),
            ..ClassFolderConfig::new("")
        }),
        other => other.clone(),
    };
    Table::try_from(&plain).unwrap_or_default()
}

/// Held-out pairs of a stream; as many as of other sources by default.
const MOST_HELD_OUT: usize = 10_000;

fn held_out(text: &mut String, options: &InitOptions) {
    match &options.val {
        Some(val) => {
            text.push_str("# Pairs that are not trained on: their loss and retrieval are measured after every epoch.\n");
            table(text, "data.val", val);
            if matches!(val, SourceConfig::Webdataset(table) if table.stream == Some(true)) {
                let _ = writeln!(text, "# Pairs to read at most: a stream does not know its length.\nmax_samples = {MOST_HELD_OUT}");
            }
            text.push('\n');
        }
        None => text.push_str(
            "# Put some pairs aside to see whether the model learns more than the training pairs: move them to\n\
             # another folder or table, and name it here as in [data.train].\n\
             # [data.val]\n\
             # source = …\n\n",
        ),
    }
}

fn training(text: &mut String, sizes: Sizes) {
    let Sizes {
        batch,
        micro,
        epochs,
    } = sizes;
    let micro = match micro {
        Some(micro) => format!(
            "# Pairs in one forward pass, which decides the memory; the gradients are those of the whole batch.\nmicro = {micro}\n"
        ),
        None => format!(
            "# If memory is short: pairs in one forward pass; the gradients stay those of the whole batch.\n\
             # micro = {}\n",
            (batch / 2).max(1)
        ),
    };
    let _ = write!(
        text,
        "[batch]\n\
         # Pairs in the contrastive loss: each image is compared with all of these texts. Larger is better.\n\
         global = {batch}\n{micro}\n\
         [optimizer]\n\
         kind = \"adamw\"\n\
         # The paper's for its base models; 1e-5 with pretrained weights.\n\
         lr = 5e-4\n\
         betas = [0.9, 0.98]\n\
         eps = 1e-6\n\
         weight_decay = 0.2\n\
         clip_norm = 1.0\n\n\
         [schedule]\n\
         kind = \"cosine\"\n\
         # Passes over the data; \"10000 steps\" and \"10M samples\" are lengths too.\n\
         length = \"{epochs} epochs\"\n\
         warmup = \"5 %\"\n\n"
    );
}

fn evaluation(text: &mut String, found: &Detected, options: &InitOptions, sizes: Sizes) {
    // Many short epochs would spend their time on evaluations and checkpoints.
    let every = if sizes.epochs > 40 {
        "5 epochs"
    } else {
        "1 epoch"
    };
    let mut best = options.val.is_some().then(|| "eval/val/loss".to_string());
    // The held-out pairs are logged as `val`.
    let is_free = |folder: &&PathBuf| options.val.is_none() || name_of(folder) != "val";
    if let Some(folder) = found.test_classes.as_ref().filter(is_free) {
        let dataset = Value::from(folder.display().to_string());
        let _ = write!(
            text,
            "# Zero-shot accuracy on images in class folders, by the names of the folders.\n\
             [[eval]]\n\
             kind = \"zero-shot\"\n\
             dataset = {dataset}\n\
             every = \"{every}\"\n\n"
        );
        best = Some(format!("eval/{}/top1", name_of(folder)));
    } else {
        text.push_str(
            "# Zero-shot accuracy while it trains: a folder with one sub-folder of images per class, or a dataset of\n\
             # `datasets/`.\n\
             # [[eval]]\n\
             # kind = \"zero-shot\"\n\
             # dataset = \"path/to/classes\"\n\
             # every = \"1 epoch\"\n\n",
        );
    }
    let _ = write!(text, "[checkpoint]\nevery = \"{every}\"\nkeep = 3\n");
    match best {
        Some(best) => {
            let _ = writeln!(text, "# Its best value selects the checkpoint that --model opens.\nbest = {}", Value::from(best));
        }
        None => text.push_str("# With [data.val] or [[eval]]: the metric whose best checkpoint is kept and opened.\n# best = \"eval/val/loss\"\n"),
    }
    text.push_str("\n[log]\nevery = \"10 steps\"\n");
}

/// The name by which a folder's metrics are logged.
fn name_of(folder: &Path) -> String {
    DatasetConfig::read(folder).map_or(String::new(), |dataset| dataset.name)
}
