//! The kinds of columns that pyarrow, pandas, polars and datasets write, read in training and
//! evaluation (`fixtures/make_parquet_kinds.py`).
#![cfg(feature = "parquet")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use couplet_data::labelled::{LabelledConfig, LabelledDataset, Split, Targets};
use couplet_data::source::{PairDataset, SourceConfig};
use couplet_data::{ImageData, Sample, SkipCause};
use serde_json::json;

const ROWS: usize = 6;
/// The row without an image and a caption.
const NULL: usize = 4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/parquet")
        .join(name)
}

/// The columns of each file.
fn files() -> BTreeMap<String, Vec<String>> {
    serde_json::from_slice(&std::fs::read(fixture("columns.json")).unwrap()).unwrap()
}

fn read(file: &str, image: &str, caption: &str, epoch: u64) -> Vec<Result<Sample, SkipCause>> {
    let config = json!({
        "source": "parquet", "files": fixture(&format!("{file}.parquet")), "image_column": image,
        "caption_column": caption, "stream": false,
    });
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    assert_eq!(config.problems(), []);
    let opened = config.open(0, 8);
    let PairDataset::Indexed(pairs) =
        opened.unwrap_or_else(|error| panic!("{file}: {image}, {caption}: {error}"))
    else {
        panic!("the config asks for an index");
    };
    let read = |index| pairs.read(index, epoch).map_err(|error| error.cause);
    (0..pairs.len()).map(read).collect()
}

fn labelled(file: &str, image: &str, key: &str, column: &str) -> LabelledDataset {
    let config = json!({
        "source": "parquet", "files": fixture(&format!("{file}.parquet")), "image_column": image,
        key: column,
    });
    let config: LabelledConfig = serde_json::from_value(config).unwrap();
    let opened = config.open(Split::Test, 8);
    opened.unwrap_or_else(|error| panic!("{file}: {image}, {column}: {error}"))
}

fn columns<'a>(all: &'a [String], what: &'a str) -> impl Iterator<Item = &'a str> {
    let names = all.iter().map(String::as_str);
    names.filter(move |name| name.split('_').next() == Some(what))
}

#[test]
fn every_kind_of_image_and_caption_is_read() {
    let mut read_columns = 0;
    for (file, all) in files() {
        let captions: Vec<&str> = columns(&all, "caption")
            .chain(columns(&all, "captions"))
            .collect();
        let pairs = columns(&all, "image")
            .flat_map(|image| captions.iter().map(move |caption| (image, *caption)));
        for (image, caption) in pairs {
            let samples = read(&file, image, caption, 0);
            assert_eq!(samples.len(), ROWS, "{file}");
            for (row, sample) in samples.into_iter().enumerate() {
                let place = format!("{file}: {image}, {caption}, row {row}");
                if row == NULL {
                    assert_eq!(sample.err(), Some(SkipCause::MissingImage), "{place}");
                    continue;
                }
                let sample = sample.unwrap_or_else(|cause| panic!("{place}: {cause}"));
                let ImageData::Encoded(bytes) = sample.image else {
                    panic!("{place}: pixels");
                };
                assert_eq!(bytes, format!("image {row}").into_bytes(), "{place}");
                let wanted = if caption.starts_with("captions") {
                    vec![format!("first {row}"), format!("second {row}")]
                } else {
                    vec![format!("caption {row}")]
                };
                assert!(
                    wanted.contains(&sample.caption),
                    "{place}: {}",
                    sample.caption
                );
            }
            read_columns += 1;
        }
    }
    assert!(read_columns > 150, "{read_columns}");
}

#[test]
fn every_caption_of_a_list_is_drawn() {
    for (file, all) in files() {
        let Some(image) = columns(&all, "image").next() else {
            continue;
        };
        for caption in columns(&all, "captions") {
            let drawn = (0..30).map(|epoch| {
                let row = read(&file, image, caption, epoch).swap_remove(1);
                row.unwrap().caption
            });
            let drawn: BTreeSet<String> = drawn.collect();
            let wanted = ["first 1", "second 1"].map(str::to_string);
            assert!(drawn.into_iter().eq(wanted), "{file}: {caption}");
        }
    }
}

#[test]
fn every_kind_of_label_is_read() {
    let mut read_columns = 0;
    for (file, all) in files() {
        let image = columns(&all, "image").next().unwrap();
        for label in columns(&all, "label") {
            let dataset = labelled(&file, image, "label_column", label);
            let wanted = Targets::Classes((0..ROWS).map(|row| row % 3).collect());
            assert_eq!(*dataset.targets(), wanted, "{file}: {label}");
            let has_names = [
                "name",
                "categor",
                "enum",
                "class",
                "string",
                "label_dictionary",
            ];
            let names = dataset.class_names().map(<[String]>::to_vec);
            let wanted = (has_names.iter().any(|kind| label.contains(kind)))
                .then(|| ["cat", "dog", "owl"].map(str::to_string).to_vec());
            assert_eq!(names, wanted, "{file}: {label}");
            read_columns += 1;
        }
    }
    assert!(read_columns > 40, "{read_columns}");
    let flags = labelled("bool", "image_binary", "label_column", "flag");
    assert_eq!(*flags.targets(), Targets::Classes(vec![0, 1, 0, 1, 0, 1]));
}
