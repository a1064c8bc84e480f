//! Folders of images: with captions beside them, or with one sub-folder a class.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::captions::CaptionRule;
use super::{MapDataset, SourceError};
use crate::decode::{IMAGE_EXTENSIONS, is_image_name};
use crate::draw::{Purpose, stream};
use crate::labelled::class_files;
use crate::sample::{ImageData, Sample, SampleError, SkipCause};

/// `source = "folder"`: images with a `.txt` or `.json` of the same name beside each, in
/// the folder and all below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    pub path: PathBuf,
    /// Take the caption from this key of a `.json` rather than from a `.txt`; of a list
    /// one is drawn each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<String>,
    /// Every line of the `.txt` is a caption; one is drawn each epoch.
    #[serde(default)]
    pub one_of_lines: bool,
}

/// `source = "class-folder"`: one sub-folder a class, captions from templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassFolderConfig {
    /// Sub-folders are classes; `classnames.txt` in it, if there, names them in the order
    /// of the sorted sub-folders, else their own names do.
    pub path: PathBuf,
    /// Sentences with `{}` or `{c}` for the class; one is drawn each epoch.
    #[serde(default = "default_templates")]
    pub templates: Vec<String>,
}

fn default_templates() -> Vec<String> {
    vec!["a photo of a {}.".into()]
}

fn missing_folder(path: &Path) -> Vec<(&'static str, String)> {
    if path.is_dir() {
        Vec::new()
    } else {
        vec![("path", format!("{} is not a folder", path.display()))]
    }
}

impl FolderConfig {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        missing_folder(&self.path)
    }
}

impl ClassFolderConfig {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = missing_folder(&self.path);
        let has_place = |template: &String| template.contains("{}") || template.contains("{c}");
        if let Some(template) = self.templates.iter().find(|template| !has_place(template)) {
            let message = format!("`{template}` has no {{}} for the class's name");
            problems.push(("templates", message));
        }
        if self.templates.is_empty() {
            problems.push(("templates", "the list is empty".into()));
        }
        problems
    }
}

#[derive(Debug, Default)]
struct Pair {
    image: Option<PathBuf>,
    caption: Option<PathBuf>,
}

/// Files listed at the start, read one by one.
#[derive(Debug)]
pub(super) struct FolderSource {
    root: PathBuf,
    /// By the files' common path without its ending.
    pairs: Vec<(PathBuf, Pair)>,
    captions: CaptionRule,
}

impl FolderSource {
    pub(super) fn open(table: &FolderConfig, seed: u64) -> Result<Self, SourceError> {
        let captions = CaptionRule {
            key: table.caption_key.clone(),
            one_of_lines: table.one_of_lines,
            seed,
        };
        let fail = |message: String| SourceError {
            path: table.path.clone(),
            message,
        };
        let mut files = Vec::new();
        walk(&table.path, &mut files).map_err(|error| fail(error.to_string()))?;
        let mut pairs: BTreeMap<PathBuf, Pair> = BTreeMap::new();
        for file in files {
            let ends = |wanted: &str| {
                file.extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case(wanted))
            };
            if is_image_name(&file) {
                pairs
                    .entry(file.with_extension(""))
                    .or_default()
                    .image
                    .get_or_insert(file);
            } else if ends(captions.extension()) {
                pairs
                    .entry(file.with_extension(""))
                    .or_default()
                    .caption
                    .get_or_insert(file);
            }
        }
        if !pairs.values().any(|pair| pair.image.is_some()) {
            let kinds = IMAGE_EXTENSIONS.join(", ");
            return Err(fail(format!("no images ({kinds}) in it or below it")));
        }
        Ok(Self {
            root: table.path.clone(),
            pairs: pairs.into_iter().collect(),
            captions,
        })
    }
}

/// All files below a folder, in the order of their names; folders that are links are not
/// followed.
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

fn read(path: &Path) -> Result<Vec<u8>, SampleError> {
    fs::read(path).map_err(|error| {
        SampleError::new(
            SkipCause::Unreadable,
            format!("{}: {error}", path.display()),
        )
    })
}

