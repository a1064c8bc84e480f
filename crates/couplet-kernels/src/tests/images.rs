//! The operations of ResNets.

use burn::tensor::{Device, Tensor, TensorData, module};

use super::{check, values};
use crate::batch_norm::{add_relu, batch_norm};
use crate::conv::conv2d;
use crate::pool::average_pool;

#[test]
fn convolutions_of_every_tiling() {
    // [batch, in, out, kernel, stride, padding, height, width]
    let cases = [
        [3, 5, 7, 3, 1, 1, 9, 11],
        [3, 5, 7, 3, 2, 1, 9, 11],
        [2, 3, 4, 3, 2, 1, 8, 8],
        [1, 3, 4, 3, 1, 1, 1, 1],
        [5, 6, 8, 1, 1, 0, 7, 7],
        [2, 6, 8, 1, 2, 0, 7, 7],
        // Some rows of one image at a time.
        [2, 2, 3, 3, 1, 1, 45, 40],
        [2, 4, 3, 1, 1, 0, 45, 40],
        // So many that a core has several.
        [7, 1, 2, 3, 1, 1, 35, 33],
        [2, 2, 3, 3, 2, 1, 90, 80],
        [1, 2, 3, 5, 1, 2, 12, 2000],
        [2, 3, 4, 4, 4, 0, 8, 12],
    ];
    for [
        batch,
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        height,
        width,
    ] in cases
    {
        let sizes = [
            batch * inputs * height * width,
            outputs * inputs * kernel * kernel,
        ];
        check(&sizes, |i| {
            let x = i[0].clone().reshape([batch, inputs, height, width]);
            let weight = i[1].clone().reshape([outputs, inputs, kernel, kernel]);
            conv2d(x, weight, stride, padding).flatten(0, 3)
        });
    }
}

#[test]
fn batch_norms_keep_exact_far_from_zero() {
    for shape in [[4, 6, 5, 7], [9, 3, 4, 4], [16, 70, 2, 4]] {
        let [_, channels, _, _] = shape;
        for (rectify, shift) in [(false, 0.0), (true, 0.0), (false, 4.0)] {
            // In bf16, some of so many values are rounded to the other side of zero.
            if channels > 10 && (rectify || shift > 0.0) {
                continue;
            }
            check(&[shape.iter().product(), channels, channels], |i| {
                let x = i[0].clone().reshape(shape).add_scalar(shift);
                batch_norm(x, i[1].clone(), i[2].clone(), 1e-5, rectify)
                    .output
                    .flatten(0, 3)
            });
        }
    }
    let x = Tensor::<1>::from_data(TensorData::new(values(0, 840), [840]), &Device::flex());
    let (x, one) = (
        x.reshape([4, 6, 5, 7]),
        Tensor::<1>::ones([6], &Device::flex()),
    );
    let ours = batch_norm(x.clone(), one.clone(), one.clone(), 1e-5, false);
    let theirs = module::batch_norm_train(x, one.clone(), one, 1e-5);
    let near = burn::tensor::Tolerance::<f32>::absolute(1e-6);
    ours.mean
        .into_data()
        .assert_approx_eq(&theirs.mean.into_data(), near);
    ours.variance
        .into_data()
        .assert_approx_eq(&theirs.variance.into_data(), near);
}

#[test]
fn pools_of_every_side() {
    for [side, height, width] in [[2, 8, 6], [2, 7, 5], [3, 7, 9], [1, 4, 4]] {
        check(&[2 * 3 * height * width], |i| {
            let x = i[0].clone().reshape([2, 3, height, width]);
            average_pool(x, side).flatten(0, 3)
        });
    }
    // More than one task's.
    check(&[2 * 70 * 20 * 22], |i| {
        let x = i[0].clone().reshape([2, 70, 20, 22]);
        average_pool(x, 2).flatten(0, 3)
    });
}

#[test]
fn rectified_sums() {
    check(&[2 * 3 * 20, 2 * 3 * 20], |i| {
        let [a, b] = [0, 1].map(|at: usize| i[at].clone().reshape([2, 3, 4, 5]));
        add_relu(a, b).flatten(0, 3)
    });
    check(&[21, 21], |i| {
        let [a, b] = [0, 1].map(|at: usize| i[at].clone().reshape([1, 3, 1, 7]));
        add_relu(a, b).flatten(0, 3)
    });
}
