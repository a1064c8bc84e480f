//! What the checks share: the mistakes found so far, and what hangs on them.

use std::path::Path;

use couplet_data::with_causes;
use couplet_eval::DatasetError;

use super::super::collect::is_within;
use super::super::dataset_file::dataset_mistakes;
use super::super::given::Given;
use super::super::issue::{ConfigError, ConfigIssue};

/// Whether the config's device must be available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceCheck {
    /// The device must be available on this machine.
    Local,
    /// The run is for another machine: its device is not checked.
    Skip,
}

/// That something is wrong, which is noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted;

/// Checks of values, each of which leaves out what hangs on a key that is wrong already.
pub(in super::super) struct Check<'a> {
    /// Keys that are wrong, or are not as the file has them.
    pub(super) broken: Vec<String>,
    /// Those of them of which nothing can be said.
    doubtful: usize,
    /// Replaces the folders of dataset files as the start of the paths in them.
    pub(super) data_root: Option<&'a Path>,
    issues: &'a mut Vec<ConfigIssue>,
    /// What a program gives by value.
    pub(super) given: Given,
}

impl<'a> Check<'a> {
    /// - doubtful: keys whose values are not those of the file.
    /// - data_root: replaces the folders of dataset files as the start of the paths in them.
    pub(in super::super) fn new(
        doubtful: Vec<String>,
        data_root: Option<&'a Path>,
        issues: &'a mut Vec<ConfigIssue>,
    ) -> Self {
        Self {
            doubtful: doubtful.len(),
            broken: doubtful,
            data_root,
            issues,
            given: Given::default(),
        }
    }

    pub(super) fn fail(&mut self, key: &str, message: impl std::fmt::Display) {
        let mut doubtful = self.broken[..self.doubtful].iter();
        let issue = ConfigIssue::new(key, message);
        if !doubtful.any(|known| is_within(key, known)) && !self.issues.contains(&issue) {
            self.broken.push(key.to_string());
            self.issues.push(issue);
        }
    }

    /// Notes what is wrong with a dataset: the mistakes in its file or, of its data, the key that names it.
    pub(super) fn fail_dataset(&mut self, key: &str, error: &DatasetError) {
        match dataset_mistakes(error) {
            Some(ConfigError::Problems { problems, .. }) => {
                self.broken.push(key.to_string());
                for issue in problems {
                    if !self.issues.contains(&issue) {
                        self.issues.push(issue);
                    }
                }
            }
            _ => self.fail(key, with_causes(error)),
        }
    }

    /// Whether something is wrong with a key, in it, or with a table that it is in.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        let mut broken = self.broken.iter();
        broken.any(|known| is_within(key, known) || is_within(known, key))
    }

    /// Whether nothing can be said of a key.
    pub(super) fn is_doubtful(&self, key: &str) -> bool {
        let mut doubtful = self.broken[..self.doubtful].iter();
        doubtful.any(|known| is_within(key, known) || is_within(known, key))
    }

    pub(super) fn any_broken(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.is_broken(key))
    }
}
