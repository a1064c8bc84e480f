//! What a training pass keeps in memory for its backward pass.

use crate::depth::BlockCount;
use crate::freeze::{Freeze, FreezeConfig};
use crate::precision::Precision;
use crate::spec::{ImageTowerSpec, ModelSpec, ResNetSpec, TextEncoder, VitSpec};

/// What the size of a pass's activations depends on, in addition to the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassMemory {
    /// Tokens of the longest caption, start and end included.
    pub tokens: usize,
    pub precision: Precision,
    /// Whether the device is a GPU: there attention pads sequences, and a block keeps the outputs of its norms and of
    /// its activation.
    pub on_gpu: bool,
    /// Whether only the input of each block is kept, and the rest computed again.
    pub recompute_blocks: bool,
    pub freeze: FreezeConfig,
    /// Whether blocks have low-rank updates, and so run layer by layer.
    pub is_adapted: bool,
}

/// Bytes of an f32.
const WIDE: f64 = 4.0;

impl PassMemory {
    /// Bytes of each value that matrix products read.
    fn narrow(&self) -> f64 {
        match self.precision {
            Precision::F32 => WIDE,
            Precision::Bf16 | Precision::F16 => 2.0,
        }
    }

    /// Whether norms have kernels, which the ReLUs after them are part of.
    fn is_fused(&self) -> bool {
        self.on_gpu || self.precision != Precision::F16
    }

    /// Whether a block computes the outputs of its norms and of its activation again.
    fn computes_again(&self) -> bool {
        !self.on_gpu && self.precision != Precision::F16
    }

    /// Tokens of a sequence in attention.
    fn padded(&self, tokens: f64) -> f64 {
        /// Bytes to whose multiples a GPU pads.
        const ROW: f64 = 16.0;
        if !self.on_gpu {
            return tokens;
        }
        let multiple = ROW / self.narrow();
        (tokens / multiple).ceil() * multiple
    }
}

impl ModelSpec {
    /// About how many bytes each pair of a micro-batch keeps between forward and backward, by
    /// tower: `[image, text]`. Counts what each layer's backward pass reads, not what it
    /// allocates.
    pub fn activation_bytes(&self, pass: &PassMemory) -> [f64; 2] {
        let blocks = BlockCount::new(self);
        let image = match &self.image {
            ImageTowerSpec::Vit(vit) => {
                let all = count(vit.patches());
                let tower = Transformer::of_images(vit);
                let pixels = count(3 * vit.image_size * vit.image_size);
                let patches = all * count(3 * vit.patch_size * vit.patch_size);
                // The first layer's backward pass reads them.
                let start = match pass.freeze.image {
                    Freeze::Nothing => WIDE * (pixels + patches),
                    Freeze::All | Freeze::AllButLast(_) => 0.0,
                };
                start + tower.bytes(pass.freeze.image, blocks.image(), pass)
            }
            ImageTowerSpec::ResNet(resnet) => {
                // As if all blocks were alike; the last ones are smaller.
                let share = trained(pass.freeze.image, blocks.image()) / count(blocks.image());
                share * resnet_bytes(resnet, pass)
            }
        };
        let tower = Transformer::of_texts(self, pass);
        [image, tower.bytes(pass.freeze.text, blocks.text(), pass)]
    }
}

impl ModelSpec {
    /// About how many bytes of gradients each pair of a micro-batch needs at once in a backward pass, in addition to
    /// what is kept for it: those of one block of the larger tower, or of a ResNet's stem.
    pub fn gradient_bytes(&self, pass: &PassMemory) -> f64 {
        let image = match &self.image {
            ImageTowerSpec::Vit(vit) => Transformer::of_images(vit).gradients(pass),
            ImageTowerSpec::ResNet(resnet) => {
                // The patches that the last convolution reads, and their gradients, which are as many.
                let side = resnet.image_size / 2;
                let patches = count(9 * resnet.width / 2 * side * side);
                2.0 * pass.narrow() * patches
            }
        };
        image.max(Transformer::of_texts(self, pass).gradients(pass))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of a model are far below 2^53"
)]
fn count(size: usize) -> f64 {
    size as f64
}

fn scaled(layer_scale: Option<f64>) -> f64 {
    if layer_scale.is_some() { 2.0 } else { 0.0 }
}

/// The number of blocks that keep something.
fn trained(freeze: Freeze, blocks: usize) -> f64 {
    count(blocks - freeze.frozen_blocks(blocks))
}

