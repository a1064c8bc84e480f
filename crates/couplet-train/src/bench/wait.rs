//! Waiting for a device, before the clock is read.

use burn::tensor::Device;

/// Waits until the device has finished: reading an unused tensor may return earlier.
pub(super) fn wait_for(device: &Device) {
    device.sync().expect("the device works");
}
