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
            Cause::Ended { .. } | Cause::Stopped { .. } => Duration::from_millis(200),
            Cause::Late { .. } | Cause::Transport(_) => longest,
        }
    }
}

/// What became of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Some did not come in time. `absent` names them if they are known.
    Late {
        after: Duration,
        absent: Vec<String>,
    },
    /// A rank's process has ended.
    Ended { who: String },
    /// This rank was asked to stop while it waited for the others.
    Stopped { after: Duration },
    /// The transport failed.
    Transport(String),
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
                    absent.join(", "),
                    Seconds(*after)
                )
            }
            Self::Ended { who } => write!(f, "{who} has ended"),
            Self::Stopped { after } => {
                write!(
                    f,
                    "the others did not come within {} of the signal to stop",
                    Seconds(*after)
                )
            }
            Self::Transport(message) => f.write_str(message),
        }
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
