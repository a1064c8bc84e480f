//! The two passes of a resize. Their loops count, and are inlined into a function for the widest vectors of the machine.
#![expect(
    clippy::inline_always,
    reason = "what is not inlined there is compiled for the oldest processor"
)]

use pulp::{Arch, NullaryFnOnce};

use super::filter::{PRECISION_BITS, Taps};

pub(super) const CHANNELS: usize = 3;

/// Lines that the horizontal pass takes at once. It reads a pixel of all of them together, since the pixels that one output
/// pixel needs begin anywhere in a line.
pub(super) const LINES: usize = 16;

/// Pixels of a line that are taken so at most: as many as a JPEG's.
pub(super) const LONG: usize = 65_535;

/// The values of one column of so many lines. Such arrays are passed by value: then they stay in registers.
pub(super) type Column = [u8; LINES];

/// Bytes of 8 lines that are exchanged with columns at once.
const TILE: usize = 32;

/// Eight bytes of a line of each of four tiles.
type Tiles = [u64; 4];

/// Columns that the vertical pass takes at once.
const COLUMNS: usize = 64;

/// One half, so that dropping the fractional bits rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "clamped to 8 bits")]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes lines horizontally.
/// - lines: of one length, in whole pixels.
/// - taps: of the output pixels, counted from the first pixel of the lines.
/// - columns: the lines' and the output's, for use again.
/// - out: the output's lines, one after the other.
pub(super) fn across(
    lines: &[&[u8]; LINES],
    taps: &[Taps],
    [columns, resized]: &mut [Vec<Column>; 2],
    out: &mut [u8],
) {
    columns.resize(lines[0].len(), [0; LINES]);
    resized.resize(taps.len() * CHANNELS, [0; LINES]);
    Arch::new().dispatch(Across {
        lines,
        taps,
        columns,
        resized,
        out,
    });
}

/// As a struct, because a closure's call would be a function of its own.
struct Across<'a> {
    lines: &'a [&'a [u8]; LINES],
    taps: &'a [Taps],
    columns: &'a mut [Column],
    resized: &'a mut [Column],
    out: &'a mut [u8],
}

impl NullaryFnOnce for Across<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        to_columns(self.lines, self.columns);
        resize_columns(self.columns, self.taps, self.resized);
        to_lines(self.resized, self.out);
    }
}

/// Exchanges rows and columns of four tiles of 8 x 8 bytes, which are side by side: byte `c` of number `r` of a tile becomes
/// byte `r` of number `c`.
#[inline(always)]
fn turn(mut rows: [Tiles; 8]) -> [Tiles; 8] {
    for (a, b) in [(0, 1), (2, 3), (4, 5), (6, 7)] {
        (rows[a], rows[b]) = exchange(rows[a], rows[b], 8, 0x00ff_00ff_00ff_00ff);
    }
    for (a, b) in [(0, 2), (1, 3), (4, 6), (5, 7)] {
        (rows[a], rows[b]) = exchange(rows[a], rows[b], 16, 0x0000_ffff_0000_ffff);
    }
    for (a, b) in [(0, 4), (1, 5), (2, 6), (3, 7)] {
        (rows[a], rows[b]) = exchange(rows[a], rows[b], 32, 0x0000_0000_ffff_ffff);
    }
    rows
}

#[inline(always)]
fn exchange(mut above: Tiles, mut below: Tiles, bits: u32, kept: u64) -> (Tiles, Tiles) {
    for tile in 0..4 {
        let exchanged = ((above[tile] >> bits) ^ below[tile]) & kept;
        above[tile] ^= exchanged << bits;
        below[tile] ^= exchanged;
    }
    (above, below)
}

#[inline(always)]
fn eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// Where tiles begin, so that they cover `len` columns, of which there are enough for one.
#[inline(always)]
fn tile_starts(len: usize) -> impl Iterator<Item = usize> {
    (0..len.div_ceil(TILE)).map(move |tile| (tile * TILE).min(len - TILE))
}

#[inline(always)]
fn to_columns(lines: &[&[u8]; LINES], columns: &mut [Column]) {
    let len = columns.len();
    if len < TILE {
        for (at, column) in columns.iter_mut().enumerate() {
            for (value, line) in column.iter_mut().zip(lines) {
                *value = line[at];
            }
        }
        return;
    }
    for start in tile_starts(len) {
        for half in [0, 8] {
            let mut rows = [[0; 4]; 8];
            for row in 0..8 {
                let bytes = &lines[half + row][start..start + TILE];
                for tile in 0..4 {
                    rows[row][tile] = eight(&bytes[8 * tile..]);
                }
            }
            let rows = turn(rows);
            let columns = &mut columns[start..start + TILE];
            for tile in 0..4 {
                for row in 0..8 {
                    let column = &mut columns[8 * tile + row][half..half + 8];
                    column.copy_from_slice(&rows[row][tile].to_le_bytes());
                }
            }
        }
    }
}

