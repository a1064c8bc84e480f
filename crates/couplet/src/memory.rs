//! Advice when memory runs out: the library that notices ends the program at once.

use std::io::Write;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::printing;

const ADVICE: &str = "\
error: out of memory. For a run, lower `batch.micro` (the gradients stay those of the whole batch, \
for a ResNet nearly), set `precision = \"bf16\"` or, for a ViT, `batch.recompute_blocks = true`, or \
lower `batch.global`; `couplet plan CONFIG` prints the memory of each part. For `couplet bench step`, \
lower --micro or --batch.\n";

/// Messages of CubeCL's runtimes and wgpu, in lower case.
const DEVICE_MESSAGES: [&str; 5] = [
    "out of memory",
    "out-of-memory",
    "outofmemory",
    "out of device memory",
    "can't allocate buffer of size",
];

/// Prints the advice once when an allocation fails, on the host or on a device.
pub(crate) fn print_advice_when_exhausted() {
    couplet_alloc::when_out_of_memory(print_advice);
    let previous_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        previous_hook(info);
        printing::copy_if_idle(&info.to_string());
        if is_out_of_memory(info.payload_as_str().unwrap_or_default()) {
            print_advice();
            printing::copy_if_idle(ADVICE.trim_end());
        }
    }));
}

/// Allocates nothing.
fn print_advice() {
    static IS_PRINTED: AtomicBool = AtomicBool::new(false);
    if !IS_PRINTED.swap(true, Ordering::Relaxed) {
        let _ = std::io::stderr().write_all(ADVICE.as_bytes());
    }
}

fn is_out_of_memory(panic: &str) -> bool {
    let panic = panic.to_lowercase();
    DEVICE_MESSAGES.iter().any(|text| panic.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_messages_are_recognized() {
        assert!(is_out_of_memory(
            "called `Result::unwrap()`: out of device memory allocating 8 bytes"
        ));
        assert!(is_out_of_memory("Io(OutOfMemory { size: 8 })"));
        assert!(is_out_of_memory("wgpu error: Out of Memory"));
        assert!(!is_out_of_memory("index out of bounds"));
    }
}
