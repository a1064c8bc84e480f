//! Every way to multiply against sums in f64 of operands rounded to bf16.

use burn::tensor::{DType, bf16};

use super::matrix::{Before, Matrix};
#[cfg(target_arch = "x86_64")]
use super::tiles::Instructions;
use super::{as_missing, new_product, product, rounded_product};
use crate::tests::values;
use crate::values::Value;

/// How an operand lies in memory.
#[derive(Debug, Clone, Copy)]
enum Order {
    Rows,
    Columns,
    /// Rows with a gap after each.
    Apart,
    /// Every other value, which no vector load takes.
    Scattered,
}

const ORDERS: [Order; 4] = [Order::Rows, Order::Columns, Order::Apart, Order::Scattered];

struct Operand {
    values: Vec<f32>,
    narrow: Vec<bf16>,
    sizes: [usize; 2],
    strides: [usize; 2],
}

impl Operand {
    fn new(seed: usize, [rows, columns]: [usize; 2], order: Order) -> Self {
        let strides = match order {
            Order::Rows => [columns, 1],
            Order::Columns => [1, rows],
            Order::Apart => [columns + 3, 1],
            Order::Scattered => [2 * columns, 2],
        };
        // Nothing behind the last value.
        let len = (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1;
        let values = values(seed, len);
        let narrow = values.iter().map(|value| bf16::narrow(*value)).collect();
        Self {
            values,
            narrow,
            sizes: [rows, columns],
            strides,
        }
    }

    fn matrix(&self, is_narrow: bool) -> Matrix<'_> {
        let matrix = if is_narrow {
            Matrix::new(&self.narrow, 0, 0)
        } else {
            Matrix::new(&self.values, 0, 0)
        };
        Matrix {
            rows: self.sizes[0],
            columns: self.sizes[1],
            row_stride: self.strides[0],
            column_stride: self.strides[1],
            ..matrix
        }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let at = row * self.strides[0] + column * self.strides[1];
        self.narrow[at].to_f64()
    }
}

type Multiply<'a, O> = &'a dyn Fn(&mut [O], usize, Before, [Matrix; 2]);

fn check<O: Value>(
    [left, right]: [&Operand; 2],
    is_narrow: [bool; 2],
    before: Before,
    multiply: Multiply<O>,
) {
    let ([rows, inner], columns) = (left.sizes, right.sizes[1]);
    let stride = columns + 2;
    let start: Vec<O> = (values(7, (rows - 1) * stride + columns).into_iter())
        .map(O::narrow)
        .collect();
    let mut out = start.clone();
    let sides = [left.matrix(is_narrow[0]), right.matrix(is_narrow[1])];
    multiply(&mut out, stride, before, sides);
    for (at, (out, start)) in out.iter().zip(&start).enumerate() {
        let (row, column) = (at / stride, at % stride);
        if column >= columns {
            assert_eq!(out.wide(), start.wide(), "written beside row {row}");
            continue;
        }
        let begin = match before {
            Before::Overwrite => 0.0,
            Before::Add => f64::from(start.wide()),
            Before::Bias(bias) => f64::from(bias[column]),
            Before::Rows { rows, bias } => {
                f64::from(rows[row * columns + column]) + f64::from(bias[column])
            }
        };
        let terms = (0..inner).map(|inner| left.at(row, inner) * right.at(inner, column));
        let expected = begin + terms.sum::<f64>();
        let out = f64::from(out.wide());
        // Sums of `inner` values of about 1, and the output's own rounding.
        let rounding = match O::DTYPE {
            DType::F32 => 0.0,
            _ => expected.abs() / 256.0,
        };
        let inner = f64::from(u32::try_from(inner).unwrap());
        let tolerance = 2e-6 * inner.sqrt() + rounding + 1e-6;
        assert!(
            (out - expected).abs() <= tolerance,
            "row {row}, column {column} of {:?} x {:?}: {out} instead of {expected}",
            left.sizes,
            right.sizes
        );
    }
}

/// Every way to multiply.
fn check_ways<O: Value>(operands: [&Operand; 2], is_narrow: [bool; 2], before: Before) {
    let check = |multiply: Multiply<O>| check(operands, is_narrow, before, multiply);
    check(&|out, stride, before, sides| {
        rounded_product(as_missing(out), stride, before, sides, false);
    });
    // Of three in f32, nothing is rounded.
    if O::DTYPE != DType::F32 || is_narrow.contains(&true) {
        check(&|out, stride, before, [left, right]| product(out, stride, before, left, right));
    }
    #[cfg(target_arch = "x86_64")]
    for instructions in Instructions::all() {
        for is_divided in [false, true] {
            check(&|out, stride, before, sides| {
                let out = as_missing(out);
                super::tiled::product(instructions, out, stride, before, sides, is_divided);
            });
        }
    }
}

