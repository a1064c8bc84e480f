//! Indexes of images, and search in them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use image::RgbImage;

use crate::training::{tiny, train};
use crate::workspace::{Ended, Workspace, fail, succeed};

/// A run, and a folder of 150 images of which one is damaged.
pub fn run_and_photos() -> Workspace {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "run",
        &["--set", "schedule.length=4 steps"],
    ));
    fs::create_dir_all(workspace.path("photos/deep")).unwrap();
    for at in 0..149_u8 {
        let path = workspace.path(&format!("photos/deep/{at:03}.png"));
        let color = [at, 255 - at, at.wrapping_mul(37)];
        RgbImage::from_fn(20, 14, |x, y| {
            let is_inside = (x + y) % u32::from(at % 7 + 2) == 0;
            if is_inside {
                color.into()
            } else {
                [9, 9, 9].into()
            }
        })
        .save(path)
        .unwrap();
    }
    fs::write(workspace.path("photos/deep/005.txt"), "a caption <b>").unwrap();
    fs::write(workspace.path("photos/bad.jpg"), b"no image").unwrap();
    workspace
}

pub const INDEX: [&str; 6] = ["index", "--model", "run", "photos", "--out", "photos.index"];
const FILES: [&str; 5] = [
    "features.npy",
    "rows.jsonl",
    "rows.offsets",
    "skipped.jsonl",
    "index.json",
];

fn contents(workspace: &Workspace, index: &str) -> Vec<Vec<u8>> {
    let read = |file: &&str| fs::read(workspace.path(index).join(file)).unwrap();
    FILES.iter().map(read).collect()
}

/// NumPy's file, as rows.
fn rows(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let shape = text
        .split_once("'shape': (")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    let width = shape.split(',').nth(1).unwrap().trim();
    let width: usize = width.parse().unwrap();
    let values = bytes[header..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes));
    values
        .collect::<Vec<_>>()
        .chunks(width)
        .map(<[f32]>::to_vec)
        .collect()
}

#[test]
fn a_search_finds_what_the_features_of_embed_say() {
    let workspace = run_and_photos();
    let printed = fail(workspace.couplet(&INDEX), 1);
    assert!(printed.contains("bad.jpg"), "{printed}");
    assert!(
        printed.contains("indexed 149 images in photos.index"),
        "{printed}"
    );
    assert!(
        printed.contains("1 of 150 images are left out"),
        "{printed}"
    );
    let skipped = workspace.json_lines("photos.index/skipped.jsonl");
    assert_eq!(skipped[0]["cause"], "corrupt-image");

    // The same features as of `embed`, and the same order as of its cosines.
    let embed = [
        "embed",
        "--model",
        "run",
        "--images",
        "photos/deep",
        "--out",
        "images.npy",
    ];
    succeed(workspace.couplet(&embed));
    let (own, wanted) = (
        rows(&workspace.path("photos.index/features.npy")),
        rows(&workspace.path("images.npy")),
    );
    assert_eq!(own.len(), 149);
    for (own, wanted) in own.iter().zip(&wanted) {
        let gap = own
            .iter()
            .zip(wanted)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(gap < 1e-5, "{gap}");
    }
    fs::write(workspace.path("words.txt"), "a red circle\n").unwrap();
    let embed = [
        "embed",
        "--model",
        "run",
        "--texts",
        "words.txt",
        "--out",
        "words.npy",
    ];
    succeed(workspace.couplet(&embed));
    let query = &rows(&workspace.path("words.npy"))[0];
    let cosine = |row: usize| own[row].iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
    let mut order: Vec<usize> = (0..own.len()).collect();
    order.sort_by(|a, b| cosine(*b).total_cmp(&cosine(*a)));
    let search = [
        "search",
        "photos.index",
        "a red circle",
        "--limit",
        "7",
        "--json",
        "found.json",
    ];
    succeed(workspace.couplet(&search));
    let found = workspace.json("found.json");
    assert_eq!(found["rows"], 149);
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 7);
    for (hit, wanted) in hits.iter().zip(order) {
        let score = hit["score"].as_f64().unwrap();
        assert!((score - f64::from(cosine(wanted))).abs() < 1e-5, "{hit}");
        assert!(Path::new(hit["file"].as_str().unwrap()).is_absolute());
    }
    // An image is the most similar to itself; from any folder.
    let image = workspace.path("photos/deep/005.png");
    let mut command = workspace.couplet(&["search", "../photos.index", "--limit", "1", "--image"]);
    command.arg(&image).current_dir(workspace.path("photos"));
    let printed = succeed(command);
    assert!(printed.starts_with("1.0000  "), "{printed}");
    assert!(printed.contains("005.png  a caption <b>"), "{printed}");
}

