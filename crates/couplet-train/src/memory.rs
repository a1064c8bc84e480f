//! Memory of the process and the machine, as Linux reports it.

use std::fs;

/// The process's peak resident memory so far, in bytes; `None` on other systems.
pub(crate) fn peak() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Bytes that this process can still allocate: the smaller of the machine's available memory and,
/// with cgroup v2, what its container's limit leaves. Cached files count as available.
/// `None` on other systems.
pub(crate) fn free() -> Option<u64> {
    let machine = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(free_in_container().map_or(machine, |container| container.min(machine)))
}

fn free_in_container() -> Option<u64> {
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let most = number(&read("memory.max")?)?;
    let now = number(&read("memory.current")?)?;
    let stat = read("memory.stat")?;
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "));
    let cached = cached.and_then(number).unwrap_or(0);
    Some(most.saturating_sub(now.saturating_sub(cached)))
}

/// The bytes in a line `NAME   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_kib() {
        let text = "VmPeak:\t  12 kB\nVmHWM:\t     3 kB\n";
        assert_eq!(kib(text, "VmHWM:"), Some(3072));
        assert_eq!(kib(text, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_reports_peak_and_free_memory() {
        assert!(peak().unwrap() > 1 << 20 && free().unwrap() > 1 << 20);
    }
}
