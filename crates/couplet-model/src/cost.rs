//! The cost of a model: parameters and arithmetic of each tower.

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::clip::Clip;
use crate::depth::{BlockCount, LayerId};
use crate::freeze::FreezeConfig;
use crate::layers::is_buffer;
use crate::names::{ParameterVisitor, visit_parameters};
use crate::spec::{
    ImagePool, ImageProjection, ImageTowerSpec, ModelSpec, ResNetSpec, TextEncoder, TextPool,
    TextProjection, VitSpec,
};

/// The cost of each tower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelCost {
    pub image: TowerCost,
    pub text: TowerCost,
}

/// The cost of one tower.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TowerCost {
    pub parameters: u64,
    /// Floating-point operations of one forward pass over one sample: two for each
    /// multiplication of its matrix products and convolutions, attention included; the text tower
    /// over its whole context length. This counts the reference's work, without the exact savings
    /// of this crate.
    pub flops: f64,
}

const VISUAL: &str = "visual.";

impl ModelSpec {
    /// Parameters and arithmetic of both towers; neither includes the temperature or a classifier.
    ///
    /// # Panics
    /// If `self.problems()` is not empty.
    pub fn cost(&self) -> ModelCost {
        self.cost_of(&Clip::blank(self, &Device::flex()))
    }

    /// [`Self::cost`] of a model that exists already.
    pub fn cost_of(&self, model: &Clip) -> ModelCost {
        let mut count = Count::default();
        visit_parameters(model, &mut count);
        ModelCost {
            image: TowerCost {
                parameters: count.image,
                flops: image_flops(self, false),
            },
            text: TowerCost {
                parameters: count.text,
                flops: text_flops(self),
            },
        }
    }
}

impl ModelSpec {
    /// Floating-point operations of one forward pass over one image and a caption of
    /// `tokens` tokens.
    pub fn forward_flops(&self, tokens: usize) -> f64 {
        let mut cut = self.clone();
        cut.text.context_length = tokens;
        image_flops(self, false) + text_flops(&cut)
    }

    /// Floating-point operations of one forward pass over one image.
    pub fn image_flops(&self) -> f64 {
        image_flops(self, false)
    }

    /// Floating-point operations of one forward pass over one image in training, without the
    /// patches that are dropped.
    pub fn image_train_flops(&self) -> f64 {
        image_flops(self, true)
    }
}

impl ModelSpec {
    /// The number of parameters that a run with this freezing trains.
    ///
    /// # Panics
    /// If the spec has problems or the freezing does not fit it.
    pub fn trained_parameters(&self, freeze: FreezeConfig) -> TrainableParameters {
        // On other devices nothing requires a gradient.
        let device = Device::flex().autodiff();
        self.trained_of(&Clip::blank(self, &device).freeze(freeze, self))
    }

    /// [`Self::trained_parameters`] of a model on an autodiff device, its classifier included.
    pub fn trained_of(&self, model: &Clip) -> TrainableParameters {
        let mut trained = Trained {
            blocks: BlockCount::new(self),
            counts: TrainableParameters::default(),
        };
        visit_parameters(model, &mut trained);
        trained.counts
    }
}

/// Numbers of trained parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainableParameters {
    pub image: u64,
    pub text: u64,
    /// The temperature, the bias of logits, and a classifier.
    pub joint: u64,
}

struct Trained {
    blocks: BlockCount,
    counts: TrainableParameters,
}

impl ParameterVisitor for Trained {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if !is_trained(param) {
            return;
        }
        let elements = param.lazy_shape().num_elements() as u64;
        match self.blocks.layer_id(name) {
            LayerId::Image(_) => self.counts.image += elements,
            LayerId::Text(_) => self.counts.text += elements,
            LayerId::Joint => self.counts.joint += elements,
        }
    }
}

/// Whether a parameter requires a gradient, without making the values of one that has none yet.
fn is_trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    if param.is_initialized() {
        return param.is_require_grad();
    }
    let one = Tensor::zeros([1; D], &param.lazy_device());
    let filled = param.clone().transform_for_load(one, param.id);
    filled.is_require_grad()
}

#[derive(Default)]
struct Count {
    image: u64,
    text: u64,
}

impl ParameterVisitor for Count {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let elements = param.lazy_shape().num_elements() as u64;
        if is_buffer(name) || name.starts_with("logit_") || name.starts_with("head.") {
            return;
        }
        if name.starts_with(VISUAL) {
            self.image += elements;
        } else {
            self.text += elements;
        }
    }
}

/// Two operations for each multiplication.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of operations need no last digit"
)]
fn product(sizes: &[usize]) -> f64 {
    2.0 * sizes.iter().map(|size| *size as f64).product::<f64>()
}

fn blocks(tokens: usize, width: usize, mlp_width: usize, layers: usize) -> f64 {
    let projections = product(&[layers, tokens, width, 4 * width + 2 * mlp_width]);
    let attention = product(&[layers, 2, tokens, tokens, width]);
    projections + attention
}

/// Queries over tokens of another width, keys and values projected from it.
fn pooling(queries: usize, tokens: usize, width: usize, context_width: usize) -> f64 {
    product(&[2, tokens, context_width, width])
        + product(&[2, queries, width, width])
        + product(&[2, queries, tokens, width])
}

fn image_flops(spec: &ModelSpec, drops_patches: bool) -> f64 {
    match &spec.image {
        ImageTowerSpec::Vit(vit) => {
            let kept = if drops_patches {
                vit.trained_patches()
            } else {
                vit.patches()
            };
            vit_flops(vit, kept, spec.embed_dim)
        }
        ImageTowerSpec::ResNet(resnet) => resnet_flops(resnet, spec.embed_dim),
    }
}

