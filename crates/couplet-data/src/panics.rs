//! Panics of decoders on damaged bytes, as errors of the sample.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sample::{SampleError, SkipCause};

/// Runs code of a decoder or a reader. If it panics, the sample is corrupt, as with any other damage.
///
/// # Errors
/// If `work` fails or panics.
pub(crate) fn catch_panic<T>(
    work: impl FnOnce() -> Result<T, SampleError>,
) -> Result<T, SampleError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let detail = match message(&*panic) {
            Some(message) => format!("the decoder panicked: {message}"),
            None => "the decoder panicked".to_string(),
        };
        Err(SampleError::new(SkipCause::CorruptImage, detail))
    })
}

fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{decode, decode_exact, decode_reduced};
    use crate::sample::ImageData;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = catch_panic::<()>(|| panic!("byte {}", 7)).unwrap_err();
        assert_eq!(error.cause, SkipCause::CorruptImage);
        assert_eq!(error.detail, "the decoder panicked: byte 7");
        assert_eq!(catch_panic(|| Ok(3)), Ok(3));
    }
    /// A damaged animation on which `image-webp` 0.2.4 panics. Found by flipping bits of a file that
    /// Pillow wrote.
    #[test]
    fn every_decoder_returns_an_error_where_a_crate_panics() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/panics.webp");
        let image = || ImageData::Encoded(std::fs::read(path).unwrap());
        let errors = [
            decode(image(), 9999).unwrap_err(),
            decode_exact(image(), 9999).unwrap_err(),
            decode_reduced(image(), 9999, |_| 1).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.cause, SkipCause::CorruptImage);
        }
    }
}
