//! The samples of a decoded TIFF.

use tiff::tags::SampleFormat;

use super::super::color::divide_by_alpha;

/// Samples in rows, packed, in the machine's byte order.
pub(super) struct Samples<'a> {
    pub bytes: &'a [u8],
    pub row_len: usize,
    /// The length of a plane, where each sample of a pixel has its own.
    pub plane_len: usize,
    /// How many samples of a pixel follow each other.
    pub per_pixel: usize,
    pub bits: usize,
    pub format: SampleFormat,
}

impl Samples<'_> {
    /// A sample of whole bytes.
    fn sample<const LEN: usize>(&self, [x, y]: [usize; 2], channel: usize) -> [u8; LEN] {
        let (plane, channel) = if self.per_pixel == 1 {
            (channel, 0)
        } else {
            (0, channel)
        };
        let at = plane * self.plane_len + y * self.row_len + (x * self.per_pixel + channel) * LEN;
        let bytes = self
            .bytes
            .get(at..at + LEN)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.unwrap_or([0; LEN])
    }

    /// The high byte of a sample of 8 or 16 bits.
    pub fn byte(&self, at: [usize; 2], channel: usize) -> u8 {
        if self.bits == 8 {
            let [byte] = self.sample(at, channel);
            return byte;
        }
        u16::from_ne_bytes(self.sample(at, channel)).to_be_bytes()[0]
    }

    /// As [`Self::byte`], divided by the pixel's alpha.
    pub fn over_alpha(&self, at: [usize; 2], channel: usize, alpha: usize) -> u8 {
        divide_by_alpha(self.byte(at, channel), self.byte(at, alpha))
    }

    /// A sample of at most 8 bits.
    pub fn index(&self, [x, y]: [usize; 2]) -> usize {
        let bits = self.bits.clamp(1, 8);
        let byte = self
            .bytes
            .get(y * self.row_len + x * bits / 8)
            .copied()
            .unwrap_or(0);
        usize::from(byte >> (8 - bits - x * bits % 8)) & ((1 << bits) - 1)
    }

    /// Whether [`Self::gray`] reads such samples.
    pub fn is_gray(&self) -> bool {
        match (self.bits, self.format) {
            (..=8 | 16, SampleFormat::IEEEFP) => false,
            (..=8 | 16 | 32, _) | (64, SampleFormat::IEEEFP) => true,
            _ => false,
        }
    }

    /// A gray level: few bits are scaled to 8, many are cut off at 255, as PIL does.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates"
    )]
    pub fn gray(&self, at: [usize; 2]) -> u8 {
        let clip = |level: i64| u8::try_from(level.clamp(0, 255)).expect("clamped");
        match (self.bits, self.format) {
            (..=8, _) => {
                let most = (1 << self.bits.clamp(1, 8)) - 1;
                u8::try_from(self.index(at) * 255 / most).expect("at most 255")
            }
            (16, SampleFormat::Int) => clip(i16::from_ne_bytes(self.sample(at, 0)).into()),
            (16, _) => clip(u16::from_ne_bytes(self.sample(at, 0)).into()),
            (32, SampleFormat::IEEEFP) => f32::from_ne_bytes(self.sample(at, 0)) as u8,
            (64, SampleFormat::IEEEFP) => f64::from_ne_bytes(self.sample(at, 0)) as u8,
            (32, _) => clip(i32::from_ne_bytes(self.sample(at, 0)).into()),
            _ => 0,
        }
    }
}
