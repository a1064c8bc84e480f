//! Whether a launcher started this process as one of several, and the team that it then is in.

use std::{env, fmt};

use crate::lost::Lost;
use crate::patience::Patience;
use crate::team::Team;

/// What a launcher's variables say about this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// The launcher as users call it.
    pub launcher: &'static str,
    /// Unknown where the launcher leaves it to MPI.
    pub ranks: Option<usize>,
    pub rank: usize,
    /// The launcher's version, if it says so.
    pub version: Option<String>,
    /// The variables that say all this.
    pub variables: Vec<&'static str>,
}

impl Launched {
    /// Whether an MPI that sees this many ranks is the one that the launcher joins.
    #[cfg(any(feature = "mpi", test))]
    fn is_joined_by(&self, seen: usize) -> bool {
        seen >= self.ranks.unwrap_or(0) && seen > self.rank
    }

    /// The beginning of a command with which each process runs alone, such as `env -u PMI_SIZE`.
    pub fn alone(&self) -> String {
        let unset = |name: &&str| format!(" -u {name}");
        let unset: String = self.variables.iter().map(unset).collect();
        format!("env{unset}")
    }
}

/// The launcher with its version.
impl fmt::Display for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.launcher)?;
        match &self.version {
            Some(version) => write!(f, " {version}"),
            None => Ok(()),
        }
    }
}

/// Why a process that a launcher started has no team.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    #[error(
        "WORLD_SIZE says that {launcher} started {ranks} processes, but ranks are joined by MPI; start the same \
         command with `mpirun -n {ranks}` or `srun --mpi=pmix -n {ranks}`, or unset WORLD_SIZE if this process is \
         to train alone"
    )]
    NotSupported {
        launcher: &'static str,
        ranks: usize,
    },
    #[error(
        "{launched} started {}, but this program was built without MPI; build it with `cargo build --release \
         --features mpi`, which needs an MPI library with its headers (Debian and Ubuntu: `apt-get install \
         openmpi-bin libopenmpi-dev`) and a C compiler; or, if each process is to run alone, start it with `{}` \
         before the command",
        Processes(launched.ranks), launched.alone()
    )]
    WithoutMpi { launched: Box<Launched> },
    #[error(
        "{launched} started {}, but {library}, which this program is linked with, sees {seen}: the launcher is \
         of another MPI. Start it with the launcher of {library}, or build it with the MPI of {} \
         (`MPICC=/path/to/mpicc cargo build --release --features mpi`){}; or, if each process is to run alone, \
         start it with `{}` before the command",
        Processes(launched.ranks), launched.launcher, remedy(launched.launcher), launched.alone()
    )]
    OtherMpi {
        launched: Box<Launched>,
        seen: usize,
        library: String,
    },
    #[cfg(feature = "mpi")]
    #[error(transparent)]
    Mpi(#[from] crate::mpi::MpiError),
    #[error("the ranks did not start together")]
    Lost(#[from] Lost),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("the thread for exchanges between ranks exited unexpectedly")]
    Died,
}

fn remedy(launcher: &str) -> &'static str {
    if launcher == SRUN {
        ", or try another `srun --mpi=TYPE` of those that `srun --mpi=list` prints, such as pmix"
    } else {
        ""
    }
}

struct Processes(Option<usize>);

impl std::fmt::Display for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ranks) => write!(f, "{ranks} processes"),
            None => f.write_str("several processes"),
        }
    }
}

const OPEN_MPI: &str = "Open MPI's mpirun";
const MPICH: &str = "MPICH's mpirun";
const SRUN: &str = "srun";

/// The team that a launcher (`mpirun`, `srun`) started this process in; `None` if it is alone.
/// MPI starts only if a launcher says that there are more.
///
/// # Errors
/// If this process is one of several that cannot be joined, or not all of them come.
pub fn launch(patience: Patience) -> Result<Option<Team>, LaunchError> {
    match launched()? {
        Some(launched) => join(&launched, patience),
        None => Ok(None),
    }
}

/// What started this process, if it is one of several.
///
/// # Errors
/// If it was a launcher that cannot start ranks.
pub fn launched() -> Result<Option<Launched>, LaunchError> {
    from_variables(|name| env::var(name).ok())
}

#[cfg(not(feature = "mpi"))]
fn join(launched: &Launched, _patience: Patience) -> Result<Option<Team>, LaunchError> {
    if launched.ranks.is_none() && launched.rank == 0 {
        // It may well be alone. The others, if there are any, give the error.
        return Ok(None);
    }
    let launched = Box::new(launched.clone());
    Err(LaunchError::WithoutMpi { launched })
}

