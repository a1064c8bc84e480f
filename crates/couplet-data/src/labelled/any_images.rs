//! Images wherever they are, with or without captions: what an index of images is made of.

use std::hash::Hasher;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::dataset::{Files, Images, LabelledDataset, Targets};
use super::detect::has_end;
use super::parquet::any_parquet;
use crate::decode::is_image_name;
use crate::formats::caption_keys::key_in_shard;
use crate::formats::column_names::IMAGE_NAMES;
use crate::formats::csv::{CsvColumns, CsvRow};
use crate::formats::files::{MAX_IMAGE_BYTES, MAX_TEXT_BYTES, read_regular};
use crate::formats::table_layout::{TableLayout, is_known};
use crate::formats::tar::index::{Span, WHOLE_SHARD};
use crate::formats::tar::records::{TarRecords, read_spans};
use crate::formats::walk::files_below;
use crate::formats::{DataError, Patterns};
use crate::sample::{ImageData, SampleError, SkipCause};
use crate::source::captions::CaptionRule;

impl LabelledDataset {
    /// All images of folders, image files, tables (`.csv`, `.tsv`, `.parquet`) and tar shards. An image has the captions
    /// that are found next to it, which may be none. What cannot be read is skipped with the images, not an error here.
    /// - paths: of files, patterns of files, or folders, which are searched with their sub-folders.
    ///
    /// # Errors
    /// If nothing is at a path, it is of another kind, or it holds no images.
    pub fn of_any_images(paths: &[PathBuf]) -> Result<Self, DataError> {
        let mut parts = paths.iter().map(|path| open(path));
        let first = parts.next().unwrap_or_else(|| {
            let message = "no path of images is given";
            Err(DataError::invalid(Path::new(""), message))
        })?;
        let rest: Vec<Self> = parts.collect::<Result<_, _>>()?;
        if rest.is_empty() {
            return Ok(first);
        }
        let path = first.path.clone();
        let mut joined = Joined::default();
        let mut captions = Vec::new();
        for part in std::iter::once(first).chain(rest) {
            joined.starts.push(captions.len());
            captions.extend(captions_of(&part));
            joined.parts.push(part.images);
        }
        Ok(unlabelled(path, Box::new(joined), captions))
    }
}

pub(super) fn unlabelled(
    path: PathBuf,
    images: Box<dyn Images>,
    captions: Vec<Vec<String>>,
) -> LabelledDataset {
    LabelledDataset {
        path,
        class_names: None,
        templates: None,
        images,
        targets: Targets::Captions(captions),
    }
}

/// The captions of a dataset's images; none where it has classes.
fn captions_of(dataset: &LabelledDataset) -> Vec<Vec<String>> {
    match dataset.targets() {
        Targets::Captions(captions) => captions.clone(),
        _ => vec![Vec::new(); dataset.len()],
    }
}

fn open(path: &Path) -> Result<LabelledDataset, DataError> {
    if path.is_dir() {
        return in_folder(path);
    }
    let text = path.display().to_string();
    let found = Patterns::One(text).paths();
    let found = found.map_err(|message| DataError::invalid(path, message))?;
    if let Some(missing) = found.iter().find(|file| !file.is_file()) {
        let message = "no such file or folder; check the path";
        return Err(DataError::invalid(missing, message));
    }
    of_files(path, found)
}

/// Image files, else shards, else Parquet files, wherever they are below the folder.
fn in_folder(folder: &Path) -> Result<LabelledDataset, DataError> {
    let mut files = files_below(folder).map_err(DataError::io(folder))?;
    files.sort();
    let of_kind = |is_kind: fn(&Path) -> bool| -> Vec<PathBuf> {
        let files = files.iter().filter(|file| is_kind(file));
        files.cloned().collect()
    };
    for is_kind in [is_image_name, is_shard, is_parquet] {
        let found = of_kind(is_kind);
        if !found.is_empty() {
            return of_files(folder, found);
        }
    }
    let message = "no images, tar shards or Parquet files in this folder or its subfolders";
    Err(DataError::invalid(folder, message))
}

