//! Pages that show training runs. They take what is in a run's folder and give HTML.

mod find;
mod findings;
mod list;
mod page;
mod pictures;
mod report;
mod run;

pub use find::find_runs;
pub use findings::{Findings, Looked, Stored, findings_folder};
pub use list::RunList;
pub use page::ELEMENTS;
pub use pictures::jpeg_within;
pub use report::Report;
pub use run::{BestValue, Curve, ReadError, Run, State, Summary, evaluations};
