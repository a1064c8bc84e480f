//! Sums of gradients over passes and lanes.

use burn::module::{Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};
use couplet_model::{BatchStatistics, Clip, ParameterVisitor, visit_parameters};
use couplet_ranks::Lost;

use super::token_rows::TokenRows;
use crate::comm::{Comm, PendingSum};

/// The loss of one batch and its gradients.
pub(crate) struct BatchGradients {
    /// `[1]`, on the model's device.
    pub loss: Tensor<1>,
    /// Gradients of all trained parameters, times the loss scale.
    pub params: GradientsParams,
    /// Statistics of the batch norms, pass by pass.
    pub statistics: Vec<BatchStatistics>,
}

impl BatchGradients {
    /// Waits for the loss.
    pub fn loss(&self) -> f64 {
        f64::from(self.loss.clone().into_scalar::<f32>())
    }
}

/// The gradients of a model's parameters, summed over backward passes.
pub(super) struct GradientSum {
    pub model: Clip,
    accumulator: GradientsAccumulator<Clip>,
}

impl GradientSum {
    pub fn new(model: Clip) -> Self {
        Self {
            model,
            accumulator: GradientsAccumulator::new(),
        }
    }

    /// Runs the backward pass from `outputs` and adds the gradients of all parameters.
    /// - gradient: of the outputs, of their shape, without a graph.
    /// - returns the gradients of leaves that are not parameters; `None` if nothing before the
    ///   outputs is trained.
    pub fn backward<const D: usize>(
        &mut self,
        outputs: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Option<Gradients> {
        // The gradient of this sum with respect to `outputs` is `gradient`.
        let surrogate = (outputs * Tensor::from_inner(gradient)).sum();
        if !surrogate.is_tracked() {
            return None;
        }
        let mut grads = surrogate.backward();
        let params = GradientsParams::from_module(&mut grads, &self.model);
        self.accumulator.accumulate(&self.model, params);
        Some(grads)
    }

    /// The sum so far, which is zero after.
    pub fn take(&mut self) -> GradientsParams {
        self.accumulator.grads()
    }
}

/// The sum of two gradients of the same model; a parameter may have a gradient in only one.
pub(super) fn add(model: &Clip, sum: GradientsParams, part: GradientsParams) -> GradientsParams {
    struct Add {
        sum: GradientsParams,
        part: GradientsParams,
    }
    impl ParameterVisitor for Add {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            let (sum, part) = (
                self.sum.remove::<D>(param.id),
                self.part.remove::<D>(param.id),
            );
            let sum = match (sum, part) {
                (Some(sum), Some(part)) => couplet_kernels::add(sum, part),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return,
            };
            self.sum.register(param.id, sum);
        }
    }
    let mut add = Add { sum, part };
    visit_parameters(model, &mut add);
    add.sum
}

/// Gradients on their way to their sum over ranks.
pub(super) struct GradientsOfRanks {
    /// The parameters that have gradients, in the order of the model.
    ids: Vec<ParamId>,
    /// The rows of the token embedding that travel, if not all do, and this rank's gradient of it.
    rows: Option<(TokenRows, Tensor<2>)>,
    sum: PendingSum,
}

