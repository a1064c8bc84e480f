//! What rank 0 gives the other ranks at the start, and the check that all models are equal.

use std::collections::HashMap;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use couplet_model::weights::{HostTensor, NamedTensors};
use couplet_model::{Clip, ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};
use couplet_ranks::Lost;
use serde::{Deserialize, Serialize};

use crate::comm::Comm;
use crate::optimizer::ModelOptimizer;

/// Gives every rank the parameters of rank 0's model, which has the same architecture.
///
/// # Errors
/// If a rank is lost.
pub(super) fn share_model(model: Clip, comm: &Comm) -> Result<Clip, Lost> {
    struct Fill<'a>(&'a [f32]);
    impl ParameterMapper for Fill<'_> {
        fn map<const D: usize>(
            &mut self,
            _name: &str,
            param: Param<Tensor<D>>,
        ) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let shape = tensor.dims();
                let (own, rest) = self.0.split_at(shape.iter().product());
                self.0 = rest;
                let is_trained = tensor.is_require_grad();
                let device = tensor.device();
                Tensor::from_data(TensorData::new(own.to_vec(), shape), &device)
                    .set_require_grad(is_trained)
            })
        }
    }
    if comm.is_alone() {
        return Ok(model);
    }
    let own = if comm.is_first() {
        values(&model)
            .into_iter()
            .flat_map(|(_, values)| values)
            .collect()
    } else {
        Vec::new()
    };
    let all = comm.floats_of_first("the weights", own)?;
    Ok(map_parameters(model, &mut Fill(&all)))
}

/// Every parameter's values, in the order of the model.
fn values(model: &Clip) -> Vec<(String, Vec<f32>)> {
    struct Collect(Vec<(String, Vec<f32>)>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let host = HostTensor::from_tensor(param.val());
            self.0.push((name.to_string(), host.values));
        }
    }
    let mut collect = Collect(Vec::new());
    visit_parameters(model, &mut collect);
    collect.0
}

/// What the optimiser's moments are, without their values.
#[derive(Serialize, Deserialize)]
struct Moments {
    times: HashMap<String, usize>,
    shapes: Vec<(String, Vec<usize>)>,
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
    if comm.is_alone() {
        return Ok(());
    }
    let (mut header, mut own) = (Vec::new(), Vec::new());
    if comm.is_first() {
        let (tensors, times) = optimizer.save(model);
        let shapes = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shape.clone()));
        let moments = Moments {
            times,
            shapes: shapes.collect(),
        };
        header = serde_json::to_vec(&moments).expect("names and shapes serialise");
        own = tensors
            .into_values()
            .flat_map(|tensor| tensor.values)
            .collect();
    }
    let header = comm.of_first("the optimiser's moments", header)?;
    let all = comm.floats_of_first("the optimiser's moments", own)?;
    if comm.is_first() {
        return Ok(());
    }
    let moments: Moments = serde_json::from_slice(&header).expect("rank 0 sent it");
    let mut rest = &all[..];
    let mut tensors = NamedTensors::new();
    for (name, shape) in moments.shapes {
        let (values, later) = rest.split_at(shape.iter().product());
        rest = later;
        let values = values.to_vec();
        tensors.insert(name, HostTensor { shape, values });
    }
    let loaded = optimizer.load(model, tensors, &moments.times);
    loaded.expect("the ranks train the same parameters");
    Ok(())
}

/// The first rank and parameter that differ from rank 0's.
///
/// # Errors
/// If a rank is lost.
pub(super) fn first_difference(model: &Clip, comm: &Comm) -> Result<Option<(usize, String)>, Lost> {
    if comm.is_alone() {
        return Ok(None);
    }
    let parameters = values(model);
    let digests = parameters
        .iter()
        .flat_map(|(_, values)| crc32c::crc32c(bytemuck::cast_slice(values)).to_le_bytes());
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
