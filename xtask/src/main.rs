//! `cargo xtask check`: everything that must hold before a change lands, tests aside.

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
        _ => {
            eprintln!("cargo xtask check   format, laws, licences, clippy and rustdoc");
            eprintln!("cargo xtask laws    licences and the laws of ARCHITECTURE.md alone");
            eprintln!(
                "cargo xtask nvrtc TOOLKIT BINARY   kernels, launches and waits on an NVIDIA GPU, without one"
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
