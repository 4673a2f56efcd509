//! The result of a run as one JSON document: what the generator writes, and what its reports read.
//!
//! Latencies are in µs. A histogram travels as HdrHistogram's own compressed form (V2 deflate) in
//! base64, so that other tools read it, too. Fields that are not known are passed over, and those
//! that are missing have their defaults: documents of other versions still open.
//! **Invariant:** the flat figures come last in the document: scripts that look for the last
//! `"p99":` of the line find the one of the whole run.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Version of the document.
pub const FORMAT: u32 = 1;

/// Longest latency that a histogram tells apart, µs; longer ones count as this: an hour.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Digits that a histogram keeps.
pub const LATENCY_DIGITS: u8 = 3;

/// What one workload found. Field names are part of the interface: programs read them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunResult {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the generator.
    pub version: String,
    /// Kind of the workload, as on the command line.
    pub command: String,
    /// The workload's name in its file; else its kind.
    pub name: String,
    /// What was under test, in people's words.
    pub label: String,
    pub started_at_ms: i64,
    /// The workload's flags, in their order.
    pub settings: Vec<Setting>,
    pub machine: Machine,
    /// One or more; the first is the main one, which the flat figures are of.
    pub parts: Vec<Part>,
    /// What `search` tried, in its order; empty for other runs.
    pub steps: Vec<Step>,
    /// Of the main part; `None` where no rate was asked for.
    pub asked: Option<Asked>,
    /// `None` where nobody named the broker's process.
    pub broker: Option<Broker>,
    /// Whether somebody stopped the run before its time.
    pub ended_early: bool,
    /// What a reader must know before the figures are used, in sentences.
    pub warnings: Vec<String>,
    /// Measured time.
    pub seconds: f64,
    pub bytes: u64,
    pub records: u64,
    pub requests: u64,
    pub bytes_per_second: f64,
    pub records_per_second: f64,
    pub requests_per_second: f64,
    /// Of all parts, as the names behind them: what went wrong anywhere is a reason to look.
    pub errors: u64,
    pub errors_by_name: BTreeMap<String, u64>,
    /// Of the main part's first series.
    pub latency_us: Latency,
    /// Cores that the generator used while it measured, 1.0 is a whole core.
    pub client_cores: f64,
    /// Those of the broker's process; absent where nobody named that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cores: Option<f64>,
}

/// One flag with its value, or `true` where it has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// With its dashes: `--connections`.
    pub name: String,
    pub value: String,
}

/// Where the generator ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the processor.
    pub cpu: String,
    /// Cores that the generator may use.
    pub cores_count: u32,
    pub memory_bytes: u64,
}

/// The rate that was asked for, and how much of it came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    pub records_per_second: f64,
    /// What was answered in the measured time, as a share of what was asked for: 1.0 is all.
    pub achieved_share: f64,
}

/// What the broker's process used while it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Broker {
    pub pid: u32,
    /// 1.0 is a whole core.
    pub cores: f64,
    /// A MB is 10^6 bytes of batches, produced or fetched.
    pub cpu_ms_per_mb: f64,
    pub cpu_us_per_request: f64,
    /// Most memory that was resident.
    pub memory_bytes_max: u64,
    /// To disks.
    pub written_bytes: u64,
    /// From disks.
    pub read_bytes: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// One role in a workload: its producers, its tailing consumers, and so on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    pub name: String,
    /// Measured time.
    pub seconds: f64,
    pub bytes: u64,
    pub records: u64,
    pub requests: u64,
    pub bytes_per_second: f64,
    pub records_per_second: f64,
    pub requests_per_second: f64,
    pub errors: u64,
    pub errors_by_name: BTreeMap<String, u64>,
    pub asked: Option<Asked>,
    pub series: Vec<Series>,
    /// About one a second, in order, without gaps.
    pub timeline: Vec<Slice>,
}

/// One kind of latency of a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// `publish`, `end_to_end`, `fetch` or `schedule`.
    pub name: String,
    pub latency_us: Latency,
    /// Of the whole run; see [`encode_histogram`].
    pub histogram: String,
    /// One a second; seconds without a value are left out.
    pub intervals: Vec<Interval>,
}

/// The values of one second of a series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    /// From the beginning of the measurement.
    pub start_s: f64,
    pub seconds: f64,
    pub histogram: String,
}

/// What was done in one second of a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slice {
    /// From the beginning of the measurement.
    pub start_s: f64,
    pub seconds: f64,
    pub bytes: u64,
    pub records: u64,
    pub requests: u64,
    pub errors: u64,
}

/// One rate that `search` tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    pub asked: Asked,
    /// What was achieved.
    pub bytes_per_second: f64,
    pub requests_per_second: f64,
    /// The quantile that has the goal, such as `p99`.
    pub quantile: String,
    /// Its latency, µs.
    pub latency_us: f64,
    /// The goal, µs.
    pub goal_us: f64,
    /// Whether the goal was held and the rate achieved.
    pub held: bool,
}

/// A latency in figures, µs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Of a histogram in µs; all 0 when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64;
        Latency {
            min: histogram.min() as f64,
            mean: (histogram.mean() * 100.0).round() / 100.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64,
        }
    }
}

/// Why a document or a histogram in it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    #[error("it is not a result of ringmain-bench: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is a result in format {0}; this program reads format {FORMAT}")]
    Format(u32),
    #[error("a histogram is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("a histogram cannot be read: {0}")]
    Histogram(String),
}

/// An empty histogram of µs up to an hour.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS).expect("the bounds are constants")
}

/// The histogram in HdrHistogram's compressed form, V2 deflate, in base64.
pub fn encode_histogram(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a histogram always encodes into memory");
    STANDARD.encode(bytes)
}

