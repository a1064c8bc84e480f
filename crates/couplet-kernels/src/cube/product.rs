//! Matrix products: cuBLASLt's where it is there, else CubeCL's.

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::InputScalar;

use super::{add, elem, empty, reshaped};

/// `lhs rhs + bias`.
/// - lhs, rhs: of one dtype, with the same dimensions before the last two.
/// - bias: of the columns of a single product, in `dtype`, contiguous.
/// - returns a contiguous tensor of `dtype`.
pub(crate) fn multiply(
    lhs: &CubeTensor,
    rhs: &CubeTensor,
    bias: Option<&CubeTensor>,
    dtype: DType,
) -> CubeTensor {
    assert_fit(lhs, rhs);
    let mut shape = lhs.meta.shape().clone();
    let last = shape.len() - 1;
    let columns = rhs.meta.shape()[last];
    shape[last] = columns;
    let output = empty(lhs, shape, dtype);
    #[cfg(feature = "cuda")]
    if queue(lhs, rhs, 1.0, Ends { bias, onto: None }, &output) {
        return output;
    }
    multiply_by_cubecl(lhs, rhs, &output);
    let Some(bias) = bias else {
        return output;
    };
    numeric::add(output, reshaped(bias, [1, columns]))
}

/// `onto + lhs rhs + bias` of two matrices, in the dtype of `onto`.
/// - lhs, rhs: of one dtype; onto: `[rows, columns]`; bias: `[columns]`, in its dtype; both contiguous.
pub(crate) fn multiply_onto(
    onto: &CubeTensor,
    lhs: &CubeTensor,
    rhs: &CubeTensor,
    bias: &CubeTensor,
) -> CubeTensor {
    assert_fit(lhs, rhs);
    let columns = rhs.meta.shape()[1];
    assert_eq!(
        onto.meta.shape()[..],
        [lhs.meta.shape()[0], columns],
        "a branch has the shape of what it is added to"
    );
    assert_eq!(
        bias.dtype, onto.dtype,
        "a bias is in the dtype of what it is added to"
    );
    #[cfg(feature = "cuda")]
    {
        let output = empty(onto, onto.meta.shape().clone(), onto.dtype);
        let ends = Ends {
            bias: Some(bias),
            onto: Some(onto),
        };
        if queue(lhs, rhs, 1.0, ends, &output) {
            return output;
        }
    }
    let product = empty(onto, onto.meta.shape().clone(), lhs.dtype);
    multiply_by_cubecl(lhs, rhs, &product);
    let bias = cast(reshaped(bias, [1, columns]), lhs.dtype);
    add(onto, &numeric::add(product, bias), false)
}

/// `scale * lhs rhs` of each pair of matrices, but for a factor that is returned.
/// - lhs, rhs: of one dtype, with the same dimensions before the last two.
/// - output: where it is written; its rows may have gaps.
pub(super) fn multiply_into(
    lhs: &CubeTensor,
    rhs: &CubeTensor,
    scale: f32,
    output: &CubeTensor,
) -> f32 {
    assert_fit(lhs, rhs);
    #[cfg(feature = "cuda")]
    if queue(lhs, rhs, scale, Ends::default(), output) {
        return 1.0;
    }
    // Before the product, whose output may be above f16's largest number.
    if lhs.dtype == DType::F16 && scale != 1.0 {
        let scale = InputScalar::new(scale, elem(lhs.dtype));
        multiply_by_cubecl(&numeric::mul_scalar(lhs.clone(), scale), rhs, output);
        return 1.0;
    }
    multiply_by_cubecl(lhs, rhs, output);
    scale
}

fn assert_fit(lhs: &CubeTensor, rhs: &CubeTensor) {
    let (of_lhs, of_rhs) = (lhs.meta.shape(), rhs.meta.shape());
    let last = of_lhs.len() - 1;
    let fit = of_rhs.len() == last + 1
        && of_lhs[..last - 1] == of_rhs[..last - 1]
        && of_lhs[last] == of_rhs[last - 1];
    assert!(
        fit,
        "matrices of {of_lhs:?} and {of_rhs:?} cannot be multiplied"
    );
}

fn multiply_by_cubecl(lhs: &CubeTensor, rhs: &CubeTensor, output: &CubeTensor) {
    let (lhs, rhs, out) = (lhs.clone(), rhs.clone(), Some(output.clone()));
    matmul(lhs, rhs, out, MatmulStrategy::default(), output.dtype)
        .expect("matrices of any size can be multiplied");
}

/// What is added to a product, contiguous and in its output's dtype.
#[cfg(feature = "cuda")]
#[derive(Default, Clone, Copy)]
struct Ends<'a> {
    /// Of the columns.
    bias: Option<&'a CubeTensor>,
    /// As large as the output.
    onto: Option<&'a CubeTensor>,
}

/// Whether cuBLASLt takes the product.
#[cfg(feature = "cuda")]
fn queue(lhs: &CubeTensor, rhs: &CubeTensor, scale: f32, ends: Ends, output: &CubeTensor) -> bool {
    use super::cublas::{Product, takes};
    use super::layout::Matrices;
    let sizes = lhs.meta.shape().iter().chain(rhs.meta.shape().iter());
    let is_empty = sizes.into_iter().any(|size| *size == 0);
    // As cuBLASLt's tables say for sums in f32.
    let has_type = lhs.dtype == output.dtype || output.dtype == DType::F32;
    if is_empty || !has_type || !takes(lhs) {
        return false;
    }
    let product = Product {
        lhs: Matrices::new(lhs.clone()),
        rhs: Matrices::new(rhs.clone()),
        output: Matrices::new(output.clone()),
        scale,
        bias: ends.bias.cloned(),
        onto: ends.onto.cloned(),
    };
    product.queue();
    true
}
