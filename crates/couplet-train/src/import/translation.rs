//! What is known while a command is translated, and what its reader is told.

use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::kind::Kind;

/// What a reader of the config should know of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportNote {
    /// With its `--`.
    pub flag: String,
    pub kind: ImportNoteKind,
    pub text: String,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportNoteKind {
    /// The flag has no counterpart: something of the original run is lost.
    Missing,
    /// To be done before the run can train.
    ToDo,
    /// Worth knowing.
    Remark,
    /// The flag is not needed here.
    Needless,
}

/// A command that is being translated.
#[derive(Debug)]
pub(super) struct Translation {
    pub arguments: Arguments,
    /// Where relative paths start from, for a config that is in another folder.
    pub base: Option<PathBuf>,
    pub notes: Vec<ImportNote>,
    /// Of the training data.
    pub kind: Option<Kind>,
    pub samples_per_epoch: Option<usize>,
    pub evaluates_held_out: bool,
    pub global_batch: u64,
    /// Whether the run goes on from a checkpoint.
    pub continues: bool,
}

impl Translation {
    pub fn new(arguments: Arguments, base: Option<PathBuf>) -> Self {
        Self {
            arguments,
            base,
            notes: Vec::new(),
            kind: None,
            samples_per_epoch: None,
            evaluates_held_out: false,
            global_batch: 0,
            continues: false,
        }
    }

    /// The model's name, as open_clip writes it.
    pub fn model_name(&self) -> String {
        let name = self.arguments.text("model").unwrap_or("RN50");
        let is_place = name.contains(':');
        let name = name.to_string();
        if is_place {
            name
        } else {
            name.replace('/', "-")
        }
    }

    /// A path of the command as the config names it: from the folder that the command changed to, and
    /// from the config's own.
    pub fn place(&self, path: &str) -> String {
        let is_fixed =
            path.contains("://") || path.starts_with(['/', '$', '~', '\\']) || path.contains(":\\");
        if is_fixed {
            return path.to_string();
        }
        let folder = self
            .arguments
            .folder
            .as_deref()
            .filter(|folder| *folder != ".");
        let path = folder.map_or_else(|| path.into(), |folder| Path::new(folder).join(path));
        let path = match &self.base {
            Some(base) if path.is_relative() => base.join(path),
            _ => path,
        };
        path.to_string_lossy().into_owned()
    }

    /// The place of shards, which open_clip may read through a program.
    pub fn shards(&mut self, path: &str) -> String {
        let Some(pipe) = path.strip_prefix("pipe:") else {
            return self.place(path);
        };
        let is_place = |word: &&str| word.contains("://") || word.contains(".tar");
        let words: Vec<&str> = pipe.split_whitespace().collect();
        let Some(place) = words.iter().copied().find(is_place) else {
            let problem = format!("--train-data: `{path}`: no address of shards in this pipe");
            self.arguments.problems.push(problem);
            return path.to_string();
        };
        if place.contains("://") {
            self.note(
                "--train-data",
                "shards are read from the object store without a pipe".into(),
            );
        }
        self.place(place)
    }

    pub fn missing(&mut self, flag: &str, instead: &str) {
        self.push(flag, ImportNoteKind::Missing, instead.to_string());
    }

    pub fn before_training(&mut self, flag: &str, what: &str) {
        self.push(flag, ImportNoteKind::ToDo, what.to_string());
    }

    pub fn note(&mut self, flag: &str, text: String) {
        self.push(flag, ImportNoteKind::Remark, text);
    }

    pub fn needless(&mut self, flag: &str, why: &str) {
        self.push(flag, ImportNoteKind::Needless, why.to_string());
    }

    fn push(&mut self, flag: &str, kind: ImportNoteKind, text: String) {
        let note = ImportNote {
            flag: flag.to_string(),
            kind,
            text,
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}
