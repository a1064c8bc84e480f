//! Numbers with bounds, as arguments.

/// A count of tokens that has room for the start and the end token.
pub(crate) fn at_least_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(length) if length >= 2 => Ok(length),
        _ => Err("expected a whole number of at least 2, for the start and end tokens".into()),
    }
}

/// A finite number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

/// A count that is not 0.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a whole number of at least 1".into()),
    }
}
