//! AdamW, LAMB and Lion behind one interface with one type of state.

use burn::optim::{Lamb, LambConfig, LambState, Lion, LionConfig, LionState, Optimizer};
use burn::tensor::Tensor;
use couplet_kernels::{AdamW, AdamWState, settled};

use super::table::{DEFAULT_EPS, OptimizerConfig};

/// The settings of one update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptimizerStep {
    /// The learning rate, before the scales of groups and layers.
    pub lr: f64,
    /// The factor on every gradient: clipping, and the inverse of the loss scale.
    pub grad_scale: f64,
}

/// An optimiser's update rule with its settings.
pub(super) enum Rule {
    AdamW(AdamWSettings),
    Lamb(Lamb),
    Lion(Lion),
}

/// AdamW's settings that are the same in every step.
#[derive(Clone, Copy)]
pub(super) struct AdamWSettings {
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
}

/// The optimiser state of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Moments<const D: usize> {
    /// Number of updates so far.
    pub time: usize,
    pub first: Tensor<D>,
    /// `None` with Lion.
    pub second: Option<Tensor<D>>,
}

impl<const D: usize> Moments<D> {
    pub fn two(time: usize, first: Tensor<D>, second: Tensor<D>) -> Self {
        Self {
            time,
            first,
            second: Some(second),
        }
    }
}

impl Rule {
    /// The rule for parameters with weight decay.
    pub fn decayed(
        kind: &OptimizerConfig,
        betas: [f64; 2],
        eps: Option<f64>,
        weight_decay: f64,
    ) -> Self {
        Self::new(kind, betas, eps, weight_decay, true)
    }

    /// The rule for gains, biases and other parameters without weight decay. LAMB does not scale
    /// their updates by the trust ratio: a parameter that starts at 0 would hardly move.
    pub fn plain(kind: &OptimizerConfig, betas: [f64; 2], eps: Option<f64>) -> Self {
        Self::new(kind, betas, eps, 0.0, false)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "Burn's optimisers take f32 settings"
    )]
    fn new(
        kind: &OptimizerConfig,
        betas: [f64; 2],
        eps: Option<f64>,
        weight_decay: f64,
        use_trust_ratio: bool,
    ) -> Self {
        let eps = eps.unwrap_or(DEFAULT_EPS);
        let settings = AdamWSettings {
            betas,
            eps,
            weight_decay,
        };
        let [beta_1, beta_2] = betas.map(|beta| beta as f32);
        let (eps, weight_decay) = (eps as f32, weight_decay as f32);
        match kind {
            OptimizerConfig::AdamW(_) => Self::AdamW(settings),
            OptimizerConfig::Lamb(_) => Self::Lamb(
                LambConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(eps)
                    .with_weight_decay(weight_decay)
                    .with_use_trust_ratio(use_trust_ratio)
                    .build(),
            ),
            OptimizerConfig::Lion(_) => Self::Lion(
                LionConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_weight_decay(weight_decay)
                    .build(),
            ),
        }
    }

    /// Whether the rule keeps a second moment.
    pub fn has_second_moment(&self) -> bool {
        !matches!(self, Self::Lion(_))
    }

    /// Updates one parameter.
    /// - tensor, grad: of the same shape; moments: `None` before the first update.
    /// - returns the parameter and its moments after the update.
    pub fn step<const D: usize>(
        &self,
        step: OptimizerStep,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        moments: Option<Moments<D>>,
    ) -> (Tensor<D>, Moments<D>) {
        let OptimizerStep { lr, grad_scale } = step;
        let scaled = |grad: Tensor<D>| match grad_scale {
            1.0 => grad,
            _ => grad.mul_scalar(grad_scale),
        };
        match self {
            Self::AdamW(settings) => settings.step(step, tensor, grad, moments),
            Self::Lamb(lamb) => {
                let state = moments.map(|m| LambState {
                    time: m.time,
                    moment_1: m.first,
                    moment_2: m.second.expect("LAMB keeps two moments"),
                });
                let (tensor, state) = lamb.step(lr, tensor, scaled(grad), state);
                let m = state.expect("LAMB keeps its state");
                (tensor, Moments::two(m.time, m.moment_1, m.moment_2))
            }
            Self::Lion(lion) => {
                let time = moments.as_ref().map_or(0, |m| m.time) + 1;
                let state = moments.map(|m| LionState::new(m.first));
                let (tensor, state) = lion.step(lr, tensor, scaled(grad), state);
                let moments = Moments {
                    time,
                    first: state.expect("Lion keeps its state").momentum,
                    second: None,
                };
                (tensor, moments)
            }
        }
    }
}

impl AdamWSettings {
    fn step<const D: usize>(
        self,
        step: OptimizerStep,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        moments: Option<Moments<D>>,
    ) -> (Tensor<D>, Moments<D>) {
        let (adamw, state) = self.begin(step, tensor, moments);
        let time = adamw.step;
        let state = adamw.step(state, grad);
        let moments = Moments::two(time, state.first, state.second);
        (state.parameter, moments)
    }

    /// A parameter's update, and what it updates.
    pub fn begin<const D: usize>(
        self,
        step: OptimizerStep,
        tensor: Tensor<D>,
        moments: Option<Moments<D>>,
    ) -> (AdamW, AdamWState<D>) {
        let (time, first, second) = match moments {
            Some(m) => (m.time, m.first, m.second.expect("AdamW keeps two moments")),
            None => (
                0,
                settled(tensor.zeros_like()),
                settled(tensor.zeros_like()),
            ),
        };
        let adamw = AdamW {
            lr: step.lr,
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
            step: time + 1,
            grad_scale: step.grad_scale,
        };
        let state = AdamWState {
            parameter: tensor,
            first,
            second,
        };
        (adamw, state)
    }
}
