//! The processes of the ranks, and whether those of this machine still run.

use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::thread;

use crate::place::Place;

/// A rank's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub rank: usize,
    pub host: String,
    pub process: u32,
    /// When the process began, in the kernel's ticks: its number may be given again.
    begun: u64,
    /// The cores that it may run on, as the kernel lists them; empty if unknown.
    cores: String,
}

impl Peer {
    /// This process.
    pub(crate) fn own(place: &Place) -> Self {
        let process = process::id();
        Self {
            rank: place.rank,
            host: place.host.clone(),
            process,
            begun: begun(process).unwrap_or(0),
            cores: allowed_cores("self").unwrap_or_default(),
        }
    }

    /// For [`Self::parse`].
    pub(crate) fn to_line(&self) -> String {
        let Self {
            rank,
            host,
            process,
            begun,
            cores,
        } = self;
        format!("{rank}\t{process}\t{begun}\t{cores}\t{host}")
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, '\t');
        Some(Self {
            rank: fields.next()?.parse().ok()?,
            process: fields.next()?.parse().ok()?,
            begun: fields.next()?.parse().ok()?,
            cores: fields.next()?.to_string(),
            host: fields.next()?.to_string(),
        })
    }

    /// Whether this process sees that of the rank: it is on the same machine, and no container hides it.
    pub(crate) fn is_visible(&self, host: &str) -> bool {
        self.host == host && self.process != process::id() && self.runs()
    }

    /// Whether a visible process still runs.
    pub(crate) fn runs(&self) -> bool {
        begun(self.process).is_some_and(|begun| begun == self.begun)
    }

    /// Whether it shares this process's cores.
    fn shares_cores(&self, own: &Self) -> bool {
        self.host == own.host && self.cores == own.cores
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "rank {} (process {} on {})",
            self.rank, self.process, self.host
        )
    }
}

/// The threads that a rank should compute with: its part of the cores that it may run on.
pub(crate) fn threads(peers: &[Peer], rank: usize) -> usize {
    let own = &peers[rank];
    let sharing = peers.iter().filter(|peer| peer.shares_cores(own)).count();
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / sharing.max(1)).max(1)
}

/// When a process began; `None` if there is none, or if it has ended and only its exit code is left.
fn begun(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state follows it, and 19 fields later the time.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// How many cores this process's parent, the launcher, may run on; 0 if unknown.
pub(crate) fn launcher_cores() -> usize {
    let all = parent().and_then(|parent| allowed_cores(&parent));
    all.map_or(0, |all| listed(&all).count())
}

/// How many of these no rank of this machine may run on.
pub(crate) fn idle_cores(peers: &[Peer], rank: usize) -> usize {
    let Some(all) = parent().and_then(|parent| allowed_cores(&parent)) else {
        return 0;
    };
    let own = &peers[rank];
    let local = peers.iter().filter(|peer| peer.host == own.host);
    let used: BTreeSet<usize> = local.flat_map(|peer| listed(&peer.cores)).collect();
    listed(&all).filter(|core| !used.contains(core)).count()
}

/// The cores in the kernel's list, such as `0-3,8`.
fn listed(list: &str) -> impl Iterator<Item = usize> + '_ {
    list.split(',').flat_map(|range| {
        let (first, end) = range.split_once('-').unwrap_or((range, range));
        let range = (first.trim().parse().ok()).zip(end.trim().parse().ok());
        range.map_or(0..0, |(first, end): (usize, usize)| first..end + 1)
    })
}

/// The number of this process's parent.
fn parent() -> Option<String> {
    of_status("self", "PPid:")
}

fn allowed_cores(process: &str) -> Option<String> {
    of_status(process, "Cpus_allowed_list:")
}

/// A field of what the kernel says about a process.
fn of_status(process: &str, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_survives_its_line() {
        let peer = Peer {
            rank: 3,
            host: "node\t7".to_string(),
            process: 12,
            begun: 99,
            cores: "0-3,8".to_string(),
        };
        assert_eq!(Peer::parse(&peer.to_line()), Some(peer));
        assert_eq!(Peer::parse("3\tx"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_runs_until_it_ends() {
        let mut child = process::Command::new("sleep").arg("30").spawn().unwrap();
        let peer = Peer {
            process: child.id(),
            begun: begun(child.id()).unwrap(),
            ..Peer::own(&Place::alone())
        };
        assert!(peer.runs() && peer.is_visible(""));
        assert!(!peer.is_visible("elsewhere"));
        child.kill().unwrap();
        // Its exit code was not collected: the process is a zombie.
        while peer.runs() {
            thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!peer.runs());
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(listed("0-3,8").collect::<Vec<_>>(), [0, 1, 2, 3, 8]);
        assert_eq!(listed("5").collect::<Vec<_>>(), [5]);
        assert_eq!(listed("").count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cores_that_no_rank_may_run_on_are_idle() {
        let all = allowed_cores(&parent().unwrap()).unwrap();
        let own = |cores: &str| Peer {
            cores: cores.to_string(),
            ..Peer::own(&Place::alone())
        };
        assert_eq!(idle_cores(&[own(&all)], 0), 0);
        assert_eq!(launcher_cores(), listed(&all).count());
        let first = listed(&all).next().unwrap().to_string();
        assert_eq!(idle_cores(&[own(&first)], 0), listed(&all).count() - 1);
    }

    #[test]
    fn ranks_with_the_same_cores_share_them() {
        let own = Peer::own(&Place::alone());
        let other = |rank, cores: &str| Peer {
            rank,
            cores: cores.to_string(),
            ..own.clone()
        };
        let cores = thread::available_parallelism().unwrap().get();
        assert_eq!(threads(std::slice::from_ref(&own), 0), cores);
        assert_eq!(threads(&[own.clone(), other(1, "other")], 0), cores);
        let same = [own.clone(), other(1, &own.cores)];
        assert_eq!(threads(&same, 0), (cores / 2).max(1));
    }
}
