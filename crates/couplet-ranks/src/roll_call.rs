//! Short messages between ranks that wait in an exchange: who is there, and why one of them gave up.
//!
//! A rank that gives up asks all others and counts who answers: whoever waits too does, within one look. It
//! then says what it found, so that all give up for the same reason at about the same time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ferrompi::{Communicator, Scope};

use crate::lost::{Cause, Missing};

/// The messages of a team. They are so short that sending them does not wait for their receivers.
pub(crate) struct RollCall {
    /// Of its own, so that no message meets an exchange.
    ranks: Communicator,
    looked: Cell<Instant>,
}

/// How often a waiting rank looks for messages.
const LOOK: Duration = Duration::from_millis(50);
/// How long the others have to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long messages have to leave this process.
const SEND: Duration = Duration::from_millis(50);
const TAG: i32 = 1;
/// The first byte of a message says what it is.
const ASK: &[u8] = b"?";
const HERE: &[u8] = b"!";
const LATE: u8 = b'L';
const ENDED: u8 = b'E';
const FAILED: u8 = b'F';
const ABORTED: u8 = b'A';
const LONGEST: usize = 1024;

/// Why to give up.
pub(crate) enum Alarm {
    /// Another rank gave up for it.
    Cause(Cause),
    /// MPI says that these ranks have failed.
    Gone(Vec<usize>),
}

/// What a message says.
enum Message {
    Ask,
    Here,
    /// Its sender gave up.
    Lost(Cause),
    /// MPI knows of no such sender any more.
    Gone,
}

impl RollCall {
    pub fn new(ranks: Communicator) -> Self {
        let looked = Cell::new(Instant::now());
        Self { ranks, looked }
    }

