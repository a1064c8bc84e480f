//! Calls into crates that may panic on a damaged file. Such a panic becomes an error of the file.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What another crate panicked with while it read a file.
#[derive(Debug, thiserror::Error)]
#[error("its reader stopped at a value that it does not expect: {0}")]
pub struct ReaderPanic(String);

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read`, and turns a panic of it into an error. No message or backtrace of such a panic is
/// printed.
///
/// # Errors
/// If `read` panics.
pub(crate) fn catch<T>(read: impl FnOnce() -> T) -> Result<T, ReaderPanic> {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                previous(info);
            }
        }));
    });
    let outer = IS_CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    IS_CAUGHT.set(outer);
    result.map_err(|payload| {
        let text = (payload.downcast_ref::<String>().map(String::as_str))
            .or_else(|| payload.downcast_ref::<&str>().copied());
        ReaderPanic(text.unwrap_or("no message").to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(catch(|| 3).unwrap(), 3);
        let empty: [u8; 0] = [];
        let error = catch(|| empty[std::hint::black_box(2)]).unwrap_err();
        assert!(error.to_string().contains("index out of bounds"), "{error}");
    }
}
