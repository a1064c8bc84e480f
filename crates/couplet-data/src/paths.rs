//! Where relative paths start: the one rule for configs, dataset files, sweeps and the command line.
//!
//! A path in a file starts from the folder of that file; on the command line and in `--set`, from the
//! working directory. A data root (`--data-root`) takes the place of the file's folder for data, and is
//! then the only place. Without one, data that is not in the file's folder is looked for in `data/` of the
//! working directory, and then, as all paths, in the working directory, where earlier versions looked.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::printable_path;
use crate::formats::{Patterns, is_url};

/// The folder of the working directory in which data is looked for.
pub const DEFAULT_DATA_ROOT: &str = "data";

/// What a path names, which decides where it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Files or folders of data; patterns too.
    Data,
    /// A file that is not data: weights, a tokenizer, another config.
    File,
    /// A dataset: its file, its folder, or the name of a built-in one.
    Dataset {
        /// Whether it is the name of a built-in dataset.
        is_built_in: bool,
    },
}

/// Where the relative paths of one file, or of the command line, start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathBase {
    /// The file, for messages; `None` for the command line.
    file: Option<PathBuf>,
    start: Start,
    data_root: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// The folder of a file.
    Folder(PathBuf),
    /// A built-in file, which is in no folder.
    BuiltIn,
    /// A folder; empty for the working directory.
    CommandLine(PathBuf),
    /// The directory in which a run began, which its folder has recorded.
    Recorded(PathBuf),
}

/// A path at which there is nothing, with all places where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotThere {
    pub path: String,
    pub sought: Vec<PathBuf>,
    has_data_root: bool,
    kind: PathKind,
}

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sought: Vec<String> = self
            .sought
            .iter()
            .map(|path| printable_path(path))
            .collect();
        let advice = match self.kind {
            PathKind::File => "correct the path",
            _ if self.has_data_root => "correct the path or --data-root",
            _ => "correct the path or give --data-root DIR",
        };
        match &sought[..] {
            [only] => write!(f, "{only} is not there; {advice}"),
            [first @ .., last] => write!(
                f,
                "`{}` is not there: looked for {} and {last}; {advice}",
                self.path,
                first.join(", ")
            ),
            [] => write!(f, "`{}` is not there; {advice}", self.path),
        }
    }
}

impl std::error::Error for NotThere {}

impl PathBase {
    /// The rule for paths in a file.
    pub fn of_file(file: &Path, data_root: Option<&Path>) -> Self {
        let folder = file.parent().unwrap_or(Path::new(""));
        Self {
            file: Some(file.to_path_buf()),
            start: Start::Folder(folder.to_path_buf()),
            data_root: data_root.map(Path::to_path_buf),
        }
    }

    /// The rule for paths in a dataset file that is built in.
    pub fn built_in(data_root: Option<&Path>) -> Self {
        Self {
            file: None,
            start: Start::BuiltIn,
            data_root: data_root.map(Path::to_path_buf),
        }
    }

    /// The rule for the command line.
    pub fn working_dir(data_root: Option<&Path>) -> Self {
        Self {
            file: None,
            start: Start::CommandLine(PathBuf::new()),
            data_root: data_root.map(Path::to_path_buf),
        }
    }

    /// The rule for the command line of a process that began in another directory.
    pub fn command_line(began_in: &Path, data_root: Option<&Path>) -> Self {
        Self {
            start: Start::CommandLine(began_in.to_path_buf()),
            ..Self::working_dir(data_root)
        }
    }

    /// The rule for the config that a run has saved.
    /// - began_in: the directory that its relative paths start from.
    pub fn recorded(file: &Path, began_in: &Path, data_root: Option<&Path>) -> Self {
        Self {
            file: Some(file.to_path_buf()),
            start: Start::Recorded(began_in.to_path_buf()),
            data_root: data_root.map(Path::to_path_buf),
        }
    }

    /// What stands for data instead of the file's folder.
    pub fn data_root(&self) -> Option<&Path> {
        self.data_root.as_deref()
    }

    /// Finds what a path names. URLs, names of built-in datasets and patterns with mistakes stay as they
    /// are.
    /// - key: of the path, for warnings.
    /// - returns the path from the working directory on; that of a dataset is never a plain name.
    ///
    /// # Errors
    /// If there is nothing at any of the places; an absolute path, and one of the command line, is not
    /// looked for.
    pub fn find(&self, key: &str, path: &str, kind: PathKind) -> Result<String, NotThere> {
        if path.is_empty() || is_url(path) || Patterns::is_unsound(path) {
            return Ok(path.to_string());
        }
        if Path::new(path).is_absolute() {
            return Ok(self.moved(path));
        }
        let is_built_in = kind == PathKind::Dataset { is_built_in: true };
        let places = self.places(path, kind);
        let is_there = |place: &&PathBuf| is_there(place);
        let (before, after) =
            places.split_at(usize::from(is_built_in).min(self.own_places(&places)));
        if let Some(found) = before.iter().find(is_there) {
            return Ok(named(found, kind));
        }
        if is_built_in {
            return Ok(path.to_string());
        }
        if let Some(found) = after.iter().find(is_there) {
            self.warn_of_old_rule(key, path, found, kind);
            return Ok(named(found, kind));
        }
        Err(NotThere {
            path: path.to_string(),
            sought: places,
            has_data_root: self.data_root.is_some(),
            kind,
        })
    }

