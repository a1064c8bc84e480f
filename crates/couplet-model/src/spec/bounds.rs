//! The largest models that Couplet builds. A config can name any number, and a damaged one does:
//! these bounds are held against it before anything is allocated.

use super::{ImagePool, ImageTowerSpec, ModelSpec, ResNetSpec, TextTowerSpec, VitSpec};

/// Most dimensions of the joint space, and most channels of a tower.
pub(crate) const MAX_WIDTH: usize = 1 << 16;
/// Most hidden channels of an MLP.
pub(crate) const MAX_MLP_WIDTH: usize = 1 << 18;
/// Most channels after a ResNet's stem: its last stage has 32 times as many.
pub(crate) const MAX_STEM_WIDTH: usize = MAX_WIDTH / 32;
/// Most blocks of a tower, or of a ResNet's stage.
pub(crate) const MAX_LAYERS: usize = 1 << 10;
/// Longest side of an image, in pixels.
pub(crate) const MAX_IMAGE_SIZE: usize = 1 << 14;
/// Most patches along a side of an image.
pub(crate) const MAX_GRID: usize = 1 << 8;
/// Most tokens of a text.
pub(crate) const MAX_CONTEXT: usize = 1 << 15;
/// Most types of tokens.
pub(crate) const MAX_TOKEN_TYPES: usize = 1 << 10;
/// Most token ids.
pub(crate) const MAX_VOCABULARY: usize = 1 << 22;
/// Most learned queries of an attention pool.
pub(crate) const MAX_QUERIES: usize = 1 << 16;
/// Most parameters of a tower: more than those of the largest CLIP model that is published,
/// EVA-CLIP-18B.
pub(crate) const MAX_TOWER_PARAMETERS: f64 = 2e10;

impl ModelSpec {
    /// Most position embeddings of a file, which may be resized to the model's.
    pub(crate) const MAX_POSITIONS: usize = 1 + MAX_GRID * MAX_GRID;
}

/// About how many parameters a tower has. Needs no bound of its sizes.
pub(super) fn image_parameters(image: &ImageTowerSpec, embed_dim: usize) -> f64 {
    match image {
        ImageTowerSpec::Vit(vit) => vit_parameters(vit, count(embed_dim)),
        ImageTowerSpec::ResNet(resnet) => resnet_parameters(resnet, count(embed_dim)),
    }
}

fn vit_parameters(vit: &VitSpec, embed_dim: f64) -> f64 {
    let (width, patch) = (count(vit.width), count(vit.patch_size));
    let grid = count(vit.image_size) / patch;
    let pool = vit.attention_pool.map_or(0.0, |pool| {
        embed_dim * (2.0 * embed_dim + 2.0 * width + count(pool.queries))
    });
    let map = usize::from(vit.pool == ImagePool::Map);
    blocks(
        width,
        vit.width,
        vit.layers.saturating_add(map),
        vit.mlp_ratio,
    ) + width * (3.0 * patch * patch + grid * grid + embed_dim)
        + pool
}

fn resnet_parameters(resnet: &ResNetSpec, embed_dim: f64) -> f64 {
    let stages = resnet.layers.iter().zip([1.0, 2.0, 4.0, 8.0]);
    let bottlenecks: f64 = stages
        .map(|(layers, factor)| {
            let planes = factor * count(resnet.width);
            17.0 * count(*layers) * planes * planes
        })
        .sum();
    let channels = 32.0 * count(resnet.width);
    bottlenecks + channels * (3.0 * channels + embed_dim)
}

/// As [`image_parameters`].
pub(super) fn text_parameters(text: &TextTowerSpec, embed_dim: usize) -> f64 {
    let width = count(text.width);
    let embeddings = count(text.vocab_size) + count(text.context_length) + count(embed_dim);
    let positions = count(text.position_embeddings());
    blocks(width, text.width, text.layers, text.mlp_ratio) + width * (embeddings + positions)
}

fn blocks(width: f64, exact_width: usize, layers: usize, mlp_ratio: f64) -> f64 {
    let mlp = count(super::mlp_width(exact_width, mlp_ratio));
    count(layers) * width * (4.0 * width + 2.0 * mlp)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate of a size")]
fn count(value: usize) -> f64 {
    value as f64
}
