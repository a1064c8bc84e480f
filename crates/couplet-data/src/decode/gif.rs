//! GIFs: the first frame, on the screen that PIL puts it on.

use std::io::{Cursor, Read};

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};
use image::RgbImage;

use super::limits::Limits;
use crate::sample::SampleError;

/// Decodes the first frame. The screen around a smaller frame has the transparent color, or the first
/// of the palette; a frame that is larger widens the screen. Colors that the palette lacks are black.
///
/// Source: `GifImageFile` of PIL.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<RgbImage, SampleError> {
    let corrupt = |error: DecodingError| SampleError::corrupt(error);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Unlimited);
    options.allow_unknown_blocks(true);
    let head = Cursor::new(with_palette(bytes));
    let rest = bytes.get(HEAD_LEN..).unwrap_or_default();
    // Where a frame is whole, the file's end may be missing.
    let end: &[u8] = if rest.last() == Some(&0) { b";" } else { b"" };
    let source = head.chain(rest).chain(end);
    let mut decoder = options.read_info(source).map_err(corrupt)?;
    let screen = [decoder.width(), decoder.height()];
    let frame = decoder.next_frame_info().map_err(corrupt)?;
    let frame = frame.ok_or_else(|| SampleError::corrupt("the GIF has no frame"))?;
    let [left, top, width, height] =
        [frame.left, frame.top, frame.width, frame.height].map(u32::from);
    let (transparent, is_interlaced) = (frame.transparent, frame.interlaced);
    let local_palette = frame.palette.clone();
    let size = [
        u32::from(screen[0]).max(left + width),
        u32::from(screen[1]).max(top + height),
    ];
    limits.check_size(size)?;
    let mut indices = vec![0; decoder.buffer_size()];
    // A palette that says nothing is none.
    let palette = local_palette.filter(|palette| !is_gray(palette));
    let palette = palette.or_else(|| decoder.global_palette().map(<[u8]>::to_vec));
    let color = colors(palette.as_deref().unwrap_or_default());
    if !indices.is_empty() {
        // In one piece: `read_into_buffer` takes an interlaced frame for cut off where its data end early.
        if !decoder.fill_buffer(&mut indices).map_err(corrupt)? {
            return Err(SampleError::corrupt(
                "the GIF is cut off: pixels are missing",
            ));
        }
    }
    let around = color[usize::from(transparent.unwrap_or(0))];
    let mut image = RgbImage::from_pixel(size[0], size[1], around.into());
    let (left, columns) = (left as usize, width as usize);
    if indices.is_empty() {
        return Ok(image);
    }
    let stride = size[0] as usize * 3;
    let levels: &mut [u8] = &mut image;
    let rows = row_order(height as usize, is_interlaced);
    for (row, indices) in rows.zip(indices.chunks_exact(columns)) {
        let start = (top as usize + row) * stride + 3 * left;
        let (pixels, _) = levels[start..].as_chunks_mut();
        for (pixel, index) in pixels.iter_mut().zip(indices) {
            *pixel = color[usize::from(*index)];
        }
    }
    Ok(image)
}

/// The rows of a frame in the order in which they are stored. Source: GIF89a, appendix E.
fn row_order(height: usize, is_interlaced: bool) -> impl Iterator<Item = usize> {
    let passes: &[(usize, usize)] = if is_interlaced {
        &[(0, 8), (4, 8), (2, 4), (1, 2)]
    } else {
        &[(0, 1)]
    };
    passes
        .iter()
        .flat_map(move |(start, step)| (*start..height).step_by(*step))
}

/// The length of what comes before the global palette.
const HEAD_LEN: usize = 13;

/// The file's start, with a global palette of gray levels where there is none: PIL reads frames without
/// any palette as gray, and the crate refuses them.
fn with_palette(bytes: &[u8]) -> Vec<u8> {
    const HAS_PALETTE: u8 = 0x80;
    const OF_256_COLORS: u8 = 7;
    let mut head = bytes[..HEAD_LEN.min(bytes.len())].to_vec();
    if let Some(flags) = head.get_mut(10).filter(|flags| **flags & HAS_PALETTE == 0) {
        *flags |= HAS_PALETTE | OF_256_COLORS;
        head.extend((0..=u8::MAX).flat_map(|level| [level; 3]));
    }
    head
}

/// Whether each color is its own index.
fn is_gray(palette: &[u8]) -> bool {
    let (palette, _) = palette.as_chunks::<3>();
    let mut levels = (0..=u8::MAX).zip(palette);
    levels.all(|(level, color)| *color == [level; 3])
}

/// The color of every index.
fn colors(palette: &[u8]) -> [[u8; 3]; 256] {
    let is_gray = is_gray(palette);
    let (palette, _) = palette.as_chunks();
    std::array::from_fn(|index| match palette.get(index) {
        Some(color) => *color,
        None if is_gray => [u8::try_from(index).expect("below 256"); 3],
        None => [0; 3],
    })
}
