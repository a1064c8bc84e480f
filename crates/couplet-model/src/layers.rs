//! The small modules of both towers, in PyTorch's parameter layout.

use burn::module::{Module, Param};
use burn::tensor::activation;
use burn::tensor::{Tensor, module};
use couplet_kernels::{LinearLayer, NormLayer};

use crate::init::{Initializer, inverse_sqrt};
use crate::lora::{self, Lora, VisitLayers};
use crate::precision::{Precision, widen};
use crate::product::linear;
use crate::spec::Activation;
use crate::tensors::HostTensor;

/// `y = x Wᵀ + b` with `weight` as PyTorch keeps it, `[out, in]`.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
    pub lora: Option<Lora>,
}

impl Linear {
    /// - x: `[…, in]`; returns `[…, out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, precision: Precision) -> Tensor<D> {
        let y = linear(
            x.clone(),
            self.weight.val(),
            Some(self.bias.val()),
            precision,
        );
        lora::update(y, x, self.lora.as_ref(), precision)
    }

    /// The layer for a kernel; `None` if it has an update, which kernels of several layers do not know.
    pub fn kernel(&self) -> Option<LinearLayer> {
        self.lora.is_none().then(|| LinearLayer {
            weight: self.weight.val(),
            bias: self.bias.val(),
        })
    }

    pub fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        let weight_name = format!("{name}.weight");
        lora::visit_whole(name, weight_name, &mut self.weight, &mut self.lora, visit);
    }
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNorm {
    /// The identity: gain 1, bias 0.
    pub fn init(width: usize, eps: f64, init: &Initializer) -> Self {
        Self {
            weight: init.constant([width], 1.0),
            bias: init.constant([width], 0.0),
            eps,
        }
    }

    /// - x: `[…, width]`; returns the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        couplet_kernels::layer_norm(x, self.weight.val(), self.bias.val(), self.eps)
    }

    /// The same, as the operand of a product.
    pub fn forward_narrow<const D: usize>(&self, x: Tensor<D>, precision: Precision) -> Tensor<D> {
        let dtype = precision.of_products(&x);
        couplet_kernels::layer_norm_as(x, self.weight.val(), self.bias.val(), self.eps, dtype)
    }

    pub fn kernel(&self) -> NormLayer {
        NormLayer {
            gain: self.weight.val(),
            bias: self.bias.val(),
            eps: self.eps,
        }
    }
}

impl Activation {
    pub(crate) fn kernel(self) -> couplet_kernels::Activation {
        match self {
            Self::Gelu => couplet_kernels::Activation::Gelu,
            Self::GeluTanh => couplet_kernels::Activation::GeluTanh,
            Self::QuickGelu => couplet_kernels::Activation::QuickGelu,
        }
    }
}

/// A square convolution of stride 1 or 2 without bias, padded to keep the size.
#[derive(Module, Debug)]
pub(crate) struct Conv {
    /// `[out, in, kernel, kernel]`
    weight: Param<Tensor<4>>,
    stride: usize,
}

impl Conv {
    /// PyTorch's default: uniform ±1/√fan_in.
    pub fn init(
        name: &str,
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
        init: &Initializer,
    ) -> Self {
        let bound = inverse_sqrt(inputs * kernel * kernel);
        Self {
            weight: init.uniform(
                &format!("{name}.weight"),
                [outputs, inputs, kernel, kernel],
                bound,
            ),
            stride,
        }
    }

    /// - x: `[batch, in, height, width]`; returns `[batch, out, height / stride, width / stride]`
    ///   in the dtype of `precision`.
    pub fn forward(&self, x: Tensor<4>, precision: Precision) -> Tensor<4> {
        let padding = self.weight.dims()[2] / 2;
        couplet_kernels::conv2d(precision.narrow(x), self.weight.val(), self.stride, padding)
    }
}

/// Batch normalisation over all but the channels, with PyTorch's momentum and epsilon.
/// In training the batch's own statistics normalise; only [`Self::update`] changes the running
/// ones.
#[derive(Module, Debug)]
pub(crate) struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
    frozen: bool,
}

