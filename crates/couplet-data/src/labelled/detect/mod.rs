//! What the files at a path are, for datasets that no file describes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::LabelledConfig;
use super::class_folder::LabelledClassFolderConfig;
use super::csv::LabelledCsvConfig;
use super::folder::LabelledFolderConfig;
use super::parquet::LabelledParquetConfig;
use super::shards::LabelledShardsConfig;
use super::webdataset::LabelledWebdatasetConfig;
use crate::decode::is_image_name;
use crate::formats::caption_keys::{key_in_file, key_in_shard};
use crate::formats::column_names::{CAPTION_NAMES, IMAGE_NAMES};
use crate::formats::splits::{TEST, TRAIN, VAL, is_split};
use crate::formats::table_layout::TableLayout;
use crate::formats::walk::{files_below, visible_entries};
use crate::formats::{DataError, Patterns};

/// Columns of labels, the preferred ones first.
const LABEL_COLUMNS: [&str; 4] = ["label", "class", "class_name", "category"];
/// Words in a cell of captions, on average: fewer are labels.
const WORDS_OF_A_CAPTION: usize = 2;
/// The error about anything else.
const EXPECTED: &str = "expected one sub-folder of images per class; images with a .txt or .json next to \
                        each; a table (.csv, .tsv or .parquet) with columns of images and of captions or \
                        labels; tar shards with captions; or folders train and test (or val) with these";

impl LabelledConfig {
    /// Whether a file, or a pattern, is one of data by its name, not one that describes data.
    pub fn is_data_file(path: &Path) -> bool {
        has_end(path, &["csv", "tsv", "parquet", "tar"])
    }

    /// Finds out what the files at a path, or those that a pattern matches, are.
    /// - returns the config, and what was found in words.
    ///
    /// # Errors
    /// If they are no dataset.
    pub fn detect(path: &Path) -> Result<(Self, String), DataError> {
        if !path.is_dir() {
            return of_files(path);
        }
        if LabelledWebdatasetConfig::is_here(path) {
            let config = LabelledWebdatasetConfig::new(path);
            return Ok((
                Self::Webdataset(config),
                "CLIP_benchmark's tar shards".into(),
            ));
        }
        if let Some((test, train)) = splits(path)? {
            let (mut config, what) = match of_folder(&test) {
                Ok(found) => found,
                // Folders called so are no classes where one of them has classes or captions.
                Err(error)
                    if train
                        .as_deref()
                        .is_some_and(|train| of_folder(train).is_ok()) =>
                {
                    return Err(error);
                }
                Err(_) => return of_folder(path),
            };
            let name = |path: &Path| {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            };
            let mut what = format!("{what}, in {}", name(&test));
            if let Some(train) = train {
                what.push_str(&format!(", with training images in {}", name(&train)));
                set_train(&mut config, &train)?;
            }
            return Ok((config, what));
        }
        of_folder(path)
    }
}

/// The folders of the test and training images.
fn splits(path: &Path) -> Result<Option<(PathBuf, Option<PathBuf>)>, DataError> {
    let named = |names: &[&str]| {
        let folders = names.iter().map(|name| path.join(name));
        folders.into_iter().find(|folder| folder.is_dir())
    };
    let (Some(test), train) = (named(&TEST).or_else(|| named(&VAL)), named(&TRAIN)) else {
        return Ok(None);
    };
    let is_split =
        |folder: &PathBuf| is_split(&folder.file_name().unwrap_or_default().to_string_lossy());
    let entries = visible_entries(path).map_err(DataError::io(path))?;
    let mut folders = entries.iter().filter(|entry| entry.is_dir());
    let is_one = train.is_some() || folders.all(is_split);
    Ok(is_one.then_some((test, train)))
}

