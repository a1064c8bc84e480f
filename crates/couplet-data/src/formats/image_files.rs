//! Image files on disk, and how the relative paths in tables are resolved.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{MAX_IMAGE_BYTES, read_regular};
use crate::error::printable_path;
use crate::sample::{SampleError, SkipCause};

/// Resolves image paths in a table: relative to `root` if it is set, else to the table's own
/// folder, else (if there is no such file) to the working directory, as in open_clip. Absolute
/// paths are kept.
#[derive(Debug, Clone)]
pub(crate) struct ImagePaths {
    /// Where relative paths start.
    pub folder: PathBuf,
    has_root: bool,
}

impl ImagePaths {
    /// - table: the file that names the images.
    pub fn new(root: Option<&Path>, table: &Path) -> Self {
        let folder = root.or(table.parent()).unwrap_or(Path::new(""));
        Self {
            folder: folder.to_path_buf(),
            has_root: root.is_some(),
        }
    }

    /// The file of an image that the table names. Where no file has exactly this name, spaces around it
    /// do not count.
    pub fn resolve(&self, name: &str) -> PathBuf {
        let trimmed = name.trim();
        if self.has_root && trimmed.len() == name.len() {
            // There is one place only: no question to the file system for each row.
            return self.folder.join(name);
        }
        let in_folder = |name: &str| Some(self.folder.join(name));
        let here = |name: &str| (!self.has_root).then(|| PathBuf::from(name));
        [
            in_folder(name),
            here(name),
            in_folder(trimmed),
            here(trimmed),
        ]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .unwrap_or_else(|| self.folder.join(name))
    }
}

/// An invalid `root` key, as (key, message).
pub(crate) fn root_problem(root: Option<&PathBuf>) -> Option<(&'static str, String)> {
    let root = root.filter(|root| !root.is_dir())?;
    Some(("root", format!("{} is not a folder", root.display())))
}

/// An invalid `path` key of a folder, as (key, message).
pub(crate) fn folder_problem(path: &Path) -> Option<(&'static str, String)> {
    (!path.is_dir()).then(|| ("path", format!("{} is not a folder", path.display())))
}

/// Reads an image file.
///
/// # Errors
/// If it cannot be read.
pub fn read_image(path: &Path) -> Result<Vec<u8>, SampleError> {
    read_regular(path, MAX_IMAGE_BYTES).map_err(|error| {
        let cause = if error.kind() == io::ErrorKind::NotFound {
            SkipCause::MissingImage
        } else {
            SkipCause::Unreadable
        };
        SampleError::new(cause, format!("{}: {error}", printable_path(path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn relative_paths_start_from_the_root_or_the_tables_folder_or_the_working_directory() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("t.csv");
        fs::write(folder.path().join("a.png"), b"image").unwrap();
        let paths = ImagePaths::new(None, &table);
        assert_eq!(paths.resolve("a.png"), folder.path().join("a.png"));
        assert_eq!(paths.resolve("Cargo.toml"), Path::new("Cargo.toml"));
        let rooted = ImagePaths::new(Some(Path::new("images")), &table);
        assert_eq!(paths.resolve(" a.png"), folder.path().join("a.png"));
        assert_eq!(paths.resolve("b.png"), folder.path().join("b.png"));
        assert_eq!(rooted.resolve("a.png"), Path::new("images/a.png"));
        assert_eq!(rooted.resolve("/x/a.png"), Path::new("/x/a.png"));
    }
}
