//! Folders of images, each with a caption file of the same name, at any depth.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::DataError;
use crate::decode::{IMAGE_EXTENSIONS, is_image_name};

/// The two files of a pair; either may be missing.
#[derive(Debug, Default)]
pub(crate) struct CaptionedFile {
    pub image: Option<PathBuf>,
    pub caption: Option<PathBuf>,
}

/// Lists the image and caption files in a folder and its subfolders, paired by their common path
/// without its extension.
/// - extension: of caption files, in lower case.
pub(crate) fn list(
    folder: &Path,
    extension: &str,
) -> Result<Vec<(PathBuf, CaptionedFile)>, DataError> {
    let mut files = Vec::new();
    walk(folder, &mut files).map_err(DataError::io(folder))?;
    let mut pairs: BTreeMap<PathBuf, CaptionedFile> = BTreeMap::new();
    for file in files {
        let is_caption = (file.extension()).is_some_and(|own| own.eq_ignore_ascii_case(extension));
        let is_image = is_image_name(&file);
        if !is_image && !is_caption {
            continue;
        }
        let pair = pairs.entry(file.with_extension("")).or_default();
        let slot = if is_image {
            &mut pair.image
        } else {
            &mut pair.caption
        };
        slot.get_or_insert(file);
    }
    if !pairs.values().any(|pair| pair.image.is_some()) {
        let kinds = IMAGE_EXTENSIONS.join(", ");
        let message = format!("no images ({kinds}) in this folder or its subfolders");
        return Err(DataError::invalid(folder, message));
    }
    Ok(pairs.into_iter().collect())
}

/// All files in a folder and its subfolders, sorted by name; symbolic links to folders are not followed.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
