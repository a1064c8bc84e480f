//! Uncompressed image files: those of CIFAR and MNIST.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use image::{DynamicImage, GrayImage, RgbImage};

use super::error::DataError;
use super::files::{open_regular, read_regular};

/// The largest file that is read, unpacked: the largest known, of EMNIST, has 550 MB.
const MAX_FILE: u64 = 4 << 30;

/// Images of one size, one after the other.
pub(crate) struct PixelImages {
    pub bytes: Vec<u8>,
    width: u32,
    height: u32,
    layout: Layout,
}

#[derive(Clone, Copy)]
enum Layout {
    /// One byte per pixel.
    Grey,
    /// All red values, then all green, then all blue.
    Planes,
}

impl PixelImages {
    pub fn image(&self, index: usize) -> RgbImage {
        let area = (self.width * self.height) as usize;
        match self.layout {
            Layout::Grey => {
                let bytes = self.bytes[index * area..(index + 1) * area].to_vec();
                let grey = GrayImage::from_raw(self.width, self.height, bytes);
                DynamicImage::from(grey.expect("an image's bytes")).into_rgb8()
            }
            Layout::Planes => {
                let planes = &self.bytes[index * area * 3..(index + 1) * area * 3];
                let pixels = (0..area).flat_map(|at| [0, 1, 2].map(|c| planes[c * area + at]));
                RgbImage::from_raw(self.width, self.height, pixels.collect())
                    .expect("an image's bytes")
            }
        }
    }
}

/// Reads CIFAR's binary files, whose rows are a field of `field_len` bytes and 32x32 RGB pixels.
/// - returns the images, and the last byte of each field.
///
/// Source: Krizhevsky 2009, the datasets' binary version.
pub(crate) fn read_cifar(
    files: &[PathBuf],
    field_len: usize,
) -> Result<(PixelImages, Vec<u8>), DataError> {
    const SIDE: u32 = 32;
    const PIXELS: usize = 3 * (SIDE * SIDE) as usize;
    let row_len = field_len + PIXELS;
    let (mut bytes, mut fields) = (Vec::new(), Vec::new());
    for path in files {
        let read = read_regular(path, MAX_FILE).map_err(DataError::io(path))?;
        if read.is_empty() || read.len() % row_len != 0 {
            let message = format!(
                "{} bytes are not a multiple of {row_len}, the length of a row",
                read.len()
            );
            return Err(DataError::invalid(path, message));
        }
        for row in read.chunks_exact(row_len) {
            fields.push(row[field_len - 1]);
            bytes.extend_from_slice(&row[field_len..]);
        }
    }
    let images = PixelImages {
        bytes,
        width: SIDE,
        height: SIDE,
        layout: Layout::Planes,
    };
    Ok((images, fields))
}

/// Reads MNIST's files, of images and of one byte per image, gzipped or not.
/// Source: LeCun et al. 1998, the MNIST database.
pub(crate) fn read_idx(
    folder: &Path,
    images: &str,
    fields: &str,
) -> Result<(PixelImages, Vec<u8>), DataError> {
    let (bytes, shape) = read_array(folder, images)?;
    let (fields, fields_shape) = read_array(folder, fields)?;
    let invalid = |message: String| Err(DataError::invalid(folder, message));
    let (&[count, height, width], &[fields_count]) = (&shape[..], &fields_shape[..]) else {
        return invalid(format!(
            "the images have shape {shape:?} and the labels {fields_shape:?}; expected 3 and 1 dimensions"
        ));
    };
    if count != fields_count {
        return invalid(format!("{count} images, but {fields_count} labels"));
    }
    if height == 0 || width == 0 {
        return invalid(format!("the images have {width}x{height} pixels"));
    }
    let images = PixelImages {
        bytes,
        width,
        height,
        layout: Layout::Grey,
    };
    Ok((images, fields))
}

/// The data of an IDX file of bytes, and the sizes of its dimensions.
fn read_array(folder: &Path, name: &str) -> Result<(Vec<u8>, Vec<u32>), DataError> {
    const BYTES: u8 = 8;
    let plain = folder.join(name);
    let packed = folder.join(format!("{name}.gz"));
    let (path, bytes) = if packed.is_file() && !plain.is_file() {
        let mut bytes = Vec::new();
        let read = open_regular(&packed).and_then(|file| {
            let mut unpacked = GzDecoder::new(file).take(MAX_FILE + 1);
            unpacked.read_to_end(&mut bytes)
        });
        read.map_err(DataError::io(&packed))?;
        if bytes.len() as u64 > MAX_FILE {
            let message = format!("unpacks to more than {MAX_FILE} bytes");
            return Err(DataError::invalid(&packed, message));
        }
        (packed, bytes)
    } else {
        let bytes = read_regular(&plain, MAX_FILE).map_err(DataError::io(&plain))?;
        (plain, bytes)
    };
    let not_idx = || DataError::invalid(&path, "not an IDX file of bytes");
    let [0, 0, BYTES, dimensions, rest @ ..] = &bytes[..] else {
        return Err(not_idx());
    };
    let (sizes, data) = rest
        .split_at_checked(usize::from(*dimensions) * 4)
        .ok_or_else(not_idx)?;
    let sizes: Vec<u32> = sizes
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]))
        .collect();
    let mut factors = sizes.iter().map(|size| u64::from(*size));
    let wanted = factors.try_fold(1_u64, u64::checked_mul);
    if wanted != Some(data.len() as u64) {
        let message = format!(
            "the file has {} bytes of data, which do not fill its shape {sizes:?}",
            data.len()
        );
        return Err(DataError::invalid(&path, message));
    }
    Ok((data.to_vec(), sizes))
}
