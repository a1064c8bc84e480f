//! The features of labels, kept for requests that ask with the same ones again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Sets of labels that are kept.
const KEPT: usize = 16;

/// Labels and their templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompts {
    pub labels: Vec<String>,
    pub templates: Vec<String>,
}

/// `[labels][embed_dim]`, L2-normalized.
pub(super) type Weights = Arc<Vec<Vec<f32>>>;

#[derive(Debug, Default)]
pub(super) struct Classifiers(Mutex<VecDeque<(Prompts, Weights)>>);

impl Classifiers {
    pub fn find(&self, prompts: &Prompts) -> Option<Weights> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, weights) = kept.iter().find(|(own, _)| own == prompts)?;
        Some(weights.clone())
    }

    pub fn keep(&self, prompts: Prompts, weights: Weights) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().all(|(own, _)| *own != prompts) {
            kept.push_front((prompts, weights));
            kept.truncate(KEPT);
        }
    }
}