struct Transformer {
    tokens: f64,
    width: f64,
    mlp_width: f64,
    heads: f64,
    /// What the gains of the residual branches read, in multiples of the width.
    scaled: f64,
    /// Whether a block is one of ours, whose halves are single operations.
    is_fused: bool,
}

impl Transformer {
    fn of_images(vit: &VitSpec) -> Self {
        Self {
            tokens: count(vit.class_tokens() + vit.trained_patches()),
            width: count(vit.width),
            mlp_width: count(vit.mlp_width()),
            heads: count(vit.heads),
            scaled: scaled(vit.layer_scale),
            is_fused: vit.layer_scale.is_none(),
        }
    }

    fn of_texts(spec: &ModelSpec, pass: &PassMemory) -> Self {
        let text = &spec.text;
        Self {
            tokens: count(pass.tokens.min(text.context_length)),
            width: count(text.width),
            // A gated MLP has two hidden values for each that its last layer reads, and their product.
            mlp_width: if matches!(text.encoder, TextEncoder::ModernBert { .. }) {
                1.5 * count(text.mlp_width())
            } else {
                count(text.mlp_width())
            },
            heads: count(text.heads),
            scaled: scaled(text.layer_scale),
            is_fused: text.is_clip() && text.layer_scale.is_none(),
        }
    }

    fn bytes(&self, freeze: Freeze, blocks: usize, pass: &PassMemory) -> f64 {
        let layers = trained(freeze, blocks);
        if !pass.recompute_blocks || freeze == Freeze::All {
            return layers * self.block(pass);
        }
        // The head, which includes the last block, always has a backward pass.
        let inputs = WIDE * self.tokens * self.width * layers.max(1.0);
        inputs + self.block(pass) * layers.min(1.0)
    }

    /// Both norms read the residual stream, four products read their inputs, attention and
    /// activation read the output of the product before them, and attention its weights.
    fn block(&self, pass: &PassMemory) -> f64 {
        let narrow = pass.narrow();
        let padded = pass.padded(self.tokens);
        let stream = (2.0 + self.scaled) * WIDE * self.width;
        let products = if pass.computes_again() && self.is_fused && !pass.is_adapted {
            narrow * (self.width + self.mlp_width)
        } else {
            narrow * (3.0 * self.width + 2.0 * self.mlp_width)
        };
        let attention = narrow * (3.0 * self.width + self.heads * padded);
        self.tokens * (stream + products) + padded * attention
    }

    /// The residual stream's gradient, those of the MLP's hidden values before and after its activation, or those of
    /// queries, keys and values, apart and together, and of the scores before and after softmax.
    fn gradients(&self, pass: &PassMemory) -> f64 {
        let narrow = pass.narrow();
        let padded = pass.padded(self.tokens);
        let stream = (WIDE + narrow) * self.width;
        let hidden = 2.0 * narrow * self.mlp_width * self.tokens;
        let apart = narrow * padded * (4.0 * self.width + 2.0 * self.heads * padded);
        let attention = apart + narrow * 3.0 * self.width * self.tokens;
        stream * self.tokens + hidden.max(attention)
    }
}

