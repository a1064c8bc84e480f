//! Failed attempts.

use std::time::Duration;

use crate::error::HubError;

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
