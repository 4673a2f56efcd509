//! Recording: what each thread sees, by the second, and the sum of it.
//!
//! A thread keeps the second that it is in to itself, and hands it over when the next one begins:
//! on the hot path there is no lock and nothing shared. The histograms of a whole run are the sums
//! of its seconds'.
//! **Invariant:** counts are of what was answered inside the measured time, so that rates are not
//! flattered by the warm-up or by the answers that are still awaited at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::result::{
    Asked, Interval, LATENCY_DIGITS, LATENCY_US_MAX, Latency, Part, Series, Slice,
    encode_histogram, new_histogram,
};

/// Length of a slice of the timeline.
const SLICE: Duration = Duration::from_secs(1);

/// From a request's intended sending to its acknowledgement.
pub const PUBLISH: &str = "publish";
/// From a record's intended sending to its receipt.
pub const END_TO_END: &str = "end_to_end";
/// From a fetch to its answer.
pub const FETCH: &str = "fetch";
/// From the intended to the actual sending: the generator's own error, and its waits for room.
pub const SCHEDULE: &str = "schedule";

/// What was counted in one second, or in all.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub bytes: u64,
    pub records: u64,
    pub requests: u64,
    pub errors: u64,
}

/// One second of a thread, or of all of them.
struct Second {
    counts: Counts,
    latencies: Vec<Histogram<u64>>, // by series, µs
}

/// What all threads of one part have handed over.
pub struct Recording {
    name: String,
    series: &'static [&'static str],
    measured_from: Instant,
    measured_until: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    seconds: BTreeMap<u64, Second>,
    errors_by_name: BTreeMap<String, u64>,
    last: Option<Instant>,
}

/// One thread's hand in a recording.
pub struct Recorder {
    recording: Arc<Recording>,
    second_index: u64,
    second_end: Instant,
    second: Second,
    is_touched: bool,
    errors_by_name: BTreeMap<String, u64>,
    last: Option<Instant>,
    requests_count: u64, // that were answered, measured or not
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.bytes += other.bytes;
        self.records += other.records;
        self.requests += other.requests;
        self.errors += other.errors;
    }
}

impl Second {
    fn new(series_count: usize) -> Second {
        let histogram = || Histogram::new(LATENCY_DIGITS).expect("the digits are constant");
        let latencies = std::iter::repeat_with(histogram).take(series_count).collect();
        Second { counts: Counts::default(), latencies }
    }

    fn add(&mut self, other: &Second) {
        self.counts.add(other.counts);
        for (sum, histogram) in self.latencies.iter_mut().zip(&other.latencies) {
            if !histogram.is_empty() {
                sum.add(histogram).expect("sums grow as they must");
            }
        }
    }

    fn clear(&mut self) {
        self.counts = Counts::default();
        self.latencies.iter_mut().for_each(Histogram::reset);
    }
}

