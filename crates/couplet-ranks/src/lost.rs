//! Why an exchange ended without a result.

use std::fmt;
use std::time::Duration;

/// An exchange that did not come about. No later exchange of the team does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}, while waiting for {what}")]
pub struct Lost {
    /// What was exchanged, such as "the gradients".
    pub what: &'static str,
    pub cause: Cause,
}

impl Lost {
    /// How long the conductor may take to answer after the cause was there: a launcher that knows of a dead
    /// rank leaves little time to save.
    pub(crate) fn to_answer(&self, longest: Duration) -> Duration {
        match self.cause {
            Cause::Ended { .. } | Cause::Aborted { .. } | Cause::Stopped { .. } => {
                Duration::from_millis(200)
            }
            Cause::Late { .. } | Cause::Transport { .. } => longest,
        }
    }

    /// The ranks that are known to be gone or not to answer; none if only their number is known, or not even
    /// that.
    pub fn ranks(&self) -> impl Iterator<Item = usize> + '_ {
        let missing = match &self.cause {
            Cause::Late { absent, .. } => absent,
            Cause::Ended { gone } => gone,
            Cause::Transport { silent, .. } => silent,
            Cause::Aborted { who, .. } => std::slice::from_ref(who),
            Cause::Stopped { .. } => &[][..],
        };
        missing.iter().map(|missing| missing.rank)
    }
}

/// A rank that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub rank: usize,
    /// It with its process and host.
    pub name: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What became of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Some did not come in time. `absent` names them if they are known.
    Late {
        after: Duration,
        absent: Vec<Missing>,
    },
    /// The processes of ranks have ended.
    Ended { gone: Vec<Missing> },
    /// A rank ends all ranks, as after a panic, with this exit code.
    Aborted { who: Missing, code: i32 },
    /// This rank was asked to stop while it waited for the others.
    Stopped { after: Duration },
    /// The transport failed. `silent` names the ranks that do not answer any more, if they are known.
    Transport {
        message: String,
        silent: Vec<Missing>,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { after, absent } if absent.is_empty() => {
                write!(f, "a rank did not come within {}", Seconds(*after))
            }
            Self::Late { after, absent } => {
                write!(
                    f,
                    "{} did not come within {}",
                    Names(absent),
                    Seconds(*after)
                )
            }
            Self::Ended { gone } => {
                let have = if gone.len() == 1 { "has" } else { "have" };
                write!(f, "{} {have} ended", Names(gone))
            }
            Self::Aborted { who, .. } => write!(f, "{who} has failed"),
            Self::Stopped { after } => {
                write!(
                    f,
                    "the others did not come within {} of the signal to stop",
                    Seconds(*after)
                )
            }
            Self::Transport { message, silent } if silent.is_empty() => f.write_str(message),
            Self::Transport { message, silent } => {
                write!(f, "{message}; no answer from {}", Names(silent))
            }
        }
    }
}

impl Cause {
    pub(crate) fn transport(message: impl Into<String>) -> Self {
        let (message, silent) = (message.into(), Vec::new());
        Self::Transport { message, silent }
    }
}

/// The names one after the other.
struct Names<'a>(&'a [Missing]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, missing) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{missing}")?;
        }
        Ok(())
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 120.0 {
            write!(f, "{:.0} minutes", seconds / 60.0)
        } else if seconds >= 2.0 {
            write!(f, "{seconds:.0} seconds")
        } else {
            write!(f, "{seconds:.1} seconds")
        }
    }
}
