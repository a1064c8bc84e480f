//! Encoding some pairs of a batch as in training, and the way back.

use std::ops::Range;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Gradients, Int, Tensor};
use couplet_data::batch;
use couplet_data::loader::HostBatch;
use couplet_model::{
    BatchStatistics, Clip, ForwardContext, Freeze, FreezeConfig, PreprocessSpec, TowerParts,
    l2_normalize,
};

/// How pairs are encoded.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    pub device: Device,
    /// Whether a pass keeps only what each block reads, and computes the rest again.
    pub recompute_blocks: bool,
    /// What the model was frozen with.
    pub freeze: FreezeConfig,
    pub preprocess: PreprocessSpec,
    pub image_size: usize,
}

impl Encoding {
    pub fn device_without_graph(&self) -> Device {
        self.device.clone().without_autodiff()
    }
}

/// One step's passes over its pairs.
pub(super) struct Passes {
    model: Clip,
    /// The same weights without autodiff.
    without_graph: Clip,
    /// Of the batch's first pair.
    pass: ForwardContext,
    encoding: Encoding,
}

/// Features, and how to get from their gradient to those of the parameters.
pub(super) struct Encoded {
    /// `[rows, embed_dim]`, normalised, without a graph.
    pub features: Tensor<2>,
    /// What the batch norms saw.
    pub seen: BatchStatistics,
    way_back: BackwardPlan,
}

#[expect(clippy::large_enum_variant, reason = "there are two in a step")]
enum BackwardPlan {
    /// The features with their graph.
    Graph(Tensor<2>),
    /// What the blocks read from the first that is trained on, and the end: the rest is
    /// computed again.
    BlockCount(Box<TowerInput>, Freeze, Vec<Tensor<3>>),
    /// Nothing before the features is trained.
    Nowhere,
}

/// What a tower reads.
enum TowerInput {
    /// No images where the start is not run again.
    Images(Option<Tensor<4>>, ForwardContext),
    Tokens(Tensor<2, Int>),
}

impl Passes {
    pub fn new(model: Clip, pass: &ForwardContext, encoding: &Encoding) -> Self {
        Self {
            without_graph: model.valid(),
            model,
            pass: *pass,
            encoding: encoding.clone(),
        }
    }

    /// Normalised features of some images, `[rows, embed_dim]`, and nothing else.
    pub fn image_features(&self, host: &HostBatch, rows: &Range<usize>) -> Tensor<2> {
        let images = self.images(host, rows, &self.encoding.device_without_graph());
        let pass = self.pass_of(rows);
        let (features, _) = self.without_graph.encode_image_train(images, &pass);
        l2_normalize(features)
    }

    /// Normalised features of some captions, `[rows, embed_dim]`, and nothing else.
    pub fn text_features(&self, host: &HostBatch, rows: &Range<usize>) -> Tensor<2> {
        let tokens = tokens(host, rows, &self.encoding.device_without_graph());
        l2_normalize(self.without_graph.encode_text(tokens))
    }

    /// Some images, to be gone back from.
    pub fn encode_images(&self, host: &HostBatch, rows: &Range<usize>) -> Encoded {
        let pass = self.pass_of(rows);
        if self.encoding.recompute_blocks {
            let images = self.images(host, rows, &self.encoding.device_without_graph());
            let freeze = self.encoding.freeze.image;
            return self.encode_blocks(TowerInput::Images(Some(images), pass), freeze);
        }
        let images = self.images(host, rows, &self.encoding.device);
        let (features, seen) = self.model.encode_image_train(images, &pass);
        Encoded::of_graph(l2_normalize(features), seen)
    }

    /// Some captions, to be gone back from.
    pub fn encode_texts(&self, host: &HostBatch, rows: &Range<usize>) -> Encoded {
        if self.encoding.recompute_blocks {
            let tokens = tokens(host, rows, &self.encoding.device_without_graph());
            return self.encode_blocks(TowerInput::Tokens(tokens), self.encoding.freeze.text);
        }
        let tokens = tokens(host, rows, &self.encoding.device);
        let features = l2_normalize(self.model.encode_text(tokens));
        Encoded::of_graph(features, BatchStatistics::default())
    }

