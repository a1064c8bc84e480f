//! Folders of images, each with a caption file next to it.

use std::hash::Hasher;
use std::path::PathBuf;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::captions::{CaptionRule, no_image};
use super::dataset::{MapDataset, PairDataset};
use crate::error::printable_path;
use crate::formats::DataError;
use crate::formats::caption_files::{self, CaptionedFile};
use crate::formats::files::{MAX_TEXT_BYTES, read_regular};
use crate::formats::image_files::{folder_problem, read_image};
use crate::listing::{ListedFile, fingerprint, folders, hash_file, hash_name_and_size, is_sampled};
use crate::sample::{ImageData, Sample, SampleError, SkipCause};

/// `source = "folder"`: images, each with a caption file of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Folder that is searched for images, with its sub-folders; hidden files and folders are left out.
    pub path: PathBuf,
    /// Key of a `.json` file that holds the caption, instead of a `.txt` file. Of a list, one
    /// caption is drawn in each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<String>,
    /// Treats every line of the `.txt` as a caption; one is drawn in each epoch.
    #[serde(default)]
    pub one_of_lines: bool,
}

impl FolderConfig {
    /// Images with `.txt` captions.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            caption_key: None,
            one_of_lines: false,
        }
    }

    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        folder_problem(&self.path).into_iter().collect()
    }

    pub(super) fn open(&self, seed: u64) -> Result<PairDataset, DataError> {
        FolderPairs::open(self, seed).map(PairDataset::indexed)
    }
}

/// Files listed when the dataset is opened, and read one by one.
#[derive(Debug)]
struct FolderPairs {
    root: PathBuf,
    /// With the files' common path without its extension.
    pairs: Vec<(PathBuf, CaptionedFile)>,
    captions: CaptionRule,
}

impl FolderPairs {
    fn open(table: &FolderConfig, seed: u64) -> Result<Self, DataError> {
        let captions = CaptionRule {
            key: table.caption_key.clone(),
            one_of_lines: table.one_of_lines,
            seed,
        };
        Ok(Self {
            root: table.path.clone(),
            pairs: caption_files::list(&table.path, captions.extension())?,
            captions,
        })
    }
}

/// Bytes of a caption file that are hashed.
const MAX_CAPTION: u64 = 1 << 20;

impl MapDataset for FolderPairs {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let (_, files) = &self.pairs[index];
        let image = files.image.as_ref().ok_or_else(no_image)?;
        let file = (files.caption.as_ref()).ok_or_else(|| self.captions.no_caption())?;
        let caption = read_regular(file, MAX_TEXT_BYTES).map_err(|error| {
            SampleError::new(
                SkipCause::Unreadable,
                format!("{}: {error}", printable_path(file)),
            )
        })?;
        Ok(Sample {
            label: None,
            caption: self.captions.draw(caption, index as u64, epoch)?,
            image: ImageData::Encoded(read_image(image)?),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let (stem, _) = &self.pairs[index];
        let key = stem.strip_prefix(&self.root).unwrap_or(stem);
        (self.root.display().to_string(), key.display().to_string())
    }

    fn listing(&self) -> Vec<ListedFile> {
        let pairs = self.pairs.par_iter().enumerate();
        let hashed = pairs.map(|(index, (stem, files))| {
            let mut digest = fingerprint();
            for path in [&files.image, &files.caption].into_iter().flatten() {
                hash_name_and_size(path, &mut digest);
            }
            if let Some(caption) = &files.caption
                && is_sampled(index, self.len())
                && hash_file(caption, MAX_CAPTION, &mut digest).is_err()
            {
                digest.write_u8(0);
            }
            let folder = stem.parent().unwrap_or(&self.root);
            (folder.to_path_buf(), digest.finish())
        });
        folders(hashed.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn put(root: &Path, file: &str, bytes: &[u8]) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn captions_are_next_to_images_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "b/2.PNG", b"image");
        put(root, "b/2.txt", b"two");
        put(root, "1.v2.jpg", b"image");
        put(root, "1.v2.txt", b"one");
        put(root, "3.jpg", b"image");
        put(root, "4.txt", b"four");
        put(root, "notes.md", b"");
        for hidden in [
            "._3.jpg",
            ".thumbs/5.jpg",
            "b/@eaDir/6.jpg",
            "__MACOSX/7.jpg",
        ] {
            put(root, hidden, b"image");
        }
        let table = FolderConfig {
            path: root.into(),
            caption_key: None,
            one_of_lines: false,
        };
        let source = FolderPairs::open(&table, 0).unwrap();
        assert_eq!(source.len(), 4);
        let caption = |index| source.read(index, 0).map(|sample| sample.caption);
        assert_eq!(caption(0).unwrap(), "one");
        assert_eq!(caption(1).unwrap_err().cause, SkipCause::MissingCaption);
        assert_eq!(caption(2).unwrap_err().cause, SkipCause::MissingImage);
        assert_eq!(caption(3).unwrap(), "two");
        assert_eq!(
            source.locate(3, 0).1,
            Path::new("b").join("2").display().to_string()
        );
    }
}
