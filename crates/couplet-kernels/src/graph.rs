//! Kernels as operations of Burn's graph.

use std::fmt::Debug;
use std::sync::LazyLock;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, BackendTensor, BackendTypes, DispatchAutodiffContext,
    DispatchKindConversion, DispatchTensor, DispatchTensorKind, Flex,
    GradientCheckpointingStrategy, TensorMetadata,
};
use burn::tensor::{DType, Tensor};

/// An operation of `N` inputs on backend `B` with its own backward pass.
pub(crate) trait Kernel<B: Backend, const N: usize>: Debug + Clone + Send + 'static {
    /// What the backward pass reads.
    type Saved: Debug + Clone + Send + 'static;

    fn forward(&self, inputs: [Primitive<B>; N]) -> (Primitive<B>, Self::Saved);

    /// - gradient: of the output.
    /// - wanted: the inputs whose gradients are needed.
    /// - returns at least those.
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: Primitive<B>,
        wanted: [bool; N],
    ) -> [Option<Primitive<B>>; N];
}

pub(crate) type Primitive<B> = <B as BackendTypes>::FloatTensorPrimitive;

/// An operation composed of Burn's, for all backends that [`compose`] knows. Burn differentiates its own
/// compositions operation by operation, which reads and writes several times as much.
pub(crate) trait Composed<const N: usize>: Debug + Clone + Send + 'static {
    /// What the backward pass reads.
    type Saved: Debug + Clone + Send + 'static;

    /// - inputs: without a graph, as is everything here.
    fn forward(&self, inputs: [DispatchTensor; N]) -> (DispatchTensor, Self::Saved);

    /// As [`Kernel::backward`].
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: DispatchTensor,
        wanted: [bool; N],
    ) -> [Option<DispatchTensor>; N];
}

#[derive(Debug, Clone)]
struct OnBackend<C>(C);

impl<B: Backend, C: Composed<N>, const N: usize> Kernel<B, N> for OnBackend<C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type Saved = C::Saved;

    fn forward(&self, inputs: [Primitive<B>; N]) -> (Primitive<B>, C::Saved) {
        let (output, saved) = self.0.forward(inputs.map(from_primitive::<B>));
        (into_primitive::<B>(output), saved)
    }

    fn backward(
        &self,
        saved: C::Saved,
        gradient: Primitive<B>,
        wanted: [bool; N],
    ) -> [Option<Primitive<B>>; N] {
        let gradient = from_primitive::<B>(gradient);
        let gradients = self.0.backward(saved, gradient, wanted);
        gradients.map(|gradient| gradient.map(into_primitive::<B>))
    }
}

/// Whether all kernels take a tensor: f32 on the CPU backend, with or without a graph, unless
/// `COUPLET_KERNELS=0` is in the environment.
pub fn is_supported<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && is_on_kernels(tensor)
}

/// Whether kernels take a tensor that have one for its dtype: f32 or bf16 on the CPU backend.
pub(crate) fn is_on_kernels<const D: usize>(tensor: &Tensor<D>) -> bool {
    [DType::F32, DType::BF16].contains(&tensor.dtype()) && is_on() && is_on_cpu(tensor)
}

#[cfg(test)]
thread_local! {
    /// Whether Burn's own operations run, as with `COUPLET_KERNELS=0`, on this thread.
    pub(crate) static BURN_ALONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn is_on() -> bool {
    static IS_ON: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("COUPLET_KERNELS").is_none_or(|value| value != "0"));
    *IS_ON
}

pub(crate) fn is_on_cpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_flex(&tensor.clone().into_dispatch().kind)
}

/// Whether the tensor is on an autodiff device.
pub(crate) fn has_graph<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_autodiff(&tensor.clone().into_dispatch())
}

pub(crate) fn is_autodiff(tensor: &DispatchTensor) -> bool {
    matches!(tensor.kind, DispatchTensorKind::Autodiff(_))
}

fn is_flex(kind: &DispatchTensorKind) -> bool {
    if let DispatchTensorKind::Autodiff(inner) = kind {
        return is_flex(inner);
    }
    matches!(kind, DispatchTensorKind::Flex(_))
}

