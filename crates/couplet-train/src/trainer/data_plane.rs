//! How features and gradients travel between the ranks of a run: `ranks.data`.

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::comm::Comm;
use crate::config::DataPlane;
use crate::device::{DeviceSetting, obstacle_to_nccl};
use crate::ranks::other_rank;

/// What a rank says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Offer {
    asked: DataPlane,
    /// Whether it computes on an NVIDIA GPU.
    has_gpu: bool,
    /// Why it cannot use NCCL.
    obstacle: Option<String>,
}

/// What the ranks do.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Nccl,
    /// Through the hosts' memory. The first rank that cannot do else, and why, unless that is no surprise.
    Host(Option<(usize, String)>),
    /// NCCL was asked for, but a rank cannot use it.
    Refused(usize, String),
}

/// Agrees with the other ranks on how tensors travel, and prepares it.
/// - asked: `ranks.data`; that of rank 0 counts.
/// - returns the ranks with it, and a line for the run's head if there are several.
///
/// # Errors
/// If NCCL is asked for and a rank cannot use it, or a rank is lost.
pub(super) fn settle(
    asked: DataPlane,
    device: DeviceSetting,
    comm: &Comm,
) -> Result<(Comm, Option<String>), TrainError> {
    if comm.is_alone() {
        return Ok((comm.clone(), None));
    }
    let lost = |lost| TrainError::RankLost {
        lost,
        last_good: None,
    };
    let own = Offer {
        asked,
        has_gpu: matches!(device.resolved(), DeviceSetting::Cuda(_)),
        obstacle: obstacle(device),
    };
    let own = serde_json::to_vec(&own).expect("an offer serialises");
    let offers = comm.gather("the ranks to agree on ranks.data", own);
    let offers: Vec<Offer> = (offers.map_err(lost)?.iter())
        .map(|offer| serde_json::from_slice(offer).expect("a rank sent it"))
        .collect();
    let refused = |rank, obstacle| TrainError::NoNccl(other_rank(comm, rank, obstacle));
    match choose(&offers) {
        Choice::Nccl => join(offers[0].asked, device, comm),
        Choice::Refused(rank, obstacle) => Err(refused(rank, obstacle)),
        Choice::Host(None) => Ok((comm.clone(), Some(through_hosts(None)))),
        Choice::Host(Some((rank, obstacle))) => {
            let why = other_rank(comm, rank, obstacle).to_string();
            Ok((comm.clone(), Some(through_hosts(Some(&why)))))
        }
    }
}

/// What the ranks do, given what each says; the same on all of them.
fn choose(offers: &[Offer]) -> Choice {
    let obstacles = offers.iter().map(|offer| offer.obstacle.as_ref());
    let first = obstacles
        .enumerate()
        .find_map(|(rank, obstacle)| Some((rank, obstacle?.clone())));
    match (offers[0].asked, first) {
        (DataPlane::Host, _) => Choice::Host(None),
        (DataPlane::Auto, _) if !offers.iter().any(|offer| offer.has_gpu) => Choice::Host(None),
        (DataPlane::Auto, Some(first)) => Choice::Host(Some(first)),
        (DataPlane::Nccl, Some((rank, obstacle))) => Choice::Refused(rank, obstacle),
        (DataPlane::Auto | DataPlane::Nccl, None) => Choice::Nccl,
    }
}

/// Why this rank cannot use NCCL.
fn obstacle(device: DeviceSetting) -> Option<String> {
    #[cfg(feature = "nccl")]
    let library = || {
        Some(couplet_data::with_causes(
            &couplet_ranks::find_nccl().err()?,
        ))
    };
    #[cfg(not(feature = "nccl"))]
    let library = || None;
    obstacle_to_nccl(device).or_else(library)
}

/// The line of the run's head.
/// - why: what prevents NCCL.
fn through_hosts(why: Option<&str>) -> String {
    let why = why.map_or(String::new(), |why| format!(" (no NCCL: {why})"));
    format!("exchanges  through the machines' memory{why}")
}

