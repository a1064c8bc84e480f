//! Numbers as people write them.

/// The number with the fewest digits for which a reader gets the same value: an f32 that was widened has
/// the digits of the f32, so that 0.1 is not 0.10000000149011612. Read as an f32, it is the same to the
/// bit; any other number is unchanged.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whether it is an f32 is the question"
)]
pub fn shortest(value: f64) -> f64 {
    let narrow = value as f32;
    if f64::from(narrow) != value {
        return value;
    }
    narrow.to_string().parse().unwrap_or(value)
}

/// An f32 for a JSON value, whose floats are wide, with its own digits.
pub(crate) fn written(value: f32) -> f64 {
    shortest(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "the test reads f32s back")]
    fn an_f32_has_its_own_digits_and_keeps_its_bits() {
        assert_eq!(shortest(f64::from(0.1f32)).to_string(), "0.1");
        assert_eq!(shortest(0.1).to_string(), "0.1");
        assert_eq!(shortest(1.0 / 3.0), 1.0 / 3.0);
        assert!(shortest(f64::NAN).is_nan());
        assert_eq!(shortest(f64::INFINITY), f64::INFINITY);
        // Every exponent, with mantissas that are not round.
        for at in 0..255u32 {
            for mantissa in [0, 1, 0x2a_aaab, 0x7f_ffff] {
                let value = f32::from_bits(at << 23 | mantissa);
                let read: f64 = shortest(f64::from(value)).to_string().parse().unwrap();
                assert_eq!((read as f32).to_bits(), value.to_bits());
            }
        }
    }
}
