//! The report of `couplet bench ranks`.

use serde::{Deserialize, Serialize};

use super::median;
use crate::ranks_model::{Interconnect, Prediction, RankWork};

/// The largest number of ranks that is predicted.
const MOST_RANKS: usize = 1024;

/// Seconds of a step of all ranks by part, as a rank sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSeconds {
    /// Features of the own pairs.
    pub encode: f64,
    /// Exchange of features and normalizers; a fast rank waits for slow ones here.
    pub gather: f64,
    pub loss_and_backward: f64,
    /// Sums of gradients that are not hidden.
    pub sums: f64,
    /// Small exchanges.
    pub agreement: f64,
    pub update: f64,
}

impl StepSeconds {
    pub fn total(&self) -> f64 {
        self.encode + self.loss_and_backward + self.update + self.exchange()
    }

    /// Seconds in which a rank waits for others or for data of others.
    pub fn exchange(&self) -> f64 {
        self.gather + self.sums + self.agreement
    }

    pub(super) fn divided(self, by: f64) -> Self {
        Self {
            encode: self.encode / by,
            gather: self.gather / by,
            loss_and_backward: self.loss_and_backward / by,
            sums: self.sums / by,
            agreement: self.agreement / by,
            update: self.update / by,
        }
    }

    fn mean(all: &[RankMeasurement]) -> Self {
        let sum = all.iter().fold(Self::default(), |sum, rank| Self {
            encode: sum.encode + rank.seconds.encode,
            gather: sum.gather + rank.seconds.gather,
            loss_and_backward: sum.loss_and_backward + rank.seconds.loss_and_backward,
            sums: sum.sums + rank.seconds.sums,
            agreement: sum.agreement + rank.seconds.agreement,
            update: sum.update + rank.seconds.update,
        });
        #[expect(clippy::cast_precision_loss, reason = "ranks are few")]
        sum.divided(all.len() as f64)
    }
}

/// What one rank measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankMeasurement {
    pub rank: usize,
    pub host: String,
    /// Seconds of a step without exchanges, while all ranks run one.
    pub crowded_seconds: f64,
    /// Of the steps of all together.
    pub seconds: StepSeconds,
}

/// An exchange of as many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LinkMeasurement {
    /// What each rank has after a gather, or before and after a sum.
    pub bytes: usize,
    pub gather_seconds: f64,
    pub sum_seconds: f64,
    /// Bytes per second that a rank sends and receives: nccl-tests' bus bandwidth, `bytes · (K − 1)/K` of a
    /// gather and twice that of a sum.
    pub gather_bandwidth: f64,
    pub sum_bandwidth: f64,
}

impl LinkMeasurement {
    #[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
    pub(super) fn new(bytes: usize, ranks: usize, gather_seconds: f64, sum_seconds: f64) -> Self {
        let sent = bytes as f64 * (ranks - 1) as f64 / ranks as f64;
        Self {
            bytes,
            gather_seconds,
            sum_seconds,
            gather_bandwidth: sent / gather_seconds,
            sum_bandwidth: 2.0 * sent / sum_seconds,
        }
    }
}

/// The speed of several ranks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RanksReport {
    pub ranks: usize,
    /// Pairs of one rank.
    pub batch: usize,
    /// Of all ranks together.
    pub samples_per_second: f64,
    /// Means over ranks.
    pub seconds: StepSeconds,
    /// Seconds of a step of rank 0 while the others sleep.
    pub alone_seconds: f64,
    /// Median over ranks of the seconds of a step without exchanges, while all run one.
    pub crowded_seconds: f64,
    /// Speed of a rank among others, relative to one alone.
    pub weak_efficiency: f64,
    /// The same for the whole batch on one rank, whose step is not measured but has the rank's seconds
    /// for each of its parts, and the logits of all with all.
    pub strong_efficiency: f64,
    /// Share of a step in which a rank waits for others or for their data.
    pub exchange_share: f64,
    /// In the order of ranks.
    pub each: Vec<RankMeasurement>,
    pub links: Vec<LinkMeasurement>,
    /// The links with which the model predicts.
    pub interconnect: Interconnect,
    /// What the model says of as many ranks as were measured.
    pub predicted_here: Prediction,
    /// Of 2, 4, … 1,024 ranks with the same batch each.
    pub predicted: Vec<Prediction>,
}

