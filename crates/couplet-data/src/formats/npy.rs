//! Arrays in NumPy's `.npy` format.

/// Whether each value of an array is above 0. Reads any little-endian type of number.
/// Source: NumPy's `numpy.lib.format`, versions 1 to 3.
pub(crate) fn flags(bytes: &[u8]) -> Result<Vec<bool>, String> {
    let not_npy = || "not a .npy file".to_string();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(not_npy)?;
    let (header_len, rest) = match rest {
        [1, _, low, high, rest @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(not_npy()),
    };
    let (header, data) = rest.split_at_checked(header_len).ok_or_else(not_npy)?;
    let header = String::from_utf8_lossy(header);
    let kind = header
        .split_once("'descr'")
        .and_then(|(_, rest)| rest.split('\'').nth(1))
        .ok_or_else(not_npy)?;
    let size = match kind {
        "|b1" | "|u1" | "|i1" => 1,
        "<u2" | "<i2" => 2,
        "<u4" | "<i4" | "<f4" => 4,
        "<u8" | "<i8" | "<f8" => 8,
        _ => {
            return Err(format!(
                "unsupported dtype {kind}; use integers, booleans or float32/float64"
            ));
        }
    };
    if !data.len().is_multiple_of(size) {
        return Err(format!(
            "{} bytes of data are not a multiple of the item size, {size}",
            data.len()
        ));
    }
    let is_above_zero = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        // The highest bit of signed integers and floats is the sign.
        let is_negative = !kind.contains(['u', 'b']) && bits >> (8 * size - 1) == 1;
        bits != 0 && !is_negative
    };
    Ok(data.chunks_exact(size).map(is_above_zero).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (3,), }}\n");
        let len = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn values_of_any_dtype_are_compared_with_zero() {
        let wanted = Ok(vec![true, false, false]);
        let bytes = |values: [i64; 3]| values.map(i64::to_le_bytes).concat();
        assert_eq!(flags(&file("<i8", &bytes([5, 0, -1]))), wanted);
        let floats = [0.5_f32, 0.0, -2.0].map(f32::to_le_bytes).concat();
        assert_eq!(flags(&file("<f4", &floats)), wanted);
        assert_eq!(flags(&file("|b1", &[1, 0, 0])), wanted);
        assert_eq!(flags(&file("|u1", &[255, 0, 0])), wanted);
        assert!(flags(&file("<c8", &[0; 24])).unwrap_err().contains("<c8"));
        assert!(flags(&file("<i8", &[0; 23])).is_err());
        assert!(flags(b"text").is_err());
    }
}
