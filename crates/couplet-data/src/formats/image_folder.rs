//! Images in a folder, without captions.

use std::path::{Path, PathBuf};

use super::error::DataError;
use super::walk::files_below;
use crate::decode::{IMAGE_EXTENSIONS, is_image_name};

/// Lists the images in a folder and its subfolders, sorted by path, without hidden ones.
///
/// # Errors
/// If the folder cannot be read, or there are no images.
pub fn list_images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = files_below(folder).map_err(DataError::io(folder))?;
    files.retain(|file| is_image_name(file));
    if files.is_empty() {
        let kinds = IMAGE_EXTENSIONS.join(", ");
        let message = format!("no images ({kinds}) in this folder or its subfolders");
        return Err(DataError::invalid(folder, message));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn images_at_any_depth_are_listed_without_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let files = [
            "b/2.PNG",
            "b/c/d/1.jpg",
            "1.jpg",
            "._1.jpg",
            "notes.md",
            ".thumbs/1.jpg",
            "@eaDir/1.jpg/2.jpg",
            "b.webp",
        ];
        assert!(list_images(root).is_err());
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"image").unwrap();
        }
        let found = list_images(root).unwrap();
        let found: Vec<&Path> =
            (found.iter().map(|path| path.strip_prefix(root).unwrap())).collect();
        let wanted = ["1.jpg", "b/2.PNG", "b/c/d/1.jpg", "b.webp"];
        assert_eq!(found, wanted.map(Path::new));
    }
}
