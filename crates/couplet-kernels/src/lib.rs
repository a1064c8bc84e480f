//! The operations of CLIP's towers and of AdamW, with hand-written backward passes. On the CPU each is
//! fused; there they run on all cores of the thread pool that calls them. Burn's CPU backend
//! composes each of many operations, most of which run on one core and write what the next one
//! reads.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//!
//! let x = Tensor::<2>::from_floats([[-1.0, 0.0, 1.0]], &Device::flex());
//! let y: Vec<f32> = couplet_kernels::gelu(x).into_data().try_to_vec().unwrap();
//! assert!((y[2] - 0.841_345).abs() < 1e-5);
//! ```
//!
//! # The contract
//!
//! Every public function takes any tensors, whatever their backend and dtype. It runs its kernel
//! where [`is_supported`] holds for all of them (f32 on the CPU backend), and most also with bf16 there, whose sums are
//! in f32: linear layers, layer norms, activations, attention, convolutions, batch norms and residual sums, with
//! parameters in f32. Embeddings have a kernel in f32. Elsewhere linear layers, layer
//! norms, GELU, attention, residual branches and embeddings are compositions with hand-written backward passes
//! (`composed/`): of GPU kernels (`cube/`, convolutions too) for f32 and half precision there, else of Burn's
//! operations; and the rest is Burn's own. All compute the same to rounding, so callers never
//! ask which one ran. `COUPLET_KERNELS=0` in the environment leaves Burn's own operations alone.
//!
//! Shapes that Burn would reject panic here too. Sums add in an order that depends on the number
//! of cores alone, so results repeat bit for bit.

mod activation;
mod adamw_numbers;
mod attention;
mod batch_norm;
mod block;
mod branch;
mod composed;
mod conv;
#[cfg(feature = "_cube")]
mod cube;
#[cfg(feature = "cuda")]
mod cuda;
mod embedding;
mod fresh;
mod graph;
mod heads;
mod layer_norm;
mod linear;
mod math;
mod matmul;
mod narrow_weights;
mod pool;
mod product;
mod residence;
mod update;
mod update_on_device;
mod values;
mod vectors;

pub use activation::{Activation, gelu, gelu_tanh, quick_gelu};
pub use attention::{attention, self_attention};
pub use batch_norm::{BatchNormOutput, add_relu, batch_norm};
pub use block::{Half, LinearLayer, NormLayer, residual_attention, residual_mlp};
pub use branch::add_branch;
pub use conv::conv2d;
#[cfg(feature = "cuda")]
pub use cuda::{cublas_problem, cuda_problem, kernel_cache};
pub use embedding::{TokenRuns, embedding};
pub use graph::is_supported;
pub use heads::{merge_heads, split_heads};
pub use layer_norm::{layer_norm, layer_norm_as};
pub use linear::{linear, linear_as};
pub use matmul::matmul;
pub use narrow_weights::NarrowWeights;
pub use pool::average_pool;
pub use product::multiplies_bf16;
pub use residence::{device_memory, held, settled};
pub use update::{AdamW, AdamWState, SumOfSquares, add};
pub use update_on_device::{AdamWQueue, Clipped, Updated};

#[cfg(test)]
mod tests;
