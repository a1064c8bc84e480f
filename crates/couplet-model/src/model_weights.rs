//! The weights of a model of known architecture: held against it before a value is read.

use std::collections::BTreeSet;

use crate::files::FolderError;
use crate::hugging_face;
use crate::open_clip;
use crate::positions::is_grid;
use crate::spec::ModelSpec;
use crate::tensors::{NamedTensors, StoredAs};
use crate::weights::{Mismatches, Naming, StoredModel, TEXT_POSITIONS, WeightsError, check_finite};

/// Position embeddings of another size than the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// Must have the model's size.
    Exact,
    /// May have any size: they are resized afterwards.
    Resizable,
}

/// Where the naming keeps the tensor with this name of ours.
fn stored_as(naming: Naming, spec: &ModelSpec, name: &str) -> StoredAs {
    match naming {
        Naming::OpenClip => open_clip::stored_as(spec, name),
        Naming::HuggingFace => hugging_face::stored_as(spec, name),
    }
}

/// Holds the names and shapes of all tensors against the architecture.
///
/// # Errors
/// If tensors are missing, superfluous or of the wrong shape; all of them are listed under their
/// names in the file.
pub(crate) fn check_shapes(
    stored: &StoredModel,
    spec: &ModelSpec,
    positions: Positions,
) -> Result<(), FolderError> {
    let resizable = [
        Some(spec.image.positions_name()),
        spec.text.is_clip().then_some(TEXT_POSITIONS),
    ];
    let before = Some(spec.image.positions_before_grid());
    let mut mismatches = Mismatches::default();
    let mut expected = BTreeSet::new();
    for (name, shape) in spec.parameter_shapes() {
        let may_differ = positions == Positions::Resizable && resizable.contains(&Some(&name));
        for (in_file, shape) in stored_as(stored.naming, spec, &name).shapes(&shape) {
            let Some(tensor) = stored.tensors.get(&in_file) else {
                mismatches.missing(&in_file);
                continue;
            };
            let is_scalar = tensor.shape.is_empty() && shape == [1];
            let is_resized = may_differ
                && can_resize(
                    &tensor.shape,
                    &shape,
                    before.filter(|_| name != TEXT_POSITIONS),
                );
            if tensor.shape != shape && !is_scalar && !is_resized {
                mismatches.misshapen(&in_file, &tensor.shape, &shape);
            }
            expected.insert(in_file);
        }
    }
    for name in stored.tensors.keys() {
        if !expected.contains(name) {
            mismatches.surplus(name);
        }
    }
    Ok(mismatches.check(&stored.path)?)
}

/// Whether position embeddings of shape `from` can be resized to shape `to`. Some layouts have axes of size 1 before
/// theirs.
/// - before: of an image tower, the positions before its grid's.
fn can_resize(from: &[usize], to: &[usize], before: Option<usize>) -> bool {
    match (from, to) {
        ([before_rows @ .., rows, width], [before_expected @ .., _, expected]) => {
            before_rows == before_expected
                && width == expected
                && (1..=ModelSpec::MAX_POSITIONS).contains(rows)
                && before.is_none_or(|before| is_grid(*rows, before))
        }
        _ => false,
    }
}

/// Reads all tensors of the architecture under open_clip's names.
///
/// # Errors
/// As [`check_shapes`]; if a tensor cannot be read; if a value is not finite.
pub(crate) fn read(
    stored: &StoredModel,
    spec: &ModelSpec,
    positions: Positions,
) -> Result<NamedTensors, FolderError> {
    check_shapes(stored, spec, positions)?;
    let read = |in_file: &str| {
        let tensor = stored.tensors.get(in_file).ok_or(WeightsError::Mismatch {
            path: stored.path.clone(),
            list: vec![format!("{in_file}: missing from the file")],
        })?;
        tensor.read().map_err(|source| WeightsError::Tensor {
            path: stored.path.clone(),
            name: in_file.to_string(),
            source,
        })
    };
    // One after the other, so that what a tensor needs besides its values is in memory once: its pieces are read in parallel.
    let tensors = spec.parameter_shapes().into_iter().map(|(name, _)| {
        let tensor = stored_as(stored.naming, spec, &name).join(read)?;
        Ok((name, tensor))
    });
    let tensors = tensors.collect::<Result<NamedTensors, WeightsError>>()?;
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    check_finite(&stored.path, named)?;
    Ok(tensors)
}
