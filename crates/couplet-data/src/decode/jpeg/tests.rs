use std::io::Cursor;

use image::{DynamicImage, ImageFormat};

use super::*;
use crate::decode::{DEFAULT_MAX_IMAGE_PIXELS, decode as decode_any};
use crate::sample::{ImageData, SkipCause};

fn encoded(image: RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::from(image);
    image.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

fn decoded(bytes: &[u8]) -> Result<RgbImage, SampleError> {
    decode_any(ImageData::Encoded(bytes.to_vec()), DEFAULT_MAX_IMAGE_PIXELS)
}

#[test]
fn bytes_after_a_jpegs_end_are_ignored() {
    let mut bytes = encoded(RgbImage::new(20, 20));
    bytes.extend([7; 300]);
    assert!(decoded(&bytes).is_ok());
}

#[test]
fn a_thumbnails_end_marker_is_not_the_images() {
    let noise = RgbImage::from_fn(40, 40, |x, y| {
        [x * y, x ^ y, 7 * x]
            .map(|level| level.to_le_bytes()[0])
            .into()
    });
    let whole = encoded(noise);
    // An APP1 segment that holds another JPEG.
    let mut bytes = whole[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    let len = u16::try_from(whole.len() + 2).unwrap();
    bytes.extend(len.to_be_bytes());
    bytes.extend(&whole);
    bytes.extend(&whole[2..]);
    assert!(decoded(&bytes).is_ok());
    bytes.truncate(bytes.len() - 60);
    let error = decoded(&bytes).unwrap_err();
    assert_eq!(error.cause, SkipCause::CorruptImage);
    assert!(
        error.detail.contains("cut off: pixels are missing"),
        "{error}"
    );
}

#[test]
fn a_jpeg_of_many_scans_is_refused() {
    let limits = Limits { max_pixels: 100 };
    assert!(limits.check_scans([10, 10], 64).is_ok());
    assert!(limits.check_scans([10, 10], 65).is_err());
    assert!(limits.check_scans([1, 1], 1001).is_err());
}

/// Made by `tests/fixtures/make_jpegs.py`.
#[test]
fn pixels_are_the_same_as_pils() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
    for name in ["420", "422", "grey", "exif"] {
        let read = |end: &str| std::fs::read(format!("{folder}{name}.{end}")).unwrap();
        let pixels = decoded(&read("jpg")).unwrap();
        assert!(pixels.into_raw() == read("rgb"), "{name}");
    }
}
