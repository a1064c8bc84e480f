//! Pages that show training runs. They take numbers from a run's folder and give HTML; no tensor is in here.

mod page;
mod report;
mod run;

pub use report::Report;
pub use run::{BestValue, ReadError, Run, State, Summary};
