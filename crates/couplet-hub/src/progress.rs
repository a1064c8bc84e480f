//! What a caller hears of a transfer, and how it stops one.

use std::time::Duration;

/// Hears of transfers. Every method has a default that does nothing, and `()` hears nothing.
pub trait Progress {
    /// A file's transfer begins. `already` bytes are there from an earlier one; `total` is its size if that is known.
    fn started(&mut self, file: &str, already: u64, total: Option<u64>) {
        let _ = (file, already, total);
    }

    /// `done` bytes of the file are there. Can be lower than before, if the server could not resume.
    fn advanced(&mut self, file: &str, done: u64, total: Option<u64>) {
        let _ = (file, done, total);
    }

    /// The file is complete and checked.
    fn finished(&mut self, file: &str) {
        let _ = file;
    }

    /// Something is waited for: the next attempt, or another process that downloads the same file.
    fn waiting(&mut self, reason: &str, pause: Duration) {
        let _ = (reason, pause);
    }

    /// Whether to stop. Asked between chunks, between attempts and while waiting; for an answer within a stalled read, see
    /// [`Hub::interrupter`](crate::Hub::interrupter).
    fn is_cancelled(&mut self) -> bool {
        false
    }
}

impl Progress for () {}
