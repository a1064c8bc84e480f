//! Failed attempts.

use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::error::{HubError, printable};

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Another attempt would end the same way.
    Final(Box<HubError>),
    /// Another attempt may succeed, after the wait that the server asked for.
    Again(Box<HubError>, Option<Duration>),
}

impl Failure {
    /// A failure that is final.
    pub(crate) fn last(error: HubError) -> Self {
        Self::Final(Box::new(error))
    }

    /// A failure that another attempt may mend.
    pub(crate) fn passing(error: HubError) -> Self {
        Self::Again(Box::new(error), None)
    }

    /// The error without the question of another attempt.
    pub(crate) fn into_error(self) -> HubError {
        match self {
            Self::Final(error) | Self::Again(error, _) => *error,
        }
    }
}

/// Whether trying again helps, by the kind of the client's error.
pub(crate) fn trouble(address: &Address, error: ureq::Error) -> Failure {
    let url = address.to_string();
    match error {
        ureq::Error::Protocol(problem) => Failure::last(HubError::Protocol {
            url,
            problem: printable(&problem.to_string()),
        }),
        ureq::Error::Io(source) => {
            let is_passing = may_pass(source.kind());
            let error = HubError::Unreachable {
                url,
                attempts: 1,
                source,
            };
            if is_passing {
                Failure::passing(error)
            } else {
                Failure::last(error)
            }
        }
        error @ (ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed) => {
            Failure::passing(HubError::Unreachable {
                url,
                attempts: 1,
                source: io::Error::other(error),
            })
        }
        error => Failure::last(HubError::Unreachable {
            url,
            attempts: 1,
            source: io::Error::other(error),
        }),
    }
}

/// Connections that break off may hold the next time. A host without an address and a wrong certificate stay as they are.
fn may_pass(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::TimedOut
            | Kind::WouldBlock
            | Kind::UnexpectedEof
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}
