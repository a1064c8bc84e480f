//! Conversions of colors, in PIL's arithmetic.

/// Source: `cmyk2rgb` of PIL's `Convert.c`.
pub(super) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = 255 - k;
    [c, m, y].map(|ink| {
        let product = u32::from(ink) * u32::from(white) + 128;
        let dark = ((product >> 8) + product) >> 8;
        white - u8::try_from(dark).expect("at most white")
    })
}

/// Source: ITU-T T.871 (JFIF), section 7.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped"
)]
pub(super) fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let [y, cb, cr] = [f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0];
    let rgb = [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ];
    rgb.map(|level| level.round().clamp(0.0, 255.0) as u8)
}

/// A color that was multiplied with its alpha. Source: `unpackRGBa` of PIL's `Unpack.c`.
pub(super) fn divide_by_alpha(level: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        _ => u8::try_from(u32::from(level) * 255 / u32::from(alpha)).unwrap_or(u8::MAX),
    }
}
