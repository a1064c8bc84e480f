//! `couplet init`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_data::detect::{Detected, detect};
use couplet_data::{printable, printable_path};
use couplet_train::{FirstConfig, InitOptions, first_config};

use super::output_file::write_whole;
use crate::exit_code;
use crate::quantities::{count, count_of, parameters};

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Image-text pairs: a folder of images with captions or of classes, a .csv, .tsv or .parquet file, tar shards,
    /// or a pattern of such files
    data: String,
    /// Config to write [default: NAME.toml in the working directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of the run [default: the data's]
    #[arg(long)]
    name: Option<String>,
    /// Architecture, one of `couplet model list` [default: by the number of pairs and the size of the images]
    #[arg(long)]
    preset: Option<String>,
    /// Held-out pairs of any of these kinds [default: the data's own `val` split]
    #[arg(long, value_name = "DATA")]
    val: Option<String>,
    /// Device to train on [default: auto]
    #[arg(long)]
    device: Option<String>,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
}

/// With this in the environment, paths in configs do not start from their folder.
const DATA_ROOT: &str = "COUPLET_DATA_ROOT";
const MIB: f64 = (1 << 20) as f64;

pub(crate) fn run(arguments: &InitArguments) -> anyhow::Result<u8> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(&arguments.data),
    };
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    if out.exists() && !arguments.force {
        bail!(
            "{} exists; give --out FILE, or --force to replace it",
            out.display()
        );
    }
    let folder = out
        .parent()
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{}: no such folder", folder.display());
    }
    let absolute = |data: &str| -> anyhow::Result<String> {
        // The config's paths start from its own folder.
        let has_root = std::env::var_os(DATA_ROOT).is_some();
        let is_here = folder == Path::new(".") && !has_root
            || Path::new(data).is_absolute()
            || data.contains("://");
        Ok(if is_here {
            data.to_string()
        } else {
            let here = std::env::current_dir().context("the working directory cannot be read")?;
            here.join(data).display().to_string()
        })
    };
    let mut found = detect(&absolute(&arguments.data)?)?;
    let val = match &arguments.val {
        Some(val) => Some(detect(&absolute(val)?)?.source),
        None => found.val.take(),
    };
    let options = InitOptions {
        name,
        file: out.display().to_string(),
        preset: arguments.preset.clone(),
        device: arguments.device.clone(),
        val,
    };
    let first = first_config(&found, &options, folder)?;
    write_whole(&out, |path| Ok(fs::write(path, &first.text)?))?;
    print(&arguments.data, &found, &first, &out);
    Ok(exit_code::DONE)
}

/// The run's name: the data's own, without what a name may not have.
fn name_of(data: &str) -> String {
    let path = Path::new(data);
    let known = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    // A pattern's folder says more than the pattern.
    let is_pattern = data.contains(['*', '?', '{']);
    let path = if is_pattern {
        known.parent().unwrap_or(&known)
    } else {
        &known
    };
    let stem = if path.is_dir() {
        path.file_name()
    } else {
        path.file_stem()
    };
    let stem = stem.unwrap_or_default().to_string_lossy().into_owned();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = stem
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches(['-', '.']).to_string();
    if name.is_empty() {
        "mine".to_string()
    } else {
        name
    }
}

fn print(data: &str, found: &Detected, first: &FirstConfig, out: &Path) {
    let trial = &found.trial;
    let samples = trial.samples.map_or(String::new(), |samples| {
        format!("{}, ", count_of(samples, "pair"))
    });
    say!("{}: {samples}{}", printable(data), found.kind);
    let tried = trial.read + trial.bad;
    if let Some(problem) = &trial.problem {
        say!(
            "  {} of {tried} samples that were tried cannot be used: {problem}; training skips such samples, but \
             ends if they are more than data.max_skipped in the config",
            trial.bad
        );
    }
    if let Some([width, height]) = trial.sizes.get(trial.sizes.len() / 2) {
        say!("  images such as {width} x {height} pixels");
    }
    for caption in trial.captions.iter().take(2) {
        let line: String = printable(caption).chars().take(60).collect();
        say!("  \"{line}\"");
    }
    for note in &found.notes {
        say!("  {note}");
    }
    let plan = &first.plan;
    let micro = match plan.micro_batch {
        micro if micro < plan.batch => format!(" in micro-batches of {micro}"),
        _ => String::new(),
    };
    let config = printable_path(out);
    say!(
        "{config}: {}, batch {}{micro}, {}, about {:.0} MiB of memory",
        parameters(usize::try_from(plan.trained_parameters).unwrap_or(usize::MAX)),
        plan.batch,
        count(plan.total_steps, "step"),
        (plan.bytes(false) + plan.bytes(true)) / MIB
    );
    say!(
        "next:\n  couplet data check {config}\n  couplet plan {config} --measure\n  couplet train {config}"
    );
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_run_is_named_as_its_data() {
        assert_eq!(name_of("nowhere/my photos"), "my-photos");
        assert_eq!(name_of("nowhere/pairs.csv"), "pairs");
        assert_eq!(name_of("nowhere/cc3m/{0000..0009}.tar"), "cc3m");
        assert_eq!(name_of("/"), "mine");
    }
}