/// Gives a config of test images the training images in a folder, which are stored in the same way.
fn set_train(config: &mut LabelledConfig, train: &Path) -> Result<(), DataError> {
    match (config, of_folder(train)) {
        (LabelledConfig::ClassFolder(table), _) => table.train_path = Some(train.to_path_buf()),
        (LabelledConfig::Folder(table), _) => table.train_path = Some(train.to_path_buf()),
        (LabelledConfig::Shards(table), Ok((LabelledConfig::Shards(own), _))) => {
            table.train_shards = Some(own.shards);
        }
        (LabelledConfig::Parquet(table), Ok((LabelledConfig::Parquet(own), _))) => {
            table.train_files = Some(own.files);
        }
        (LabelledConfig::Csv(table), Ok((LabelledConfig::Csv(own), _))) => {
            table.train_path = Some(own.path);
        }
        (_, Err(error)) => return Err(error),
        _ => {
            let message = "its files are of another kind than those of the test images";
            return Err(DataError::invalid(train, message));
        }
    }
    Ok(())
}

/// A folder without splits.
fn of_folder(path: &Path) -> Result<(LabelledConfig, String), DataError> {
    let files = files_below(path).map_err(DataError::io(path))?;
    let with_end = |ends: &[&str]| -> Vec<PathBuf> {
        let files = files.iter().filter(|file| has_end(file, ends));
        files.cloned().collect()
    };
    let images: Vec<&PathBuf> = files.iter().filter(|file| is_image_name(file)).collect();
    if images.is_empty() {
        let (tars, parquets) = (with_end(&["tar"]), with_end(&["parquet"]));
        let texts = |files: &[PathBuf]| {
            Patterns::Several(
                files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect(),
            )
        };
        if let [_, ..] = &tars[..] {
            let what = format!("tar shards with captions ({})", tars.len());
            return Ok((of_shards(texts(&tars), &tars[0])?, what));
        }
        if let [first, ..] = &parquets[..] {
            return of_parquet(texts(&parquets), first);
        }
    }
    let stems: HashSet<PathBuf> = (images.iter().map(|file| file.with_extension(""))).collect();
    let next_to_images = |end: &str| -> Vec<PathBuf> {
        let mut captions = with_end(&[end]);
        captions.retain(|file| stems.contains(&file.with_extension("")));
        captions
    };
    for end in ["txt", "json"] {
        let captions = next_to_images(end);
        // A few texts, such as one about the folder, are no captions.
        if captions.is_empty() || captions.len() * 2 < images.len() {
            continue;
        }
        let key = (end == "json")
            .then(|| key_in_file(&captions[0]))
            .transpose()?;
        let what = match &key {
            Some(key) => format!("images with captions in .json files, under `{key}`"),
            None => "images with captions in .txt files".to_string(),
        };
        let config = LabelledFolderConfig::new(path, key);
        return Ok((LabelledConfig::Folder(config), what));
    }
    let is_class = |file: &&&PathBuf| file.parent() != Some(path);
    let has_classes = images.iter().any(|file| is_class(&file));
    let top = visible_entries(path).map_err(DataError::io(path))?;
    let tables: Vec<&PathBuf> = (top.iter())
        .filter(|file| has_end(file, &["csv", "tsv"]))
        .collect();
    if let [table] = tables[..]
        && let Ok((LabelledConfig::Csv(config), what)) = of_table(table)
        && (config.caption_column.is_some() || !has_classes)
    {
        return Ok((LabelledConfig::Csv(config), what));
    }
    if has_classes {
        let config = LabelledClassFolderConfig::new(path);
        return Ok((
            LabelledConfig::ClassFolder(config),
            "one folder per class".into(),
        ));
    }
    let found = match (images.len(), tables.len()) {
        (0, _) => "no images, tables or shards".to_string(),
        (count, 0 | 1) => format!("{count} images without classes or captions"),
        (count, tables) => format!("{count} images and {tables} tables; give one of these"),
    };
    Err(DataError::invalid(
        path,
        format!("{found} in it; {EXPECTED}"),
    ))
}

