//! Tensors in the host's memory, as weights files hold them.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Tensors by name: a weights file in the host's memory.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// An f32 tensor in the host's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// Copies a device tensor to the host.
    ///
    /// # Panics
    /// If the device fails or the tensor is not f32.
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Self {
        Self {
            shape: tensor.dims().to_vec(),
            values: tensor.into_data().try_to_vec().expect("parameters are f32"),
        }
    }

    /// Converts the bytes of a float tensor to f32.
    /// - returns `None` if `bytes` has the wrong length for the shape.
    pub(crate) fn from_bytes(bytes: Vec<u8>, shape: &[usize], dtype: DType) -> Option<Self> {
        let elements = (shape.iter()).try_fold(1usize, |all, size| all.checked_mul(*size))?;
        if Some(bytes.len()) != elements.checked_mul(dtype.size()) {
            return None;
        }
        let data = TensorData::from_bytes_vec(bytes, shape.to_vec(), dtype);
        let values = data.convert::<f32>().try_to_vec().ok()?;
        Some(Self {
            shape: shape.to_vec(),
            values,
        })
    }

    /// The tensor on a device, one row directly after the other.
    ///
    /// # Panics
    /// If the tensor is not of rank `D`.
    pub fn into_tensor<const D: usize>(self, device: &Device) -> Tensor<D> {
        let shape: [usize; D] = self.shape.try_into().expect("the rank is known");
        dense(self.values, shape, device)
    }

    /// The tensor as Burn takes it.
    pub fn into_data(self) -> TensorData {
        TensorData::new(self.values, self.shape)
    }
}

/// A tensor of values, one row directly after the other: GPUs are given gaps between rows that come from the host,
/// which kernels would have to close again.
pub(crate) fn dense<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let flat = [values.len()];
    let values = Tensor::<1>::from_data(TensorData::new(values, flat), device);
    values.reshape(shape)
}

/// How a layout of weights stores one of open_clip's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredAs {
    /// Under this name, as it is.
    Same(String),
    /// Under this name, with rows and columns swapped.
    Transposed(String),
    /// Under this name, with so many axes of size 1 before its own.
    WithLeadingAxes(String, usize),
    /// In parts, which make it up one below the other; each with how many shares of the rows it has.
    Packed(Vec<(String, usize)>),
}

impl StoredAs {
    /// The same behind a prefix.
    pub fn prefixed(self, prefix: &str) -> Self {
        let with = |name: String| format!("{prefix}{name}");
        match self {
            Self::Same(name) => Self::Same(with(name)),
            Self::Transposed(name) => Self::Transposed(with(name)),
            Self::WithLeadingAxes(name, axes) => Self::WithLeadingAxes(with(name), axes),
            Self::Packed(parts) => {
                let parts = parts.into_iter();
                Self::Packed(parts.map(|(name, shares)| (with(name), shares)).collect())
            }
        }
    }

    /// The names and shapes of what is stored.
    /// - shape: of open_clip's tensor.
    pub fn shapes(self, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Same(name) => vec![(name, shape.to_vec())],
            Self::Transposed(name) => vec![(name, shape.iter().rev().copied().collect())],
            Self::WithLeadingAxes(name, axes) => vec![(name, [&vec![1; axes][..], shape].concat())],
            Self::Packed(parts) => {
                let all: usize = parts.iter().map(|(_, shares)| shares).sum();
                let part = |(name, shares)| {
                    let mut part = shape.to_vec();
                    if let Some(rows) = part.first_mut() {
                        *rows = *rows / all * shares;
                    }
                    (name, part)
                };
                parts.into_iter().map(part).collect()
            }
        }
    }

    /// open_clip's tensor from what is stored.
    /// - read: gives the tensor of a name, of the shape that [`Self::shapes`] says.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn join<E>(
        self,
        mut read: impl FnMut(&str) -> Result<HostTensor, E>,
    ) -> Result<HostTensor, E> {
        match self {
            Self::Same(name) => read(&name),
            Self::Transposed(name) => Ok(transpose(read(&name)?)),
            Self::WithLeadingAxes(name, axes) => {
                let mut tensor = read(&name)?;
                tensor.shape.drain(..axes.min(tensor.shape.len()));
                Ok(tensor)
            }
            Self::Packed(parts) => {
                let mut packed = HostTensor {
                    shape: Vec::new(),
                    values: Vec::new(),
                };
                let mut rows = 0;
                for (name, _) in parts {
                    let part = read(&name)?;
                    rows += part.shape.first().copied().unwrap_or(0);
                    packed.shape = part.shape;
                    packed.values.extend(part.values);
                }
                if let Some(first) = packed.shape.first_mut() {
                    *first = rows;
                }
                Ok(packed)
            }
        }
    }

    /// What is stored for open_clip's tensor.
    pub fn split(self, tensor: HostTensor) -> Vec<(String, HostTensor)> {
        match self {
            Self::Same(name) => vec![(name, tensor)],
            Self::Transposed(name) => vec![(name, transpose(tensor))],
            Self::WithLeadingAxes(name, axes) => {
                let mut tensor = tensor;
                tensor.shape.splice(0..0, vec![1; axes]);
                vec![(name, tensor)]
            }
            Self::Packed(parts) => {
                let shapes = Self::Packed(parts).shapes(&tensor.shape);
                let mut rest = tensor.values.as_slice();
                let mut part = |(name, shape): (String, Vec<usize>)| {
                    let (values, after) = rest.split_at(shape.iter().product());
                    rest = after;
                    let values = values.to_vec();
                    (name, HostTensor { shape, values })
                };
                shapes.into_iter().map(&mut part).collect()
            }
        }
    }
}

/// Swaps rows and columns. A tensor of another rank is unchanged.
fn transpose(tensor: HostTensor) -> HostTensor {
    let &[rows, columns] = tensor.shape.as_slice() else {
        return tensor;
    };
    let at = |column: usize| (0..rows).map(move |row| row * columns + column);
    HostTensor {
        shape: vec![columns, rows],
        values: (0..columns)
            .flat_map(at)
            .map(|index| tensor.values[index])
            .collect(),
    }
}
