//! `cargo xtask check`: everything that must hold before a change lands, tests aside.

mod check;
mod laws;
mod workspace;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let succeeded = match env::args().nth(1).as_deref() {
        Some("check") => check::run(),
        Some("laws") => check::laws(),
        _ => {
            eprintln!("cargo xtask check   format, laws, licences, clippy and rustdoc");
            eprintln!("cargo xtask laws    licences and the laws of ARCHITECTURE.md alone");
            return ExitCode::from(2);
        }
    };
    if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
