//! What a JPEG's markers say, without decoding it.
//!
//! Sources: ITU-T T.81, annex B; `read_markers` of libjpeg-turbo; `JpegImageFile._open` of PIL.

/// A JPEG's frame and scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub width: u32,
    pub height: u32,
    /// 1 (gray), 3 (color) or 4 (CMYK).
    pub components: u8,
    /// Bytes of the coefficients that a decoder of several scans holds.
    pub coefficient_bytes: u64,
    /// The number of scans, at least.
    pub scans: usize,
    /// Whether all coefficients are held until the last scan.
    pub holds_coefficients: bool,
}

impl Layout {
    /// Reads the markers of a file that begins as a JPEG does.
    ///
    /// # Errors
    /// If PIL or libjpeg would refuse the file for what it finds before the first scan.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes.get(2..).unwrap_or_default();
        let mut layout = None;
        loop {
            let marker = next_marker(&mut rest).ok_or("the JPEG is cut off: it has no scan")?;
            match marker {
                0x01..=0xbf => return Err(format!("the JPEG has an unknown marker {marker:#04x}")),
                // Without a segment.
                0x00 | 0xc8 | 0xd0..=0xd9 | 0xf0..=0xfd => continue,
                0xda => break,
                _ => {}
            }
            let body = segment(&mut rest);
            if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xcc) {
                layout = Some(Self::of_frame(marker, body)?);
            }
        }
        let mut layout = layout.ok_or("the JPEG has a scan, but no frame header")?;
        let in_scan = rest.get(2).copied().unwrap_or(0);
        layout.holds_coefficients |= in_scan < layout.components;
        layout.scans = 1 + later_scans(rest);
        Ok(layout)
    }

    /// Reads the body of a frame header.
    fn of_frame(marker: u8, body: &[u8]) -> Result<Self, String> {
        match marker {
            0xc0..=0xc2 | 0xc9 | 0xca => {}
            0xc3 | 0xcb => return Err("lossless JPEGs are not supported".into()),
            _ => return Err("hierarchical JPEGs are not supported".into()),
        }
        let &[bits, y1, y0, x1, x0, components, ref samplings @ ..] = body else {
            return Err("the JPEG's frame header is cut off".into());
        };
        if bits != 8 {
            return Err(format!(
                "JPEGs of {bits} bits are not supported, only those of 8"
            ));
        }
        let count = usize::from(components);
        if !matches!(count, 1 | 3 | 4) || samplings.len() < 3 * count {
            return Err(format!(
                "JPEGs of {count} components are not supported, only those of 1, 3 or 4"
            ));
        }
        let [width, height] = [[x1, x0], [y1, y0]].map(|size| u16::from_be_bytes(size).into());
        let samplings = samplings.chunks_exact(3).take(count);
        let samplings: Vec<_> = samplings
            .map(|component| [component[1] >> 4, component[1] & 15])
            .collect();
        Ok(Self {
            width,
            height,
            components,
            coefficient_bytes: coefficient_bytes([width, height], &samplings),
            scans: 0,
            holds_coefficients: matches!(marker, 0xc2 | 0xca),
        })
    }
}

/// - samplings: of each component, horizontally and vertically.
fn coefficient_bytes(size: [u32; 2], samplings: &[[u8; 2]]) -> u64 {
    const BLOCK: u32 = 8;
    let blocks = |axis: usize| {
        let most = samplings.iter().map(|sampling| sampling[axis]).max();
        size[axis].div_ceil(BLOCK * u32::from(most.unwrap_or(1).max(1)))
    };
    let units = u64::from(blocks(0)) * u64::from(blocks(1));
    let in_unit = samplings
        .iter()
        .map(|[across, down]| u64::from(*across) * u64::from(*down));
    2 * u64::from(BLOCK * BLOCK) * units * in_unit.sum::<u64>()
}

/// Moves behind the next marker, over garbage and fill bytes.
fn next_marker(rest: &mut &[u8]) -> Option<u8> {
    let start = memchr::memchr(0xff, rest)?;
    let at = rest[start..].iter().position(|byte| *byte != 0xff)? + start;
    let marker = rest[at];
    *rest = &rest[at + 1..];
    Some(marker)
}

/// The body of a segment, behind its length.
fn segment<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = match **rest {
        [high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
        _ => rest.len(),
    };
    let (segment, behind) = rest.split_at(len.min(rest.len()));
    *rest = behind;
    segment.get(2..).unwrap_or_default()
}

/// How many scans begin between here and the end mark.
fn later_scans(mut rest: &[u8]) -> usize {
    let mut scans = 0;
    while let Some(marker) = next_marker(&mut rest) {
        match marker {
            0xd9 => break,
            0xda => scans += 1,
            // Tables and the like, which may contain anything.
            0xc0..=0xcf | 0xdb..=0xdf | 0xe0..=0xef | 0xfe => {
                segment(&mut rest);
            }
            _ => {}
        }
    }
    scans
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a frame of three components, of which luma has twice the samples both ways, and the
    /// given number of scans.
    fn file(frame: u8, scans: usize) -> Vec<u8> {
        let mut bytes = b"\xff\xd8junk\xff\xe0\0\x05\xff\xda\0".to_vec();
        bytes.extend([0xff, 0xff, frame, 0, 17, 8, 0, 30, 0, 40, 3]);
        bytes.extend([1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0]);
        for _ in 0..scans {
            bytes.extend([
                0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 1, 2, 0xff, 0, 3, 0xff, 0xd0,
            ]);
            bytes.extend([0xff, 0xc4, 0, 4, 0xff, 0xda]);
        }
        bytes.extend([0xff, 0xd9, 0xff, 0xda]);
        bytes
    }

    #[test]
    fn frame_and_scans_are_read() {
        let expected = Layout {
            width: 40,
            height: 30,
            components: 3,
            // 3 x 2 units of 16 pixels: 6 blocks each.
            coefficient_bytes: 2 * 6 * 6 * 64,
            scans: 3,
            holds_coefficients: true,
        };
        assert_eq!(Layout::read(&file(0xc2, 3)), Ok(expected));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refused = |frame| Layout::read(&file(frame, 1)).unwrap_err();
        assert!(refused(0xc3).contains("lossless"));
        assert!(refused(0xc5).contains("hierarchical"));
        let mut twelve = file(0xc1, 1);
        let bits = twelve.iter().position(|byte| *byte == 8).unwrap();
        twelve[bits] = 12;
        assert!(Layout::read(&twelve).unwrap_err().contains("12 bits"));
        let header = file(0xc0, 0);
        let none = Layout::read(&header[..header.len() - 4]);
        assert!(none.unwrap_err().contains("no scan"));
    }
}