/// One batch norm's statistics of one pass: mean and biased variance, `[channels]`, and the
/// number of values behind each.
#[derive(Debug, Clone)]
pub(crate) struct ChannelStatistics {
    mean: Tensor<1>,
    variance: Tensor<1>,
    count: usize,
}

impl ChannelStatistics {
    pub fn to_values(&self) -> Vec<f32> {
        let host = |tensor: &Tensor<1>| HostTensor::from_tensor(tensor.clone()).values;
        [host(&self.mean), host(&self.variance)].concat()
    }

    /// Takes its values from the front of `values`.
    pub fn with_values(&self, values: &mut &[f32]) -> Self {
        let device = self.mean.device();
        let mut take = || {
            let (own, rest) = values.split_at(self.mean.dims()[0]);
            *values = rest;
            Tensor::from_floats(own, &device)
        };
        Self {
            mean: take(),
            variance: take(),
            count: self.count,
        }
    }
}

const BATCH_NORM_EPS: f64 = 1e-5;
/// Weight of the newest batch in the running statistics.
const BATCH_NORM_MOMENTUM: f64 = 0.1;

impl BatchNorm {
    /// - gain: the initial `weight`.
    pub fn init(channels: usize, gain: f32, init: &Initializer) -> Self {
        Self {
            weight: init.constant([channels], gain),
            bias: init.constant([channels], 0.0),
            running_mean: init.buffer([channels], 0.0),
            running_var: init.buffer([channels], 1.0),
            frozen: false,
        }
    }

    /// Computed in f32 at least.
    /// - x: `[batch, channels, height, width]`; returns the same shape and dtype.
    /// - seen: in training, receives the batch's statistics. Without it, or if the layer is
    ///   frozen, the running statistics normalise.
    pub fn forward(&self, x: Tensor<4>, seen: Option<&mut Vec<ChannelStatistics>>) -> Tensor<4> {
        self.normalize(x, seen, false)
    }

    /// [`Self::forward`] with a ReLU.
    pub fn forward_relu(
        &self,
        x: Tensor<4>,
        seen: Option<&mut Vec<ChannelStatistics>>,
    ) -> Tensor<4> {
        self.normalize(x, seen, true)
    }

    fn normalize(
        &self,
        x: Tensor<4>,
        seen: Option<&mut Vec<ChannelStatistics>>,
        rectify: bool,
    ) -> Tensor<4> {
        let (gain, bias) = (self.weight.val(), self.bias.val());
        let dtype = x.dtype();
        let [batch, _, height, width] = x.dims();
        let output = match seen.filter(|_| !self.frozen) {
            None => {
                let (mean, variance) = (self.running_mean.val(), self.running_var.val());
                let output =
                    module::batch_norm(widen(x), gain, bias, mean, variance, BATCH_NORM_EPS);
                if rectify {
                    activation::relu(output)
                } else {
                    output
                }
            }
            Some(seen) => {
                let normalised =
                    couplet_kernels::batch_norm(x, gain, bias, BATCH_NORM_EPS, rectify);
                seen.push(ChannelStatistics {
                    mean: normalised.mean,
                    variance: normalised.variance,
                    count: batch * height * width,
                });
                normalised.output
            }
        };
        output.cast(dtype)
    }

    /// Stops updates of the running statistics, and normalises with them in training too.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Whether a training pass updates this layer's running statistics.
    pub fn is_trained(&self) -> bool {
        !self.frozen
    }

    /// Moves the running statistics towards a batch's, its variance made unbiased as
    /// PyTorch does.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn update(&mut self, seen: ChannelStatistics) {
        let unbiased = seen.count as f64 / seen.count.saturating_sub(1).max(1) as f64;
        let blend = |old: &Param<Tensor<1>>, new: Tensor<1>| {
            old.clone().map(|old| {
                let new = new.mul_scalar(BATCH_NORM_MOMENTUM);
                let old = old.inner().mul_scalar(1.0 - BATCH_NORM_MOMENTUM);
                Tensor::from_inner(old + new)
            })
        };
        self.running_mean = blend(&self.running_mean, seen.mean);
        self.running_var = blend(&self.running_var, seen.variance.mul_scalar(unbiased));
    }
}

/// Whether a state-dict name is that of a batch norm's running statistics: saved with
/// the weights, but not a parameter.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}
