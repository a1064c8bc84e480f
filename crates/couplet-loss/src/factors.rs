//! Logits by rows, and the sums over them that gradients of features are made of.

use std::ops::Range;

use burn::tensor::Tensor;
use couplet_kernels::matmul;

use crate::features::Features;
use crate::pair_loss::chunks;

/// The two factors of the logits `s = images · textsᵀ`, both `[batch, embed_dim]`.
pub(crate) struct Factors {
    /// Multiplied by the logit scale: always the images, so that a logit is the same number in a row of images and
    /// in one of texts.
    pub images: Tensor<2>,
    pub texts: Tensor<2>,
}

/// Sums over the other side of the batch, for each pair of some rows: `[rows, embed_dim]` each.
pub(crate) struct WeightedSums {
    /// `Σ_j W_ij · text_j` for each image i.
    pub texts: Tensor<2>,
    /// `Σ_i W_ij · image_i` for each text j, of the scaled images.
    pub images: Tensor<2>,
}

impl Factors {
    pub fn new(features: &Features) -> Self {
        let scale = features.logit_scale.clone().exp().unsqueeze();
        Self {
            images: features.image.clone() * scale,
            texts: features.text.clone(),
        }
    }

    /// What `of_chunk` makes of the logits of some images with all texts.
    /// - of_chunk: takes rows of the batch and their logits, `[chunk, batch]`.
    pub fn by_images<T>(
        &self,
        rows: Range<usize>,
        chunk: usize,
        of_chunk: impl FnMut(Range<usize>, Tensor<2>) -> T,
    ) -> Vec<T> {
        by_rows(&self.images, &self.texts, chunks(rows, chunk), of_chunk)
    }

    /// What `of_chunk` makes of the logits of some texts with all images.
    /// - of_chunk: as in [`Self::by_images`].
    pub fn by_texts<T>(
        &self,
        rows: Range<usize>,
        chunk: usize,
        of_chunk: impl FnMut(Range<usize>, Tensor<2>) -> T,
    ) -> Vec<T> {
        by_rows(&self.texts, &self.images, chunks(rows, chunk), of_chunk)
    }

    /// The sums of the pairs `rows` with weights `W` that are functions of the logits.
    /// - of_images: the weights of some images with all texts; takes and returns `[chunk, batch]`.
    /// - of_texts: the same of some texts with all images. The whole batch does without: the weights of its images
    ///   are those of its texts.
    pub fn weighted_sums(
        &self,
        rows: Range<usize>,
        chunk: usize,
        mut of_images: impl FnMut(Tensor<2>) -> Tensor<2>,
        of_texts: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> WeightedSums {
        let is_whole = rows == (0..self.texts.dims()[0]);
        let mut images: Option<Tensor<2>> = None;
        let texts = self.by_images(rows.clone(), chunk, |part, logits| {
            let weights = of_images(logits);
            if is_whole {
                let own = self.images.clone().slice([part]);
                let sums = matmul(weights.clone().transpose(), own);
                images = Some(match images.take() {
                    Some(images) => images + sums,
                    None => sums,
                });
            }
            matmul(weights, self.texts.clone())
        });
        let images = images.unwrap_or_else(|| {
            let sums = self.by_texts(rows, chunk, |_, logits| {
                matmul(of_texts(logits), self.images.clone())
            });
            Tensor::cat(sums, 0)
        });
        WeightedSums {
            texts: Tensor::cat(texts, 0),
            images,
        }
    }
}

fn by_rows<T>(
    side: &Tensor<2>,
    others: &Tensor<2>,
    chunks: impl Iterator<Item = Range<usize>>,
    mut of_chunk: impl FnMut(Range<usize>, Tensor<2>) -> T,
) -> Vec<T> {
    let others = others.clone().transpose();
    let part = |rows: Range<usize>| {
        let own = side.clone().slice([rows.clone()]);
        of_chunk(rows, matmul(own, others.clone()))
    };
    chunks.map(part).collect()
}
