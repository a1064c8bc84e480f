//! What Linux tells of memory.

use std::fs;

/// The process's most bytes in memory so far.
pub(crate) fn peak() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Bytes that this process may still take, by the machine and by its container.
pub(crate) fn free() -> Option<u64> {
    let machine = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse().ok()
    };
    let container = (number("memory.max"))
        .zip(number("memory.current"))
        .map(|(most, now)| most.saturating_sub(now));
    Some(container.map_or(machine, |container| container.min(machine)))
}

/// Of a line `NAME   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_kib() {
        let text = "VmPeak:\t  12 kB\nVmHWM:\t     3 kB\n";
        assert_eq!(kib(text, "VmHWM:"), Some(3072));
        assert_eq!(kib(text, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells() {
        assert!(peak().unwrap() > 1 << 20 && free().unwrap() > 1 << 20);
    }
}
