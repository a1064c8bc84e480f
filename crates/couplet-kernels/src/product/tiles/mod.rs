//! Products of bf16 with sums in f32, tile by tile, by AMX's `tdpbf16ps` or AVX512_BF16's `vdpbf16ps`. No crate that
//! multiplies matrices has both (ARCHITECTURE.md).
//!
//! A tile has 16 lines of 32 values along the inner dimension, 1 KiB. On the left a line is a row, and its values
//! follow one another. On the right a line is a column, and its values lie apart in pairs, `[pair][column][2]`: so both
//! instructions read them.
#![expect(unsafe_code, reason = "vector instructions and their pointers")]

mod multiply;
mod pack;
mod store;

#[cfg(target_os = "linux")]
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::LazyLock;

pub(super) use self::multiply::multiply;
pub(super) use self::pack::{Lines, pack};
pub(super) use self::store::{Target, store};

/// Rows or columns of a tile.
pub(super) const LINES: usize = 16;
/// Values of a line of a tile.
const INNER: usize = 32;

/// Which instructions multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    Amx,
    Avx512Bf16,
}

impl Instructions {
    /// The fastest that processor and system have, if any.
    pub fn detect() -> Option<Self> {
        static FOUND: LazyLock<Option<Instructions>> = LazyLock::new(|| {
            let has_vectors = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bf16");
            match has_vectors {
                true if has_tiles() => Some(Instructions::Amx),
                true => Some(Instructions::Avx512Bf16),
                false => None,
            }
        });
        *FOUND
    }

    /// All that this machine has, or that is emulated (`scripts/amx.c`).
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let is_emulated = || std::env::var_os("COUPLET_TEST_AMX").is_some();
        match Self::detect() {
            Some(Self::Avx512Bf16) if !is_emulated() => vec![Self::Avx512Bf16],
            Some(_) => vec![Self::Amx, Self::Avx512Bf16],
            None => Vec::new(),
        }
    }

    /// How many tiles of one line are multiplied before the sums are put aside, so that all operands are
    /// in the first cache.
    fn depth(self) -> usize {
        match self {
            Self::Amx => 16,
            Self::Avx512Bf16 => 8,
        }
    }
}

/// Whether the processor has AMX with bf16, and the system lets this process use its tiles.
#[cfg(target_os = "linux")]
fn has_tiles() -> bool {
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & BF16_AND_TILE != BF16_AND_TILE {
        return false;
    }
    // SAFETY: it reads no memory of ours; older kernels answer with an error.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn has_tiles() -> bool {
    false
}

/// Part of an operand.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile([u16; LINES * INNER]);

impl Tile {
    pub const ZERO: Self = Self([0; LINES * INNER]);
}

/// Sums of 16 rows and columns.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums([f32; LINES * LINES]);

impl Sums {
    pub const ZERO: Self = Self([0.0; LINES * LINES]);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Tiles of a line of `inner` values.
pub(super) fn depth(inner: usize) -> usize {
    inner.div_ceil(INNER)
}

/// Panels of 16 lines each, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels<'a> {
    pub tiles: &'a [Tile],
    /// Tiles of a panel.
    pub depth: usize,
}

impl Panels<'_> {
    pub fn count(&self) -> usize {
        self.tiles.len() / self.depth
    }

    /// Those of some lines.
    /// - first: of a tile.
    pub fn of_lines(self, first: usize, count: usize) -> Self {
        let start = first / LINES * self.depth;
        let len = count.div_ceil(LINES) * self.depth;
        Self {
            tiles: &self.tiles[start..start + len],
            ..self
        }
    }

    fn start(&self, panel: usize, tile: usize) -> *const u8 {
        self.tiles[panel * self.depth + tile..].as_ptr().cast()
    }
}

/// A mask of the first values of 16.
#[inline(always)]
fn first_16(count: usize) -> u16 {
    if count >= 16 {
        u16::MAX
    } else {
        (1 << count) - 1
    }
}
