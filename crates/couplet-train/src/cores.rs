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
    let threads = *SHARE.get_or_init(|| set_by_user().unwrap_or(threads));
    let pool = ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| io::Error::other(LastCause(error)))?;
    Ok(threads)
}

/// The variable that Rayon reads.
fn set_by_user() -> Option<usize> {
    let set = std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    set.filter(|threads| *threads > 0)
}

/// What [`share_cores`] set.
pub(crate) fn share() -> Option<usize> {
    SHARE.get().copied()
}

/// The cores that this process computes on.
pub(crate) fn cores() -> usize {
    let all = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    share().or_else(set_by_user).unwrap_or_else(all)
}
