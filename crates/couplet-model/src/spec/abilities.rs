//! What towers can do, and the sizes that follow from a spec. Code asks these instead of matching on the
//! kind of tower.

use super::{
    Activation, ImageTowerSpec, ModelSpec, ResNetSpec, TextEncoder, TextPool, TextTowerSpec,
    VitSpec, mlp_width,
};

impl ImageTowerSpec {
    /// Side of the square input, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
            Self::ResNet(resnet) => resnet.image_size,
        }
    }

    /// The same tower for another input size, in pixels.
    pub fn set_image_size(&mut self, image_size: usize) {
        match self {
            Self::Vit(vit) => vit.image_size = image_size,
            Self::ResNet(resnet) => resnet.image_size = image_size,
        }
    }

    /// The kind, as configs write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vit(_) => "vit",
            Self::ResNet(_) => "modified-resnet",
        }
    }

    /// Whether the tower has batch norms: its pairs read one another, and it carries running
    /// statistics.
    pub fn has_batch_norm(&self) -> bool {
        match self {
            Self::Vit(_) => false,
            Self::ResNet(_) => true,
        }
    }

    /// Whether the tower can run block by block (`TowerParts`), as gradient checkpointing needs.
    /// Batch norms rule it out: they would count every batch twice.
    pub fn has_blocks(&self) -> bool {
        match self {
            Self::Vit(_) => true,
            Self::ResNet(_) => false,
        }
    }

    /// The number of residual blocks in each stage; a ViT has one stage.
    pub fn block_counts(&self) -> Vec<usize> {
        match self {
            Self::Vit(vit) => vec![vit.layers],
            Self::ResNet(resnet) => resnet.layers.to_vec(),
        }
    }

    /// Side of a square patch, in pixels, if the tower cuts the image into patches.
    pub fn patch_size(&self) -> Option<usize> {
        match self {
            Self::Vit(vit) => Some(vit.patch_size),
            Self::ResNet(_) => None,
        }
    }

    /// Width of the tokens, or channels after the stem.
    pub fn width(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.width,
            Self::ResNet(resnet) => resnet.width,
        }
    }

    /// The activation of the tower's MLPs, if it has MLPs.
    /// - default: the model's, for a tower that does not name its own.
    pub fn activation(&self, default: Activation) -> Option<Activation> {
        match self {
            Self::Vit(vit) => Some(vit.activation.unwrap_or(default)),
            Self::ResNet(_) => None,
        }
    }

    /// open_clip's name of the position embeddings, which depend on the image size.
    pub(crate) fn positions_name(&self) -> &'static str {
        match self {
            Self::Vit(_) => "visual.positional_embedding",
            Self::ResNet(_) => "visual.attnpool.positional_embedding",
        }
    }

    /// Position embeddings before those of the grid's cells.
    pub(crate) fn positions_before_grid(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.class_tokens(),
            // The mean's.
            Self::ResNet(_) => 1,
        }
    }

    /// The vision transformer that it is, if it is one.
    pub fn as_vit(&self) -> Option<&VitSpec> {
        match self {
            Self::Vit(vit) => Some(vit),
            Self::ResNet(_) => None,
        }
    }

    /// Cells along one side of the grid that has position embeddings.
    pub fn grid(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.grid(),
            Self::ResNet(resnet) => resnet.grid(),
        }
    }
}

impl VitSpec {
    /// Patches along one side of the image.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Patches of an image that a training step keeps, at least one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a small count"
    )]
    pub fn trained_patches(&self) -> usize {
        ((self.patches() as f64 * (1.0 - self.patch_dropout)) as usize).max(1)
    }

    /// Tokens before the patches.
    pub fn class_tokens(&self) -> usize {
        usize::from(self.class_token)
    }

    /// Tokens of an image.
    pub fn tokens(&self) -> usize {
        self.class_tokens() + self.patches()
    }

    /// Hidden width of the MLPs.
    pub fn mlp_width(&self) -> usize {
        mlp_width(self.width, self.mlp_ratio)
    }
}

impl ResNetSpec {
    /// Pixels along each side of one cell of the last stage.
    pub const STRIDE: usize = 32;

    /// Cells along one side of the last stage's output.
    pub fn grid(&self) -> usize {
        self.image_size / Self::STRIDE
    }

    /// Channels of the last stage.
    pub fn feature_width(&self) -> usize {
        self.width * 32
    }
}

impl TextTowerSpec {
    /// Hidden width of the MLPs.
    pub fn mlp_width(&self) -> usize {
        mlp_width(self.width, self.mlp_ratio)
    }

    /// Whether nothing after the end token reaches the feature, so that a batch may be cut to its
    /// longest text.
    pub fn reads_no_padding(&self) -> bool {
        let is_masked = self.causal || !self.is_clip();
        is_masked && !matches!(self.pool, TextPool::Last | TextPool::Map { .. })
    }

    /// Whether it has open_clip's own encoder.
    pub fn is_clip(&self) -> bool {
        self.encoder == TextEncoder::Clip
    }

    /// The number of learned position embeddings.
    pub fn position_embeddings(&self) -> usize {
        match self.encoder {
            TextEncoder::Clip => self.context_length,
            TextEncoder::Bert { positions, .. }
            | TextEncoder::Roberta { positions, .. }
            | TextEncoder::XlmRoberta { positions, .. } => positions,
            TextEncoder::ModernBert { .. } => 0,
        }
    }

    /// The longest text in tokens that the positions are enough for; `None` if they follow the context length.
    pub fn longest_text(&self) -> Option<usize> {
        match self.encoder {
            TextEncoder::Clip => None,
            TextEncoder::Bert { positions, .. } | TextEncoder::ModernBert { positions, .. } => {
                Some(positions)
            }
            TextEncoder::Roberta { positions, .. } | TextEncoder::XlmRoberta { positions, .. } => {
                Some(positions.saturating_sub(self.pad_id as usize + 1))
            }
        }
    }
}

impl ModelSpec {
    /// The activation of the image tower's MLPs, if it has MLPs.
    pub fn image_activation(&self) -> Option<Activation> {
        self.image.activation(self.activation)
    }

    /// The activation of the text tower's MLPs.
    pub fn text_activation(&self) -> Activation {
        self.text.activation.unwrap_or(self.activation)
    }
}
