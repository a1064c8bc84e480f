//! Encoded bytes to RGB pixels.

use std::io::Cursor;
use std::path::Path;

use image::{ImageDecoder, ImageReader, RgbImage};

use crate::sample::{Fault, Picture, SkipCause};

/// Endings of the names of images. What a file holds is read from its bytes.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Whether a file is an image by its name.
pub fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        IMAGE_EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    })
}
/// Where PIL calls an image a decompression bomb.
pub const DEFAULT_MAX_IMAGE_PIXELS: u64 = 178_956_970;

/// Decodes a JPEG, PNG or WebP image to 8-bit RGB, as PIL's `convert("RGB")` does: grey
/// is repeated, transparency dropped. The format is read from the bytes, not from a name.
/// - max_pixels: a larger image is refused before its pixels are decoded.
///
/// # Errors
/// If the image is corrupt, of another format, or too large.
pub fn decode(picture: Picture, max_pixels: u64) -> Result<RgbImage, Fault> {
    let bytes = match picture {
        Picture::Pixels(pixels) => return Ok(pixels),
        Picture::Encoded(bytes) => bytes,
    };
    let corrupt = |error: &dyn std::fmt::Display| Fault::new(SkipCause::CorruptImage, error);
    if bytes.is_empty() {
        return Err(Fault::new(
            SkipCause::CorruptImage,
            "the image has no bytes",
        ));
    }
    let decoder = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| corrupt(&error))?
        .into_decoder()
        .map_err(|error| corrupt(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(Fault::new(
            SkipCause::OversizedImage,
            format!("{width}x{height} is more than {max_pixels} pixels"),
        ));
    }
    let pixels = image::DynamicImage::from_decoder(decoder).map_err(|error| corrupt(&error))?;
    if pixels.width() == 0 || pixels.height() == 0 {
        return Err(Fault::new(
            SkipCause::CorruptImage,
            "the image has no pixels",
        ));
    }
    Ok(pixels.into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageFormat, RgbaImage};

    fn encoded(image: &image::DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn grey_is_repeated_and_alpha_dropped() {
        let grey = encoded(
            &GrayImage::from_pixel(2, 2, [9].into()).into(),
            ImageFormat::Png,
        );
        let pixels = decode(Picture::Encoded(grey), 100).unwrap();
        assert_eq!(pixels.get_pixel(1, 1).0, [9, 9, 9]);
        let clear = RgbaImage::from_pixel(2, 2, [1, 2, 3, 0].into());
        let clear = encoded(&clear.into(), ImageFormat::WebP);
        let pixels = decode(Picture::Encoded(clear), 100).unwrap();
        assert_eq!(pixels.get_pixel(0, 0).0, [1, 2, 3]);
    }

    #[test]
    fn bad_bytes_are_faults_by_cause() {
        let cause = |bytes: Vec<u8>, max| decode(Picture::Encoded(bytes), max).unwrap_err().cause;
        let whole = encoded(&RgbImage::new(20, 20).into(), ImageFormat::Jpeg);
        assert_eq!(cause(Vec::new(), 999), SkipCause::CorruptImage);
        assert_eq!(
            cause(b"not an image".to_vec(), 999),
            SkipCause::CorruptImage
        );
        assert_eq!(cause(whole[..40].to_vec(), 999), SkipCause::CorruptImage);
        assert_eq!(cause(whole, 399), SkipCause::OversizedImage);
    }
}