    /// Where a relative path would be: the first of the places where it is looked for.
    pub fn first_place(&self, path: &str, kind: PathKind) -> PathBuf {
        let mut places = self.places(path, kind);
        places.swap_remove(0)
    }

    /// How many places come before the name of a built-in dataset.
    fn own_places(&self, places: &[PathBuf]) -> usize {
        match self.start {
            // The config of a run names folders by their whole paths: a plain name was a built-in dataset.
            Start::BuiltIn | Start::Recorded(_) => 0,
            _ => places.len().min(1),
        }
    }

    /// All places, the first that counts first.
    fn places(&self, path: &str, kind: PathKind) -> Vec<PathBuf> {
        let root = self.data_root.as_deref();
        let default_root = Path::new(DEFAULT_DATA_ROOT);
        let here = Path::new("");
        let folders = match (&self.start, kind) {
            (Start::CommandLine(folder), PathKind::Dataset { .. }) => {
                vec![folder, root.unwrap_or(default_root)]
            }
            (Start::CommandLine(folder), _) => vec![&**folder],
            (Start::Recorded(_), PathKind::Data) if root.is_some() => root.into_iter().collect(),
            (Start::Recorded(folder), _) if folder.is_dir() => vec![&**folder],
            (Start::Recorded(_), _) => vec![here],
            (_, PathKind::Data) if root.is_some() => root.into_iter().collect(),
            (Start::BuiltIn, _) => vec![default_root, here],
            (Start::Folder(folder), PathKind::Data) => vec![folder, default_root, here],
            (Start::Folder(folder), PathKind::File) => vec![folder, here],
            (Start::Folder(folder), PathKind::Dataset { .. }) => {
                vec![folder, root.unwrap_or(default_root), here]
            }
        };
        let mut places: Vec<PathBuf> = Vec::new();
        for folder in folders {
            let place = normalized(&joined(folder, path));
            let place = if matches!(self.start, Start::Recorded(_)) {
                from_here(&place)
            } else {
                place
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// An absolute path; of a run whose directory was moved with its data, the path where it is now.
    fn moved(&self, path: &str) -> String {
        let Start::Recorded(began_in) = &self.start else {
            return path.to_string();
        };
        let absolute = Path::new(path);
        let shown = |path: &Path| path.display().to_string();
        if is_there(absolute) {
            return shown(&from_here(absolute));
        }
        match absolute.strip_prefix(began_in) {
            Ok(rest) if is_there(rest) => shown(rest),
            _ => path.to_string(),
        }
    }

    fn warn_of_old_rule(&self, key: &str, path: &str, found: &Path, kind: PathKind) {
        let (Some(file), Start::Folder(folder)) = (&self.file, &self.start) else {
            return;
        };
        let is_old =
            found == normalized(Path::new(path)) && found != normalized(&folder.join(path));
        if !is_old {
            return;
        }
        let in_data = found.strip_prefix(DEFAULT_DATA_ROOT).ok();
        let spelling = match in_data {
            Some(rest) if kind == PathKind::Data => rest.to_path_buf(),
            _ => relative(found, folder),
        };
        if !is_first(&format!("{}\n{key}\n{path}", file.display())) {
            return;
        }
        tracing::warn!(
            "{}: {key}: `{path}` was found from the working directory, as in earlier versions; paths \
             start from the file's folder: write `{}`",
            printable_path(file),
            spelling.display()
        );
    }
}

/// Whether a warning is given for the first time: a sweep reads its config for each trial.
fn is_first(warning: &str) -> bool {
    static GIVEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.insert(warning.to_string())
}

/// Whether anything is at a path, or matches a pattern.
fn is_there(path: &Path) -> bool {
    path.exists()
        || path
            .to_str()
            .is_some_and(|path| path.contains(['*', '?', '[', '{']) && Patterns::matches_any(path))
}

/// The path of a dataset as no plain name, which would be that of a built-in one.
fn named(path: &Path, kind: PathKind) -> String {
    let is_plain = path.components().count() == 1 && path.file_name() == Some(path.as_os_str());
    if matches!(kind, PathKind::Dataset { .. }) && is_plain {
        return format!("./{}", path.display());
    }
    path.display().to_string()
}

/// A path in a folder. Where it is a pattern, the folder's own brackets and stars stand for themselves.
pub fn joined(folder: &Path, path: &str) -> PathBuf {
    match folder.to_str().filter(|_| path.contains(['*', '?', '['])) {
        Some(folder) => Path::new(&glob::Pattern::escape(folder)).join(path),
        None => folder.join(path),
    }
}

/// A path without `.` and, where a folder comes before it, `..`.
pub fn normalized(path: &Path) -> PathBuf {
    let mut parts: Vec<Component> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return ".".into();
    }
    parts.iter().collect()
}

/// An absolute path from the working directory on, if it is below that.
fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let below = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    match below {
        Some(below) if below != Path::new("") => below.to_path_buf(),
        _ => path.to_path_buf(),
    }
}

/// The way from `folder` to `path`; either may be relative to the working directory.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let absolute = |path: &Path| match std::path::absolute(path) {
        Ok(absolute) if path != Path::new("") => normalized(&absolute),
        _ => std::env::current_dir().unwrap_or_default(),
    };
    let (path, folder) = (absolute(path), absolute(folder));
    let both = path.components().zip(folder.components());
    let shared = both.take_while(|(a, b)| a == b).count();
    let up = folder
        .components()
        .skip(shared)
        .map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    }

    #[test]
    fn a_path_starts_from_the_folder_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        put(&at("configs/pets/1.tar"));
        put(&at("data/1.tar"));
        put(&at("elsewhere/1.tar"));
        let base = PathBase::of_file(&at("configs/a.toml"), None);
        let find = |base: &PathBase, path: &str| base.find("k", path, PathKind::Data);
        let shown = |name: &str| Ok(at(name).display().to_string());
        assert_eq!(find(&base, "pets"), shown("configs/pets"));
        assert_eq!(
            find(&base, "pets/{0..3}.tar"),
            shown("configs/pets/{0..3}.tar")
        );
        assert_eq!(find(&base, "../data/*.tar"), shown("data/*.tar"));
        assert_eq!(find(&base, "s3://a/b.tar"), Ok("s3://a/b.tar".into()));
        let missing = find(&base, "cats").unwrap_err();
        assert_eq!(
            missing.sought,
            [at("configs/cats"), "data/cats".into(), "cats".into()]
        );
        let rooted = PathBase::of_file(&at("configs/a.toml"), Some(&at("elsewhere")));
        assert_eq!(find(&rooted, "1.tar"), shown("elsewhere/1.tar"));
        let missing = find(&rooted, "pets").unwrap_err();
        assert_eq!(missing.sought, [at("elsewhere/pets")], "the only place");
        let weights = rooted.find("k", "pets/1.tar", PathKind::File);
        assert_eq!(weights, shown("configs/pets/1.tar"), "a root is for data");
    }

    #[test]
    fn a_built_in_name_comes_after_the_files_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        put(&at("shapes/a"));
        put(&at("data/digits/a"));
        let base = PathBase::of_file(&at("a.toml"), Some(&at("data")));
        let find =
            |path: &str, is_built_in: bool| base.find("k", path, PathKind::Dataset { is_built_in });
        let shown = |name: &str| Ok(at(name).display().to_string());
        assert_eq!(find("shapes", true), shown("shapes"));
        assert_eq!(find("digits", true), Ok("digits".into()));
        assert_eq!(find("digits", false), shown("data/digits"));
        // Found from the working directory, a name of one part is no built-in one.
        let here = PathBase::working_dir(None);
        let found = here.find("k", "src", PathKind::Dataset { is_built_in: true });
        assert_eq!(found, Ok("./src".into()));
    }

    #[test]
    fn a_run_that_was_moved_with_its_data_finds_it() {
        let was = Path::new("/nowhere/project");
        let base = PathBase::recorded(Path::new("runs/a/config.toml"), was, None);
        let found = base.find("k", "/nowhere/project/src/lib.rs", PathKind::Data);
        assert_eq!(found, Ok("src/lib.rs".into()));
        let here = std::env::current_dir().unwrap().join("src/lib.rs");
        let found = base.find("k", here.to_str().unwrap(), PathKind::Data);
        assert_eq!(found, Ok("src/lib.rs".into()));
    }

    #[test]
    fn the_new_spelling_leads_from_the_file_to_the_path() {
        let spelling = |path: &str, folder: &str| {
            let relative = relative(Path::new(path), Path::new(folder));
            relative.display().to_string()
        };
        assert_eq!(spelling("data/a", "configs"), "../data/a");
        assert_eq!(spelling("a", ""), "a");
        assert_eq!(spelling("/x/y/z", "/x/w"), "../y/z");
        let normal = |path: &str| normalized(Path::new(path)).display().to_string();
        assert_eq!(normal("configs/../data/./a"), "data/a");
        assert_eq!(normal("../a/.."), "..");
        assert_eq!(normal("/../a"), "/a");
        assert_eq!(normal("a/.."), ".");
    }

    #[test]
    fn brackets_of_a_folder_are_no_pattern() {
        let shown =
            |folder: &str, path: &str| joined(Path::new(folder), path).display().to_string();
        assert_eq!(shown("/p/exp [v2]", "d/*.tar"), "/p/exp [[]v2[]]/d/*.tar");
        assert_eq!(shown("/p/exp [v2]", "d.csv"), "/p/exp [v2]/d.csv");
        assert_eq!(shown("/p/[a]", "/q/*.tar"), "/q/*.tar");
    }
}
