//! NCCL's library, loaded at run time, and a communicator.
//!
//! A build knows nothing of the library. Its functions are those of `nccl.h` since NCCL 2.4.
#![expect(unsafe_code, reason = "NCCL is a C library")]

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::Arc;

use super::buffer::Floats;
use super::driver::{DRIVER, Stream};
use super::error::NcclError;
use super::loading::{Handle, Opened, SUCCESS, Status, text};

/// NVIDIA's packages have only this name.
const NCCL: &str = "libnccl.so.2";

/// `ncclInProgress`.
const IN_PROGRESS: Status = 7;
/// `ncclFloat32`.
const FLOAT32: c_int = 7;
/// `ncclSum`.
const SUM: c_int = 0;

/// `ncclUniqueId`: by which ranks find each other.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct UniqueId(pub [u8; UniqueId::LEN]);

impl UniqueId {
    pub const LEN: usize = 128;
}

type GetVersion = unsafe extern "C" fn(*mut c_int) -> Status;
type GetUniqueId = unsafe extern "C" fn(*mut UniqueId) -> Status;
type CommInitRank = unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> Status;
type CommDestroy = unsafe extern "C" fn(Handle) -> Status;
type CommGetAsyncError = unsafe extern "C" fn(Handle, *mut Status) -> Status;
type AllReduce =
    unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, Handle) -> Status;
type AllGather =
    unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Handle, Handle) -> Status;
type GetErrorString = unsafe extern "C" fn(Status) -> *const c_char;
type GetLastError = unsafe extern "C" fn(Handle) -> *const c_char;

/// NCCL's functions.
pub(crate) struct Nccl {
    version: c_int,
    /// The driver's library.
    driver: String,
    get_unique_id: GetUniqueId,
    comm_init_rank: CommInitRank,
    comm_destroy: CommDestroy,
    comm_abort: CommDestroy,
    comm_get_async_error: CommGetAsyncError,
    all_reduce: AllReduce,
    all_gather: AllGather,
    get_error_string: GetErrorString,
    /// Since NCCL 2.13.
    get_last_error: Option<GetLastError>,
}

impl Nccl {
    /// Loads the library.
    ///
    /// # Errors
    /// If there is none, or it lacks a function.
    pub fn open() -> Result<Self, NcclError> {
        Self::open_at(NCCL, DRIVER)
    }

    /// The same from files, or names that the system looks up. The driver is not loaded before it is needed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(path: &str, driver: &str) -> Result<Self, NcclError> {
        let opened = Opened::new(path)?;
        // SAFETY: every type is that of the function in `nccl.h`.
        let nccl = unsafe {
            let get_version: GetVersion = opened.function("ncclGetVersion")?;
            let mut version = 0;
            let status = get_version(&raw mut version);
            let mut nccl = Self {
                version,
                driver: driver.to_string(),
                get_unique_id: opened.function("ncclGetUniqueId")?,
                comm_init_rank: opened.function("ncclCommInitRank")?,
                comm_destroy: opened.function("ncclCommDestroy")?,
                comm_abort: opened.function("ncclCommAbort")?,
                comm_get_async_error: opened.function("ncclCommGetAsyncError")?,
                all_reduce: opened.function("ncclAllReduce")?,
                all_gather: opened.function("ncclAllGather")?,
                get_error_string: opened.function("ncclGetErrorString")?,
                get_last_error: None,
            };
            nccl.check("ncclGetVersion", status, ptr::null_mut())?;
            nccl.get_last_error = opened.function("ncclGetLastError").ok();
            nccl
        };
        Ok(nccl)
    }

    /// Such as `2.27.3`.
    pub fn version(&self) -> String {
        name_of_version(self.version)
    }

    /// A new id, to be given to all ranks.
    ///
    /// # Errors
    /// If NCCL finds no network interface.
    pub fn unique_id(&self) -> Result<UniqueId, NcclError> {
        let mut id = UniqueId([0; UniqueId::LEN]);
        // SAFETY: NCCL fills the id that it gets.
        let status = unsafe { (self.get_unique_id)(&raw mut id) };
        self.check("ncclGetUniqueId", status, ptr::null_mut())?;
        Ok(id)
    }

    /// - communicator: that of the call, or null.
    fn check(
        &self,
        function: &'static str,
        status: Status,
        communicator: Handle,
    ) -> Result<(), NcclError> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: NCCL returns texts that are never freed; the last error's lasts until the thread's next call.
        let (words, last) = unsafe {
            let words = text((self.get_error_string)(status));
            let last = self.get_last_error.map(|get| text(get(communicator)));
            (words, last)
        };
        let last = last.filter(|last| !last.is_empty());
        Err(NcclError::Nccl {
            version: self.version(),
            function,
            words: last.map_or(words.clone(), |last| format!("{words}: {last}")),
        })
    }
}

