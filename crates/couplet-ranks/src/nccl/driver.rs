//! A stream of NVIDIA's driver, whose library is loaded at run time.
#![expect(unsafe_code, reason = "the driver is a C library")]

use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

use super::error::NcclError;
use super::loading::{Handle, Opened, SUCCESS, Status, text};

pub(super) const DRIVER: &str = "libcuda.so.1";

/// `CUDA_ERROR_NOT_READY`.
const NOT_READY: Status = 600;
/// `CU_STREAM_NON_BLOCKING`: the stream does not wait for the device's default one.
const NON_BLOCKING: c_uint = 1;

type Init = unsafe extern "C" fn(c_uint) -> Status;
type DeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> Status;
type PrimaryCtxRetain = unsafe extern "C" fn(*mut Handle, c_int) -> Status;
type OfHandle = unsafe extern "C" fn(Handle) -> Status;
type StreamCreate = unsafe extern "C" fn(*mut Handle, c_uint) -> Status;
type GetErrorName = unsafe extern "C" fn(Status, *mut *const c_char) -> Status;

/// A stream of our own in the context that CubeCL uses too: the device's primary one.
pub(super) struct Stream {
    handle: Handle,
    query: OfHandle,
    destroy: OfHandle,
    get_error_name: GetErrorName,
}

impl Stream {
    /// Makes the device's context the calling thread's, and a stream in it.
    /// - device: as the driver counts those that `CUDA_VISIBLE_DEVICES` leaves.
    ///
    /// # Errors
    /// If there is no driver or no such device.
    pub fn new(driver: &str, device: usize) -> Result<Self, NcclError> {
        let opened = Opened::new(driver)?;
        let device = c_int::try_from(device).unwrap_or(c_int::MAX);
        // SAFETY: every type is that of the function in `cuda.h`. The context that is retained here is never
        // released, so it lasts as long as the process.
        unsafe {
            let init: Init = opened.function("cuInit")?;
            let device_get: DeviceGet = opened.function("cuDeviceGet")?;
            let retain: PrimaryCtxRetain = opened.function("cuDevicePrimaryCtxRetain")?;
            let set_current: OfHandle = opened.function("cuCtxSetCurrent")?;
            let create: StreamCreate = opened.function("cuStreamCreate")?;
            let mut own = Self {
                handle: ptr::null_mut(),
                query: opened.function("cuStreamQuery")?,
                destroy: opened.function("cuStreamDestroy_v2")?,
                get_error_name: opened.function("cuGetErrorName")?,
            };
            own.check("cuInit", init(0))?;
            let mut number = 0;
            own.check("cuDeviceGet", device_get(&raw mut number, device))?;
            let mut context = ptr::null_mut();
            let status = retain(&raw mut context, number);
            own.check("cuDevicePrimaryCtxRetain", status)?;
            own.check("cuCtxSetCurrent", set_current(context))?;
            let status = create(&raw mut own.handle, NON_BLOCKING);
            own.check("cuStreamCreate", status)?;
            Ok(own)
        }
    }

    /// For NCCL's functions.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Whether all that was started has ended.
    ///
    /// # Errors
    /// If the device has failed.
    pub fn is_done(&self) -> Result<bool, NcclError> {
        // SAFETY: the stream lasts as long as `self`.
        let status = unsafe { (self.query)(self.handle) };
        if status == NOT_READY {
            return Ok(false);
        }
        self.check("cuStreamQuery", status)?;
        Ok(true)
    }

    fn check(&self, function: &'static str, status: Status) -> Result<(), NcclError> {
        if status == SUCCESS {
            return Ok(());
        }
        let mut name = ptr::null();
        // SAFETY: the driver's names are never freed; for an unknown status it gives null.
        let words = unsafe {
            (self.get_error_name)(status, &raw mut name);
            text(name)
        };
        Err(NcclError::Driver {
            function,
            status,
            words,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the stream is ours, and is not used after.
            unsafe { (self.destroy)(self.handle) };
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_says_so() {
        let Err(error) = Stream::new(DRIVER, 0) else {
            // This machine has an NVIDIA GPU.
            return;
        };
        let words = error.to_string();
        assert!(
            words.contains("libcuda.so.1") || words.contains("cuInit"),
            "{words}"
        );
    }
}
