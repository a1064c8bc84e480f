//! Half-precision copies of weights, which are the same in all passes of a step.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::shares::{Shares, VECTORS, most_tensors};
use super::{UNITS, elem, empty, grid, reshaped, vector_size};

#[cube(launch)]
fn narrow<F: Float, N: Size>(
    wide: &Sequence<Box<[Vector<f32, N>]>>,
    narrow: &mut Sequence<Box<[Vector<F, N>]>>,
    ends: &Sequence<u32>,
    lens: &Sequence<u32>,
    #[comptime] count: usize,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut begin = 0u32;
    #[unroll]
    for at in 0..count {
        let end = ends[at];
        if cube >= begin && cube < end {
            let from = &wide[at];
            let to = &mut narrow[at];
            let first = (cube - begin) as usize * comptime!(VECTORS) + UNIT_POS as usize;
            let last = min(first + comptime!(VECTORS), lens[at] as usize);
            for vector in range_stepped(first, last, CUBE_DIM as usize) {
                to[vector] = Vector::cast_from(from[vector]);
            }
        }
        begin = end;
    }
}

/// A weight and its copy. As long as the weight is held here, nothing writes into its memory.
struct Copied {
    wide: CubeTensor,
    narrow: CubeTensor,
}

/// A weight's memory, the bytes before and after it there, and the copy's dtype.
type Key = (usize, [u64; 2], DType);

type Copies = HashMap<Key, Copied>;

static COPIES: LazyLock<Mutex<Copies>> = LazyLock::new(Mutex::default);

fn key(wide: &CubeTensor, dtype: DType) -> Option<Key> {
    let handle = &wide.handle;
    let id = handle.memory.clone().binding().id().value;
    let around = [handle.offset_start, handle.offset_end].map(Option::unwrap_or_default);
    (wide.dtype == DType::F32 && wide.is_contiguous()).then_some((id, around, dtype))
}

/// The copy of a weight, if there is one.
pub(crate) fn narrowed(wide: &CubeTensor, dtype: DType) -> Option<CubeTensor> {
    let key = key(wide, dtype)?;
    let copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    let narrow = &copies.get(&key)?.narrow;
    Some(reshaped(narrow, wide.meta.shape().clone()))
}

/// Copies weights of one device; those that are not f32 and contiguous are left out.
pub(crate) fn narrow_all(weights: &[CubeTensor], dtype: DType) {
    let known = |weight: &&CubeTensor| key(weight, dtype).is_some();
    let weights: Vec<&CubeTensor> = weights.iter().filter(known).collect();
    let Some(like) = weights.first() else {
        return;
    };
    let alignment = usize::try_from(like.client.properties().memory.alignment);
    let alignment = alignment.expect("an alignment is small").max(16);
    let bytes = |weight: &CubeTensor| {
        (weight.meta.num_elements() * dtype.size()).next_multiple_of(alignment)
    };
    let total: usize = weights.iter().map(|weight| bytes(weight)).sum();
    if total as u64 > like.client.properties().memory.max_page_size {
        // No device has that in one piece; each layer casts its own.
        return;
    }
    let memory = empty(like, [total / dtype.size()], dtype);
    let mut offset = 0;
    let copies: Vec<Copied> = (weights.iter())
        .map(|weight| {
            let (begin, len) = (offset, weight.meta.num_elements());
            offset += bytes(weight);
            let end = begin + len * dtype.size();
            let handle = memory.handle.clone().offset_start(begin as u64);
            let handle = handle.offset_end((total - end) as u64);
            let (client, device) = (memory.client.clone(), memory.device.clone());
            let narrow = CubeTensor::new_contiguous(client, device, [len].into(), handle, dtype);
            Copied {
                wide: (*weight).clone(),
                narrow,
            }
        })
        .collect();
    let vector = |copied: &Copied| {
        let len = copied.narrow.meta.num_elements();
        vector_size(&like.client, &[dtype], len)
    };
    for alike in copies.chunk_by(|a, b| vector(a) == vector(b)) {
        for part in alike.chunks(most_tensors(&like.client, 2)) {
            let size = vector(&part[0]);
            let shares = Shares::new(part.iter().map(|copied| &copied.narrow), size);
            let weights = part.iter().map(|copied| copied.wide.clone());
            let copies = part.iter().map(|copied| copied.narrow.clone());
            narrow::launch(
                &like.client,
                grid(shares.cubes()),
                CubeDim::new_1d(UNITS),
                size,
                weights.map(CubeTensor::into_buffer_arg).collect(),
                copies.map(CubeTensor::into_buffer_arg).collect(),
                shares.ends.into_iter().collect(),
                shares.lens.into_iter().collect(),
                part.len(),
                elem(dtype),
            );
        }
    }
    let mut all = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(copies.into_iter().filter_map(|copied| {
        let key = key(&copied.wide, dtype)?;
        Some((key, copied))
    }));
}

/// Forgets the copies of these weights.
pub(crate) fn forget(weights: &[CubeTensor], dtype: DType) {
    let mut all = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    for weight in weights {
        if let Some(key) = key(weight, dtype) {
            all.remove(&key);
        }
    }
}