impl RanksReport {
    /// The ranks with the fewest, median and most samples per second without exchanges.
    pub fn extremes(&self) -> [&RankMeasurement; 3] {
        let mut sorted: Vec<_> = self.each.iter().collect();
        sorted.sort_by(|a, b| b.crowded_seconds.total_cmp(&a.crowded_seconds));
        [
            sorted[0],
            sorted[sorted.len() / 2],
            sorted[sorted.len() - 1],
        ]
    }
}

/// Puts measurements together.
/// - alone: seconds of a step of rank 0 while the others sleep.
/// - each: of every rank, at least one, in the order of ranks.
///
/// # Panics
/// If no rank measured anything.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn report(
    alone: f64,
    each: Vec<RankMeasurement>,
    links: Vec<LinkMeasurement>,
    interconnect: Interconnect,
    work: RankWork,
) -> RanksReport {
    let ranks = each.len();
    let seconds = StepSeconds::mean(&each);
    let total = seconds.total();
    let powers = (1..).map(|power| 1 << power);
    let powers = powers.take_while(|ranks| *ranks <= MOST_RANKS);
    RanksReport {
        ranks,
        batch: work.batch,
        samples_per_second: (work.batch * ranks) as f64 / total,
        alone_seconds: alone,
        crowded_seconds: median(each.iter().map(|rank| rank.crowded_seconds).collect()),
        weak_efficiency: alone / total,
        strong_efficiency: (alone + work.loss_seconds(work.batch * ranks)) / total,
        exchange_share: seconds.exchange() / total,
        seconds,
        each,
        links,
        interconnect,
        predicted_here: work.predict(&interconnect, ranks),
        predicted: powers
            .map(|ranks| work.predict(&interconnect, ranks))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks_model::{Link, SumAlgorithm};

    #[test]
    fn a_report_has_the_speed_of_all_and_of_each() {
        let each = [0.20, 0.25, 0.22].into_iter().enumerate();
        let each = each.map(|(rank, crowded_seconds)| RankMeasurement {
            rank,
            host: format!("host{rank}"),
            crowded_seconds,
            seconds: StepSeconds {
                encode: 0.05,
                gather: 0.27 - crowded_seconds,
                loss_and_backward: crowded_seconds - 0.07,
                sums: 0.04,
                agreement: 0.01,
                update: 0.02,
            },
        });
        let link = Link {
            latency: 1e-5,
            bandwidth: 1e9,
        };
        let interconnect = Interconnect {
            ranks_per_node: 1,
            local: link,
            network: link,
            algorithm: SumAlgorithm::Pieces,
            overlap_cost: 0.0,
        };
        let work = RankWork {
            batch: 32,
            embed_dim: 0,
            seconds: 0.22,
            hiding_seconds: 0.0,
            early_bytes: 0.0,
            late_bytes: 15e6,
            loss_flops_per_second: 1e12,
            exchanges_feature_gradients: false,
            spread: 0.0,
        };
        let links = vec![LinkMeasurement::new(3 << 20, 3, 1e-3, 2e-3)];
        let report = report(0.16, each.collect(), links, interconnect, work);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs();
        assert!(near(report.seconds.total(), 0.32));
        assert!(near(report.samples_per_second, 300.0));
        assert!(near(report.weak_efficiency, 0.5) && near(report.strong_efficiency, 0.5));
        assert_eq!(report.crowded_seconds, 0.22);
        let [slowest, middle, fastest] = report.extremes().map(|rank| rank.rank);
        assert_eq!([slowest, middle, fastest], [1, 2, 0]);
        let gathered = report.links[0].gather_bandwidth;
        assert!(near(gathered, 2e3 * f64::from(1 << 20)));
        assert!(near(report.links[0].sum_bandwidth, gathered));
        // 2 · 2/3 of 15 MB at 1 GB/s.
        assert!(near(report.predicted_here.seconds.sums, 0.02));
        let ranks: Vec<_> = report.predicted.iter().map(|found| found.ranks).collect();
        assert_eq!((ranks[0], ranks[9], ranks.len()), (2, 1024, 10));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["each"][1]["host"], "host1");
    }
}
