//! Deleting what a run wrote, and nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use couplet_eval::{CHECKPOINTS_FOLDER, FINDINGS_FOLDER, checkpoint_name, is_checkpoint};

use super::error::{CheckpointError, io_at};
use super::names::{
    ADAPTER, CACHE, FILES, FolderKind, LOCK, TENSORBOARD, TRAINER, files_of_checkpoint,
    free_for_damaged, is_cache_file, is_earlier_config, is_event_file, is_findings_file, old,
    temporary,
};

/// Deletes a checkpoint's files. It is renamed first, so a partly deleted checkpoint is never visible.
/// Other files in its folder stay where they are.
pub(super) fn remove_checkpoint(path: &Path, step: u64) -> Result<(), CheckpointError> {
    let checkpoints = parent_of(path);
    let going = old(checkpoints, step);
    if going.exists() {
        finish_removal(&going, step)?;
    }
    fs::rename(path, &going).map_err(io_at(path))?;
    finish_removal(&going, step)
}

/// Deletes the files of a checkpoint that has been renamed, and puts others back.
fn finish_removal(path: &Path, step: u64) -> Result<(), CheckpointError> {
    for file in files_of_checkpoint(path) {
        remove_file(&file)?;
    }
    remove_if_empty(&path.join(ADAPTER))?;
    remove_if_empty(&path.join(TRAINER))?;
    if remove_if_empty(path)? {
        return Ok(());
    }
    let back = parent_of(path).join(checkpoint_name(step));
    if back.exists() {
        return move_out_of_the_way(path, step);
    }
    fs::rename(path, &back).map_err(io_at(path))
}

/// Renames a folder that has the place of a checkpoint and only files of others.
pub(super) fn move_out_of_the_way(path: &Path, step: u64) -> Result<(), CheckpointError> {
    let place = |number: u32| {
        let name = format!("files-of-{}", checkpoint_name(step));
        parent_of(path).join(match number {
            0 => name,
            number => format!("{name}-{number}"),
        })
    };
    let free = (0..1000).map(place).find(|place| !place.exists());
    let free = free.unwrap_or_else(|| place(1000));
    tracing::warn!(folder = %free.display(), "moved files there that no run has written");
    fs::rename(path, &free).map_err(io_at(path))
}

/// Renames a damaged checkpoint, so that nothing takes it for one.
pub(super) fn set_aside(path: &Path, step: u64) -> Result<(), CheckpointError> {
    fs::rename(path, free_for_damaged(parent_of(path), step)).map_err(io_at(path))
}

/// Deletes what an earlier process was writing or deleting in `checkpoints/` when it ended.
pub(super) fn remove_unfinished(checkpoints: &Path) -> Result<(), CheckpointError> {
    for path in entries(checkpoints)? {
        match FolderKind::of(&path) {
            FolderKind::Unfinished(_) => remove_unfinished_one(&path)?,
            FolderKind::Old(step) => finish_removal(&path, step)?,
            _ => {}
        }
    }
    Ok(())
}

/// Deletes a checkpoint that was being written; nobody else writes there.
pub(super) fn remove_unfinished_one(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(path)(error)),
        _ => Ok(()),
    }
}

/// Deletes everything that a run writes, except `lock`.
/// - returns what is left: files of others.
pub(super) fn remove_run(run: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let checkpoints = run.join(CHECKPOINTS_FOLDER);
    // Without the files that name it, no half of a run is taken for a run.
    for name in FILES {
        remove_file(&run.join(temporary(name)))?;
        remove_file(&run.join(name))?;
    }
    for path in entries(&checkpoints)? {
        match FolderKind::of(&path) {
            FolderKind::Unfinished(_) => remove_unfinished_one(&path)?,
            FolderKind::Old(step) => finish_removal(&path, step)?,
            FolderKind::Checkpoint(step) | FolderKind::Damaged(step) if is_checkpoint(&path) => {
                remove_checkpoint(&path, step)?;
            }
            _ => {}
        }
    }
    remove_if_empty(&checkpoints)?;
    for (folder, is_own) in [
        (TENSORBOARD, is_event_file as fn(&str) -> bool),
        (CACHE, is_cache_file),
        (FINDINGS_FOLDER, is_findings_file),
    ] {
        let folder = run.join(folder);
        for path in entries(&folder)? {
            if is_own(&path.file_name().unwrap_or_default().to_string_lossy()) {
                remove_file(&path)?;
            }
        }
        remove_if_empty(&folder)?;
    }
    for path in entries(run)? {
        if is_earlier_config(&path.file_name().unwrap_or_default().to_string_lossy()) {
            remove_file(&path)?;
        }
    }
    let mut left = entries(run)?;
    left.retain(|path| path.file_name() != Some(LOCK.as_ref()));
    Ok(left)
}

/// The entries of a folder, sorted; none if it does not exist.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    match read() {
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        read => read.map_err(io_at(folder)),
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().expect("a checkpoint is in a folder")
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Deletes a file; a folder of that name is not a run's.
fn remove_file(path: &Path) -> Result<(), CheckpointError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => fs::remove_file(path).map_err(io_at(path)),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(io_at(path)(error)),
    }
}

/// - returns whether there is no folder of that name any more.
fn remove_if_empty(path: &Path) -> Result<bool, CheckpointError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        // A file, or a link to a folder elsewhere.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(io_at(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(run: &Path, files: &[&str]) {
        for file in files {
            let path = run.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
    }

    fn all_files(folder: &Path) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(next) = folders.pop() {
            for path in entries(&next).unwrap() {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap();
                    files.push(name.to_string_lossy().into_owned());
                }
            }
        }
        files.sort();
        files
    }

    #[test]
    fn only_what_a_run_writes_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        write(
            run,
            &[
                "config.toml",
                "latest",
                ".latest.new",
                "run.json",
                "lock",
                "metrics.jsonl",
                "cache/0123456789abcdef.safetensors",
                "tensorboard/events.out.tfevents.1764182989.123456.0",
                "checkpoints/step-00000003/open_clip_config.json",
                "checkpoints/step-00000003/trainer/state.json",
                "checkpoints/damaged-step-00000009/trainer/state.json",
                "checkpoints/.unfinished-step-00000006/open_clip_config.json",
            ],
        );
        let foreign = [
            "cache/pages.db",
            "checkpoints/epoch_1.pt",
            "checkpoints/step-00000003/trainer/notes.txt",
            "checkpoints/step-00000004/weights.pt",
            "checkpoints/step-7/weights.pt",
            "notes.txt",
            "tensorboard/events.out.tfevents.1764182989.host.1.0",
        ];
        write(run, &foreign);
        let left = remove_run(run).unwrap();
        let names: Vec<_> = left.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["cache", "checkpoints", "notes.txt", "tensorboard"]);
        let mut expected: Vec<_> = foreign.map(String::from).into();
        expected.push("lock".to_string());
        expected.sort();
        assert_eq!(all_files(run), expected);
    }

    #[test]
    fn a_removal_that_was_interrupted_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path();
        write(
            checkpoints,
            &[
                ".unfinished-step-00000003-old/trainer/state.json",
                ".unfinished-step-00000003-old/mine.txt",
                ".unfinished-step-00000004-old/trainer/optimizer.safetensors",
                ".unfinished-step-00000005/.tmpAbC",
                ".unfinished-other/file",
            ],
        );
        remove_unfinished(checkpoints).unwrap();
        assert_eq!(
            all_files(checkpoints),
            [".unfinished-other/file", "step-00000003/mine.txt"]
        );
        assert_eq!(entries(checkpoints).unwrap().len(), 2);
    }
}
