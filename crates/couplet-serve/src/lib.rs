//! A server for this machine: live pages of training runs, and a model that answers.
//!
//! It is made for one's own browser and programs: it listens on a loopback address unless told otherwise, no page of another
//! origin can use it (`guard.rs`), and whatever a request can make it do is bounded in bytes, pixels, time and number.

mod api_error;
mod guard;
mod listen;
mod model;
mod watch;

pub use listen::{ListenError, Listening, Routes, listen};
pub use model::{Limits, Served, model_routes};
pub use watch::{Watched, watch_routes};
