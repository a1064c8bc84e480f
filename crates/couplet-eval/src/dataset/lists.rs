//! The class names and templates that a dataset's file gives, and those that take their place.

use std::path::{Path, PathBuf};

use couplet_data::formats::class_names::read_class_names;
use couplet_data::formats::list_file::split_key;
use couplet_data::formats::templates::read_templates;

use super::{DatasetConfig, DatasetError, ListOrFile, built_in};

/// A file of templates in a dataset's folder.
const TEMPLATES_FILE: &str = "templates.txt";

impl DatasetConfig {
    /// Takes class names, in class order, and templates from files instead: in another language, for example. The files have
    /// one entry per line, or are JSON: a list, or with `FILE#KEY` the list that a key such as
    /// `it.imagenet1k` leads to. Their paths start from the working directory.
    ///
    /// # Errors
    /// If a file cannot be read, or the number of names is not that of the names that the dataset's file gives.
    pub fn replace_lists(
        &mut self,
        class_names: Option<&Path>,
        templates: Option<&Path>,
    ) -> Result<(), DatasetError> {
        if let Some(file) = class_names {
            let names = read_class_names(file)?;
            let own = self.given_class_names()?.map(|own| own.len());
            if let Some(classes) = own.filter(|classes| *classes != names.len()) {
                let count = names.len();
                return Err(DatasetError::Unsound {
                    path: file.to_path_buf(),
                    message: format!(
                        "{count} class names for the {classes} classes of `{}`; list one name per class, in \
                         class order",
                        self.name
                    ),
                });
            }
            self.class_names = Some(ListOrFile::List(names));
        }
        if let Some(file) = templates {
            self.templates = Some(ListOrFile::List(read_templates(file)?));
        }
        Ok(())
    }

    /// The class names that the dataset's file gives.
    pub(super) fn given_class_names(&self) -> Result<Option<Vec<String>>, DatasetError> {
        Ok(match &self.class_names {
            Some(ListOrFile::List(list)) => Some(list.clone()),
            Some(ListOrFile::File(file)) => match self.built_in_list(file) {
                Some(list) => Some(list),
                None => Some(read_class_names(&self.path_of(file))?),
            },
            None => None,
        })
    }

    /// The templates that the dataset's file gives, else those of `templates.txt` in its folder.
    pub(super) fn given_templates(&self) -> Result<Option<Vec<String>>, DatasetError> {
        let path = match &self.templates {
            Some(ListOrFile::List(list)) => return Ok(Some(list.clone())),
            Some(ListOrFile::File(file)) => match self.built_in_list(file) {
                Some(list) => return Ok(Some(list)),
                None => Some(self.path_of(file)),
            },
            None => (self.source.folder())
                .map(|folder| folder.join(TEMPLATES_FILE))
                .filter(|path| path.is_file()),
        };
        Ok(path.map(|path| read_templates(&path)).transpose()?)
    }

    /// The lines of a list's file that is built in.
    fn built_in_list(&self, file: &Path) -> Option<Vec<String>> {
        let name = file.to_str().filter(|_| self.is_built_in)?;
        let lines = built_in::list(name)?.lines();
        Some(lines.map(|line| line.trim().to_string()).collect())
    }

    /// A list's file, with the list's key: relative to the dataset's file, else to the dataset's folder.
    fn path_of(&self, file: &Path) -> PathBuf {
        let next_to_file = self.home.join(file);
        match self.source.folder() {
            Some(folder) if !split_key(&next_to_file).0.is_file() => folder.join(file),
            _ => next_to_file,
        }
    }
}
