//! Normalization of features from files, which may have any scale.

use burn::tensor::{Tensor, TensorData};
use couplet_model::l2_normalize;

/// As [`l2_normalize`], also for rows whose squares overflow or vanish in f32. Other rows keep their bits,
/// because a row is first multiplied by a power of two.
/// - features: `[rows, embed_dim]`, finite; returns the same shape.
///
/// # Panics
/// If the device fails.
pub(crate) fn unit_rows(features: &Tensor<2>) -> Tensor<2> {
    let [rows, width] = features.dims();
    let values = features.clone().into_data();
    let mut values: Vec<f32> = values.try_to_vec().expect("features are f32");
    for row in values.chunks_exact_mut(width.max(1)) {
        let largest = row
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        // 2^-exponent, in two factors, each of which f32 can represent.
        let exponent = if largest > 0.0 {
            largest.log2().floor()
        } else {
            0.0
        };
        let half = (exponent / 2.0).trunc();
        let (first, second) = ((-half).exp2(), (half - exponent).exp2());
        for value in row {
            *value = *value * first * second;
        }
    }
    let data = TensorData::new(values, [rows, width]);
    l2_normalize(Tensor::from_data(data, &features.device()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn rows(values: &[f32]) -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / 2, 2]);
        Tensor::from_data(data, &Device::flex())
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn rows_of_any_scale_get_norm_1_and_usual_rows_keep_their_bits() {
        for scale in [1e-38, 1e-20, 1.0, 1e20, 1e38] {
            let found = values(unit_rows(&rows(&[3.0 * scale, -2.0 * scale, 0.0, 0.0])));
            let norm = 13.0_f32.sqrt();
            let wanted = [3.0 / norm, -2.0 / norm, 0.0, 0.0];
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-6, "{scale}: {found}, {wanted}");
            }
        }
        let usual: Vec<f32> = (1..200_u16)
            .map(|at| (f32::from(at) * 0.7).sin() * 9.0)
            .collect();
        let usual = rows(&usual[..198]);
        assert_eq!(values(unit_rows(&usual)), values(l2_normalize(usual)));
    }
}
