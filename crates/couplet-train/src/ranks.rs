//! The ranks of a run, for programs that train with several.

use std::error::Error;

use couplet_data::with_causes;
use couplet_ranks::{Lost, Place, Team};

use crate::comm::Comm;

/// The processes that train a model together. Each calls the same functions in the same order.
#[derive(Debug, Clone, Default)]
pub struct Ranks(pub(crate) Comm);

/// Why ranks do not go on together.
#[derive(Debug, thiserror::Error)]
pub enum Disagreement<E> {
    /// This rank failed.
    #[error(transparent)]
    Own(E),
    #[error(transparent)]
    Other(#[from] OtherRank),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Another rank failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{who}: {message}")]
pub struct OtherRank {
    /// Its number, process and machine.
    pub who: String,
    /// Its words.
    pub message: String,
}

impl Ranks {
    /// The only rank.
    pub fn alone() -> Self {
        Self::default()
    }

    pub fn of(team: Team) -> Self {
        Self(Comm::of(team))
    }

    pub fn place(&self) -> Place {
        self.0.place()
    }

    /// Whether this is rank 0, which alone writes files and prints.
    pub fn is_first(&self) -> bool {
        self.0.is_first()
    }

    /// The ranks with their exchanges; `None` if this is the only one.
    pub fn team(&self) -> Option<&Team> {
        self.0.team()
    }

    /// This rank's value, if every rank has one; so all go on, or none.
    ///
    /// # Errors
    /// If a rank failed, this one or another, or is lost.
    pub fn agree<T, E: Error + 'static>(&self, own: Result<T, E>) -> Result<T, Disagreement<E>> {
        self.agree_by(own, |error| with_causes(error))
    }

    /// The same with the words for this rank's error.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub fn agree_by<T, E>(
        &self,
        own: Result<T, E>,
        words: impl Fn(&E) -> String,
    ) -> Result<T, Disagreement<E>> {
        let failed = own.as_ref().err().map(words);
        let failure = settle(&self.0, failed)?;
        match (own, failure) {
            (Err(error), _) => Err(Disagreement::Own(error)),
            (Ok(_), Some(other)) => Err(Disagreement::Other(other)),
            (Ok(value), None) => Ok(value),
        }
    }
}

/// The first rank that failed, if any did.
/// - failed: this rank's words.
///
/// # Errors
/// If a rank is lost.
pub(crate) fn settle(comm: &Comm, failed: Option<String>) -> Result<Option<OtherRank>, Lost> {
    let all = comm.gather("the ranks to agree", to_word(failed))?;
    Ok(first_failure(comm, &all))
}

/// The same after rank 0 has written a checkpoint, for which the others wait also after a signal to stop.
///
/// # Errors
/// If a rank is lost.
pub(crate) fn settle_saved(comm: &Comm, failed: Option<String>) -> Result<Option<OtherRank>, Lost> {
    let all = comm.gather_patiently("rank 0's checkpoint", to_word(failed))?;
    Ok(first_failure(comm, &all))
}

/// What a rank sends: nothing if all is well.
fn to_word(failed: Option<String>) -> Vec<u8> {
    failed.map_or_else(Vec::new, |words| [&[1], words.as_bytes()].concat())
}

fn first_failure(comm: &Comm, all: &[Vec<u8>]) -> Option<OtherRank> {
    let failures = all
        .iter()
        .enumerate()
        .filter(|(_, words)| !words.is_empty());
    let mut failures = failures.map(|(rank, words)| {
        let message = String::from_utf8_lossy(&words[1..]).into_owned();
        other_rank(comm, rank, message)
    });
    failures.next()
}

pub(crate) fn other_rank(comm: &Comm, rank: usize, message: String) -> OtherRank {
    let peer = comm.team().and_then(|team| team.peers().get(rank));
    let who = peer.map_or_else(|| format!("rank {rank}"), ToString::to_string);
    OtherRank { who, message }
}
