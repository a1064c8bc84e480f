//! Runs on several ranks, started by `mpirun`.

#[cfg(feature = "mpi")]
mod launched;

use crate::training::{tiny, train};
use crate::workspace::{fail, succeed};

/// What the launchers of several processes say to each.
const LAUNCHERS: [[(&str, &str); 2]; 2] = [
    [("PMI_SIZE", "2"), ("PMI_RANK", "0")],
    [("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "0")],
];

#[test]
fn a_process_that_cannot_join_the_others_says_what_to_do() {
    let workspace = tiny();
    for variables in LAUNCHERS {
        let mut command = train(&workspace, "run", &[]);
        let printed = fail(command.envs(variables), 1);
        let (launcher, expected) = match variables[0].0 {
            "PMI_SIZE" => ("MPICH's mpirun", "linked with, sees 1"),
            _ => ("srun", "srun --mpi=list"),
        };
        assert!(
            printed.contains(&format!("{launcher} started 2 processes")),
            "{printed}"
        );
        let expected = if cfg!(feature = "mpi") {
            expected
        } else {
            "built without MPI"
        };
        assert!(printed.replace('\n', " ").contains(expected), "{printed}");
        assert!(printed.contains("--features mpi"), "{printed}");
        assert!(!workspace.path("run").exists());
    }
    let torchrun = [("WORLD_SIZE", "2"), ("RANK", "0")];
    let printed = fail(train(&workspace, "run", &[]).envs(torchrun), 1);
    assert!(printed.contains("mpirun -n 2"), "{printed}");
    // One process is alone, whoever started it.
    let alone = [("PMI_SIZE", "1"), ("WORLD_SIZE", "1")];
    succeed(train(&workspace, "run", &[]).envs(alone));
}

#[test]
fn other_commands_run_in_one_process() {
    let workspace = tiny();
    for variables in LAUNCHERS {
        let mut command = workspace.couplet(&["plan", "tiny.toml"]);
        let printed = fail(command.envs(variables), 1);
        assert!(printed.contains("`couplet plan` runs in one"), "{printed}");
        assert!(printed.contains("env -u"), "{printed}");
    }
}
