//! Kernels for GPUs, where operations composed of Burn's read and write too much or start too many kernels. Each is
//! written once for all of CubeCL's backends, and computes in f32.
#![allow(
    clippy::used_underscore_binding,
    clippy::unnecessary_cast,
    clippy::too_many_arguments,
    clippy::ignored_unit_patterns,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "of kernels, which CubeCL's macro reads"
)]

mod add;
mod attention;
mod batch_norm;
mod conv;
#[cfg(feature = "cuda")]
mod cublas;
mod gelu;
mod layer_norm;
#[cfg(feature = "cuda")]
mod layout;
mod narrowed;
mod product;
mod shares;
mod softmax;
mod sums;
mod update;

use std::any::Any;

use burn::backend::{Cube, DispatchTensorKind, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::ir::features::Plane;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;

use crate::graph::{from_primitive, into_primitive, is_autodiff};

pub(crate) use add::{add, rectified_gradient};
pub(crate) use attention::{Saved as SavedAttention, self_attention, self_attention_gradient};
pub(crate) use batch_norm::{Saved as SavedBatchNorm, batch_norm};
pub(crate) use conv::{conv, conv_gradients, fits as conv_fits};
#[cfg(feature = "cuda")]
pub(crate) use cublas::{free_memory, is_there as has_cublas};
pub(crate) use gelu::{gelu, gelu_gradient};
pub(crate) use layer_norm::{layer_norm, layer_norm_gradients};
pub(crate) use narrowed::{forget, narrow_all, narrowed};
pub(crate) use product::{multiply, multiply_onto};
pub(crate) use softmax::{softmax, softmax_gradient};
pub(crate) use sums::sum_of_rows;
pub(crate) use update::{State, adamw, clip, sum_of_squares};

/// Units of a cube where nothing else decides.
const UNITS: u32 = 256;
/// The most cubes along one dimension of a grid.
const MOST_CUBES: usize = 65_535;

/// The tensor, contiguous in memory, if it is a float on a GPU whose operations run at once.
/// - tensor: without a graph.
pub(crate) fn on_cube<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    plain(tensor).map(into_contiguous)
}

/// The same with the strides that it has.
pub(crate) fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    let tensor = tensor.clone().into_dispatch();
    let is_known = matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16);
    if !is_known || is_autodiff(&tensor) || !matches!(tensor.kind, DispatchTensorKind::Cube(_)) {
        return None;
    }
    let tensor: Box<dyn Any> = Box::new(into_primitive::<Cube>(tensor));
    // With Burn's fusion, tensors are promises.
    tensor.downcast().ok().map(|tensor| *tensor)
}

/// The tensor, which nothing else reads and whose memory is dense, so that it can be written.
pub(crate) fn owned<const D: usize>(tensor: Tensor<D>) -> Option<CubeTensor> {
    let found = plain(&tensor)?;
    drop(tensor);
    let dense = into_contiguous(found);
    if dense.can_mut() {
        return Some(dense);
    }
    // A copy may have gaps between rows.
    Some(into_contiguous(dense.copy()))
}

/// The inverse of [`plain`].
pub(crate) fn tensor<const D: usize>(tensor: CubeTensor) -> Tensor<D> {
    let tensor: Box<dyn Any> = Box::new(tensor);
    let tensor = tensor.downcast().expect("it was made from one of its kind");
    Tensor::from_dispatch(from_primitive::<Cube>(*tensor))
}

/// Memory of the same device for `shape`, contiguous.
fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// The same memory with another shape and other strides.
fn laid_out<const D: usize>(
    tensor: &CubeTensor,
    shape: [usize; D],
    strides: [usize; D],
) -> CubeTensor {
    let meta = Metadata::new(shape, strides);
    let tensor = tensor.clone();
    CubeTensor::new(
        tensor.client,
        tensor.handle,
        meta,
        tensor.device,
        tensor.dtype,
    )
}

/// The same memory, which is contiguous, in another shape.
fn reshaped(tensor: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let (tensor, shape) = (tensor.clone(), shape.into());
    CubeTensor::new_contiguous(
        tensor.client,
        tensor.device,
        shape,
        tensor.handle,
        tensor.dtype,
    )
}

/// A contiguous copy in memory that is for such copies only.
pub(crate) fn settled(found: CubeTensor) -> CubeTensor {
    let shape = found.meta.shape().clone();
    // In one dimension, because a copy may have gaps between rows.
    let line = [found.meta.num_elements()];
    let line = reshaped(&into_contiguous(found), line);
    let client = line.client.clone();
    let copy = client.memory_persistent_allocation(line, |line| line.copy());
    reshaped(&copy, shape)
}

