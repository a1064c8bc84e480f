//! Names of the folders and files of splits, the preferred ones first.

pub(crate) const TRAIN: [&str; 2] = ["train", "training"];
pub(crate) const VAL: [&str; 4] = ["val", "validation", "valid", "dev"];
pub(crate) const TEST: [&str; 1] = ["test"];

/// Whether a folder's name is that of a split.
pub(crate) fn is_split(name: &str) -> bool {
    TRAIN
        .iter()
        .chain(&VAL)
        .chain(&TEST)
        .any(|own| name == *own)
}
