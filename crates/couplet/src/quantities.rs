//! Numbers with their nouns, as people write them.

/// `1 step`, `2 steps`.
/// - noun: in the singular; its plural has an `s` more.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// As [`count`], for lengths.
pub(crate) fn count_of(number: usize, noun: &str) -> String {
    count(number as u64, noun)
}

/// `3.80 M parameters`, `912 parameters`.
#[expect(clippy::cast_precision_loss, reason = "a rounded number for display")]
pub(crate) fn parameters(number: usize) -> String {
    if number < 10_000 {
        return count_of(number, "parameter");
    }
    format!("{:.2} M parameters", number as f64 / 1e6)
}

/// `340 bytes`, `24.6 MB`, `1.3 GB`.
#[expect(clippy::cast_precision_loss, reason = "a rounded number for display")]
pub(crate) fn bytes(number: u64) -> String {
    match number as f64 {
        n if n < 1e3 => count(number, "byte"),
        n if n < 1e6 => format!("{:.1} kB", n / 1e3),
        n if n < 1e9 => format!("{:.1} MB", n / 1e6),
        n => format!("{:.1} GB", n / 1e9),
    }
}

/// A duration in the unit that suits it: `0.4 s`, `59 s`, `3 min`, `2.5 h`, `3.1 days`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 7_170.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_000.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_nouns_and_have_a_fitting_unit() {
        assert_eq!(count(1, "step"), "1 step");
        assert_eq!(count(0, "sample"), "0 samples");
        assert_eq!(parameters(3_800_000), "3.80 M parameters");
        assert_eq!(parameters(912), "912 parameters");
        let sizes = [1, 340, 24_600, 24_600_000, 20_480_000_000].map(bytes);
        assert_eq!(
            sizes,
            ["1 byte", "340 bytes", "24.6 kB", "24.6 MB", "20.5 GB"]
        );
        let shown = [0.04, 9.99, 60.0, 3600.0, 7_200.0, 400_000.0].map(duration);
        assert_eq!(
            shown,
            ["0.0 s", "10 s", "60 s", "60 min", "2.0 h", "4.6 days"]
        );
    }
}
