//! Why a command cannot be translated.

use std::path::PathBuf;

/// Why a training command of open_clip cannot be translated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error(
        "no training command of open_clip found: expected `python -m open_clip_train.main --train-data …`, a file \
         with such a command, a `params.txt` or a run's folder"
    )]
    NoCommand,
    #[error("a quote is not closed")]
    Quote,
    #[error("{}: cannot be read", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Every flag that is wrong, one text each.
    #[error("{}", listed(.0))]
    Problems(Vec<String>),
}

fn listed(problems: &[String]) -> String {
    match problems {
        [only] => only.clone(),
        several => format!("{} problems\n  {}", several.len(), several.join("\n  ")),
    }
}
