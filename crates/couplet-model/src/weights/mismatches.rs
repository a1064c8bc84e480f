//! The differences between the tensors of a file and those of a model.

use std::path::Path;

use super::error::WeightsError;

/// So many of each kind are listed.
const LISTED: usize = 20;

/// All differences, by kind.
#[derive(Debug, Default)]
pub(crate) struct Mismatches {
    misshapen: Vec<String>,
    missing: Vec<String>,
    surplus: Vec<String>,
}

impl Mismatches {
    /// A tensor that has another shape.
    pub fn misshapen(&mut self, name: &str, found: &[usize], expected: &[usize]) {
        let text = format!("{name}: {found:?} in the file, {expected:?} in the model");
        self.misshapen.push(text);
    }

    /// A tensor that the file does not have.
    pub fn missing(&mut self, name: &str) {
        self.missing.push(format!("{name}: missing from the file"));
    }

    /// A tensor that the model does not have.
    pub fn surplus(&mut self, name: &str) {
        let text = format!("{name}: the model has no such tensor");
        self.surplus.push(text);
    }

    /// - path: the file's.
    ///
    /// # Errors
    /// If there is a difference; of each kind, the first ones are listed and all are counted.
    pub fn check(self, path: &Path) -> Result<(), WeightsError> {
        let kinds = [
            (self.misshapen, "of another shape"),
            (self.missing, "missing"),
            (self.surplus, "that the model does not have"),
        ];
        let mut list = Vec::new();
        for (mut lines, kind) in kinds {
            let more = lines.len().saturating_sub(LISTED);
            lines.truncate(LISTED);
            list.extend(lines);
            if more > 0 {
                list.push(format!("and {more} more {kind}"));
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        Err(WeightsError::Mismatch {
            path: path.to_path_buf(),
            list,
        })
    }
}
