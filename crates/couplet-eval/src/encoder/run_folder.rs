//! The checkpoints in a run's folder, and the files that name one of them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use couplet_model::{MANIFEST_FILE, Manifest, open_clip};

/// The folder of checkpoints in a run's folder.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

/// The folder in a run's that has what a report found of its model and data.
pub const FINDINGS_FOLDER: &str = "findings";
/// The trainer's state in a checkpoint, in the folder that only training reads.
pub const TRAINER_STATE_FILE: &str = "trainer/state.json";
/// Longer than any name of a checkpoint.
const MAX_NAME: u64 = 256;

/// The folder name of a checkpoint.
pub fn checkpoint_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step of a folder with the name of a checkpoint.
pub fn checkpoint_step(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name == checkpoint_name(step)).then_some(step)
}

/// Whether a folder has one of the files that only a checkpoint has.
pub fn is_checkpoint(folder: &Path) -> bool {
    [open_clip::CONFIG_FILE, TRAINER_STATE_FILE, MANIFEST_FILE]
        .iter()
        .any(|name| folder.join(name).is_file())
}

/// The checkpoints in a run's folder with their steps, sorted by step; folders that only have the
/// name of one are left out. Whether their files are whole is not checked.
///
/// # Errors
/// If the folder cannot be read; one that does not exist has none.
pub fn checkpoints_of(run: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(run.join(CHECKPOINTS_FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut checkpoints = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(step) = checkpoint_step(&path)
            && is_checkpoint(&path)
        {
            checkpoints.push((step, path));
        }
    }
    checkpoints.sort();
    Ok(checkpoints)
}

/// What a file says that names a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pointer {
    /// There is no such file.
    Absent,
    /// The folder of the checkpoint.
    To(PathBuf),
    /// The file names no checkpoint, for this reason: `is empty`.
    Broken(String),
}

/// Reads `latest` or `best` in a run's folder.
///
/// # Errors
/// If the file cannot be read.
pub fn read_pointer(run: &Path, name: &str) -> io::Result<Pointer> {
    let path = run.join(name);
    // Opening a pipe would wait for its writer.
    if !path.is_file() {
        return Ok(Pointer::Absent);
    }
    let mut bytes = Vec::new();
    File::open(&path)?.take(MAX_NAME).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let name = text.trim();
    let folder = run.join(CHECKPOINTS_FOLDER).join(name);
    Ok(if name.is_empty() {
        Pointer::Broken("is empty".to_string())
    } else if !name.contains(['/', '\\', '\0']) && ![".", ".."].contains(&name) && folder.is_dir() {
        Pointer::To(folder)
    } else if checkpoint_step(Path::new(name)).is_none_or(|step| checkpoint_name(step) != name) {
        let name = name.escape_debug();
        Pointer::Broken(format!("holds \"{name}\", which is no checkpoint's name"))
    } else {
        Pointer::Broken(format!("names {name}, which does not exist"))
    })
}

/// The newest checkpoint of a run whose files are those that were written. Checkpoints without a
/// manifest count as whole.
pub(super) fn newest_whole(run: &Path) -> Option<PathBuf> {
    let checkpoints = checkpoints_of(run).ok()?.into_iter().rev();
    let is_whole = |(step, path): &(u64, PathBuf)| match Manifest::read(path) {
        Ok(Some(manifest)) => manifest.step == *step && manifest.differences(path, &[]).is_empty(),
        Ok(None) => true,
        Err(_) => false,
    };
    checkpoints.filter(is_whole).map(|(_, path)| path).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoints_name_gives_its_step() {
        let step = |name: &str| checkpoint_step(&Path::new("x").join(name));
        assert_eq!(step(&checkpoint_name(1234)), Some(1234));
        assert_eq!(step(&checkpoint_name(1_234_567_890)), Some(1_234_567_890));
        for other in [
            "step-7",
            "step-+0000001",
            ".unfinished-step-00000001",
            "step-",
        ] {
            assert_eq!(step(other), None, "{other}");
        }
    }

    #[test]
    fn a_pointer_names_an_existing_checkpoint_or_says_what_is_wrong() {
        let run = tempfile::tempdir().unwrap();
        let folder = run.path().join("checkpoints/step-00000003");
        fs::create_dir_all(&folder).unwrap();
        let read = || read_pointer(run.path(), "latest").unwrap();
        let write = |text: &[u8]| fs::write(run.path().join("latest"), text).unwrap();
        assert_eq!(read(), Pointer::Absent);
        write(b"step-00000003\n");
        assert_eq!(read(), Pointer::To(folder));
        for (text, what) in [
            (&b" \n"[..], "is empty"),
            (b"step-000", "step-000"),
            (b"step-00000004", "does not exist"),
            (b"../../etc", "no checkpoint's name"),
            (b"../step-00000009", "no checkpoint's name"),
            (b"..", "no checkpoint's name"),
            (b".", "no checkpoint's name"),
            (b"\0\0\0", "no checkpoint's name"),
            (b"\xff\x1b", "no checkpoint's name"),
        ] {
            write(text);
            let Pointer::Broken(message) = read() else {
                panic!("{text:?} is a pointer");
            };
            assert!(message.contains(what), "{message}");
            assert!(!message.contains(['\0', '\x1b']), "{message:?}");
        }
    }
}