#[cfg(feature = "mpi")]
fn join(launched: &Launched, patience: Patience) -> Result<Option<Team>, LaunchError> {
    use crate::mpi::Mpi;
    use crate::team::StartError;
    use crate::wire::Wire;

    let launched = Box::new(launched.clone());
    let start = move || {
        let mpi = Mpi::start()?;
        let seen = mpi.place().ranks;
        if launched.is_joined_by(seen) {
            return Ok(mpi);
        }
        let library = mpi.library().to_string();
        Err(LaunchError::OtherMpi {
            launched,
            seen,
            library,
        })
    };
    let team = Team::start(start, patience).map_err(|error| match error {
        StartError::Wire(error) => error,
        StartError::Lost(lost) => lost.into(),
        StartError::Thread(error) => LaunchError::Thread(error),
        StartError::Died => LaunchError::Died,
    })?;
    Ok(Some(team).filter(|team| team.place().ranks > 1))
}

/// The name and version of the MPI library that this program is linked with; `None` if there is none. MPI may
/// end the process when it starts under the launcher of another: whoever starts it says this before.
pub fn library() -> Option<String> {
    #[cfg(feature = "mpi")]
    return crate::mpi::Mpi::linked_library();
    #[cfg(not(feature = "mpi"))]
    None
}

