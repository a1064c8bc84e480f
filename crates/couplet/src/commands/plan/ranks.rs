//! `couplet plan --ranks`.

use clap::Args;
use couplet_train::{
    Interconnect, Prediction, RanksError, RanksOptions, RanksPlan, ResolvedRun, SumAlgorithm,
    bandwidth,
};

use super::lines::{print_line, rounded};
use crate::commands::numbers::at_least_one;
use crate::quantities::count_of;

#[derive(Debug, Args)]
pub(super) struct RanksArguments {
    /// Plan a run of this many ranks, which share the batch; a speed is predicted from that of one rank
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    ranks: Option<usize>,
    /// Ranks on each machine [default: all]
    #[arg(long, value_name = "N", requires = "ranks", value_parser = at_least_one)]
    ranks_per_node: Option<usize>,
    /// Bandwidth of a machine to the others, such as `25 Gbit` [default: 100 Gbit]
    #[arg(long, value_name = "BANDWIDTH", requires = "ranks", value_parser = bandwidth)]
    network: Option<f64>,
    /// Bandwidth of a rank to those of its machine [default: 4 GB/s on a CPU, 20 GB/s between CUDA devices]
    #[arg(long, value_name = "BANDWIDTH", requires = "ranks", value_parser = bandwidth)]
    local_network: Option<f64>,
}

impl RanksArguments {
    pub fn plan(
        &self,
        run: &ResolvedRun,
        tokens: Option<usize>,
    ) -> Result<Option<RanksPlan>, RanksError> {
        let plan = |ranks| {
            run.plan_ranks(
                tokens,
                &RanksOptions {
                    ranks,
                    ranks_per_node: self.ranks_per_node,
                    network: self.network,
                    local: self.local_network,
                },
            )
        };
        self.ranks.map(plan).transpose()
    }
}

/// A plan with the speed that it predicts.
pub(super) struct RanksResult {
    pub plan: RanksPlan,
    /// Samples per second of one rank without the others.
    speed: Option<f64>,
    prediction: Option<Prediction>,
    /// Whether the speed is a share of that of all cores.
    is_shared: bool,
}

impl RanksResult {
    /// - measured: samples per second of one rank on this whole machine.
    /// - given: samples per second of one rank.
    #[expect(clippy::cast_precision_loss, reason = "ranks are few")]
    pub fn new(plan: RanksPlan, measured: Option<f64>, given: Option<f64>) -> Self {
        let sharing = plan.ranks_per_cores();
        let speed = measured.map(|speed| speed / sharing as f64).or(given);
        Self {
            prediction: speed.map(|speed| plan.predict(speed)),
            is_shared: measured.is_some() && sharing > 1,
            speed,
            plan,
        }
    }

    pub fn samples_per_second(&self) -> Option<f64> {
        Some(self.prediction?.samples_per_second)
    }

    pub fn to_json(&self) -> serde_json::Value {
        let Interconnect {
            ranks_per_node,
            local,
            network,
            algorithm,
            overlap_cost,
        } = self.plan.interconnect;
        serde_json::json!({
            "ranks": self.plan.ranks,
            "ranks_per_node": ranks_per_node,
            "nodes": self.plan.nodes(),
            "parts": self.plan.parts,
            "batch": self.plan.rank.batch,
            "samples_per_second_of_one_rank": self.speed,
            "steps_per_second": self.prediction.map(|step| step.seconds.total().recip()),
            "step_seconds": self.prediction.map(|step| step.seconds.total()),
            "seconds_of_a_step": self.prediction.map(|step| step.seconds),
            "efficiency": self.prediction.map(|step| step.strong_efficiency),
            "assumed": {
                "local": local,
                "network": network,
                "algorithm": algorithm,
                "overlap_cost": overlap_cost,
                "spread": couplet_train::STEP_SPREAD,
            },
        })
    }

    pub fn print_layout(&self) {
        let RanksPlan { ranks, rank, .. } = &self.plan;
        let micro = match rank.batch.div_ceil(rank.micro_batch) {
            1 => String::new(),
            parts => format!(" in {parts} micro-batches of {}", rank.micro_batch),
        };
        let machines = match self.plan.nodes() {
            1 => "one machine".to_string(),
            nodes => format!(
                "{nodes} machines, up to {} on each",
                self.plan.interconnect.ranks_per_node
            ),
        };
        print_line(
            "ranks",
            format!(
                "{ranks} on {machines}; {} each{micro}",
                count_of(rank.batch, "sample")
            ),
        );
    }

    pub fn print_step(&self) {
        let Some(step) = &self.prediction else {
            return;
        };
        let seconds = step.seconds;
        print_line(
            "step",
            format!("{:.4} s, predicted by part:", seconds.total()),
        );
        for (value, name) in [
            (seconds.compute, "computing"),
            (seconds.waiting, "waiting for the slowest rank"),
            (seconds.gather, "exchange of features"),
            (seconds.sums, "sums of gradients that are not hidden"),
            (seconds.latency, "latency of exchanges"),
        ] {
            say!("  {:12}{value:>10.4}  {name}", "");
        }
        print_line(
            "efficiency",
            format!(
                "{:.0}%: {} samples/s, {} steps/s, {} times one rank",
                100.0 * step.strong_efficiency,
                rounded(step.samples_per_second),
                rounded(seconds.total().recip()),
                rounded(step.strong_efficiency * f64::from(ranks(step.ranks)))
            ),
        );
        self.print_assumptions();
    }

    fn print_assumptions(&self) {
        let Interconnect {
            local,
            network,
            algorithm,
            ..
        } = self.plan.interconnect;
        let [speed, local, network] = [
            self.speed.unwrap_or(0.0),
            local.bandwidth / 1e9,
            network.bandwidth / 1e9,
        ]
        .map(rounded);
        let shared = if self.is_shared {
            ", its share of all cores"
        } else {
            ""
        };
        print_line(
            "assumed",
            format!(
                "{speed} samples/s of one rank alone{shared}; step times spread by {:.0}%",
                100.0 * couplet_train::STEP_SPREAD
            ),
        );
        let between = if self.plan.nodes() > 1 {
            format!(", {network} GB/s between machines")
        } else {
            String::new()
        };
        let sums = match algorithm {
            SumAlgorithm::Ring => "summed by NCCL",
            SumAlgorithm::Pieces => "summed on the host",
        };
        say!("  {:12}{local} GB/s within a machine{between}; {sums}", "");
        say!(
            "  {:12}no time for data; `experiments/ranks/model.md` has the model",
            ""
        );
    }
}

/// As a number that a float holds.
fn ranks(ranks: usize) -> u32 {
    u32::try_from(ranks).unwrap_or(u32::MAX)
}