/// Back from [`encode_histogram`].
///
/// # Errors
/// The text is something else.
pub fn decode_histogram(text: &str) -> Result<Histogram<u64>, ResultError> {
    let bytes = STANDARD.decode(text)?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| ResultError::Histogram(error.to_string()))
}

/// The results in a file's text: one document, an array of them, or one a line.
///
/// # Errors
/// The text is something else, or of a format that is not known.
pub fn parse_results(text: &str) -> Result<Vec<RunResult>, ResultError> {
    let mut results = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        match value? {
            serde_json::Value::Array(values) => {
                for value in values {
                    results.push(serde_json::from_value::<RunResult>(value)?);
                }
            }
            value => results.push(serde_json::from_value(value)?),
        }
    }
    match results.iter().find(|result| result.format != FORMAT) {
        Some(result) => Err(ResultError::Format(result.format)),
        None => Ok(results),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RunResult {
        let mut histogram = new_histogram();
        for us in [100, 150, 150, 90_000] {
            histogram.record(us).expect("below an hour");
        }
        let latency_us = Latency::of(&histogram);
        let series = Series {
            name: "publish".to_owned(),
            latency_us: latency_us.clone(),
            histogram: encode_histogram(&histogram),
            intervals: vec![Interval {
                start_s: 0.0,
                seconds: 1.0,
                histogram: encode_histogram(&histogram),
            }],
        };
        let asked = Asked { requests_per_second: 4.0, achieved_share: 1.0, ..Asked::default() };
        let slice =
            Slice { start_s: 0.0, seconds: 1.0, bytes: 4096, requests: 4, ..Slice::default() };
        let part = Part {
            name: "produce".to_owned(),
            seconds: 1.0,
            bytes: 4096,
            requests: 4,
            asked: Some(asked.clone()),
            series: vec![series],
            timeline: vec![slice],
            ..Part::default()
        };
        RunResult {
            format: FORMAT,
            command: "produce".to_owned(),
            settings: vec![Setting { name: "--acks".to_owned(), value: "all".to_owned() }],
            parts: vec![part],
            asked: Some(asked),
            seconds: 1.0,
            bytes: 4096,
            bytes_per_second: 4096.0,
            errors_by_name: [("NOT_LEADER_OR_FOLLOWER".to_owned(), 1)].into(),
            errors: 1,
            latency_us,
            client_cores: 0.25,
            ..RunResult::default()
        }
    }

    /// Goal: what is written is what is read. Method: one document, a line each, and an array.
    #[test]
    fn a_result_reads_back_as_it_was_written() {
        let result = sample();
        let line = serde_json::to_string(&result).expect("encodes");
        assert!(!line.contains('\n'));
        assert_eq!(parse_results(&line).expect("reads"), std::slice::from_ref(&result));
        let lines = format!("{line}\n{line}\n");
        assert_eq!(parse_results(&lines).expect("reads"), [result.clone(), result.clone()]);
        let array = serde_json::to_string_pretty(&[&result, &result]).expect("encodes");
        assert_eq!(parse_results(&array).expect("reads"), [result.clone(), result]);
    }

    /// Goal: documents of later and earlier versions open. Method: one more field, and few fields.
    #[test]
    fn unknown_fields_are_passed_over_and_missing_ones_have_defaults() {
        let text = r#"{"format": 1, "bytes": 7, "broker_side": {"p50": 1}, "command": "fetch"}"#;
        let results = parse_results(text).expect("reads");
        assert_eq!((results[0].bytes, results[0].command.as_str()), (7, "fetch"));
        assert!(matches!(parse_results(r#"{"format": 2}"#), Err(ResultError::Format(2))));
        assert!(matches!(parse_results("[1]"), Err(ResultError::Json(_))));
        assert!(matches!(parse_results("{\"format\""), Err(ResultError::Json(_))));
    }

    /// Goal: scripts that look for the last of a name find the whole run's. Method: do as they do.
    #[test]
    fn the_flat_figures_are_the_last_of_their_names() {
        let mut result = sample();
        result.bytes = 1;
        result.latency_us.p99 = 2.0;
        let line = serde_json::to_string(&result).expect("encodes");
        let after_last =
            |name: &str| line.rsplit(&format!("\"{name}\":")).next().map(str::to_owned);
        assert!(after_last("bytes").expect("is there").starts_with("1,"));
        assert!(after_last("p99").expect("is there").starts_with("2.0,"));
        assert!(after_last("bytes_per_second").expect("is there").starts_with("4096.0,"));
        assert!(after_last("errors").expect("is there").starts_with("1,"));
    }

    #[test]
    fn a_histogram_keeps_its_counts_and_its_range_over_the_text() {
        let mut histogram = new_histogram();
        histogram.saturating_record(LATENCY_US_MAX * 2);
        histogram.record_n(1_000, 41).expect("in range");
        let back = decode_histogram(&encode_histogram(&histogram)).expect("its own");
        assert_eq!(back, histogram);
        assert_eq!((back.len(), back.count_at(1_000)), (42, 41));
        assert!(back.max() >= LATENCY_US_MAX, "an hour is told apart");
        assert!(matches!(decode_histogram("?"), Err(ResultError::Base64(_))));
        assert!(matches!(decode_histogram("AAAA"), Err(ResultError::Histogram(_))));
    }

    #[test]
    fn the_figures_of_a_latency_are_those_of_its_histogram() {
        let latency = sample().latency_us;
        assert_eq!((latency.min, latency.p50), (100.0, 150.0));
        assert!((22_590.0..22_610.0).contains(&latency.mean), "{}", latency.mean);
        assert!((90_000.0..90_100.0).contains(&latency.max), "{}", latency.max);
        assert_eq!(Latency::of(&new_histogram()), Latency::default());
    }
}