/// A file, or the files that a pattern matches.
fn of_files(path: &Path) -> Result<(LabelledConfig, String), DataError> {
    let text = path.display().to_string();
    let patterns = Patterns::One(text);
    let paths = patterns.paths();
    let paths = paths.map_err(|message| DataError::invalid(path, message))?;
    let first = paths.first().map_or(path, PathBuf::as_path);
    if has_end(path, &["tar"]) {
        let what = format!("tar shards with captions ({})", paths.len());
        return Ok((of_shards(patterns, first)?, what));
    }
    if has_end(path, &["parquet"]) {
        return of_parquet(patterns, first);
    }
    if has_end(path, &["csv", "tsv"]) {
        let [table] = &paths[..] else {
            let message = format!("matches {} tables; give one of them", paths.len());
            return Err(DataError::invalid(path, message));
        };
        return of_table(table);
    }
    Err(DataError::invalid(
        path,
        format!("not a dataset; {EXPECTED}"),
    ))
}

/// Shards whose captions are in `.json` members if there are no `.txt` members.
fn of_shards(shards: Patterns, first: &Path) -> Result<LabelledConfig, DataError> {
    let mut config = LabelledShardsConfig::new(shards);
    config.caption_key = key_in_shard(first)?;
    Ok(LabelledConfig::Shards(config))
}

fn of_table(path: &Path) -> Result<(LabelledConfig, String), DataError> {
    let layout = TableLayout::of(path)?;
    let (image, caption, label) = match (layout.image, columns(path, &layout.names)) {
        // An unknown name is no reason to refuse a column of images, nor one of sentences.
        (Some(image), Err(error)) => {
            let caption = layout.caption(WORDS_OF_A_CAPTION).ok_or(error)?;
            let [image, caption] = [image, caption].map(|at| layout.names[at].clone());
            (image, Some(caption), None)
        }
        (_, known) => known?,
    };
    let what = in_words(&image, caption.as_ref().or(label.as_ref()));
    let mut config = LabelledCsvConfig::new(path, image, label, caption);
    config.separator = layout.separator;
    Ok((LabelledConfig::Csv(config), what))
}

#[cfg(feature = "parquet")]
fn of_parquet(files: Patterns, first: &Path) -> Result<(LabelledConfig, String), DataError> {
    let names = crate::formats::parquet::kinds::columns_of(first)?.into_iter();
    let names: Vec<String> = names.map(|column| column.name).collect();
    let (image, caption, label) = columns(first, &names)?;
    let what = in_words(&image, caption.as_ref().or(label.as_ref()));
    let config = LabelledParquetConfig::new(files, image, label, caption);
    Ok((LabelledConfig::Parquet(config), what))
}

#[cfg(not(feature = "parquet"))]
fn of_parquet(files: Patterns, _first: &Path) -> Result<(LabelledConfig, String), DataError> {
    let _ = LabelledParquetConfig::new(files, String::new(), None, None);
    Err(crate::formats::patterns::without_parquet())
}

fn in_words(image: &str, value: Option<&String>) -> String {
    let value = value.map_or("", String::as_str);
    format!("a table with the columns `{image}` and `{value}`")
}

/// The columns of images and of captions, else of labels.
fn columns(
    path: &Path,
    names: &[String],
) -> Result<(String, Option<String>, Option<String>), DataError> {
    let find = |wanted: &[&str]| {
        let same = |wanted: &&str| names.iter().find(|name| name.eq_ignore_ascii_case(wanted));
        wanted.iter().find_map(same).cloned()
    };
    let (image, caption) = (find(&IMAGE_NAMES), find(&CAPTION_NAMES));
    let label = find(&LABEL_COLUMNS).filter(|_| caption.is_none());
    match image {
        Some(image) if caption.is_some() || label.is_some() => Ok((image, caption, label)),
        _ => {
            let message = format!(
                "its columns are `{}`; expected one of images ({}) and one of captions ({}) or labels \
                 ({}); for others, write a dataset file with image_column and caption_column",
                names.join("`, `"),
                IMAGE_NAMES.join(", "),
                CAPTION_NAMES.join(", "),
                LABEL_COLUMNS.join(", ")
            );
            Err(DataError::invalid(path, message))
        }
    }
}

pub(super) fn has_end(file: &Path, ends: &[&str]) -> bool {
    let end = file.extension();
    end.is_some_and(|end| ends.iter().any(|own| end.eq_ignore_ascii_case(own)))
}

#[cfg(test)]
mod tests;
