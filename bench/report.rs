//! What was measured: one connection's tally, their sum, and the report that is printed.
//!
//! **Invariant:** a tally counts only what was answered inside the measured time, so rates are not
//! flattered by the warm-up or by the answers that are still awaited at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that a histogram tells apart, ns; longer ones count as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Digits that a histogram keeps.
const LATENCY_DIGITS: u8 = 3;

/// Clock ticks a second in `/proc`: fixed in the kernel's interface on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one connection, or one loop, has seen.
pub struct Tally {
    pub bytes: u64,
    pub records: u64,
    pub requests: u64,
    pub errors: BTreeMap<String, u64>,
    pub latency_ns: Histogram<u64>,
    /// When the last counted answer came.
    pub last: Option<Instant>,
}

impl Tally {
    /// An empty tally.
    pub fn new() -> Tally {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
            .expect("the bounds are constants");
        Tally { bytes: 0, records: 0, requests: 0, errors: BTreeMap::new(), latency_ns, last: None }
    }

    /// Counts one answered request.
    pub fn answered(&mut self, at: Instant, latency: Duration) {
        self.requests += 1;
        self.latency_ns.saturating_record(latency.as_nanos() as u64);
        self.last = Some(at);
    }

    /// Counts one error by its name.
    pub fn error(&mut self, name: &str) {
        match self.errors.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(name.to_owned(), 1)),
        }
    }

    /// Adds what another has seen.
    pub fn add(&mut self, other: Tally) {
        self.bytes += other.bytes;
        self.records += other.records;
        self.requests += other.requests;
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.latency_ns.add(&other.latency_ns).expect("both have the same bounds");
        self.last = self.last.max(other.last);
    }
}

/// Latency of requests, µs.
#[derive(Serialize)]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

impl Latency {
    /// Of a histogram in ns.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let us = |ns: f64| (ns / 10.0).round() / 100.0;
        let at = |quantile: f64| us(histogram.value_at_quantile(quantile) as f64);
        Latency {
            min: us(histogram.min() as f64),
            mean: us(histogram.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(histogram.max() as f64),
        }
    }
}

/// The result of a run. Field names are part of the interface: programs read them.
#[derive(Serialize)]
pub struct Report {
    pub command: &'static str,
    pub seconds: f64,
    pub bytes: u64,
    pub records: u64,
    pub requests: u64,
    pub bytes_per_second: f64,
    pub records_per_second: f64,
    pub requests_per_second: f64,
    pub errors: u64,
    pub errors_by_name: BTreeMap<String, u64>,
    pub latency_us: Latency,
    /// Share of one core that this process used while it measured, 1.0 is a whole core.
    pub client_cores: f64,
    /// Share of one core that the broker's process used; absent where nobody named that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cores: Option<f64>,
}

impl Report {
    /// Sums up `tally` over `elapsed`; `cpu_seconds` is what this process used meanwhile.
    pub fn new(command: &'static str, tally: Tally, elapsed: Duration, cpu_seconds: f64) -> Report {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let rate = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        Report {
            command,
            seconds,
            bytes: tally.bytes,
            records: tally.records,
            requests: tally.requests,
            bytes_per_second: rate(tally.bytes),
            records_per_second: rate(tally.records),
            requests_per_second: rate(tally.requests),
            errors: tally.errors.values().sum(),
            latency_us: Latency::of(&tally.latency_ns),
            errors_by_name: tally.errors,
            client_cores: (cpu_seconds / seconds * 1000.0).round() / 1000.0,
            broker_cores: None,
        }
    }

    /// The same with what the broker's process used, in cores.
    pub fn with_broker_cores(mut self, cores: Option<f64>) -> Report {
        self.broker_cores = cores.map(|cores| (cores * 1000.0).round() / 1000.0);
        self
    }

    /// The report as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and names always encode")
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let latency = &self.latency_us;
        let mut text = format!(
            "{}: {:.2} s, {} requests, {} records, {:.1} MB\n",
            self.command,
            self.seconds,
            self.requests,
            self.records,
            self.bytes as f64 / 1e6
        );
        text += &format!(
            "  rate     {:.1} MB/s, {:.0} records/s, {:.0} requests/s\n",
            self.bytes_per_second / 1e6,
            self.records_per_second,
            self.requests_per_second
        );
        text += &format!(
            "  latency  p50 {} µs, p90 {}, p99 {}, p99.9 {}, p99.99 {}, max {}\n",
            latency.p50, latency.p90, latency.p99, latency.p99_9, latency.p99_99, latency.max
        );
        if let Some(cores) = self.broker_cores {
            text += &format!("  broker   {:.0} % of a core\n", cores * 100.0);
        }
        text += &format!("  client   {:.0} % of a core\n", self.client_cores * 100.0);
        text += &format!("  errors   {}", self.errors);
        for (name, count) in &self.errors_by_name {
            text += &format!("\n    {count} x {name}");
        }
        text
    }
}

/// CPU time, s, that this process has used so far; 0 where `/proc` does not tell.
pub fn cpu_seconds() -> f64 {
    std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| stat_seconds(&stat))
        .unwrap_or(0.0)
}

/// CPU time, s, that the process `pid` has used so far.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    stat.and_then(|stat| stat_seconds(&stat))
        .ok_or_else(|| anyhow::anyhow!("there is no process {pid} to take the CPU time of"))
}

/// User and system time of a line of `/proc/PID/stat`. The name in parentheses may hold spaces.
fn stat_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the JSON keeps the names that programs read. Method: look each one up.
    #[test]
    fn the_json_has_every_promised_name() {
        let mut tally = Tally::new();
        tally.bytes = 4096;
        tally.records = 4;
        tally.answered(Instant::now(), Duration::from_micros(150));
        tally.error("NOT_LEADER_OR_FOLLOWER");
        let json = Report::new("produce", tally, Duration::from_secs(2), 0.5).json();
        let value: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
        for name in ["bytes_per_second", "records_per_second", "requests_per_second", "errors"] {
            assert!(value[name].is_number(), "{name}");
        }
        for name in ["p50", "p90", "p99", "p99_9", "p99_99", "max"] {
            let us = value["latency_us"][name].as_f64().expect(name);
            assert!((us - 150.0).abs() < 0.5, "{name} is {us}");
        }
        assert_eq!(value["bytes_per_second"], 2048.0);
        assert_eq!(value["errors_by_name"]["NOT_LEADER_OR_FOLLOWER"], 1);
    }

    #[test]
    fn tallies_add_up() {
        let (mut sum, mut other) = (Tally::new(), Tally::new());
        sum.error("a");
        other.error("a");
        other.bytes = 7;
        other.answered(Instant::now(), Duration::from_millis(1));
        sum.add(other);
        assert_eq!((sum.bytes, sum.requests, sum.errors["a"]), (7, 1, 2));
        assert_eq!(sum.latency_ns.len(), 1);
        assert!(sum.last.is_some());
    }

    #[test]
    fn cpu_time_is_read_behind_a_name_with_spaces() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194304 99 0 0 0 250 50 0 0 20 0 1 0 5";
        assert_eq!(stat_seconds(stat), Some(3.0));
        assert_eq!(stat_seconds("12 (a) S"), None);
        assert!(cpu_seconds() >= 0.0);
    }
}
