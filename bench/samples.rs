//! Results for the tests of the reports: what a run would have found, in figures that are known.

use crate::result::{
    Asked, Broker, FORMAT, Interval, Latency, Machine, Part, RunResult, Series, Setting, Slice,
    encode_histogram, new_histogram,
};

/// Requests in each second of a sample.
pub const REQUESTS_PER_SECOND: u64 = 1000;

/// Bytes of each of its requests.
pub const REQUEST_BYTES: u64 = 16_000;

/// A run of so many seconds: 99 % of its requests took `us`, one in a hundred ten times that.
pub fn run(label: &str, us: u64, seconds: u32) -> RunResult {
    let part = part("produce", &[("publish", us), ("schedule", 4)], seconds);
    of_parts(label, vec![part])
}

/// A run of these parts.
pub fn of_parts(label: &str, parts: Vec<Part>) -> RunResult {
    let main = parts[0].clone();
    RunResult {
        format: FORMAT,
        version: "0.1.0".to_owned(),
        command: "produce".to_owned(),
        name: "produce".to_owned(),
        label: label.to_owned(),
        started_at_ms: 1_764_000_000_000,
        settings: vec![
            Setting { name: "--brokers".to_owned(), value: "127.0.0.1:9092".to_owned() },
            Setting { name: "--acks".to_owned(), value: "all".to_owned() },
        ],
        machine: Machine {
            kernel: "6.12.9".to_owned(),
            cpu: "a processor".to_owned(),
            cores_count: 2,
            memory_bytes: 16 << 30,
        },
        asked: main.asked.clone(),
        broker: Some(Broker {
            cores: 0.5,
            cpu_ms_per_mb: 1.25,
            cpu_us_per_request: 11.5,
            memory_bytes_max: 128 << 20,
            written_bytes: 160_000_000,
            voluntary_switches: 1_234,
            ..Broker::default()
        }),
        seconds: main.seconds,
        bytes: main.bytes,
        records: main.records,
        requests: main.requests,
        bytes_per_second: main.bytes_per_second,
        records_per_second: main.records_per_second,
        requests_per_second: main.requests_per_second,
        latency_us: main.series.first().map_or_else(Latency::default, |one| one.latency_us.clone()),
        client_cores: 0.25,
        parts,
        ..RunResult::default()
    }
}

/// A part with series of these names and latencies, which achieved what was asked.
pub fn part(name: &str, series: &[(&str, u64)], seconds: u32) -> Part {
    let requests = REQUESTS_PER_SECOND * u64::from(seconds);
    let timeline = (0..seconds).map(|second| Slice {
        start_s: f64::from(second),
        seconds: 1.0,
        bytes: REQUESTS_PER_SECOND * REQUEST_BYTES,
        records: REQUESTS_PER_SECOND * 16,
        requests: REQUESTS_PER_SECOND,
        errors: 0,
    });
    Part {
        name: name.to_owned(),
        seconds: f64::from(seconds),
        bytes: requests * REQUEST_BYTES,
        records: requests * 16,
        requests,
        bytes_per_second: (REQUESTS_PER_SECOND * REQUEST_BYTES) as f64,
        records_per_second: (REQUESTS_PER_SECOND * 16) as f64,
        requests_per_second: REQUESTS_PER_SECOND as f64,
        asked: Some(Asked {
            requests_per_second: REQUESTS_PER_SECOND as f64,
            bytes_per_second: (REQUESTS_PER_SECOND * REQUEST_BYTES) as f64,
            records_per_second: (REQUESTS_PER_SECOND * 16) as f64,
            achieved_share: 1.0,
        }),
        series: series.iter().map(|(name, us)| self::series(name, *us, seconds)).collect(),
        timeline: timeline.collect(),
        ..Part::default()
    }
}

fn series(name: &str, us: u64, seconds: u32) -> Series {
    let (mut whole, mut second) = (new_histogram(), new_histogram());
    second.record_n(us, REQUESTS_PER_SECOND * 99 / 100).expect("in range");
    second.record_n(us * 10, REQUESTS_PER_SECOND / 100).expect("in range");
    for _ in 0..seconds {
        whole.add(&second).expect("of the same range");
    }
    let histogram = encode_histogram(&second);
    let intervals = (0..seconds).map(|index| Interval {
        start_s: f64::from(index),
        seconds: 1.0,
        histogram: histogram.clone(),
    });
    Series {
        name: name.to_owned(),
        latency_us: Latency::of(&whole),
        histogram: encode_histogram(&whole),
        intervals: intervals.collect(),
    }
}