    /// Answers whoever asks, now and again. Returns why to give up, if there is a reason.
    pub fn look<'s>(&self, scope: &'s Scope<'s, '_>) -> Option<Alarm> {
        if self.looked.get().elapsed() < LOOK {
            return None;
        }
        self.looked.set(Instant::now());
        let mut gone = Vec::new();
        for rank in self.others() {
            match self.read(scope, rank) {
                Some(Message::Ask | Message::Here) | None => {}
                Some(Message::Lost(cause)) => return Some(Alarm::Cause(cause)),
                Some(Message::Gone) => gone.extend(usize::try_from(rank).ok()),
            }
        }
        (!gone.is_empty()).then_some(Alarm::Gone(gone))
    }

    /// Asks who is there and returns the ranks that do not answer.
    ///
    /// # Errors
    /// Why another rank gave up, if it said so meanwhile.
    pub fn call<'s>(&self, scope: &'s Scope<'s, '_>) -> Result<Vec<usize>, Cause> {
        let mut absent: Vec<i32> = self.others().collect();
        self.send(scope, &absent, ASK);
        let asked = Instant::now();
        while !absent.is_empty() && asked.elapsed() < ANSWER {
            let mut cause = None;
            absent.retain(|rank| match self.read(scope, *rank) {
                // Whoever asks waits as well.
                Some(Message::Ask | Message::Here) => false,
                Some(Message::Lost(other)) => {
                    cause = Some(other);
                    false
                }
                Some(Message::Gone) | None => true,
            });
            if let Some(cause) = cause {
                return Err(cause);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let absent = absent
            .into_iter()
            .filter_map(|rank| usize::try_from(rank).ok());
        Ok(absent.collect())
    }

    /// Says to all ranks but `absent` why this one gives up.
    pub fn tell<'s>(&self, scope: &'s Scope<'s, '_>, cause: &Cause, absent: &[usize]) {
        let (kind, text) = match cause {
            Cause::Late { absent, .. } => (LATE, to_lines(absent)),
            Cause::Ended { gone } => (ENDED, to_lines(gone)),
            Cause::Transport { message, silent } => {
                let message = message.replace('\n', " ");
                (FAILED, format!("{message}\n{}", to_lines(silent)))
            }
            Cause::Aborted { who, code } => {
                let who = to_lines(std::slice::from_ref(who));
                (ABORTED, format!("{code}\n{who}"))
            }
            // The others were asked to stop as well.
            Cause::Stopped { .. } => return,
        };
        let mut message = vec![kind];
        message.extend_from_slice(text.as_bytes());
        message.truncate(LONGEST);
        let is_present = |rank: &i32| {
            !absent
                .iter()
                .any(|absent| usize::try_from(*rank) == Ok(*absent))
        };
        let present: Vec<i32> = self.others().filter(is_present).collect();
        // This rank never leaves the scope again: the message must last as long as the process.
        self.send(scope, &present, message.leak());
    }

    fn others(&self) -> impl Iterator<Item = i32> + use<> {
        let own = self.ranks.rank();
        (0..self.ranks.size()).filter(move |rank| *rank != own)
    }

    /// Sends as far as it can without waiting for anybody.
    fn send<'s>(&self, scope: &'s Scope<'s, '_>, ranks: &[i32], message: &'static [u8]) {
        let send = |rank: &i32| self.ranks.isend(scope, message, *rank, TAG).ok();
        let mut requests: Vec<_> = ranks.iter().filter_map(send).collect();
        let began = Instant::now();
        while !requests.is_empty() && began.elapsed() < SEND {
            requests.retain_mut(|request| matches!(request.test(), Ok(None)));
        }
    }

    /// The next message of a rank, if there is one; answers it if it asks.
    fn read<'s>(&self, scope: &'s Scope<'s, '_>, rank: i32) -> Option<Message> {
        // From this rank alone: a receive from any would not end if one of them has failed.
        let Ok(found) = self.ranks.iprobe::<u8>(rank, TAG) else {
            return Some(Message::Gone);
        };
        let status = found?;
        let mut bytes = vec![0; status.count?];
        self.ranks.recv(&mut bytes, rank, TAG).ok()?;
        let (kind, text) = bytes.split_first()?;
        let text = || String::from_utf8_lossy(text).into_owned();
        Some(match *kind {
            LATE => Message::Lost(Cause::Late {
                after: Duration::ZERO,
                absent: from_lines(&text()),
            }),
            ENDED => Message::Lost(Cause::Ended {
                gone: from_lines(&text()),
            }),
            FAILED => {
                let text = text();
                let (message, silent) = text.split_once('\n').unwrap_or((&text, ""));
                let (message, silent) = (message.to_string(), from_lines(silent));
                Message::Lost(Cause::Transport { message, silent })
            }
            ABORTED => {
                let text = text();
                let (code, who) = text.split_once('\n')?;
                let (code, who) = (code.parse().ok()?, from_lines(who).pop()?);
                Message::Lost(Cause::Aborted { who, code })
            }
            _ if bytes == ASK => {
                self.send(scope, &[rank], HERE);
                Message::Ask
            }
            _ => Message::Here,
        })
    }
}

fn to_lines(missing: &[Missing]) -> String {
    let line = |missing: &Missing| format!("{}\t{}\n", missing.rank, missing.name);
    missing.iter().map(line).collect()
}

/// A line that was cut before its name is left out.
fn from_lines(lines: &str) -> Vec<Missing> {
    let missing = |line: &str| {
        let (rank, name) = line.split_once('\t')?;
        let (rank, name) = (rank.parse().ok()?, name.to_string());
        Some(Missing { rank, name })
    };
    lines.lines().filter_map(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::{from_lines, to_lines};
    use crate::lost::Missing;

    #[test]
    fn missing_ranks_survive_their_lines() {
        let missing = |rank| Missing {
            rank,
            name: format!("rank {rank} (process 7 on node)"),
        };
        let all = [missing(3), missing(12)];
        let lines = to_lines(&all);
        assert_eq!(from_lines(&lines), all);
        assert_eq!(from_lines(&lines[..lines.rfind('\t').unwrap()]), all[..1]);
        assert_eq!(from_lines(""), []);
    }
}
