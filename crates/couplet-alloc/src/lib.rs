//! The program's allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::OnceLock;

use mimalloc::MiMalloc;

/// mimalloc, which says so where the system has no memory left.
pub struct Allocator;

static WHEN_OUT: OnceLock<fn()> = OnceLock::new();

/// Calls `tell` at every allocation that fails, most of which end the program. It must not
/// allocate. The first one stays.
pub fn when_out_of_memory(tell: fn()) {
    let _ = WHEN_OUT.set(tell);
}

fn checked(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null()
        && let Some(tell) = WHEN_OUT.get()
    {
        tell();
    }
    pointer
}

#[expect(unsafe_code, reason = "an allocator's contract is unsafe")]
// SAFETY: every call is handed to mimalloc as it came, and its pointer back as it is.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        checked(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        checked(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        checked(unsafe { MiMalloc.realloc(pointer, layout, size) })
    }
}

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
