//! CLIP's modified ResNet. Source: Radford et al. 2021, section 2.4; open_clip
//! `ModifiedResNet`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use couplet_kernels::{attention, merge_heads, split_heads};

use crate::init::{Initializer, inverse_sqrt};
use crate::layers::{BatchNorm, ChannelStatistics, Conv, Linear};
use crate::lora::VisitLayers;
use crate::precision::{Precision, widen};
use crate::spec::ResNetSpec;

/// Channels of a bottleneck's output over those between its convolutions.
const EXPANSION: usize = 4;

/// A ResNet with a stem of three convolutions, strides by average pooling before the
/// convolution, and attention pooling at the end.
#[derive(Module, Debug)]
pub struct ModifiedResNet {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Conv,
    bn3: BatchNorm,
    layer1: Vec<Bottleneck>,
    layer2: Vec<Bottleneck>,
    layer3: Vec<Bottleneck>,
    layer4: Vec<Bottleneck>,
    attnpool: AttentionPool2d,
}

#[derive(Module, Debug)]
struct Bottleneck {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Conv,
    bn3: BatchNorm,
    /// Under the names `downsample.0` and `downsample.1`.
    downsample: Option<(Conv, BatchNorm)>,
    stride: usize,
}

/// Collects the statistics of a training pass, layer by layer; `None` in evaluation.
type Seen<'a> = Option<&'a mut Vec<ChannelStatistics>>;

impl ModifiedResNet {
    /// The layers of the pooling: convolutions have no updates.
    /// - name: of this module.
    pub(crate) fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        self.attnpool
            .visit_layers(&format!("{name}.attnpool"), visit);
    }

    /// All initialisation rules of the image tower: convolutions as PyTorch's defaults,
    /// the last gain of each block 0, the attention pool's weights N(0, 1/√channels).
    pub(crate) fn init(spec: &ResNetSpec, embed_dim: usize, init: &Initializer) -> Self {
        let w = spec.width;
        let conv = |name: &str, channels: [usize; 2], stride| {
            Conv::init(&format!("visual.{name}"), channels, 3, stride, init)
        };
        let mut inputs = w;
        let mut stage = |at: usize| -> Vec<Bottleneck> {
            let planes = w << at;
            (0..spec.layers[at])
                .map(|block| {
                    let stride = if at > 0 && block == 0 { 2 } else { 1 };
                    let name = format!("visual.layer{}.{block}", at + 1);
                    let bottleneck = Bottleneck::init(&name, inputs, planes, stride, init);
                    inputs = planes * EXPANSION;
                    bottleneck
                })
                .collect()
        };
        Self {
            conv1: conv("conv1", [3, w / 2], 2),
            bn1: BatchNorm::init(w / 2, 1.0, init),
            conv2: conv("conv2", [w / 2, w / 2], 1),
            bn2: BatchNorm::init(w / 2, 1.0, init),
            conv3: conv("conv3", [w / 2, w], 1),
            bn3: BatchNorm::init(w, 1.0, init),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            attnpool: AttentionPool2d::init(spec, embed_dim, init),
        }
    }

    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub(crate) fn forward(&self, images: Tensor<4>, precision: Precision) -> Tensor<2> {
        self.forward_seen(images, None, precision)
    }

    /// As [`Self::forward`], normalised by the batch's own statistics, which are
    /// returned for [`Self::update`].
    pub(crate) fn forward_train(
        &self,
        images: Tensor<4>,
        precision: Precision,
    ) -> (Tensor<2>, Vec<ChannelStatistics>) {
        let mut seen = Vec::new();
        let features = self.forward_seen(images, Some(&mut seen), precision);
        (features, seen)
    }

    fn forward_seen(&self, images: Tensor<4>, mut seen: Seen, precision: Precision) -> Tensor<2> {
        let stem = [
            (&self.conv1, &self.bn1),
            (&self.conv2, &self.bn2),
            (&self.conv3, &self.bn3),
        ];
        let mut x = images;
        for (conv, norm) in stem {
            x = norm.forward_relu(conv.forward(x, precision), seen.as_deref_mut());
        }
        x = average_pool(x, 2);
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
        {
            x = block.forward(x, seen.as_deref_mut(), precision);
        }
        self.attnpool.forward(x, precision)
    }

    /// Freezes the batch norms of the stem and of the first `blocks` residual blocks.
    pub(crate) fn freeze_norms(&mut self, blocks: usize) {
        for norm in [&mut self.bn1, &mut self.bn2, &mut self.bn3] {
            norm.freeze();
        }
        let stages = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        for block in stages.into_iter().flatten().take(blocks) {
            block.norms().for_each(BatchNorm::freeze);
        }
    }

    /// Moves the running statistics of every batch norm towards those of one pass.
    pub(crate) fn update(&mut self, seen: Vec<ChannelStatistics>) {
        let stem = [&mut self.bn1, &mut self.bn2, &mut self.bn3];
        let stages = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        let blocks = stages.into_iter().flatten().flat_map(Bottleneck::norms);
        // In the order of the forward pass.
        let norms = stem.into_iter().chain(blocks);
        for (norm, statistics) in norms.filter(|norm| norm.is_trained()).zip(seen) {
            norm.update(statistics);
        }
    }
}

