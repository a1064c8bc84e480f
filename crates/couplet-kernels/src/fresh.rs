//! New memory, cleared part by part by the tasks that write it. Cleared as a whole, by one core, it would cost
//! another pass over all outputs.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::values::{CHUNK, Value};
use crate::vectors::wide;

/// Values that `work` writes in parallel; they are zero before.
/// - chunk: of a task; the last may be shorter.
/// - work: takes the number of its chunk.
/// - returns also what each task returned, in order.
pub(crate) fn fresh<E: Value, R: Send>(
    len: usize,
    chunk: usize,
    work: impl Fn(usize, &mut [E]) -> R + Sync,
) -> (Vec<E>, Vec<R>) {
    let mut values = Vec::with_capacity(len);
    let chunks = values.spare_capacity_mut()[..len].par_chunks_mut(chunk);
    let results = chunks.enumerate().map(|(at, part)| work(at, cleared(part)));
    let results = results.collect();
    // SAFETY: every chunk was cleared.
    #[expect(unsafe_code, reason = "memory is cleared by its tasks")]
    unsafe {
        values.set_len(len);
    }
    (values, results)
}

/// As [`fresh`], of two outputs that have equally many chunks.
/// - sizes: of each, its length and its chunks'.
pub(crate) fn fresh_pair<E: Value>(
    [first, second]: [[usize; 2]; 2],
    work: impl Fn(usize, [&mut [E]; 2]) + Sync,
) -> [Vec<E>; 2] {
    let [mut one, mut two] = [first, second].map(|[len, _]| Vec::with_capacity(len));
    assert_eq!(first[0].div_ceil(first[1]), second[0].div_ceil(second[1]));
    let chunks = one.spare_capacity_mut()[..first[0]].par_chunks_mut(first[1]);
    let chunks = chunks.zip(two.spare_capacity_mut()[..second[0]].par_chunks_mut(second[1]));
    chunks.enumerate().for_each(|(at, (one, two))| {
        work(at, [cleared(one), cleared(two)]);
    });
    // SAFETY: every chunk was cleared.
    #[expect(unsafe_code, reason = "memory is cleared by its tasks")]
    unsafe {
        one.set_len(first[0]);
        two.set_len(second[0]);
    }
    [one, two]
}

/// Rounded values.
pub(crate) fn narrow_all<E: Value>(values: &[f32]) -> Vec<E> {
    let narrow = |at: usize, out: &mut [E]| {
        let values = &values[at * CHUNK..];
        wide(
            #[inline(always)]
            || {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = E::narrow(*value);
                }
            },
        );
    };
    fresh(values.len(), CHUNK, narrow).0
}

fn cleared<E: Value>(part: &mut [MaybeUninit<E>]) -> &mut [E] {
    part.fill(MaybeUninit::new(E::default()));
    // SAFETY: it was just written.
    #[expect(unsafe_code, reason = "memory is cleared by its tasks")]
    unsafe {
        &mut *(std::ptr::from_mut(part) as *mut [E])
    }
}
