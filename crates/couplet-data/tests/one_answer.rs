//! Training and evaluation read the same files the same way.

use std::fs;
use std::path::Path;

use couplet_data::formats::class_names::class_names;
use couplet_data::labelled::{LabelledConfig, LabelledDataset, Split};
use couplet_data::source::{PairDataset, SourceConfig};
use couplet_data::{Interpolation, ResizeMode, Transform};
use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};

fn put_image(root: &Path, file: &str, level: u8) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(2, 2, [level; 3].into())
        .save_with_format(path, ImageFormat::Png)
        .unwrap();
}

fn captions(config: Value) -> Vec<String> {
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    assert_eq!(config.problems(), []);
    let PairDataset::Indexed(pairs) = config.open(0, 8).unwrap() else {
        panic!("the dataset is indexed");
    };
    let read = |index| pairs.read(index, 0).map(|sample| sample.caption).unwrap();
    (0..pairs.len()).map(read).collect()
}

fn labelled(config: Value) -> LabelledDataset {
    let config: LabelledConfig = serde_json::from_value(config).unwrap();
    config.open(Split::Test, 8).unwrap()
}

/// The gray levels of the images that can be read.
fn levels(dataset: &LabelledDataset) -> Vec<u8> {
    let transform = Transform::eval(1, ResizeMode::Squash, Interpolation::Bilinear);
    let batch = dataset.batch(0..dataset.len(), &transform, 100);
    batch.pixels.chunks(3).map(|pixel| pixel[0]).collect()
}

#[test]
fn a_class_folder_has_the_same_names_in_training_and_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put_image(root, "big_cat/1.png", 10);
    put_image(root, "dog/1.png", 20);
    let table = json!({ "source": "class-folder", "path": root });
    let names = || {
        let dataset = labelled(table.clone());
        class_names(None, Some(root), dataset.class_names()).unwrap()
    };
    assert_eq!(
        captions(table.clone()),
        ["a photo of a big cat.", "a photo of a dog."]
    );
    assert_eq!(names().unwrap(), ["big cat", "dog"]);
    fs::write(root.join("classnames.txt"), "tiger_1\nhound\n").unwrap();
    assert_eq!(
        captions(table.clone()),
        ["a photo of a tiger_1.", "a photo of a hound."]
    );
    assert_eq!(names().unwrap(), ["tiger_1", "hound"]);
}

#[test]
fn relative_paths_in_a_table_start_from_the_same_folder_in_both() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let working_directory = tempfile::tempdir_in(".").unwrap();
    let there = working_directory.path().file_name().unwrap();
    put_image(root, "images/a.png", 10);
    put_image(working_directory.path(), "b.png", 20);
    let from_working_directory = Path::new(there).join("b.png");
    let table = root.join("t.csv");
    let rows = format!(
        "filepath,title,label\nimages/a.png,red,0\n{},blue,1\n",
        from_working_directory.display()
    );
    fs::write(&table, rows).unwrap();
    assert_eq!(
        captions(json!({ "source": "csv", "path": table })),
        ["red", "blue"]
    );
    let dataset = labelled(json!({ "source": "csv", "path": table, "label_column": "label" }));
    assert_eq!(levels(&dataset), [10, 20]);
    let dataset = labelled(json!({ "source": "csv", "path": table, "caption_column": "title" }));
    assert_eq!(levels(&dataset), [10, 20]);

    // With a root, paths start only from there.
    fs::write(&table, "filepath,title\na.png,red\n").unwrap();
    let rooted = json!({ "source": "csv", "path": table, "root": root.join("images") });
    assert_eq!(captions(rooted.clone()), ["red"]);
    let mut rooted = rooted;
    rooted["caption_column"] = "title".into();
    assert_eq!(levels(&labelled(rooted)), [10]);
}
