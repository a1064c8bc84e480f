//! Uploads of a folder as one commit, by the protocol of huggingface_hub's `upload_folder`.

mod commit;
mod folder;
mod large;
mod options;
mod repository;
mod run;

pub use options::{PushOptions, Pushed};
pub(crate) use run::push;
