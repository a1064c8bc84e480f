//! Panics of decoders on damaged bytes, as errors of the sample.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::sample::SampleError;

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of a decoder or a reader. If it panics, the sample is corrupt, as with any other damage,
/// and nothing is printed.
///
/// # Errors
/// If `work` fails or panics.
pub(crate) fn catch_panic<T>(
    work: impl FnOnce() -> Result<T, SampleError>,
) -> Result<T, SampleError> {
    catch_unwinding(work).unwrap_or_else(|message| {
        let message = format!("the decoder panicked: {message}");
        Err(SampleError::corrupt(message))
    })
}

/// Runs code that may panic, or unwind as libjpeg does to report an error.
///
/// # Errors
/// The message, if it does. Nothing is printed.
pub(crate) fn catch_unwinding<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous_hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                previous_hook(info);
            }
        }));
    });
    let was_caught = IS_CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(was_caught);
    done.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        text.unwrap_or("without a message").to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::SkipCause;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = catch_panic::<()>(|| panic!("byte {}", 7)).unwrap_err();
        assert_eq!(error.cause, SkipCause::CorruptImage);
        assert_eq!(error.detail, "the decoder panicked: byte 7");
        assert_eq!(catch_panic(|| Ok(3)), Ok(3));
    }

    #[test]
    fn only_what_is_caught_is_silent() {
        let nested = catch_unwinding(|| catch_unwinding(|| panic!("inner")));
        assert_eq!(nested, Ok(Err::<(), _>("inner".into())));
        assert!(!IS_CAUGHT.get());
        assert!(catch_unwinding(|| IS_CAUGHT.get()).unwrap());
    }
}