/// - out: as many lines as it has place for, at most [`LINES`].
#[inline(always)]
fn to_lines(columns: &[Column], out: &mut [u8]) {
    let len = columns.len();
    if len < TILE {
        for (line, values) in out.chunks_exact_mut(len).enumerate() {
            for (value, column) in values.iter_mut().zip(columns) {
                *value = column[line];
            }
        }
        return;
    }
    for start in tile_starts(len) {
        for half in [0, 8] {
            let mut rows = [[0; 4]; 8];
            for row in 0..8 {
                for tile in 0..4 {
                    rows[row][tile] = eight(&columns[start + 8 * tile + row][half..]);
                }
            }
            let rows = turn(rows);
            let lines = out.chunks_exact_mut(len).skip(half);
            for (values, row) in lines.zip(&rows) {
                let values = &mut values[start..start + TILE];
                for tile in 0..4 {
                    values[8 * tile..8 * tile + 8].copy_from_slice(&row[tile].to_le_bytes());
                }
            }
        }
    }
}

#[inline(always)]
fn resize_columns(columns: &[Column], taps: &[Taps], resized: &mut [Column]) {
    for (taps, out) in taps.iter().zip(resized.chunks_exact_mut(CHANNELS)) {
        let pixels = &columns[taps.first * CHANNELS..][..taps.weights.len() * CHANNELS];
        let [mut red, mut green, mut blue] = [[HALF; LINES]; CHANNELS];
        for (weight, pixel) in taps.weights.iter().zip(pixels.chunks_exact(CHANNELS)) {
            red = plus(red, *weight, &pixel[0]);
            green = plus(green, *weight, &pixel[1]);
            blue = plus(blue, *weight, &pixel[2]);
        }
        out[0] = rounded(red);
        out[1] = rounded(green);
        out[2] = rounded(blue);
    }
}

#[inline(always)]
fn rounded(sums: [i32; LINES]) -> Column {
    let mut values = [0; LINES];
    for line in 0..LINES {
        values[line] = clip(sums[line]);
    }
    values
}

#[inline(always)]
fn plus(mut sums: [i32; LINES], weight: i32, values: &Column) -> [i32; LINES] {
    for line in 0..LINES {
        sums[line] += weight * i32::from(values[line]);
    }
    sums
}

/// As [`across`], a single line.
pub(super) fn along(line: &[u8], taps: &[Taps], out: &mut [u8]) {
    for (taps, pixel) in taps.iter().zip(out.chunks_exact_mut(CHANNELS)) {
        let mut sums = [HALF; CHANNELS];
        let pixels = line[taps.first * CHANNELS..].chunks_exact(CHANNELS);
        for (weight, values) in taps.weights.iter().zip(pixels) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * i32::from(*value);
            }
        }
        for (value, sum) in pixel.iter_mut().zip(sums) {
            *value = clip(sum);
        }
    }
}

/// Resizes lines vertically to one.
/// - lines: at least as many as there are weights, each at least as long as `out`.
pub(super) fn down(lines: &[&[u8]], weights: &[i32], out: &mut [u8]) {
    Arch::new().dispatch(Down {
        lines,
        weights,
        out,
    });
}

/// As [`Across`].
struct Down<'a> {
    lines: &'a [&'a [u8]],
    weights: &'a [i32],
    out: &'a mut [u8],
}

impl NullaryFnOnce for Down<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            lines,
            weights,
            out,
        } = self;
        let len = out.len();
        if len < COLUMNS {
            for at in 0..len {
                let mut sum = HALF;
                for (line, weight) in lines.iter().zip(weights) {
                    sum += weight * i32::from(line[at]);
                }
                out[at] = clip(sum);
            }
            return;
        }
        for block in 0..len.div_ceil(COLUMNS) {
            let start = (block * COLUMNS).min(len - COLUMNS);
            let mut sums = [[HALF; LINES]; COLUMNS / LINES];
            for (line, weight) in lines.iter().zip(weights) {
                let (parts, _) = line[start..start + COLUMNS].as_chunks();
                sums = [
                    plus(sums[0], *weight, &parts[0]),
                    plus(sums[1], *weight, &parts[1]),
                    plus(sums[2], *weight, &parts[2]),
                    plus(sums[3], *weight, &parts[3]),
                ];
            }
            let (parts, _) = out[start..start + COLUMNS].as_chunks_mut();
            for (part, sums) in parts.iter_mut().zip(sums) {
                *part = rounded(sums);
            }
        }
    }
}
