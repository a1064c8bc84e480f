//! Folders with one subfolder per class; captions come from templates.

use std::hash::Hasher;
use std::path::PathBuf;

use rand::RngExt;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{MapDataset, PairDataset};
use crate::draw::{Purpose, stream};
use crate::formats::DataError;
use crate::formats::class_folder::{ClassFolder, ClassOrder};
use crate::formats::class_names::{CLASS_NAMES_FILE, class_names, wordnet_warning};
use crate::formats::image_files::{folder_problem, read_image};
use crate::formats::templates::{DEFAULT_TEMPLATE, fill_template, template_problem};
use crate::listing::{ListedFile, fingerprint, folders, hash_name_and_size};
use crate::sample::{ImageData, Sample, SampleError};

/// `source = "class-folder"`: one sub-folder per class, with captions from templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassFolderConfig {
    /// Folder with one sub-folder per class, with the class's images at any depth. A
    /// `classnames.txt` in it names the classes, one per line in the order of the sorted
    /// sub-folders; else the sub-folders do, with underscores as spaces.
    pub path: PathBuf,
    /// Captions with `{}` or `{c}` for the class name; one is drawn in each epoch.
    #[serde(default = "default_templates")]
    pub templates: Vec<String>,
}

fn default_templates() -> Vec<String> {
    vec![DEFAULT_TEMPLATE.into()]
}

impl ClassFolderConfig {
    /// With captions of the default template.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            templates: default_templates(),
        }
    }

    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems: Vec<_> = folder_problem(&self.path).into_iter().collect();
        problems.extend(template_problem(&self.templates).map(|message| ("templates", message)));
        problems
    }

    pub(super) fn open(&self, seed: u64) -> Result<PairDataset, DataError> {
        ClassFolderPairs::open(self, seed).map(PairDataset::indexed)
    }
}

/// Images of classes; the caption is a template filled with the class name.
#[derive(Debug)]
struct ClassFolderPairs {
    root: PathBuf,
    files: Vec<(PathBuf, usize)>,
    class_names: Vec<String>,
    templates: Vec<String>,
    seed: u64,
}

impl ClassFolderPairs {
    fn open(table: &ClassFolderConfig, seed: u64) -> Result<Self, DataError> {
        let classes = ClassFolder::open(&table.path, ClassOrder::Names)?;
        let stored = classes.stored_names();
        let names = class_names(None, Some(&table.path), Some(&stored))?.unwrap_or_default();
        if names.len() != stored.len() {
            let message = format!(
                "{} class names for {} subfolders ({}); list one name per subfolder",
                names.len(),
                stored.len(),
                classes.folders.join(", ")
            );
            let list = table.path.join(CLASS_NAMES_FILE);
            return Err(DataError::invalid(&list, message));
        }
        if let Some(warning) = wordnet_warning(&table.path, &names) {
            tracing::warn!("{warning}");
        }
        Ok(Self {
            root: table.path.clone(),
            files: classes.files,
            class_names: names,
            templates: table.templates.clone(),
            seed,
        })
    }
}

impl MapDataset for ClassFolderPairs {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let (path, label) = &self.files[index];
        let mut rng = stream(self.seed, Purpose::Caption, epoch, index as u64);
        let template = &self.templates[rng.random_range(0..self.templates.len())];
        Ok(Sample {
            label: None,
            image: ImageData::Encoded(read_image(path)?),
            caption: fill_template(template, &self.class_names[*label]),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let (path, _) = &self.files[index];
        let key = path.strip_prefix(&self.root).unwrap_or(path);
        (self.root.display().to_string(), key.display().to_string())
    }

    fn listing(&self) -> Vec<ListedFile> {
        let hashed = self.files.par_iter().map(|(path, label)| {
            let mut digest = fingerprint();
            hash_name_and_size(path, &mut digest);
            digest.write_text(&self.class_names[*label]);
            let folder = path.parent().unwrap_or(&self.root);
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
    fn a_caption_is_a_template_filled_with_the_class_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "big_cat/1.jpg", b"image");
        put(root, "dog/1.jpg", b"image");
        let mut table = ClassFolderConfig {
            path: root.into(),
            templates: vec!["one {}".into(), "the {c}.".into()],
        };
        assert_eq!(table.problems(), []);
        let source = ClassFolderPairs::open(&table, 0).unwrap();
        let drawn: std::collections::BTreeSet<String> = (0..40)
            .map(|epoch| source.read(0, epoch).unwrap().caption)
            .collect();
        assert_eq!(
            drawn.into_iter().collect::<Vec<_>>(),
            ["one big cat", "the big cat."]
        );

        put(root, CLASS_NAMES_FILE, b"tiger\n");
        let error = ClassFolderPairs::open(&table, 0).unwrap_err().to_string();
        assert!(error.contains("1 class names for 2 subfolders"), "{error}");
        table.templates = vec!["a photo".into()];
        assert_eq!(table.problems()[0].0, "templates");
    }
}
