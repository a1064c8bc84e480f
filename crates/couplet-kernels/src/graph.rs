//! Kernels as operations of Burn's graph.

use std::fmt::Debug;
use std::sync::LazyLock;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{
    Autodiff, AutodiffBackend, BackendTensor, DispatchKindConversion, DispatchTensor,
    DispatchTensorKind, Flex,
};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;

/// A fused operation of `N` inputs with its backward pass.
pub(crate) trait Kernel<const N: usize>: Debug + Clone + Send + 'static {
    /// What the backward pass reads.
    type Saved: Debug + Clone + Send + 'static;

    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Saved);

    /// - gradient: of the output.
    /// - wanted: the inputs whose gradients are needed.
    /// - returns at least those.
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// Whether kernels take a tensor: f32 on the CPU backend, with or without a graph, unless
/// `COUPLET_KERNELS=0` is in the environment.
pub fn is_supported<const D: usize>(tensor: &Tensor<D>) -> bool {
    static IS_ON: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("COUPLET_KERNELS").is_none_or(|value| value != "0"));
    *IS_ON && tensor.dtype() == DType::F32 && is_flex(&tensor.clone().into_dispatch().kind)
}

/// Whether the tensor is on an autodiff device.
pub(crate) fn has_graph<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_autodiff(&tensor.clone().into_dispatch())
}

fn is_autodiff(tensor: &DispatchTensor) -> bool {
    matches!(tensor.kind, DispatchTensorKind::Autodiff(_))
}

fn is_flex(kind: &DispatchTensorKind) -> bool {
    if let DispatchTensorKind::Autodiff(inner) = kind {
        return is_flex(inner);
    }
    matches!(kind, DispatchTensorKind::Flex(_))
}

#[derive(Debug)]
struct KernelBackward<K>(K);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for KernelBackward<K> {
    type State = K::Saved;

    fn backward(self, ops: Ops<K::Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = self.0.backward(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Runs a kernel, in the graph if its inputs have one.
/// - inputs: supported ones; those without a graph are constants.
/// - returns the output, of rank `D`, and what the kernel saved.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "Burn does not name the type whose methods they are"
)]
pub(crate) fn apply<K: Kernel<N>, const N: usize, const D: usize>(
    kernel: K,
    inputs: [DispatchTensor; N],
) -> (Tensor<D>, K::Saved) {
    type Graph = Autodiff<Flex, NoCheckpointing>;
    if !inputs.iter().any(is_autodiff) {
        let (output, saved) = kernel.forward(inputs.map(into_primitive::<Flex>));
        return (Tensor::from_primitive::<Flex>(output), saved);
    }
    let inputs = inputs.map(|input| {
        if is_autodiff(&input) {
            into_primitive::<Graph>(input)
        } else {
            Graph::from_inner(into_primitive::<Flex>(input))
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
    (Tensor::from_primitive::<Graph>(output), saved)
}

/// The tensor as its backend has it.
fn into_primitive<B: burn::backend::Backend>(tensor: DispatchTensor) -> B::FloatTensorPrimitive
where
    DispatchTensor: DispatchKindConversion<B>,
{
    match <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor) {
        Ok(BackendTensor::Float(tensor)) => tensor,
        Ok(_) => unreachable!("inputs are floats"),
        Err(problem) => unreachable!("inputs are on one device: {problem}"),
    }
}
