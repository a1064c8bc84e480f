//! The ranks of a run, and exchanges of bytes between them.
//!
//! A [`Team`] is a rank's view of all ranks. Its exchanges run in order on a thread of their own, the
//! conductor, while the rank computes. Every exchange ends: with its result, or with [`Lost`] if a rank
//! died, left or did not come in time. What carries the bytes is a [`Wire`]: threads of one process in
//! tests, MPI in a run.

mod launch;
mod lost;
mod messages;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(any(feature = "nccl", test))]
#[cfg_attr(not(feature = "nccl"), allow(dead_code, reason = "tests use a part"))]
mod nccl;
mod patience;
mod peers;
#[cfg(any(feature = "mpi", test))]
mod pieces;
mod place;
#[cfg(feature = "mpi")]
mod roll_call;
mod sum;
mod team;
mod threads;
mod wire;

pub use launch::{LaunchError, Launched, launch, launched, library};
pub use lost::{Cause, Lost, Missing};
#[cfg(feature = "mpi")]
pub use mpi::{Mpi, MpiError};
#[cfg(feature = "nccl")]
pub use nccl::{Exchanged, Floats, Nccl, NcclError, NcclStartError, find_nccl};
pub use patience::Patience;
pub use peers::Peer;
pub use place::Place;
pub use team::{Pending, StartError, Team};
pub use threads::{Fault, ThreadWire, Trouble};
pub use wire::{Exchange, Wait, Wire};
