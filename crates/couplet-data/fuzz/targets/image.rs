//! Decodes the input as an image file, with both decoders.
#![no_main]

use couplet_data::{ImageData, decode, decode_exact};
use couplet_data_fuzz::MAX_PIXELS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let fast = decode(ImageData::Encoded(bytes.to_vec()), MAX_PIXELS);
    let exact = decode_exact(ImageData::Encoded(bytes.to_vec()), MAX_PIXELS);
    // They may disagree about the pixels of a damaged file, but not about its size.
    if let (Ok(fast), Ok(exact)) = (fast, exact) {
        assert_eq!(fast.dimensions(), exact.dimensions());
    }
});