#[cfg(feature = "_cube")]
fn is_cube(kind: &DispatchTensorKind) -> bool {
    if let DispatchTensorKind::Autodiff(inner) = kind {
        return is_cube(inner);
    }
    matches!(kind, DispatchTensorKind::Cube(_))
}

#[derive(Debug)]
struct KernelBackward<K>(K);

impl<B: Backend, K: Kernel<B, N>, const N: usize> Backward<B, N> for KernelBackward<K> {
    type State = K::Saved;

    fn backward(self, ops: Ops<K::Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = self.0.backward(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Runs a composed operation, in the graph if its inputs have one.
/// - inputs: those without a graph are constants.
/// - returns the output, of rank `D`; `None` if the backend is not known here, a graph recomputes what it does not
///   keep, or kernels are turned off.
pub(crate) fn compose<C: Composed<N>, const N: usize, const D: usize>(
    operation: C,
    inputs: [&DispatchTensor; N],
) -> Option<Tensor<D>> {
    compose_saved(operation, inputs).map(|(output, _)| output)
}

/// As [`compose`], with what the operation saved.
pub(crate) fn compose_saved<C: Composed<N>, const N: usize, const D: usize>(
    operation: C,
    inputs: [&DispatchTensor; N],
) -> Option<(Tensor<D>, C::Saved)> {
    #[cfg(test)]
    if BURN_ALONE.get() {
        return None;
    }
    let is_plain = |input: &&DispatchTensor| {
        let keeps_all = DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled);
        input.dtype().is_float()
            && [DispatchAutodiffContext::Disabled, keeps_all].contains(&input.autodiff)
    };
    if !is_on() || !inputs.iter().all(is_plain) {
        return None;
    }
    let (kernel, copies) = (OnBackend(operation), || inputs.map(Clone::clone));
    if inputs.iter().all(|input| is_flex(&input.kind)) {
        return Some(apply::<Flex, _, N, D>(kernel, copies()));
    }
    #[cfg(feature = "_cube")]
    if inputs.iter().all(|input| is_cube(&input.kind)) {
        return Some(apply::<burn::backend::Cube, _, N, D>(kernel, copies()));
    }
    None
}

/// Runs a kernel, in the graph if its inputs have one.
/// - inputs: supported ones; those without a graph are constants.
/// - returns the output, of rank `D`, and what the kernel saved.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "Burn does not name the type whose methods they are"
)]
pub(crate) fn apply<B, K, const N: usize, const D: usize>(
    kernel: K,
    inputs: [DispatchTensor; N],
) -> (Tensor<D>, K::Saved)
where
    B: Backend,
    K: Kernel<B, N>,
    DispatchTensor:
        DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, NoCheckpointing>>,
{
    if !inputs.iter().any(is_autodiff) {
        let (output, saved) = kernel.forward(inputs.map(into_primitive::<B>));
        return (Tensor::from_primitive::<B>(output), saved);
    }
    let inputs = inputs.map(|input| {
        if is_autodiff(&input) {
            into_primitive::<Autodiff<B, NoCheckpointing>>(input)
        } else {
            Autodiff::<B, NoCheckpointing>::from_inner(into_primitive::<B>(input))
        }
    });
    let nodes = inputs.each_ref().map(|input| input.node());
    let values = inputs.map(|input| input.into_primitive());
    let (output, saved) = kernel.forward(values);
    let prepared = KernelBackward(kernel).prepare::<NoCheckpointing>(nodes);
    let output = match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved.clone(), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    let output = Tensor::from_primitive::<Autodiff<B, NoCheckpointing>>(output);
    (output, saved)
}

pub(crate) fn from_primitive<B: Backend>(tensor: Primitive<B>) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B>,
{
    <DispatchTensor as DispatchKindConversion<B>>::from_backend(BackendTensor::Float(tensor))
}

/// The tensor as its backend has it.
pub(crate) fn into_primitive<B: Backend>(tensor: DispatchTensor) -> Primitive<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    match <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor) {
        Ok(BackendTensor::Float(tensor)) => tensor,
        Ok(_) => unreachable!("inputs are floats"),
        Err(problem) => unreachable!("inputs are on one device: {problem}"),
    }
}
