//! Encoded bytes to RGB pixels.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::panics::catch_panic;
use crate::sample::{ImageData, SampleError, SkipCause};

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

/// The number of pixels above which PIL warns of a decompression bomb.
pub const DEFAULT_MAX_IMAGE_PIXELS: u64 = 178_956_970;

/// Decodes an image to 8-bit RGB as PIL's `convert("RGB")` does: gray is repeated, alpha is
/// dropped, palettes are looked up. The format is detected from the bytes, not from a file name;
/// an EXIF orientation is not applied. Pixels of a JPEG with subsampled chroma may differ from
/// PIL's by up to 4 levels; [`decode_exact`] is slower and matches PIL.
/// - max_pixels: larger images are rejected before their pixels are decoded.
///
/// # Errors
/// If the image is corrupt, too large, or in an unsupported format.
pub fn decode(data: ImageData, max_pixels: u64) -> Result<RgbImage, SampleError> {
    match data {
        ImageData::Pixels(pixels) => Ok(pixels),
        ImageData::Encoded(bytes) => decode_bytes(&bytes, max_pixels, Jpegs::Fast),
    }
}

/// As [`decode`], but a JPEG's pixels are bit for bit those of libjpeg-turbo, which PIL uses.
///
/// # Errors
/// As [`decode`].
pub fn decode_exact(data: ImageData, max_pixels: u64) -> Result<RgbImage, SampleError> {
    match data {
        ImageData::Pixels(pixels) => Ok(pixels),
        ImageData::Encoded(bytes) => decode_bytes(&bytes, max_pixels, Jpegs::Exact),
    }
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
    mut reduction: impl FnMut([u32; 2]) -> u32,
) -> Result<(RgbImage, [u32; 2]), SampleError> {
    let mut whole = None;
    let image = match data {
        ImageData::Pixels(pixels) => pixels,
        ImageData::Encoded(bytes) => {
            let mut reduction = |size| {
                whole = Some(size);
                reduction(size)
            };
            decode_bytes(&bytes, max_pixels, Jpegs::Reduced(&mut reduction))?
        }
    };
    let size = whole.unwrap_or(image.dimensions().into());
    Ok((image, size))
}

/// How JPEGs are decoded.
enum Jpegs<'a> {
    Fast,
    Exact,
    Reduced(&'a mut dyn FnMut([u32; 2]) -> u32),
}

/// Decodes an image; decoders of other crates panic on some damaged files.
fn decode_bytes(bytes: &[u8], max_pixels: u64, jpegs: Jpegs<'_>) -> Result<RgbImage, SampleError> {
    catch_panic(|| decode_unguarded(bytes, max_pixels, jpegs))
}

fn decode_unguarded(
    bytes: &[u8],
    max_pixels: u64,
    jpegs: Jpegs<'_>,
) -> Result<RgbImage, SampleError> {
    let corrupt = |error: &dyn std::fmt::Display| SampleError::new(SkipCause::CorruptImage, error);
    if bytes.is_empty() {
        return Err(SampleError::new(
            SkipCause::CorruptImage,
            "the image has no bytes",
        ));
    }
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| corrupt(&error))?;
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let decoder = reader.into_decoder().map_err(|error| corrupt(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(SampleError::new(
            SkipCause::OversizedImage,
            format!("{width}x{height} pixels, more than the limit of {max_pixels}"),
        ));
    }
    if let Some(error) = Some(bytes).filter(|_| is_jpeg).and_then(jpeg_damage) {
        return Err(corrupt(&error));
    }
    if is_jpeg {
        let by = match jpegs {
            Jpegs::Fast => None,
            Jpegs::Exact => Some(1),
            Jpegs::Reduced(reduction) => Some(reduction([width, height])).filter(|by| *by > 1),
        };
        if let Some(pixels) = by.and_then(|by| decode_jpeg(bytes, by)) {
            return Ok(pixels);
        }
    }
    let pixels = image::DynamicImage::from_decoder(decoder).map_err(|error| corrupt(&error))?;
    if pixels.width() == 0 || pixels.height() == 0 {
        return Err(SampleError::new(
            SkipCause::CorruptImage,
            "the image has no pixels",
        ));
    }
    Ok(pixels.into_rgb8())
}

