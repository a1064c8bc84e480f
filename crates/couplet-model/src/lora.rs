//! Low-rank updates of linear layers. Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::init::{Initializer, inverse_sqrt};
use crate::precision::Precision;
use crate::product::linear;
use crate::tensors::HostTensor;

/// A low-rank update: a layer `x Wᵀ` becomes `x Wᵀ + scale · (x Aᵀ) Bᵀ`.
#[derive(Module, Debug)]
pub(crate) struct Lora {
    /// `[rank, in]`
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`
    pub b: Param<Tensor<2>>,
    pub scale: f64,
}

/// The place of an update, for a layer that is no module of its own.
#[derive(Module, Debug)]
pub(crate) struct Adapter {
    pub lora: Option<Lora>,
}

/// A linear layer that can have an update.
pub(crate) struct Adaptable<'a> {
    /// The parameter that holds its weight, and its name.
    pub weight: &'a mut Param<Tensor<2>>,
    pub weight_name: String,
    /// The rows of the weight that are the layer's.
    pub rows: Range<usize>,
    pub lora: &'a mut Option<Lora>,
}

/// Visits layers by their names.
pub(crate) type VisitLayers<'a> = dyn FnMut(&str, Adaptable) + 'a;

/// A layer whose weight and whose update are in fields of its parent.
/// - name: the layer's; weight_name: its weight's.
pub(crate) fn visit_whole(
    name: &str,
    weight_name: String,
    weight: &mut Param<Tensor<2>>,
    lora: &mut Option<Lora>,
    visit: &mut VisitLayers,
) {
    let rows = 0..weight.lazy_shape()[0];
    let layer = Adaptable {
        weight,
        weight_name,
        rows,
        lora,
    };
    visit(name, layer);
}

impl Adapter {
    /// Without an update.
    pub const NONE: Self = Self { lora: None };
}

impl Lora {
    /// An update that changes nothing yet: A as PyTorch draws a linear layer's weight, B zero, as in PEFT.
    /// - name: the layer's, which seeds the draws.
    pub fn init(
        name: &str,
        [inputs, outputs]: [usize; 2],
        rank: usize,
        scale: f64,
        init: &Initializer,
    ) -> Self {
        let a = format!("{name}.lora.a");
        Self {
            a: init.uniform(&a, [rank, inputs], inverse_sqrt(inputs)),
            b: init.constant([outputs, rank], 0.0),
            scale,
        }
    }

    fn rank(&self) -> usize {
        self.a.lazy_shape()[0]
    }

    pub fn to_host(&self) -> LowRankUpdate {
        LowRankUpdate {
            a: HostTensor::from_tensor(self.a.val()),
            b: HostTensor::from_tensor(self.b.val()),
            scale: self.scale,
        }
    }
}

/// A layer's low-rank update in the host's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRankUpdate {
    /// `[rank, in]`
    pub a: HostTensor,
    /// `[out, rank]`
    pub b: HostTensor,
    pub scale: f64,
}

impl LowRankUpdate {
    /// `scale · B A`, `[out, in]`, computed in f32 on the CPU: GPUs multiply f32 with fewer digits.
    ///
    /// # Panics
    /// If `a` and `b` do not multiply.
    pub fn product(&self) -> HostTensor {
        let tensor = |host: &HostTensor| -> Tensor<2> {
            Tensor::from_data(host.clone().into_data(), &Device::flex())
        };
        let product = tensor(&self.b).matmul(tensor(&self.a));
        HostTensor::from_tensor(product.mul_scalar(self.scale))
    }
}

/// The output of a layer with its update.
/// - x: `[…, in]`, y: the layer's output without it, `[…, out]`.
pub(crate) fn update<const D: usize>(
    y: Tensor<D>,
    x: Tensor<D>,
    lora: Option<&Lora>,
    precision: Precision,
) -> Tensor<D> {
    update_parts(y, x, &[lora], precision)
}

/// The outputs of several layers of one input, one after the other and each as wide, with their updates. All are
/// computed by two products.
/// - x: `[…, in]`, y: the outputs without updates, `[…, parts · out]`.
pub(crate) fn update_parts<const D: usize>(
    y: Tensor<D>,
    x: Tensor<D>,
    parts: &[Option<&Lora>],
    precision: Precision,
) -> Tensor<D> {
    let ranks = parts.iter().map(|part| part.map_or(0, Lora::rank));
    let total: usize = ranks.clone().sum();
    if total == 0 {
        return y;
    }
    let out = y.dims()[D - 1] / parts.len();
    let down = parts.iter().flatten().map(|lora| lora.a.val()).collect();
    let zeros = |columns: usize| Tensor::zeros([out, columns], &y.device());
    let mut before = 0;
    let rows = parts.iter().zip(ranks).map(|(part, rank)| {
        let after = total - before - rank;
        let own = part.map(|lora| lora.b.val().mul_scalar(lora.scale));
        let row = [
            (before > 0).then(|| zeros(before)),
            own,
            (after > 0).then(|| zeros(after)),
        ];
        before += rank;
        joined(row.into_iter().flatten().collect(), 1)
    });
    let up = joined(rows.collect(), 0);
    let hidden = linear(x, joined(down, 0), None, precision);
    couplet_kernels::add_branch(y, linear(hidden, up, None, precision))
}

fn joined(mut parts: Vec<Tensor<2>>, axis: usize) -> Tensor<2> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    Tensor::cat(parts, axis)
}