    /// Keeps what the way back reads, and nothing of what is frozen.
    fn encode_blocks(&self, input: TowerInput, freeze: Freeze) -> Encoded {
        let parts = input.parts(&self.without_graph);
        let first = first_part(&parts, freeze);
        let mut stream = parts.start();
        let mut inputs = Vec::new();
        for at in 0..parts.blocks() {
            let next = parts.block(at, stream.clone());
            if at >= first {
                inputs.push(stream);
            }
            stream = next;
        }
        let features = parts.end(stream.clone());
        inputs.push(stream);
        Encoded {
            features: l2_normalize(features),
            seen: BatchStatistics::default(),
            way_back: match freeze {
                Freeze::All => BackwardPlan::Nowhere,
                _ => BackwardPlan::BlockCount(Box::new(input.for_way_back(freeze)), freeze, inputs),
            },
        }
    }

    /// What the head makes of normalised features: `[rows, classes]`, with its graph.
    ///
    /// # Panics
    /// If the model has no head.
    pub fn logits(&self, features: Tensor<2>) -> Tensor<2> {
        let head = self
            .model
            .head()
            .expect("a model that tells classes has a head");
        head.forward(features)
    }

    fn pass_of(&self, rows: &Range<usize>) -> ForwardContext {
        ForwardContext {
            first_row: self.pass.first_row + rows.start as u64,
            ..self.pass
        }
    }

    fn images(&self, host: &HostBatch, rows: &Range<usize>, device: &Device) -> Tensor<4> {
        let PreprocessSpec { mean, std, .. } = self.encoding.preprocess;
        let pixels = host.pixels(rows.clone());
        batch::images(pixels, self.encoding.image_size, mean, std, device)
    }
}

fn tokens(host: &HostBatch, rows: &Range<usize>, device: &Device) -> Tensor<2, Int> {
    let (tokens, length) = host.tokens(rows.clone());
    batch::tokens(tokens, length, device)
}

impl TowerInput {
    /// # Panics
    /// If the tower is a ResNet, which the config refuses.
    fn parts<'a>(&'a self, model: &'a Clip) -> TowerParts<'a> {
        match self {
            Self::Images(images, pass) => (model.image_parts(images.clone(), pass))
                .expect("a tower whose blocks are computed again has parts"),
            Self::Tokens(tokens) => model.text_parts(tokens.clone()),
        }
    }

    /// What is read again, by a model on an autodiff device: images by the start alone.
    fn for_way_back(self, freeze: Freeze) -> Self {
        match self {
            Self::Images(images, pass) => {
                let images = images.filter(|_| freeze == Freeze::Nothing);
                Self::Images(images.map(Tensor::from_inner), pass)
            }
            Self::Tokens(tokens) => Self::Tokens(Tensor::from_inner(tokens)),
        }
    }
}

impl Encoded {
    fn of_graph(features: Tensor<2>, seen: BatchStatistics) -> Self {
        Self {
            features: features.clone().inner(),
            seen,
            way_back: BackwardPlan::Graph(features),
        }
    }

    /// Adds the gradients of all parameters before these features.
    /// - gradient: of the features, `[rows, embed_dim]`, without a graph.
    pub fn backward(self, gradient: Tensor<2>, sum: &mut GradientSum) {
        match self.way_back {
            BackwardPlan::Graph(features) => {
                sum.add(features, gradient);
            }
            BackwardPlan::BlockCount(input, freeze, inputs) => {
                let model = sum.model.clone();
                backward_by_block(&input.parts(&model), freeze, inputs, gradient, sum);
            }
            BackwardPlan::Nowhere => {}
        }
    }
}

/// The first block to go back through, or the number of blocks if that is the end alone.
fn first_part(parts: &TowerParts, freeze: Freeze) -> usize {
    // The last block belongs to the end.
    freeze.frozen_blocks(parts.blocks() + 1).min(parts.blocks())
}

