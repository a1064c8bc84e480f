//! What rank 0 gives the other ranks at the start, and the check that all models are equal.

use std::collections::HashMap;
use std::path::Path;

use couplet_model::Clip;
use couplet_model::weights::{HostTensor, NamedTensors, fill, parameters};
use couplet_ranks::Lost;

use crate::comm::Comm;
use crate::optimizer::ModelOptimizer;

/// Gives every rank the parameters of rank 0's model, which has the same architecture.
///
/// # Errors
/// If a rank is lost.
pub(super) fn share_model(model: Clip, comm: &Comm) -> Result<Clip, Lost> {
    if comm.is_first() {
        share_tensors("the weights", || parameters(&model), comm)?;
        return Ok(model);
    }
    let tensors = share_tensors("the weights", NamedTensors::new, comm)?;
    let filled = fill(model, tensors, Path::new("rank 0"));
    Ok(filled.expect("the ranks have the same architecture"))
}

/// Gives every rank the moments of rank 0's optimiser.
/// - model: the same on every rank.
///
/// # Errors
/// If a rank is lost.
pub(super) fn share_moments(
    optimizer: &mut ModelOptimizer,
    model: &Clip,
    comm: &Comm,
) -> Result<(), Lost> {
    const WHAT: &str = "the optimiser's moments";
    if comm.is_alone() {
        return Ok(());
    }
    let (own, times) = if comm.is_first() {
        optimizer.save(model)
    } else {
        Default::default()
    };
    let times = comm.of_first(WHAT, serde_json::to_vec(&times).expect("counts serialise"))?;
    let tensors = share_tensors(WHAT, || own, comm)?;
    if comm.is_first() {
        return Ok(());
    }
    let times: HashMap<String, usize> = serde_json::from_slice(&times).expect("rank 0 sent them");
    let loaded = optimizer.load(model, tensors, &times);
    loaded.expect("the ranks train the same parameters");
    Ok(())
}

/// The tensors of rank 0; that rank itself gets none back.
/// - own: those of rank 0, called only if there are others.
fn share_tensors(
    what: &'static str,
    own: impl FnOnce() -> NamedTensors,
    comm: &Comm,
) -> Result<NamedTensors, Lost> {
    if comm.is_alone() {
        return Ok(NamedTensors::new());
    }
    let own = own();
    let shapes: Vec<_> = (own.iter())
        .map(|(name, tensor)| (name, &tensor.shape))
        .collect();
    let shapes = serde_json::to_vec(&shapes).expect("names and shapes serialise");
    let shapes = comm.of_first(what, shapes)?;
    let values = own.into_values().flat_map(|tensor| tensor.values);
    let all = comm.floats_of_first(what, values.collect())?;
    if comm.is_first() {
        return Ok(NamedTensors::new());
    }
    let shapes: Vec<(String, Vec<usize>)> =
        serde_json::from_slice(&shapes).expect("rank 0 sent them");
    let mut rest = &all[..];
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let (values, later) = rest.split_at(shape.iter().product());
        rest = later;
        let values = values.to_vec();
        (name, HostTensor { shape, values })
    };
    Ok(shapes.into_iter().map(tensor).collect())
}

/// The first rank and parameter that differ from rank 0's.
///
/// # Errors
/// If a rank is lost.
pub(super) fn first_difference(model: &Clip, comm: &Comm) -> Result<Option<(usize, String)>, Lost> {
    if comm.is_alone() {
        return Ok(None);
    }
    let parameters = parameters(model);
    let digests = parameters
        .values()
        .flat_map(|tensor| crc32c::crc32c(bytemuck::cast_slice(&tensor.values)).to_le_bytes());
    let all = comm.gather("the models' digests", digests.collect())?;
    for (rank, digests) in all.iter().enumerate() {
        let pairs = digests.chunks_exact(4).zip(all[0].chunks_exact(4));
        let differing = pairs
            .zip(&parameters)
            .find(|((own, first), _)| own != first);
        if let Some((_, (name, _))) = differing {
            return Ok(Some((rank, name.clone())));
        }
    }
    Ok(None)
}
