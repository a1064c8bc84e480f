//! Exchanges that are too long for a transport, as several shorter ones.

use crate::lost::Lost;
use crate::wire::Exchange;

/// Runs an exchange in pieces of at most about `longest` bytes of all ranks together.
pub(crate) fn in_pieces(
    exchange: Exchange<'_>,
    ranks: usize,
    longest: usize,
    run: &mut dyn FnMut(Exchange<'_>) -> Result<(), Lost>,
) -> Result<(), Lost> {
    let piece = (longest / ranks).max(1);
    match exchange {
        Exchange::AllGather { own, all } if own.len() > piece => {
            let len = own.len();
            let mut gathered = vec![0; piece * ranks];
            for (number, own) in own.chunks(piece).enumerate() {
                let gathered = &mut gathered[..own.len() * ranks];
                let exchange = Exchange::AllGather { own, all: gathered };
                run(exchange)?;
                for (part, all) in gathered.chunks_exact(own.len()).zip(all.chunks_mut(len)) {
                    all[number * piece..][..part.len()].copy_from_slice(part);
                }
            }
            Ok(())
        }
        Exchange::AllToAll { own, all } if own.len() / ranks > piece => {
            let len = own.len() / ranks;
            let (mut sent, mut received) = (vec![0; piece * ranks], vec![0; piece * ranks]);
            for start in (0..len).step_by(piece) {
                let piece = piece.min(len - start);
                let sent = &mut sent[..piece * ranks];
                let received = &mut received[..piece * ranks];
                for (part, own) in sent.chunks_exact_mut(piece).zip(own.chunks_exact(len)) {
                    part.copy_from_slice(&own[start..][..piece]);
                }
                let (own, part) = (&*sent, &mut *received);
                run(Exchange::AllToAll { own, all: part })?;
                for (part, all) in received.chunks_exact(piece).zip(all.chunks_exact_mut(len)) {
                    all[start..][..piece].copy_from_slice(part);
                }
            }
            Ok(())
        }
        Exchange::Broadcast { bytes } => {
            for bytes in bytes.chunks_mut(longest.max(1)) {
                run(Exchange::Broadcast { bytes })?;
            }
            Ok(())
        }
        short => run(short),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::patience::Patience;
    use crate::place::Place;
    use crate::team::Team;
    use crate::threads::ThreadWire;
    use crate::wire::{Wait, Wire};

    /// A wire that cannot carry long exchanges.
    struct Narrow {
        wire: ThreadWire,
        longest: usize,
    }

    impl Wire for Narrow {
        fn place(&self) -> &Place {
            self.wire.place()
        }

        fn exchange(&mut self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost> {
            let (ranks, longest) = (self.place().ranks, self.longest);
            in_pieces(exchange, ranks, longest, &mut |piece| {
                let bytes = match &piece {
                    Exchange::AllGather { all, .. } | Exchange::AllToAll { all, .. } => all.len(),
                    Exchange::Broadcast { bytes } => bytes.len(),
                };
                assert!(bytes <= longest.max(ranks), "{bytes} bytes at once");
                self.wire.exchange(piece, wait)
            })
        }

        fn abort(&mut self, code: i32) {
            self.wire.abort(code);
        }
    }

    /// What every rank gets from each exchange.
    fn exchanged(longest: usize) -> Vec<(Vec<u8>, Vec<u8>, Vec<f32>)> {
        let rank = |wire: ThreadWire| {
            thread::spawn(move || {
                let patience = Patience::of(Duration::from_secs(20));
                let wire = Narrow { wire, longest };
                let team = Team::start(|| Ok::<_, Infallible>(wire), patience).unwrap();
                let rank = u8::try_from(team.place().rank).unwrap();
                let own: Vec<u8> = (0..31).map(|at| at + 100 * rank).collect();
                let values: Vec<f32> = own.iter().map(|value| f32::from(*value)).collect();
                let all = team.all_gather("bytes", own.clone()).wait().unwrap();
                let first = team.broadcast("the first", own).wait().unwrap();
                let sum = team.sum("values", vec![values]).wait().unwrap();
                (all, first, sum.concat())
            })
        };
        let ranks: Vec<_> = ThreadWire::team(3).into_iter().map(rank).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    }

    #[test]
    fn pieces_give_what_one_exchange_gives() {
        let whole = exchanged(usize::MAX);
        for longest in [1, 7, 9, 90, 93, 2000] {
            assert_eq!(exchanged(longest), whole, "{longest}");
        }
    }
}
