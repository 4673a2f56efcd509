//! What a shard counts and times: plain cells and histograms that no other thread touches.

use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

/// Longest time that a stage's histogram tells apart, µs: one minute; longer ones count as that.
const STAGE_US_MAX: u64 = 60_000_000;

/// A number that only grows.
#[derive(Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// The sum of all that was added.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Times of one stage of a request, µs, with two significant digits.
pub struct Stage(RefCell<Histogram<u32>>);

impl Default for Stage {
    fn default() -> Stage {
        let histogram = Histogram::new_with_bounds(1, STAGE_US_MAX, 2);
        Stage(RefCell::new(histogram.expect("the bounds are constants and in order")))
    }
}

impl Stage {
    /// Notes that the stage took `time`.
    pub fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(STAGE_US_MAX);
        self.0.borrow_mut().saturating_record(us.clamp(1, STAGE_US_MAX));
    }

    /// The time in µs that `quantile` (0.0 to 1.0) of the samples did not exceed; 0 if there are
    /// none.
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        self.0.borrow().value_at_quantile(quantile)
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.0.borrow().len()
    }
}

/// One shard's measurements.
#[derive(Default)]
pub struct ShardMetrics {
    pub requests: Counter,
    pub connections_accepted: Counter,
    pub connections_closed: Counter,
    pub requests_refused: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Record bytes that were appended to logs.
    pub append_bytes: Counter,
    /// Record bytes that went out in fetch answers.
    pub fetch_bytes: Counter,
    /// Record bytes of fetch answers that this program copied on the way: stays 0.
    pub fetch_copied_bytes: Counter,
    pub writes: Counter,
    pub flushes: Counter,
    pub queue_time: Stage,
    pub append_time: Stage,
    pub write_time: Stage,
    pub flush_time: Stage,
    pub fetch_wait_time: Stage,
    pub send_time: Stage,
}

impl fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMetrics")
            .field("requests", &self.requests.get())
            .field("append_bytes", &self.append_bytes.get())
            .field("fetch_bytes", &self.fetch_bytes.get())
            .field("fetch_copied_bytes", &self.fetch_copied_bytes.get())
            .field("writes", &self.writes.get())
            .field("flushes", &self.flushes.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a stage answers with what it was given. Method: known samples, one beyond the bound.
    #[test]
    fn a_stage_keeps_its_quantiles_and_bounds_long_samples() {
        let stage = Stage::default();
        for us in 1..=100 {
            stage.record(Duration::from_micros(us));
        }
        assert!((49..=51).contains(&stage.quantile_us(0.5)));
        stage.record(Duration::from_secs(3_600));
        assert_eq!(stage.count(), 101);
        assert!(stage.quantile_us(1.0) >= STAGE_US_MAX * 99 / 100);
    }
}
