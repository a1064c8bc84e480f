//! Shards as `tar`, `gzip`, `bzip2` and `zstd` write them, indexed and streamed
//! (`fixtures/make_shards.py`).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use couplet_data::source::{PairDataset, SourceConfig, index_shards};
use couplet_data::{ImageData, Sample};
use serde_json::json;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/shards")
        .join(name)
}

fn open(shard: &Path, stream: bool) -> Result<PairDataset, String> {
    let config = json!({ "source": "webdataset", "shards": shard, "stream": stream });
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    assert_eq!(config.problems(), []);
    config.open(0, 8).map_err(|error| error.to_string())
}

/// Each sample's caption and image, and where the next one begins.
fn read(dataset: &PairDataset, from: u64) -> Vec<(String, Vec<u8>, u64)> {
    let pair = |sample: Sample, next| match sample.image {
        ImageData::Encoded(bytes) => (sample.caption, bytes, next),
        ImageData::Pixels(_) => panic!("a shard holds encoded images"),
    };
    match dataset {
        PairDataset::Indexed(pairs) => (0..pairs.len())
            .map(|index| pair(pairs.read(index, 0).unwrap(), 0))
            .collect(),
        PairDataset::Stream(shards) => {
            let mut samples = Vec::new();
            shards.read(0, from, 0, &mut |one| {
                samples.push(pair(one.sample.unwrap(), one.next));
                true
            });
            samples
        }
    }
}

fn without_ends(samples: &[(String, Vec<u8>, u64)]) -> Vec<(String, Vec<u8>)> {
    let samples = samples.iter();
    samples
        .map(|(caption, image, _)| (caption.clone(), image.clone()))
        .collect()
}

#[test]
fn compressed_shards_are_streamed_and_named_when_indexed() {
    let wanted: Vec<_> = (0..6)
        .map(|at| {
            (
                format!("caption {at}"),
                format!("image {at} ").repeat(90).into_bytes(),
            )
        })
        .collect();
    let plain = fixture("plain.tar");
    let indexed = read(&open(&plain, false).unwrap(), 0);
    assert_eq!(without_ends(&indexed), wanted);
    let folder = tempfile::tempdir().unwrap();
    for (end, tool) in [("gz", "gunzip"), ("bz2", "bunzip2"), ("zst", "unzstd")] {
        // Recognized by its bytes, whatever it is called.
        let path = folder.path().join(format!("{end}.tar"));
        fs::copy(fixture(&format!("plain.tar.{end}")), &path).unwrap();
        let stream = open(&path, true).unwrap();
        let all = read(&stream, 0);
        assert_eq!(without_ends(&all), wanted, "{end}");
        let again = open(&path, true).unwrap();
        assert_eq!(read(&again, all[3].2), all[4..], "{end}");
        let error = open(&path, false).err().unwrap();
        assert!(
            error.contains(tool) && error.contains("stream = true"),
            "{error}"
        );
        let error = index_shards(&[path.display().to_string()], |_, _, _| {});
        assert!(error.is_err());
    }
}

#[test]
fn sparse_files_and_hard_links_are_read_in_every_format() {
    let pieces = |parts: &[(usize, &str)], len: usize| {
        let mut bytes = vec![0; len];
        for (at, text) in parts {
            let text = text.repeat(1024);
            bytes[*at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes
    };
    let texts: Vec<(usize, String)> = (1..40).map(|at| (16384 * at, format!("{at:04}"))).collect();
    let texts: Vec<(usize, &str)> = texts.iter().map(|(at, text)| (*at, &text[..])).collect();
    let first = pieces(&[(8192, "one "), (40960, "two ")], 65536);
    let wanted = [
        ("sparse".to_string(), first.clone()),
        ("linked".into(), first),
        ("linked".into(), pieces(&texts, 16384 * 41)),
        ("last".into(), b"whole".to_vec()),
    ];
    let folder = tempfile::tempdir().unwrap();
    for format in ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"] {
        let packed = fixture(&format!("sparse-{format}.tar.gz"));
        let plain = folder.path().join(format!("{format}.tar"));
        let mut bytes = Vec::new();
        let mut unpack = flate2::read::GzDecoder::new(fs::File::open(&packed).unwrap());
        unpack.read_to_end(&mut bytes).unwrap();
        fs::write(&plain, bytes).unwrap();
        let indexed = read(&open(&plain, false).unwrap(), 0);
        assert_eq!(without_ends(&indexed), wanted, "{format}");
        index_shards(&[plain.display().to_string()], |_, _, _| {}).unwrap();
        let saved = read(&open(&plain, false).unwrap(), 0);
        assert_eq!(without_ends(&saved), wanted, "{format}");
        for path in [plain, packed] {
            let stream = open(&path, true).unwrap();
            let all = read(&stream, 0);
            assert_eq!(without_ends(&all), wanted, "{format}");
            // A link's file is found where reading began after it.
            for at in 0..3 {
                assert_eq!(read(&stream, all[at].2), all[at + 1..], "{format} {at}");
            }
        }
    }
}
