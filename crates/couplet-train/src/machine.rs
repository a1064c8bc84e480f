//! What a run's record says of the machine.

use std::fs;
use std::process::{Command, Stdio};

use serde::Serialize;

/// The machine that a run trains on; what cannot be found out is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub host: Option<String>,
    /// Name, release and processor architecture of the system.
    pub os: String,
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Models of NVIDIA's cards, whether the run uses them or not.
    pub gpus: Vec<String>,
}

impl Machine {
    pub fn this() -> Self {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        Self {
            host: output("uname", &["-n"]).or_else(|| std::env::var("COMPUTERNAME").ok()),
            os: output("uname", &["-srm"]).unwrap_or_else(|| format!("{os} {arch}")),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            gpus: gpus(),
        }
    }
}

fn cpu() -> Option<String> {
    let of_macos = || output("sysctl", &["-n", "machdep.cpu.brand_string"]);
    let Ok(text) = fs::read_to_string("/proc/cpuinfo") else {
        return of_macos();
    };
    value_of(&text, "model name")
}

fn gpus() -> Vec<String> {
    let cards = fs::read_dir("/proc/driver/nvidia/gpus");
    let cards = cards.into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = cards
        .filter_map(|card| fs::read_to_string(card.path().join("information")).ok())
        .filter_map(|text| value_of(&text, "Model"))
        .collect();
    names.sort();
    names
}

/// The value of the first line `KEY: VALUE`.
fn value_of(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_string())
    })
}

/// The first line that a program prints.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null());
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpus_and_a_cards_names_are_found() {
        let cpu = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nmodel name\t: Other\n";
        assert_eq!(
            value_of(cpu, "model name").as_deref(),
            Some("Some CPU @ 2.00GHz")
        );
        let card = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 0\n";
        assert_eq!(
            value_of(card, "Model").as_deref(),
            Some("NVIDIA H100 80GB HBM3")
        );
        assert_eq!(value_of(card, "Name"), None);
        let machine = Machine::this();
        assert!(machine.cores > 0 && !machine.os.is_empty());
    }
}
