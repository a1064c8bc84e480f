//! JPEGs, by libjpeg-turbo's code.

mod layout;

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use image::RgbImage;

use self::layout::Layout;
use super::color;
use super::limits::Limits;
use crate::panics::catch_unwinding;
use crate::sample::SampleError;

/// Whether the file is a JPEG. As PIL.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Decodes a JPEG, maybe at a fraction of its size.
/// - reduction: receives `[width, height]` and returns the factor: 1, 2, 4 or 8.
pub(super) fn decode(
    bytes: &[u8],
    limits: Limits,
    reduction: impl FnOnce([u32; 2]) -> u32,
) -> Result<RgbImage, SampleError> {
    let layout = Layout::read(bytes).map_err(SampleError::corrupt)?;
    let size = [layout.width, layout.height];
    limits.check_size(size)?;
    limits.check_scans(size, layout.scans)?;
    let pixels = u64::from(layout.width) * u64::from(layout.height);
    let held = if layout.holds_coefficients {
        layout.coefficient_bytes
    } else {
        0
    };
    limits.check_memory(size, held + pixels * u64::from(layout.components.max(3)))?;
    let by = reduction(size);
    decode_by_libjpeg(bytes, layout.components, by).map_err(SampleError::corrupt)
}

/// A file's bytes, and whether the decoder asked for more.
struct Source<'a> {
    rest: &'a [u8],
    is_short: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.is_short
            .set(self.is_short.get() || self.rest.is_empty());
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest.consume(amount);
    }
}

/// Decodes with libjpeg-turbo's code. As in PIL, the file may end behind its pixels' last bit.
/// - by: the reduction factor: 1, 2, 4 or 8.
fn decode_by_libjpeg(bytes: &[u8], components: u8, by: u32) -> Result<RgbImage, String> {
    const EIGHTHS: u32 = 8;
    let is_short = Cell::new(false);
    let source = Source {
        rest: bytes,
        is_short: &is_short,
    };
    let rows = || -> io::Result<_> {
        let mut jpeg = mozjpeg::Decompress::new_reader(source)?;
        jpeg.scale(u8::try_from(EIGHTHS / by).expect("at most 8"));
        let mut lines = if components == 4 {
            jpeg.to_colorspace(mozjpeg::ColorSpace::JCS_CMYK)?
        } else {
            jpeg.rgb()?
        };
        let size = [lines.width(), lines.height()];
        let pixels: Vec<u8> = lines.read_scanlines()?;
        Ok((size, pixels, lines))
    };
    // libjpeg reports errors by unwinding.
    let decoded = catch_unwinding(rows).and_then(|rows| rows.map_err(|error| error.to_string()));
    if is_short.get() {
        return Err("the JPEG is cut off: pixels are missing".into());
    }
    let message = |error: String| {
        let error = error
            .strip_prefix("libjpeg fatal error: ")
            .unwrap_or(&error);
        format!("the JPEG is damaged: {error}")
    };
    let ([width, height], mut pixels, lines) = decoded.map_err(message)?;
    let finished =
        catch_unwinding(|| lines.finish()).and_then(|done| done.map_err(|error| error.to_string()));
    if !is_short.get() {
        finished.map_err(message)?;
    }
    if components == 4 {
        cmyk_to_rgb(&mut pixels);
    }
    let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "the JPEG has missing rows".into())
}

/// Converts CMYK in place, which is inverted as Adobe writes it: PIL takes every CMYK JPEG for such.
fn cmyk_to_rgb(pixels: &mut Vec<u8>) {
    let count = pixels.len() / 4;
    for at in 0..count {
        let inks = [0, 1, 2, 3].map(|ink| 255 - pixels[4 * at + ink]);
        pixels[3 * at..3 * at + 3].copy_from_slice(&color::cmyk_to_rgb(inks));
    }
    pixels.truncate(3 * count);
}

#[cfg(test)]
mod tests;
