//! Host batches to tensors. The only file of this crate that names Burn.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Normalizes 8-bit RGB images on `device`: `(x / 255 - mean) / std`.
/// - pixels: `[batch, image_size, image_size, 3]`, row-major.
/// - mean, std: per RGB channel, of values from 0 to 1.
/// - returns `[batch, 3, image_size, image_size]`.
///
/// # Panics
/// If `pixels` does not hold a whole number of images.
pub fn images(
    pixels: Vec<u8>,
    image_size: usize,
    mean: [f32; 3],
    std: [f32; 3],
    device: &Device,
) -> Tensor<4> {
    let image_len = image_size * image_size * 3;
    assert_eq!(pixels.len() % image_len, 0, "a whole number of images");
    let shape = [pixels.len() / image_len, image_size, image_size, 3];
    // Bytes are transferred where the device supports them; WGSL has no 8-bit integers.
    // In one dimension, because a GPU is given rows apart: three bytes in each 16 of its memory.
    let flat = [pixels.len()];
    let images = if device.supports_dtype(DType::U8) {
        let bytes = TensorData::new(pixels, flat);
        Tensor::<1, Int>::from_data(bytes, (device, DType::U8)).float()
    } else {
        let floats: Vec<f32> = pixels.into_iter().map(f32::from).collect();
        Tensor::<1>::from_data(TensorData::new(floats, flat), device)
    };
    let images: Tensor<4> = images.reshape(shape);
    let per_channel = |values: [f32; 3]| {
        let values = Tensor::<1>::from_data(values, device);
        values.reshape([1, 1, 1, 3])
    };
    let scaled = images * per_channel(std.map(|s| 1.0 / (255.0 * s)));
    let shift = [0, 1, 2].map(|c| mean[c] / std[c]);
    (scaled - per_channel(shift)).permute([0, 3, 1, 2])
}

/// Puts token ids on `device`.
/// - ids: `[batch, length]`, row-major.
/// - returns `[batch, length]`.
///
/// # Panics
/// If `ids` does not hold a whole number of rows.
pub fn tokens(ids: Vec<i32>, length: usize, device: &Device) -> Tensor<2, Int> {
    assert_eq!(ids.len() % length, 0, "a whole number of rows");
    let (rows, flat) = (ids.len() / length, [ids.len()]);
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, flat), device);
    ids.reshape([rows, length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_normalized_channel_by_channel() {
        let pixels = vec![0, 51, 255, 255, 102, 0, 10, 20, 30, 1, 2, 3];
        let (mean, std) = ([0.5, 0.2, 0.0], [0.5, 0.1, 1.0]);
        let images = images(pixels, 2, mean, std, &Device::flex());
        assert_eq!(images.dims(), [1, 3, 2, 2]);
        let values: Vec<f32> = images.into_data().try_to_vec().unwrap();
        // Rows of red, then green, then blue.
        for (at, wanted) in [(0, -1.0), (1, 1.0), (4, 0.0), (5, 2.0), (8, 1.0), (9, 0.0)] {
            let value: f32 = values[at];
            assert!((value - wanted).abs() < 1e-5, "{at}: {value}");
        }
    }
}
