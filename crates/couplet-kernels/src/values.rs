//! Tensors of the CPU backend as slices.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use burn::tensor::{Bytes, DType, Element, Shape, bf16};
use burn_flex::{FlexTensor, Layout};

use crate::vectors::wide;

/// Values that one task of an elementwise operation computes.
pub(crate) const CHUNK: usize = 1 << 14;

/// What kernels read and write. They compute in f32.
pub(crate) trait Value: Element + bytemuck::Pod + Default {
    const DTYPE: DType;

    fn wide(self) -> f32;

    /// Rounds to the nearest value, halves to even.
    fn narrow(value: f32) -> Self;

    fn values(values: &[Self]) -> Values<'_>;

    /// The values themselves, if they are f32.
    fn as_wide(values: &mut [Self]) -> Option<&mut [f32]>;

    /// Memory for values, if they are f32.
    fn as_wide_memory(memory: &mut [MaybeUninit<Self>]) -> Option<&mut [MaybeUninit<f32>]>;

    /// The values themselves, if this is f32.
    fn same(values: &[f32]) -> Option<&[Self]>;

    /// Rounded values.
    /// - spare: where they may be.
    fn narrowed<'a>(values: &'a [f32], spare: &'a mut Vec<Self>) -> &'a [Self];
}

impl Value for f32 {
    const DTYPE: DType = DType::F32;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> f32 {
        value
    }

    fn values(values: &[f32]) -> Values<'_> {
        Values::Wide(values)
    }

    fn as_wide(values: &mut [f32]) -> Option<&mut [f32]> {
        Some(values)
    }

    fn as_wide_memory(memory: &mut [MaybeUninit<f32>]) -> Option<&mut [MaybeUninit<f32>]> {
        Some(memory)
    }

    fn same(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }

    fn narrowed<'a>(values: &'a [f32], _: &'a mut Vec<f32>) -> &'a [f32] {
        values
    }
}

impl Value for bf16 {
    const DTYPE: DType = DType::BF16;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        // Rounded, a NaN could become infinite.
        let bits = if value.is_nan() {
            bits | 0x40_0000
        } else {
            rounded
        };
        bf16::from_bits((bits >> 16) as u16)
    }

    fn values(values: &[bf16]) -> Values<'_> {
        Values::Narrow(values)
    }

    fn as_wide(_: &mut [bf16]) -> Option<&mut [f32]> {
        None
    }

    fn as_wide_memory(_: &mut [MaybeUninit<bf16>]) -> Option<&mut [MaybeUninit<f32>]> {
        None
    }

    fn same(_: &[f32]) -> Option<&[bf16]> {
        None
    }

    fn narrowed<'a>(values: &'a [f32], spare: &'a mut Vec<bf16>) -> &'a [bf16] {
        spare.resize(values.len(), bf16::ZERO);
        wide(
            #[inline(always)]
            || {
                for (to, from) in spare.iter_mut().zip(values) {
                    *to = Value::narrow(*from);
                }
            },
        );
        spare
    }
}

/// Values of either dtype.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    Wide(&'a [f32]),
    Narrow(&'a [bf16]),
}

impl Values<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Wide(values) => values.len(),
            Self::Narrow(values) => values.len(),
        }
    }

    /// Those from `start` on.
    #[cfg(target_arch = "x86_64")]
    pub fn after(self, start: usize) -> Self {
        match self {
            Self::Wide(values) => Self::Wide(&values[start..]),
            Self::Narrow(values) => Self::Narrow(&values[start..]),
        }
    }
}

/// A contiguous tensor.
#[derive(Debug, Clone)]
pub(crate) struct Dense<E = f32> {
    tensor: FlexTensor,
    start: usize,
    len: usize,
    values: PhantomData<E>,
}

impl<E: Value> Dense<E> {
    /// Copies the values only if they are not contiguous.
    ///
    /// # Panics
    /// If the tensor has another dtype.
    pub fn new(tensor: FlexTensor) -> Self {
        assert_eq!(tensor.dtype(), E::DTYPE, "the dtype of a kernel");
        let tensor = match tensor.layout().contiguous_offsets() {
            Some(_) => tensor,
            None => tensor.to_contiguous(),
        };
        let (start, end) = (tensor.layout().contiguous_offsets()).expect("a copy is contiguous");
        Self {
            start,
            len: end - start,
            tensor,
            values: PhantomData,
        }
    }

    /// In one dimension.
    pub fn flat(values: Vec<E>) -> Self {
        let len = values.len();
        Self::new(tensor(values, &[len]))
    }

    pub fn values(&self) -> &[E] {
        &self.tensor.storage()[self.start..self.start + self.len]
    }

    pub fn shape(&self) -> &[usize] {
        self.tensor.layout().shape()
    }

    /// The last dimension.
    pub fn width(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    /// Copies the values only if the tensor has other owners.
    pub fn into_values(self) -> Vec<E> {
        let data = self.tensor.into_data();
        data.try_into_vec().expect("the dtype was asked for")
    }
}

/// - values: contiguous, as many as `shape` holds.
pub(crate) fn tensor<E: Value>(values: Vec<E>, shape: &[usize]) -> FlexTensor {
    let shape = Shape::from(shape.to_vec());
    assert_eq!(values.len(), shape.num_elements(), "values of {shape:?}");
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        E::DTYPE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_as_the_standard_says() {
        let mut samples: Vec<f32> = (0..=u16::MAX)
            .flat_map(|high| {
                let bits = u32::from(high) << 16;
                // Exact, just above, just below half, half, just above half, just below the next.
                [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| f32::from_bits(bits | low))
            })
            .collect();
        samples.push(f32::MAX);
        for value in samples {
            let (ours, theirs) = (<bf16 as Value>::narrow(value), bf16::from_f32(value));
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{value:e}"
            );
            assert!(ours.is_nan() || Value::wide(ours) == ours.to_f32());
        }
    }
}
