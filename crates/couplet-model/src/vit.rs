//! The vision transformer. Source: open_clip `VisionTransformer`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::init::{Initializer, inverse_sqrt};
use crate::layers::LayerNorm;
use crate::transformer::{Token, Transformer, TransformerSpec};
use crate::{Activation, VitSpec};

/// CLIP's ViT: patches, a class token, learned positions, pre-norm blocks, and a
/// projection of the class token into the joint space.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    class_embedding: Param<Tensor<1>>,
    positional_embedding: Param<Tensor<2>>,
    conv1: PatchEmbedding,
    ln_pre: LayerNorm,
    transformer: Transformer,
    ln_post: LayerNorm,
    proj: Param<Tensor<2>>,
}

/// A convolution whose stride is its kernel, computed as one matrix product.
#[derive(Module, Debug)]
struct PatchEmbedding {
    /// `[width, 3, patch_size, patch_size]`
    weight: Param<Tensor<4>>,
}

impl VisionTransformer {
    /// All initialisation rules of the image tower: class token, positions and
    /// projection N(0, width^-½), everything else PyTorch's defaults.
    pub(crate) fn init(
        spec: &VitSpec,
        embed_dim: usize,
        activation: Activation,
        init: &Initializer,
    ) -> Self {
        let w = spec.width;
        let patch = spec.patch_size;
        let std = inverse_sqrt(w);
        Self {
            class_embedding: init.normal("visual.class_embedding", [w], std),
            positional_embedding: init.normal(
                "visual.positional_embedding",
                [spec.grid() * spec.grid() + 1, w],
                std,
            ),
            conv1: PatchEmbedding {
                weight: init.uniform(
                    "visual.conv1.weight",
                    [w, 3, patch, patch],
                    inverse_sqrt(3 * patch * patch),
                ),
            },
            ln_pre: LayerNorm::init(w, init),
            transformer: Transformer::init(
                &TransformerSpec {
                    width: w,
                    layers: spec.layers,
                    heads: spec.heads,
                    mlp_width: spec.mlp_width(),
                    activation,
                },
                None,
                "visual.transformer",
                init,
            ),
            ln_post: LayerNorm::init(w, init),
            proj: init.normal("visual.proj", [w, embed_dim], std),
        }
    }

    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let patches = self.conv1.forward(images);
        let [batch, _, width] = patches.dims();
        let class = self
            .class_embedding
            .val()
            .reshape([1, 1, width])
            .expand([batch, 1, width]);
        let x = Tensor::cat(vec![class, patches], 1) + self.positional_embedding.val().unsqueeze();
        let class = self
            .transformer
            .forward_token(self.ln_pre.forward(x), &Token::First, None);
        self.ln_post.forward(class).matmul(self.proj.val())
    }
}

impl PatchEmbedding {
    /// - images: `[batch, 3, height, width]`; returns `[batch, patches, width]`, rows first.
    fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [width, channels, patch, _] = self.weight.dims();
        let [batch, _, height, image_width] = images.dims();
        let (rows, columns) = (height / patch, image_width / patch);
        let patches = images
            .reshape([batch, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * patch * patch]);
        let weight = self.weight.val().reshape([width, channels * patch * patch]);
        burn::tensor::module::linear(patches, weight.transpose(), None)
    }
}
