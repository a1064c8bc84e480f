//! Products of tiles.
#![expect(unsafe_code, reason = "vector instructions and their pointers")]

use std::arch::asm;
use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
};

use super::{INNER, Instructions, LINES, Panels, Sums, Tile};

/// The products of all panels of the left with all panels of the right.
/// - sums: by left panel, then by right panel.
///
/// # Panics
/// If the sizes do not match.
pub(crate) fn multiply(instructions: Instructions, sums: &mut [Sums], left: Panels, right: Panels) {
    let (rows, columns, depth) = (left.count(), right.count(), left.depth);
    assert!(depth == right.depth, "tiles of both sides");
    assert!(sums.len() == rows * columns, "sums of tiles");
    assert!(Instructions::detect().is_some(), "instructions for bf16");
    let parts = depth.div_ceil(instructions.depth());
    let is_amx = instructions == Instructions::Amx;
    if is_amx {
        // SAFETY: the instructions were found.
        unsafe { configure_tiles() };
    }
    for part in 0..parts {
        let [start, end] = [part, part + 1].map(|part| depth * part / parts);
        let (is_first, len) = (part == 0, end - start);
        for column in (0..columns).step_by(2) {
            for row in (0..rows).step_by(2) {
                let block = Block {
                    left: two(row, rows).map(|row| left.start(row, start)),
                    right: two(column, columns).map(|column| right.start(column, start)),
                    counts: [2.min(rows - row), 2.min(columns - column)],
                    len,
                    is_first,
                };
                let sums = &mut sums[row * columns + column..];
                // SAFETY: the instructions were found; every panel has `depth` tiles.
                unsafe {
                    if is_amx {
                        block.by_amx(sums, columns);
                    } else {
                        block.by_vectors(sums, columns);
                    }
                }
            }
        }
    }
    if is_amx {
        // SAFETY: nothing is left in tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A panel and the next, or itself if it is the last.
fn two(panel: usize, count: usize) -> [usize; 2] {
    [panel, (panel + 1).min(count - 1)]
}

/// Products of two panels of either side; where there is one, it stands twice.
struct Block {
    left: [*const u8; 2],
    right: [*const u8; 2],
    counts: [usize; 2],
    /// Tiles of each panel.
    len: usize,
    /// Whether there are no sums yet.
    is_first: bool,
}

impl Block {
    /// - sums: from the block's first on; `columns` from one row to the next.
    unsafe fn by_amx(&self, sums: &mut [Sums], columns: usize) {
        let mut unread = [Sums::ZERO; 4];
        let mut unread = unread.each_mut().map(|sums| sums.0.as_mut_ptr());
        for row in 0..self.counts[0] {
            for column in 0..self.counts[1] {
                unread[row * 2 + column] = sums[row * columns + column].0.as_mut_ptr();
            }
        }
        // SAFETY: the caller's.
        unsafe { four_tiles(unread, self.left, self.right, self.len, self.is_first) };
    }

    /// - sums: from the block's first on; `columns` from one row to the next.
    unsafe fn by_vectors(&self, sums: &mut [Sums], columns: usize) {
        let (len, is_first) = (self.len, self.is_first);
        for row in 0..self.counts[0] {
            for start in (0..LINES).step_by(STRIP) {
                let mut place = |column: usize| {
                    let sums = &mut sums[row * columns + column].0;
                    sums[start * LINES..].as_mut_ptr()
                };
                // SAFETY: the caller's.
                unsafe {
                    let left = self.left[row].add(start * INNER * size_of::<u16>());
                    if self.counts[1] == 2 {
                        strip([place(0), place(1)], left, self.right, len, is_first);
                    } else {
                        strip([place(0)], left, [self.right[0]], len, is_first);
                    }
                }
            }
        }
    }
}

/// Eight tiles of 16 rows of 64 bytes.
unsafe fn configure_tiles() {
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    config.row_bytes[..8].fill(64);
    config.rows[..8].fill(16);
    // SAFETY: 64 bytes are read.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
}

/// - sums: of the first row of tiles, then of the second.
unsafe fn four_tiles(
    sums: [*mut f32; 4],
    left: [*const u8; 2],
    right: [*const u8; 2],
    len: usize,
    is_first: bool,
) {
    // SAFETY: the caller's; tiles were configured, and nothing else uses them.
    unsafe {
        if is_first {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nostack, nomem));
        } else {
            asm!(
                "tileloadd tmm0, [{0} + {stride}]",
                "tileloadd tmm1, [{1} + {stride}]",
                "tileloadd tmm2, [{2} + {stride}]",
                "tileloadd tmm3, [{3} + {stride}]",
                in(reg) sums[0], in(reg) sums[1], in(reg) sums[2], in(reg) sums[3],
                stride = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, readonly)
            );
        }
        asm!(
            "2:",
            "tileloadd tmm4, [{left0} + {stride}]",
            "tileloadd tmm6, [{right0} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right1} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left1} + {stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left0}, 1024",
            "add {left1}, 1024",
            "add {right0}, 1024",
            "add {right1}, 1024",
            "dec {len}",
            "jnz 2b",
            left0 = inout(reg) left[0] => _,
            left1 = inout(reg) left[1] => _,
            right0 = inout(reg) right[0] => _,
            right1 = inout(reg) right[1] => _,
            len = inout(reg) len => _,
            stride = in(reg) 64_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly)
        );
        asm!(
            "tilestored [{0} + {stride}], tmm0",
            "tilestored [{1} + {stride}], tmm1",
            "tilestored [{2} + {stride}], tmm2",
            "tilestored [{3} + {stride}], tmm3",
            in(reg) sums[0], in(reg) sums[1], in(reg) sums[2], in(reg) sums[3],
            stride = in(reg) 64_usize,
            options(nostack)
        );
    }
}

