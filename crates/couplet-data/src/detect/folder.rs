//! What a folder holds: shards, tables, images with captions, or classes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::files::{PARQUET_ENDS, SHARD_ENDS, TABLE_ENDS, has_end, parquet, shards};
use super::found::{Candidate, Detected};
use super::table;
use crate::decode::is_image_name;
use crate::formats::splits::{TEST, TRAIN, VAL, is_split};
use crate::formats::walk::{files_below, visible_entries};
use crate::formats::{DataError, Patterns, caption_keys};
use crate::labelled::LabelledConfig;
use crate::source::{ClassFolderConfig, FolderConfig, SourceConfig};

/// What lies in a folder, counted.
#[derive(Default)]
struct Inventory {
    shards: Vec<PathBuf>,
    parquet: Vec<PathBuf>,
    tables: Vec<PathBuf>,
    images: usize,
    /// Images with a file of the same name that ends so.
    with_text: usize,
    with_json: usize,
    /// A `.json` next to an image.
    document: Option<PathBuf>,
    /// Sub-folders directly below, with their images.
    classes: BTreeMap<PathBuf, usize>,
}

/// Finds out what a folder and its splits are.
pub(super) fn detect(folder: &Path) -> Result<Detected, DataError> {
    let split = |names: &[&str]| -> Option<PathBuf> {
        let mut folders = names.iter().map(|name| folder.join(name));
        folders.find(|path| path.is_dir())
    };
    let entries = visible_entries(folder).map_err(DataError::io(folder))?;
    let mut folders = entries.iter().filter(|entry| entry.is_dir());
    let is_split =
        |folder: &PathBuf| is_split(&folder.file_name().unwrap_or_default().to_string_lossy());
    // A folder called `train` among others, such as `bus`, holds trains.
    let are_splits = split(&VAL).or(split(&TEST)).is_some() || folders.all(is_split);
    let Some(train) = split(&TRAIN).filter(|_| are_splits) else {
        return with_split_files(folder);
    };
    let mut detected = Detected::of(candidate(&Inventory::of(&train)?, &train)?, &train)?;
    let is_classes = matches!(detected.source, SourceConfig::ClassFolder(_));
    let test = split(&TEST);
    match split(&VAL) {
        Some(val) if is_classes && test.is_none() => test_classes(&mut detected, val),
        Some(val) => match Inventory::of(&val).and_then(|found| candidate(&found, &val)) {
            Ok(found) => detected.val = Some(found.source),
            Err(error) => detected.notes.push(format!("{error}")),
        },
        None => {}
    }
    match test {
        Some(test) if is_classes => test_classes(&mut detected, test),
        Some(test) => detected
            .notes
            .push(format!("{}: not used for training", test.display())),
        None => {}
    }
    Ok(detected)
}

/// Takes a folder of test images, if it has classes.
fn test_classes(detected: &mut Detected, folder: PathBuf) {
    match LabelledConfig::detect(&folder) {
        Ok((LabelledConfig::ClassFolder(_), _)) => detected.test_classes = Some(folder),
        Ok((_, what)) => (detected.notes).push(format!("{}: not used: {what}", folder.display())),
        Err(error) => detected.notes.push(format!("not used: {error}")),
    }
}

/// A folder whose files may be named by their splits: `train-00000.parquet`, `val.csv`.
fn with_split_files(folder: &Path) -> Result<Detected, DataError> {
    let mut found = Inventory::of(folder)?;
    let mut val = Inventory::default();
    let mut notes = Vec::new();
    for (own, other) in [
        (&mut found.shards, &mut val.shards),
        (&mut found.parquet, &mut val.parquet),
        (&mut found.tables, &mut val.tables),
    ] {
        let of = |names: &[&str]| -> Vec<PathBuf> {
            let is_of = |path: &&PathBuf| {
                let name = path.file_name().unwrap_or_default();
                let name = name.to_string_lossy().to_ascii_lowercase();
                // A word of the name: cc3m-train-0000.tar, val.csv.
                let mut words = name.split(|c: char| !c.is_alphabetic());
                words.any(|word| names.contains(&word))
            };
            own.iter().filter(is_of).cloned().collect()
        };
        let (train, held_out, test) = (of(&TRAIN), of(&VAL), of(&TEST));
        if train.is_empty() {
            continue;
        }
        if !test.is_empty() {
            notes.push(format!(
                "test split, not used for training: {}",
                test[0].display()
            ));
        }
        *other = held_out;
        *own = train;
    }
    let mut detected = Detected::of(candidate(&found, folder)?, folder)?;
    let has_val = !(val.shards.is_empty() && val.parquet.is_empty() && val.tables.is_empty());
    if has_val {
        detected.val = candidate(&val, folder).ok().map(|found| found.source);
    }
    detected.notes.extend(notes);
    Ok(detected)
}