/// - files: all of one kind.
fn of_files(path: &Path, files: Vec<PathBuf>) -> Result<LabelledDataset, DataError> {
    let all = |is_kind: fn(&Path) -> bool| files.iter().all(|file| is_kind(file));
    if all(is_image_name) {
        let captions = files.par_iter().map(|file| caption_next_to(file));
        let captions = captions.collect();
        return Ok(unlabelled(
            path.to_path_buf(),
            Box::new(Files(files)),
            captions,
        ));
    }
    if all(is_shard) {
        return of_shards(path, files);
    }
    if all(is_parquet) {
        let texts = files.iter().map(|file| file.display().to_string());
        return of_parquet(path, &Patterns::Several(texts.collect()), &files[0]);
    }
    if let [table] = &files[..]
        && is_table(table)
    {
        return of_table(table);
    }
    let message =
        "expected a folder, images, tar shards, Parquet files, or one table (.csv or .tsv)";
    Err(DataError::invalid(path, message))
}

fn is_shard(path: &Path) -> bool {
    has_end(path, &["tar"])
}

fn is_parquet(path: &Path) -> bool {
    has_end(path, &["parquet"])
}

fn is_table(path: &Path) -> bool {
    has_end(path, &["csv", "tsv"])
}

fn caption_next_to(image: &Path) -> Vec<String> {
    let text = read_regular(&image.with_extension("txt"), MAX_TEXT_BYTES).ok();
    let caption = text.and_then(|bytes| CaptionRule::default().all(bytes).ok());
    caption.unwrap_or_default()
}

/// A row of a table names no image, or names it wrongly: it is skipped, like a file that is damaged.
struct Rows {
    table: PathBuf,
    /// With the line of each.
    images: Vec<(u64, Result<PathBuf, SampleError>)>,
}

impl Images for Rows {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        let path = self.images[index].1.as_ref().map_err(Clone::clone)?;
        crate::formats::read_image(path).map(ImageData::Encoded)
    }

    fn locate(&self, index: usize) -> (String, String) {
        let (line, image) = &self.images[index];
        match image {
            Ok(path) => (path.display().to_string(), format!("line {line}")),
            Err(_) => (self.table.display().to_string(), format!("line {line}")),
        }
    }
}

fn of_table(table: &Path) -> Result<LabelledDataset, DataError> {
    let layout = TableLayout::of(table)?;
    // Where most of the images are gone, the column is known by its name.
    let named = || (layout.names.iter()).position(|name| is_known(name, &IMAGE_NAMES));
    let image = layout.image.or_else(named).ok_or_else(|| {
        let columns = layout.names.join("`, `");
        let message = format!("none of its columns `{columns}` names image files that are there");
        DataError::invalid(table, message)
    })?;
    let rows = |value: usize| {
        let columns = CsvColumns {
            image: &layout.names[image],
            value: (&layout.names[value], "caption_column"),
            separator: layout.separator,
            root: None,
        };
        columns.rows(table)
    };
    // An image without a caption is an image all the same, so captions are read on their own.
    let images = rows(image)?.into_iter().map(|CsvRow { line, cells, .. }| {
        let path = cells.map(|(path, _)| path);
        (line, path)
    });
    let images: Vec<_> = images.collect();
    let captions = match layout.caption(1).filter(|caption| *caption != image) {
        Some(caption) => rows(caption)?,
        None => Vec::new(),
    };
    let mut captions: Vec<Vec<String>> = (captions.into_iter())
        .map(|row| row.cells.into_iter().map(|(_, caption)| caption).collect())
        .collect();
    captions.resize(images.len(), Vec::new());
    let images = Rows {
        table: table.to_path_buf(),
        images,
    };
    Ok(unlabelled(table.to_path_buf(), Box::new(images), captions))
}

/// Members of tar shards; what damage makes unreadable counts as one image.
struct Members {
    shards: Vec<PathBuf>,
    entries: Vec<(usize, String, Result<Span, String>)>,
}