fn check_all(sizes: [usize; 3], orders: [Order; 2]) {
    let [rows, inner, columns] = sizes;
    let left = Operand::new(0, [rows, inner], orders[0]);
    let right = Operand::new(1, [inner, columns], orders[1]);
    let bias = values(2, columns);
    let lines = values(3, rows * columns);
    let rows = Before::Rows {
        rows: &lines,
        bias: &bias,
    };
    for before in [Before::Overwrite, Before::Add, Before::Bias(&bias), rows] {
        for is_narrow in [[true, true], [true, false], [false, true], [false, false]] {
            check_ways::<f32>([&left, &right], is_narrow, before);
            check_ways::<bf16>([&left, &right], is_narrow, before);
        }
    }
}

#[test]
fn products_of_bf16_in_every_order() {
    for left in ORDERS {
        for right in ORDERS {
            check_all([21, 37, 18], [left, right]);
        }
    }
}

#[test]
fn products_of_bf16_of_every_size() {
    let sizes = [1, 2, 7, 15, 16, 17, 31, 32, 33, 50];
    for (at, rows) in sizes.into_iter().enumerate() {
        for (inner, columns) in sizes.into_iter().zip(sizes.into_iter().cycle().skip(at)) {
            check_all([rows, inner, columns], [Order::Rows, Order::Columns]);
        }
    }
    // More than one task, and more than the first cache takes of the inner dimension.
    check_all([150, 20, 270], [Order::Columns, Order::Rows]);
    check_all([40, 1100, 36], [Order::Columns, Order::Rows]);
    // More of it than is packed at once.
    check_all([3, 8200, 5], [Order::Columns, Order::Rows]);
}

#[test]
fn rows_may_have_gaps_and_matrices_may_be_transposed() {
    let left = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
    let right = [5.0, 7.0, 6.0, 8.0];
    let left = Matrix::strided(&left, 2, 2, 3);
    // [[5, 6], [7, 8]]
    let right = Matrix::new(&right, 2, 2).transposed();
    let mut out = [1.0; 6];
    product(&mut out, 3, Before::Overwrite, left, right);
    assert_eq!(out, [19.0, 22.0, 1.0, 43.0, 50.0, 1.0]);
    product(&mut out, 3, Before::Add, left, right);
    assert_eq!(out, [38.0, 44.0, 1.0, 86.0, 100.0, 1.0]);
    product(&mut out, 3, Before::Bias(&[1.0, 2.0]), left, right);
    assert_eq!(out, [20.0, 24.0, 1.0, 44.0, 52.0, 1.0]);
}

#[test]
fn rows_are_packed_part_by_part() {
    // So long that 220 of them are more than is packed at once.
    let sizes = ([220, 40_000], [40_000, 2]);
    let left = Operand::new(3, sizes.0, Order::Rows);
    let right = Operand::new(4, sizes.1, Order::Columns);
    let (left, right) = (left.matrix(true), right.matrix(true));
    let mut ours = vec![bf16::ZERO; 440];
    product(&mut ours, 2, Before::Overwrite, left, right);
    let mut expected = vec![0.0f32; 440];
    let place = as_missing(&mut expected);
    rounded_product(place, 2, Before::Overwrite, [left, right], false);
    for (ours, expected) in ours.iter().zip(expected) {
        let error = (ours.to_f32() - expected).abs();
        assert!(error <= 0.01 + expected.abs() / 256.0, "{ours} {expected}");
    }
}

#[test]
fn new_values_are_all_written() {
    let left = Operand::new(3, [40, 50], Order::Rows);
    let right = Operand::new(4, [50, 30], Order::Columns);
    let bias = values(5, 30);
    let lines = values(6, 40 * 30);
    let rows = Before::Rows {
        rows: &lines,
        bias: &bias,
    };
    for before in [Before::Overwrite, Before::Bias(&bias), rows] {
        for is_narrow in [false, true] {
            let (left, right) = (left.matrix(is_narrow), right.matrix(is_narrow));
            let new: Vec<f32> = new_product(before, left, right);
            let mut old = vec![f32::NAN; 40 * 30];
            product(&mut old, 30, before, left, right);
            assert_eq!(new, old);
        }
    }
    let empty: [f32; 0] = [];
    let (left, right) = (Matrix::new(&empty, 2, 0), Matrix::new(&empty, 0, 3));
    assert_eq!(new_product::<f32>(Before::Overwrite, left, right), [0.0; 6]);
}

#[test]
#[should_panic(expected = "right of a product")]
fn a_matrix_larger_than_its_slice_is_rejected() {
    let values = [0.0; 6];
    let left = Matrix::new(&values, 2, 3);
    let right = Matrix::new(&values[..5], 3, 2);
    product(&mut [0.0; 4], 2, Before::Overwrite, left, right);
}

#[test]
fn an_empty_sum_is_zero() {
    let mut out = [1.0; 2];
    let empty: [f32; 0] = [];
    let (left, right) = (Matrix::new(&empty, 1, 0), Matrix::new(&empty, 0, 2));
    product(&mut out, 2, Before::Add, left, right);
    assert_eq!(out, [1.0; 2]);
    product(&mut out, 2, Before::Bias(&[3.0, 4.0]), left, right);
    assert_eq!(out, [3.0, 4.0]);
    product(&mut out, 2, Before::Overwrite, left, right);
    assert_eq!(out, [0.0; 2]);
}
