//! Forward passes over some pairs of a batch, and the backward pass from their features.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use couplet_data::batch;
use couplet_kernels::TokenRuns;
use couplet_model::{
    BatchStatistics, Clip, ForwardContext, Freeze, FreezeConfig, PreprocessSpec, Tokens,
    TowerParts, l2_normalize,
};

use super::batch::StepBatch;
use super::gradients::GradientSum;

/// Settings of the forward and backward passes.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    pub device: Device,
    /// Whether a pass keeps only each block's input and recomputes the rest (gradient
    /// checkpointing).
    pub recompute_blocks: bool,
    /// Which parts of the model are frozen.
    pub freeze: FreezeConfig,
    pub preprocess: PreprocessSpec,
    pub image_size: usize,
    /// Whether the host sorts tokens for the gradient of the token embedding: of use to a GPU.
    pub sorts_tokens: bool,
}

impl Encoding {
    pub fn device_without_graph(&self) -> Device {
        self.device.clone().without_autodiff()
    }
}

/// The forward passes of one lane.
pub(super) struct Passes {
    model: Clip,
    /// The same weights without autodiff.
    without_graph: Clip,
    /// Context of the batch's first pair.
    forward: ForwardContext,
    encoding: Encoding,
}

/// Features and what their backward pass needs.
pub(super) struct Encoded {
    /// `[rows, embed_dim]`, normalised, without a graph.
    pub features: Tensor<2>,
    /// Statistics of the batch norms in this pass.
    pub statistics: BatchStatistics,
    plan: BackwardPlan,
}

#[expect(clippy::large_enum_variant, reason = "there are two in a step")]
enum BackwardPlan {
    /// The features with their graph.
    Graph(Tensor<2>),
    /// Recompute block by block.
    Recompute(Box<KeptInputs>),
    /// Nothing before the features is trained.
    Nothing,
}

/// The inputs from which a backward pass recomputes each block.
struct KeptInputs {
    tower: TowerInput,
    freeze: Freeze,
    /// The inputs of the trained blocks, in order, then of the head.
    blocks: Vec<Tensor<3>>,
}

/// The input of a tower.
enum TowerInput {
    /// `None` if the stem is not recomputed.
    Images(Option<Tensor<4>>, ForwardContext),
    Tokens(Tokens),
}

impl Passes {
    pub fn new(model: Clip, forward: &ForwardContext, encoding: &Encoding) -> Self {
        Self {
            without_graph: model.valid(),
            model,
            forward: *forward,
            encoding: encoding.clone(),
        }
    }

    /// Normalised features of some images, `[rows, embed_dim]`, without a graph.
    pub fn image_features(&self, host: &StepBatch, rows: &Range<usize>) -> Tensor<2> {
        let images = self.images(host, rows);
        let forward = self.forward_context(rows);
        let (features, _) = self.without_graph.encode_image_train(images, &forward);
        l2_normalize(features)
    }

    /// Normalised features of some captions, `[rows, embed_dim]`, without a graph.
    pub fn text_features(&self, host: &StepBatch, rows: &Range<usize>) -> Tensor<2> {
        let tokens = tokens(host, rows, &self.encoding.device_without_graph(), None);
        l2_normalize(self.without_graph.encode_text(tokens))
    }

    /// Encodes some images for a backward pass.
    pub fn encode_images(&self, host: &StepBatch, rows: &Range<usize>) -> Encoded {
        let forward = self.forward_context(rows);
        if self.encoding.recompute_blocks {
            let images = self.images(host, rows);
            let freeze = self.encoding.freeze.image;
            return self.encode_blocks(TowerInput::Images(Some(images), forward), freeze);
        }
        let images = Tensor::from_inner(self.images(host, rows));
        let (features, statistics) = self.model.encode_image_train(images, &forward);
        Encoded::from_graph(l2_normalize(features), statistics)
    }

