//! Where a rank stands among the others.

use std::fmt;

/// A rank's place among all ranks and among those of its machine. Both are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    pub ranks: usize,
    /// Among the ranks of the same machine.
    pub local_rank: usize,
    pub local_ranks: usize,
    /// The machine's name.
    pub host: String,
}

impl Place {
    /// The only rank of a run.
    pub fn alone() -> Self {
        Self {
            rank: 0,
            ranks: 1,
            local_rank: 0,
            local_ranks: 1,
            host: String::new(),
        }
    }

    /// Whether this is rank 0, which alone writes files and looks at the clock.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} on {}", self.rank, self.host)
    }
}
