//! The file that is locked while a process trains in a run's folder.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use super::error::{CheckpointError, io_at};
use super::identity::Identity;

/// Opens the file, creating it if it is missing. A link is not followed: the file that it leads to
/// is not the run's.
pub(super) fn open_lock(path: &Path) -> Result<File, CheckpointError> {
    let fail = io_at(path);
    let foreign = || CheckpointError::Damaged {
        path: path.to_path_buf(),
        message: "is a link or no file, so the run cannot be locked; remove it".to_string(),
        source: None,
    };
    if fs::symlink_metadata(path).is_ok_and(|entry| !entry.is_file()) {
        return Err(foreign());
    }
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true);
    let lock = options.open(path).map_err(&fail)?;
    // It may have become a link since.
    let entry = fs::symlink_metadata(path).map_err(&fail)?;
    if Identity::of(&entry) != Identity::of_file(&lock).map_err(&fail)? {
        return Err(foreign());
    }
    Ok(lock)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_neither_followed_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("mine"), folder.path().join("lock"));
        fs::write(&target, "text").unwrap();
        for target in [&target, &folder.path().join("nowhere")] {
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert!(
                open_lock(&link)
                    .unwrap_err()
                    .to_string()
                    .contains("is a link")
            );
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "text");
        assert!(!folder.path().join("nowhere").exists());
        fs::write(&link, "kept").unwrap();
        open_lock(&link).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "kept");
    }
}
