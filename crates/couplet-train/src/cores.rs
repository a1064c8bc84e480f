//! The cores that this process computes on, where it shares the machine with others of its kind.

use std::io;
use std::sync::OnceLock;
use std::thread;

use couplet_data::LastCause;
use rayon::ThreadPoolBuilder;

static SHARE: OnceLock<usize> = OnceLock::new();

/// Makes this process compute with so many threads, which are its share of the cores, unless
/// `RAYON_NUM_THREADS` sets another number. To be called once, before anything is computed.
/// - returns the number.
///
/// # Errors
/// If the system gives no threads.
pub fn share_cores(threads: usize) -> io::Result<usize> {
    let set = std::env::var("RAYON_NUM_THREADS").ok();
    let set = set
        .and_then(|text| text.parse().ok())
        .filter(|set| *set > 0);
    let threads = *SHARE.get_or_init(|| set.unwrap_or(threads));
    let pool = ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| io::Error::other(LastCause(error)))?;
    Ok(threads)
}

/// What [`share_cores`] set.
pub(crate) fn share() -> Option<usize> {
    SHARE.get().copied()
}

/// The cores of this process.
pub(crate) fn cores() -> usize {
    let all = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    share().unwrap_or_else(all)
}