impl Recording {
    /// An empty recording of `series`, for answers from `measured_from` to `measured_until`.
    pub fn new(
        name: &str,
        series: &'static [&'static str],
        measured_from: Instant,
        measured_until: Instant,
    ) -> Arc<Recording> {
        let name = name.to_owned();
        let seen = Mutex::default();
        Arc::new(Recording { name, series, measured_from, measured_until, seen })
    }

    /// A hand for one more thread.
    pub fn recorder(self: &Arc<Recording>) -> Recorder {
        Recorder {
            recording: self.clone(),
            second_index: 0,
            second_end: self.measured_from + SLICE,
            second: Second::new(self.series.len()),
            is_touched: false,
            errors_by_name: BTreeMap::new(),
            last: None,
            requests_count: 0,
        }
    }

    /// The part's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts of all seconds that were handed over, and when the last counted answer came.
    pub fn so_far(&self) -> (Counts, Option<Instant>) {
        let seen = self.seen();
        let mut sum = Counts::default();
        seen.seconds.values().for_each(|second| sum.add(second.counts));
        (sum, seen.last)
    }

    /// The last whole second before `now`, as far as it was handed over: its counts, and a quantile
    /// of its first series in µs.
    pub fn last_second(&self, now: Instant, quantile: f64) -> Option<(Counts, u64)> {
        let elapsed = now.checked_duration_since(self.measured_from)?;
        let index = elapsed.as_secs().checked_sub(1)?;
        let seen = self.seen();
        let second = seen.seconds.get(&index)?;
        let first = second.latencies.first()?;
        Some((second.counts, first.value_at_quantile(quantile)))
    }

    /// The part of a result that lasted `elapsed`.
    pub fn part(&self, elapsed: Duration, rate: Option<&Asked>) -> Part {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let slices = self.slices(elapsed);
        let mut sum = Counts::default();
        slices.iter().for_each(|(_, _, second)| sum.add(second.counts));
        let per_second = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        let timeline = slices.iter().map(|(start_s, seconds, second)| {
            let Counts { bytes, records, requests, errors } = second.counts;
            Slice { start_s: *start_s, seconds: *seconds, bytes, records, requests, errors }
        });
        let timeline = timeline.collect();
        let series = (0..self.series.len()).map(|index| self.series_of(index, &slices)).collect();
        let asked = rate.map(|rate| {
            let share = sum.requests as f64 / (rate.requests_per_second * seconds);
            Asked { achieved_share: (share * 10_000.0).round() / 10_000.0, ..rate.clone() }
        });
        Part {
            name: self.name.clone(),
            seconds,
            bytes: sum.bytes,
            records: sum.records,
            requests: sum.requests,
            bytes_per_second: per_second(sum.bytes),
            records_per_second: per_second(sum.records),
            requests_per_second: per_second(sum.requests),
            errors: sum.errors,
            errors_by_name: self.seen().errors_by_name.clone(),
            asked,
            series,
            timeline,
        }
    }

    /// The seconds of `elapsed`, each with its start and length; what came later is in the last.
    fn slices(&self, elapsed: Duration) -> Vec<(f64, f64, Second)> {
        let count = elapsed.as_secs() + u64::from(elapsed.subsec_nanos() > 0);
        let count = count.max(1);
        let mut slices: Vec<(f64, f64, Second)> = (0..count)
            .map(|index| {
                let start_s = index as f64;
                let seconds = (elapsed.as_secs_f64() - start_s).min(1.0);
                (start_s, seconds, Second::new(self.series.len()))
            })
            .collect();
        for (index, second) in &self.seen().seconds {
            slices[(*index).min(count - 1) as usize].2.add(second);
        }
        slices
    }

    fn series_of(&self, index: usize, slices: &[(f64, f64, Second)]) -> Series {
        let mut whole = new_histogram();
        let mut intervals = Vec::new();
        for (start_s, seconds, second) in slices {
            let histogram = &second.latencies[index];
            if !histogram.is_empty() {
                whole.add(histogram).expect("values were bounded when they were recorded");
                let (start_s, seconds) = (*start_s, *seconds);
                let histogram = encode_histogram(histogram);
                intervals.push(Interval { start_s, seconds, histogram });
            }
        }
        Series {
            name: self.series[index].to_owned(),
            latency_us: Latency::of(&whole),
            histogram: encode_histogram(&whole),
            intervals,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Counts one answered request, where it was answered inside the measured time.
    pub fn answered(&mut self, now: Instant, bytes: u64, records: u64) {
        self.requests_count += 1;
        if self.counts(now) {
            self.enter(now);
            let counts = &mut self.second.counts;
            counts.bytes += bytes;
            counts.records += records;
            counts.requests += 1;
            self.last = Some(now);
        }
    }

    /// Records `count` latencies of the `series`th series that were known at `now`.
    ///
    /// Whether they belong to the measurement is the caller's to say: a fixed rate is held against
    /// the time of the intended sending. What is known after the end counts in the last second.
    pub fn latency(&mut self, series: usize, now: Instant, latency: Duration, count: u64) {
        self.enter(now);
        let us = (latency.as_nanos() as u64 + 500) / 1000;
        let histogram = &mut self.second.latencies[series];
        histogram.record_n(us.min(LATENCY_US_MAX), count).expect("it grows as it must");
    }

    /// Counts one error by its name, where it came inside the measured time.
    pub fn error(&mut self, now: Instant, name: &str) {
        if !self.counts(now) {
            return;
        }
        self.enter(now);
        self.second.counts.errors += 1;
        match self.errors_by_name.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.errors_by_name.insert(name.to_owned(), 1)),
        }
    }

    /// Whether `now` lies inside the measured time.
    pub fn counts(&self, now: Instant) -> bool {
        self.recording.measured_from <= now && now <= self.recording.measured_until
    }

    /// Requests that were answered, the warm-up's included.
    pub fn requests_count(&self) -> u64 {
        self.requests_count
    }

    fn enter(&mut self, now: Instant) {
        if now >= self.second_end {
            self.turn(now);
        }
        self.is_touched = true;
    }

    #[cold]
    fn turn(&mut self, now: Instant) {
        self.hand_over();
        let recording = &self.recording;
        let now = now.min(recording.measured_until);
        self.second_index = now.saturating_duration_since(recording.measured_from).as_secs();
        self.second_end = recording.measured_from + SLICE * (self.second_index as u32 + 1);
        if self.second_end > recording.measured_until {
            self.second_end = Instant::now() + Duration::from_secs(86_400); // it is the last one
        }
    }

    fn hand_over(&mut self) {
        if !self.is_touched {
            return;
        }
        self.is_touched = false;
        let mut seen = self.recording.seen();
        let fresh = || Second::new(self.recording.series.len());
        seen.seconds.entry(self.second_index).or_insert_with(fresh).add(&self.second);
        for (name, count) in std::mem::take(&mut self.errors_by_name) {
            *seen.errors_by_name.entry(name).or_default() += count;
        }
        seen.last = seen.last.max(self.last);
        drop(seen);
        self.second.clear();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::decode_histogram;

    const MS: Duration = Duration::from_millis(1);

    fn recording(from: Instant, ms: u32) -> Arc<Recording> {
        Recording::new("produce", &[PUBLISH, SCHEDULE], from, from + ms * MS)
    }

    /// Goal: each second has its own figures, also one in which nothing came. Method: two threads,
    /// with an empty second between.
    #[test]
    fn seconds_have_their_own_figures_and_none_is_left_out() {
        let from = Instant::now();
        let recording = recording(from, 3500);
        let (mut one, mut other) = (recording.recorder(), recording.recorder());
        for (ms, us) in [(10, 100), (2500, 300)] {
            one.answered(from + ms * MS, 1000, 2);
            one.latency(0, from + ms * MS, Duration::from_micros(us), 1);
        }
        other.answered(from + 20 * MS, 500, 1);
        other.latency(0, from + 20 * MS, Duration::from_micros(200), 1);
        other.error(from + 3100 * MS, "SOME_ERROR");
        drop((one, other));
        let part = recording.part(3500 * MS, None);
        let timeline: Vec<(u64, u64, u64)> =
            part.timeline.iter().map(|slice| (slice.bytes, slice.requests, slice.errors)).collect();
        assert_eq!(timeline, [(1500, 2, 0), (0, 0, 0), (1000, 1, 0), (0, 0, 1)]);
        assert_eq!(part.timeline[3].seconds, 0.5);
        assert_eq!((part.bytes, part.records, part.requests, part.errors), (2500, 5, 3, 1));
        assert_eq!(part.errors_by_name["SOME_ERROR"], 1);
        let starts: Vec<f64> = part.series[0].intervals.iter().map(|i| i.start_s).collect();
        assert_eq!(starts, [0.0, 2.0]);
        let whole = decode_histogram(&part.series[0].histogram).expect("its own");
        assert_eq!((whole.len(), whole.count_at(100), whole.count_at(300)), (3, 1, 1));
        assert!(part.series[1].intervals.is_empty());
    }

    /// Goal: what lies outside of the measured time does not flatter rates; a late latency is not
    /// lost. Method: one answer before, one after.
    #[test]
    fn counts_are_of_the_measured_time_and_late_latencies_of_its_last_second() {
        let from = Instant::now() + Duration::from_secs(1);
        let recording = recording(from, 2000);
        let mut recorder = recording.recorder();
        recorder.answered(from - MS, 1, 1);
        recorder.answered(from + 2001 * MS, 1, 1);
        recorder.error(from - MS, "EARLY");
        recorder.latency(0, from + 7000 * MS, Duration::from_secs(6), 3);
        assert_eq!(recorder.requests_count(), 2);
        drop(recorder);
        let part = recording.part(2000 * MS, None);
        assert_eq!((part.requests, part.errors), (0, 0));
        assert_eq!(part.timeline.len(), 2);
        assert_eq!(part.series[0].intervals.len(), 1);
        assert_eq!(part.series[0].intervals[0].start_s, 1.0);
        assert!(part.series[0].latency_us.min >= 5.9e6, "{}", part.series[0].latency_us.min);
    }

    #[test]
    fn what_was_asked_for_stands_beside_what_was_achieved() {
        let from = Instant::now();
        let recording = recording(from, 2000);
        let mut recorder = recording.recorder();
        (0..150).for_each(|index| recorder.answered(from + index * MS, 1, 1));
        drop(recorder);
        let rate = Asked { requests_per_second: 100.0, ..Asked::default() };
        let asked = recording.part(2000 * MS, Some(&rate)).asked.expect("there is a rate");
        assert_eq!((asked.requests_per_second, asked.achieved_share), (100.0, 0.75));
    }
}
