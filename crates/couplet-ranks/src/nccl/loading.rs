//! Libraries of C that are loaded at run time.
#![expect(unsafe_code, reason = "whoever loads a function knows its type")]

use std::ffi::{CStr, c_char, c_int, c_void};

use libloading::Library;

use super::error::NcclError;

/// `ncclResult_t` and `CUresult`.
pub(super) type Status = c_int;
/// A pointer to what only the library knows.
pub(super) type Handle = *mut c_void;

/// `ncclSuccess` and `CUDA_SUCCESS`.
pub(super) const SUCCESS: Status = 0;

/// A library that stays loaded as long as the process: its own threads may run until then.
pub(super) struct Opened {
    name: String,
    library: &'static Library,
}

impl Opened {
    pub fn new(name: &str) -> Result<Self, NcclError> {
        // SAFETY: the constructors of NCCL's and the driver's libraries ask nothing of their callers.
        let library = unsafe { Library::new(name) };
        let library = library.map_err(|source| NcclError::NotThere {
            library: name.to_string(),
            source,
        })?;
        Ok(Self {
            name: name.to_string(),
            library: Box::leak(Box::new(library)),
        })
    }

    /// # Safety
    /// `F` must be the type of the function.
    pub unsafe fn function<F: Copy + 'static>(&self, name: &'static str) -> Result<F, NcclError> {
        // SAFETY: the caller knows the type; the library is never unloaded.
        let symbol = unsafe { self.library.get::<F>(name) };
        let symbol = symbol.map_err(|source| NcclError::NoFunction {
            library: self.name.clone(),
            function: name,
            source,
        })?;
        Ok(*symbol)
    }
}

/// # Safety
/// `text` must be null or a C string that lasts until this returns.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return "unknown".to_string();
    }
    // SAFETY: the caller says so.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().trim().to_string()
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn texts_of_c_are_read() {
        // SAFETY: a C string, and null.
        let texts = unsafe { [text(c" invalid usage\n".as_ptr()), text(ptr::null())] };
        assert_eq!(texts, ["invalid usage", "unknown"]);
    }
}
