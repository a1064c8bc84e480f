//! The vision transformer. Source: open_clip `VisionTransformer`.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData, activation};
use rand::seq::index::sample;

use crate::attention::AttentionPool;
use crate::forward::ForwardContext;
use crate::init::{Initializer, fnv1a, inverse_sqrt, stream};
use crate::layers::{LayerNorm, Linear};
use crate::lora::VisitLayers;
use crate::map_head::MapHead;
use crate::positions::sin_cos_2d;
use crate::precision::{Precision, widen};
use crate::product::linear;
use crate::spec::{Activation, ImagePool, ImagePositions, ImageProjection, VitSpec};
use crate::token::Token;
use crate::transformer::{BlockSpec, Transformer};
use crate::weight_draws::BlockStd;

/// CLIP's ViT: patches, a class token, positions, pre-norm blocks, pooling, and a
/// projection into the joint space. SigLIP's has neither class token nor projection.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    class_embedding: Option<Param<Tensor<1>>>,
    positional_embedding: Param<Tensor<2>>,
    conv1: PatchEmbedding,
    ln_pre: Option<LayerNorm>,
    transformer: Transformer,
    attn_pool: Option<AttentionPool>,
    ln_post: LayerNorm,
    map_head: Option<MapHead>,
    pooler: Option<Linear>,
    proj: Option<Param<Tensor<2>>>,
    #[module(skip)]
    pool: ImagePool,
    norm_after_pool: bool,
    /// The number of patches of each image that a training step keeps.
    trained_patches: usize,
}

/// A convolution whose stride is its kernel, computed as one matrix product.
#[derive(Module, Debug)]
struct PatchEmbedding {
    /// `[width, 3, patch_size, patch_size]`
    weight: Param<Tensor<4>>,
    bias: Option<Param<Tensor<1>>>,
}

/// Standard deviation of timm's draws for linear layers and positions.
const TIMM_STD: f32 = 0.02;

impl VisionTransformer {
    /// All initialisation rules of the image tower: class token, positions and
    /// projection N(0, width^-½), everything else PyTorch's defaults. With a MAP head timm's rules, as open_clip's
    /// SigLIP towers have them. Source: timm `VisionTransformer.init_weights`.
    pub(crate) fn init(
        spec: &VitSpec,
        embed_dim: usize,
        activation: Activation,
        init: &Initializer,
    ) -> Self {
        let w = spec.width;
        let patch = spec.patch_size;
        let std = inverse_sqrt(w);
        let tokens = spec.tokens();
        let is_timms = spec.pool == ImagePool::Map;
        let timm = is_timms.then_some(BlockStd {
            attn_in: TIMM_STD,
            residual_out: TIMM_STD,
            mlp_in: TIMM_STD,
            zero_biases: true,
        });
        let blocks = BlockSpec::from_vit(spec, activation);
        let fan_in = 3 * patch * patch;
        // The attention pool's output has the joint space's width already.
        let pooled = if spec.attention_pool.is_some() {
            embed_dim
        } else {
            w
        };
        Self {
            class_embedding: (spec.class_token)
                .then(|| init.normal("visual.class_embedding", [w], std)),
            positional_embedding: match spec.positions {
                ImagePositions::Learned => {
                    let std = if is_timms { TIMM_STD } else { std };
                    init.normal("visual.positional_embedding", [tokens, w], std)
                }
                ImagePositions::SinCos2d => {
                    let (grid, before) = (spec.grid(), spec.class_tokens());
                    init.fixed([tokens, w], move || sin_cos_2d(grid, w, before))
                }
            },
            conv1: PatchEmbedding {
                weight: init.uniform(
                    "visual.conv1.weight",
                    [w, 3, patch, patch],
                    inverse_sqrt(fan_in),
                ),
                bias: (spec.patch_bias)
                    .then(|| init.uniform("visual.conv1.bias", [w], inverse_sqrt(fan_in))),
            },
            ln_pre: spec
                .pre_norm
                .then(|| LayerNorm::init(w, spec.norm_eps, init)),
            transformer: Transformer::init(&blocks, timm.as_ref(), "visual.transformer", init),
            attn_pool: spec.attention_pool.map(|pool| {
                // Its norms keep PyTorch's epsilon in open_clip, whatever the tower's.
                let eps = crate::spec::DEFAULT_NORM_EPS;
                AttentionPool::init(pool, embed_dim, w, eps, "visual.attn_pool", init)
            }),
            ln_post: LayerNorm::init(pooled, spec.norm_eps, init),
            map_head: timm
                .as_ref()
                .map(|timm| MapHead::init(&blocks, timm, "visual.map_head", init)),
            pooler: spec.pooler.then(|| Linear {
                weight: init.normal("visual.pooler.weight", [w, w], TIMM_STD),
                bias: init.constant([w], 0.0),
                lora: None,
            }),
            proj: match spec.projection {
                ImageProjection::Linear => {
                    Some(init.normal("visual.proj", [pooled, embed_dim], std))
                }
                ImageProjection::None => None,
            },
            pool: spec.pool,
            norm_after_pool: spec.norm_after_pool,
            trained_patches: spec.trained_patches(),
        }
    }

    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - context: in training, what patch dropout draws from.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub(crate) fn forward(
        &self,
        images: Tensor<4>,
        context: Option<&ForwardContext>,
        precision: Precision,
    ) -> Tensor<2> {
        self.head(0, self.stem(images, context, precision), precision)
    }

