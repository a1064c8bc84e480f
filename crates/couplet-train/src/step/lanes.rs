//! The lanes of one step. Each computes its own part of every micro-batch in its own graph; their
//! gradients are added in row order.

use std::ops::Range;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use couplet_loss::FeatureGradients;
use couplet_model::{BatchStatistics, Clip, ForwardContext, ParameterMapper, map_parameters};
use rayon::ThreadPool;

use super::batch::StepBatch;
use super::context::StepContext;
use super::encode::{Encoded, Passes};
use super::gradients::{GradientSum, add};

/// The passes and gradients of one lane.
pub(super) struct Lane {
    pub passes: Passes,
    /// The gradients of the image tower and the classifier.
    pub images: GradientSum,
    /// The gradients of the text tower.
    texts: GradientSum,
    trains_image: bool,
    trains_text: bool,
    /// Whether [`Self::encode`] keeps its graph for [`Self::backward`]: with a single
    /// micro-batch, one pass serves both.
    keeps_graph: bool,
    /// Encoded images whose graphs are kept.
    kept_images: Option<Encoded>,
    kept_texts: Option<Encoded>,
}

impl Lane {
    /// Features of images and of texts, `[rows, embed_dim]`, normalised, without a graph.
    fn encode(&mut self, batch: &StepBatch, rows: &Range<usize>) -> (Tensor<2>, Tensor<2>) {
        if !self.keeps_graph {
            let images = self.passes.image_features(batch, rows);
            return (images, self.passes.text_features(batch, rows));
        }
        let images = self.passes.encode_images(batch, rows);
        let texts = self.passes.encode_texts(batch, rows);
        let features = (images.features.clone(), texts.features.clone());
        (self.kept_images, self.kept_texts) = (Some(images), Some(texts));
        features
    }

    /// Adds the gradients of the image tower's parameters.
    /// - gradients: of the features of this rank's whole batch.
    /// - returns the batch norms' statistics if the image tower is trained.
    fn backward_images(
        &mut self,
        batch: &StepBatch,
        rows: &Range<usize>,
        gradients: &FeatureGradients,
    ) -> Option<BatchStatistics> {
        let kept = self.kept_images.take();
        if !self.trains_image {
            return None;
        }
        let images = kept.unwrap_or_else(|| self.passes.encode_images(batch, rows));
        let statistics = images.statistics.clone();
        images.backward(part(&gradients.image, rows), &mut self.images);
        Some(statistics)
    }

    /// Adds the gradients of the text tower's parameters.
    /// - gradients: of the features of this rank's whole batch.
    fn backward_texts(
        &mut self,
        batch: &StepBatch,
        rows: &Range<usize>,
        gradients: &FeatureGradients,
    ) {
        let kept = self.kept_texts.take();
        if self.trains_text {
            let texts = kept.unwrap_or_else(|| self.passes.encode_texts(batch, rows));
            texts.backward(part(&gradients.text, rows), &mut self.texts);
        }
    }
}

fn part(all: &Tensor<2>, rows: &Range<usize>) -> Tensor<2> {
    all.clone().slice([rows.clone()])
}

/// The lanes of one step.
pub(super) struct StepLanes<'a> {
    pools: &'a [ThreadPool],
    lanes: Vec<Lane>,
    micro_batches: Vec<Range<usize>>,
}

impl<'a> StepLanes<'a> {
    /// - forward: context of the batch's first pair; rows: the number of pairs of this rank.
    pub fn new(
        model: &Clip,
        forward: &ForwardContext,
        rows: usize,
        context: &'a StepContext,
    ) -> Self {
        let micro_batches: Vec<_> = (0..rows)
            .step_by(context.micro_batch)
            .map(|start| start..rows.min(start + context.micro_batch))
            .collect();
        let pools = context.pools.lanes();
        let lanes = (0..pools.len().max(1)).map(|at| {
            // Graphs that shared leaves would be one graph.
            let model = if at == 0 { model.clone() } else { copy(model) };
            Lane {
                passes: Passes::new(model.clone(), forward, &context.encoding),
                images: GradientSum::new(model.clone()),
                texts: GradientSum::new(model),
                trains_image: context.trains_image(),
                trains_text: context.trains_text(),
                keeps_graph: micro_batches.len() == 1,
                kept_images: None,
                kept_texts: None,
            }
        });
        Self {
            lanes: lanes.collect(),
            pools,
            micro_batches,
        }
    }

    /// The rows of each micro-batch.
    pub fn micro_batches(&self) -> Vec<Range<usize>> {
        self.micro_batches.clone()
    }

