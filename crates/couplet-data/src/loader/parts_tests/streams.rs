//! Shards, read in order and indexed.

use std::path::Path;
use std::sync::Arc;

use image::ImageFormat;
use serde_json::json;

use super::{Case, IMAGE_SIZE, sample};
use crate::sample::{ImageData, SampleError, SkipCause};
use crate::source::{PairDataset, SourceConfig};
use crate::stream::{ShardedDataset, StreamSample};

/// Uneven shards, some empty, some damaged, with bad samples.
struct Shards {
    lens: Vec<usize>,
    weights: Vec<f64>,
}

impl ShardedDataset for Shards {
    fn len(&self) -> usize {
        self.lens.len()
    }

    fn samples(&self) -> Option<usize> {
        None
    }

    fn shuffle_buffer(&self) -> usize {
        40
    }

    fn weight(&self, shard: usize) -> f64 {
        self.weights.get(shard).copied().unwrap_or(1.0)
    }

    fn name(&self, shard: usize) -> String {
        format!("shard {shard}")
    }

    fn listing(&self) -> Vec<crate::ListedFile> {
        Vec::new()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        _epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        for at in from..self.lens[shard] as u64 {
            let index = shard * 40 + usize::try_from(at).unwrap();
            let is_lost = shard % 6 == 4 && at == 9;
            let is_bad = is_lost || index % 8 == 1;
            let bad = || SampleError::new(SkipCause::CorruptImage, "bad");
            let streamed = StreamSample {
                key: index.to_string(),
                sample: if is_bad {
                    Err(bad())
                } else {
                    Ok(sample(index))
                },
                next: if is_lost { u64::MAX } else { at + 1 },
                lost: is_lost.then_some(crate::formats::Lost::Rest),
            };
            if !give(streamed) || is_lost {
                return;
            }
        }
    }
}

#[test]
fn ranks_share_the_batches_of_a_stream_of_uneven_shards() {
    let lens = vec![3, 31, 0, 12, 25, 1, 40, 7, 19, 0, 33, 5];
    let held: usize = lens.iter().sum();
    for (epoch_len, resample, weights) in [
        (held, false, Vec::new()),
        (held, true, Vec::new()),
        (100, false, Vec::new()),
        (2 * held + 5, false, Vec::new()),
        (held, false, vec![0.3, 2.5, 1.0, 0.5, 0.1]),
    ] {
        let shards = Shards {
            lens: lens.clone(),
            weights,
        };
        let case = Case {
            dataset: PairDataset::Stream(Arc::new(shards)),
            len: epoch_len,
            epoch_len,
            batch_size: 16,
            resample,
        };
        case.check(&format!("a stream of {epoch_len} samples"));
    }
}

/// Writes shards of real images with uneven numbers of samples and some corrupt ones.
fn write_shards(folder: &Path) {
    for shard in 0..9 {
        let mut bytes = Vec::new();
        {
            let mut tar = tar::Builder::new(&mut bytes);
            for at in 0..[14, 3, 30, 9, 1, 22, 17, 5, 12][shard] {
                let index = shard * 30 + at;
                let mut png = std::io::Cursor::new(Vec::new());
                let ImageData::Pixels(pixels) = sample(index).image else {
                    unreachable!("pixels");
                };
                pixels.write_to(&mut png, ImageFormat::Png).unwrap();
                let mut png = png.into_inner();
                if index % 9 == 2 {
                    png.truncate(20);
                }
                let caption = format!("number {index}");
                for (name, data) in [("png", &png[..]), ("txt", caption.as_bytes())] {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(data.len() as u64);
                    header.set_mode(0o644);
                    header.set_cksum();
                    let path = format!("{index:04}.{name}");
                    tar.append_data(&mut header, path, data).unwrap();
                }
            }
            tar.finish().unwrap();
        }
        std::fs::write(folder.join(format!("{shard:02}.tar")), bytes).unwrap();
    }
}

#[test]
fn ranks_share_the_batches_of_shards_of_a_mix_and_of_a_stream_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path());
    let shards = |name: &str| folder.path().join(name).display().to_string();
    let all = shards("{00..08}.tar");
    let [some, others] = ["{00..04}.tar", "{05..08}.tar"].map(shards);
    for (name, source) in [
        ("shards", json!({"source": "webdataset", "shards": all})),
        (
            "a stream",
            json!({"source": "webdataset", "shards": all, "stream": true, "shuffle_buffer": 30}),
        ),
        (
            "a mix",
            json!({"source": "mix", "mix": [
                {"source": "webdataset", "shards": some, "weight": 0.7},
                {"source": "webdataset", "shards": others, "weight": 2.0},
            ]}),
        ),
    ] {
        let source: SourceConfig = serde_json::from_value(source).unwrap();
        let dataset = source.open(1, IMAGE_SIZE).unwrap();
        let len = dataset.samples().unwrap_or(113);
        let case = Case {
            dataset,
            len,
            epoch_len: len,
            batch_size: 16,
            resample: false,
        };
        case.check(name);
    }
}