    /// Encodes some captions for a backward pass.
    pub fn encode_texts(&self, host: &StepBatch, rows: &Range<usize>) -> Encoded {
        let vocabulary = self.model.trained_vocabulary();
        let vocabulary = vocabulary.filter(|_| self.encoding.sorts_tokens);
        if self.encoding.recompute_blocks {
            let device = self.encoding.device_without_graph();
            let tokens = tokens(host, rows, &device, vocabulary);
            return self.encode_blocks(TowerInput::Tokens(tokens), self.encoding.freeze.text);
        }
        let tokens = tokens(host, rows, &self.encoding.device, vocabulary);
        let features = l2_normalize(self.model.encode_text(tokens));
        Encoded::from_graph(features, BatchStatistics::default())
    }

    /// Encodes block by block without a graph, keeping the inputs of all trained blocks.
    fn encode_blocks(&self, input: TowerInput, freeze: Freeze) -> Encoded {
        let parts = input.parts(&self.without_graph);
        let first = first_trained(&parts, freeze);
        let mut stream = parts.stem();
        let mut blocks = Vec::new();
        for at in 0..parts.blocks() {
            let next = parts.block(at, stream.clone());
            if at >= first {
                blocks.push(stream);
            }
            stream = next;
        }
        let features = parts.head(stream.clone());
        blocks.push(stream);
        Encoded {
            features: l2_normalize(features),
            statistics: BatchStatistics::default(),
            plan: match freeze {
                Freeze::All => BackwardPlan::Nothing,
                _ => BackwardPlan::Recompute(Box::new(KeptInputs {
                    tower: input.into_backward(freeze),
                    freeze,
                    blocks,
                })),
            },
        }
    }

    /// The classifier's logits with their graph.
    /// - features: `[rows, embed_dim]`, normalised.
    /// - returns `[rows, classes]`.
    ///
    /// # Panics
    /// If the model has no classifier.
    pub fn logits(&self, features: Tensor<2>) -> Tensor<2> {
        let head = self.model.head();
        head.expect("the model has a classifier").forward(features)
    }

    fn forward_context(&self, rows: &Range<usize>) -> ForwardContext {
        ForwardContext {
            first_row: self.forward.first_row + rows.start as u64,
            ..self.forward
        }
    }

    /// Without a graph.
    fn images(&self, host: &StepBatch, rows: &Range<usize>) -> Tensor<4> {
        let Encoding {
            image_size,
            preprocess,
            ..
        } = &self.encoding;
        let device = self.encoding.device_without_graph();
        host.images(rows.clone(), *image_size, preprocess, &device)
    }
}

/// - vocabulary: rows of the token embedding, if tokens are sorted for their gradients.
fn tokens(
    host: &StepBatch,
    rows: &Range<usize>,
    device: &Device,
    vocabulary: Option<usize>,
) -> Tokens {
    let (ids, length) = host.tokens(rows.clone());
    let runs = vocabulary.map(|vocabulary| TokenRuns::new(&ids, vocabulary));
    Tokens {
        ids: batch::tokens(ids, length, device),
        runs,
    }
}

impl TowerInput {
    /// # Panics
    /// If the tower has no blocks, which the config rejects.
    fn parts<'a>(&'a self, model: &'a Clip) -> TowerParts<'a> {
        match self {
            Self::Images(images, forward) => {
                (model.image_parts(images.clone(), forward)).expect("the tower has blocks")
            }
            Self::Tokens(tokens) => model.text_parts(tokens.clone()),
        }
    }

    /// The input on the autodiff device, for the backward pass. Images are kept only if the stem is
    /// trained, which alone reads them.
    fn into_backward(self, freeze: Freeze) -> Self {
        match self {
            Self::Images(images, forward) => {
                let images = images.filter(|_| freeze == Freeze::Nothing);
                Self::Images(images.map(Tensor::from_inner), forward)
            }
            Self::Tokens(tokens) => Self::Tokens(Tokens {
                ids: Tensor::from_inner(tokens.ids),
                ..tokens
            }),
        }
    }
}

impl Encoded {
    fn from_graph(features: Tensor<2>, statistics: BatchStatistics) -> Self {
        Self {
            features: features.clone().inner(),
            statistics,
            plan: BackwardPlan::Graph(features),
        }
    }

