use super::super::dataset::{Split, Targets};
use super::*;
use std::fs;

fn put(root: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn found(files: &[(&str, &str)]) -> Result<(LabelledConfig, String), String> {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), files);
    LabelledConfig::detect(folder.path()).map_err(|error| error.to_string())
}

#[test]
fn captions_next_to_images_make_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let pairs = [
        ("a.jpg", "i"),
        ("a.txt", "one\ntwo"),
        ("b/c.png", "i"),
        ("b/c.txt", "x"),
    ];
    put(root, &pairs);
    put(root, &[("README.txt", "about")]);
    let (config, what) = LabelledConfig::detect(root).unwrap();
    assert!(what.contains(".txt"), "{what}");
    let dataset = config.open(Split::Test, 16).unwrap();
    let wanted = [vec!["one\ntwo".to_string()], vec!["x".to_string()]];
    assert_eq!(*dataset.targets(), Targets::Captions(wanted.into()));
    put(root, &[("d.jpg", "i")]);
    let error = config.open(Split::Test, 16).unwrap_err().to_string();
    assert!(error.contains("1 of 3 images have no .txt"), "{error}");

    let json = r#"{"captions": ["a", "b"]}"#;
    put(root, &[("e/1.jpg", "i"), ("e/1.json", json)]);
    let (config, what) = LabelledConfig::detect(&root.join("e")).unwrap();
    assert!(what.contains("`captions`"), "{what}");
    let dataset = config.open(Split::Test, 16).unwrap();
    let wanted = vec!["a".to_string(), "b".to_string()];
    assert_eq!(*dataset.targets(), Targets::Captions(vec![wanted]));
}

#[test]
fn folders_of_splits_are_no_classes() {
    let classes = |split: &str| {
        let files = ["cat/1.jpg", "dog/1.jpg"];
        files.map(|file| format!("{split}/{file}"))
    };
    let files = |splits: &[&str]| -> Vec<String> {
        splits.iter().flat_map(|split| classes(split)).collect()
    };
    let detect = |splits: &[&str]| {
        let files = files(splits);
        let files: Vec<_> = files.iter().map(|file| (&file[..], "i")).collect();
        match found(&files).unwrap() {
            (LabelledConfig::ClassFolder(table), _) => table,
            (other, _) => panic!("{other:?}"),
        }
    };
    let table = detect(&["train", "val"]);
    assert!(table.path.ends_with("val"));
    assert!(table.train_path.unwrap().ends_with("train"));
    assert!(detect(&["test"]).path.ends_with("test"));
    assert!(detect(&["test", "val", "train"]).path.ends_with("test"));
    assert!(!detect(&["test", "holiday"]).path.ends_with("test"));
    // Images of trains and of tests.
    let (config, _) = found(&[("train/1.jpg", "i"), ("test/1.jpg", "i")]).unwrap();
    let LabelledConfig::ClassFolder(table) = config else {
        panic!("{config:?}");
    };
    assert_eq!(table.train_path, None);
}

#[test]
fn tables_are_known_by_their_columns() {
    let (config, what) = found(&[
        ("a.jpg", "i"),
        ("all.tsv", "File_Name\tCaption\na.jpg\tb\n"),
    ])
    .unwrap();
    assert!(what.contains("`File_Name` and `Caption`"), "{what}");
    assert!(config.has_captions());
    let folder = tempfile::tempdir().unwrap();
    put(
        folder.path(),
        &[("t.csv", "image,label\na.jpg,3\n"), ("u.csv", "x,y\n1,2\n")],
    );
    let detect = |name: &str| LabelledConfig::detect(&folder.path().join(name));
    assert!(!detect("t.csv").unwrap().0.has_captions());
    let error = detect("u.csv").unwrap_err().to_string();
    assert!(error.contains("its columns are `x`, `y`"), "{error}");
}

#[test]
fn a_table_is_read_as_init_reads_it() {
    let text = "id;bild;beschreibung\n1;a.jpg;ein roter Kreis\n2;b.jpg;ein blauer Stern\n";
    let files = [("a.jpg", "i"), ("b.jpg", "i"), ("t.csv", text)];
    let (config, what) = found(&files).unwrap();
    assert!(what.contains("`bild` and `beschreibung`"), "{what}");
    let LabelledConfig::Csv(table) = config else {
        panic!("{config:?}");
    };
    assert_eq!(table.separator, Some(';'));
    // Words of their own are labels as likely as captions.
    let text = "bild,art\na.jpg,Kreis\nb.jpg,Stern\n";
    let error = found(&[("a.jpg", "i"), ("b.jpg", "i"), ("t.csv", text)]).unwrap_err();
    assert!(
        error.contains("2 images without classes or captions"),
        "{error}"
    );
}

#[test]
fn what_is_no_dataset_says_what_one_is() {
    let error = found(&[("1.jpg", "i"), ("2.jpg", "i")]).unwrap_err();
    assert!(
        error.contains("2 images without classes or captions"),
        "{error}"
    );
    assert!(
        error.contains("one sub-folder of images per class"),
        "{error}"
    );
    let error = found(&[("notes.md", "i")]).unwrap_err();
    assert!(
        error.contains("no images, tables or shards in it"),
        "{error}"
    );
}

#[test]
fn splits_are_no_classes_where_one_has_classes() {
    let error = found(&[
        ("train/cat/1.jpg", "i"),
        ("train/dog/1.jpg", "i"),
        ("val/1.jpg", "i"),
        ("val/2.jpg", "i"),
    ])
    .unwrap_err();
    assert!(
        error.contains("2 images without classes or captions"),
        "{error}"
    );
}