/// Structural damage in a JPEG that PIL rejects but decoders tolerate: scan data without an end
/// marker, which would be filled with gray, and markers inside it that no encoder writes there.
/// Sources: ITU-T T.81, annex B; `read_markers` of libjpeg-turbo.
fn jpeg_damage(bytes: &[u8]) -> Option<String> {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut in_scan = false;
    loop {
        // Within a scan, 0xff is followed by 0, a restart marker, or the marker that ends the scan.
        let cut = || Some("the JPEG is cut off: its end marker is missing".into());
        if in_scan {
            let Some(at) = memchr::memchr(0xff, rest) else {
                return cut();
            };
            rest = &rest[at..];
        }
        rest = match *rest {
            [0xff, 0xff, ..] => &rest[1..],
            [0xff, 0x00 | 0x01 | 0xd0..=0xd7, ..] if in_scan => &rest[2..],
            [0xff, 0x01 | 0xd0..=0xd8, ..] if !in_scan => &rest[2..],
            [0xff, END_OF_IMAGE, ..] if in_scan => return None,
            // After a scan come tables, comments and other scans; before the first one, the decoder
            // checks the segments itself.
            [0xff, marker, high, low, ..]
                if !in_scan || matches!(marker, 0xc4 | 0xcc | 0xda..=0xdd | 0xe0..=0xef | 0xfe) =>
            {
                in_scan |= marker == START_OF_SCAN;
                let len = usize::from(u16::from_be_bytes([high, low]));
                rest.get(2 + len..).unwrap_or_default()
            }
            [0xff, marker, _, _, ..] if in_scan => {
                return Some(format!(
                    "the JPEG is damaged: an unexpected marker {marker:#04x}"
                ));
            }
            _ if in_scan => return cut(),
            // The decoder reports a better message for such a file.
            _ => return None,
        };
    }
}

/// Decodes a JPEG with libjpeg-turbo. `None` where the other decoder should be used: for CMYK and
/// YCCK images, and for damaged files.
/// - by: the reduction factor: 1, 2, 4 or 8.
fn decode_jpeg(bytes: &[u8], by: u32) -> Option<RgbImage> {
    const EIGHTHS: u32 = 8;
    let attempt = || -> std::io::Result<Option<RgbImage>> {
        let mut jpeg = mozjpeg::Decompress::new_mem(bytes)?;
        jpeg.scale(u8::try_from(EIGHTHS / by).expect("at most 8"));
        if matches!(
            jpeg.color_space(),
            mozjpeg::ColorSpace::JCS_CMYK | mozjpeg::ColorSpace::JCS_YCCK
        ) {
            return Ok(None);
        }
        let mut lines = jpeg.rgb()?;
        let size = [lines.width(), lines.height()].map(u32::try_from);
        let pixels: Vec<u8> = lines.read_scanlines::<[u8; 3]>()?.into_flattened();
        lines.finish()?;
        let [Ok(width), Ok(height)] = size else {
            return Ok(None);
        };
        Ok(RgbImage::from_raw(width, height, pixels))
    };
    // libjpeg reports errors by unwinding.
    catch_unwind(AssertUnwindSafe(attempt)).ok()?.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, RgbaImage};

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
        let cause = |bytes: Vec<u8>, max| {
            let exact = decode_exact(ImageData::Encoded(bytes.clone()), max).unwrap_err();
            let fast = decode(ImageData::Encoded(bytes), max).unwrap_err();
            assert_eq!(exact.cause, fast.cause);
            fast.cause
        };
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

    #[test]
    fn bytes_after_a_jpegs_end_are_ignored() {
        let mut bytes = encoded(&RgbImage::new(20, 20).into(), ImageFormat::Jpeg);
        bytes.extend([7; 300]);
        assert!(decode(ImageData::Encoded(bytes.clone()), 999).is_ok());
        assert!(decode_exact(ImageData::Encoded(bytes), 999).is_ok());
    }

    #[test]
    fn a_thumbnails_end_marker_is_not_the_images() {
        let whole = encoded(&RgbImage::new(20, 20).into(), ImageFormat::Jpeg);
        // An APP1 segment that holds another JPEG.
        let mut with_thumbnail = whole[..2].to_vec();
        with_thumbnail.extend([0xff, 0xe1]);
        let len = u16::try_from(whole.len() + 2).unwrap();
        with_thumbnail.extend(len.to_be_bytes());
        with_thumbnail.extend(&whole);
        with_thumbnail.extend(&whole[2..]);
        assert_eq!(jpeg_damage(&with_thumbnail), None);
        with_thumbnail.truncate(with_thumbnail.len() - 2);
        assert!(jpeg_damage(&with_thumbnail).is_some());
    }

    #[test]
    fn a_marker_that_no_encoder_writes_is_damage() {
        let noise = RgbImage::from_fn(40, 40, |x, y| {
            [x * y, x ^ y, 7 * x]
                .map(|v| u8::try_from(v % 256).unwrap())
                .into()
        });
        let whole = encoded(&noise.into(), ImageFormat::Jpeg);
        let scan = whole
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap();
        for marker in [0x02, 0x80, 0xc0, 0xd8, 0xfa] {
            let mut bytes = whole.clone();
            bytes[scan + 40..scan + 42].copy_from_slice(&[0xff, marker]);
            let error = decode(ImageData::Encoded(bytes), 9999).unwrap_err();
            assert!(error.detail.contains("unexpected marker"), "{error:?}");
        }
    }

    /// Made by `tests/fixtures/make_jpegs.py`.
    #[test]
    fn exact_jpeg_pixels_are_the_same_as_pils() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        for name in ["420", "422", "grey", "exif"] {
            let read = |end: &str| std::fs::read(format!("{folder}{name}.{end}")).unwrap();
            let exact = decode_exact(ImageData::Encoded(read("jpg")), 10_000).unwrap();
            assert!(exact.into_raw() == read("rgb"), "{name}");
        }
    }
}
