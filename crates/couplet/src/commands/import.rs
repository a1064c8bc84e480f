//! `couplet import`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_train::import::{
    ImportNoteKind, ImportOptions, Imported, ImportedCheckpoint, flags_page, import,
    import_checkpoint, read_command,
};
use couplet_train::{DeviceCheck, ResolvedRun, RunConfig, RunFolder};

use super::output_file::{check, write_whole};
use crate::exit_code;

/// Translate a training command of open_clip, or the params.txt of a run, into a config
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The command in quotes, a file with it, a params.txt, a run's folder, or `-` for standard input
    #[arg(
        value_name = "COMMAND|FILE|FOLDER",
        required_unless_present = "flags",
        allow_hyphen_values = true
    )]
    command: Option<String>,
    /// File to write, `-` for standard output [default: NAME.toml in the working directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of the run [default: the command's --name, else the model's name]
    #[arg(long)]
    name: Option<String>,
    /// Also make a run that goes on from this checkpoint of open_clip, epoch_K.pt, with its optimizer's
    /// moments [default: the command's --resume]
    #[arg(long, value_name = "FILE", conflicts_with = "flags")]
    checkpoint: Option<PathBuf>,
    /// Replace the file, and the run, if they exist
    #[arg(long)]
    force: bool,
    /// Number of devices that the command runs on [default: as the launcher's options say]
    #[arg(long, value_name = "N")]
    devices: Option<usize>,
    /// open_clip's description of a model that is no preset: a JSON file with `vision_cfg`
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
    /// Print what becomes of each flag of open_clip, in Markdown
    #[arg(long, exclusive = true)]
    flags: bool,
}

pub(crate) fn run(arguments: &ImportArguments) -> anyhow::Result<u8> {
    if arguments.flags {
        println!("{}", flags_page().trim_end());
        return Ok(exit_code::DONE);
    }
    let named = arguments.command.as_deref().unwrap_or_default();
    let command = if named == "-" {
        let mut text = String::new();
        (std::io::stdin().read_to_string(&mut text)).context("standard input cannot be read")?;
        text
    } else {
        read_command(named)?
    };
    let options = ImportOptions {
        name: arguments.name.clone(),
        devices: arguments.devices,
        model_config: arguments.model_config.clone(),
        file: arguments.out.clone().filter(|file| file != Path::new("-")),
        continues: arguments.checkpoint.is_some(),
        base: base(arguments.out.as_deref())?,
    };
    let imported = import(&command, &options)?;
    let checkpoint = arguments
        .checkpoint
        .clone()
        .or(imported.resume.clone().map(PathBuf::from));
    if arguments.out.as_deref() == Some(Path::new("-")) {
        if arguments.checkpoint.is_some() {
            bail!("--checkpoint: a run needs the config as a file; leave out `--out -`");
        }
        print!("{}", imported.config);
        return Ok(exit_code::DONE);
    }
    if let Some(checkpoint) = checkpoint.as_ref().filter(|path| !path.is_file()) {
        bail!(
            "{}: no such checkpoint; give the path of open_clip's epoch_K.pt with --checkpoint",
            checkpoint.display()
        );
    }
    let own = || PathBuf::from(format!("{}.toml", imported.name));
    let file = arguments.out.clone().unwrap_or_else(own);
    if file.exists() && !arguments.force {
        bail!(
            "{}: exists already; replace it with --force, or choose another file with --out FILE",
            file.display()
        );
    }
    let existed = file.exists();
    check(&file)?;
    write_whole(&file, |path| Ok(std::fs::write(path, &imported.config)?))?;
    print_imported(&imported, &file);
    if let Some(checkpoint) = checkpoint {
        let gone_on = go_on(&file, &checkpoint, arguments.force);
        if gone_on.is_err() && !existed {
            // The next try is not in its own way.
            let _ = std::fs::remove_file(&file);
        }
        gone_on?;
    } else {
        let file = file.display();
        say!("next: couplet plan {file} checks it, couplet train {file} trains");
    }
    Ok(exit_code::DONE)
}

/// Where the command's relative paths start from, for a config in another folder than this one.
fn base(out: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let folder = out
        .and_then(Path::parent)
        .filter(|folder| *folder != Path::new(""));
    let here = std::env::current_dir().context("the working directory is gone")?;
    match folder {
        _ if std::env::var_os("COUPLET_DATA_ROOT").is_some() => Ok(Some(here)),
        Some(folder) if here.join(folder).canonicalize().ok() != here.canonicalize().ok() => {
            Ok(Some(here))
        }
        _ => Ok(None),
    }
}

fn print_imported(imported: &Imported, file: &Path) {
    say!("wrote {}: {}", file.display(), imported.summary);
    for (title, kind) in [
        ("without counterpart", ImportNoteKind::Missing),
        ("to note", ImportNoteKind::Remark),
        ("not needed here", ImportNoteKind::Needless),
        ("before the first step", ImportNoteKind::ToDo),
    ] {
        let notes = || imported.notes.iter().filter(|note| note.kind == kind);
        if notes().next().is_none() {
            continue;
        }
        say!("{title}:");
        for note in notes() {
            say!("  {}: {}", note.flag, note.text);
        }
    }
}

/// Makes a run that goes on from a checkpoint of open_clip.
fn go_on(file: &Path, checkpoint: &Path, force: bool) -> anyhow::Result<()> {
    let run = ResolvedRun::open(file, &[], DeviceCheck::Skip)?;
    let path = RunConfig::folder_of(&run.config.name);
    let open = || {
        if force {
            RunFolder::overwrite(&path, &run.config)
        } else {
            RunFolder::create(&path, &run.config)
        }
    };
    let ImportedCheckpoint {
        step,
        epoch,
        samples_seen,
        moments,
        updates,
    } = import_checkpoint(&run, checkpoint, open)?;
    let shown = path.display();
    say!("wrote {shown}: after epoch {epoch}, step {step}, {samples_seen} samples");
    let of_moments = match (moments, updates) {
        (0, _) => {
            "the checkpoint has no optimizer state: AdamW's moments start from zero".to_string()
        }
        (_, None) => format!("with AdamW's moments of {moments} parameters"),
        (_, Some(updates)) => format!(
            "with AdamW's moments of {moments} parameters after {updates} updates: open_clip's epochs have another \
             number of steps, or it skipped some"
        ),
    };
    say!("  {of_moments}");
    say!("next: couplet train {shown} --resume");
    Ok(())
}