/// What the variables of the environment say.
fn from_variables(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Launched>, LaunchError> {
    let found = found_in(&variable)?;
    let launched = found.map(|(launcher, ranks, rank)| Launched {
        launcher,
        ranks,
        rank,
        version: version(launcher, &variable),
        variables: (LOOKED_AT.into_iter())
            .filter(|name| variable(name).is_some())
            .collect(),
    });
    Ok(launched)
}

/// The variables that say that there are several processes.
const LOOKED_AT: [&str; 7] = [
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MPI_LOCALNRANKS",
    "SLURM_STEP_NUM_TASKS",
    "PMIX_RANK",
    "WORLD_SIZE",
];

/// The launcher's version, where it can be known.
fn version(launcher: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    if launcher != OPEN_MPI {
        return None;
    }
    // From version 5 on; the launcher of versions 2 to 4 was called ORTE.
    let before = || variable("OMPI_MCA_orte_ess_num_procs").map(|_| "before 5".to_string());
    variable("OMPI_VERSION").or_else(before)
}

/// The launcher, the number of ranks if it is known, and this one.
type Found = (&'static str, Option<usize>, usize);

fn found_in(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Found>, LaunchError> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let has = |name: &str| variable(name).is_some();
    let known = |launcher, ranks: usize, rank: &str| {
        let found = (launcher, Some(ranks), number(rank).unwrap_or(0));
        Ok(Some(found).filter(|_| ranks > 1))
    };
    // The launchers within a Slurm job start their own processes by srun, so its variables come last.
    for (size, rank, launcher) in [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", OPEN_MPI),
        (
            "MV2_COMM_WORLD_SIZE",
            "MV2_COMM_WORLD_RANK",
            "MVAPICH's mpirun",
        ),
    ] {
        if let Some(ranks) = number(size) {
            return known(launcher, ranks, rank);
        }
    }
    // What srun itself started; a batch script has `SLURM_NTASKS` too, but is no step.
    let step = number("SLURM_STEP_NUM_TASKS");
    if let Some(ranks) = number("PMI_SIZE") {
        let is_srun = step == Some(ranks) && !has("MPI_LOCALNRANKS");
        return known(if is_srun { SRUN } else { MPICH }, ranks, "PMI_RANK");
    }
    if let Some(ranks) = number("MPI_LOCALNRANKS").filter(|ranks| *ranks > 1) {
        return known(MPICH, ranks, "MPI_LOCALRANKID");
    }
    if let Some(ranks) = step {
        return known(SRUN, ranks, "SLURM_PROCID");
    }
    if let Some(rank) = number("PMIX_RANK") {
        let ranks = number("SLURM_NTASKS");
        if ranks == Some(1) {
            return Ok(None);
        }
        return Ok(Some(("a PMIx launcher", ranks, rank)));
    }
    // Some batch scripts set this one for every program, also for those that `mpirun` starts.
    match number("WORLD_SIZE") {
        Some(ranks) if ranks > 1 && has("RANK") => Err(LaunchError::NotSupported {
            launcher: if has("TORCHELASTIC_RUN_ID") {
                "torchrun"
            } else {
                "a launcher of PyTorch"
            },
            ranks,
        }),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Option<Launched>, LaunchError> {
        from_variables(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_string())
        })
    }

    fn launcher(variables: &[(&str, &str)]) -> Option<(&'static str, Option<usize>, usize)> {
        let launched = found(variables).unwrap()?;
        Some((launched.launcher, launched.ranks, launched.rank))
    }

    #[test]
    fn launchers_are_known_by_their_variables() {
        let open_mpi = [
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_RANK", "2"),
            ("PMIX_RANK", "2"),
        ];
        assert_eq!(launcher(&open_mpi), Some((OPEN_MPI, Some(4), 2)));
        let mpich = [
            ("PMI_SIZE", "3"),
            ("PMI_RANK", "1"),
            ("MPI_LOCALNRANKS", "3"),
        ];
        assert_eq!(launcher(&mpich), Some((MPICH, Some(3), 1)));
        let srun = [
            ("PMIX_RANK", "7"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_PROCID", "7"),
        ];
        assert_eq!(launcher(&srun), Some((SRUN, Some(8), 7)));
        let pmi2 = [
            ("PMI_SIZE", "2"),
            ("PMI_RANK", "1"),
            ("SLURM_STEP_NUM_TASKS", "2"),
        ];
        assert_eq!(launcher(&pmi2), Some((SRUN, Some(2), 1)));
        // srun without PMI: the tasks would not know of each other.
        let none = [("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "1")];
        assert_eq!(launcher(&none), Some((SRUN, Some(2), 1)));
    }

    #[test]
    fn launchers_within_a_slurm_job_count_for_themselves() {
        let slurm = [
            ("SLURM_NTASKS", "8"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_PROCID", "0"),
        ];
        let mpirun = [slurm.as_slice(), &[("OMPI_COMM_WORLD_SIZE", "8")]].concat();
        assert_eq!(launcher(&mpirun), Some((OPEN_MPI, Some(8), 0)));
        let hydra = [slurm.as_slice(), &[("PMI_SIZE", "8"), ("PMI_RANK", "5")]].concat();
        assert_eq!(launcher(&hydra), Some((MPICH, Some(8), 5)));
    }

    #[test]
    fn a_process_alone_has_no_team() {
        for alone in [
            &[][..],
            &[
                ("OMPI_COMM_WORLD_SIZE", "1"),
                ("WORLD_SIZE", "4"),
                ("RANK", "0"),
            ],
            &[("PMI_SIZE", "1")],
            // A batch script, and an interactive shell.
            &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")],
            &[
                ("SLURM_NTASKS", "8"),
                ("SLURM_STEP_NUM_TASKS", "1"),
                ("PMIX_RANK", "0"),
            ],
            &[("PMIX_RANK", "0"), ("SLURM_NTASKS", "1")],
            &[("WORLD_SIZE", "1"), ("RANK", "0")],
            &[("WORLD_SIZE", "4")],
            &[("PMI_SIZE", "")],
        ] {
            assert_eq!(launcher(alone), None, "{alone:?}");
        }
        let unknown = launcher(&[("PMIX_RANK", "3")]);
        assert_eq!(unknown, Some(("a PMIx launcher", None, 3)));
    }

    #[test]
    fn torchrun_gets_the_command_that_works() {
        let torchrun = [
            ("WORLD_SIZE", "4"),
            ("RANK", "1"),
            ("TORCHELASTIC_RUN_ID", "x"),
        ];
        let error = found(&torchrun).unwrap_err().to_string();
        assert!(error.contains("torchrun started 4 processes"), "{error}");
        assert!(error.contains("`mpirun -n 4`"), "{error}");
    }

    #[test]
    fn errors_say_what_to_do() {
        let launched = |variables: &[_]| Box::new(found(variables).unwrap().unwrap());
        let error = |variables: &[_]| LaunchError::OtherMpi {
            launched: launched(variables),
            seen: 1,
            library: "MPICH 4.0.2".to_string(),
        };
        let open_mpi = [
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_VERSION", "5.0.11"),
            ("PMIX_RANK", "0"),
        ];
        let text = error(&open_mpi).to_string();
        assert!(
            text.starts_with("Open MPI's mpirun 5.0.11 started 2 processes, but MPICH 4.0.2"),
            "{text}"
        );
        assert!(!text.contains("srun"), "{text}");
        assert!(
            text.contains("`env -u OMPI_COMM_WORLD_SIZE -u PMIX_RANK`"),
            "{text}"
        );
        let srun = [("SLURM_STEP_NUM_TASKS", "2"), ("PMI_SIZE", "2")];
        assert!(error(&srun).to_string().contains("srun --mpi=list"));
        let launched = launched(&[("PMI_SIZE", "2")]);
        let text = LaunchError::WithoutMpi { launched }.to_string();
        assert!(text.contains("--features mpi"), "{text}");
        assert!(text.contains("`env -u PMI_SIZE`"), "{text}");
    }

    #[test]
    fn whoever_sees_fewer_ranks_than_were_started_is_of_another_mpi() {
        let launched = |variables| found(variables).unwrap().unwrap();
        let known = launched(&[("PMI_SIZE", "4"), ("PMI_RANK", "1")]);
        assert!(known.is_joined_by(4) && !known.is_joined_by(2));
        let unknown = launched(&[("PMIX_RANK", "3")]);
        assert!(unknown.is_joined_by(4) && !unknown.is_joined_by(1));
    }

    #[test]
    fn a_loss_at_the_start_is_in_the_chain_of_causes() {
        use std::error::Error as _;
        let cause = crate::lost::Cause::transport("broken");
        let error = LaunchError::from(Lost {
            what: "the ranks to start",
            cause,
        });
        assert!(error.source().unwrap().is::<Lost>());
    }
}
