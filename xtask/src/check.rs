//! The steps of `cargo xtask check`.

use std::process::{Command, Stdio};

use crate::laws;
use crate::workspace::root;

/// Whatever compiles on a machine without a GPU. One set for clippy and rustdoc, so that
/// dependencies are type-checked once.
const FEATURES: &str = "couplet/parquet,couplet/object-store,couplet/dashboard,\
    couplet/cuda,couplet/nccl,couplet/wgpu,couplet/vulkan";

/// Joined where an MPI library with its headers is installed.
const MPI: &str = ",couplet/mpi";

/// Runs all steps, the quick ones first; true where all succeed.
pub(crate) fn run() -> bool {
    let features = if has_mpi() {
        format!("{FEATURES}{MPI}")
    } else {
        println!("xtask: without couplet/mpi, since there is no MPI library with headers");
        FEATURES.to_string()
    };
    let clippy = [
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--features",
        &features,
        "--",
        "-D",
        "warnings",
    ];
    let doc = [
        "doc",
        "--release",
        "--workspace",
        "--no-deps",
        "--features",
        &features,
    ];
    cargo(&["fmt", "--all", "--check"]) && laws() && cargo(&clippy) && cargo(&doc)
}

/// Prints every broken law; true where all hold.
pub(crate) fn laws() -> bool {
    println!("xtask: laws");
    let mut broken = laws::source();
    broken.extend(laws::dependencies_and_links());
    for law in &broken {
        eprintln!("xtask: {law}");
    }
    broken.is_empty()
}

/// Whether the crate `ferrompi` would find an MPI library.
fn has_mpi() -> bool {
    let succeeds = |program: &str, argument: &[&str]| {
        let mut command = Command::new(program);
        let command = command
            .args(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let packages = ["ompi", "mpich", "mpi"];
    let has_package = |name: &&str| succeeds("pkg-config", &["--exists", name]);
    packages.iter().any(has_package) || succeeds("mpicc", &["--version"])
}

fn cargo(arguments: &[&str]) -> bool {
    println!("xtask: cargo {}", arguments.join(" "));
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .env("RUSTDOCFLAGS", "-D warnings")
        .current_dir(root())
        .status();
    let succeeded = status.is_ok_and(|status| status.success());
    if !succeeded {
        eprintln!("xtask: cargo {} failed", arguments[0]);
    }
    succeeded
}