/// Rows that [`strip`] takes at once, whose sums fit in registers.
const STRIP: usize = 8;

/// Its loops count: what an iterator or a closure does with vectors may be compiled as a function of its own, without
/// the instructions.
#[target_feature(enable = "avx512f,avx512bf16")]
#[expect(clippy::needless_range_loop, reason = "as above")]
unsafe fn strip<const COLUMNS: usize>(
    sums: [*mut f32; COLUMNS],
    left: *const u8,
    right: [*const u8; COLUMNS],
    len: usize,
    is_first: bool,
) {
    let mut own = [[_mm512_setzero_ps(); COLUMNS]; STRIP];
    // SAFETY: the caller's.
    unsafe {
        if !is_first {
            for row in 0..STRIP {
                for column in 0..COLUMNS {
                    own[row][column] = _mm512_loadu_ps(sums[column].add(row * LINES));
                }
            }
        }
        for pair in 0..len * LINES {
            // Within a tile a pair is 4 bytes of each line on the left, a line of 64 bytes on the right.
            let left = left.add(pair / LINES * size_of::<Tile>() + pair % LINES * 4);
            let mut pairs = [_mm512_setzero_si512(); COLUMNS];
            for column in 0..COLUMNS {
                pairs[column] = _mm512_loadu_si512(right[column].add(pair * 64).cast());
            }
            for row in 0..STRIP {
                let left = _mm512_set1_epi32(left.add(row * 64).cast::<i32>().read_unaligned());
                for column in 0..COLUMNS {
                    let left = std::mem::transmute::<__m512i, __m512bh>(left);
                    let right = std::mem::transmute::<__m512i, __m512bh>(pairs[column]);
                    own[row][column] = _mm512_dpbf16_ps(own[row][column], left, right);
                }
            }
        }
        for row in 0..STRIP {
            for column in 0..COLUMNS {
                _mm512_storeu_ps(sums[column].add(row * LINES), own[row][column]);
            }
        }
    }
}
