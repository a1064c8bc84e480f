//! A sum over ranks whose bits depend on nothing but the ranks' values and their number.

use bytemuck::{cast_slice, cast_slice_mut};

use crate::lost::Lost;
use crate::wire::{Exchange, Wait, Wire};

/// The sum of every rank's `values`. Each rank adds one piece, in `f64` and in the order of ranks, and the
/// pieces are gathered: a rank sends `2 (ranks - 1) / ranks` times the values, as in a ring, and the result
/// does not depend on the transport, its algorithms or the ranks' machines.
pub(crate) fn ordered_sum(
    wire: &mut dyn Wire,
    mut values: Vec<f32>,
    wait: &Wait,
) -> Result<Vec<f32>, Lost> {
    let ranks = wire.place().ranks;
    let len = values.len();
    if ranks == 2 {
        return sum_of_two(wire, values, wait);
    }
    let piece = len.div_ceil(ranks);
    values.resize(piece * ranks, 0.0);
    let mut pieces = vec![0.0_f32; piece * ranks];
    let (own, all) = (cast_slice(&values), cast_slice_mut(&mut pieces));
    wire.exchange(Exchange::AllToAll { own, all }, wait)?;
    let sum = sum_pieces(&pieces, piece);
    let (own, all) = (cast_slice(&sum), cast_slice_mut(&mut values));
    wire.exchange(Exchange::AllGather { own, all }, wait)?;
    values.truncate(len);
    Ok(values)
}

/// Two ranks send as much if each adds all values itself, in one exchange. The sum of two in f32 is that in f64,
/// rounded.
fn sum_of_two(wire: &mut dyn Wire, mut values: Vec<f32>, wait: &Wait) -> Result<Vec<f32>, Lost> {
    let len = values.len();
    let mut both = vec![0.0_f32; 2 * len];
    let (own, all) = (cast_slice(&values), cast_slice_mut(&mut both));
    wire.exchange(Exchange::AllGather { own, all }, wait)?;
    let (first, second) = both.split_at(len);
    for (sum, (first, second)) in values.iter_mut().zip(first.iter().zip(second)) {
        *sum = first + second;
    }
    Ok(values)
}

/// - pieces: `[ranks, piece]`; returns `[piece]`.
#[expect(clippy::cast_possible_truncation, reason = "the result is f32")]
fn sum_pieces(pieces: &[f32], piece: usize) -> Vec<f32> {
    /// Elements whose sums in `f64` stay in the first-level cache.
    const BLOCK: usize = 1024;
    let mut sums = Vec::with_capacity(piece);
    let mut block = [0.0_f64; BLOCK];
    for start in (0..piece).step_by(BLOCK) {
        let end = piece.min(start + BLOCK);
        let block = &mut block[..end - start];
        block.fill(0.0);
        for rank in pieces.chunks_exact(piece) {
            for (sum, value) in block.iter_mut().zip(&rank[start..end]) {
                *sum += f64::from(*value);
            }
        }
        sums.extend(block.iter().map(|sum| *sum as f32));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::sum_pieces;

    #[test]
    fn pieces_are_added_in_f64() {
        // In f32, the ones would be lost one by one.
        let big = 2.0_f32.powi(24);
        assert_eq!(
            sum_pieces(&[big, 0.5, 1.0, 0.25, 1.0, 0.125], 2),
            [big + 2.0, 0.875]
        );
    }

    #[test]
    fn long_pieces_are_added_in_blocks() {
        let piece = 2500;
        let pieces: Vec<f32> = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0].repeat(3 * piece / 7 + 1);
        let pieces = &pieces[..3 * piece];
        let expected: Vec<f32> = (0..piece)
            .map(|at| (0..3).map(|rank| pieces[rank * piece + at]).sum())
            .collect();
        assert_eq!(sum_pieces(pieces, piece), expected);
    }
}
