//! The program's allocator.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: couplet_alloc::Allocator = couplet_alloc::Allocator;
//!
//! fn main() {
//!     // First, before other threads start.
//!     couplet_alloc::keep_freed_memory();
//! }
//! ```

use std::alloc::{GlobalAlloc, Layout};
use std::sync::OnceLock;

use mimalloc::MiMalloc;

/// mimalloc, with a callback for allocations that fail.
pub struct Allocator;

static WHEN_OUT: OnceLock<fn()> = OnceLock::new();

/// Registers `report`, which is called for every allocation that fails; most of them end the
/// program. It must not allocate. Only the first registration counts.
pub fn when_out_of_memory(report: fn()) {
    let _ = WHEN_OUT.set(report);
}

fn report_if_null(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null()
        && let Some(report) = WHEN_OUT.get()
    {
        report();
    }
    pointer
}

#[expect(unsafe_code, reason = "an allocator's contract is unsafe")]
// SAFETY: every call is passed to mimalloc unchanged, and so is the pointer that it returns.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        report_if_null(unsafe { MiMalloc.alloc(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        report_if_null(unsafe { MiMalloc.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        report_if_null(unsafe { MiMalloc.realloc(pointer, layout, size) })
    }
}

/// `mi_option_purge_delay` of mimalloc 2 and 3: milliseconds until unused memory returns to the
/// system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// mimalloc 3's default.
const DEFAULT_DELAY: std::ffi::c_long = 1000;
/// Longer than any step.
const LONG_DELAY: std::ffi::c_long = 60_000;

/// Keeps freed memory for a minute instead of a second: the next step on the CPU allocates all
/// of it again, and the system clears every page that it hands out. `MIMALLOC_PURGE_DELAY` in the
/// environment takes precedence.
pub fn keep_freed_memory() {
    #[expect(unsafe_code, reason = "mimalloc's settings are C functions")]
    // SAFETY: both read or write one integer inside mimalloc; called before other threads
    // start, as mimalloc requires.
    unsafe {
        // Any other value comes from the environment, or from a release that numbers its
        // options differently.
        if libmimalloc_sys::mi_option_get(PURGE_DELAY) == DEFAULT_DELAY {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, LONG_DELAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "mimalloc's settings are C functions")]
    fn the_option_is_the_purge_delay() {
        // SAFETY: reads one integer inside mimalloc.
        let get = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert_eq!(get(), DEFAULT_DELAY);
            keep_freed_memory();
            assert_eq!(get(), LONG_DELAY);
        }
    }
}
