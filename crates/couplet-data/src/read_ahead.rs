//! Limits how many bytes of pixels a loader may hold.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A limit on the pixels in memory, including those of the batch in use. Pixels that the training
/// loop releases make room for the next batch, so that a large batch is not held twice.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Whether the training loop is waiting for a batch; it releases nothing until it gets one.
    is_awaited: bool,
    /// Released chunks, for reuse: memory that is freed by another thread returns slowly to the
    /// allocator.
    spare: Vec<Vec<u8>>,
}

/// Pixels that return their room to the limit when they are dropped.
#[derive(Debug)]
pub(crate) struct PixelChunk {
    pub bytes: Vec<u8>,
    room: Arc<ReadAhead>,
}

impl ReadAhead {
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Returns `len` bytes to be overwritten with pixels; blocks until there is room, unless a batch is
    /// awaited.
    pub fn chunk(self: &Arc<Self>, len: usize) -> PixelChunk {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |state: &mut State| !state.is_awaited && state.held + len > self.capacity;
        let waited = self.changed.wait_while(state, is_full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.held += len;
        let spare = state.spare.pop().filter(|spare| spare.len() == len);
        drop(state);
        PixelChunk {
            bytes: spare.unwrap_or_else(|| vec![0; len]),
            room: self.clone(),
        }
    }

    /// Sets whether the training loop is waiting for a batch.
    pub fn set_awaited(&self, is_awaited: bool) {
        self.update(|state| state.is_awaited = is_awaited);
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

impl Drop for PixelChunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.room.update(|state| {
            state.held -= bytes.len();
            state.spare.push(bytes);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn chunks_wait_for_room_unless_a_batch_is_awaited() {
        let room = ReadAhead::new(10);
        let first = room.chunk(6);
        let (sender, receiver) = channel();
        let maker = {
            let room = room.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    sender.send(room.chunk(6)).unwrap();
                }
            })
        };
        let soon = Duration::from_millis(50);
        assert!(receiver.recv_timeout(soon).is_err(), "there is no room");
        drop(first);
        let second = receiver.recv().unwrap();
        assert!(receiver.recv_timeout(soon).is_err(), "there is no room");
        room.set_awaited(true);
        drop((second, receiver.recv().unwrap()));
        maker.join().unwrap();
        assert_eq!(room.state.lock().unwrap().held, 0);
    }
}
