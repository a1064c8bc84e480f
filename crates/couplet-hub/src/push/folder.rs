//! The files of a folder.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cache::is_inside;
use crate::error::HubError;

/// Bytes of a file's beginning that the hub looks at to tell text from binary (huggingface_hub's `UploadInfo`).
const SAMPLE: u64 = 512;

/// Deepest folder that is read, so that a loop of links ends.
const DEPTH: usize = 32;

/// A file to upload.
pub(crate) struct LocalFile {
    /// Its path in the repository, with `/`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) sample: Vec<u8>,
}

/// All files of a folder, sorted, without those of git and of huggingface_hub's own cache.
pub(crate) fn read(folder: &Path) -> Result<Vec<LocalFile>, HubError> {
    let fail = |problem: String| HubError::Folder {
        folder: folder.to_owned(),
        problem,
    };
    if !folder.is_dir() {
        return Err(fail("it is not a folder".to_owned()));
    }
    let mut files = Vec::new();
    walk(folder, "", DEPTH, &mut files)?;
    if files.is_empty() {
        return Err(fail("it has no files".to_owned()));
    }
    if let Some(file) = files.iter().find(|file| !is_inside(&file.name)) {
        return Err(fail(format!(
            "the hub takes no file with the name `{}`",
            crate::error::printable(&file.name)
        )));
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// huggingface_hub's `DEFAULT_IGNORE_PATTERNS`.
fn is_left_out(folder: &str) -> bool {
    let is_at = |name: &str| {
        folder == name
            || folder
                .strip_suffix(name)
                .is_some_and(|above| above.ends_with('/'))
    };
    is_at(".git") || is_at(".cache/huggingface")
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Vec<LocalFile>,
) -> Result<(), HubError> {
    let entries = fs::read_dir(folder).map_err(|source| HubError::io("list", folder, source))?;
    for entry in entries {
        let path = entry
            .map_err(|source| HubError::io("list", folder, source))?
            .path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(HubError::Folder {
                folder: path,
                problem: "its name is not Unicode".to_owned(),
            });
        };
        let name = format!("{prefix}{name}");
        let kind = fs::metadata(&path).map_err(|source| HubError::io("read", &path, source))?;
        if kind.is_dir() {
            if !is_left_out(&name) && depth > 1 {
                walk(&path, &format!("{name}/"), depth - 1, files)?;
            }
        } else if kind.is_file() {
            let mut sample = Vec::new();
            let read =
                File::open(&path).and_then(|file| file.take(SAMPLE).read_to_end(&mut sample));
            read.map_err(|source| HubError::io("read", &path, source))?;
            files.push(LocalFile {
                name,
                path,
                size: kind.len(),
                sample,
            });
        }
    }
    Ok(())
}