    /// The features of a micro-batch, lane by lane in row order.
    pub fn encode(
        &mut self,
        batch: &mut StepBatch,
        rows: &Range<usize>,
    ) -> Vec<(Tensor<2>, Tensor<2>)> {
        let features = self.run(rows, |lane, rows| lane.encode(batch, &rows));
        if self.lanes.iter().all(|lane| lane.keeps_graph) {
            batch.release_pixels(rows.end);
        }
        features
    }

    /// Runs the backward pass of a micro-batch, one tower's graph at a time, and releases its pixels.
    /// - gradients: of the features of this rank's whole batch.
    /// - returns the batch norms' statistics if the image tower is trained.
    pub fn backward(
        &mut self,
        batch: &mut StepBatch,
        rows: &Range<usize>,
        gradients: &FeatureGradients,
    ) -> impl Iterator<Item = BatchStatistics> + use<> {
        let statistics = self.run(rows, |lane, rows| {
            let statistics = lane.backward_images(batch, &rows, gradients);
            lane.backward_texts(batch, &rows, gradients);
            statistics
        });
        batch.release_pixels(rows.end);
        statistics.into_iter().flatten()
    }

    /// The image tower's part of [`Self::backward`].
    pub fn backward_images(
        &mut self,
        batch: &StepBatch,
        rows: &Range<usize>,
        gradients: &FeatureGradients,
    ) -> impl Iterator<Item = BatchStatistics> + use<> {
        let statistics = self.run(rows, |lane, rows| {
            lane.backward_images(batch, &rows, gradients)
        });
        statistics.into_iter().flatten()
    }

    /// The text tower's part of [`Self::backward`].
    pub fn backward_texts(
        &mut self,
        batch: &StepBatch,
        rows: &Range<usize>,
        gradients: &FeatureGradients,
    ) {
        self.run(rows, |lane, rows| {
            lane.backward_texts(batch, &rows, gradients);
        });
    }

    /// Runs `work` on all lanes in parallel, each with its part of the rows.
    /// - work: takes the lane and its rows, which may be empty.
    /// - returns the results in row order.
    pub fn run<T: Send>(
        &mut self,
        rows: &Range<usize>,
        work: impl Fn(&mut Lane, Range<usize>) -> T + Sync,
    ) -> Vec<T> {
        let part = |at: usize, lanes: usize| {
            let bound = |at: usize| rows.start + rows.len() * at / lanes;
            bound(at)..bound(at + 1)
        };
        let count = self.lanes.len();
        if let [lane] = &mut self.lanes[..] {
            return vec![work(lane, rows.clone())];
        }
        let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
        rayon::scope(|scope| {
            let lanes = self.lanes.iter_mut().zip(self.pools).zip(&mut results);
            for (at, ((lane, pool), result)) in lanes.enumerate() {
                let work = &work;
                scope.spawn(move |_| {
                    *result = Some(pool.install(|| work(lane, part(at, count))));
                });
            }
        });
        let result = |result: Option<T>| result.expect("every lane has run");
        results.into_iter().map(result).collect()
    }

    /// The gradients of the image tower so far, summed over lanes; they are zero after.
    pub fn take_image_gradients(&mut self, model: &Clip) -> GradientsParams {
        sum(model, self.lanes.iter_mut().map(|lane| lane.images.take()))
    }

    /// The same of the text tower.
    pub fn take_text_gradients(&mut self, model: &Clip) -> GradientsParams {
        sum(model, self.lanes.iter_mut().map(|lane| lane.texts.take()))
    }

    /// The gradients of all lanes, summed.
    pub fn into_params(mut self, model: &Clip) -> GradientsParams {
        let images = self.take_image_gradients(model);
        let texts = self.take_text_gradients(model);
        add(model, images, texts)
    }
}

fn sum(model: &Clip, parts: impl Iterator<Item = GradientsParams>) -> GradientsParams {
    (parts.reduce(|sum, part| add(model, sum, part))).unwrap_or_default()
}

/// A copy of the model whose parameters are new leaves with the same ids.
fn copy(model: &Clip) -> Clip {
    struct Copy;
    impl ParameterMapper for Copy {
        fn map<const D: usize>(
            &mut self,
            _name: &str,
            param: Param<Tensor<D>>,
        ) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let is_trained = tensor.is_require_grad();
                Tensor::from_inner(tensor.inner()).set_require_grad(is_trained)
            })
        }
    }
    map_parameters(model.clone(), &mut Copy)
}
