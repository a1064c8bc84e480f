//! Host batches to tensors. The only file of this crate that names Burn.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

/// 8-bit RGB images on a device, not yet normalized.
#[derive(Debug, Clone)]
pub struct Pixels {
    values: Values,
    image_size: usize,
    images: usize,
}

/// In one dimension, because a GPU is given rows apart: three bytes in each 16 of its memory.
#[derive(Debug, Clone)]
enum Values {
    Bytes(Tensor<1, Int>),
    /// WGSL has no 8-bit integers.
    Floats(Tensor<1>),
}

impl Pixels {
    /// Puts images on `device`.
    /// - pixels: `[batch, image_size, image_size, 3]`, row-major.
    ///
    /// # Panics
    /// If `pixels` does not hold a whole number of images.
    pub fn new(pixels: Vec<u8>, image_size: usize, device: &Device) -> Self {
        Self::put(pixels, image_size, device, |_| ())
    }

    /// The same for a thread that feeds a GPU: through page-locked memory, from which the GPU takes the values while
    /// it computes. Copying them there is this thread's work.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn feed(pixels: Vec<u8>, image_size: usize, device: &Device) -> Self {
        let stage = |data: &mut TensorData| device.staging(std::iter::once(data));
        Self::put(pixels, image_size, device, stage)
    }

    fn put(
        pixels: Vec<u8>,
        image_size: usize,
        device: &Device,
        stage: impl FnOnce(&mut TensorData),
    ) -> Self {
        let image_len = image_size * image_size * 3;
        let (len, images) = (pixels.len(), pixels.len() / image_len);
        assert_eq!(len % image_len, 0, "a whole number of images");
        let values = if device.supports_dtype(DType::U8) {
            let mut bytes = TensorData::new(pixels, [len]);
            stage(&mut bytes);
            Values::Bytes(Tensor::from_data(bytes, (device, DType::U8)))
        } else {
            let floats: Vec<f32> = pixels.into_iter().map(f32::from).collect();
            let mut floats = TensorData::new(floats, [len]);
            stage(&mut floats);
            Values::Floats(Tensor::from_data(floats, device))
        };
        Self {
            values,
            image_size,
            images,
        }
    }

    /// Some of the images, normalized: `(x / 255 - mean) / std`.
    /// - mean, std: per RGB channel, of values from 0 to 1.
    /// - returns `[rows, 3, image_size, image_size]`.
    pub fn images(&self, rows: Range<usize>, mean: [f32; 3], std: [f32; 3]) -> Tensor<4> {
        let (side, count) = (self.image_size, rows.len());
        let image_len = side * side * 3;
        let [start, len] = [rows.start, count].map(|images| images * image_len);
        let is_part = count < self.images;
        let floats = match self.values.clone() {
            Values::Bytes(bytes) if is_part => bytes.narrow(0, start, len).float(),
            Values::Bytes(bytes) => bytes.float(),
            Values::Floats(floats) if is_part => floats.narrow(0, start, len),
            Values::Floats(floats) => floats,
        };
        let device = floats.device();
        let per_channel = |values: [f32; 3]| {
            let values = Tensor::<1>::from_data(values, &device);
            values.reshape([1, 1, 1, 3])
        };
        let images: Tensor<4> = floats.reshape([count, side, side, 3]);
        let scaled = images * per_channel(std.map(|s| 1.0 / (255.0 * s)));
        let shift = [0, 1, 2].map(|c| mean[c] / std[c]);
        (scaled - per_channel(shift)).permute([0, 3, 1, 2])
    }
}

/// Normalizes 8-bit RGB images on `device`: [`Pixels::images`] of all of them.
///
/// # Panics
/// As [`Pixels::new`].
pub fn images(
    pixels: Vec<u8>,
    image_size: usize,
    mean: [f32; 3],
    std: [f32; 3],
    device: &Device,
) -> Tensor<4> {
    let image_len = image_size * image_size * 3;
    if device.clone().without_autodiff() == Device::flex() && pixels.len().is_multiple_of(image_len)
    {
        let shape = [pixels.len() / image_len, 3, image_size, image_size];
        let values = normalized(&pixels, image_len, mean, std);
        return Tensor::from_data(TensorData::new(values, shape), device);
    }
    let pixels = Pixels::new(pixels, image_size, device);
    pixels.images(0..pixels.images, mean, std)
}

/// The values of [`Pixels::images`], in one pass over the pixels instead of Burn's four on one core.
/// - pixels: of whole images; image_len: of one of them.
fn normalized(pixels: &[u8], image_len: usize, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let tables = [0, 1, 2].map(|c| {
        let value = |level: u8| f32::from(level) * (1.0 / (255.0 * std[c])) - mean[c] / std[c];
        (0..=u8::MAX).map(value).collect::<Vec<f32>>()
    });
    let mut values = vec![0.0; pixels.len()];
    let images = values.par_chunks_mut(image_len);
    images
        .zip(pixels.par_chunks(image_len))
        .for_each(|(planes, image)| {
            for (c, plane) in planes.chunks_exact_mut(image_len / 3).enumerate() {
                let table = &tables[c];
                for (value, color) in plane.iter_mut().zip(image.chunks_exact(3)) {
                    *value = table[usize::from(color[c])];
                }
            }
        });
    values
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

    #[test]
    fn some_of_the_images_are_those_of_all() {
        let pixels: Vec<u8> = (0..3 * 12).map(|at| at * 7).collect();
        let (mean, std, device) = ([0.5, 0.2, 0.0], [0.5, 0.1, 1.0], Device::flex());
        let all = images(pixels.clone(), 2, mean, std, &device);
        let there = Pixels::feed(pixels, 2, &device);
        for rows in [0..3, 1..3, 0..1] {
            let some = there.images(rows.clone(), mean, std);
            // Bit for bit, whether the CPU's own pass or Burn's operations normalize them.
            some.into_data()
                .assert_eq(&all.clone().slice([rows]).into_data(), true);
        }
    }
}