#[test]
fn an_index_that_was_interrupted_goes_on_to_the_same_bytes() {
    let workspace = run_and_photos();
    fail(workspace.couplet(&INDEX), 1);
    let whole = contents(&workspace, "photos.index");
    let printed = succeed(workspace.couplet(&INDEX));
    assert!(printed.contains("complete already"), "{printed}");

    // As it is after 64 images, with what was written since and does not count.
    let path = workspace.path("photos.index/index.json");
    let mut manifest = workspace.json("photos.index/index.json");
    let rows = workspace.json_lines("photos.index/rows.jsonl");
    let done = rows
        .iter()
        .filter(|row| row["image"].as_u64() < Some(64))
        .count();
    let offsets = fs::read(workspace.path("photos.index/rows.offsets")).unwrap();
    let offset = u64::from_le_bytes(offsets[8 * done..8 * done + 8].try_into().unwrap());
    manifest["done"] = 64.into();
    manifest["rows"] = done.into();
    manifest["row_bytes"] = offset.into();
    // The damaged image is the first.
    assert_eq!((done, manifest["skipped"].as_u64()), (63, Some(1)));
    fs::write(&path, manifest.to_string()).unwrap();
    let printed = fail(workspace.couplet(&INDEX), 1);
    assert!(printed.contains("64 images done before"), "{printed}");
    assert!(contents(&workspace, "photos.index") == whole);

    // Killed at some moments of its work.
    for milliseconds in [5, 20, 40, 60] {
        let mut again = INDEX;
        again[5] = "killed.index";
        let child = workspace
            .couplet(&again)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        drop(Ended(child));
        let output = workspace.couplet(&again).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        assert!(
            contents(&workspace, "killed.index") == whole,
            "{milliseconds}"
        );
        fs::remove_dir_all(workspace.path("killed.index")).unwrap();
    }
}

#[test]
fn an_index_is_not_mixed_with_another_model_or_other_images_or_files() {
    let workspace = run_and_photos();
    fail(workspace.couplet(&INDEX), 1);
    succeed(train(
        &workspace,
        "other",
        &["--set", "schedule.length=4 steps", "--set", "seed=7"],
    ));
    let mut other = INDEX;
    other[2] = "other";
    let printed = fail(workspace.couplet(&other), 1);
    assert!(
        printed.contains("the index is of another model"),
        "{printed}"
    );
    let printed = fail(
        workspace.couplet(&["search", "photos.index", "x", "--model", "other"]),
        1,
    );
    assert!(printed.contains("not the model"), "{printed}");
    let printed = fail(
        workspace.couplet(&["search", "photos.index", "x", "--precision", "bf16"]),
        1,
    );
    assert!(
        printed.contains("not the model, the precision"),
        "{printed}"
    );
    fs::remove_file(workspace.path("photos/deep/000.png")).unwrap();
    let printed = fail(workspace.couplet(&INDEX), 1);
    assert!(
        printed.contains("the index is of other images"),
        "{printed}"
    );
    let printed = fail(workspace.couplet(&INDEX).arg("--overwrite"), 1);
    assert!(printed.contains("indexed 148 images"), "{printed}");

    // Of two processes at once, the second does nothing.
    let lock = fs::File::open(workspace.path("photos.index/.lock")).unwrap();
    lock.lock().unwrap();
    for more in [None, Some("--overwrite")] {
        let printed = fail(workspace.couplet(&INDEX).args(more), 1);
        assert!(
            printed.contains("another process writes this index"),
            "{printed}"
        );
    }
    drop(lock);

    // What is no index's own stays, and what is no index is not replaced; one that cannot be read is.
    fs::write(workspace.path("photos.index/notes.txt"), "mine").unwrap();
    for damage in ["", "{\"format\": 7}"] {
        fs::write(workspace.path("photos.index/index.json"), damage).unwrap();
        fail(workspace.couplet(&INDEX), 1);
        let printed = fail(workspace.couplet(&INDEX).arg("--overwrite"), 1);
        assert!(printed.contains("indexed 148 images"), "{printed}");
    }
    assert_eq!(workspace.read("photos.index/notes.txt"), "mine");
    fs::create_dir(workspace.path("mine")).unwrap();
    fs::write(workspace.path("mine/features.npy"), "mine").unwrap();
    let mut into_mine = INDEX;
    into_mine[5] = "mine";
    for more in [None, Some("--overwrite")] {
        let printed = fail(workspace.couplet(&into_mine).args(more), 1);
        assert!(
            printed.contains("holds features.npy and no index"),
            "{printed}"
        );
    }
    assert_eq!(workspace.read("mine/features.npy"), "mine");

    // A damaged index is told, and a folder of other things is left alone.
    let features = workspace.path("photos.index/features.npy");
    let length = fs::metadata(&features).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&features)
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let printed = fail(workspace.couplet(&["search", "photos.index", "x"]), 1);
    assert!(
        printed.contains("features.npy: the index is damaged"),
        "{printed}"
    );
    let mut into_photos = INDEX;
    into_photos[5] = "photos";
    let printed = fail(workspace.couplet(&into_photos), 1);
    assert!(
        printed.contains("no index; give an empty or a new folder"),
        "{printed}"
    );
    let printed = fail(workspace.couplet(&["search", "photos", "x"]), 1);
    assert!(printed.contains("photos: not an index"), "{printed}");
}
