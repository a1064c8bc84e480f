//! The ranks of a run: joining those that a launcher started, who prints, and how they end.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use couplet_ranks::{Lost, Patience, Team, launch, launched};
use couplet_train::{Disagreement, Ranks, TrainError, share_cores};

use crate::exit_code;
use crate::printing;
use crate::quantities::count;
use crate::signals::is_urgent;

/// Time for the rank that prints an error: launchers kill all ranks once one has ended.
const OTHERS_FIRST: Duration = Duration::from_secs(1);
/// The same where it saves first.
const OTHERS_SAVE_FIRST: Duration = Duration::from_secs(8);

/// Joins the ranks that a launcher started; the only rank if none did. All ranks but the first are silent.
/// - patience: how long exchanges wait.
pub(crate) fn start(patience: Duration) -> anyhow::Result<Ranks> {
    let patience = Patience {
        limit: patience,
        stop: Arc::new(is_urgent),
        after_stop: after_stop(),
    };
    let team = match launch(patience) {
        Ok(None) => return Ok(Ranks::alone()),
        Ok(Some(team)) => team,
        Err(error) => {
            let rank = launched().ok().flatten().map(|launched| launched.rank);
            leave_the_word_to_the_first(rank.unwrap_or_else(|| number("RANK").unwrap_or(0)));
            return Err(error.into());
        }
    };
    if !team.place().is_first() {
        printing::silence();
    }
    let threads = share_cores(team.threads()).map_err(|error| anyhow!(error))?;
    describe(&team, threads);
    Ok(Ranks::of(team))
}

/// Fails if a launcher started this process with others: only some commands run on several ranks.
/// - command: its name.
pub(crate) fn check_alone(command: &str) -> anyhow::Result<()> {
    // Whoever else sets the variables that this cannot use does no harm here.
    let Some(launched) = launched().ok().flatten() else {
        return Ok(());
    };
    let Some(ranks) = launched.ranks else {
        return Ok(());
    };
    leave_the_word_to_the_first(launched.rank);
    Err(anyhow!(
        "{} started {ranks} processes, but `couplet {command}` runs in one; start it without a launcher, or with \
         `-n 1`",
        launched.launcher
    ))
}

fn leave_the_word_to_the_first(rank: usize) {
    if rank > 0 {
        printing::silence();
        thread::sleep(OTHERS_FIRST);
    }
}

/// How long to wait for the others after a signal to stop: a launcher that stops the job kills the ranks soon
/// after it has asked them to end, and until then they must have saved.
fn after_stop() -> Duration {
    /// Slurm's `KillWait` and Kubernetes' grace period are 30 seconds by default.
    const OTHERS: Duration = Duration::from_secs(20);
    /// Seconds between Open MPI's SIGTERM and its SIGKILL.
    const OPEN_MPI: &str = "OMPI_MCA_odls_base_sigkill_timeout";
    if env::var_os("OMPI_COMM_WORLD_SIZE").is_none() {
        return OTHERS;
    }
    let seconds = number(OPEN_MPI).filter(|seconds| *seconds > 0);
    Duration::from_millis(500) * u32::try_from(seconds.unwrap_or(1).min(40)).unwrap_or(1)
}

fn number(variable: &str) -> Option<usize> {
    env::var(variable).ok()?.parse().ok()
}

/// Prints where the ranks are, and what to do if the launcher gave them few cores.
fn describe(team: &Team, threads: usize) {
    let ranks = team.place().ranks;
    let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
    for peer in team.peers() {
        *hosts.entry(&peer.host).or_default() += 1;
    }
    let threads = count(threads as u64, "thread");
    match hosts.len() {
        1 => say!(
            "ranks      {ranks} on {}, {threads} each",
            team.place().host
        ),
        machines => say!("ranks      {ranks} on {machines} machines, {threads} each on this one"),
    }
    let is_srun = launched()
        .ok()
        .flatten()
        .is_some_and(|by| by.launcher == "srun");
    let idle = team.idle_cores();
    if idle > 0 && !is_srun {
        let local = team.place().local_ranks;
        let each = (team.launcher_cores() / local).max(1);
        printing::warn(&format!(
            "no rank may run on {} of this machine, because the launcher bound each rank to others; start the ranks \
             with --bind-to none, or with --map-by ppr:{local}:node:pe={each}",
            count(idle as u64, "core")
        ));
    }
}

/// This rank's value, if every rank has one. If one has failed, rank 0 says with what.
pub(crate) fn agree<T>(ranks: &Ranks, own: anyhow::Result<T>) -> anyhow::Result<T> {
    let agreed = ranks.agree_by(own, |error| format!("{error:#}"));
    agreed.map_err(|disagreement| match disagreement {
        Disagreement::Own(error) => error,
        Disagreement::Other(other) => other.into(),
        Disagreement::Lost(lost) => anyhow!(lost).context("a rank was lost before the run began"),
    })
}

/// Whether a rank was lost.
pub(crate) fn lost(error: &anyhow::Error) -> Option<&Lost> {
    error.chain().find_map(|cause| {
        let of_run = cause.downcast_ref().and_then(|error| match error {
            TrainError::RankLost { lost, .. } => Some(lost),
            _ => None,
        });
        of_run.or_else(|| cause.downcast_ref())
    })
}

/// Waits for the other ranks, so that none ends while another still writes, and closes the connections.
/// - result: of what the ranks did together.
pub(crate) fn end(ranks: Ranks, result: anyhow::Result<u8>) -> anyhow::Result<u8> {
    let Some(team) = ranks.team() else {
        return result;
    };
    let Some(lost) = result.as_ref().err().and_then(lost) else {
        // Whoever is lost now is not missed: all is written.
        let _ = team.gather("the ranks to end", Vec::new()).wait();
        let is_first = team.place().is_first();
        drop(ranks);
        if result.is_err() && !is_first {
            thread::sleep(OTHERS_FIRST);
        }
        return result;
    };
    if is_speaker(team, lost) {
        printing::speak();
    } else {
        thread::sleep(OTHERS_SAVE_FIRST);
    }
    result
}

/// Whether this rank says that others are lost: the first that is not.
fn is_speaker(team: &Team, lost: &Lost) -> bool {
    let place = team.place();
    let words = lost.to_string();
    let is_named = |rank: &usize| words.contains(&format!("rank {rank} ("));
    let first = (0..place.ranks).find(|rank| !is_named(rank));
    let names_nobody = !(0..place.ranks).any(|rank| is_named(&rank));
    first == Some(place.rank) || (names_nobody && place.local_rank == 0)
}

/// The exit code of an error.
pub(crate) fn code_of_loss(error: &anyhow::Error) -> Option<u8> {
    lost(error).map(|_| exit_code::TRY_AGAIN)
}
