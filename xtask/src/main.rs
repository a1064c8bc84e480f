//! `cargo xtask check`: everything that must hold before a change lands, tests aside.

mod bench;
mod check;
mod laws;
mod nvrtc;
mod workspace;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let succeeded = match env::args().nth(1).as_deref() {
        Some("check") => check::run(),
        Some("laws") => check::laws(),
        Some("nvrtc") => nvrtc(),
        Some("bench") => bench(),
        _ => {
            eprintln!("cargo xtask check   format, laws, licences, clippy and rustdoc");
            eprintln!("cargo xtask laws    licences and the laws of ARCHITECTURE.md alone");
            eprintln!(
                "cargo xtask nvrtc TOOLKIT BINARY   kernels, launches and waits on an NVIDIA GPU, without one"
            );
            eprintln!(
                "cargo xtask bench OLD [ROUNDS]   the release build's speed compared with an older binary's"
            );
            return ExitCode::from(2);
        }
    };
    if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The arguments are an older binary's path and a number of rounds.
fn bench() -> bool {
    const ROUNDS: usize = 3;
    let arguments: Vec<_> = env::args().skip(2).collect();
    let (old, rounds) = match &arguments[..] {
        [old] => (old, Some(ROUNDS)),
        [old, rounds] => (old, rounds.parse().ok().filter(|rounds| *rounds > 0)),
        _ => {
            eprintln!("cargo xtask bench OLD [ROUNDS] (CONTRIBUTING.md)");
            return false;
        }
    };
    let Some(rounds) = rounds else {
        eprintln!("xtask: {}: not a number of rounds", arguments[1]);
        return false;
    };
    match bench::run(old.as_ref(), &bench::built(), rounds) {
        Ok(()) => true,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            false
        }
    }
}

/// The arguments are paths: of NVIDIA's compiler, and of a build with the feature `cuda`.
fn nvrtc() -> bool {
    let paths: Vec<PathBuf> = env::args_os().skip(2).map(PathBuf::from).collect();
    let [toolkit, binary] = &paths[..] else {
        eprintln!("cargo xtask nvrtc TOOLKIT BINARY (CONTRIBUTING.md)");
        return false;
    };
    match nvrtc::run(toolkit, binary) {
        Ok(broken) => {
            for problem in &broken {
                eprintln!("xtask: {problem}");
            }
            broken.is_empty()
        }
        Err(problem) => {
            eprintln!("xtask: {problem}");
            false
        }
    }
}