    /// The input of the first block.
    /// - images, context: as [`Self::forward`] takes them; returns `[batch, tokens, width]`.
    pub(crate) fn stem(
        &self,
        images: Tensor<4>,
        context: Option<&ForwardContext>,
        precision: Precision,
    ) -> Tensor<3> {
        let patches = widen(self.conv1.forward(images, precision));
        let [batch, _, width] = patches.dims();
        let x = match &self.class_embedding {
            Some(class) => {
                let class = class.val().reshape([1, 1, width]);
                Tensor::cat(vec![class.expand([batch, 1, width]), patches], 1)
            }
            None => patches,
        };
        let x = x + self.positional_embedding.val().unsqueeze();
        let x = match context {
            Some(context) => drop_patches(x, self.class_tokens(), self.trained_patches, context),
            None => x,
        };
        match &self.ln_pre {
            Some(ln_pre) => ln_pre.forward(x),
            None => x,
        }
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    pub(crate) fn block(&self, at: usize, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        self.transformer.block(at, x, None, precision)
    }

    /// The blocks from `first` on, pooling, the last norm and the projection.
    /// - x: `[batch, tokens, width]`; returns `[batch, embed_dim]`.
    pub(crate) fn head(&self, first: usize, x: Tensor<3>, precision: Precision) -> Tensor<2> {
        let pooled = self.pooled(first, x, precision);
        let Some(proj) = &self.proj else {
            return pooled;
        };
        let pooled = precision.narrow(pooled);
        widen(couplet_kernels::matmul(
            pooled,
            precision.narrow(proj.val()),
        ))
    }

    /// Tokens before the patches.
    fn class_tokens(&self) -> usize {
        usize::from(self.class_embedding.is_some())
    }

    /// The number of residual blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.transformer.resblocks.len()
    }

    /// - name: of this module.
    pub(crate) fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        let transformer = format!("{name}.transformer");
        self.transformer.visit_layers(&transformer, visit);
        if let Some(head) = &mut self.map_head {
            head.visit_layers(&format!("{name}.map_head"), visit);
        }
        if let Some(pooler) = &mut self.pooler {
            pooler.visit_layers(&format!("{name}.pooler"), visit);
        }
    }

    /// The blocks from `first` on, pooling and the last norm.
    /// - x: `[batch, tokens, width]`; returns `[batch, width or embed_dim]`.
    fn pooled(&self, first: usize, x: Tensor<3>, precision: Precision) -> Tensor<2> {
        if let Some(map_head) = &self.map_head {
            let tokens = self.transformer.forward(first, x, None, precision);
            return map_head.forward(self.ln_post.forward(tokens), precision);
        }
        if let Some(attn_pool) = &self.attn_pool {
            let tokens = self.transformer.forward(first, x, None, precision);
            let pooled = attn_pool.forward(tokens, precision);
            return self.pick(self.ln_post.forward(pooled));
        }
        match self.pool {
            ImagePool::Class => {
                let class =
                    self.transformer
                        .forward_token(first, x, &Token::First, None, precision);
                let class = self.ln_post.forward(class);
                match &self.pooler {
                    Some(pooler) => activation::tanh(widen(pooler.forward(class, precision))),
                    None => class,
                }
            }
            ImagePool::Mean | ImagePool::Map => {
                let x = self.transformer.forward(first, x, None, precision);
                if self.norm_after_pool {
                    self.ln_post.forward(self.pick(x))
                } else {
                    self.pick(self.ln_post.forward(x))
                }
            }
        }
    }

    /// - x: `[batch, tokens, width]`; returns `[batch, width]`.
    fn pick(&self, x: Tensor<3>) -> Tensor<2> {
        match self.pool {
            ImagePool::Class => Token::First.pick(x).squeeze_dim(1),
            ImagePool::Mean | ImagePool::Map => {
                // The first output of an attention pool is left out, too, as in open_clip.
                let before = if self.attn_pool.is_some() {
                    1
                } else {
                    self.class_tokens()
                };
                let rest = x.dims()[1] - before;
                x.narrow(1, before, rest).mean_dim(1).squeeze_dim(1)
            }
        }
    }
}

