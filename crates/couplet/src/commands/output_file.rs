//! Files that a command writes at its end: they appear whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, bail};

use crate::exit_code;

/// The file that is being written, which an interruption removes.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Fails before a command works if it could not write the file at its end.
pub(crate) fn check(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!(
            "{}: there is no folder {}; create it",
            file.display(),
            folder.display()
        );
    }
    if file.is_dir() {
        bail!("{}: is a folder; give the name of a file", file.display());
    }
    Ok(())
}

/// Fails before a command works if it could not create the folder at its end.
pub(crate) fn check_folder(out: &Path) -> anyhow::Result<()> {
    let is_occupied = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if is_occupied || out.is_file() {
        bail!(
            "{}: is there already; give a new or empty folder",
            out.display()
        );
    }
    Ok(())
}

/// Writes a file under another name, and renames it when it is complete. An existing file is replaced,
/// a pipe or a device is written directly.
/// - write: writes the contents to the path that it gets.
pub(crate) fn write_whole(
    file: &Path,
    write: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cannot_write = || format!("{}: cannot be written", file.display());
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return write(file).with_context(cannot_write);
    }
    // A link stays, and its target is replaced.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = target.with_file_name(format!(".{name}.{}.unfinished", process::id()));
    remove_when_interrupted();
    *lock() = Some(unfinished.clone());
    let finish = || {
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &target)
    };
    let written = write(&unfinished).and_then(|()| Ok(finish()?));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    *lock() = None;
    written.with_context(cannot_write)
}

fn lock() -> std::sync::MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles interruptions from the first file on: before it, there is nothing to remove.
fn remove_when_interrupted() {
    static IS_SET: OnceLock<()> = OnceLock::new();
    IS_SET.get_or_init(|| {
        // If a handler is set already, the command handles interruptions itself.
        let _ = ctrlc::set_handler(|| {
            if let Some(unfinished) = &*lock() {
                let _ = fs::remove_file(unfinished);
            }
            process::exit(exit_code::INTERRUPTED.into());
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_by_a_complete_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.json");
        fs::write(&file, "before").unwrap();
        let fails = |path: &Path| {
            fs::write(path, "half")?;
            bail!("the disk is full")
        };
        let error = write_whole(&file, fails).unwrap_err();
        assert!(error.to_string().ends_with("out.json: cannot be written"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_whole(&file, |path| Ok(fs::write(path, "after")?)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_devices_are_written_directly() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&target, "before").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_whole(&link, |path| Ok(fs::write(path, "after")?)).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "after");
        let null = Path::new("/dev/null");
        write_whole(null, |path| Ok(fs::write(path, "gone")?)).unwrap();
        assert!(!fs::metadata(null).unwrap().is_file());
    }

    #[test]
    fn a_missing_folder_and_a_folder_are_not_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(&folder.path().join("a.json")).is_ok());
        assert!(check(&folder.path().join("none/a.json")).is_err());
        assert!(check(folder.path()).is_err());
        assert!(check(Path::new("a.json")).is_ok());
    }
}
