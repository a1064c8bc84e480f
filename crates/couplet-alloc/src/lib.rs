//! The program's allocator.

pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3: milliseconds until memory that nobody uses
/// goes back to the system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// What mimalloc 3 has unless the environment says otherwise.
const ITS_OWN: std::ffi::c_long = 1000;
/// Longer than any step.
const OURS: std::ffi::c_long = 60_000;

/// Keeps freed memory for a minute rather than a second: a step on the CPU asks for all of it
/// again, and the system clears every page that it gives. `MIMALLOC_PURGE_DELAY` in the
/// environment goes first.
pub fn keep_freed_memory() {
    #[expect(unsafe_code, reason = "mimalloc's settings are C functions")]
    // SAFETY: both read or write one integer inside mimalloc; called before other threads
    // begin, as they ask.
    unsafe {
        // Another value: the environment's, or another release with other numbers.
        if libmimalloc_sys::mi_option_get(PURGE_DELAY) == ITS_OWN {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, OURS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "mimalloc's settings are C functions")]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads one integer inside mimalloc.
        let get = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert_eq!(get(), ITS_OWN);
            keep_freed_memory();
            assert_eq!(get(), OURS);
        }
    }
}