impl PatchEmbedding {
    /// - images: `[batch, 3, height, width]`; returns `[batch, patches, width]`, rows first.
    fn forward(&self, images: Tensor<4>, precision: Precision) -> Tensor<3> {
        let [width, channels, patch, _] = self.weight.dims();
        let [batch, _, height, image_width] = images.dims();
        let (rows, columns) = (height / patch, image_width / patch);
        let patches = precision
            .narrow(images)
            .narrow(2, 0, rows * patch)
            .narrow(3, 0, columns * patch)
            .reshape([batch, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * patch * patch]);
        let weight = self.weight.val().reshape([width, channels * patch * patch]);
        let bias = self.bias.as_ref().map(Param::val);
        linear(patches, weight, bias, precision)
    }
}

/// Keeps the first `before` tokens and `kept` of the others, drawn for each image independently.
/// - x: `[batch, tokens, width]`; returns `[batch, before + kept, width]`.
///
/// Source: open_clip `PatchDropout`.
fn drop_patches(x: Tensor<3>, before: usize, kept: usize, context: &ForwardContext) -> Tensor<3> {
    let [batch, tokens, width] = x.dims();
    let patches = tokens - before;
    if kept == patches {
        return x;
    }
    let purpose = fnv1a(b"patch_dropout");
    let mut rows: Vec<i32> = Vec::with_capacity(batch * (before + kept));
    for image in 0..batch {
        let mut rng = stream([
            context.seed,
            purpose,
            context.step,
            context.first_row + image as u64,
        ]);
        let mut chosen = sample(&mut rng, patches, kept).into_vec();
        chosen.sort_unstable();
        let first = image * tokens;
        let rows_of_image = (0..before).chain(chosen.iter().map(|patch| before + patch));
        let rows_of_image = rows_of_image.map(|row| first + row);
        rows.extend(rows_of_image.map(|row| i32::try_from(row).expect("a batch's tokens fit")));
    }
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &x.device());
    x.reshape([batch * tokens, width])
        .select(0, rows)
        .reshape([batch, before + kept, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use crate::spec::ImageTowerSpec;
    use burn::tensor::Device;

    const PASS: ForwardContext = ForwardContext {
        seed: 3,
        step: 5,
        first_row: 0,
    };

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn kept_patches_are_distinct_and_a_pure_function_of_the_pass() {
        // One image of 1 + 8 tokens, each its own number.
        let row: Vec<f32> = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].to_vec();
        let x = || {
            let two = TensorData::new([row.clone(), row.clone()].concat(), [2, 9, 1]);
            Tensor::<3>::from_data(two, &Device::flex())
        };
        let kept = drop_patches(x(), 1, 4, &PASS);
        assert_eq!(kept.dims(), [2, 5, 1]);
        let kept = values(kept);
        for image in kept.chunks_exact(5) {
            assert_eq!(image[0], 0.0, "the class token stays");
            assert!(image.windows(2).all(|pair| pair[0] < pair[1]), "{image:?}");
        }
        assert_eq!(kept, values(drop_patches(x(), 1, 4, &PASS)));
        // A batch in two passes draws as in one.
        let second = ForwardContext {
            first_row: 1,
            ..PASS
        };
        let alone = drop_patches(x().narrow(0, 0, 1), 1, 4, &second);
        assert_eq!(kept[5..], values(alone));
    }

    #[test]
    fn a_share_of_the_patches_is_dropped_and_at_least_one_is_kept() {
        let ImageTowerSpec::Vit(mut vit) = presets::find("ViT-Ti-16-64").unwrap().image else {
            unreachable!("a ViT");
        };
        for (dropout, kept) in [(0.0, 16), (0.25, 12), (0.3, 11), (0.99, 1)] {
            vit.patch_dropout = dropout;
            assert_eq!(vit.trained_patches(), kept, "{dropout}");
        }
    }
}