/// - kept: patches that the blocks read.
fn vit_flops(vit: &VitSpec, kept: usize, embed_dim: usize) -> f64 {
    let tokens = kept + vit.class_tokens();
    let pixels = 3 * vit.patch_size * vit.patch_size;
    let embedding = product(&[vit.patches(), pixels, vit.width]);
    let (pool, pooled_width) = match (vit.attention_pool, vit.pool) {
        (Some(pool), _) => (
            pooling(pool.queries, tokens, embed_dim, vit.width),
            embed_dim,
        ),
        (None, ImagePool::Map) => {
            let mlp = product(&[2, vit.width, vit.mlp_width()]);
            (pooling(1, tokens, vit.width, vit.width) + mlp, vit.width)
        }
        (None, ImagePool::Class | ImagePool::Mean) => (0.0, vit.width),
    };
    let projection = match vit.projection {
        ImageProjection::Linear => product(&[pooled_width, embed_dim]),
        ImageProjection::None => 0.0,
    };
    let blocks = blocks(tokens, vit.width, vit.mlp_width(), vit.layers);
    embedding + blocks + pool + projection
}

fn resnet_flops(spec: &ResNetSpec, embed_dim: usize) -> f64 {
    let w = spec.width;
    let conv = |side: usize, inputs: usize, outputs: usize, kernel: usize| {
        product(&[side, side, inputs, outputs, kernel, kernel])
    };
    let mut side = spec.image_size / 2;
    let mut flops = conv(side, 3, w / 2, 3) + conv(side, w / 2, w / 2, 3) + conv(side, w / 2, w, 3);
    side /= 2;
    let mut inputs = w;
    for (stage, blocks) in spec.layers.into_iter().enumerate() {
        let planes = w << stage;
        let outputs = 4 * planes;
        for block in 0..blocks {
            flops += conv(side, inputs, planes, 1) + conv(side, planes, planes, 3);
            if stage > 0 && block == 0 {
                side /= 2;
            }
            flops += conv(side, planes, outputs, 1);
            if block == 0 {
                flops += conv(side, inputs, outputs, 1);
            }
            inputs = outputs;
        }
    }
    let channels = spec.feature_width();
    // The reference computes a query for every cell, and keeps the mean's output.
    let tokens = side * side + 1;
    let projections = product(&[3, tokens, channels, channels]);
    let attention = product(&[2, tokens, tokens, channels]);
    flops + projections + attention + product(&[tokens, channels, embed_dim])
}

fn text_flops(spec: &ModelSpec) -> f64 {
    let text = &spec.text;
    let tokens = text.context_length;
    let pool = match text.pool {
        TextPool::Map { .. } => pooling(1, tokens, text.width, text.width),
        _ => 0.0,
    };
    let pool = match text.pool {
        TextPool::Pooler => product(&[text.width, text.width]),
        _ => pool,
    };
    let gates = match text.encoder {
        TextEncoder::ModernBert { .. } => {
            product(&[text.layers, tokens, text.width, text.mlp_width()])
        }
        _ => 0.0,
    };
    let head = match text.projection {
        TextProjection::None => 0.0,
        TextProjection::Mlp => {
            let hidden = usize::midpoint(text.width, spec.embed_dim);
            product(&[hidden, text.width + spec.embed_dim])
        }
        _ => product(&[text.width, spec.embed_dim]),
    };
    blocks(tokens, text.width, text.mlp_width(), text.layers) + gates + pool + head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freeze::Freeze;
    use crate::presets;

    #[test]
    fn what_is_frozen_is_not_trained() {
        for name in ["ViT-B-32", "RN50"] {
            let spec = presets::find(name).unwrap();
            let cost = spec.cost();
            let all = spec.trained_parameters(FreezeConfig::default());
            assert_eq!(all.image, cost.image.parameters, "{name}");
            assert_eq!((all.text, all.joint), (cost.text.parameters, 1));
            let freeze = FreezeConfig {
                image: Freeze::All,
                text: Freeze::AllButLast(1),
            };
            let few = spec.trained_parameters(freeze);
            assert_eq!((few.image, few.joint), (0, 1));
            // A block of 12 w² and its biases and norms, the last norm and the projection.
            let w = 512u64;
            let block = 12 * w * w + 13 * w;
            assert_eq!(few.text, block + 2 * w + w * spec.embed_dim as u64);
        }
    }

    /// open_clip's `docs/model_profile.csv`: million parameters and GFLOPs of each tower.
    #[test]
    fn costs_are_those_of_open_clips_table() {
        for (name, image_m, image_gflops, text_m, text_gflops) in [
            ("ViT-B-32", 87.85, 8.82, 63.43, 5.96),
            ("RN50", 38.32, 12.22, 63.69, 5.96),
        ] {
            let cost = presets::find(name).unwrap().cost();
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let near =
                |parameters: u64, millions: f64| (parameters as f64 / 1e6 - millions).abs() < 0.01;
            assert!(near(cost.image.parameters, image_m), "{name} {cost:?}");
            assert!(near(cost.text.parameters, text_m), "{name} {cost:?}");
            for (flops, expected) in [
                (cost.image.flops, image_gflops),
                (cost.text.flops, text_gflops),
            ] {
                assert!(
                    (flops / 1e9 / expected - 1.0).abs() < 0.02,
                    "{name} {cost:?}"
                );
            }
        }
    }
}
