//! Random changes of valid files cost an error or some samples, never a panic. `fuzz/` searches longer.

use std::fs;
use std::path::{Path, PathBuf};

use couplet_data::labelled::{LabelledConfig, Split};
use couplet_data::loader::TokenOptions;
use couplet_data::source::{SourceConfig, index_shards};
use couplet_data::{DatasetStats, Interpolation, ResizeMode, Tokenizer, Transform};
use serde_json::{Value, json};

const CHANGES: u64 = 60;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A few bytes of a file changed, cut off or repeated.
fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap_or(0) % below.max(1)
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..=draw(4) {
        if bytes.is_empty() {
            break;
        }
        let at = draw(bytes.len());
        match draw(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] = [0, 0xff, 0x7f, b'"', b'9'][draw(5)],
            2 => bytes[at] ^= 1 << draw(8),
            3 => {
                let part = bytes[at..(at + 1 + draw(40)).min(bytes.len())].to_vec();
                let to = draw(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => drop(bytes.drain(at..(at + 1 + draw(40)).min(bytes.len()))),
        }
    }
    bytes
}

/// Reads every sample for training; a panic of one fails the test.
fn survey(table: Value) {
    let config: SourceConfig = serde_json::from_value(table).unwrap();
    if !config.problems().is_empty() {
        return;
    }
    let Ok(dataset) = config.open(0, 8) else {
        return;
    };
    // A Parquet footer may claim any number of rows.
    if dataset.samples().is_some_and(|samples| samples > 10_000) {
        return;
    }
    let tokens = TokenOptions {
        tokenizer: Tokenizer::clip(),
        context_length: 77,
        pad_id: 0,
        cut: true,
    };
    let stats = DatasetStats::collect(&dataset, &tokens, 1 << 20, |_| {});
    let panicked = stats
        .skipped
        .iter()
        .find(|one| one.detail.contains("panicked"));
    assert!(panicked.is_none(), "{panicked:?}");
}

fn evaluate(table: Value) {
    let config: LabelledConfig = serde_json::from_value(table).unwrap();
    if let Ok(dataset) = config.open(Split::Test, 8) {
        let transform = Transform::eval(4, ResizeMode::Squash, Interpolation::Bilinear);
        dataset.batch(0..dataset.len().min(16), &transform, 1 << 20);
    }
}

#[test]
fn changed_shards_and_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tar");
    for name in [
        "plain.tar",
        "plain.tar.gz",
        "plain.tar.bz2",
        "plain.tar.zst",
        "sparse-gnu.tar.gz",
    ] {
        let whole = fs::read(fixture("shards").join(name)).unwrap();
        for seed in 0..CHANGES / 2 {
            fs::write(&path, changed(&whole, seed)).unwrap();
            for stream in [false, true] {
                survey(json!({ "source": "webdataset", "shards": path, "stream": stream }));
            }
        }
    }
    fs::copy(fixture("shards/plain.tar"), &path).unwrap();
    index_shards(&[path.display().to_string()], |_, _, _| {}).unwrap();
    let index = folder.path().join("0.tar.index.json");
    let whole = fs::read(&index).unwrap();
    for seed in 0..CHANGES {
        fs::write(&index, changed(&whole, seed)).unwrap();
        survey(json!({ "source": "webdataset", "shards": path }));
    }
}

#[test]
fn changed_sparse_shards() {
    use std::io::Read;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tar");
    for format in ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"] {
        let packed = fs::read(fixture(&format!("shards/sparse-{format}.tar.gz"))).unwrap();
        let mut whole = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut whole)
            .unwrap();
        // Checksums hide most changes of headers, so these are made in the maps.
        for seed in 0..CHANGES / 4 {
            let mut bytes = changed(&whole[512..6144], seed);
            bytes.splice(0..0, whole[..512].to_vec());
            bytes.extend(&whole[6144..]);
            fs::write(&path, bytes).unwrap();
            for stream in [false, true] {
                survey(json!({ "source": "webdataset", "shards": path, "stream": stream }));
            }
        }
    }
}

#[test]
fn changed_tables_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let [table, json] = ["t.csv", "1.json"].map(|name| folder.path().join(name));
    fs::write(folder.path().join("1.jpg"), b"image").unwrap();
    let rows =
        b"filepath,title\n1.jpg,\"a\nb\"\n\"2.jpg\",x,y\n3.jpg,\"c\r\n4.jpg,\"\"\"d\"\"\"\r5.jpg\n";
    let captions =
        b"{\"images\": [{\"id\": 1, \"file_name\": \"1.jpg\"}], \"caption\": [\"a\", \"b\"],
        \"annotations\": [{\"image_id\": 1, \"caption\": \"NaN\"}], \"x\": [NaN, -Infinity]}";
    for seed in 0..CHANGES * 5 {
        fs::write(&table, changed(rows, seed)).unwrap();
        survey(json!({ "source": "csv", "path": table }));
        evaluate(json!({ "source": "csv", "path": table, "label_column": "title" }));
        fs::write(&json, changed(captions, seed)).unwrap();
        survey(json!({ "source": "folder", "path": folder.path(), "caption_key": "caption" }));
        let images = folder.path();
        evaluate(json!({ "source": "coco-captions", "annotations": json, "images": images }));
    }
}

#[test]
fn changed_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let images = [
        &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4][..],
        &[7; 32],
    ]
    .concat();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 9, 4];
    fs::create_dir(root.join("test")).unwrap();
    fs::write(root.join("dataset_type.txt"), "multilabel").unwrap();
    fs::write(root.join("test/nshards.txt"), "1").unwrap();
    let header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n";
    let npy = [b"\x93NUMPY\x01\x00\x3a\x00", &header[..], &[0; 16]].concat();
    for seed in 0..CHANGES * 5 {
        fs::write(root.join("t10k-images-idx3-ubyte"), changed(&images, seed)).unwrap();
        fs::write(
            root.join("t10k-labels-idx1-ubyte"),
            changed(&labels, seed / 3),
        )
        .unwrap();
        evaluate(json!({ "source": "idx", "path": root }));
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [("1.png", b"image".to_vec()), ("1.npy", changed(&npy, seed))] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        fs::write(root.join("test/0.tar"), builder.into_inner().unwrap()).unwrap();
        evaluate(json!({ "source": "webdataset", "path": root }));
    }
    let rows = vec![3; 3074 * 2];
    for seed in 0..CHANGES {
        fs::write(root.join("test.bin"), changed(&rows, seed)).unwrap();
        evaluate(json!({ "source": "cifar", "path": root, "classes": 100 }));
    }
}

#[cfg(feature = "parquet")]
#[test]
fn changed_parquet_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.parquet");
    for name in [
        "none_2.0",
        "brotli_1.0",
        "lz4_1.0",
        "zstd_2.0",
        "delta_byte_array",
        "polars",
    ] {
        let whole = fs::read(fixture(&format!("parquet/{name}.parquet"))).unwrap();
        for seed in 0..CHANGES {
            fs::write(&path, changed(&whole, seed)).unwrap();
            for stream in [false, true] {
                survey(json!({
                    "source": "parquet", "files": path, "image_column": "image_binary",
                    "caption_column": "caption_string", "stream": stream,
                }));
            }
            evaluate(json!({
                "source": "parquet", "files": path, "image_column": "image_binary",
                "label_column": "label_name",
            }));
        }
    }
}