/// From the end to the first block that is trained, or to the start, one block's graph at a
/// time.
/// - inputs: of those blocks, and of the end.
fn backward_by_block(
    parts: &TowerParts,
    freeze: Freeze,
    inputs: Vec<Tensor<3>>,
    gradient: Tensor<2>,
    sum: &mut GradientSum,
) {
    let first = first_part(parts, freeze);
    let leaf = |at: usize, input: Tensor<3>| {
        let input = Tensor::from_inner(input);
        if at > first || freeze == Freeze::Nothing {
            input.require_grad()
        } else {
            input
        }
    };
    let of_input =
        |input: &Tensor<3>, grads: Option<Gradients>| grads.and_then(|grads| input.grad(&grads));
    let mut inputs = (first..=parts.blocks()).rev().zip(inputs.into_iter().rev());
    let (at, input) = inputs.next().expect("the end's input was kept");
    let input = leaf(at, input);
    let grads = sum.add(l2_normalize(parts.end(input.clone())), gradient);
    let mut gradient = of_input(&input, grads);
    for (at, input) in inputs {
        let input = leaf(at, input);
        let of_output = gradient.expect("a block reads its input");
        let grads = sum.add(parts.block(at, input.clone()), of_output);
        gradient = of_input(&input, grads);
    }
    // None where the start is frozen.
    if let Some(gradient) = gradient {
        sum.add(parts.start(), gradient);
    }
}

/// The gradients of a model's parameters, added up.
pub(super) struct GradientSum {
    model: Clip,
    accumulator: GradientsAccumulator<Clip>,
}

impl GradientSum {
    pub fn new(model: Clip) -> Self {
        Self {
            model,
            accumulator: GradientsAccumulator::new(),
        }
    }

    /// Goes back from `outputs`, given the gradient of each.
    /// - returns the gradients of leaves that are no parameters; `None` if nothing before
    ///   the outputs is trained.
    pub fn add<const D: usize>(
        &mut self,
        outputs: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Option<Gradients> {
        let surrogate = (outputs * Tensor::from_inner(gradient)).sum();
        if !surrogate.is_tracked() {
            return None;
        }
        let mut grads = surrogate.backward();
        let params = GradientsParams::from_module(&mut grads, &self.model);
        self.accumulator.accumulate(&self.model, params);
        Some(grads)
    }

    /// The sums so far.
    pub fn into_params(mut self) -> GradientsParams {
        self.accumulator.grads()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::tests::{PASS, encoding, pairs, spec};
    use couplet_model::BlockCount;

    /// Whether the pixels are kept, and the inputs of how many blocks.
    fn kept(image: Freeze) -> Option<(bool, usize)> {
        let model = Clip::init(&spec(), 0, &Device::flex().autodiff());
        let freeze = FreezeConfig {
            image,
            ..FreezeConfig::default()
        };
        let encoding = Encoding {
            recompute_blocks: true,
            freeze,
            ..encoding()
        };
        let passes = Passes::new(model.freeze(freeze, &spec()), &PASS, &encoding);
        match passes.encode_images(&pairs(0..2), &(0..2)).way_back {
            BackwardPlan::BlockCount(input, _, inputs) => Some((
                matches!(*input, TowerInput::Images(Some(_), _)),
                inputs.len(),
            )),
            BackwardPlan::Nowhere => None,
            BackwardPlan::Graph(_) => unreachable!("blocks are computed again"),
        }
    }

    #[test]
    fn nothing_is_kept_of_what_is_frozen() {
        let blocks = BlockCount::new(&spec()).image();
        assert_eq!(kept(Freeze::Nothing), Some((true, blocks)));
        assert_eq!(kept(Freeze::AllButLast(blocks)), Some((false, blocks)));
        assert_eq!(kept(Freeze::AllButLast(2)), Some((false, 2)));
        // The last block belongs to the end.
        assert_eq!(kept(Freeze::AllButLast(0)), Some((false, 1)));
        assert_eq!(kept(Freeze::All), None);
    }
}
