//! What an image may cost.

use crate::sample::{SampleError, SkipCause};

/// Bounds on one image, from the largest number of pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub max_pixels: u64,
}

impl Limits {
    /// Bytes that decoding may hold for each pixel of the limit, the 3 of the result included: enough
    /// for a progressive JPEG with subsampled chroma.
    const BYTES_PER_PIXEL: u64 = 6;
    /// What small images may take in any case.
    const BYTES: u64 = 16 << 20;
    /// How often all pixels of the limit may be visited: an ordinary progressive JPEG has 10 scans.
    const VISITS: u64 = 64;
    /// What small images may have in any case.
    const SCANS: usize = 1000;

    /// # Errors
    /// If the image has more pixels than the limit, or none.
    pub fn check_size(self, [width, height]: [u32; 2]) -> Result<(), SampleError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(SampleError::corrupt(format!(
                "the image has no pixels: {width}x{height}"
            )));
        }
        if pixels > self.max_pixels {
            return Err(SampleError::new(
                SkipCause::OversizedImage,
                format!(
                    "{width}x{height} pixels, more than the limit of {} (data.max_image_pixels)",
                    self.max_pixels
                ),
            ));
        }
        Ok(())
    }

    /// The largest number of bytes that decoding may hold.
    pub fn memory(self) -> u64 {
        Self::BYTES + Self::BYTES_PER_PIXEL.saturating_mul(self.max_pixels)
    }

    /// - bytes: what decoding holds at once, the result included.
    ///
    /// # Errors
    /// If that is more than 6 bytes for each pixel of the limit.
    pub fn check_memory(self, [width, height]: [u32; 2], bytes: u64) -> Result<(), SampleError> {
        let limit = self.memory();
        if bytes <= limit {
            return Ok(());
        }
        let [bytes, limit] = [bytes, limit].map(|bytes| bytes >> 20);
        Err(SampleError::new(
            SkipCause::OversizedImage,
            format!(
                "{width}x{height} pixels of this kind take {bytes} MiB to decode, more than the limit of \
                 {limit} MiB (6 bytes for each of data.max_image_pixels)"
            ),
        ))
    }

    /// # Errors
    /// If an image is stored in so many passes that decoding it is meant to take long.
    pub fn check_scans(self, [width, height]: [u32; 2], scans: usize) -> Result<(), SampleError> {
        let visits = (u64::from(width) * u64::from(height)).saturating_mul(scans as u64);
        if scans <= Self::SCANS && visits <= Self::VISITS.saturating_mul(self.max_pixels) {
            return Ok(());
        }
        Err(SampleError::new(
            SkipCause::OversizedImage,
            format!("{scans} scans of {width}x{height} pixels would take too long to decode"),
        ))
    }
}
