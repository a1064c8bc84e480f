//! The model's weights by name, and which of them the graphs have taken.

use std::cell::RefCell;
use std::collections::BTreeSet;

use couplet_model::weights::NamedTensors;

use crate::error::OnnxError;

/// Weights that no graph computes with: a classifier is no part of the towers.
const HEAD: &str = "head.";

/// A model's weights under open_clip's names.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    tensors: &'a NamedTensors,
    taken: RefCell<BTreeSet<String>>,
}

impl<'a> Weights<'a> {
    pub fn new(tensors: &'a NamedTensors) -> Self {
        Self {
            tensors,
            taken: RefCell::default(),
        }
    }

    /// The values of a tensor of this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&'a [f32], OnnxError> {
        let tensor = self.tensors.get(name).ok_or_else(|| OnnxError::Missing {
            name: name.to_string(),
        })?;
        if tensor.shape != shape {
            return Err(OnnxError::Shape {
                name: name.to_string(),
                found: tensor.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        self.taken.borrow_mut().insert(name.to_string());
        Ok(&tensor.values)
    }

    /// The value of a scalar, if there is one of this name.
    pub fn scalar(&self, name: &str) -> Option<f32> {
        let value = *self.tensors.get(name)?.values.first()?;
        self.taken.borrow_mut().insert(name.to_string());
        Some(value)
    }

    /// Fails if there are weights that were not taken: a graph without them would compute something else.
    pub fn check_all_taken(&self) -> Result<(), OnnxError> {
        let taken = self.taken.borrow();
        let rest = self.tensors.keys().filter(|name| !taken.contains(*name));
        let names: Vec<String> = rest
            .filter(|name| !name.starts_with(HEAD))
            .cloned()
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(OnnxError::Unused { names })
        }
    }
}