impl Images for Members {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        let (shard, _, span) = &self.entries[index];
        let unreadable =
            |error: &dyn std::fmt::Display| SampleError::new(SkipCause::Unreadable, error);
        let span = span.as_ref().map_err(|error| unreadable(error))?;
        read_spans(&self.shards[*shard], [(span, MAX_IMAGE_BYTES)])
            .map(|[bytes]| ImageData::Encoded(bytes))
            .map_err(|error| unreadable(&error))
    }

    fn locate(&self, index: usize) -> (String, String) {
        let (shard, key, _) = &self.entries[index];
        (self.shards[*shard].display().to_string(), key.clone())
    }
}

/// An image's key, where it is, and its captions.
type Member = (String, Result<Span, String>, Vec<String>);

fn of_shards(path: &Path, shards: Vec<PathBuf>) -> Result<LabelledDataset, DataError> {
    let rule = CaptionRule {
        key: key_in_shard(&shards[0]).ok().flatten(),
        ..CaptionRule::default()
    };
    // In parallel: the time goes into waiting for the disks.
    let read = shards.par_iter().map(|shard| members(shard, &rule));
    let read: Vec<Vec<Member>> = read.collect::<Result<_, _>>()?;
    let (mut entries, mut captions) = (Vec::new(), Vec::new());
    for (shard, members) in read.into_iter().enumerate() {
        for (key, span, texts) in members {
            entries.push((shard, key, span));
            captions.push(texts);
        }
    }
    if !entries.iter().any(|(_, _, span)| span.is_ok()) {
        let damage = entries.iter().find_map(|(_, _, span)| span.as_ref().err());
        let message = damage.map_or("no shard holds an image".into(), |damage| {
            format!("no image can be read: {damage}")
        });
        return Err(DataError::invalid(path, message));
    }
    let images = Members { shards, entries };
    Ok(unlabelled(path.to_path_buf(), Box::new(images), captions))
}

fn members(shard: &Path, rule: &CaptionRule) -> Result<Vec<Member>, DataError> {
    let opened = match TarRecords::open(shard, rule.extension()) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
            return Err(DataError::invalid(shard, error));
        }
        Err(error) => {
            let message = format!("the shard cannot be read: {error}");
            return Ok(vec![(WHOLE_SHARD.into(), Err(message), Vec::new())]);
        }
    };
    let TarRecords { records, damage } = opened;
    let mut members = Vec::new();
    for record in records {
        let Some(image) = record.image else { continue };
        let caption = record.field.and_then(|field| {
            let [bytes] = read_spans(shard, [(&field, MAX_TEXT_BYTES)]).ok()?;
            rule.all(bytes).ok()
        });
        members.push((record.key, Ok(image), caption.unwrap_or_default()));
    }
    let damage = damage
        .into_iter()
        .map(|damage| (damage.place, Err(damage.message), Vec::new()));
    members.extend(damage);
    Ok(members)
}

fn of_parquet(path: &Path, files: &Patterns, first: &Path) -> Result<LabelledDataset, DataError> {
    let (images, captions) = any_parquet(files, first)?;
    Ok(unlabelled(path.to_path_buf(), images, captions))
}

/// Several datasets, one after the other.
#[derive(Default)]
pub(super) struct Joined {
    pub parts: Vec<Box<dyn Images>>,
    /// The first index of each part.
    pub starts: Vec<usize>,
}

impl Joined {
    fn part(&self, index: usize) -> (usize, usize) {
        let at = self.starts.partition_point(|start| *start <= index) - 1;
        (at, index - self.starts[at])
    }
}

