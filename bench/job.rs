//! A workload that is ready to run: its crews, each with a thread a connection, and what measures
//! them together.
//!
//! **Invariant:** all crews of a job share one pace, so their figures are of the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::lane::place_thread;
use crate::pace::{Bounds, Pace, stopped_at};
use crate::process::{BrokerWatch, cpu_seconds, cpu_seconds_of};
use crate::progress::Progress;
use crate::recorder::{Recorder, Recording};
use crate::result::{Asked, Broker, Part};
use crate::units::Cpus;

/// How often the run is looked at while it goes on.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Stack of a worker's thread, bytes: it recurses nowhere and keeps its buffers elsewhere.
const STACK_BYTES: usize = 512 * 1024;

/// Least share of the rate that was asked for which is no reason for a warning.
pub const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// What a run ends with that did not hold its rate.
const RATE_MISSED: &str =
    "the rate that was asked for cannot be held (--allow-missed-rate makes that no error)";

/// What one thread does.
pub type Work = Box<dyn FnOnce(&Pace, Recorder) -> anyhow::Result<()> + Send>;

/// Threads with one role; they become one part of the result.
pub struct Crew {
    pub name: &'static str,
    /// Names of what its threads time, in the order of their numbers.
    pub series: &'static [&'static str],
    /// The fixed rate of all of them together.
    pub rate: Option<Asked>,
    /// Whether the work ends by itself: then all of it is measured.
    pub is_finite: bool,
    pub work: Vec<Work>,
}

/// A workload that is ready to run.
pub struct Job {
    pub bounds: Bounds,
    pub crews: Vec<Crew>,
    pub broker_pid: Option<u32>,
    /// The cores that its threads may use; all that this one may where there are none.
    pub cpus: Option<Cpus>,
    /// Whether a rate that was not held is told, but no error.
    pub may_miss_rate: bool,
    /// Looks at things when all threads have ended; what it finds are warnings.
    pub check: Option<Box<dyn FnOnce() -> Vec<String> + Send>>,
}

/// What a job found.
pub struct Measured {
    pub parts: Vec<Part>,
    pub client_cores: f64,
    pub broker: Option<Broker>,
    pub ended_early: bool,
    pub warnings: Vec<String>,
    /// What is an error, although it was measured to its end.
    pub failure: Option<String>,
}

/// What was used while it was measured.
struct Cost {
    client_cores: f64,
    broker: Option<Broker>,
}

impl Job {
    /// Runs all crews until the run is over, or until all have ended by themselves.
    ///
    /// # Errors
    /// The first worker's error, which ends the others; or the broker's process is not there.
    pub fn measure(self) -> anyhow::Result<Measured> {
        if let Some(cpus) = &self.cpus {
            place_thread(&cpus.0).context("--cpus")?; // the crews' threads inherit it
        }
        let is_finite = self.crews.iter().all(|crew| crew.is_finite);
        self.broker_pid.map_or(Ok(0.0), cpu_seconds_of)?; // better now than after the warm-up
        let pace = Pace::start(&self.bounds, is_finite);
        let (from, until) = (pace.measured_from(), pace.until());
        let recording = |crew: &Crew| Recording::new(crew.name, crew.series, from, until);
        let recordings: Vec<Arc<Recording>> = self.crews.iter().map(recording).collect();
        let facts: Vec<(Option<Asked>, bool)> =
            self.crews.iter().map(|crew| (crew.rate.clone(), crew.is_finite)).collect();
        let cost = run_threads(self.crews, &recordings, &pace, self.broker_pid)?;
        let parts: Vec<Part> = recordings
            .iter()
            .zip(&facts)
            .map(|(recording, (rate, is_finite))| {
                let (_, last) = recording.so_far();
                let elapsed = match last {
                    Some(last) if *is_finite => last.saturating_duration_since(from),
                    last => pace.elapsed(last),
                };
                recording.part(elapsed, rate.as_ref())
            })
            .collect();
        let ended_early = stopped_at().is_some_and(|at| at < until);
        let mut warnings: Vec<String> = parts.iter().filter_map(missed_rate).collect();
        let is_failed = !warnings.is_empty() && !self.may_miss_rate && !ended_early;
        let failure = is_failed.then(|| RATE_MISSED.to_owned());
        if let Some(check) = self.check {
            warnings.extend(check());
        }
        let broker = cost.broker.map(|broker| with_shares(broker, &parts));
        let client_cores = cost.client_cores;
        Ok(Measured { parts, client_cores, broker, ended_early, warnings, failure })
    }
}

