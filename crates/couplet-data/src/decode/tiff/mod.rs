//! TIFFs: the first image.

mod jpeg_strips;
mod reader;
mod samples;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use tiff::ColorType;
use tiff::decoder::ChunkType;
use tiff::tags::Tag;

use self::reader::{Reader, corrupt, open};
use self::samples::Samples;
use super::limits::Limits;
use crate::sample::SampleError;

const WHITE_IS_ZERO: u16 = 0;
const PALETTE: u16 = 3;
const JPEG: u16 = 7;

/// As image's `guess_format`, and BigTIFF.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
        .iter()
        .any(|magic| bytes.starts_with(*magic))
}

/// Decodes the first image. As in PIL, alpha is dropped, colors keep the high byte of 16 bits, gray levels
/// are cut off at 255, and the orientation is applied.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<RgbImage, SampleError> {
    let mut decoder = open(bytes, limits)?;
    let size: [u32; 2] = decoder.dimensions().map_err(corrupt)?.into();
    limits.check_size(size)?;
    let number = |decoder: &mut Reader, tag| decoder.find_tag_unsigned::<u16>(tag).map_err(corrupt);
    let photometric =
        number(&mut decoder, Tag::PhotometricInterpretation)?.unwrap_or(WHITE_IS_ZERO);
    let compression = number(&mut decoder, Tag::Compression)?.unwrap_or(1);
    let orientation = number(&mut decoder, Tag::Orientation)?.unwrap_or(1);
    let image = if compression == JPEG {
        jpeg_strips::decode(&mut decoder, bytes, size, limits)?
    } else {
        let bits = decoder
            .find_tag_unsigned_vec::<u16>(Tag::BitsPerSample)
            .map_err(corrupt)?;
        let bits = bits.and_then(|bits| bits.first().copied()).unwrap_or(1);
        let palette = match photometric {
            PALETTE => Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(corrupt)?),
            _ => None,
        };
        // The crate knows no palettes, and inverts gray levels of all depths; PIL only those of 8 bits.
        let as_gray = palette.is_some() || (photometric == WHITE_IS_ZERO && bits > 8);
        let patched = if as_gray {
            Some(with_black_as_zero(bytes)?)
        } else {
            None
        };
        if let Some(patched) = &patched {
            let mut decoder = open(patched, limits)?;
            read(&mut decoder, size, palette.as_deref(), limits)?
        } else {
            read(&mut decoder, size, None, limits)?
        }
    };
    let Some(orientation) = u8::try_from(orientation)
        .ok()
        .and_then(Orientation::from_exif)
    else {
        return Ok(image);
    };
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn read(
    decoder: &mut Reader<'_>,
    size: [u32; 2],
    palette: Option<&[u16]>,
    limits: Limits,
) -> Result<RgbImage, SampleError> {
    let color = decoder.colortype().map_err(corrupt)?;
    let layout = decoder.image_buffer_layout().map_err(corrupt)?;
    let samples = decoder
        .find_tag_unsigned::<u16>(Tag::SamplesPerPixel)
        .map_err(corrupt)?;
    let is_simple = layout.planes == 1 && samples.unwrap_or(1) == color.num_samples();
    if decoder.get_chunk_type() == ChunkType::Tile && !is_simple {
        // The crate would mix the samples up.
        return Err(SampleError::corrupt(
            "TIFFs with tiles of planes or of unknown samples are not supported",
        ));
    }
    let pixels = u64::from(size[0]) * u64::from(size[1]);
    limits.check_memory(size, layout.complete_len as u64 + 3 * pixels)?;
    let mut bytes = vec![0; layout.complete_len];
    decoder.read_image_bytes(&mut bytes).map_err(corrupt)?;
    let is_multiplied = decoder
        .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
        .map_err(corrupt)?
        .is_some_and(|extra| extra.first() == Some(&1));
    let samples = Samples {
        bytes: &bytes,
        row_len: layout.row_stride.map_or(0, usize::from),
        plane_len: layout.plane_stride.map_or(0, usize::from),
        per_pixel: if layout.planes > 1 {
            1
        } else {
            usize::from(color.num_samples())
        },
        bits: usize::from(color.bit_depth()),
        format: layout.sample_format,
    };
    let unsupported = || SampleError::corrupt(format!("TIFFs of {color:?} are not supported"));
    let convert: fn(&Samples<'_>, [usize; 2]) -> [u8; 3] = match color {
        ColorType::Gray(_) if palette.is_none() => {
            if !samples.is_gray() {
                return Err(unsupported());
            }
            |from, at| [from.gray(at); 3]
        }
        ColorType::Gray(1 | 2 | 4 | 8) => {
            let palette = palette.unwrap_or_default();
            let colors = palette.len() / 3;
            return Ok(RgbImage::from_fn(size[0], size[1], |x, y| {
                let index = samples.index([x as usize, y as usize]);
                let color = |channel: usize| match palette.get(channel * colors + index) {
                    Some(level) if index < colors => level.to_be_bytes()[0],
                    _ => 0,
                };
                [color(0), color(1), color(2)].into()
            }));
        }
        ColorType::Multiband {
            bit_depth: 8,
            num_samples: 2,
        } if is_multiplied => |from, at| [from.over_alpha(at, 0, 1); 3],
        ColorType::Multiband {
            bit_depth: 8,
            num_samples: 2,
        } => |from, at| [from.byte(at, 0); 3],
        ColorType::RGBA(8 | 16) if is_multiplied => {
            |from, at| [0, 1, 2].map(|channel| from.over_alpha(at, channel, 3))
        }
        ColorType::RGB(8 | 16) | ColorType::RGBA(8 | 16) => {
            |from, at| [0, 1, 2].map(|channel| from.byte(at, channel))
        }
        ColorType::CMYK(8 | 16) | ColorType::CMYKA(8 | 16) => {
            |from, at| super::color::cmyk_to_rgb([0, 1, 2, 3].map(|ink| from.byte(at, ink)))
        }
        ColorType::YCbCr(8) => {
            |from, at| super::color::ycbcr_to_rgb([0, 1, 2].map(|channel| from.byte(at, channel)))
        }
        _ => return Err(unsupported()),
    };
    Ok(RgbImage::from_fn(size[0], size[1], |x, y| {
        convert(&samples, [x as usize, y as usize]).into()
    }))
}