impl Images for Joined {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        let (part, at) = self.part(index);
        self.parts[part].read(at)
    }

    fn read_ahead(&self, range: Range<usize>) -> Option<Vec<Result<ImageData, SampleError>>> {
        let (part, first) = self.part(range.start);
        let (last_part, last) = self.part(range.end.checked_sub(1)?);
        (part == last_part).then(|| self.parts[part].read_ahead(first..last + 1))?
    }

    fn locate(&self, index: usize) -> (String, String) {
        let (part, at) = self.part(index);
        self.parts[part].locate(at)
    }

    fn fingerprint(&self, hasher: &mut dyn Hasher) {
        self.parts.iter().for_each(|part| part.fingerprint(hasher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shard(path: &Path, members: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        fs::write(path, builder.into_inner().unwrap()).unwrap();
    }

    fn bytes(dataset: &LabelledDataset, index: usize) -> Result<String, SkipCause> {
        match dataset.read(index) {
            Ok(ImageData::Encoded(bytes)) => Ok(String::from_utf8(bytes).unwrap()),
            Ok(ImageData::Pixels(_)) => unreachable!("files are encoded"),
            Err(error) => Err(error.cause),
        }
    }

    #[test]
    fn folders_shards_and_tables_join_in_order_with_the_captions_that_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("photos/deep")).unwrap();
        fs::write(root.join("photos/b.jpg"), b"b").unwrap();
        fs::write(root.join("photos/deep/a.png"), b"a").unwrap();
        fs::write(root.join("photos/deep/a.txt"), b"an a\n").unwrap();
        shard(
            &root.join("0.tar"),
            &[
                ("1.jpg", b"one"),
                ("2.jpg", b"two"),
                ("2.txt", b"a two"),
                ("3.txt", b"none"),
            ],
        );
        fs::write(
            root.join("t.csv"),
            "filepath,title\nphotos/b.jpg,a b\nphotos/no.jpg,nothing\nphotos/b.jpg,\n",
        )
        .unwrap();
        let paths = ["photos", "*.tar", "t.csv"].map(|path| root.join(path));
        let dataset = LabelledDataset::of_any_images(&paths).unwrap();
        let found: Vec<_> = (0..dataset.len())
            .map(|index| bytes(&dataset, index))
            .collect();
        let texts = ["b", "a", "one", "two", "b"].map(|text| Ok(text.to_string()));
        assert_eq!(found[..5], texts);
        assert_eq!(found[5], Err(SkipCause::MissingImage));
        assert_eq!(found[6..], [Ok("b".to_string())]);
        let captions: Vec<String> = captions_of(&dataset)
            .iter()
            .map(|texts| texts.join("|"))
            .collect();
        assert_eq!(captions, ["", "an a", "", "a two", "a b", "nothing", ""]);
        assert_eq!(dataset.locate(3).1, "2");
        assert!(dataset.locate(4).0.ends_with("b.jpg"));
    }

    #[test]
    fn damage_is_skipped_and_what_holds_no_images_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let path = root.join("0.tar");
        shard(&path, &[("1.jpg", b"one"), ("2.jpg", &[7; 4000])]);
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1600)
            .unwrap();
        fs::write(root.join("1.tar"), [b'x'; 2048]).unwrap();
        let dataset = LabelledDataset::of_any_images(&[root.join("{0,1}.tar")]).unwrap();
        assert_eq!(bytes(&dataset, 0).unwrap(), "one");
        for index in 1..dataset.len() {
            assert_eq!(bytes(&dataset, index), Err(SkipCause::Unreadable));
        }
        let error = |path: &str| {
            let error = LabelledDataset::of_any_images(&[root.join(path)]).unwrap_err();
            crate::error::with_causes(&error)
        };
        assert!(
            error("1.tar").contains("no image can be read"),
            "{}",
            error("1.tar")
        );
        assert!(error("none").contains("no such file"), "{}", error("none"));
        fs::write(root.join("t.csv"), "a,b\n1,2\n").unwrap();
        assert!(
            error("t.csv").contains("names image files"),
            "{}",
            error("t.csv")
        );
        fs::create_dir(root.join("empty")).unwrap();
        assert!(
            error("empty").contains("no images, tar shards"),
            "{}",
            error("empty")
        );
    }
}
