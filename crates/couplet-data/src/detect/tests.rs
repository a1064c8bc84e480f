use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use tempfile::TempDir;

use super::*;
use crate::source::SourceConfig;

fn image(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(20, 10, [9, 8, 7].into())
        .save(path)
        .unwrap();
}

/// A folder of images, and texts.
fn scene(images: &[&str], texts: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_path_buf();
    for name in images {
        image(&root.join(name));
    }
    for (name, text) in texts {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    }
    (folder, root)
}

fn found(path: &Path) -> Detected {
    detect(path.to_str().unwrap()).unwrap()
}

fn problem(path: &Path) -> String {
    crate::error::with_causes(&detect(path.to_str().unwrap()).unwrap_err())
}

#[test]
fn images_with_texts_or_documents_are_a_folder_of_pairs() {
    let (_folder, root) = scene(
        &["a.png", "b/c.jpg"],
        &[("a.txt", "a cat"), ("b/c.txt", "a dog")],
    );
    let one = found(&root);
    assert_eq!(
        one.source,
        SourceConfig::Folder(crate::source::FolderConfig::new(&root))
    );
    assert_eq!(
        (one.trial.samples, one.trial.read, one.trial.short_side()),
        (Some(2), 2, 10)
    );

    let (_folder, root) = scene(
        &["a.png"],
        &[("a.json", r#"{"id": 3, "Title": ["a", "b"], "score": NaN}"#)],
    );
    let SourceConfig::Folder(table) = found(&root).source else {
        panic!()
    };
    assert_eq!(table.caption_key.as_deref(), Some("Title"));
    let (_folder, root) = scene(&["a.png"], &[("a.json", r#"{"id": 3, "words": "x"}"#)]);
    assert!(problem(&root).contains("no key for captions among `id`, `words`"));
}

#[test]
fn a_table_is_read_by_what_its_columns_hold() {
    for (name, text, image, caption, separator) in [
        (
            "t.csv",
            "filepath,title\na.png,a cat\n",
            "filepath",
            "title",
            None,
        ),
        (
            "t.csv",
            "n;foto;was\n1;a.png;eine Katze\n2;a.png;ein Hund\n",
            "foto",
            "was",
            Some(';'),
        ),
        (
            "t.tsv",
            "url\tpath\tlabel\tcaption\nhttp\ta.png\t3\ta cat\n",
            "path",
            "caption",
            None,
        ),
        (
            "t.csv",
            "image\tcaption\na.png\t\"a, cat\"\n",
            "image",
            "caption",
            Some('\t'),
        ),
    ] {
        let (_folder, root) = scene(&["a.png"], &[(name, text)]);
        // By itself, and in the folder that it is alone in.
        for path in [root.join(name), root.clone()] {
            let SourceConfig::Csv(table) = found(&path).source else {
                panic!("{text}")
            };
            assert_eq!(
                (&*table.image_column, &*table.caption_column),
                (image, caption),
                "{text}"
            );
            assert_eq!(table.separator, separator, "{text}");
        }
    }
    let (_folder, root) = scene(&["x/a.png"], &[("t.csv", "path,title\na.png,a cat\n")]);
    assert!(problem(&root.join("t.csv")).contains("no column among `path`, `title` names images"));
}

#[test]
fn folders_of_classes_have_splits() {
    let images = [
        "train/cat/1.png",
        "train/dog/1.png",
        "test/cat/1.png",
        "test/dog/1.png",
    ];
    let (_folder, root) = scene(&images, &[]);
    let one = found(&root);
    assert!(
        matches!(one.source, SourceConfig::ClassFolder(ref table) if table.path == root.join("train"))
    );
    assert_eq!(one.test_classes, Some(root.join("test")));
    let (_folder, root) = scene(&images[..2], &[]);
    assert!(found(&root).test_classes.is_none());
    let (_folder, root) = scene(&["a.png", "cat/1.png"], &[]);
    assert!(
        problem(&root).contains("found 2 images; expected a .txt"),
        "{}",
        problem(&root)
    );
}

fn shard(path: &Path, members: &[(&str, &[u8])]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn shards_are_found_with_their_captions_and_splits() {
    let (_folder, root) = scene(&["x/a.png"], &[]);
    let png = fs::read(root.join("x/a.png")).unwrap();
    let json = br#"{"caption": "a cat", "url": "x"}"#;
    for name in ["train-0000.tar", "train-0001.tar", "val-0000.tar"] {
        shard(
            &root.join("s").join(name),
            &[("0.png", &png), ("0.json", json)],
        );
    }
    let one = found(&root.join("s"));
    let SourceConfig::Webdataset(table) = one.source else {
        panic!()
    };
    assert_eq!(table.caption_key.as_deref(), Some("caption"));
    let pattern = root.join("s/train-*.tar").to_str().unwrap().to_string();
    assert_eq!(table.shards, Patterns::One(pattern));
    assert!(matches!(one.val, Some(SourceConfig::Webdataset(_))));
    assert_eq!(one.trial.samples, Some(2));

    shard(
        &root.join("t/0.tar"),
        &[("0.txt", b"a cat"), ("0.png", &png)],
    );
    let SourceConfig::Webdataset(table) = found(&root.join("t/0.tar")).source else {
        panic!()
    };
    assert_eq!(table.caption_key, None);
    shard(&root.join("u/0.tar"), &[("0.png", &png)]);
    assert!(problem(&root.join("u")).contains("so there are no captions"));
}

#[test]
fn a_split_is_a_word_of_a_name_and_not_any_folder() {
    let (_folder, root) = scene(&["x/a.png"], &[]);
    let png = fs::read(root.join("x/a.png")).unwrap();
    for name in [
        "cc3m-train-0000.tar",
        "cc3m-train-0001.tar",
        "cc3m-validation-0000.tar",
    ] {
        shard(
            &root.join("s").join(name),
            &[("0.png", &png), ("0.txt", b"a cat")],
        );
    }
    let one = found(&root.join("s"));
    let SourceConfig::Webdataset(table) = one.source else {
        panic!()
    };
    let pattern = root
        .join("s/cc3m-train-*.tar")
        .to_str()
        .unwrap()
        .to_string();
    assert_eq!(table.shards, Patterns::One(pattern));
    assert!(one.val.is_some());

    // Trains are a class like others.
    let (_folder, root) = scene(&["bus/1.png", "car/1.png", "train/1.png"], &[]);
    assert!(
        matches!(found(&root).source, SourceConfig::ClassFolder(ref table) if table.path == root)
    );
    // Test images without classes are not evaluated.
    let (_folder, root) = scene(&["train/cat/1.png", "train/dog/1.png", "test/1.png"], &[]);
    let one = found(&root);
    assert!(
        one.test_classes.is_none() && one.notes.len() == 1,
        "{:?}",
        one.notes
    );
}

#[test]
fn of_several_tables_none_is_taken() {
    let text = "filepath,title\na.png,a cat\n";
    let (_folder, root) = scene(&["a.png"], &[("part1.csv", text), ("part2.csv", text)]);
    assert!(
        problem(&root).contains("which table?"),
        "{}",
        problem(&root)
    );
    let (_folder, root) = scene(&["a.png"], &[("train.csv", text), ("val.csv", text)]);
    let one = found(&root);
    assert!(
        matches!(one.source, SourceConfig::Csv(ref table) if table.path == root.join("train.csv"))
    );
    assert!(matches!(one.val, Some(SourceConfig::Csv(_))));
}

#[test]
fn what_img2dataset_writes_next_to_shards_is_not_another_kind() {
    let (_folder, root) = scene(
        &["x/a.png"],
        &[
            ("s/00000.parquet", "x"),
            ("s/00000_stats.json", "{}"),
            ("s/00001.parquet", "x"),
        ],
    );
    let png = fs::read(root.join("x/a.png")).unwrap();
    for name in ["00000.tar", "00001.tar"] {
        shard(
            &root.join("s").join(name),
            &[("0.png", &png), ("0.txt", b"a cat")],
        );
    }
    assert!(matches!(
        found(&root.join("s")).source,
        SourceConfig::Webdataset(_)
    ));
    fs::write(root.join("s/other.parquet"), "x").unwrap();
    assert!(problem(&root.join("s")).contains("which are the pairs?"));
}

#[test]
fn nonsense_is_an_error_that_says_what_was_found() {
    let (_folder, root) = scene(
        &[],
        &[
            ("a.pdf", "%PDF"),
            ("e/x", ""),
            ("broken/a.png", "x"),
            ("broken/a.txt", "a"),
        ],
    );
    for (path, words) in [
        ("e", "found no images, tables, Parquet files or tar files"),
        ("a.pdf", "neither a folder nor"),
        ("nowhere", "no such file or folder"),
        ("broken", "but none can be read"),
    ] {
        let message = problem(&root.join(path));
        assert!(message.contains(words), "{message}");
    }
}
