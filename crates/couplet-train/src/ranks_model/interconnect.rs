//! The links between ranks, and how long exchanges over them take.

/// A link, as `couplet bench ranks` and nccl-tests measure it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Link {
    /// Seconds until the first byte has arrived.
    pub latency: f64,
    /// Bytes per second in each direction.
    pub bandwidth: f64,
}

/// How gradients are summed and features gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SumAlgorithm {
    /// Rings and trees through all ranks, as NCCL does: a node's network carries what one rank sends.
    Ring,
    /// Each rank sends every other one its piece, sums its own in the order of ranks, and sends the sum
    /// to all, as the host path does: a node's network carries what all its ranks send.
    Pieces,
}

/// The links between ranks.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interconnect {
    pub ranks_per_node: usize,
    /// From a rank to those of its node.
    pub local: Link,
    /// From a node to all others; its ranks share the bandwidth.
    pub network: Link,
    pub algorithm: SumAlgorithm,
    /// Seconds that computing loses for each second of an exchange behind it: 1 where the cores that
    /// compute do all the copying, so that nothing is gained.
    pub overlap_cost: f64,
}

/// Where ranks are.
struct Layout {
    ranks: f64,
    /// Ranks of a full node.
    local: f64,
    nodes: f64,
}

impl Interconnect {
    #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^53")]
    fn layout(&self, ranks: usize) -> Layout {
        let local = self.ranks_per_node.clamp(1, ranks.max(1));
        Layout {
            ranks: ranks as f64,
            local: local as f64,
            nodes: ranks.div_ceil(local) as f64,
        }
    }

    /// Seconds until every rank has the data of all.
    /// - bytes: of all ranks together; each has as many.
    pub fn gather_seconds(&self, bytes: f64, ranks: usize) -> f64 {
        let Layout {
            ranks,
            local,
            nodes,
        } = self.layout(ranks);
        if ranks < 2.0 {
            return 0.0;
        }
        let received = bytes * (ranks - 1.0) / ranks;
        if nodes < 2.0 {
            return received / self.local.bandwidth;
        }
        match self.algorithm {
            SumAlgorithm::Ring => received / self.local.bandwidth.min(self.network.bandwidth),
            SumAlgorithm::Pieces => {
                let of_network = local * bytes * (ranks - local) / ranks;
                let of_node = bytes * (local - 1.0) / ranks;
                (of_network / self.network.bandwidth).max(of_node / self.local.bandwidth)
            }
        }
    }

    /// Seconds until every rank has the sum over ranks: a reduce-scatter (or an exchange of pieces) and a gather,
    /// each of which moves as much as [`Self::gather_seconds`].
    /// - bytes: of one rank.
    pub fn sum_seconds(&self, bytes: f64, ranks: usize) -> f64 {
        2.0 * self.gather_seconds(bytes, ranks)
    }

    /// Seconds of a gather of a few bytes; a sum takes two.
    ///
    /// A ring takes a step for every rank, of which as many as there are nodes go over the network; a tree
    /// goes through a node and then doubles. Source: `ncclTopoTuneModel` of NCCL's `src/graph/tuning.cc`, which takes the
    /// faster of both. Pieces go to each rank in turn.
    pub fn latency_seconds(&self, ranks: usize) -> f64 {
        let Layout {
            ranks,
            local,
            nodes,
        } = self.layout(ranks);
        let ring = (ranks - nodes) * self.local.latency + (nodes - 1.0) * self.network.latency;
        let tree = (local - 1.0) * self.local.latency + nodes.log2() * self.network.latency;
        match self.algorithm {
            SumAlgorithm::Ring => ring.min(tree),
            SumAlgorithm::Pieces => {
                (local - 1.0) * self.local.latency + (ranks - local) * self.network.latency
            }
        }
    }
}

/// A bandwidth that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number above 0 with Mbit, Gbit, MB/s or GB/s, such as `100 Gbit`")]
pub struct ParseBandwidthError;

/// Reads a bandwidth such as `100 Gbit`, `25Gbit/s` or `12.5 GB/s`.
/// - returns bytes per second.
///
/// # Errors
/// If the text is not a number above 0 with a unit.
pub fn bandwidth(text: &str) -> Result<f64, ParseBandwidthError> {
    let text = text.trim();
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .ok_or(ParseBandwidthError)?;
    let number: f64 = text[..end].parse().map_err(|_| ParseBandwidthError)?;
    let unit = match text[end..].trim() {
        "Mbit" | "Mbit/s" | "Mb/s" | "Mbps" => 1e6 / 8.0,
        "Gbit" | "Gbit/s" | "Gb/s" | "Gbps" => 1e9 / 8.0,
        "MB/s" => 1e6,
        "GB/s" => 1e9,
        _ => return Err(ParseBandwidthError),
    };
    if number > 0.0 && number.is_finite() {
        Ok(number * unit)
    } else {
        Err(ParseBandwidthError)
    }
}