    /// Runs the backward pass and adds the gradients of the tower's parameters to `sum`.
    /// - gradient: of the features, `[rows, embed_dim]`, without a graph.
    pub fn backward(self, gradient: Tensor<2>, sum: &mut GradientSum) {
        match self.plan {
            BackwardPlan::Graph(features) => {
                sum.backward(features, gradient);
            }
            BackwardPlan::Recompute(kept) => kept.backward(gradient, sum),
            BackwardPlan::Nothing => {}
        }
    }
}

/// The first trained block, or the number of blocks if only the head is trained.
fn first_trained(parts: &TowerParts, freeze: Freeze) -> usize {
    // The head includes the last block.
    freeze.frozen_blocks(parts.blocks() + 1).min(parts.blocks())
}

impl KeptInputs {
    /// Recomputes and differentiates from the head to the first trained block or the stem, one
    /// block's graph at a time.
    /// - gradient: of the features, `[rows, embed_dim]`, without a graph.
    fn backward(self, gradient: Tensor<2>, sum: &mut GradientSum) {
        let model = sum.model.clone();
        let parts = self.tower.parts(&model);
        let freeze = self.freeze;
        let first = first_trained(&parts, freeze);
        let leaf = |at: usize, input: Tensor<3>| {
            let input = Tensor::from_inner(input);
            if at > first || freeze == Freeze::Nothing {
                input.require_grad()
            } else {
                input
            }
        };
        let gradient_of = |input: &Tensor<3>, grads: Option<Gradients>| {
            grads.and_then(|grads| input.grad(&grads))
        };
        let blocks = self.blocks.into_iter().rev();
        let mut inputs = (first..=parts.blocks()).rev().zip(blocks);
        let (at, input) = inputs.next().expect("the head's input was kept");
        let input = leaf(at, input);
        let grads = sum.backward(l2_normalize(parts.head(input.clone())), gradient);
        let mut gradient = gradient_of(&input, grads);
        for (at, input) in inputs {
            let input = leaf(at, input);
            let of_output = gradient.expect("a block reads its input");
            let grads = sum.backward(parts.block(at, input.clone()), of_output);
            gradient = gradient_of(&input, grads);
        }
        // `None` if the stem is frozen.
        if let Some(gradient) = gradient {
            sum.backward(parts.stem(), gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::fixtures::{PASS, SIZE, pairs, spec};
    use couplet_model::BlockCount;

    /// Whether the pixels are kept, and the number of kept block inputs.
    fn kept(image: Freeze) -> Option<(bool, usize)> {
        let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
        let freeze = FreezeConfig {
            image,
            ..FreezeConfig::default()
        };
        let encoding = Encoding {
            device: Device::flex().autodiff(),
            recompute_blocks: true,
            freeze,
            preprocess: PreprocessSpec::default(),
            image_size: SIZE,
            sorts_tokens: false,
        };
        let passes = Passes::new(model.freeze(freeze, &spec()), &PASS, &encoding);
        match passes.encode_images(&pairs(0..2).into(), &(0..2)).plan {
            BackwardPlan::Recompute(kept) => Some((
                matches!(kept.tower, TowerInput::Images(Some(_), _)),
                kept.blocks.len(),
            )),
            BackwardPlan::Nothing => None,
            BackwardPlan::Graph(_) => unreachable!("blocks are recomputed"),
        }
    }

    #[test]
    fn inputs_of_frozen_blocks_are_not_kept() {
        let blocks = BlockCount::new(&spec()).image();
        assert_eq!(kept(Freeze::Nothing), Some((true, blocks)));
        assert_eq!(kept(Freeze::AllButLast(blocks)), Some((false, blocks)));
        assert_eq!(kept(Freeze::AllButLast(2)), Some((false, 2)));
        // The head includes the last block.
        assert_eq!(kept(Freeze::AllButLast(0)), Some((false, 1)));
        assert_eq!(kept(Freeze::All), None);
    }
}
