//! Folders with one subfolder of images per class, as for torchvision's `ImageFolder`.

use std::path::{Path, PathBuf};

use super::class_names::class_name_of;
use super::error::DataError;
use super::walk::{files_below, visible_entries};
use crate::decode::{IMAGE_EXTENSIONS, is_image_name};

/// Images with their class numbers.
#[derive(Debug)]
pub(crate) struct ClassFolder {
    /// The subfolders' names, in class order.
    pub folders: Vec<String>,
    /// By class, then by folder, then by file name; images are at any depth below their class.
    pub files: Vec<(PathBuf, usize)>,
}

/// How classes are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassOrder {
    /// By the subfolders' names.
    Names,
    /// Numerically: subfolders are named 0, 1, …, and 2 comes before 10.
    Numbers,
}

impl ClassFolder {
    /// Lists the images of every class.
    pub fn open(path: &Path, order: ClassOrder) -> Result<Self, DataError> {
        let (mut folders, mut files) = list(path)?;
        if order == ClassOrder::Numbers {
            (folders, files) = by_number(path, &folders, files)?;
        }
        Ok(Self { folders, files })
    }

    /// The class names that the subfolders give.
    pub fn stored_names(&self) -> Vec<String> {
        let folders = self.folders.iter();
        folders.map(|folder| class_name_of(folder)).collect()
    }
}

type LabelledFiles = Vec<(PathBuf, usize)>;

/// Reorders classes by their numbers, which must be 0, 1, … without gaps.
fn by_number(
    path: &Path,
    folders: &[String],
    mut files: LabelledFiles,
) -> Result<(Vec<String>, LabelledFiles), DataError> {
    let numbers: Option<Vec<usize>> = folders.iter().map(|name| name.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..folders.len())
    });
    let Some(numbers) = numbers else {
        let message = format!(
            "numbered = true, but the subfolders are not named 0 to {}; rename them or remove the key",
            folders.len().saturating_sub(1)
        );
        return Err(DataError::invalid(path, message));
    };
    for (_, label) in &mut files {
        *label = numbers[*label];
    }
    files.sort_by_key(|(_, label)| *label);
    Ok(((0..folders.len()).map(|n| n.to_string()).collect(), files))
}

/// The names of a folder's subfolders, and their images with the subfolder's index.
fn list(path: &Path) -> Result<(Vec<String>, LabelledFiles), DataError> {
    if !path.is_dir() {
        return Err(DataError::invalid(
            path,
            "not a folder; it should hold one subfolder of images per class",
        ));
    }
    let mut folders = Vec::new();
    let mut files = Vec::new();
    let mut empty = Vec::new();
    let entries = visible_entries(path).map_err(DataError::io(path))?;
    for folder in entries.into_iter().filter(|entry| entry.is_dir()) {
        let label = folders.len();
        let name = folder.file_name().unwrap_or_default();
        folders.push(name.to_string_lossy().into_owned());
        let before = files.len();
        let inside = files_below(&folder).map_err(DataError::io(&folder))?;
        let images = inside.into_iter().filter(|file| is_image_name(file));
        files.extend(images.map(|file| (file, label)));
        if files.len() == before {
            empty.push(folders[label].clone());
        }
    }
    if files.is_empty() {
        let message = format!(
            "no images ({}) in {} subfolders; for a folder of tar shards, add test/nshards.txt with \
             the number of shards",
            IMAGE_EXTENSIONS.join(", "),
            folders.len()
        );
        return Err(DataError::invalid(path, message));
    }
    if !empty.is_empty() {
        let message = format!(
            "no images in the subfolders {}: add images or remove the subfolders",
            empty.join(", ")
        );
        return Err(DataError::invalid(path, message));
    }
    Ok((folders, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"image").unwrap();
        }
        folder
    }

    #[test]
    fn subfolders_are_classes_and_underscores_become_spaces() {
        let folder = folder(&["dog/1.jpg", "big_cat/2.jpg", "big_cat/1.jpg", ".git/1.jpg"]);
        let classes = ClassFolder::open(folder.path(), ClassOrder::Names).unwrap();
        assert_eq!(classes.folders, ["big_cat", "dog"]);
        assert_eq!(classes.stored_names(), ["big cat", "dog"]);
        let labels: Vec<usize> = classes.files.iter().map(|(_, label)| *label).collect();
        assert_eq!(labels, [0, 0, 1]);
    }

    #[test]
    fn images_at_any_depth_belong_to_their_class() {
        let folder = folder(&[
            "cat/images/1.jpg",
            "cat/2.jpg",
            "cat/a/b/c/3.PNG",
            "dog/images/4.jpg",
            "dog/@eaDir/4.jpg",
            "dog/._5.jpg",
            "@eaDir/6.jpg",
            "7.jpg",
        ]);
        let classes = ClassFolder::open(folder.path(), ClassOrder::Names).unwrap();
        assert_eq!(classes.folders, ["cat", "dog"]);
        let wanted = [
            ("cat/2.jpg", 0),
            ("cat/a/b/c/3.PNG", 0),
            ("cat/images/1.jpg", 0),
            ("dog/images/4.jpg", 1),
        ];
        let wanted = wanted.map(|(file, label)| (folder.path().join(file), label));
        assert_eq!(classes.files, wanted);
    }

    #[test]
    fn numbered_folders_are_in_numeric_order() {
        let names: Vec<String> = (0..11).map(|n| format!("{n}/{n}.png")).collect();
        let folder = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let by_number = ClassFolder::open(folder.path(), ClassOrder::Numbers).unwrap();
        assert_eq!(by_number.folders[2], "2");
        assert!(by_number.files[10].0.ends_with("10/10.png"));
        fs::rename(folder.path().join("3"), folder.path().join("30")).unwrap();
        let error = ClassFolder::open(folder.path(), ClassOrder::Numbers).unwrap_err();
        assert!(error.to_string().contains("not named 0 to 10"), "{error}");
    }
}
