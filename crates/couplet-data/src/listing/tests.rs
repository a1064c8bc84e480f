use std::fs::{self, File};

use serde_json::{Value, json};

use super::*;
use crate::source::SourceConfig;

fn listing(config: &Value) -> DataListing {
    let config: SourceConfig = serde_json::from_value(config.clone()).unwrap();
    config.open(0, 32).unwrap().listing()
}

/// A tar shard of `samples` images of 100 bytes, with captions of 7 bytes.
fn shard(path: &Path, captions: &[&str]) {
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    for (at, caption) in captions.iter().enumerate() {
        for (extension, bytes) in [("jpg", &[7; 100][..]), ("txt", caption.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            let name = format!("{at}.{extension}");
            builder.append_data(&mut header, name, bytes).unwrap();
        }
    }
    builder.into_inner().unwrap();
}

fn changes(before: &DataListing, now: &DataListing) -> Vec<String> {
    match before.compare(now) {
        ListingChange::Changed(lines) => lines,
        other => panic!("{other:?}"),
    }
}

#[test]
fn shards_that_are_gone_new_or_changed_are_named() {
    for stream in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["0.tar", "1.tar", "2.tar"] {
            shard(&root.join(name), &["a word", "a bird"]);
        }
        let list = |root: &Path| {
            let shards = root.join("*.tar").display().to_string();
            listing(&json!({ "source": "webdataset", "shards": shards, "stream": stream }))
        };
        let before = list(root);
        assert_eq!(before.compare(&list(root)), ListingChange::Same);
        assert_eq!(before.0[1].name, "1.tar");
        assert_eq!(before.0[1].samples, (!stream).then_some(2));

        let copy = tempfile::tempdir().unwrap();
        for name in ["0.tar", "1.tar", "2.tar"] {
            fs::copy(root.join(name), copy.path().join(name)).unwrap();
        }
        assert_eq!(before.compare(&list(copy.path())), ListingChange::Same);
        fs::rename(root.join("2.tar"), root.join("3.tar")).unwrap();
        assert_eq!(before.compare(&list(root)), ListingChange::Moved);
        fs::rename(root.join("3.tar"), root.join("2.tar")).unwrap();

        // Permuted captions of the same length.
        shard(&root.join("1.tar"), &["a bird", "a word"]);
        let found = changes(&before, &list(root));
        let wanted = "1 file is changed: 1.tar (the same size, but other content)";
        assert_eq!(found, [wanted]);
        shard(&root.join("1.tar"), &["a word", "a bird"]);
        assert_eq!(before.compare(&list(root)), ListingChange::Same);

        fs::remove_file(root.join("0.tar")).unwrap();
        for name in ["4.tar", "5.tar", "6.tar", "7.tar"] {
            shard(&root.join(name), &["a word"]);
        }
        let found = changes(&before, &list(root));
        let wanted = [
            "1 file is missing: 0.tar",
            "4 files are new: 4.tar, 5.tar, 6.tar and 1 more",
        ];
        assert_eq!(found, wanted);
    }
}

#[test]
fn permuted_captions_of_the_same_size_change_every_kind_of_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let put = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("t.csv", "filepath,title\na.png,one\nb.png,two\n");
    for (name, text) in [
        ("a.png", "x"),
        ("a.txt", "one"),
        ("b.png", "y"),
        ("b.txt", "two"),
    ] {
        put(&format!("pairs/{name}"), text);
    }
    put("classes/cat/1.png", "x");
    put("classes/dog/1.png", "y");
    put("classes/classnames.txt", "cat\ndog\n");
    let path = |name: &str| root.join(name).display().to_string();
    let configs = [
        json!({ "source": "csv", "path": path("t.csv") }),
        json!({ "source": "folder", "path": path("pairs") }),
        json!({ "source": "class-folder", "path": path("classes") }),
    ];
    let mix = json!({ "source": "mix", "mix": configs });
    let list = || {
        configs
            .iter()
            .chain([&mix])
            .map(listing)
            .collect::<Vec<_>>()
    };
    let before = list();
    for (before, now) in before.iter().zip(&list()) {
        assert_eq!(before.compare(now), ListingChange::Same);
    }
    assert_eq!(before[3].0.len(), 4);
    put("t.csv", "filepath,title\na.png,two\nb.png,one\n");
    put("pairs/a.txt", "two");
    put("pairs/b.txt", "one");
    put("classes/classnames.txt", "cow\ndog\n");
    for (before, now) in before.iter().zip(&list()) {
        let found = changes(before, now);
        assert!(found[0].contains("other content"), "{found:?}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn permuted_captions_in_a_parquet_file_change_it() {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let list = |captions: [&str; 3]| {
        let images: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"1", b"2", b"3"]));
        let captions: ArrayRef = Arc::new(StringArray::from(captions.to_vec()));
        let batch = RecordBatch::try_from_iter([("jpg", images), ("caption", captions)]).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let files = path.display().to_string();
        listing(&json!({
            "source": "parquet", "files": files, "image_column": "jpg", "caption_column": "caption"
        }))
    };
    let before = list(["one", "two", "six"]);
    assert_eq!(before.0[0].samples, Some(3));
    assert_eq!(
        before.compare(&list(["one", "two", "six"])),
        ListingChange::Same
    );
    let found = changes(&before, &list(["two", "six", "one"]));
    assert!(found[0].contains("other content"), "{found:?}");
}
