//! The end of a training step on a GPU, without a number that the host waits for.
#![cfg_attr(
    not(feature = "_cube"),
    allow(
        unused_variables,
        clippy::needless_pass_by_value,
        clippy::unused_self,
        reason = "a build that knows no GPU does nothing"
    )
)]

#[cfg(feature = "_cube")]
use burn::tensor::DType;
use burn::tensor::Tensor;

#[cfg(feature = "_cube")]
use crate::cube;
use crate::update::{AdamW, AdamWState, SumOfSquares};

/// A step's numbers on their device, and what they do to its gradients.
#[derive(Debug, Clone)]
pub struct Clipped {
    /// The loss and the norm of all gradients, without the loss scale: `[2]`.
    pub numbers: Tensor<1>,
    #[cfg(feature = "_cube")]
    /// The factor on the gradients, `[1]`: 0 if one of the numbers is not finite.
    factor: Tensor<1>,
}

impl Clipped {
    /// - squares: of all gradients; loss: of the step, `[1]`.
    /// - most: the norm to which gradients are clipped.
    /// - loss_scale: of the gradients.
    /// - returns `None` if they are not all on one GPU.
    #[cfg_attr(
        feature = "_cube",
        expect(clippy::cast_possible_truncation, reason = "kernels compute in f32")
    )]
    pub fn new(
        squares: &SumOfSquares,
        loss: &Tensor<1>,
        most: Option<f64>,
        loss_scale: f64,
    ) -> Option<Self> {
        #[cfg(feature = "_cube")]
        {
            let gradients = squares.all_on_cube()?;
            let loss = cube::on_cube(loss).filter(|loss| loss.dtype == DType::F32)?;
            let most = most.map_or(f32::INFINITY, |most| most as f32);
            let sum = cube::sum_of_squares(gradients);
            let found = cube::clip(&sum, &loss, most, loss_scale.recip() as f32);
            let [numbers, factor] = found.map(cube::tensor);
            Some(Self { numbers, factor })
        }
        #[cfg(not(feature = "_cube"))]
        None
    }
}

/// Parameters of a GPU that are updated together.
#[derive(Debug, Default)]
pub struct AdamWQueue {
    #[cfg(feature = "_cube")]
    entries: Vec<(AdamW, cube::State)>,
}

/// Parameters and moments after an update, in the order of [`AdamWQueue::push`].
#[derive(Debug)]
pub struct Updated {
    #[cfg(feature = "_cube")]
    states: std::vec::IntoIter<cube::State>,
}

impl AdamWQueue {
    /// Whether the queue takes a parameter like this one.
    pub fn takes<const D: usize>(parameter: &Tensor<D>) -> bool {
        #[cfg(feature = "_cube")]
        {
            let inner = parameter.clone().inner();
            inner.dtype() == DType::F32 && cube::plain(&inner).is_some()
        }
        #[cfg(not(feature = "_cube"))]
        false
    }

    /// Adds a parameter; `step.grad_scale` must be 1.
    /// - state: without a graph; gradient: of its shape.
    ///
    /// # Panics
    /// If [`Self::takes`] is false for one of the tensors, or shapes differ.
    pub fn push<const D: usize>(
        &mut self,
        step: AdamW,
        state: AdamWState<D>,
        gradient: &Tensor<D>,
    ) {
        #[cfg(feature = "_cube")]
        {
            assert!(step.grad_scale == 1.0, "the device has the factor");
            let shape = state.parameter.dims();
            for part in [&state.first, &state.second, gradient] {
                assert_eq!(part.dims(), shape, "an update's tensors have one shape");
                assert_eq!(part.dtype(), DType::F32, "an update's tensors are f32");
            }
            let known = "the queue takes tensors of its GPU";
            let state = cube::State {
                parameter: cube::owned(state.parameter).expect(known),
                first: cube::owned(state.first).expect(known),
                second: cube::owned(state.second).expect(known),
                gradient: cube::on_cube(gradient).expect(known),
            };
            self.entries.push((step, state));
        }
        #[cfg(not(feature = "_cube"))]
        unreachable!("this build knows no GPU");
    }

    /// Updates all that was added.
    pub fn run(self, clipped: &Clipped) -> Updated {
        #[cfg(feature = "_cube")]
        {
            let factor = cube::on_cube(&clipped.factor).expect("it was made there");
            // Those with the same numbers are updated together.
            let mut places: Vec<usize> = (0..self.entries.len()).collect();
            let key = |at: &usize| self.entries[*at].0.numbers().to_bits();
            places.sort_by_key(key);
            let (steps, mut states): (Vec<_>, Vec<_>) = (self.entries.into_iter())
                .map(|(step, state)| (step, Some(state)))
                .unzip();
            for alike in places.chunk_by(|a, b| steps[*a].numbers() == steps[*b].numbers()) {
                let taken = alike.iter().map(|at| states[*at].take());
                let taken: Vec<_> = taken
                    .map(|state| state.expect("each is there once"))
                    .collect();
                cube::adamw(&taken, &factor, steps[alike[0]].numbers());
                for (at, state) in alike.iter().zip(taken) {
                    states[*at] = Some(state);
                }
            }
            let states: Vec<_> = states.into_iter().flatten().collect();
            Updated {
                states: states.into_iter(),
            }
        }
        #[cfg(not(feature = "_cube"))]
        Updated {}
    }
}

impl Updated {
    /// The next parameter and its moments.
    ///
    /// # Panics
    /// If there is none.
    pub fn take_next<const D: usize>(&mut self) -> AdamWState<D> {
        #[cfg(feature = "_cube")]
        {
            let state = self.states.next().expect("as many as were added");
            AdamWState {
                parameter: cube::tensor(state.parameter),
                first: cube::tensor(state.first),
                second: cube::tensor(state.second),
            }
        }
        #[cfg(not(feature = "_cube"))]
        unreachable!("this build knows no GPU")
    }
}