fn elem(dtype: DType) -> cubecl::ir::ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// How many values a unit reads at once, of rows of `width` values in the narrowest of `dtypes`: 16 bytes, where the
/// device has vectors of so many values.
fn vector_size(client: &Client, dtypes: &[DType], width: usize) -> usize {
    let narrowest = dtypes.iter().map(DType::size).min();
    client
        .io_optimized_vector_sizes(narrowest.expect("a kernel has a dtype"))
        .find(|size| width.is_multiple_of(*size))
        .unwrap_or(1)
}

/// Kernels count vectors in 32 bits.
fn assert_countable(vectors: usize) {
    let is_countable = u32::try_from(vectors).is_ok();
    assert!(
        is_countable,
        "a tensor of {vectors} vectors is too large for a kernel; take smaller micro-batches"
    );
}

/// A grid of at least `count` cubes.
fn grid(count: usize) -> CubeCount {
    let rows = count.div_ceil(MOST_CUBES).max(1);
    let wide = |count: usize| u32::try_from(count).expect("a grid's sides are below 2^32");
    CubeCount::new_2d(wide(count.div_ceil(rows)), wide(rows))
}

/// How rows of a matrix are shared out: `lanes` units for each, and several rows in a cube.
#[derive(Clone, Copy)]
struct Rows {
    lanes: u32,
    in_cube: u32,
    /// Whether the lanes of a row are in one plane, whose units add up without shared memory.
    are_planes: bool,
}

impl Rows {
    fn new(client: &Client) -> Self {
        Self::of_lanes(client, u32::MAX)
    }

    /// For rows that lanes keep, and of which short ones would leave most of a plane idle.
    fn kept(client: &Client, width: usize) -> Self {
        // For about this many values a lane has registers.
        const KEPT: usize = 48;
        let lanes = width.div_ceil(KEPT).next_power_of_two().max(8);
        Self::of_lanes(client, u32::try_from(lanes).unwrap_or(u32::MAX))
    }

    /// - most: the most lanes of a row, a power of two, or all that a plane has.
    fn of_lanes(client: &Client, most: u32) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let (least, largest) = (hardware.plane_size_min, hardware.plane_size_max);
        let are_planes = least == largest
            && (8..=64).contains(&least)
            && properties.features.plane.contains(Plane::Ops);
        let lanes = if are_planes { least } else { 32 }.min(most);
        let units = UNITS.min(hardware.max_units_per_cube).max(lanes);
        Self {
            lanes,
            in_cube: units / lanes,
            are_planes,
        }
    }

    fn cube(self) -> CubeDim {
        CubeDim::new_2d(self.lanes, self.in_cube)
    }

    /// - vectors: of each row.
    fn grid(self, rows: usize, vectors: usize) -> CubeCount {
        assert_countable(rows * vectors);
        grid(rows.div_ceil(self.in_cube as usize))
    }

    fn shared(self) -> usize {
        if self.are_planes {
            1
        } else {
            (self.lanes * self.in_cube) as usize
        }
    }
}

/// The sum over the lanes of a row, for each of them.
/// - shared: a value for each unit, unless lanes are planes.
#[cube]
fn sum_of_lanes(
    value: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
) -> f32 {
    if comptime!(are_planes) {
        let mut sum = value;
        #[unroll]
        for at in 0..comptime!(lanes.ilog2()) {
            sum += plane_shuffle_xor(sum, comptime!(1u32 << at));
        }
        sum
    } else {
        sync_cube();
        shared[UNIT_POS as usize] = value;
        let mut half = comptime!(lanes / 2).runtime();
        while half > 0 {
            sync_cube();
            if UNIT_POS_X < half {
                let other = shared[(UNIT_POS + half) as usize];
                shared[UNIT_POS as usize] += other;
            }
            half /= 2;
        }
        sync_cube();
        shared[(UNIT_POS_Y * CUBE_DIM_X) as usize]
    }
}

/// As [`sum_of_lanes`], the largest value.
#[cube]
fn max_of_lanes(
    value: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
) -> f32 {
    if comptime!(are_planes) {
        let mut most = value;
        #[unroll]
        for at in 0..comptime!(lanes.ilog2()) {
            most = max(most, plane_shuffle_xor(most, comptime!(1u32 << at)));
        }
        most
    } else {
        sync_cube();
        shared[UNIT_POS as usize] = value;
        let mut half = comptime!(lanes / 2).runtime();
        while half > 0 {
            sync_cube();
            if UNIT_POS_X < half {
                let other = shared[(UNIT_POS + half) as usize];
                let own = shared[UNIT_POS as usize];
                shared[UNIT_POS as usize] = max(own, other);
            }
            half /= 2;
        }
        sync_cube();
        shared[(UNIT_POS_Y * CUBE_DIM_X) as usize]
    }
}

/// The sum of a vector's values.
#[cube]
fn sum_of_vector<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for at in 0..N::value() {
        sum += vector.extract(at);
    }
    sum
}
