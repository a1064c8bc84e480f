//! A set written to disk in one of the formats that can be read.

#[cfg(feature = "parquet")]
mod parquet;
mod writer;

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};

use crate::Interpolation;
use crate::decode;
use crate::resample::{Window, resize};
use crate::sample::{ImageData, SampleError, SkipCause, Skipped};
use crate::source::{PairDataset, Read};
use crate::transform::shorter_side_to;

use self::writer::Writer;

/// Samples that are read at once.
const CHUNK: usize = 256;
/// Of images that are resized.
const JPEG_QUALITY: u8 = 95;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackFormat {
    /// `000000.tar` and so on, with so many samples each.
    Webdataset { samples_per_shard: usize },
    /// `pairs.csv` with columns `filepath` and `title`, images in `images/`.
    Csv,
    /// Images with a `.txt` beside each.
    Folder,
    /// `000000.parquet` and so on, with columns `image` and `caption` and so many rows each.
    /// Needs the feature `parquet`.
    Parquet { rows_per_file: usize },
}

/// How a set is written.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    pub format: PackFormat,
    /// Images whose shorter side is longer are resized to it, as JPEGs; all others are
    /// copied as they are.
    pub shorter_side: Option<u32>,
    /// Larger images are left out.
    pub max_pixels: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Packed {
    pub samples: usize,
    /// Shards or tables that were written.
    pub files: usize,
    pub skipped: Vec<Skipped>,
}

/// A set that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written", path.display())]
pub struct PackError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// An image's file and its caption.
struct Pair {
    bytes: Vec<u8>,
    extension: &'static str,
    caption: String,
}

/// Writes every usable sample of a set, in the set's own order, as its first epoch shows
/// it. Shards appear under their names when they are whole.
/// - progress: told how many samples are done.
///
/// # Errors
/// If the folder cannot be written.
pub fn pack(
    set: &PairDataset,
    folder: &Path,
    options: PackOptions,
    mut progress: impl FnMut(usize),
) -> Result<Packed, PackError> {
    let mut packed = Packed::default();
    let mut writer = Writer::new(folder, options.format)?;
    let prepare = |read: Read<'_>| prepare(read, options);
    let mut done = 0;
    set.for_each_chunk(CHUNK, prepare, |pairs| {
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
    let encoded = match sample.picture {
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
    // Decoded in any case: a set that was packed has no bad images.
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

/// A JPEG of the image with its shorter side at `side`; `None` if it is no longer already.
fn shrunk(pixels: &RgbImage, side: u32) -> Option<(Vec<u8>, &'static str)> {
    if pixels.width().min(pixels.height()) <= side {
        return None;
    }
    let to = shorter_side_to(side, pixels.width(), pixels.height());
    let mut small = vec![0; to[0] as usize * to[1] as usize * 3];
    resize(
        pixels,
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

    /// Packs shapes and reads them again.
    fn again(format: PackFormat, table: impl Fn(&Path) -> String) {
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
            let pixels = |sample: crate::Sample| decode(sample.picture, 10_000).unwrap();
            assert_eq!(pixels(before), pixels(after));
        }
    }

    #[test]
    fn every_format_is_read_again() {
        let path = |folder: &Path, rest: &str| folder.join(rest).display().to_string();
        again(
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
        again(PackFormat::Csv, |folder| {
            let table = path(folder, "pairs.csv");
            format!(r#"{{"source": "csv", "path": "{table}"}}"#)
        });
        again(PackFormat::Folder, |folder| {
            format!(r#"{{"source": "folder", "path": "{}"}}"#, path(folder, ""))
        });
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn parquet_is_read_again() {
        again(PackFormat::Parquet { rows_per_file: 3 }, |folder| {
            let files = folder.join("{000000..000002}.parquet");
            format!(r#"{{"source": "parquet", "files": "{}"}}"#, files.display())
        });
    }

    #[test]
    fn large_images_are_made_smaller() {
        let (bytes, extension) = shrunk(&RgbImage::new(64, 32), 16).unwrap();
        assert_eq!(extension, "jpg");
        let small = decode(ImageData::Encoded(bytes), 10_000).unwrap();
        assert_eq!(small.dimensions(), (32, 16));
        assert!(shrunk(&RgbImage::new(64, 16), 16).is_none());
    }
}
