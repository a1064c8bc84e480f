//! The file that is locked while a process trains in a run's folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

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

/// Locks the file. Who only looks whether it is locked (`RunFolder::is_held`) has it for an instant, so it is tried for a moment.
pub(super) fn take_lock(lock: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 10;
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    lock.try_lock()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn who_looks_for_an_instant_keeps_nobody_from_locking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let looking = open_lock(&path).unwrap();
        looking.lock_shared().unwrap();
        let looked = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(looking);
        });
        let (first, second) = (open_lock(&path).unwrap(), open_lock(&path).unwrap());
        take_lock(&first).unwrap();
        looked.join().unwrap();
        assert!(matches!(take_lock(&second), Err(TryLockError::WouldBlock)));
    }

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
