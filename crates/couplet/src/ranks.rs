//! The ranks of a run: joining those that a launcher started, who prints, and how they end.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use couplet_ranks::{Cause, LaunchError, Lost, Patience, Team, launch, launched, library};
use couplet_train::{Disagreement, Event, Observer, Ranks, RunFolder, TrainError, share_cores};

use crate::exit_code;
use crate::failure;
use crate::printing;
use crate::progress::Screen;
use crate::quantities::count;
use crate::signals::is_urgent;

/// Time for the rank that prints an error: launchers kill all ranks once one has ended.
const OTHERS_FIRST: Duration = Duration::from_secs(1);
/// How often a rank looks whether it may end.
const LOOK: Duration = Duration::from_millis(50);

/// Joins the ranks that a launcher started; the only rank if none did. All ranks but the first are silent.
/// - patience: how long exchanges wait.
pub(crate) fn start(patience: Duration) -> anyhow::Result<Ranks> {
    let patience = Patience {
        limit: patience,
        stop: Arc::new(is_urgent),
        after_stop: after_stop(),
    };
    if let (Ok(Some(by)), Some(library)) = (launched(), library())
        && by.rank == 0
    {
        // If they do not fit, MPI may end the process without a word.
        say!("mpi        {library}, started by {by}");
    }
    let team = match launch(patience) {
        Ok(None) => return Ok(Ranks::alone()),
        Ok(Some(team)) => team,
        Err(error) => {
            let rank = launched().ok().flatten().map(|launched| launched.rank);
            let rank = rank.unwrap_or_else(|| number("RANK").unwrap_or(0));
            match error {
                LaunchError::NotSupported { .. }
                | LaunchError::WithoutMpi { .. }
                | LaunchError::OtherMpi { .. } => leave_the_word_to_the_first(rank),
                _ => speak_in_turn(rank),
            }
            return Err(error.into());
        }
    };
    if !team.place().is_first() {
        printing::silence();
    }
    name_this_rank_in_panics(&team);
    let threads = share_cores(team.threads()).map_err(|error| anyhow!(error));
    let ranks = Ranks::of(team);
    match agree(&ranks, threads) {
        Ok(threads) => {
            if let Some(team) = ranks.team() {
                describe(team, threads);
            }
            Ok(ranks)
        }
        Err(error) => end(ranks, None, Err(error)),
    }
}

/// Prints which rank panics before it does; the team then ends the others.
fn name_this_rank_in_panics(team: &Team) {
    let name = team.peers()[team.place().rank].to_string();
    let previous_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let _ = io::stderr().write_all(format!("\n{name} panics:").as_bytes());
        previous_hook(info);
    }));
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
        "{launched} started {ranks} processes, but `couplet {command}` runs in one; start it without a launcher, or \
         with `-n 1`, or as `{} couplet {command}` if each process is to run alone",
        launched.alone()
    ))
}

fn leave_the_word_to_the_first(rank: usize) {
    if rank > 0 {
        printing::silence();
        thread::sleep(OTHERS_FIRST);
    }
}

