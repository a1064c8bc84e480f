//! The operations of CLIP's towers for the CPU: each one whole, with its own way back, on
//! the cores of the thread pool it runs in. Burn's CPU backend builds them from many, most
//! of them on one core, each of which writes what the next reads.
//!
//! Tensors of other backends, and of other dtypes than f32, take Burn's operations; results
//! are the same to rounding.

mod activation;
mod attention;
mod batch_norm;
mod conv;
mod graph;
mod layer_norm;
mod linear;
mod math;
mod product;
mod update;
mod values;

pub use activation::{gelu, gelu_tanh, quick_gelu};
pub use attention::self_attention;
pub use batch_norm::{BatchNormOutput, add_relu, batch_norm};
pub use conv::conv2d;
pub use graph::is_supported;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use update::{AdamW, AdamWState, add, sum_of_squares};

#[cfg(test)]
mod tests;