impl Inventory {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let mut found = Self::default();
        let io = DataError::io(folder);
        let mut entries = visible_entries(folder).map_err(&io)?;
        // As datasets writes it: data/train-00000-of-00001.parquet.
        let data = folder.join("data");
        if data.is_dir()
            && !entries
                .iter()
                .any(|path| path.is_file() && is_image_name(path))
        {
            entries.extend(visible_entries(&data).map_err(DataError::io(&data))?);
        }
        for path in entries.into_iter().filter(|path| path.is_file()) {
            let name = path.to_string_lossy().into_owned();
            if has_end(&name, &SHARD_ENDS) {
                found.shards.push(path);
            } else if has_end(&name, &PARQUET_ENDS) {
                found.parquet.push(path);
            } else if has_end(&name, &TABLE_ENDS) {
                found.tables.push(path);
            }
        }
        // img2dataset writes the metadata of a shard next to it, under its name.
        let shards: HashSet<PathBuf> = found
            .shards
            .iter()
            .map(|path| path.with_extension(""))
            .collect();
        (found.parquet).retain(|path| !shards.contains(&path.with_extension("")));
        let files = files_below(folder).map_err(&io)?;
        let mut stems: BTreeMap<PathBuf, [Option<&PathBuf>; 2]> = BTreeMap::new();
        for file in &files {
            let end = file.extension().unwrap_or_default();
            let at = usize::from(end.eq_ignore_ascii_case("json"));
            if at == 1 || end.eq_ignore_ascii_case("txt") {
                stems.entry(file.with_extension("")).or_default()[at] = Some(file);
            }
        }
        for image in files.iter().filter(|file| is_image_name(file)) {
            found.images += 1;
            if let Some([text, json]) = stems.get(&image.with_extension("")) {
                found.with_text += usize::from(text.is_some());
                found.with_json += usize::from(json.is_some());
                found.document = found.document.take().or_else(|| json.cloned());
            }
            let below = image.strip_prefix(folder).unwrap_or(image);
            if let (Some(class), true) = (below.components().next(), below.components().count() > 1)
            {
                *found.classes.entry(folder.join(class)).or_default() += 1;
            }
        }
        Ok(found)
    }

    /// Images with captions next to them, in words.
    fn with(&self, captioned: usize, caption: &str) -> String {
        let images = self.images;
        if captioned == images {
            format!("images with {caption} next to each")
        } else {
            format!("images with {caption} next to {captioned} of {images}")
        }
    }

    /// What was found, for an error.
    fn describe(&self) -> String {
        let counts = [
            (self.images, "images"),
            (self.with_text, "of them with a .txt of the same name"),
            (self.with_json, "with a .json of the same name"),
            (self.tables.len(), "tables"),
            (self.parquet.len(), "Parquet files"),
            (self.shards.len(), "tar files"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if counts.is_empty() {
            "no images, tables, Parquet files or tar files".to_string()
        } else {
            counts.join(", ")
        }
    }
}

/// The one kind of pairs that a folder holds.
fn candidate(found: &Inventory, folder: &Path) -> Result<Candidate, DataError> {
    let fail = |advice: &str| {
        Err(DataError::invalid(
            folder,
            format!("found {}; {advice}", found.describe()),
        ))
    };
    let kinds = [
        !found.shards.is_empty(),
        !found.parquet.is_empty(),
        found.images > 0,
    ];
    if kinds.iter().filter(|is_there| **is_there).count() > 1 {
        return fail("which are the pairs? Give one kind alone, such as FOLDER/*.tar");
    }
    if !found.shards.is_empty() {
        return shards(patterns(folder, &found.shards));
    }
    if !found.parquet.is_empty() {
        return parquet(patterns(folder, &found.parquet));
    }
    if 2 * found.with_text > found.images {
        let kind = found.with(found.with_text, "a .txt");
        let source = SourceConfig::Folder(FolderConfig::new(folder));
        return Ok(Candidate { source, kind });
    }
    if let (true, Some(document)) = (2 * found.with_json > found.images, &found.document) {
        let key = caption_keys::key_in_file(document)?;
        let kind = format!(
            "{}, captions under `{key}`",
            found.with(found.with_json, "a .json")
        );
        let source = SourceConfig::Folder(FolderConfig {
            caption_key: Some(key),
            ..FolderConfig::new(folder)
        });
        return Ok(Candidate { source, kind });
    }
    let tables = found.tables.iter().map(|path| table::candidate(path));
    let (mut tables, problems): (Vec<_>, Vec<_>) = tables.partition(Result::is_ok);
    if tables.len() > 1 {
        return fail(
            "which table? Give one of them, or write a config with source = \"mix\" for all",
        );
    }
    if let Some(table) = tables.pop().or(problems.into_iter().next_back()) {
        return table;
    }
    let in_classes: usize = found.classes.values().sum();
    if found.classes.len() > 1 && in_classes == found.images {
        let kind = format!("images in {} class folders", found.classes.len());
        let source = SourceConfig::ClassFolder(ClassFolderConfig::new(folder));
        return Ok(Candidate { source, kind });
    }
    fail(
        "expected a .txt or .json next to each image, a .csv that names images and captions, one sub-folder of \
         images per class, tar shards or Parquet files",
    )
}

/// A pattern for files of a folder, or their list where a pattern would match others.
fn patterns(folder: &Path, files: &[PathBuf]) -> Patterns {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    if let [file] = files {
        return Patterns::One(text(file));
    }
    let names: Vec<String> = files
        .iter()
        .map(|file| text(Path::new(file.file_name().unwrap_or_default())))
        .collect();
    let parent = files[0].parent().unwrap_or(folder);
    // What all names begin with, without the digits that count them.
    let last = &names[names.len() - 1];
    let shared = names[0]
        .chars()
        .zip(last.chars())
        .take_while(|(a, b)| a == b);
    let start: String = shared.map(|(a, _)| a).collect();
    let start = start
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .to_string();
    let end = SHARD_ENDS
        .iter()
        .chain(&PARQUET_ENDS)
        .find(|end| names[0].ends_with(**end));
    for start in ["", &start] {
        let pattern = text(&parent.join(format!("{start}*{}", end.unwrap_or(&""))));
        let one = Patterns::One(pattern);
        if one.paths().is_ok_and(|found| found == files) {
            return one;
        }
    }
    Patterns::Several(files.iter().map(|file| text(file)).collect())
}
