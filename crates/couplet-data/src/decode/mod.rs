//! Encoded bytes to RGB pixels.

mod color;
mod gif;
mod jpeg;
mod limits;
mod png;
mod tiff;

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use self::limits::Limits;
use crate::panics::catch_panic;
use crate::sample::{ImageData, SampleError};

/// File extensions of images. The format of a file is detected from its bytes.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Whether a path has an image's extension.
pub fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        IMAGE_EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    })
}

/// The number of pixels above which PIL refuses an image as a decompression bomb.
pub const DEFAULT_MAX_IMAGE_PIXELS: u64 = 178_956_970;

/// Decodes an image to 8-bit RGB as PIL's `convert("RGB")` does, bit for bit: gray is repeated, alpha is
/// dropped, palettes are looked up; of an animation the first frame. The format is detected from the
/// bytes, not from a file name; an EXIF orientation is not applied.
/// - max_pixels: larger images are rejected before their pixels are decoded, and images whose decoding
///   holds more than 6 bytes for each of these pixels.
///
/// # Errors
/// If the image is corrupt, too large, or in an unsupported format.
pub fn decode(data: ImageData, max_pixels: u64) -> Result<RgbImage, SampleError> {
    Ok(decode_reduced(data, max_pixels, |_| 1)?.0)
}

/// As [`decode`], but may decode a JPEG at a fraction of its size, which skips most of the inverse
/// cosine transform.
/// - reduction: receives `[width, height]` and returns the factor by which a JPEG may be reduced:
///   1, 2, 4 or 8.
/// - returns the image, and `[width, height]` of the full-size image.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_reduced(
    data: ImageData,
    max_pixels: u64,
    reduction: impl FnOnce([u32; 2]) -> u32,
) -> Result<(RgbImage, [u32; 2]), SampleError> {
    let mut whole = None;
    let image = match data {
        ImageData::Pixels(pixels) => pixels,
        ImageData::Encoded(bytes) => decode_bytes(&bytes, max_pixels, |size| {
            whole = Some(size);
            reduction(size)
        })?,
    };
    let size = whole.unwrap_or(image.dimensions().into());
    Ok((image, size))
}

fn decode_bytes(
    bytes: &[u8],
    max_pixels: u64,
    reduction: impl FnOnce([u32; 2]) -> u32,
) -> Result<RgbImage, SampleError> {
    if bytes.is_empty() {
        return Err(SampleError::corrupt("the image has no bytes"));
    }
    let limits = Limits { max_pixels };
    catch_panic(|| {
        if jpeg::is_jpeg(bytes) {
            return jpeg::decode(bytes, limits, reduction);
        }
        if tiff::is_tiff(bytes) {
            return tiff::decode(bytes, limits);
        }
        match image::guess_format(bytes) {
            Ok(ImageFormat::Gif) => gif::decode(bytes, limits),
            Ok(ImageFormat::Png) => png::decode(bytes, limits),
            Ok(format @ (ImageFormat::Bmp | ImageFormat::WebP)) => {
                decode_other(bytes, format, limits)
            }
            Ok(format) => {
                let name = format.extensions_str().first().unwrap_or(&"such");
                let message = format!("{name} images are not supported");
                Err(SampleError::corrupt(message))
            }
            Err(_) => Err(SampleError::corrupt(
                "the bytes are of no known image format",
            )),
        }
    })
}

fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    limits: Limits,
) -> Result<RgbImage, SampleError> {
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let decoder = reader.into_decoder().map_err(SampleError::corrupt)?;
    let size: [u32; 2] = decoder.dimensions().into();
    limits.check_size(size)?;
    let color_bytes = u64::from(decoder.color_type().bytes_per_pixel());
    let is_rgb = color_bytes == 3;
    let pixels = u64::from(size[0]) * u64::from(size[1]);
    limits.check_memory(size, pixels * if is_rgb { 3 } else { color_bytes + 3 })?;
    let image = DynamicImage::from_decoder(decoder).map_err(SampleError::corrupt)?;
    Ok(image.into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, RgbaImage};

    use crate::sample::SkipCause;

    fn encoded(image: &image::DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn gray_is_repeated_and_alpha_is_dropped() {
        let grey = encoded(
            &GrayImage::from_pixel(2, 2, [9].into()).into(),
            ImageFormat::Png,
        );
        let pixels = decode(ImageData::Encoded(grey), 100).unwrap();
        assert_eq!(pixels.get_pixel(1, 1).0, [9, 9, 9]);
        let clear = RgbaImage::from_pixel(2, 2, [1, 2, 3, 0].into());
        let clear = encoded(&clear.into(), ImageFormat::WebP);
        let pixels = decode(ImageData::Encoded(clear), 100).unwrap();
        assert_eq!(pixels.get_pixel(0, 0).0, [1, 2, 3]);
    }

    #[test]
    fn bad_bytes_are_errors_with_their_cause() {
        let cause = |bytes: Vec<u8>, max| decode(ImageData::Encoded(bytes), max).unwrap_err().cause;
        let whole = encoded(&RgbImage::new(20, 20).into(), ImageFormat::Jpeg);
        assert_eq!(cause(Vec::new(), 999), SkipCause::CorruptImage);
        assert_eq!(
            cause(b"not an image".to_vec(), 999),
            SkipCause::CorruptImage
        );
        assert_eq!(cause(whole[..40].to_vec(), 999), SkipCause::CorruptImage);
        for cut in [3, whole.len() / 40, whole.len() / 9] {
            let cut = whole[..whole.len() - cut].to_vec();
            assert_eq!(cause(cut, 999), SkipCause::CorruptImage);
        }
        assert_eq!(cause(whole, 399), SkipCause::OversizedImage);
    }

    #[test]
    fn a_jpeg_decoded_at_a_fraction_of_its_size_looks_alike() {
        let wide = RgbImage::from_fn(200, 120, |x, y| {
            [x, y, 90].map(|level| u8::try_from(level).unwrap()).into()
        });
        let jpeg = encoded(&wide.clone().into(), ImageFormat::Jpeg);
        let decode_by = |bytes: &[u8], by| {
            let data = ImageData::Encoded(bytes.to_vec());
            decode_reduced(data, 99_999, |size| {
                assert_eq!(size, [200, 120]);
                by
            })
        };
        for (by, size) in [
            (1, (200, 120)),
            (2, (100, 60)),
            (4, (50, 30)),
            (8, (25, 15)),
        ] {
            let (image, whole) = decode_by(&jpeg, by).unwrap();
            assert_eq!((image.dimensions(), whole), (size, [200, 120]));
            let (x, y) = (size.0 / 2, size.1 / 2);
            let seen = image.get_pixel(x, y).0;
            let wanted = wide.get_pixel(x * by + by / 2, y * by + by / 2).0;
            let far = seen.iter().zip(wanted).any(|(a, b)| a.abs_diff(b) > 8);
            assert!(!far, "by {by}: {seen:?} for {wanted:?}");
        }
        assert!(decode_by(&jpeg[..jpeg.len() / 2], 4).is_err());
        let png = encoded(&wide.into(), ImageFormat::Png);
        let (image, whole) = decode_reduced(ImageData::Encoded(png), 99_999, |_| 8).unwrap();
        assert_eq!((image.dimensions(), whole), ((200, 120), [200, 120]));
    }

    /// Takes a number, and then as many bytes, off a fixture's front.
    fn take<'a>(rest: &mut &'a [u8]) -> (u32, &'a [u8]) {
        let (number, tail) = rest.split_first_chunk().unwrap();
        *rest = tail;
        (u32::from_le_bytes(*number), tail)
    }

    /// Made by `experiments/data/fixture.py`.
    #[test]
    fn images_of_all_kinds_are_read_or_refused_as_by_pil() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images.bin");
        let fixture = std::fs::read(fixture).unwrap();
        let mut rest = &fixture[..];
        let mut seen = 0;
        while !rest.is_empty() {
            let [recipe, file] = [(), ()].map(|()| {
                let (len, tail) = take(&mut rest);
                let (bytes, tail) = tail.split_at(len as usize);
                rest = tail;
                bytes
            });
            let recipe = String::from_utf8_lossy(recipe);
            let [width, height, crc] = [(), (), ()].map(|()| take(&mut rest).0);
            let decoded = decode(ImageData::Encoded(file.to_vec()), 99_999);
            if width == 0 {
                assert!(decoded.is_err(), "{recipe}");
            } else {
                let image = decoded.expect(&recipe);
                assert_eq!(image.dimensions(), (width, height), "{recipe}");
                let mut sum = flate2::Crc::new();
                sum.update(image.as_raw());
                assert_eq!(sum.sum(), crc, "{recipe}");
            }
            seen += 1;
        }
        assert_eq!(seen, 208);
    }

    /// A damaged animation on which `image-webp` 0.2.4 panics. Found by flipping bits of a file that
    /// Pillow wrote.
    #[test]
    fn a_decoder_that_panics_gives_an_error() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/panics.webp");
        let image = ImageData::Encoded(std::fs::read(path).unwrap());
        let error = decode(image, 9999).unwrap_err();
        assert_eq!(error.cause, SkipCause::CorruptImage);
        assert!(
            error.detail.starts_with("the decoder panicked: "),
            "{error}"
        );
    }

    #[test]
    fn a_small_file_may_not_take_much_memory() {
        // A screen of 13,377 x 13,377 pixels, and a frame of one.
        let mut gif = b"GIF89a\x41\x34\x41\x34\x80\0\0\0\0\0\xff\xff\xff".to_vec();
        gif.extend(b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
        let error = decode(ImageData::Encoded(gif), DEFAULT_MAX_IMAGE_PIXELS - 100_000);
        let error = error.unwrap_err();
        assert_eq!(error.cause, SkipCause::OversizedImage);
        assert!(error.detail.contains("data.max_image_pixels"), "{error}");
        let limits = Limits {
            max_pixels: 1 << 20,
        };
        assert!(limits.check_memory([1 << 10; 2], 9 << 20).is_ok());
        assert!(limits.check_memory([1 << 10; 2], 23 << 20).is_err());
    }
}
