//! TIFFs whose strips or tiles are JPEGs.

use image::{GenericImage, RgbImage};
use tiff::decoder::ChunkType;
use tiff::tags::Tag;

use super::super::jpeg;
use super::super::limits::Limits;
use super::reader::{Reader, corrupt};
use crate::sample::SampleError;

const YCBCR: u16 = 6;
const CMYK: u16 = 5;

/// Decodes each strip as libtiff does: with the tables that all share, and in the colors of the TIFF.
pub(super) fn decode(
    decoder: &mut Reader<'_>,
    bytes: &[u8],
    size: [u32; 2],
    limits: Limits,
) -> Result<RgbImage, SampleError> {
    let is_tiled = decoder.get_chunk_type() == ChunkType::Tile;
    let [offsets, lengths] = if is_tiled {
        [Tag::TileOffsets, Tag::TileByteCounts]
    } else {
        [Tag::StripOffsets, Tag::StripByteCounts]
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(corrupt)?;
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(corrupt)?;
    let number = |decoder: &mut Reader, tag| decoder.find_tag_unsigned::<u16>(tag).map_err(corrupt);
    let is_planar = number(decoder, Tag::PlanarConfiguration)? == Some(2);
    let photometric = number(decoder, Tag::PhotometricInterpretation)?;
    if is_planar || photometric == Some(CMYK) {
        let kind = if is_planar { "planes" } else { "CMYK" };
        return Err(SampleError::corrupt(format!(
            "TIFFs of {kind} in JPEG are not supported"
        )));
    }
    let tables = decoder.find_tag(Tag::JPEGTables).map_err(corrupt)?;
    let tables = tables
        .map(tiff::decoder::ifd::Value::into_u8_vec)
        .transpose()
        .map_err(corrupt)?;
    // Between the tables' own start and end.
    let tables = tables
        .as_deref()
        .and_then(|tables| tables.get(2..tables.len().max(4) - 2));
    let (width, height) = decoder.chunk_dimensions();
    if width == 0 || height == 0 {
        return Err(SampleError::corrupt("the TIFF has strips without pixels"));
    }
    let across = size[0].div_ceil(width);
    let mut image = RgbImage::new(size[0], size[1]);
    for (at, (offset, len)) in offsets.iter().zip(&lengths).enumerate() {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let (left, top) = ((at % across) * width, (at / across).saturating_mul(height));
        if top >= size[1] {
            break;
        }
        let range = usize::try_from(*offset)
            .ok()
            .zip(usize::try_from(offset.saturating_add(*len)).ok());
        let strip = range
            .and_then(|(start, end)| bytes.get(start..end))
            .and_then(|strip| strip.get(2..));
        let strip = strip.ok_or_else(|| SampleError::corrupt("a strip of the TIFF is cut off"))?;
        let mut file = vec![0xff, 0xd8];
        // The TIFF says what the colors are, not the numbers of the JPEG's components.
        file.extend(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0");
        file.push(u8::from(photometric == Some(YCBCR)));
        file.extend(tables.unwrap_or_default());
        file.extend(strip);
        // libtiff refuses strips of other sizes too.
        let of_strip = Limits {
            max_pixels: (u64::from(width) * u64::from(height)).min(limits.max_pixels),
        };
        let strip = jpeg::decode(&file, of_strip, |_| 1)?;
        if strip.width() > width || strip.height() > height {
            let [is_wide, is_high] = [strip.width(), strip.height()];
            return Err(SampleError::corrupt(format!(
                "a strip of the TIFF has {is_wide}x{is_high} pixels, more than the {width}x{height} of a strip"
            )));
        }
        let [seen_width, seen_height] = [
            strip.width().min(size[0] - left),
            strip.height().min(size[1] - top).min(height),
        ];
        let seen = image::imageops::crop_imm(&strip, 0, 0, seen_width, seen_height);
        image
            .copy_from(&*seen, left, top)
            .map_err(SampleError::corrupt)?;
    }
    Ok(image)
}
