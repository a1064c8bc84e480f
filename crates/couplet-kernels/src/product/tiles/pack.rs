//! Operands as tiles.
#![expect(unsafe_code, reason = "vector instructions and their pointers")]

use std::arch::x86_64::{
    __m512bh, __m512i, _mm256_maskz_loadu_epi16, _mm512_castsi256_si512, _mm512_cvtne2ps_pbh,
    _mm512_inserti64x4, _mm512_loadu_si512, _mm512_maskz_loadu_epi16, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use burn::tensor::bf16;

use super::{INNER, Instructions, LINES, Side, Tile, first_16};
use crate::values::{Value, Values};

/// Some lines of an operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    /// Begins with the first line.
    pub values: Values<'a>,
    /// At most [`LINES`].
    pub count: usize,
    /// From one line to the next.
    pub stride: usize,
    /// Values of each line.
    pub inner: usize,
    pub inner_stride: usize,
}

/// Copies lines to tiles, rounded to bf16; what a tile has beyond them is zero.
/// - tiles: as many as the lines' values need.
///
/// # Panics
/// If there is more in `lines` than in its slice or in `tiles`.
pub(crate) fn pack(tiles: &mut [Tile], lines: Lines, side: Side) {
    assert!(
        (1..=LINES).contains(&lines.count) && lines.inner > 0,
        "lines of a tile"
    );
    assert_eq!(tiles.len(), lines.inner.div_ceil(INNER), "tiles of a line");
    let last = (lines.count - 1) * lines.stride + (lines.inner - 1) * lines.inner_stride;
    assert!(last < lines.values.len(), "values of lines");
    assert!(Instructions::detect().is_some());
    // SAFETY: all values are in the slice; the instructions were found.
    unsafe {
        match lines.values {
            Values::Wide(values) => pack_from(values.as_ptr(), tiles, lines, side),
            Values::Narrow(values) => pack_from(values.as_ptr(), tiles, lines, side),
        }
    }
}

/// Loads for [`pack`]. They read the first `count` values at a pointer, and take the rest as zero.
trait Load: Value {
    /// 32 values.
    unsafe fn line(from: *const Self, count: usize) -> __m512i;
    /// 16 pairs of values, one of each pair behind each pointer.
    unsafe fn pairs(from: [*const Self; 2], counts: [usize; 2]) -> __m512i;
}

impl Load for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn line(from: *const f32, count: usize) -> __m512i {
        unsafe {
            let low = _mm512_maskz_loadu_ps(first_16(count), from);
            let high = first_16(count.saturating_sub(16));
            let high = _mm512_maskz_loadu_ps(high, from.wrapping_add(16));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn pairs(from: [*const f32; 2], counts: [usize; 2]) -> __m512i {
        unsafe {
            let low = _mm512_maskz_loadu_ps(first_16(counts[0]), from[0]);
            let high = _mm512_maskz_loadu_ps(first_16(counts[1]), from[1]);
            interleave(std::mem::transmute::<__m512bh, __m512i>(
                _mm512_cvtne2ps_pbh(high, low),
            ))
        }
    }
}

impl Load for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn line(from: *const bf16, count: usize) -> __m512i {
        let mask = if count >= 32 {
            u32::MAX
        } else {
            (1 << count) - 1
        };
        unsafe { _mm512_maskz_loadu_epi16(mask, from.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn pairs(from: [*const bf16; 2], counts: [usize; 2]) -> __m512i {
        unsafe {
            let low = _mm256_maskz_loadu_epi16(first_16(counts[0]), from[0].cast());
            let high = _mm256_maskz_loadu_epi16(first_16(counts[1]), from[1].cast());
            interleave(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1))
        }
    }
}

/// Pairs of values that are 16 apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(halves: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let (mut order, mut at) = ([0; 32], 0);
        while at < 32 {
            order[at as usize] = at / 2 + at % 2 * 16;
            at += 1;
        }
        order
    };
    // SAFETY: both are 64 bytes.
    let order = unsafe { std::mem::transmute::<[u16; 32], __m512i>(ORDER) };
    _mm512_permutexvar_epi16(order, halves)
}

/// As with `strip`, loops count.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(clippy::needless_range_loop, reason = "as above")]
unsafe fn pack_from<E: Load>(from: *const E, tiles: &mut [Tile], lines: Lines, side: Side) {
    let Lines {
        count,
        stride,
        inner,
        inner_stride,
        ..
    } = lines;
    for (at, tile) in tiles.iter_mut().enumerate() {
        let start = at * INNER;
        let mut parts = [_mm512_setzero_si512(); LINES];
        if inner_stride == 1 {
            for line in 0..count {
                // SAFETY: the caller's; `line` reads no more than there is.
                parts[line] = unsafe { E::line(from.add(line * stride + start), inner - start) };
            }
        } else if stride == 1 {
            for pair in 0..LINES {
                let low = start + 2 * pair;
                let counts = [
                    if low < inner { count } else { 0 },
                    if low + 1 < inner { count } else { 0 },
                ];
                let low = from.wrapping_add(low * inner_stride);
                // SAFETY: as above.
                parts[pair] = unsafe { E::pairs([low, low.wrapping_add(inner_stride)], counts) };
            }
        } else {
            let mut values = Tile::ZERO;
            for line in 0..count {
                for value in 0..INNER.min(inner - start) {
                    // SAFETY: the caller's.
                    let from = unsafe { *from.add(line * stride + (start + value) * inner_stride) };
                    values.0[line * INNER + value] = bf16::narrow(from.wide()).to_bits();
                }
            }
            for line in 0..LINES {
                // SAFETY: a line has 64 bytes.
                parts[line] =
                    unsafe { _mm512_loadu_si512(values.0[line * INNER..].as_ptr().cast()) };
            }
        }
        let is_by_pair = inner_stride != 1 && stride == 1;
        if is_by_pair != (side == Side::Right) {
            parts = transposed(&parts);
        }
        for line in 0..LINES {
            // SAFETY: a line has 64 bytes.
            unsafe { _mm512_storeu_si512(tile.0[line * INNER..].as_mut_ptr().cast(), parts[line]) };
        }
    }
}

/// 16 x 16 values of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = *rows;
    for at in (0..16).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    let mut fours = pairs;
    for at in (0..16).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut eights = fours;
    for at in 0..4 {
        for half in [0, 8] {
            let (low, high) = (fours[half + at], fours[half + at + 4]);
            eights[half + at] = _mm512_shuffle_i32x4::<0x88>(low, high);
            eights[half + at + 4] = _mm512_shuffle_i32x4::<0xdd>(low, high);
        }
    }
    let mut columns = eights;
    for at in 0..8 {
        columns[at] = _mm512_shuffle_i32x4::<0x88>(eights[at], eights[at + 8]);
        columns[at + 8] = _mm512_shuffle_i32x4::<0xdd>(eights[at], eights[at + 8]);
    }
    columns
}