/// The ranks' connections on one device. To be made, used and dropped on one thread.
pub(crate) struct Communicator {
    nccl: Arc<Nccl>,
    /// Null once it was aborted.
    handle: Handle,
    ranks: usize,
    stream: Stream,
    /// What NCCL reads and writes now.
    in_use: Vec<Floats>,
}

impl Communicator {
    /// Connects this rank with the others; returns once all have called it.
    /// - device: as [`Stream::new`].
    ///
    /// # Errors
    /// If the device cannot be used, or NCCL cannot connect the ranks.
    pub fn new(
        nccl: Arc<Nccl>,
        device: usize,
        id: UniqueId,
        (rank, ranks): (usize, usize),
    ) -> Result<Self, NcclError> {
        let count = |count: usize| c_int::try_from(count).unwrap_or(c_int::MAX);
        let stream = Stream::new(&nccl.driver, device)?;
        let mut communicator = ptr::null_mut();
        // SAFETY: the device's context is this thread's; NCCL fills the handle.
        let status =
            unsafe { (nccl.comm_init_rank)(&raw mut communicator, count(ranks), id, count(rank)) };
        nccl.check("ncclCommInitRank", status, ptr::null_mut())?;
        Ok(Self {
            nccl,
            handle: communicator,
            ranks,
            stream,
            in_use: Vec::new(),
        })
    }

    /// Starts an all-reduce: the sum of every rank's `own`.
    /// - own, sum: of one length, the same on every rank; kept until [`Self::is_done`].
    ///
    /// # Panics
    /// If `sum` is too short.
    pub fn start_sum(&mut self, own: Floats, sum: Floats) -> Result<(), NcclError> {
        let len = own.len();
        assert!(sum.len() >= len, "there is room for the sum");
        let (from, to) = (own.address() as *const c_void, sum.address() as *mut c_void);
        self.in_use.extend([own, sum]);
        let communicator = self.communicator()?;
        // SAFETY: both addresses have room for `len` floats on the device and stay theirs while they are in
        // `in_use`, which is emptied only once the stream is done or the communicator is aborted.
        let status = unsafe {
            let stream = self.stream.handle();
            (self.nccl.all_reduce)(from, to, len, FLOAT32, SUM, communicator, stream)
        };
        self.nccl.check("ncclAllReduce", status, communicator)
    }

    /// Starts an all-gather: every rank's `own`, in the order of ranks.
    /// - own: of the same length on every rank; all: `ranks` times as long.
    ///
    /// # Panics
    /// If `all` is too short.
    pub fn start_gather(&mut self, own: Floats, all: Floats) -> Result<(), NcclError> {
        let len = own.len();
        let is_room = all.len() / self.ranks >= len;
        assert!(is_room, "there is room for every rank's");
        let (from, to) = (own.address() as *const c_void, all.address() as *mut c_void);
        self.in_use.extend([own, all]);
        let communicator = self.communicator()?;
        // SAFETY: as in `start_sum`; `to` has room for the floats of all ranks.
        let status = unsafe {
            let stream = self.stream.handle();
            (self.nccl.all_gather)(from, to, len, FLOAT32, communicator, stream)
        };
        self.nccl.check("ncclAllGather", status, communicator)
    }

