use super::*;
use std::fs;

const KEYS: &str = r#""filename": "a.jpg", "caption": "a dog", "negative_caption": "a cat""#;

fn open(folder: &Path, name: &str, text: &str) -> Result<CompositionalSet, String> {
    fs::write(folder.join(name), text).unwrap();
    open_with(folder, &[name], &CompositionalOptions::default())
}

fn open_with(
    folder: &Path,
    names: &[&str],
    options: &CompositionalOptions,
) -> Result<CompositionalSet, String> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    CompositionalSet::open(&paths, options).map_err(|error| error.to_string())
}

#[test]
fn sugar_crepes_files_lists_lines_and_tables_are_the_same_set() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let other = r#""filename": "b.jpg", "caption": "x", "negative_caption": "y""#;
    for (name, text) in [
        ("a.json", format!("{{\"0\": {{{KEYS}}}, \"1\": {{{other}}}, \"2\": {{{KEYS}}}}}")),
        ("b.json", format!("[{{{KEYS}}}, {{{other}}}, {{{KEYS}}}]")),
        ("c.jsonl", format!("{{{KEYS}}}\n\n{{{other}}}\n{{{KEYS}}}\n")),
        (
            "d.csv",
            "filename,caption,negative_caption\na.jpg,a dog,a cat\nb.jpg,x,y\na.jpg,a dog,a cat\n".into(),
        ),
        (
            "e.tsv",
            "negative_caption\tcaption\timage\na cat\ta dog\ta.jpg\ny\tx\tb.jpg\na cat\ta dog\ta.jpg\n".into(),
        ),
    ] {
        let set = open(folder, name, &text).unwrap();
        assert_eq!(set.kind, CompositionalKind::SugarCrepe);
        let rows: Vec<([usize; 2], &str, &str)> = (set.examples.iter())
            .map(|row| (row.images, &*row.captions[0], &*row.captions[1]))
            .collect();
        let wanted = [
            ([0, 0], "a dog", "a cat"),
            ([1, 1], "x", "y"),
            ([0, 0], "a dog", "a cat"),
        ];
        assert_eq!(rows, wanted, "{name}");
        assert_eq!(set.images.len(), 2, "each file once");
        assert!(set.images.locate(1).0.ends_with("b.jpg"));
        assert!(set.examples.iter().all(|row| row.category.is_none()));
    }
}

#[test]
fn winogrounds_list_names_images_without_extension() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("images")).unwrap();
    for name in ["x_0.png", "x_1.png"] {
        fs::write(folder.join("images").join(name), b"image").unwrap();
    }
    let text = r#"{"id": 0, "image_0": "x_0", "image_1": "x_1", "caption_0": "a b", "caption_1": "b a", "collapsed_tag": "Object"}"#;
    fs::write(folder.join("examples.jsonl"), text).unwrap();
    let rooted = CompositionalOptions {
        root: Some(folder.join("images")),
        ..CompositionalOptions::default()
    };
    let set = open_with(folder, &["examples.jsonl"], &rooted).unwrap();
    assert_eq!(set.kind, CompositionalKind::Winoground);
    assert_eq!(set.examples[0].images, [0, 1]);
    assert_eq!(set.examples[0].category.as_deref(), Some("Object"));
    assert!(set.images.locate(1).0.ends_with("x_1.png"));
    // The same rows as a SugarCrepe set, with columns given.
    let given = CompositionalOptions {
        image_columns: vec!["image_1".into()],
        caption_columns: vec!["caption_1".into(), "caption_0".into()],
        ..CompositionalOptions::default()
    };
    let set = open_with(folder, &["examples.jsonl"], &given).unwrap();
    assert_eq!(set.kind, CompositionalKind::SugarCrepe);
    assert_eq!(set.examples[0].captions, ["b a", "a b"]);
}

#[test]
fn several_files_are_categories_and_problems_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("data")).unwrap();
    for name in ["swap_att", "add_obj"] {
        let path = folder.join("data").join(name).with_extension("json");
        fs::write(path, format!("{{\"0\": {{{KEYS}}}}}")).unwrap();
    }
    let set = open_with(folder, &["data"], &CompositionalOptions::default()).unwrap();
    let categories = set.examples.iter().map(|row| row.category.as_deref());
    let categories: Vec<_> = categories.collect();
    assert_eq!(categories, [Some("add_obj"), Some("swap_att")]);
    for (name, text, wanted) in [
        (
            "a.json",
            "{\"0\": {\"filename\": \"a.jpg\"}}",
            "give --caption-columns",
        ),
        (
            "a.json",
            "{\"0\": {\"caption\": \"a\"}}",
            "give --image-columns",
        ),
        ("a.json", "[1]", "entry 0 is not an object"),
        ("a.json", "[]", "no rows"),
        (
            "a.jsonl",
            "{\"image\": \"a\", \"caption\": \"b\", \"negative_caption\": \" \"}",
            "line 1: no text at `negative_caption`",
        ),
        (
            "a.csv",
            "image,caption,negative_caption\na,b,\n",
            "line 2: `negative_caption` is empty",
        ),
        ("a.txt", "x", "not a table"),
    ] {
        let error = open(folder, name, text).unwrap_err();
        assert!(error.contains(wanted), "{name}: {error}");
    }
    let winoground = CompositionalOptions {
        kind: Some(CompositionalKind::Winoground),
        ..CompositionalOptions::default()
    };
    let error = open_with(folder, &["data"], &winoground).unwrap_err();
    assert!(error.contains("needs two columns of images"), "{error}");
}

#[test]
fn a_category_may_be_missing_unless_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let header = "image,caption,negative_caption,category";
    let json = format!("[{{{KEYS}, \"category\": \"x\"}}, {{{KEYS}, \"category\": null}}]");
    let asked = CompositionalOptions {
        category_column: Some("category".into()),
        ..CompositionalOptions::default()
    };
    for (name, text) in [
        ("a.json", json),
        ("b.csv", format!("{header}\na,b,c,x\na,b,c,\n")),
    ] {
        let set = open(folder, name, &text).unwrap();
        let categories = set.examples.iter().map(|row| row.category.as_deref());
        assert_eq!(categories.collect::<Vec<_>>(), [Some("x"), None], "{name}");
        let error = open_with(folder, &[name], &asked).unwrap_err();
        assert!(error.contains("`category`"), "{name}: {error}");
    }
}

/// The fixture is written by `tests/fixtures/make_parquet.py`.
#[cfg(feature = "parquet")]
#[test]
fn several_parquet_files_are_categories() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/labels.parquet");
    for name in ["add_obj", "swap_att"] {
        fs::copy(fixture, folder.path().join(name).with_extension("parquet")).unwrap();
    }
    let options = CompositionalOptions {
        caption_columns: ["name", "name"].map(String::from).into(),
        ..CompositionalOptions::default()
    };
    let categories = |options: &CompositionalOptions| -> Vec<String> {
        let set = open_with(folder.path(), &[""], options).unwrap();
        let categories = set.examples.into_iter().map(|row| row.category.unwrap());
        categories.collect()
    };
    let by_file = categories(&options);
    assert_eq!(by_file, [vec!["add_obj"; 7], vec!["swap_att"; 7]].concat());
    let by_column = categories(&CompositionalOptions {
        category_column: Some("label".into()),
        ..options
    });
    assert_eq!(by_column[..3], ["0", "1", "2"]);
}
