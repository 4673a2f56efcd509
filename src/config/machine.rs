//! What the machine gives this process: cpus, memory, a name.

use std::fs;

/// The machine as far as settings depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Cpus that this process may run on, rising.
    pub cpus: Vec<usize>,
    /// Memory that this process may use: the machine's, or its control group's where that is less.
    pub memory_bytes: usize,
    pub hostname: String,
}

impl Machine {
    /// Reads it from the kernel's files; what cannot be read is taken as the least there can be.
    pub fn here() -> Machine {
        let status = read("/proc/self/status");
        let allowed = field(&status, "Cpus_allowed_list:").and_then(|list| cpu_list(list).ok());
        let meminfo = read("/proc/meminfo");
        let total_kib = field(&meminfo, "MemTotal:")
            .and_then(|text| text.split_whitespace().next()?.parse::<usize>().ok());
        let total_bytes = total_kib.map_or(1 << 30, |kib| kib.saturating_mul(1024));
        let group_bytes = read("/sys/fs/cgroup/memory.max").trim().parse().unwrap_or(usize::MAX);
        let hostname = read("/proc/sys/kernel/hostname").trim().to_owned();
        Machine {
            cpus: allowed.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| vec![0]),
            memory_bytes: total_bytes.min(group_bytes),
            hostname: if hostname.is_empty() { "localhost".to_owned() } else { hostname },
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Highest cpu number that a list may name: what Linux can be built for.
const CPU_NUMBER_MAX: usize = 8_191;

/// The cpus of a list such as `0-3,6`, rising and each once.
///
/// # Errors
/// The part that is none, as a sentence.
pub fn cpu_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number =
            |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n <= CPU_NUMBER_MAX);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{part:?} is neither a cpu nor a range of cpus"));
        };
        if first > last {
            return Err(format!("the range {part:?} goes backwards"));
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(cpu_list("5"), Ok(vec![5]));
        assert_eq!(cpu_list("1,0,1"), Ok(vec![0, 1]));
        for wrong in ["", "a", "3-1", "0-99999999", "1,,2", "-1"] {
            assert!(cpu_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_machine_has_a_cpu_memory_and_a_name() {
        let machine = Machine::here();
        assert!(!machine.cpus.is_empty() && machine.memory_bytes > 0);
        assert!(!machine.hostname.is_empty());
    }
}
