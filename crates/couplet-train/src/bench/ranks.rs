//! The speed of several ranks, and of the links between them.

use std::time::Instant;

use couplet_ranks::{Lost, Team};

use super::ranks_report::{LinkMeasurement, RankMeasurement, RanksReport, StepSeconds, report};
use super::settings::{StepBenchError, StepBenchSettings, check};
use super::{Timed, median, seconds, timed_steps};
use crate::comm::{Comm, Journal, Passage};
use crate::device::DeviceSetting;
use crate::ranks::{Disagreement, Ranks};
use crate::ranks_model::{Interconnect, Link, RankWork, STEP_SPREAD, SumAlgorithm};

/// Why ranks were not measured.
pub type RanksBenchError = Disagreement<StepBenchError>;

/// Bytes of all ranks in the largest measured exchange.
const MOST_BYTES: usize = 256 << 20;

/// Times steps of each rank alone and of all together, and the exchanges between them. Every rank calls
/// it with the same settings.
/// - settings: the batch is one rank's.
/// - network: bytes per second between machines for predictions, where all ranks are on one machine.
/// - returns the report, on every rank.
///
/// # Errors
/// If a setting is invalid on a rank, or a rank is lost.
///
/// # Panics
/// If the device fails.
pub fn bench_ranks(
    settings: &StepBenchSettings,
    network: f64,
    ranks: &Ranks,
) -> Result<RanksReport, RanksBenchError> {
    let comm = &ranks.0;
    let device = ranks.agree(check(settings))?;
    let run = |comm: &Comm| timed_steps(settings, &device, comm, false).map(|(_, steps)| steps);
    let links = match comm.team() {
        Some(team) => measure_links(team, MOST_BYTES)?,
        None => Vec::new(),
    };
    // The others wait in the exchange that follows.
    let alone = comm.is_first().then(|| run(&Comm::alone())).transpose();
    let alone = ranks.agree(alone)?;
    let alone = alone.map_or(0.0, |steps| median(seconds(&steps)));
    let alone = comm.numbers_of_first("the step of one rank", &[alone])?[0];
    let crowded = ranks.agree(run(&Comm::alone()))?;
    let journal = Journal::default();
    let together = ranks.agree(run(&comm.with_journal(journal.clone())))?;
    let place = ranks.place();
    let own = RankMeasurement {
        rank: place.rank,
        host: place.host.clone(),
        crowded_seconds: median(seconds(&crowded)),
        seconds: step_seconds(&together, &journal.take()),
    };
    let line = serde_json::to_vec(&own).expect("numbers and a name are JSON");
    let all = comm.gather("the measurements", line)?;
    let all = all
        .iter()
        .filter_map(|line| serde_json::from_slice(line).ok());
    let all: Vec<RankMeasurement> = all.collect();
    let links_of_model = interconnect(settings, &links, place.ranks, place.local_ranks, network);
    let work = work(
        settings,
        median(all.iter().map(|r| r.crowded_seconds).collect()),
    );
    Ok(report(alone, all, links, links_of_model, work))
}

/// The parts of the steps, as means over them.
fn step_seconds(steps: &[Timed], passages: &[Passage]) -> StepSeconds {
    let mut sum = StepSeconds::default();
    for (begun, ended) in steps {
        let own = || {
            let within = |passage: &&Passage| passage.begun >= *begun && passage.ended <= *ended;
            passages.iter().filter(within)
        };
        let waited = |is: &dyn Fn(&str) -> bool| -> f64 {
            let own = own().filter(|passage| is(passage.what));
            own.map(|passage| (passage.ended - passage.begun).as_secs_f64())
                .sum()
        };
        let is_gather = |what: &str| what == "the features" || what.contains("normalizers");
        let is_sum = |what: &str| what == "the gradients";
        let first = own().find(|passage| passage.what == "the features");
        let last = own().next_back();
        let encode = first.map_or(0.0, |first| (first.begun - *begun).as_secs_f64());
        let update = last.map_or(0.0, |last| (*ended - last.ended).as_secs_f64());
        let (gather, sums) = (waited(&is_gather), waited(&is_sum));
        let others = waited(&|what| !is_gather(what) && !is_sum(what));
        let total = (*ended - *begun).as_secs_f64();
        sum.encode += encode;
        sum.gather += gather;
        sum.loss_and_backward += total - encode - update - gather - sums - others;
        sum.sums += sums;
        sum.agreement += others;
        sum.update += update;
    }
    #[expect(clippy::cast_precision_loss, reason = "steps are few")]
    sum.divided(steps.len() as f64)
}

/// Times gathers and sums, as nccl-tests does, by the bytes of all ranks together.
fn measure_links(team: &Team, most: usize) -> Result<Vec<LinkMeasurement>, Lost> {
    let ranks = team.place().ranks;
    let mut sizes = Vec::new();
    let mut size = 8;
    while size < most {
        sizes.push(size);
        size *= 8;
    }
    sizes.push(most);
    let mut links = Vec::new();
    for size in sizes {
        let repeats = if size < 1 << 20 { 20 } else { 3 };
        let own = size.div_ceil(ranks);
        let floats = (size / size_of::<f32>()).max(1);
        let (mut gathers, mut sums) = (Vec::new(), Vec::new());
        for _ in 0..=repeats {
            let bytes = vec![1; own];
            let start = Instant::now();
            team.all_gather("a gather of the bench", bytes).wait()?;
            gathers.push(start.elapsed().as_secs_f64());
            let values = vec![1.0; floats];
            let start = Instant::now();
            team.sum("a sum of the bench", vec![values]).wait()?;
            sums.push(start.elapsed().as_secs_f64());
        }
        // The first ones touch new memory.
        let [gather, sum] = [gathers, sums].map(|mut times| median(times.split_off(1)));
        links.push(LinkMeasurement::new(size, ranks, gather, sum));
    }
    Ok(links)
}

