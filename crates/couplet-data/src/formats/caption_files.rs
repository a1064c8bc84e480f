//! Folders of images, each with a caption file of the same name, at any depth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::walk::files_below;
use crate::decode::{IMAGE_EXTENSIONS, is_image_name};

/// The two files of a pair; either may be missing.
#[derive(Debug, Default)]
pub(crate) struct CaptionedFile {
    pub image: Option<PathBuf>,
    pub caption: Option<PathBuf>,
}

/// Lists the image and caption files in a folder and its subfolders, without hidden ones, paired by their common path
/// without its extension.
/// - extension: of caption files, in lower case.
pub(crate) fn list(
    folder: &Path,
    extension: &str,
) -> Result<Vec<(PathBuf, CaptionedFile)>, DataError> {
    let files = files_below(folder).map_err(DataError::io(folder))?;
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