/// Each norm reads its convolution's output, each convolution the output of the norm before it.
fn resnet_bytes(spec: &ResNetSpec, pass: &PassMemory) -> f64 {
    let (into_norm, into_conv) = if pass.is_fused() {
        (pass.narrow(), pass.narrow())
    } else {
        // Norms read f32, and ReLUs their own output.
        (WIDE, pass.narrow() + WIDE)
    };
    let plane = |channels: usize, side: usize| count(channels * side * side);
    let (w, mut side) = (spec.width, spec.image_size / 2);
    let mut bytes = into_conv * plane(3, spec.image_size);
    for channels in [w / 2, w / 2, w] {
        bytes += (into_norm + into_conv) * plane(channels, side);
    }
    side /= 2;
    bytes += into_conv * plane(w, side);
    let mut inputs = w;
    for (stage, blocks) in spec.layers.into_iter().enumerate() {
        let planes = w << stage;
        let outputs = 4 * planes;
        for block in 0..blocks {
            bytes += 2.0 * (into_norm + into_conv) * plane(planes, side);
            let is_strided = stage > 0 && block == 0;
            if is_strided {
                side /= 2;
                bytes += into_conv * plane(planes + inputs, side);
            }
            bytes += (into_norm + into_conv) * plane(outputs, side);
            if block == 0 {
                bytes += into_norm * plane(outputs, side);
            }
            inputs = outputs;
        }
    }
    let tokens = count(side * side + 1);
    bytes + 4.0 * pass.narrow() * tokens * count(spec.feature_width())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    fn pass() -> PassMemory {
        PassMemory {
            tokens: 16,
            precision: Precision::F32,
            on_gpu: false,
            recompute_blocks: false,
            freeze: FreezeConfig::default(),
            is_adapted: false,
        }
    }

    #[test]
    fn a_tower_keeps_what_its_backward_pass_reads() {
        let spec = presets::find("ViT-B-32").unwrap();
        let [image, text] = spec.activation_bytes(&pass());
        // 50 tokens of 6 * 768 + 3072 values and 12 * 50 weights in 12 blocks, pixels and
        // patches.
        let block = 50.0 * (6.0 * 768.0 + 3072.0 + 600.0);
        let expected = 4.0 * (12.0 * block + 3.0 * 224.0 * 224.0 * 2.0);
        assert!((image / expected - 1.0).abs() < 1e-6, "{image} {expected}");
        let expected = 4.0 * 12.0 * 16.0 * (6.0 * 512.0 + 2048.0 + 8.0 * 16.0);
        assert!((text / expected - 1.0).abs() < 1e-6, "{text} {expected}");
    }

    #[test]
    fn less_is_kept_of_what_is_frozen_or_computed_again() {
        for name in ["ViT-B-32", "RN50"] {
            let spec = presets::find(name).unwrap();
            let bytes = |pass: PassMemory| spec.activation_bytes(&pass)[0];
            let all = bytes(pass());
            let freeze = |image| FreezeConfig {
                image,
                ..FreezeConfig::default()
            };
            let part = bytes(PassMemory {
                freeze: freeze(Freeze::AllButLast(2)),
                ..pass()
            });
            assert!(part < all / 2.0, "{name}");
        }
        let spec = presets::find("ViT-B-32").unwrap();
        let again = |image| {
            let pass = PassMemory {
                recompute_blocks: true,
                freeze: FreezeConfig {
                    image,
                    ..FreezeConfig::default()
                },
                ..pass()
            };
            spec.activation_bytes(&pass)[0]
        };
        assert!(again(Freeze::Nothing) < spec.activation_bytes(&pass())[0] / 4.0);
        // Each kept block has an input of 50 tokens of 768 values.
        let input = 4.0 * 50.0 * 768.0;
        let last = |blocks| again(Freeze::AllButLast(blocks));
        assert_eq!(last(3) - last(2), input);
        assert_eq!([last(0), again(Freeze::All)], [input, 0.0]);
    }

    #[test]
    fn a_gpu_pads_sequences_and_holds_a_blocks_gradients() {
        let spec = presets::find("ViT-B-32").unwrap();
        let gpu = PassMemory {
            on_gpu: true,
            precision: Precision::Bf16,
            ..pass()
        };
        let [image, _] = spec.activation_bytes(&gpu);
        // 50 tokens are 56 in attention, whose 3 * 768 values and 12 * 56 weights are of 2 bytes.
        let rest = 50.0 * (2.0 * 4.0 * 768.0 + 2.0 * (3.0 * 768.0 + 2.0 * 3072.0));
        let block = rest + 56.0 * 2.0 * (3.0 * 768.0 + 12.0 * 56.0);
        let expected = 12.0 * block + 4.0 * 3.0 * 224.0 * 224.0 * 2.0;
        assert!((image / expected - 1.0).abs() < 1e-6, "{image} {expected}");
        let attention = 2.0 * (56.0 * (4.0 * 768.0 + 24.0 * 56.0) + 50.0 * 3.0 * 768.0);
        let expected = 50.0 * 6.0 * 768.0 + f64::max(attention, 50.0 * 4.0 * 3072.0);
        let found = spec.gradient_bytes(&gpu);
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    }

    #[test]
    fn half_precision_keeps_less_than_f32_elsewhere() {
        let elsewhere = PassMemory {
            on_gpu: true,
            ..pass()
        };
        let half = PassMemory {
            precision: Precision::Bf16,
            ..elsewhere
        };
        for name in ["ViT-B-32", "RN50"] {
            let spec = presets::find(name).unwrap();
            let bytes = |pass| spec.activation_bytes(pass)[0];
            assert!(bytes(&half) < bytes(&elsewhere) && bytes(&pass()) <= bytes(&elsewhere));
        }
    }
}