impl Bottleneck {
    fn init(name: &str, inputs: usize, planes: usize, stride: usize, init: &Initializer) -> Self {
        let outputs = planes * EXPANSION;
        let conv = |part: &str, channels: [usize; 2], kernel| {
            Conv::init(&format!("{name}.{part}"), channels, kernel, 1, init)
        };
        Self {
            conv1: conv("conv1", [inputs, planes], 1),
            bn1: BatchNorm::init(planes, 1.0, init),
            conv2: conv("conv2", [planes, planes], 3),
            bn2: BatchNorm::init(planes, 1.0, init),
            conv3: conv("conv3", [planes, outputs], 1),
            bn3: BatchNorm::init(outputs, 0.0, init),
            downsample: (stride > 1 || inputs != outputs).then(|| {
                (
                    conv("downsample.0", [inputs, outputs], 1),
                    BatchNorm::init(outputs, 1.0, init),
                )
            }),
            stride,
        }
    }

    /// - x: `[batch, inputs, height, width]`; returns
    ///   `[batch, planes * EXPANSION, height / stride, width / stride]`.
    fn forward(&self, x: Tensor<4>, mut seen: Seen, precision: Precision) -> Tensor<4> {
        let y = self.conv1.forward(x.clone(), precision);
        let y = self.bn1.forward_relu(y, seen.as_deref_mut());
        let y = self.conv2.forward(y, precision);
        let y = self.bn2.forward_relu(y, seen.as_deref_mut());
        let y = self.conv3.forward(average_pool(y, self.stride), precision);
        let y = self.bn3.forward(y, seen.as_deref_mut());
        let identity = match &self.downsample {
            Some((conv, norm)) => {
                let x = average_pool(x, self.stride);
                norm.forward(conv.forward(x, precision), seen)
            }
            None => precision.narrow(x),
        };
        couplet_kernels::add_relu(y, identity)
    }

    /// The batch norms in the order of the forward pass.
    fn norms(&mut self) -> impl Iterator<Item = &mut BatchNorm> {
        let downsample = self.downsample.as_mut().map(|(_, norm)| norm);
        [&mut self.bn1, &mut self.bn2, &mut self.bn3]
            .into_iter()
            .chain(downsample)
    }
}

/// The mean over squares of `side` pixels.
fn average_pool(x: Tensor<4>, side: usize) -> Tensor<4> {
    if side == 1 {
        return x;
    }
    couplet_kernels::average_pool(x, side)
}

/// Attention of the cells' mean over itself and all cells: "QKV" pooling.
/// Source: Radford et al. 2021, section 2.4; open_clip `AttentionPool2d`.
#[derive(Module, Debug)]
struct AttentionPool2d {
    /// `[1 + cells, channels]`
    positional_embedding: Param<Tensor<2>>,
    k_proj: Linear,
    q_proj: Linear,
    v_proj: Linear,
    c_proj: Linear,
    heads: usize,
}

impl AttentionPool2d {
    fn init(spec: &ResNetSpec, embed_dim: usize, init: &Initializer) -> Self {
        let channels = spec.feature_width();
        let std = inverse_sqrt(channels);
        let name = |part: &str| format!("visual.attnpool.{part}");
        let projection = |part: &str, outputs: usize| Linear {
            weight: init.normal(&name(&format!("{part}.weight")), [outputs, channels], std),
            bias: init.uniform(&name(&format!("{part}.bias")), [outputs], std),
            lora: None,
        };
        Self {
            positional_embedding: init.normal(
                &name("positional_embedding"),
                [spec.grid() * spec.grid() + 1, channels],
                std,
            ),
            k_proj: projection("k_proj", channels),
            q_proj: projection("q_proj", channels),
            v_proj: projection("v_proj", channels),
            c_proj: projection("c_proj", embed_dim),
            heads: spec.heads,
        }
    }

    fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        for (part, layer) in [
            ("q_proj", &mut self.q_proj),
            ("k_proj", &mut self.k_proj),
            ("v_proj", &mut self.v_proj),
            ("c_proj", &mut self.c_proj),
        ] {
            layer.visit_layers(&format!("{name}.{part}"), visit);
        }
    }

    /// - x: `[batch, channels, height, width]`; returns `[batch, embed_dim]`.
    fn forward(&self, x: Tensor<4>, precision: Precision) -> Tensor<2> {
        let [batch, channels, height, width] = x.dims();
        let cells = widen(x)
            .reshape([batch, channels, height * width])
            .swap_dims(1, 2);
        let mean = cells.clone().mean_dim(1);
        let x = Tensor::cat(vec![mean, cells], 1) + self.positional_embedding.val().unsqueeze();
        // Nothing reads the other tokens' outputs.
        let query = x.clone().narrow(1, 0, 1);
        let attended = attention(
            split_heads(self.q_proj.forward(query, precision), self.heads),
            split_heads(self.k_proj.forward(x.clone(), precision), self.heads),
            split_heads(self.v_proj.forward(x, precision), self.heads),
            None,
        );
        let attended = merge_heads(attended).reshape([batch, channels]);
        widen(self.c_proj.forward(attended, precision))
    }
}