/// The links of the model from what was measured.
#[expect(clippy::cast_precision_loss, reason = "ranks are few")]
fn interconnect(
    settings: &StepBenchSettings,
    links: &[LinkMeasurement],
    ranks: usize,
    local_ranks: usize,
    network: f64,
) -> Interconnect {
    let is_host = settings.device.resolved() == DeviceSetting::Flex;
    // About what one sum of gradients has.
    let bucket = links.iter().rfind(|link| link.bytes <= 1 << 24);
    let bandwidth = bucket.map_or(network, |link| link.sum_bandwidth);
    let latency = links.first().map_or(0.0, |link| link.gather_seconds);
    let latency = latency / (ranks.max(2) - 1) as f64;
    let measured = Link { latency, bandwidth };
    let other = if ranks > local_ranks {
        // What a rank sends to other machines shares the machine's network.
        let share = local_ranks as f64 * (ranks - local_ranks) as f64 / (ranks - 1) as f64;
        Link {
            bandwidth: bandwidth * share,
            ..measured
        }
    } else {
        Link {
            latency,
            bandwidth: network,
        }
    };
    Interconnect {
        ranks_per_node: local_ranks,
        local: measured,
        network: other,
        algorithm: SumAlgorithm::Pieces,
        overlap_cost: if is_host { 1.0 } else { 0.2 },
    }
}

/// The work of a rank in the model.
/// - seconds: of its step without exchanges, next to the other ranks of its machine.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn work(settings: &StepBenchSettings, seconds: f64) -> RankWork {
    let StepBenchSettings { spec, batch, .. } = settings;
    let trained = match &settings.adaptation {
        Some(adaptation) => adaptation.trained_parameters(spec),
        None => spec.trained_parameters(settings.freeze),
    };
    let forward = spec.forward_flops(settings.tokens());
    let image = spec.image_flops();
    let (early, late, behind) = if trained.text > trained.image {
        (trained.text, trained.image, image)
    } else {
        (trained.image, trained.text, forward - image)
    };
    let last = settings.micro.unwrap_or(*batch).min(*batch) as f64 / *batch as f64;
    RankWork {
        batch: *batch,
        embed_dim: if settings.classes.is_some() {
            0
        } else {
            spec.embed_dim
        },
        seconds,
        hiding_seconds: seconds * last * 2.0 / 3.0 * behind / forward,
        early_bytes: 4.0 * early as f64,
        late_bytes: 4.0 * (late + trained.joint) as f64,
        loss_flops_per_second: 3.0 * *batch as f64 * forward / seconds,
        exchanges_feature_gradients: false,
        spread: STEP_SPREAD,
    }
}

#[cfg(test)]
mod tests {
    use couplet_model::presets;

    use super::*;
    use crate::comm::threads::on_ranks;

    #[test]
    fn ranks_measure_steps_parts_and_links() {
        let settings = StepBenchSettings {
            caption_tokens: Some(10),
            steps: 2,
            ..StepBenchSettings::new(presets::find("ViT-Ti-8-32").unwrap(), 4)
        };
        let reports = on_ranks(2, |comm| {
            let team = comm.team().unwrap();
            assert_eq!(measure_links(team, 1 << 12).unwrap().len(), 4);
            let journal = Journal::default();
            let device = check(&settings).unwrap();
            let with = comm.with_journal(journal.clone());
            let (_, steps) = timed_steps(&settings, &device, &with, false).unwrap();
            (
                step_seconds(&steps, &journal.take()),
                median(seconds(&steps)),
            )
        });
        for (parts, step) in reports {
            assert!(parts.encode > 0.0 && parts.gather > 0.0, "{parts:?}");
            assert!(parts.loss_and_backward > 0.0 && parts.update > 0.0);
            assert!((0.3..3.0).contains(&(parts.total() / step)), "{parts:?}");
        }
        // An invalid setting of one rank ends all.
        let errors = on_ranks(2, |comm| {
            let batch = if comm.rank() == 1 { 1 } else { 4 };
            let settings = StepBenchSettings {
                batch,
                ..settings.clone()
            };
            bench_ranks(&settings, 1e9, &Ranks(comm))
                .unwrap_err()
                .to_string()
        });
        assert!(
            errors.iter().all(|error| error.contains("--batch")),
            "{errors:?}"
        );
    }

    #[test]
    fn one_rank_is_as_fast_as_itself() {
        let settings = StepBenchSettings {
            caption_tokens: Some(10),
            steps: 1,
            ..StepBenchSettings::new(presets::find("ViT-Ti-8-32").unwrap(), 2)
        };
        let report = bench_ranks(&settings, 1e9, &Ranks::alone()).unwrap();
        assert_eq!((report.ranks, report.links.len()), (1, 0));
        assert!(report.samples_per_second > 0.0 && report.seconds.gather == 0.0);
        assert_eq!(report.predicted.len(), 10);
    }
}
