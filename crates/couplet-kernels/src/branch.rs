//! Residual branches.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, bf16};
use burn_flex::FlexTensor;

use crate::composed;
use crate::fresh::{fresh, narrow_all};
use crate::graph::{Kernel, apply, compose, is_on_kernels, is_supported};
use crate::math::wide;
use crate::values::{CHUNK, Dense, Value, tensor};

/// `x + branch`, in the dtype of `x`, which is at least as wide.
/// - x, branch: of one shape, which is returned.
pub fn add_branch<const D: usize>(x: Tensor<D>, branch: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    let is_plain = branch.dtype() == dtype;
    let inputs = [x.clone().into_dispatch(), branch.clone().into_dispatch()];
    if is_supported(&x) && is_on_kernels(&branch) && x.dims() == branch.dims() {
        return if is_plain {
            apply(AddBranch::<f32>(PhantomData), inputs).0
        } else {
            apply(AddBranch::<bf16>(PhantomData), inputs).0
        };
    }
    let is_burns = is_plain && is_supported(&x);
    let composed = (!is_burns).then(|| compose(composed::AddBranch::<D>, inputs.each_ref()));
    composed
        .flatten()
        .unwrap_or_else(|| x + if is_plain { branch } else { branch.cast(dtype) })
}

/// - E: the dtype of the branch.
#[derive(Debug, Clone, Copy)]
struct AddBranch<E>(PhantomData<E>);

impl<E: Value> Kernel<Flex, 2> for AddBranch<E> {
    type Saved = ();

    fn forward(&self, [x, branch]: [FlexTensor; 2]) -> (FlexTensor, ()) {
        let (x, branch) = (Dense::<f32>::new(x), Dense::<E>::new(branch));
        let (terms, branches) = (x.values(), branch.values());
        let add = |at: usize, sum: &mut [f32]| {
            let from = at * CHUNK;
            let pairs = terms[from..].iter().zip(&branches[from..]);
            wide(
                #[inline(always)]
                || {
                    for (sum, (x, branch)) in sum.iter_mut().zip(pairs) {
                        *sum = x + branch.wide();
                    }
                },
            );
        };
        let (sum, _) = fresh(terms.len(), CHUNK, add);
        (tensor(sum, x.shape()), ())
    }

    fn backward(
        &self,
        (): (),
        gradient: FlexTensor,
        [_, wants_branch]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let of_branch = wants_branch.then(|| {
            if E::DTYPE == DType::F32 {
                return gradient.clone();
            }
            let gradient = Dense::<f32>::new(gradient.clone());
            let of_branch: Vec<E> = narrow_all(gradient.values());
            tensor(of_branch, gradient.shape())
        });
        [Some(gradient), of_branch]
    }
}
