//! What processes cost and where they run, from `/proc`: the generator's own, and the broker's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use rustix::time::{ClockId, clock_gettime};

use crate::result::{Broker, Machine};

/// Clock ticks a second in `/proc`: fixed in the kernel's interface on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time, s, that this process has used so far.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU time, s, that the process `pid` has used so far.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    stat.and_then(|stat| stat_seconds(&stat))
        .ok_or_else(|| anyhow!("there is no process {pid} to take the CPU time of (--broker-pid)"))
}

/// User and system time of a line of `/proc/PID/stat`. The name in parentheses may hold spaces.
fn stat_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// The number behind `name` in a file of `name: number` lines.
fn number_in(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The broker's process, watched over the measured time.
pub struct BrokerWatch {
    pid: u32,
    before: Usage,
    memory_bytes_max: u64,
}

/// What a process has used since its start.
#[derive(Default)]
struct Usage {
    cpu_seconds: f64,
    written_bytes: u64,
    read_bytes: u64,
    /// By thread, as those of a thread that ends are gone.
    switches: BTreeMap<OsString, Switches>,
}

/// How often a thread gave up its core, and how often it had to.
#[derive(Clone, Copy, Default)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Usage> {
        let mut usage = Usage { cpu_seconds: cpu_seconds_of(pid)?, ..Usage::default() };
        // Another user's: what cannot be read stays 0.
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        usage.written_bytes = number_in(&io, "write_bytes").unwrap_or(0);
        usage.read_bytes = number_in(&io, "read_bytes").unwrap_or(0);
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let switches = Switches {
                voluntary: number_in(&status, "voluntary_ctxt_switches").unwrap_or(0),
                involuntary: number_in(&status, "nonvoluntary_ctxt_switches").unwrap_or(0),
            };
            usage.switches.insert(task.file_name(), switches);
        }
        Ok(usage)
    }

    /// Of the threads that are there now; those that have ended meanwhile took theirs with them.
    fn switches_since(&self, before: &Usage) -> Switches {
        let mut sum = Switches::default();
        for (thread, after) in &self.switches {
            let before = before.switches.get(thread).copied().unwrap_or_default();
            sum.voluntary += after.voluntary.saturating_sub(before.voluntary);
            sum.involuntary += after.involuntary.saturating_sub(before.involuntary);
        }
        sum
    }
}

impl BrokerWatch {
    /// Begins to watch the process `pid`.
    ///
    /// # Errors
    /// There is no such process.
    pub fn begin(pid: u32) -> anyhow::Result<BrokerWatch> {
        let mut watch = BrokerWatch { pid, before: Usage::of(pid)?, memory_bytes_max: 0 };
        watch.sample();
        Ok(watch)
    }

    /// Looks at the memory: its most is the most of all looks.
    pub fn sample(&mut self) {
        let path = PathBuf::from(format!("/proc/{}/status", self.pid));
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let resident_bytes = number_in(&status, "VmRSS").unwrap_or(0) * 1024;
        self.memory_bytes_max = self.memory_bytes_max.max(resident_bytes);
    }

    /// What was used since the beginning, `elapsed` ago.
    ///
    /// # Errors
    /// The process has ended.
    pub fn end(mut self, elapsed: Duration) -> anyhow::Result<Broker> {
        self.sample();
        let after = Usage::of(self.pid)?;
        let cpu_seconds = (after.cpu_seconds - self.before.cpu_seconds).max(0.0);
        let since = |of: fn(&Usage) -> u64| of(&after).saturating_sub(of(&self.before));
        let switches = after.switches_since(&self.before);
        Ok(Broker {
            pid: self.pid,
            cores: cpu_seconds / elapsed.as_secs_f64().max(1e-9),
            memory_bytes_max: self.memory_bytes_max,
            written_bytes: since(|usage| usage.written_bytes),
            read_bytes: since(|usage| usage.read_bytes),
            voluntary_switches: switches.voluntary,
            involuntary_switches: switches.involuntary,
            ..Broker::default()
        })
    }
}

/// This machine, as far as it tells.
pub fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores_count = std::thread::available_parallelism().map_or(0, |count| count.get() as u32);
    Machine {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: model.map_or(String::new(), |(_, name)| name.trim().to_owned()),
        cores_count,
        memory_bytes: number_in(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) * 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_spaces() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194304 99 0 0 0 250 50 0 0 20 0 1 0 5";
        assert_eq!(stat_seconds(stat), Some(3.0));
        assert_eq!(stat_seconds("12 (a) S"), None);
        assert!(cpu_seconds() >= 0.0);
    }

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let text = "rchar: 9\nread_bytes: 4096\nVmRSS:\t  1234 kB\n";
        assert_eq!(number_in(text, "read_bytes"), Some(4096));
        assert_eq!(number_in(text, "VmRSS"), Some(1234));
        assert_eq!(number_in(text, "char"), None);
    }

    /// Goal: a process is charged with what it did meanwhile. Method: this one is the broker.
    #[test]
    fn a_process_that_worked_has_used_something() {
        let watch = BrokerWatch::begin(std::process::id()).expect("it is there");
        let held = vec![1u8; 8 << 20];
        std::thread::sleep(Duration::from_millis(5)); // a voluntary switch at least
        let broker = watch.end(Duration::from_secs(1)).expect("it is there still");
        assert!(broker.memory_bytes_max >= held.len() as u64);
        assert!(broker.voluntary_switches >= 1);
        assert!(BrokerWatch::begin(u32::MAX).is_err());
    }

    #[test]
    fn a_thread_that_ends_takes_nothing_from_the_others() {
        let usage = |threads: &[(&str, u64)]| {
            let switches = |voluntary| Switches { voluntary, involuntary: 1 };
            let threads = threads.iter().map(|(id, count)| (OsString::from(id), switches(*count)));
            Usage { switches: threads.collect(), ..Usage::default() }
        };
        let (before, after) = (usage(&[("1", 10), ("2", 5000)]), usage(&[("1", 25), ("3", 7)]));
        let switches = after.switches_since(&before);
        assert_eq!((switches.voluntary, switches.involuntary), (22, 1));
    }

    #[test]
    fn the_machine_is_known() {
        let machine = machine();
        assert!(machine.cores_count >= 1 && machine.memory_bytes > 0);
        assert!(!machine.kernel.is_empty());
    }
}