    fn communicator(&self) -> Result<Handle, NcclError> {
        if self.handle.is_null() {
            return Err(NcclError::Aborted);
        }
        Ok(self.handle)
    }

    /// Whether all that was started has ended.
    ///
    /// # Errors
    /// If NCCL has lost another rank, or the device has failed.
    pub fn is_done(&mut self) -> Result<bool, NcclError> {
        let communicator = self.communicator()?;
        let mut later = SUCCESS;
        // SAFETY: the communicator was not destroyed; NCCL fills the status.
        let status = unsafe { (self.nccl.comm_get_async_error)(communicator, &raw mut later) };
        let nccl = &self.nccl;
        nccl.check("ncclCommGetAsyncError", status, communicator)?;
        if later != IN_PROGRESS {
            nccl.check("ncclCommGetAsyncError", later, communicator)?;
        }
        let is_done = self.stream.is_done()?;
        if is_done {
            self.in_use.clear();
        }
        Ok(is_done)
    }

    /// Ends what runs, without the other ranks.
    pub fn abort(&mut self) {
        let communicator = mem::replace(&mut self.handle, ptr::null_mut());
        if !communicator.is_null() {
            // SAFETY: the communicator was not destroyed, and is not used after. NCCL's kernels have ended when
            // this returns.
            unsafe { (self.nccl.comm_abort)(communicator) };
        }
        self.in_use.clear();
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if !matches!(self.is_done(), Ok(true)) {
            return self.abort();
        }
        // SAFETY: the communicator was not destroyed (`is_done` says so), and is not used after.
        unsafe { (self.nccl.comm_destroy)(self.handle) };
    }
}

/// `NCCL_VERSION_CODE` as people write it: with two digits for the minor version since 2.9.
fn name_of_version(code: c_int) -> String {
    let major = if code < 10_000 { 1000 } else { 10_000 };
    format!("{}.{}.{}", code / major, code % major / 100, code % 100)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn versions_are_those_that_nccl_prints() {
        assert_eq!(name_of_version(2804), "2.8.4");
        assert_eq!(name_of_version(22_703), "2.27.3");
        assert_eq!(name_of_version(23_203), "2.32.3");
    }

    #[test]
    fn a_library_that_is_not_there_is_named_with_what_to_do() {
        let path = "/nowhere/libnccl.so.2";
        let error = Nccl::open_at(path, DRIVER).err().unwrap();
        let words = error.to_string();
        assert!(words.starts_with(path), "{words}");
        assert!(words.contains("pip install nvidia-nccl-cu12"), "{words}");
        assert!(words.contains("LD_LIBRARY_PATH"), "{words}");
        assert!(error.source().is_some());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_library_is_no_nccl() {
        let words = Nccl::open_at("libm.so.6", DRIVER).err().unwrap();
        let words = words.to_string();
        assert!(words.contains("libm.so.6 has no ncclGetVersion"), "{words}");
    }

    #[test]
    #[ignore = "needs libnccl.so.2"]
    fn nccl_itself_has_all_functions_and_gives_ids() {
        let nccl = Nccl::open().unwrap();
        assert!(nccl.version().starts_with("2."), "{}", nccl.version());
        assert!(nccl.get_last_error.is_some());
        let ids = [nccl.unique_id().unwrap().0, nccl.unique_id().unwrap().0];
        assert_ne!(ids[0], ids[1]);
        let status = 5;
        let error = nccl.check("ncclGetUniqueId", status, ptr::null_mut());
        let words = error.unwrap_err().to_string();
        assert!(words.contains("invalid usage"), "{words}");
    }

    #[test]
    fn c_sees_an_id_of_its_length() {
        assert_eq!(size_of::<UniqueId>(), UniqueId::LEN);
    }
}
