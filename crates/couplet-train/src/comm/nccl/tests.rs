//! The packing of buckets; and, on a machine with an NVIDIA GPU and NCCL, what comes of exchanges
//! (`scripts/gpu-check.sh` says how to run those).

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use couplet_ranks::{Patience, Team, ThreadWire};

use super::{Gpus, in_buckets, to_host};

#[test]
fn buckets_have_as_many_tensors_as_fit() {
    assert_eq!(in_buckets(&[], 10), [0; 0]);
    assert_eq!(in_buckets(&[4, 6, 1, 0, 9], 10), [2, 3]);
    assert_eq!(in_buckets(&[25, 1, 1, 30, 0], 10), [1, 2, 1, 1]);
    assert_eq!(in_buckets(&[3, 3, 3], 1), [1, 1, 1]);
}

/// Joins `ranks` ranks on the first GPU and runs `work` on each.
fn on_gpu<T: Send>(ranks: usize, work: impl Fn(&Gpus, usize, &Device) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let start = |(rank, wire): (usize, ThreadWire)| {
            let work = &work;
            scope.spawn(move || {
                let patience = Patience::of(Duration::from_mins(2));
                let team = Team::start(|| Ok::<_, Infallible>(wire), patience).unwrap();
                let gpus = Gpus::join(&team, 0).unwrap();
                let result = work(&gpus, rank, &Device::cuda(0));
                // No rank closes its connections while another needs them.
                team.gather("the others", Vec::new()).wait().unwrap();
                result
            })
        };
        let threads: Vec<_> = ThreadWire::team(ranks)
            .into_iter()
            .enumerate()
            .map(start)
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn values(len: usize, rank: usize) -> Vec<f32> {
    let value = |at: usize| u16::try_from((at + 31 * rank) % 1009).map_or(0.0, f32::from);
    (0..len).map(value).collect()
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Sums and gathers of odd and large sizes, whose operands come from work that is still queued.
fn check(ranks: usize) {
    const BUCKET: usize = 6_250_000;
    let lens = [1, 0, 3, 1_000_003, BUCKET, 2 * BUCKET + 1, 17, 5];
    on_gpu(ranks, |gpus, rank, device| {
        for round in 0..3 {
            let own = lens.map(|len| tensor(values(len, rank + round), device) * 2.0 + 1.0);
            let kept = own[4].clone();
            let sum = gpus.start_sum("sums", own.to_vec(), BUCKET);
            // Queued behind the exchange, on memory that it must not touch.
            let other = kept.clone() * 3.0;
            for (sum, len) in sum.wait().unwrap().into_iter().zip(lens) {
                let mut expected = vec![0.0; len];
                for other in 0..ranks {
                    let others = values(len, other + round);
                    let pairs = expected.iter_mut().zip(others);
                    pairs.for_each(|(sum, value)| *sum += 2.0 * value + 1.0);
                }
                assert!(to_host(sum) == expected, "the sum of {len}");
            }
            let unchanged: Vec<f32> = values(BUCKET, rank + round)
                .iter()
                .map(|x| 2.0 * x + 1.0)
                .collect();
            assert!(to_host(kept) == unchanged, "an operand has changed");
            let tripled: Vec<f32> = unchanged.iter().map(|x| 3.0 * x).collect();
            assert!(
                to_host(other) == tripled,
                "queued work has seen the exchange"
            );
            for shape in [[1, 1], [257, 33], [4096, 1024]] {
                let len = shape[0] * shape[1];
                let own = tensor(values(len, rank), device) + 0.5;
                // A transposed view of transposed rows: not contiguous before it is gathered.
                let rows = own.reshape([shape[1], shape[0]]).transpose();
                let host = to_host(rows.clone());
                let all = to_host(gpus.start_gather("rows", rows).unwrap().wait().unwrap());
                assert_eq!(all.len(), ranks * len);
                assert!(all[rank * len..][..len] == host, "the rows of {shape:?}");
            }
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and NCCL"]
fn one_rank_gets_what_it_gave() {
    check(1);
}

#[test]
#[ignore = "needs an NVIDIA GPU and NCCL 2.30, with NCCL_MULTI_RANK_GPU_ENABLE=1"]
fn two_ranks_of_one_gpu_get_sums_and_rows() {
    check(2);
}
