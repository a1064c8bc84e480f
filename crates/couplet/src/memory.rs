//! What to do where memory runs out: the library that finds out ends the program at once.

use std::io::Write;
use std::panic;

const WHAT_HELPS: &str = "\
error: out of memory. In a run, lower batch.micro (its gradients are those of the whole batch), or \
set batch.recompute_blocks = true, precision = \"bf16\", or a smaller batch.global; `couplet plan \
CONFIG` tells what each part takes. In `couplet bench step`, lower --micro or --batch.\n";

/// How CubeCL's runtimes put it.
const OF_DEVICES: [&str; 3] = [
    "out of device memory",
    "OutOfMemory",
    "can't allocate buffer of size",
];

/// Prints advice when an allocation fails, on the host or on a device.
pub(crate) fn say_what_helps() {
    couplet_alloc::when_out_of_memory(|_| {
        // Nothing here allocates.
        let _ = std::io::stderr().write_all(WHAT_HELPS.as_bytes());
    });
    let as_before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        as_before(info);
        let text = info.payload_as_str().unwrap_or_default();
        if is_of_memory(text) {
            let _ = std::io::stderr().write_all(WHAT_HELPS.as_bytes());
        }
    }));
}

fn is_of_memory(panic: &str) -> bool {
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
        assert!(!is_of_memory("index out of bounds"));
    }
}
