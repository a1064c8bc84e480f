//! The constants of a graph, and their bytes.

use std::borrow::Cow;
use std::io::{self, Write};

use half::f16;

use crate::element::Element;

/// A named constant.
#[derive(Debug)]
pub(crate) struct Initializer<'a> {
    pub name: String,
    pub dims: Vec<usize>,
    pub element: Element,
    pub data: Data<'a>,
}

/// A constant's values.
#[derive(Debug, Clone)]
pub(crate) enum Data<'a> {
    /// As they are, in f32 or f16.
    Floats(Cow<'a, [f32]>),
    /// Of a matrix with rows of so many values, written with rows and columns swapped, in f32 or f16.
    Turned(&'a [f32], usize),
    Bytes(Vec<i8>),
    Ints(Vec<i64>),
}

impl Initializer<'_> {
    /// Bytes in a file.
    pub fn byte_len(&self) -> usize {
        self.dims.iter().product::<usize>() * self.element.size()
    }

    /// Writes the values, little-endian.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.data {
            Data::Floats(values) => write_floats(out, values.iter().copied(), self.element),
            Data::Turned(values, columns) => {
                let column = |at: usize| values.iter().skip(at).step_by(*columns).copied();
                let turned = (0..*columns).flat_map(column);
                write_floats(out, turned, self.element)
            }
            Data::Bytes(values) => {
                for value in values {
                    out.write_all(&value.to_le_bytes())?;
                }
                Ok(())
            }
            Data::Ints(values) => {
                for value in values {
                    out.write_all(&value.to_le_bytes())?;
                }
                Ok(())
            }
        }
    }
}

impl Data<'_> {
    /// The first value that f16 does not reach.
    pub fn beyond_f16(&self) -> Option<f32> {
        let values = match self {
            Self::Floats(values) => &values[..],
            Self::Turned(values, _) => *values,
            Self::Bytes(_) | Self::Ints(_) => return None,
        };
        let largest = f16::MAX.to_f32();
        values
            .iter()
            .copied()
            .find(|value| value.is_finite() && value.abs() > largest)
    }
}

fn write_floats(
    out: &mut impl Write,
    values: impl Iterator<Item = f32>,
    element: Element,
) -> io::Result<()> {
    for value in values {
        if element == Element::F16 {
            out.write_all(&f16::from_f32(value).to_le_bytes())?;
        } else {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(dims: &[usize], element: Element, data: Data) -> Vec<u8> {
        let initializer = Initializer {
            name: "w".into(),
            dims: dims.to_vec(),
            element,
            data,
        };
        let mut out = Vec::new();
        initializer.write(&mut out).unwrap();
        assert_eq!(out.len(), initializer.byte_len());
        out
    }

    #[test]
    fn a_matrix_is_turned_and_narrowed_while_it_is_written() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let turned = bytes(&[3, 2], Element::F32, Data::Turned(&values, 3));
        let expected: Vec<u8> = [1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        assert_eq!(turned, expected);
        let narrow = bytes(&[1], Element::F16, Data::Floats(Cow::Borrowed(&[1.5])));
        assert_eq!(narrow, [0x00, 0x3e]);
    }

    #[test]
    fn what_f16_does_not_reach_is_found() {
        let data = |value| Data::Floats(Cow::Owned(vec![0.0, value]));
        assert_eq!(data(65_504.0).beyond_f16(), None);
        assert_eq!(data(-65_600.0).beyond_f16(), Some(-65_600.0));
    }
}
