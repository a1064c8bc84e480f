//! The image tower of any kind. Other modules ask a tower, or its spec, what it can do, and
//! match on its kind only to convert it.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::forward::ForwardContext;
use crate::init::Initializer;
use crate::layers::ChannelStatistics;
use crate::precision::Precision;
use crate::resnet::ModifiedResNet;
use crate::spec::{ImageTowerSpec, ModelSpec};
use crate::vit::VisionTransformer;

/// The image tower, by kind.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one image tower, not a list of them"
)]
pub enum ImageTower {
    Vit(VisionTransformer),
    ResNet(ModifiedResNet),
}

/// The statistics of all batch norms in one training pass; empty for towers without batch norms.
#[derive(Debug, Clone, Default)]
pub struct BatchStatistics(Vec<ChannelStatistics>);

impl BatchStatistics {
    /// The means and biased variances of all norms, in a fixed order.
    ///
    /// # Panics
    /// If the device fails.
    pub fn to_values(&self) -> Vec<f32> {
        (self.0.iter())
            .flat_map(ChannelStatistics::to_values)
            .collect()
    }

    /// The statistics of another pass over as many images.
    /// - values: what [`Self::to_values`] gave of it.
    ///
    /// # Panics
    /// If there are not as many values.
    #[must_use]
    pub fn with_values(&self, values: &[f32]) -> Self {
        let mut rest = values;
        let norms = self.0.iter().map(|norm| norm.with_values(&mut rest));
        let statistics = Self(norms.collect());
        assert!(rest.is_empty(), "the passes have the same batch norms");
        statistics
    }
}

impl ImageTower {
    pub(crate) fn init(spec: &ModelSpec, init: &Initializer) -> Self {
        match &spec.image {
            ImageTowerSpec::Vit(vit) => Self::Vit(VisionTransformer::init(
                vit,
                spec.embed_dim,
                spec.activation,
                init,
            )),
            ImageTowerSpec::ResNet(resnet) => {
                Self::ResNet(ModifiedResNet::init(resnet, spec.embed_dim, init))
            }
        }
    }

    /// As in evaluation.
    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub(crate) fn forward(&self, images: Tensor<4>, precision: Precision) -> Tensor<2> {
        match self {
            Self::Vit(vit) => vit.forward(images, None, precision),
            Self::ResNet(resnet) => resnet.forward(images, precision),
        }
    }

    /// As in training; shapes as in [`Self::forward`].
    pub(crate) fn forward_train(
        &self,
        images: Tensor<4>,
        context: &ForwardContext,
        precision: Precision,
    ) -> (Tensor<2>, BatchStatistics) {
        match self {
            Self::Vit(vit) => {
                let features = vit.forward(images, Some(context), precision);
                (features, BatchStatistics::default())
            }
            Self::ResNet(resnet) => {
                let (features, statistics) = resnet.forward_train(images, precision);
                (features, BatchStatistics(statistics))
            }
        }
    }

    /// Moves the running statistics of the batch norms, if there are any, towards those of one
    /// pass.
    pub(crate) fn update_statistics(&mut self, statistics: BatchStatistics) {
        match self {
            Self::Vit(_) => {}
            Self::ResNet(resnet) => resnet.update(statistics.0),
        }
    }

    /// Freezes the batch norms, if there are any, of the stem and of the first `blocks` residual
    /// blocks.
    pub(crate) fn freeze_norms(&mut self, blocks: usize) {
        match self {
            Self::Vit(_) => {}
            Self::ResNet(resnet) => resnet.freeze_norms(blocks),
        }
    }

    /// The tower if it can run block by block: [`ImageTowerSpec::has_blocks`].
    pub(crate) fn as_blocks(&self) -> Option<&VisionTransformer> {
        match self {
            Self::Vit(vit) => Some(vit),
            Self::ResNet(_) => None,
        }
    }
}
