//! Why a run's folder or a checkpoint cannot be used.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use couplet_data::TokenizerError;
use couplet_model::weights::WeightsError;
use couplet_model::{FolderError, ManifestError};

/// Why a run's folder or a checkpoint could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: already holds a run; continue it with --resume, replace it with --overwrite, or \
         choose another folder with --run-dir", path.display()
    )]
    Occupied { path: PathBuf },
    #[error(
        "{}: holds {}, and no run that Couplet wrote; choose another folder with --run-dir",
        path.display(), files.join(", ")
    )]
    Foreign { path: PathBuf, files: Vec<String> },
    #[error(
        "{}: no run to resume: the folder has no checkpoint and holds {}; start a new run without \
         --resume, or choose another folder with --run-dir",
        path.display(), files.join(", ")
    )]
    NothingToResume { path: PathBuf, files: Vec<String> },
    #[error(
        "{}: every checkpoint is damaged, so the run cannot be resumed:\n  {}\nrestore one of them \
         from a copy, or start again with --overwrite",
        path.display(), problems.join("\n  ")
    )]
    AllDamaged {
        path: PathBuf,
        problems: Vec<String>,
    },
    #[error(
        "{}: the run's folder was removed, renamed or replaced while the run wrote to it; put it back \
         and continue with --resume",
        path.display()
    )]
    Moved { path: PathBuf },
    #[error("{}: another process is training in this folder", path.display())]
    Locked { path: PathBuf },
    #[error("{}", describe_changes(path, asked, never))]
    Changed {
        path: PathBuf,
        /// Changes with which the run can go on, one line each.
        asked: Vec<String>,
        /// Those with which it cannot.
        never: Vec<String>,
    },
    #[error("{}: {message}", path.display())]
    Damaged {
        path: PathBuf,
        message: String,
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    #[error(transparent)]
    Model(#[from] FolderError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

fn describe_changes(path: &Path, asked: &[String], never: &[String]) -> String {
    let run = path.display();
    let lines = [never, asked].concat().join("\n  ");
    let ways = match (asked.is_empty(), never.is_empty()) {
        (false, true) => "restore this, or accept the changes with --allow-changes",
        (true, _) => "restore this",
        (false, false) => "restore what cannot change; --allow-changes accepts the rest",
    };
    format!(
        "{run}: cannot resume, because this differs from config.toml and inputs.json in its folder:\n  \
         {lines}\n{ways}; or start a new run with --run-dir, from this one's weights with --set model.weights={run}"
    )
}

pub(super) fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    // Only Unix can open a folder to sync its entries.
    if cfg!(unix) {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(io_at(path))?;
    }
    Ok(())
}

pub(super) fn io_at(path: &Path) -> impl Fn(io::Error) -> CheckpointError + use<> {
    let path = path.to_path_buf();
    move |source| CheckpointError::Io {
        path: path.clone(),
        source,
    }
}