/// Leaves the word to the ranks before this one, as long as they may have one. Those that are lost have none,
/// and this rank does not know which they are.
fn speak_in_turn(rank: usize) {
    /// More than a launcher needs to end the others once a rank has spoken and ended.
    const EACH: Duration = Duration::from_millis(1500);
    const LATEST: u32 = 4;
    if rank == 0 {
        return;
    }
    let turn = EACH * u32::try_from(rank).unwrap_or(LATEST).min(LATEST);
    let begun = Instant::now();
    printing::silence();
    while begun.elapsed() < turn {
        thread::sleep(LOOK);
    }
    // Else the launcher ends the job: another rank has spoken.
    if !is_urgent() {
        printing::speak();
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
    if let Some((idle, remedy)) = idle_cores(team) {
        printing::warn(&format!(
            "no rank may run on {} of this machine, because the launcher bound each rank to others; start the ranks \
             {remedy}",
            count(idle as u64, "core")
        ));
    }
}

/// The cores of this machine that the ranks could have and do not, if any, and with what they would.
fn idle_cores(team: &Team) -> Option<(usize, String)> {
    let local = team.place().local_ranks;
    let is_srun = (launched().ok().flatten()).is_some_and(|by| by.launcher == "srun");
    if !is_srun {
        let each = (team.launcher_cores() / local).max(1);
        let remedy = format!("with --bind-to none, or with --map-by ppr:{local}:node:pe={each}");
        return Some((team.idle_cores(), remedy)).filter(|(idle, _)| *idle > 0);
    }
    // The process that starts the ranks of a step may run anywhere, whatever the job has.
    let job = same_on_all_nodes(&env::var("SLURM_JOB_CPUS_PER_NODE").ok()?)?;
    let own = thread::available_parallelism().ok()?.get();
    let idle = job.checked_sub(own * local).filter(|idle| *idle > 0)?;
    let each = (job / local).max(1);
    let remedy =
        format!("with `srun --cpus-per-task={each}`, which it does not take over from sbatch");
    Some((idle, remedy))
}

/// Slurm's number of cores of a job's nodes, such as `64(x2)`, if they all have as many.
fn same_on_all_nodes(numbers: &str) -> Option<usize> {
    let mut numbers = numbers
        .split(',')
        .map(|of| of.split('(').next()?.parse().ok());
    let first = numbers.next()??;
    numbers.all(|other| other == Some(first)).then_some(first)
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

/// The rank that was lost, if one was.
fn lost(error: &anyhow::Error) -> Option<&Lost> {
    error.chain().find_map(|cause| {
        let of_run = cause.downcast_ref().and_then(|error| match error {
            TrainError::RankLost { lost, .. } => Some(lost),
            _ => None,
        });
        let of_start = cause.downcast_ref().and_then(|error| match error {
            LaunchError::Lost(lost) => Some(lost),
            _ => None,
        });
        of_run.or(of_start).or_else(|| cause.downcast_ref())
    })
}

/// Waits for the other ranks, so that none ends while another still writes, and closes the connections.
/// - folder: the run's, if it has one.
/// - result: of what the ranks did together.
pub(crate) fn end<T>(
    ranks: Ranks,
    folder: Option<&Path>,
    result: anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Some(team) = ranks.team() else {
        return result;
    };
    let lost = result.as_ref().err().and_then(|error| lost(error).cloned());
    let (Some(lost), Err(error)) = (lost, &result) else {
        // Whoever is lost now is not missed: all is written.
        let _ = team.gather_patiently("the ranks to end", Vec::new()).wait();
        let is_first = team.place().is_first();
        drop(ranks);
        if result.is_err() && !is_first {
            thread::sleep(OTHERS_FIRST);
        }
        return result;
    };
    let speaks = is_speaker(team, &lost);
    if speaks {
        // At once: the launcher may not leave this rank the time to wait.
        printing::speak();
        failure::print(error);
        printing::silence();
    }
    wait_for_savers(team, &lost, folder, speaks);
    result
}

/// Waits until no other rank saves what is left of the run: launchers kill all ranks once one has ended.
fn wait_for_savers(team: &Team, lost: &Lost, folder: Option<&Path>, speaks: bool) {
    /// For one rank after the other to take over the folder, and to see that all is saved.
    const BETWEEN: Duration = Duration::from_millis(500);
    /// For the rank that prints to notice that others are lost, and to print.
    const OTHERS: Duration = Duration::from_secs(8);
    /// For a rank on a machine that does not see the run's folder: rank 0 may be saving there.
    const UNSEEN: Duration = Duration::from_mins(1);
    /// For a checkpoint.
    const LONGEST: Duration = Duration::from_mins(10);
    let quiet = if speaks { BETWEEN } else { OTHERS };
    let may_save = !team.place().is_first() && folder.is_some();
    let is_first_lost = lost.ranks().any(|rank| rank == 0);
    let has_ended = matches!(lost.cause, Cause::Ended { .. } | Cause::Aborted { .. });
    let (quiet, longest) = match folder.and_then(RunFolder::is_held) {
        // A process that hangs holds its folder for ever; that of a dead one is held by a rank that saves.
        Some(_) if is_first_lost && !has_ended => (quiet, OTHERS),
        Some(_) => (quiet, LONGEST),
        None if may_save && !is_first_lost => (UNSEEN, UNSEEN),
        None if may_save => (OTHERS, OTHERS),
        None => (quiet, quiet),
    };
    let begun = Instant::now();
    let mut held = begun;
    while held.elapsed() < quiet && begun.elapsed() < longest {
        thread::sleep(LOOK);
        if folder.and_then(RunFolder::is_held) == Some(true) {
            held = Instant::now();
        }
    }
}

/// Shows the events of a rank other than the first: what it cannot save once others are lost, as nobody else
/// knows that.
pub(crate) struct Survivor(pub Ranks);

impl Observer for Survivor {
    fn event(&mut self, event: Event) {
        let Some(team) = self.0.team() else {
            return;
        };
        let Some(lost) = team.lost() else {
            return;
        };
        let text = match event {
            Event::Warning(text) => text,
            Event::Note(text) if is_speaker(team, &lost) => text,
            _ => return,
        };
        let own = &team.peers()[team.place().rank];
        printing::speak();
        printing::warn(&format!("{own}: {text}"));
        printing::silence();
    }
}

impl Screen for Survivor {
    fn finish(&mut self) {}
}

/// Whether this rank says that others are lost: the first that is not.
fn is_speaker(team: &Team, lost: &Lost) -> bool {
    let place = team.place();
    let named: Vec<usize> = lost.ranks().collect();
    if named.is_empty() && place.local_rank == 0 {
        return true;
    }
    (0..place.ranks).find(|rank| !named.contains(rank)) == Some(place.rank)
}

/// The exit code of an error.
pub(crate) fn code_of_loss(error: &anyhow::Error) -> Option<u8> {
    lost(error).map(|lost| match lost.cause {
        // What failed there would fail again.
        Cause::Aborted { code, .. } => u8::try_from(code).unwrap_or(1),
        _ => exit_code::TRY_AGAIN,
    })
}

#[cfg(test)]
mod tests {
    use super::same_on_all_nodes;

    #[test]
    fn cores_of_a_job_are_known_if_all_nodes_have_as_many() {
        assert_eq!(same_on_all_nodes("64"), Some(64));
        assert_eq!(same_on_all_nodes("72(x2)"), Some(72));
        assert_eq!(same_on_all_nodes("8(x2),8"), Some(8));
        for unknown in ["72(x2),36", "", "x", "8,"] {
            assert_eq!(same_on_all_nodes(unknown), None, "{unknown}");
        }
    }
}
