//! The decoder of TIFFs.

use std::io::Cursor;

use tiff::TiffError;
use tiff::decoder::Decoder;

use super::super::limits::Limits;
use crate::sample::SampleError;

pub(super) type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn corrupt(error: TiffError) -> SampleError {
    SampleError::corrupt(error)
}

/// The decoder of the first image, within bounds of memory.
pub(super) fn open(bytes: &[u8], limits: Limits) -> Result<Reader<'_>, SampleError> {
    let mut bounds = tiff::decoder::Limits::default();
    bounds.decoding_buffer_size = usize::try_from(limits.memory()).unwrap_or(usize::MAX);
    bounds.intermediate_buffer_size = bounds.decoding_buffer_size;
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(corrupt)?;
    Ok(decoder.with_limits(bounds))
}
