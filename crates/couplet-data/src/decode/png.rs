//! PNGs, row by row.

use std::io::Cursor;

use image::RgbImage;
use png::{
    BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, InterlaceInfo, Transformations,
    expand_interlaced_row,
};

use super::limits::Limits;
use crate::sample::SampleError;

/// Decodes a PNG, or the default image of an animated one. As in PIL, alpha is dropped, colors keep
/// the high byte of 16 bits while gray levels above 255 become white, colors that the palette lacks are black,
/// and nothing behind the pixels needs to be there.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<RgbImage, SampleError> {
    let corrupt = |error: DecodingError| SampleError::corrupt(error);
    let missing = || SampleError::corrupt("the PNG has missing rows");
    let mut options = DecodeOptions::default();
    // Those before the pixels are compared here; PIL does not compare the pixels' own.
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    check_sums(bytes)?;
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    let header = decoder.read_header_info().map_err(corrupt)?;
    let size = [header.width, header.height];
    let (kind, depth) = (header.color_type, header.bit_depth);
    let is_interlaced = header.interlaced;
    limits.check_size(size)?;
    // Palettes are looked up here.
    decoder.set_transformations(Transformations::IDENTITY);
    let pixels = u64::from(size[0]) * u64::from(size[1]);
    let mut reader = decoder.read_info().map_err(corrupt)?;
    let palette = reader.info().palette.clone().unwrap_or_default();
    let unpack = Unpack {
        kind,
        depth,
        palette: &palette,
    };
    let row_len = size[0] as usize * 3;
    let mut rgb = vec![0; row_len * size[1] as usize];
    if is_interlaced {
        let bits_per_pixel = kind.samples() * depth as usize;
        let packed_len = (size[0] as usize * bits_per_pixel).div_ceil(8);
        let len = packed_len * size[1] as usize;
        limits.check_memory(size, len as u64 + 3 * pixels)?;
        let mut packed = vec![0; len];
        let bits = u8::try_from(bits_per_pixel).expect("at most 64");
        // Not `next_frame`, which wants the file's end too.
        for _ in 0..interlaced_rows(size) {
            let row = reader.next_interlaced_row().map_err(corrupt)?;
            let row = row.ok_or_else(missing)?;
            if let InterlaceInfo::Adam7(place) = row.interlace() {
                expand_interlaced_row(&mut packed, packed_len, row.data(), place, bits);
            }
        }
        let rows = rgb.chunks_exact_mut(row_len);
        for (row, packed) in rows.zip(packed.chunks_exact(packed_len)) {
            unpack.row(packed, row);
        }
    } else {
        for row in rgb.chunks_exact_mut(row_len) {
            let packed = reader.next_row().map_err(corrupt)?;
            let packed = packed.ok_or_else(missing)?;
            unpack.row(packed.data(), row);
        }
    }
    // Behind the rows is their checksum, which may be cut off.
    match reader.next_row() {
        Err(error @ DecodingError::Format(_)) if error.to_string().contains("deflate") => {
            return Err(corrupt(error));
        }
        _ => {}
    }
    Ok(RgbImage::from_raw(size[0], size[1], rgb).expect("as many bytes as pixels"))
}

/// Compares the checksums of the chunks before the pixels.
fn check_sums(bytes: &[u8]) -> Result<(), SampleError> {
    const SIGNATURE_LEN: usize = 8;
    let mut rest = bytes.get(SIGNATURE_LEN..).unwrap_or_default();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let len = u32::from_be_bytes(*len) as usize;
        // The decoder reports what is cut off.
        let Some((chunk, tail)) = tail.split_at_checked(len.saturating_add(4)) else {
            break;
        };
        let Some((sum, tail)) = tail.split_first_chunk() else {
            break;
        };
        if chunk.starts_with(b"IDAT") {
            break;
        }
        let mut own = flate2::Crc::new();
        own.update(chunk);
        if own.sum() != u32::from_be_bytes(*sum) {
            let name = chunk[..4].escape_ascii();
            let message = format!("the PNG is damaged: the checksum of its chunk {name} is wrong");
            return Err(SampleError::corrupt(message));
        }
        rest = tail;
    }
    Ok(())
}

/// The number of rows in the passes of an interlaced image.
/// Source: PNG specification, section 8.2 (Adam7).
fn interlaced_rows([width, height]: [u32; 2]) -> u32 {
    // The first column, the first row, and the distance of rows.
    let passes = [
        [0, 0, 8],
        [4, 0, 8],
        [0, 4, 8],
        [2, 0, 4],
        [0, 2, 4],
        [1, 0, 2],
        [0, 1, 2],
    ];
    let rows = |[column, row, step]: [u32; 3]| {
        if width > column {
            height.saturating_sub(row).div_ceil(step)
        } else {
            0
        }
    };
    passes.into_iter().map(rows).sum()
}

/// How samples become RGB.
struct Unpack<'a> {
    kind: ColorType,
    depth: BitDepth,
    palette: &'a [u8],
}

impl Unpack<'_> {
    fn row(&self, packed: &[u8], rgb: &mut [u8]) {
        let (pixels, _) = rgb.as_chunks_mut::<3>();
        let bytes = if self.depth == BitDepth::Sixteen {
            2
        } else {
            1
        };
        match self.kind {
            ColorType::Rgb | ColorType::Rgba => {
                for (pixel, sample) in pixels
                    .iter_mut()
                    .zip(packed.chunks_exact(self.kind.samples() * bytes))
                {
                    *pixel = [0, 1, 2].map(|channel| sample[channel * bytes]);
                }
            }
            ColorType::GrayscaleAlpha => {
                for (pixel, sample) in pixels.iter_mut().zip(packed.chunks_exact(2 * bytes)) {
                    *pixel = [sample[0]; 3];
                }
            }
            ColorType::Grayscale if self.depth == BitDepth::Sixteen => {
                let (samples, _) = packed.as_chunks();
                for (pixel, sample) in pixels.iter_mut().zip(samples) {
                    let level = u16::from_be_bytes(*sample);
                    *pixel = [u8::try_from(level).unwrap_or(u8::MAX); 3];
                }
            }
            ColorType::Grayscale | ColorType::Indexed => {
                let bits = self.depth as usize;
                let most = u8::try_from((1 << bits) - 1).expect("at most 8 bits");
                let per_byte = 8 / bits;
                for (at, pixel) in pixels.iter_mut().enumerate() {
                    let shift = 8 - bits - bits * (at % per_byte);
                    let sample = (packed[at / per_byte] >> shift) & most;
                    *pixel = if self.kind == ColorType::Grayscale {
                        [sample * (u8::MAX / most); 3]
                    } else {
                        let start = 3 * usize::from(sample);
                        match self.palette.get(start..start + 3) {
                            Some(color) => [color[0], color[1], color[2]],
                            None => [0; 3],
                        }
                    };
                }
            }
        }
    }
}