impl MapDataset for FolderSource {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let (_, pair) = &self.pairs[index];
        let image = pair.image.as_ref().ok_or_else(|| {
            let wanted = IMAGE_EXTENSIONS.join(", .");
            SampleError::new(
                SkipCause::MissingImage,
                format!("no .{wanted} beside the caption"),
            )
        })?;
        let caption = pair.caption.as_ref().ok_or_else(|| {
            let wanted = self.captions.extension();
            SampleError::new(
                SkipCause::MissingCaption,
                format!("no .{wanted} beside the image"),
            )
        })?;
        Ok(Sample {
            label: None,
            caption: self.captions.draw(read(caption)?, index as u64, epoch)?,
            picture: ImageData::Encoded(read(image)?),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let (stem, _) = &self.pairs[index];
        let key = stem.strip_prefix(&self.root).unwrap_or(stem);
        (self.root.display().to_string(), key.display().to_string())
    }
}

/// Images of classes, with a sentence about the class as caption.
#[derive(Debug)]
pub(super) struct ClassFolderSource {
    root: PathBuf,
    files: Vec<(PathBuf, usize)>,
    names: Vec<String>,
    templates: Vec<String>,
    seed: u64,
}

/// Names of classes, one a line, in a folder of classes.
const CLASS_NAMES: &str = "classnames.txt";

impl ClassFolderSource {
    pub(super) fn open(table: &ClassFolderConfig, seed: u64) -> Result<Self, SourceError> {
        let fail = |message: String| SourceError {
            path: table.path.clone(),
            message,
        };
        let (folders, files) = class_files(&table.path).map_err(|error| fail(error.to_string()))?;
        let list = table.path.join(CLASS_NAMES);
        let names: Vec<String> = if list.is_file() {
            let text = fs::read_to_string(&list).map_err(|error| fail(error.to_string()))?;
            text.lines()
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_string)
                .collect()
        } else {
            folders
                .iter()
                .map(|folder| folder.replace('_', " "))
                .collect()
        };
        if names.len() != folders.len() {
            return Err(fail(format!(
                "{CLASS_NAMES} names {} classes, there are {} sub-folders",
                names.len(),
                folders.len()
            )));
        }
        Ok(Self {
            root: table.path.clone(),
            files,
            names,
            templates: table.templates.clone(),
            seed,
        })
    }
}

impl MapDataset for ClassFolderSource {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let (path, label) = &self.files[index];
        let mut rng = stream(self.seed, Purpose::Caption, epoch, index as u64);
        let template = &self.templates[rng.random_range(0..self.templates.len())];
        let name = &self.names[*label];
        Ok(Sample {
            label: None,
            picture: ImageData::Encoded(read(path)?),
            caption: template.replace("{}", name).replace("{c}", name),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let (path, _) = &self.files[index];
        let key = path.strip_prefix(&self.root).unwrap_or(path);
        (self.root.display().to_string(), key.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, bytes: &[u8]) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn captions_stand_beside_images_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "b/2.PNG", b"image");
        put(root, "b/2.txt", b"two");
        put(root, "1.v2.jpg", b"image");
        put(root, "1.v2.txt", b"one");
        put(root, "3.jpg", b"image");
        put(root, "4.txt", b"four");
        put(root, "notes.md", b"");
        let table = FolderConfig {
            path: root.into(),
            caption_key: None,
            one_of_lines: false,
        };
        let source = FolderSource::open(&table, 0).unwrap();
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

    #[test]
    fn a_class_becomes_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "big_cat/1.jpg", b"image");
        put(root, "dog/1.jpg", b"image");
        let mut table = ClassFolderConfig {
            path: root.into(),
            templates: vec!["one {}".into(), "the {c}.".into()],
        };
        assert_eq!(table.problems(), []);
        let source = ClassFolderSource::open(&table, 0).unwrap();
        let drawn: std::collections::BTreeSet<String> = (0..40)
            .map(|epoch| source.read(0, epoch).unwrap().caption)
            .collect();
        assert_eq!(
            drawn.into_iter().collect::<Vec<_>>(),
            ["one big cat", "the big cat."]
        );

        put(root, CLASS_NAMES, b"tiger\n");
        let error = ClassFolderSource::open(&table, 0).unwrap_err().to_string();
        assert!(error.contains("names 1 classes, there are 2"), "{error}");
        table.templates = vec!["a photo".into()];
        assert_eq!(table.problems()[0].0, "templates");
    }
}
