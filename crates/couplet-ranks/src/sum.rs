//! A sum over ranks whose bits depend on nothing but the ranks' values and their number.

use bytemuck::{cast_slice, cast_slice_mut};

use crate::lost::Lost;
use crate::wire::{Exchange, Wait, Wire};

/// Floats that a rank sends to another in one exchange: enough for a link's bandwidth, and few enough that what two
/// ranks copy, send and add stays in a processor's caches. All gradients in one piece cost more time in pages of new
/// memory than in the exchange.
const CHUNK: usize = 1 << 18;

/// The most floats of a rank in one exchange, which has a chunk for every rank.
const LONGEST: usize = 25_000_000 / size_of::<f32>();

/// Replaces the values by their sums over ranks. Each rank adds one piece, in `f64` and in the order of ranks,
/// and the pieces are gathered: a rank sends `2 (ranks - 1) / ranks` times the values, as in a ring, and the
/// result does not depend on the transport, its algorithms or the ranks' machines.
/// - parts: of the same lengths on every rank.
pub(crate) fn ordered_sum<V: AsMut<[f32]>>(
    wire: &mut dyn Wire,
    parts: &mut [V],
    wait: &Wait,
) -> Result<(), Lost> {
    let ranks = wire.place().ranks;
    let len: usize = parts.iter_mut().map(|part| part.as_mut().len()).sum();
    let longest = (CHUNK * ranks).min(LONGEST).div_ceil(ranks) * ranks;
    // Two ranks send as much if each adds all values itself, in one exchange.
    let chunk = if ranks == 2 { longest / 2 } else { longest };
    let mut own = Vec::with_capacity(len.min(chunk).next_multiple_of(ranks));
    let mut all = vec![0.0; own.capacity() * if ranks == 2 { 2 } else { 1 }];
    let mut sum = Vec::new();
    let (mut read, mut written) = (Position::default(), Position::default());
    for start in (0..len).step_by(chunk) {
        let len = chunk.min(len - start);
        own.clear();
        read.visit(parts, len, |values| own.extend_from_slice(values));
        let mut sums = if ranks == 2 {
            let all = &mut all[..2 * len];
            sum_of_two(wire, &mut own, all, wait)?;
            &own[..]
        } else {
            own.resize(len.next_multiple_of(ranks), 0.0);
            let all = &mut all[..own.len()];
            sum_of_many(wire, &mut own, all, &mut sum, wait)?;
            &own[..len]
        };
        wait.note_progress();
        written.visit(parts, len, |values| {
            let (now, later) = sums.split_at(values.len());
            values.copy_from_slice(now);
            sums = later;
        });
    }
    Ok(())
}

/// A place in the parts.
#[derive(Default)]
struct Position {
    part: usize,
    at: usize,
}

impl Position {
    /// Passes over the next `len` values, slice by slice.
    fn visit<V: AsMut<[f32]>>(
        &mut self,
        parts: &mut [V],
        mut len: usize,
        mut visit: impl FnMut(&mut [f32]),
    ) {
        while len > 0 {
            let rest = &mut parts[self.part].as_mut()[self.at..];
            let now = rest.len().min(len);
            visit(&mut rest[..now]);
            len -= now;
            self.at += now;
            if now == rest.len() {
                *self = Self {
                    part: self.part + 1,
                    at: 0,
                };
            }
        }
    }
}

/// - own: this rank's values; then the sums.
/// - all: scratch of the same length; sum: scratch.
fn sum_of_many(
    wire: &mut dyn Wire,
    own: &mut [f32],
    all: &mut [f32],
    sum: &mut Vec<f32>,
    wait: &Wait,
) -> Result<(), Lost> {
    let piece = own.len() / wire.place().ranks;
    let (sent, received) = (cast_slice(own), cast_slice_mut(all));
    let exchange = Exchange::AllToAll {
        own: sent,
        all: received,
    };
    wire.exchange(exchange, wait)?;
    wait.note_progress();
    sum_pieces(all, piece, sum);
    let (sent, received) = (cast_slice(sum), cast_slice_mut(own));
    let exchange = Exchange::AllGather {
        own: sent,
        all: received,
    };
    wire.exchange(exchange, wait)
}

/// - own: this rank's values; then the sums. That of two in f32 is that in f64, rounded.
/// - all: scratch of twice the length.
fn sum_of_two(
    wire: &mut dyn Wire,
    own: &mut [f32],
    all: &mut [f32],
    wait: &Wait,
) -> Result<(), Lost> {
    let (sent, received) = (cast_slice(own), cast_slice_mut(all));
    let exchange = Exchange::AllGather {
        own: sent,
        all: received,
    };
    wire.exchange(exchange, wait)?;
    let (first, second) = all.split_at(own.len());
    for (sum, (first, second)) in own.iter_mut().zip(first.iter().zip(second)) {
        *sum = first + second;
    }
    Ok(())
}

/// - pieces: `[ranks, piece]`; sums: becomes `[piece]`.
#[expect(clippy::cast_possible_truncation, reason = "the result is f32")]
fn sum_pieces(pieces: &[f32], piece: usize, sums: &mut Vec<f32>) {
    /// Elements whose sums in `f64` stay in the first-level cache.
    const BLOCK: usize = 1024;
    sums.clear();
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
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::thread;
    use std::time::Duration;

    use super::{CHUNK, sum_pieces};
    use crate::lost::Lost;
    use crate::patience::Patience;
    use crate::place::Place;
    use crate::team::Team;
    use crate::threads::ThreadWire;
    use crate::wire::{Exchange, Wait, Wire};

    fn sums(pieces: &[f32], piece: usize) -> Vec<f32> {
        let mut sums = vec![9.0];
        sum_pieces(pieces, piece, &mut sums);
        sums
    }

    #[test]
    fn pieces_are_added_in_f64() {
        // In f32, the ones would be lost one by one.
        let big = 2.0_f32.powi(24);
        assert_eq!(
            sums(&[big, 0.5, 1.0, 0.25, 1.0, 0.125], 2),
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
        assert_eq!(sums(pieces, piece), expected);
    }

    /// A wire that is slow, but moves.
    struct Slow(ThreadWire);

    impl Wire for Slow {
        fn place(&self) -> &Place {
            self.0.place()
        }

        fn exchange(&mut self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost> {
            thread::sleep(Duration::from_millis(300));
            self.0.exchange(exchange, wait)
        }

        fn abort(&mut self, code: i32) {
            self.0.abort(code);
        }
    }

    #[test]
    fn a_long_sum_takes_longer_than_the_longest_wait() {
        let rank = |wire: ThreadWire| {
            thread::spawn(move || {
                let patience = Patience::of(Duration::from_millis(1200));
                let team = Team::start(|| Ok::<_, Infallible>(Slow(wire)), patience).unwrap();
                let sum = team.sum("values", vec![vec![1.0; 6 * CHUNK], vec![2.0; 3]]);
                let waits_longer = team.all_gather("bytes", vec![7]);
                (sum.wait().unwrap(), waits_longer.wait().unwrap())
            })
        };
        let ranks: Vec<_> = ThreadWire::team(2).into_iter().map(rank).collect();
        for rank in ranks {
            let (sum, bytes) = rank.join().unwrap();
            assert!(sum[0].iter().all(|value| *value == 2.0));
            assert_eq!((&sum[1][..], &bytes[..]), (&[4.0; 3][..], &[7, 7][..]));
        }
    }
}
