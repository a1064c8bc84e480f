//! A batch as a step reads it.

use std::ops::{Deref, DerefMut, Range};

use burn::tensor::{Device, Tensor};
use couplet_data::batch::{self, Pixels};
use couplet_data::loader::HostBatch;
use couplet_model::PreprocessSpec;

/// Pairs in host memory, whose pixels may be on the device already.
#[derive(Debug)]
pub(crate) struct StepBatch {
    host: HostBatch,
    /// Of all pairs, without a graph.
    pixels: Option<Pixels>,
}

impl From<HostBatch> for StepBatch {
    fn from(host: HostBatch) -> Self {
        Self { host, pixels: None }
    }
}

impl Deref for StepBatch {
    type Target = HostBatch;

    fn deref(&self) -> &HostBatch {
        &self.host
    }
}

impl DerefMut for StepBatch {
    fn deref_mut(&mut self) -> &mut HostBatch {
        &mut self.host
    }
}

impl StepBatch {
    /// Puts a batch's pixels on a GPU, and makes room for others on the host.
    /// - device: without autodiff.
    pub fn feed(mut host: HostBatch, image_size: usize, device: &Device) -> Self {
        let pixels = Pixels::feed(host.pixels(0..host.len()), image_size, device);
        host.release_pixels(host.len());
        Self {
            host,
            pixels: Some(pixels),
        }
    }

    /// The normalized images of some pairs, without a graph: `[rows, 3, image_size, image_size]`.
    /// - device: without autodiff.
    pub fn images(
        &self,
        rows: Range<usize>,
        image_size: usize,
        preprocess: &PreprocessSpec,
        device: &Device,
    ) -> Tensor<4> {
        let PreprocessSpec { mean, std, .. } = *preprocess;
        match &self.pixels {
            Some(pixels) => pixels.images(rows, mean, std),
            None => batch::images(self.host.pixels(rows), image_size, mean, std, device),
        }
    }
}