/// Joins the ranks' GPUs; through the hosts' memory where that fails and is not asked for.
#[cfg(feature = "nccl")]
fn join(
    asked: DataPlane,
    device: DeviceSetting,
    comm: &Comm,
) -> Result<(Comm, Option<String>), TrainError> {
    use couplet_ranks::NcclStartError;

    use crate::comm::nccl::Gpus;

    let (Some(team), DeviceSetting::Cuda(number)) = (comm.team(), device.resolved()) else {
        unreachable!("there are several ranks, each on an NVIDIA GPU");
    };
    match Gpus::join(team, number) {
        Ok(gpus) => {
            let note = format!("exchanges  by NCCL {} between the GPUs", gpus.version());
            Ok((comm.with_gpus(gpus), Some(note)))
        }
        Err(NcclStartError::Lost(lost)) => Err(TrainError::RankLost {
            lost,
            last_good: None,
        }),
        Err(error @ NcclStartError::Failed(_)) if asked == DataPlane::Auto => {
            Ok((comm.clone(), Some(through_hosts(Some(&error.to_string())))))
        }
        Err(NcclStartError::Failed(words)) => Err(TrainError::NcclFailed(words)),
    }
}

#[cfg(not(feature = "nccl"))]
fn join(_: DataPlane, _: DeviceSetting, _: &Comm) -> Result<(Comm, Option<String>), TrainError> {
    unreachable!("every rank has said that it was built without NCCL");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::threads::on_ranks;

    fn offers(asked: DataPlane, obstacles: &[Option<&str>]) -> Vec<Offer> {
        let offer = |obstacle: Option<&str>| Offer {
            asked,
            has_gpu: true,
            obstacle: obstacle.map(str::to_string),
        };
        obstacles.iter().copied().map(offer).collect()
    }

    #[test]
    fn all_ranks_use_nccl_or_none_does() {
        let able = [None, None];
        let mixed = [None, Some("no library")];
        let first = (1, "no library".to_string());
        for (asked, obstacles, choice) in [
            (DataPlane::Auto, able, Choice::Nccl),
            (DataPlane::Nccl, able, Choice::Nccl),
            (DataPlane::Host, able, Choice::Host(None)),
            (DataPlane::Auto, mixed, Choice::Host(Some(first.clone()))),
            (DataPlane::Nccl, mixed, Choice::Refused(first.0, first.1)),
            (DataPlane::Host, mixed, Choice::Host(None)),
        ] {
            assert_eq!(choose(&offers(asked, &obstacles)), choice, "{asked:?}");
        }
    }

    #[test]
    fn what_rank_0_asks_for_counts() {
        let mut offers = offers(DataPlane::Host, &[None, None]);
        offers[1].asked = DataPlane::Nccl;
        assert_eq!(choose(&offers), Choice::Host(None));
    }

    #[test]
    fn ranks_without_a_gpu_do_not_miss_nccl() {
        let mut offers = offers(DataPlane::Auto, &[None, Some("built without it")]);
        for offer in &mut offers {
            offer.has_gpu = false;
        }
        assert_eq!(choose(&offers), Choice::Host(None));
        offers[1].has_gpu = true;
        assert!(matches!(choose(&offers), Choice::Host(Some(_))));
    }

    #[test]
    fn ranks_on_cpus_exchange_through_memory_and_refuse_nccl() {
        let settled = on_ranks(2, |comm| {
            let auto = settle(DataPlane::Auto, DeviceSetting::Flex, &comm);
            let nccl = settle(DataPlane::Nccl, DeviceSetting::Flex, &comm);
            (auto.unwrap().1.unwrap(), nccl.unwrap_err().to_string())
        });
        for (note, refusal) in settled {
            assert_eq!(note, "exchanges  through the machines' memory");
            assert!(
                refusal.starts_with("ranks.data: `nccl`, but rank 0 ("),
                "{refusal}"
            );
            assert!(refusal.contains("\"host\""), "{refusal}");
        }
        let alone = settle(DataPlane::Nccl, DeviceSetting::Flex, &Comm::alone());
        assert!(alone.unwrap().1.is_none());
    }
}
