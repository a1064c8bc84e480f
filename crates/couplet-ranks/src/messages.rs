//! Exchanges of bytes whose lengths the ranks do not know.

use crate::lost::Lost;
use crate::wire::{Exchange, Wait, Wire};

/// The bytes of a message's length.
const LEN: usize = size_of::<u64>();
/// Bytes that travel with the length.
const SHORT: usize = 504;
const BLOCK: usize = LEN + SHORT;

/// Everyone's bytes, in the order of ranks. Short ones take one exchange.
pub(crate) fn gather(wire: &mut dyn Wire, own: &[u8], wait: &Wait) -> Result<Vec<Vec<u8>>, Lost> {
    let ranks = wire.place().ranks;
    let short = own.len().min(SHORT);
    let mut block = [0; BLOCK];
    block[..LEN].copy_from_slice(&(own.len() as u64).to_le_bytes());
    block[LEN..][..short].copy_from_slice(&own[..short]);
    let mut blocks = vec![0; BLOCK * ranks];
    let exchange = Exchange::AllGather {
        own: &block,
        all: &mut blocks,
    };
    wire.exchange(exchange, wait)?;
    let mut parts: Vec<(usize, Vec<u8>)> = (blocks.chunks_exact(BLOCK))
        .map(|block| {
            let (len, short) = block.split_at(LEN);
            let len = length(len);
            (len, short[..len.min(SHORT)].to_vec())
        })
        .collect();
    let rests = parts.iter().map(|(len, _)| len.saturating_sub(SHORT));
    let longest = rests.max().unwrap_or(0);
    if longest > 0 {
        let mut padded = own.get(SHORT..).unwrap_or_default().to_vec();
        padded.resize(longest, 0);
        let mut rests = vec![0; longest * ranks];
        let exchange = Exchange::AllGather {
            own: &padded,
            all: &mut rests,
        };
        wire.exchange(exchange, wait)?;
        for ((len, part), rest) in parts.iter_mut().zip(rests.chunks_exact(longest)) {
            part.extend(&rest[..len.saturating_sub(SHORT)]);
        }
    }
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}

/// The bytes of rank 0.
pub(crate) fn broadcast(
    wire: &mut dyn Wire,
    mut bytes: Vec<u8>,
    wait: &Wait,
) -> Result<Vec<u8>, Lost> {
    /// Far below what MPI counts in 32 bits.
    const PIECE: usize = 64 << 20;
    let mut len = (bytes.len() as u64).to_le_bytes();
    wire.exchange(Exchange::Broadcast { bytes: &mut len }, wait)?;
    bytes.resize(length(&len), 0);
    for piece in bytes.chunks_mut(PIECE) {
        wire.exchange(Exchange::Broadcast { bytes: piece }, wait)?;
    }
    Ok(bytes)
}

fn length(bytes: &[u8]) -> usize {
    let len = u64::from_le_bytes(bytes.try_into().expect("a length has eight bytes"));
    usize::try_from(len).unwrap_or(usize::MAX)
}
