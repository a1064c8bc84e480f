//! Decodes the input as an image file.
#![no_main]

use couplet_data::{ImageData, decode};
use couplet_data_fuzz::MAX_PIXELS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = decode(ImageData::Encoded(bytes.to_vec()), MAX_PIXELS) {
        assert!((1..=MAX_PIXELS).contains(&(u64::from(image.width()) * u64::from(image.height()))));
    }
});
