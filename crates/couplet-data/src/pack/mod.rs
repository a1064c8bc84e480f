//! Writes a dataset to disk in one of the formats that Couplet reads.

mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod writer;

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};

use crate::decode::decode;
use crate::resample::{Interpolation, Source, Window, resize};
use crate::sample::{ImageData, SampleError, SkipCause, Skipped};
use crate::source::{PairDataset, Read};
use crate::transform::shorter_side_to;

use self::output::Pair;
pub use self::output::{PackError, PackFormat};
use self::writer::Writer;

/// Samples that are read at once.
const CHUNK: usize = 256;
/// The quality of resized images, which are written as JPEGs.
const JPEG_QUALITY: u8 = 95;

/// How a dataset is written.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    pub format: PackFormat,
    /// Images whose shorter side is longer than this, in pixels, are resized to it and written as JPEGs;
    /// all others are copied unchanged.
    pub shorter_side: Option<u32>,
    /// Images with more pixels are skipped.
    pub max_pixels: u64,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Packed {
    pub samples: usize,
    /// The number of shards or tables written.
    pub files: usize,
    pub skipped: Vec<Skipped>,
}

/// Writes every usable sample of a dataset, in the dataset's own order, as in its first epoch. Shards
/// get their final names when they are complete.
/// - progress: called with the number of samples that are done.
///
/// # Errors
/// If the folder cannot be written.
pub fn pack(
    dataset: &PairDataset,
    folder: &Path,
    options: PackOptions,
    mut progress: impl FnMut(usize),
) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let mut writer = Writer::new(folder, options.format)?;
    let prepare = |read: Read<'_>| prepare(read, options);
    let mut done = 0;
    dataset.for_each_chunk(CHUNK, prepare, |pairs| {
        done += pairs.len();
        for pair in pairs {
            match pair {
                Ok(pair) => {
                    writer.write(packed.samples, &pair)?;
                    packed.samples += 1;
                }
                Err(skipped) => packed.skipped.push(skipped),
            }
        }
        progress(done);
        Ok(())
    })?;
    packed.files = writer.finish()?;
    Ok(packed)
}

fn prepare(read: Read<'_>, options: PackOptions) -> Result<Pair, SampleError> {
    let sample = read()?;
    let caption = sample.caption;
    let encoded = match sample.image {
        ImageData::Pixels(pixels) => {
            let (bytes, extension) = match options.shorter_side {
                Some(side) => shrunk(&pixels, side).unwrap_or((png(&pixels)?, "png")),
                None => (png(&pixels)?, "png"),
            };
            return Ok(Pair {
                bytes,
                extension,
                caption,
            });
        }
        ImageData::Encoded(bytes) => bytes,
    };
    // Decoded even if it is copied: a packed dataset has no bad images.
    let pixels = decode(ImageData::Encoded(encoded.clone()), options.max_pixels)?;
    let small = options.shorter_side.and_then(|side| shrunk(&pixels, side));
    let (bytes, extension) = if let Some(small) = small {
        small
    } else {
        let format = image::guess_format(&encoded)
            .map_err(|error| SampleError::new(SkipCause::CorruptImage, error))?;
        let extension = format.extensions_str().first().copied().unwrap_or("jpg");
        (encoded, extension)
    };
    Ok(Pair {
        bytes,
        extension,
        caption,
    })
}

fn png(pixels: &RgbImage) -> Result<Vec<u8>, SampleError> {
    let mut bytes = Cursor::new(Vec::new());
    pixels
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|error| SampleError::new(SkipCause::CorruptImage, error))?;
    Ok(bytes.into_inner())
}

/// The image as a JPEG with its shorter side at `side`; `None` if it is not longer than that.
fn shrunk(pixels: &RgbImage, side: u32) -> Option<(Vec<u8>, &'static str)> {
    if pixels.width().min(pixels.height()) <= side {
        return None;
    }
    let to = shorter_side_to(side, pixels.width(), pixels.height());
    let mut small = vec![0; to[0] as usize * to[1] as usize * 3];
    resize(
        Source::whole(pixels),
        to,
        Window::whole(to),
        Interpolation::Bicubic,
        &mut small,
    );
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode(&small, to[0], to[1], image::ExtendedColorType::Rgb8)
        .ok()?;
    Some((jpeg, "jpg"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ShapesConfig;
    use crate::source::SourceConfig;

    fn shapes() -> PairDataset {
        SourceConfig::Shapes(ShapesConfig { samples: 7 })
            .open(3, 32)
            .unwrap()
    }

    /// Packs shapes, reads them again and compares them.
    fn assert_round_trip(format: PackFormat, table: impl Fn(&Path) -> String) {
        let folder = tempfile::tempdir().unwrap();
        let options = PackOptions {
            format,
            shorter_side: None,
            max_pixels: 10_000,
        };
        let before = shapes();
        let packed = pack(&before, folder.path(), options, |_| {}).unwrap();
        assert_eq!(packed.samples, 7);
        let table: SourceConfig = serde_json::from_str(&table(folder.path())).unwrap();
        assert_eq!(table.problems(), []);
        let after = table.open(0, 32).unwrap().read_all();
        assert_eq!(after.len(), 7);
        for (before, after) in before.read_all().into_iter().zip(after) {
            assert_eq!(before.caption, after.caption);
            let pixels = |sample: crate::Sample| decode(sample.image, 10_000).unwrap();
            assert_eq!(pixels(before), pixels(after));
        }
    }

    #[test]
    fn every_format_can_be_read_again() {
        let path = |folder: &Path, rest: &str| folder.join(rest).display().to_string();
        assert_round_trip(
            PackFormat::Webdataset {
                samples_per_shard: 3,
            },
            |folder| {
                format!(
                    r#"{{"source": "webdataset", "shards": "{}"}}"#,
                    path(folder, "{000000..000002}.tar")
                )
            },
        );
        assert_round_trip(PackFormat::Csv, |folder| {
            let table = path(folder, "pairs.csv");
            format!(r#"{{"source": "csv", "path": "{table}"}}"#)
        });
        assert_round_trip(PackFormat::Folder, |folder| {
            format!(r#"{{"source": "folder", "path": "{}"}}"#, path(folder, ""))
        });
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn parquet_can_be_read_again() {
        assert_round_trip(PackFormat::Parquet { rows_per_file: 3 }, |folder| {
            let files = folder.join("{000000..000002}.parquet");
            format!(r#"{{"source": "parquet", "files": "{}"}}"#, files.display())
        });
    }

    #[test]
    fn large_images_are_resized() {
        let (bytes, extension) = shrunk(&RgbImage::new(64, 32), 16).unwrap();
        assert_eq!(extension, "jpg");
        let small = decode(ImageData::Encoded(bytes), 10_000).unwrap();
        assert_eq!(small.dimensions(), (32, 16));
        assert!(shrunk(&RgbImage::new(64, 16), 16).is_none());
    }
}
