//! What to do where memory runs out: the library that finds out ends the program at once.

use std::io::Write;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

const WHAT_HELPS: &str = "\
error: out of memory. In a run, lower batch.micro (the gradients stay those of the whole batch; of \
a ResNet nearly), or set precision = \"bf16\", batch.recompute_blocks = true (of a ViT), or a smaller \
batch.global; `couplet plan CONFIG` tells what each part takes. In `couplet bench step`, lower \
--micro or --batch.\n";

/// How CubeCL's runtimes and wgpu put it, in lower case.
const OF_DEVICES: [&str; 5] = [
    "out of memory",
    "out-of-memory",
    "outofmemory",
    "out of device memory",
    "can't allocate buffer of size",
];

/// Prints advice, once, when an allocation fails, on the host or on a device.
pub(crate) fn say_what_helps() {
    couplet_alloc::when_out_of_memory(tell);
    let as_before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        as_before(info);
        if is_of_memory(info.payload_as_str().unwrap_or_default()) {
            tell();
        }
    }));
}

/// Nothing here allocates.
fn tell() {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        let _ = std::io::stderr().write_all(WHAT_HELPS.as_bytes());
    }
}

fn is_of_memory(panic: &str) -> bool {
    let panic = panic.to_lowercase();
    OF_DEVICES.iter().any(|text| panic.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_words_are_known() {
        assert!(is_of_memory(
            "called `Result::unwrap()`: out of device memory allocating 8 bytes"
        ));
        assert!(is_of_memory("Io(OutOfMemory { size: 8 })"));
        assert!(is_of_memory("wgpu error: Out of Memory"));
        assert!(!is_of_memory("index out of bounds"));
    }
}