impl GradientsOfRanks {
    /// Starts the exchange in the background.
    /// - rows: of the token embedding that have a gradient on any rank; all if there are none.
    /// - others: what is added over ranks in addition, each of the same shape on every rank.
    pub fn start(
        model: &Clip,
        grads: GradientsParams,
        rows: Option<TokenRows>,
        others: Vec<Tensor<1>>,
        comm: &Comm,
    ) -> Self {
        struct Take {
            grads: GradientsParams,
            rows: Option<TokenRows>,
            ids: Vec<ParamId>,
            flat: Vec<Tensor<1>>,
            embedding: Option<(TokenRows, Tensor<2>)>,
        }
        impl ParameterVisitor for Take {
            fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                let Some(grad) = self.grads.remove::<D>(param.id) else {
                    return;
                };
                self.ids.push(param.id);
                let rows = self.rows.take_if(|_| TokenRows::are_of(name));
                self.flat.push(match rows {
                    Some(rows) => {
                        let grad: Tensor<2> = grad.flatten(1, D - 1);
                        let taken = rows.take(grad.clone()).flatten(0, 1);
                        self.embedding = Some((rows, grad));
                        taken
                    }
                    None => grad.flatten(0, D - 1),
                });
            }
        }
        let mut take = Take {
            grads,
            rows,
            ids: Vec::new(),
            flat: Vec::new(),
            embedding: None,
        };
        visit_parameters(model, &mut take);
        take.flat.extend(others);
        Self {
            ids: take.ids,
            rows: take.embedding,
            sum: comm.start_sum("the gradients", take.flat),
        }
    }

    /// Adds the parameters' sums to `params`.
    /// - returns the sums of the others.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn wait(self, model: &Clip, params: &mut GradientsParams) -> Result<Vec<Tensor<1>>, Lost> {
        struct Put<'a> {
            ids: std::iter::Peekable<std::vec::IntoIter<ParamId>>,
            flat: std::vec::IntoIter<Tensor<1>>,
            rows: Option<(TokenRows, Tensor<2>)>,
            params: &'a mut GradientsParams,
        }
        impl ParameterVisitor for Put<'_> {
            fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                if self.ids.next_if(|id| *id == param.id).is_some() {
                    let sum = self.flat.next().expect("every gradient has a sum");
                    let rows = self.rows.take_if(|_| TokenRows::are_of(name));
                    let sum = match rows {
                        Some((rows, own)) => rows.put(own, sum).reshape(param.dims()),
                        None => sum.reshape(param.dims()),
                    };
                    self.params.register(param.id, sum);
                }
            }
        }
        let mut put = Put {
            ids: self.ids.into_iter().peekable(),
            flat: self.sum.wait()?.into_iter(),
            rows: self.rows,
            params,
        };
        visit_parameters(model, &mut put);
        Ok(put.flat.collect())
    }
}

/// Waits for the sums of gradients; the last has the loss with it.
/// - statistics: of this rank's passes.
pub(super) fn finish(
    model: &Clip,
    sums: Vec<GradientsOfRanks>,
    statistics: Vec<BatchStatistics>,
    comm: &Comm,
) -> Result<BatchGradients, Lost> {
    let (mut params, mut loss) = (GradientsParams::default(), None);
    for sum in sums {
        let mut others = sum.wait(model, &mut params)?;
        loss = others.pop();
    }
    let loss = loss.expect("the loss was added to the last sum");
    Ok(BatchGradients {
        loss,
        params,
        statistics: gather_statistics(statistics, comm)?,
    })
}

/// The statistics of all ranks' passes, in the order of ranks, which is that of the rows.
fn gather_statistics(own: Vec<BatchStatistics>, comm: &Comm) -> Result<Vec<BatchStatistics>, Lost> {
    // Without ranks, they stay where they are.
    if comm.is_alone() {
        return Ok(own);
    }
    let values_of_own: Vec<Vec<f32>> = own.iter().map(BatchStatistics::to_values).collect();
    let len: usize = values_of_own.iter().map(Vec::len).sum();
    if len == 0 {
        return Ok(own);
    }
    let all = comm.gather_numbers("the batch norms' statistics", values_of_own.concat())?;
    let of_rank = |values: &[f32]| -> Vec<BatchStatistics> {
        let mut rest = values;
        let passes = own.iter().zip(&values_of_own);
        passes
            .map(|(pass, values)| {
                let (values, later) = rest.split_at(values.len());
                rest = later;
                pass.with_values(values)
            })
            .collect()
    };
    Ok(all.chunks_exact(len).flat_map(of_rank).collect())
}
