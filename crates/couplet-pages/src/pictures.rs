//! Pictures for pages.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};

/// The JPEG quality of pictures: they are small, and looked at as a whole.
const QUALITY: u8 = 80;

/// An image as a JPEG whose sides have at most so many pixels. Smaller images keep their size.
///
/// # Panics
/// If the image has no pixels.
pub fn jpeg_within(image: &RgbImage, side: u32) -> Vec<u8> {
    let (width, height) = image.dimensions();
    let longer = width.max(height);
    let scaled = |length: u32| {
        let length = u64::from(length) * u64::from(side) / u64::from(longer.max(1));
        u32::try_from(length).unwrap_or(side).max(1)
    };
    let small = (longer > side).then(|| imageops::thumbnail(image, scaled(width), scaled(height)));
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    let written = encoder.encode_image(small.as_ref().unwrap_or(image));
    written.expect("pixels are encoded into memory");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape_and_fit() {
        for (size, wanted) in [
            ((4000, 2000), (320, 160)),
            ((9, 5), (9, 5)),
            ((10, 9000), (1, 320)),
        ] {
            let jpeg = jpeg_within(&RgbImage::new(size.0, size.1), 320);
            let read = image::load_from_memory(&jpeg).unwrap();
            assert_eq!((read.width(), read.height()), wanted);
        }
    }
}
