//! When a run measures and when it ends.
//!
//! **Invariant:** once a run is over it stays over; answers that come later are not counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::recorder::Recorder;

/// Measured time of a run that names no other bound.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Time before the measurement of a run that is bound by time.
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);

/// Longest run that is bound by its bytes or its work only: a broker that crawls must not hold a
/// script for ever.
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// Pause before a connection that was lost is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How often a sleep looks whether the program was stopped.
const STOP_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// When somebody asked the whole program to stop.
static STOPPED_AT: OnceLock<Instant> = OnceLock::new();

/// Ends all runs of the program, now and later; true when it had not been asked before.
pub fn stop_all() -> bool {
    STOPPED_AT.set(Instant::now()).is_ok()
}

/// When `stop_all` was called.
pub fn stopped_at() -> Option<Instant> {
    STOPPED_AT.get().copied()
}

/// Sleeps for `duration`; false when somebody stopped the program before or meanwhile.
pub fn rest(duration: Duration) -> bool {
    let deadline = Instant::now() + duration;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match stopped_at() {
            Some(_) => return false,
            None if left.is_zero() => return true,
            None => std::thread::sleep(left.min(STOP_LOOK_INTERVAL)),
        }
    }
}

/// What bounds a run.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Before the measurement; 1 s, or none where the run is not bound by time.
    pub warmup: Option<Duration>,
    /// Measured time; 10 s where nothing else bounds the run.
    pub duration: Option<Duration>,
    pub bytes: Option<u64>,
    /// Longest wait for an answer, and for a lost connection to come back.
    pub timeout: Duration,
}

/// The bounds of a run that has begun, shared by its threads.
pub struct Pace {
    began: Instant,
    measured_from: Instant,
    until: Instant,
    bytes_max: u64,
    claimed_bytes: AtomicU64,
    timeout: Duration,
    is_aborted: AtomicBool,
}

impl Pace {
    /// A run that begins now; `is_finite` when the work ends by itself.
    pub fn start(bounds: &Bounds, is_finite: bool) -> Pace {
        let by_bytes = is_finite || bounds.bytes.is_some();
        let warmup = if by_bytes { Duration::ZERO } else { WARMUP_DEFAULT };
        let duration = if by_bytes { DURATION_MAX } else { DURATION_DEFAULT };
        let began = Instant::now();
        let measured_from = began + bounds.warmup.unwrap_or(warmup);
        Pace {
            began,
            measured_from,
            until: measured_from + bounds.duration.unwrap_or(duration),
            bytes_max: bounds.bytes.unwrap_or(u64::MAX),
            claimed_bytes: AtomicU64::new(0),
            timeout: bounds.timeout,
            is_aborted: AtomicBool::new(false),
        }
    }

    /// When the run began, its warm-up included.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When the measurement begins.
    pub fn measured_from(&self) -> Instant {
        self.measured_from
    }

    /// When the measurement ends by the clock.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// When the measurement ends or has ended: by the clock, or earlier where somebody stopped it.
    pub fn end(&self) -> Instant {
        stopped_at().map_or(self.until, |at| at.clamp(self.measured_from, self.until))
    }

    /// Takes `bytes` of what the run may move; false when the run is over.
    ///
    /// The last claim may go beyond the bound: requests are whole.
    pub fn claim(&self, bytes: u64, now: Instant) -> bool {
        if self.is_over(now) {
            return false;
        }
        if self.bytes_max == u64::MAX {
            return true; // nothing to share between the threads
        }
        let is_granted = self.claimed_bytes.fetch_add(bytes, Ordering::Relaxed) < self.bytes_max;
        if !is_granted {
            self.give_back(bytes); // another thread took the last of it meanwhile
        }
        is_granted
    }

    /// Gives back what a lost connection had claimed.
    pub fn give_back(&self, bytes: u64) {
        if self.bytes_max != u64::MAX {
            self.claimed_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Whether the time is up, all bytes are claimed, or somebody stopped the run.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.is_spent() || self.is_aborted() || STOPPED_AT.get().is_some()
    }

    /// Whether all bytes are claimed, in a run that is bound by them.
    pub fn is_spent(&self) -> bool {
        self.claimed_bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Ends the run before its time: one of its threads cannot go on.
    pub fn abort(&self) {
        self.is_aborted.store(true, Ordering::Relaxed);
    }

    /// Whether one of the run's threads could not go on.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }

    /// How long was measured, when the run has ended by now with `last` the last counted answer.
    ///
    /// A run that was ended by the clock measured all of its time, also where the last answers are
    /// long ago: a broker that stalls does not become faster by it.
    pub fn elapsed(&self, last: Option<Instant>) -> Duration {
        let end = self.end();
        let end = if Instant::now() >= end { end } else { last.unwrap_or(end) };
        end.saturating_duration_since(self.measured_from)
    }

    /// Runs `session` until it ends well, opening what it needs anew each time it fails.
    ///
    /// A failure counts as an error. Nothing is lost but what was in flight.
    ///
    /// # Errors
    /// The last failure, when it went on for longer than the timeout of an answer.
    pub fn persist(
        &self,
        recorder: &mut Recorder,
        mut session: impl FnMut(&mut Recorder) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut failing_since: Option<(Instant, u64)> = None;
        loop {
            let Err(error) = session(recorder) else { return Ok(()) };
            let now = Instant::now();
            recorder.error(now, &format!("connection: {error}"));
            if self.is_over(now) {
                return Ok(());
            }
            let requests_count = recorder.requests_count();
            match failing_since {
                Some((since, before)) if requests_count == before => {
                    if now - since > self.timeout {
                        return Err(error).context("no connection any more");
                    }
                }
                _ => failing_since = Some((now, requests_count)),
            }
            std::thread::sleep(RECONNECT_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{PUBLISH, Recording};

    fn pace(bytes: Option<u64>, duration: Duration) -> Pace {
        let bounds = Bounds {
            warmup: Some(Duration::ZERO),
            duration: Some(duration),
            bytes,
            timeout: Duration::ZERO,
        };
        Pace::start(&bounds, false)
    }

    #[test]
    fn a_run_ends_when_its_bytes_are_claimed_and_goes_on_when_some_come_back() {
        let pace = pace(Some(100), Duration::from_secs(60));
        let now = Instant::now();
        assert!(pace.claim(60, now));
        assert!(pace.claim(60, now));
        assert!(!pace.claim(60, now));
        pace.give_back(60);
        assert!(pace.claim(60, now));
        pace.abort();
        assert!(pace.is_over(now));
    }

    #[test]
    fn a_run_that_stalls_is_measured_over_its_whole_time() {
        let pace = pace(None, Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(2));
        assert!(!pace.claim(1, Instant::now()));
        assert_eq!(pace.elapsed(Some(pace.measured_from)), Duration::from_millis(1));
    }

    #[test]
    fn a_connection_that_never_comes_back_ends_the_run_with_its_error() {
        let pace = pace(None, Duration::from_secs(60));
        let recording = Recording::new("produce", &[PUBLISH], pace.measured_from, pace.until);
        let mut recorder = recording.recorder();
        let refused = |_: &mut Recorder| Err(std::io::ErrorKind::ConnectionRefused.into());
        assert!(pace.persist(&mut recorder, refused).is_err());
        drop(recorder);
        assert_eq!(recording.so_far().0.errors, 2);
    }
}
