//! How many bytes of pixels a loader may hold ready.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A bound on the pixels that are in memory, those of the batch in use included. What the
/// training loop has done with makes room for the next batch, so that a large batch is
/// not held twice.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Somebody waits for a batch, and frees nothing until it comes.
    is_awaited: bool,
    /// Chunks that came back, to be filled again: an allocator that gets memory back from
    /// another thread takes its time with it.
    spare: Vec<Vec<u8>>,
}

/// Pixels that give their room back when they are dropped.
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

    /// Bytes to be overwritten with pixels; waits for room unless a batch is awaited.
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

    /// Says whether somebody waits for a batch.
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
    fn room_is_taken_given_back_and_lent_to_who_waits() {
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