/// A copy in which samples are gray levels, black where they are 0.
fn with_black_as_zero(bytes: &[u8]) -> Result<Vec<u8>, SampleError> {
    const PHOTOMETRIC: u16 = 262;
    const BLACK_IS_ZERO: u16 = 1;
    const ENTRY_LEN: usize = 12;
    let is_little = bytes.starts_with(b"II*\0");
    let short = |at: usize| {
        let pair = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if is_little {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        })
    };
    let value_at = || {
        let [low, high] = if is_little {
            [short(4)?, short(6)?]
        } else {
            [short(6)?, short(4)?]
        };
        let directory = usize::from(low) | usize::from(high) << 16;
        let entries = usize::from(short(directory)?);
        let mut entries = (0..entries).map(|entry| directory + 2 + entry * ENTRY_LEN);
        entries
            .find(|at| short(*at) == Some(PHOTOMETRIC))
            .map(|at| at + 8)
    };
    let is_classic = is_little || bytes.starts_with(b"MM\0*");
    let at = value_at().filter(|at| is_classic && at + 2 <= bytes.len());
    let at = at.ok_or_else(|| SampleError::corrupt("BigTIFFs of this kind are not supported"))?;
    let mut patched = bytes.to_vec();
    let value = if is_little {
        BLACK_IS_ZERO.to_le_bytes()
    } else {
        BLACK_IS_ZERO.to_be_bytes()
    };
    patched[at..at + 2].copy_from_slice(&value);
    Ok(patched)
}