/// What to say where a rate was not held.
fn missed_rate(part: &Part) -> Option<String> {
    let asked = part.asked.as_ref()?;
    let percent = asked.achieved_share * 100.0;
    (asked.achieved_share < ACHIEVED_SHARE_MIN).then(|| {
        format!(
            "{}: achieved only {percent:.1} % of the rate that was asked for, {:.0} of {:.0} \
             requests/s: the latencies are those of an overload",
            part.name, part.requests_per_second, asked.requests_per_second
        )
    })
}

/// The broker's CPU time by what went through it.
fn with_shares(broker: Broker, parts: &[Part]) -> Broker {
    let seconds = parts.iter().map(|part| part.seconds).fold(0.0, f64::max);
    let cpu_seconds = broker.cores * seconds;
    let per = |whole: f64, count: f64| if count > 0.0 { whole / count } else { 0.0 };
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    let requests: u64 = parts.iter().map(|part| part.requests).sum();
    Broker {
        cpu_ms_per_mb: per(cpu_seconds * 1e3, bytes as f64 / 1e6),
        cpu_us_per_request: per(cpu_seconds * 1e6, requests as f64),
        ..broker
    }
}

/// Starts the threads, waits for their end, and takes what the measured time cost.
fn run_threads(
    crews: Vec<Crew>,
    recordings: &[Arc<Recording>],
    pace: &Pace,
    broker_pid: Option<u32>,
) -> anyhow::Result<Cost> {
    let running_count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (crew, recording) in crews.into_iter().zip(recordings) {
            for work in crew.work {
                let recorder = recording.recorder();
                let running = Running::new(&running_count);
                let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
                let body = move || {
                    let _running = running;
                    let ended = work(pace, recorder);
                    if ended.is_err() {
                        pace.abort();
                    }
                    ended
                };
                let started = builder.spawn_scoped(scope, body);
                threads.push(started.inspect_err(|_| pace.abort()).context("starting a thread")?);
            }
        }
        let cost = watch(recordings, pace, broker_pid, &running_count);
        if cost.is_err() {
            pace.abort();
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))??;
        }
        cost
    })
}

/// Counts a thread while it lives.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn new(count: &'a AtomicUsize) -> Running<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Running(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until the measured time is over or no thread runs any more.
fn watch(
    recordings: &[Arc<Recording>],
    pace: &Pace,
    broker_pid: Option<u32>,
    running_count: &AtomicUsize,
) -> anyhow::Result<Cost> {
    let is_running = || running_count.load(Ordering::Relaxed) > 0;
    let mut progress = Progress::new(recordings, pace);
    let mut wait_until = |end: &dyn Fn() -> Instant, mut look: Box<dyn FnMut() + '_>| loop {
        let left = end().saturating_duration_since(Instant::now());
        if left.is_zero() || !is_running() {
            break;
        }
        std::thread::sleep(left.min(LOOK_INTERVAL));
        progress.show();
        look();
    };
    let measured_from = || stopped_at().map_or(pace.measured_from(), |_| Instant::now());
    wait_until(&measured_from, Box::new(|| {}));
    let (client_before, from) = (cpu_seconds(), Instant::now());
    let mut broker = broker_pid.map(BrokerWatch::begin).transpose()?;
    wait_until(&|| pace.end(), Box::new(|| broker.iter_mut().for_each(BrokerWatch::sample)));
    let elapsed = from.elapsed();
    let client_cores = (cpu_seconds() - client_before) / elapsed.as_secs_f64().max(1e-9);
    let broker = broker.map(|broker| broker.end(elapsed)).transpose()?;
    progress.clear();
    Ok(Cost { client_cores, broker })
}
