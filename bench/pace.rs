//! When a run measures and when it ends, and the threads that take part in it.
//!
//! **Invariant:** once a run is over it stays over; answers that come later are not counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::arguments::RunArgs;
use crate::report::{Tally, cpu_seconds};

/// Measured time of a run that names no other bound.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Time before the measurement of a run that is bound by time.
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);

/// Longest run that is bound by its bytes or its work only: a broker that crawls must not hold a
/// script for ever.
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// Pause before a connection that was lost is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a run, shared by its threads.
pub struct Pace {
    measured_from: Instant,
    until: Instant,
    bytes_max: u64,
    claimed_bytes: AtomicU64,
    timeout: Duration,
}

impl Pace {
    /// A run that begins now; `is_finite` when the work ends by itself.
    fn start(args: &RunArgs, is_finite: bool) -> Pace {
        let by_bytes = is_finite || args.bytes.is_some();
        let warmup = args.warmup.unwrap_or(if by_bytes { Duration::ZERO } else { WARMUP_DEFAULT });
        let duration =
            args.duration.unwrap_or(if by_bytes { DURATION_MAX } else { DURATION_DEFAULT });
        let measured_from = Instant::now() + warmup;
        Pace {
            measured_from,
            until: measured_from + duration,
            bytes_max: args.bytes.unwrap_or(u64::MAX),
            claimed_bytes: AtomicU64::new(0),
            timeout: args.timeout,
        }
    }

    /// Takes `bytes` of what the run may move; false when the run is over.
    ///
    /// The last claim may go beyond the bound: requests are whole.
    pub fn claim(&self, bytes: u64, now: Instant) -> bool {
        if self.is_over(now) {
            return false;
        }
        let is_granted = self.claimed_bytes.fetch_add(bytes, Ordering::Relaxed) < self.bytes_max;
        if !is_granted {
            self.give_back(bytes); // another thread took the last of it meanwhile
        }
        is_granted
    }

    /// Gives back what a lost connection had claimed.
    pub fn give_back(&self, bytes: u64) {
        self.claimed_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the time is up or all bytes are claimed.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.claimed_bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Whether an answer that came at `now` belongs to the measurement.
    pub fn counts(&self, now: Instant) -> bool {
        self.measured_from <= now && now <= self.until
    }

    /// How long was measured, when the run has ended by now with `last` the last counted answer.
    ///
    /// A run that was ended by the clock measured all of its time, also where the last answers are
    /// long ago: a broker that stalls does not become faster by it.
    fn elapsed(&self, last: Option<Instant>) -> Duration {
        let end =
            if Instant::now() >= self.until { self.until } else { last.unwrap_or(self.until) };
        end.saturating_duration_since(self.measured_from)
    }

    /// Runs `session` until it ends well, opening what it needs anew each time it fails.
    ///
    /// A failure counts as an error of the tally. Nothing is lost but what was in flight.
    ///
    /// # Errors
    /// The last failure, when it went on for longer than the timeout of an answer.
    pub fn persist(
        &self,
        tally: &mut Tally,
        mut session: impl FnMut(&mut Tally) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut failing_since: Option<(Instant, u64)> = None;
        loop {
            let Err(error) = session(tally) else { return Ok(()) };
            let now = Instant::now();
            if self.counts(now) {
                tally.error(&format!("connection: {error}"));
            }
            if self.is_over(now) {
                return Ok(());
            }
            match failing_since {
                Some((since, requests)) if requests == tally.requests => {
                    if now - since > self.timeout {
                        return Err(error).context("no connection any more");
                    }
                }
                _ => failing_since = Some((now, tally.requests)),
            }
            std::thread::sleep(RECONNECT_PAUSE);
        }
    }
}

/// What all threads of a run have seen together.
pub struct Outcome {
    pub tally: Tally,
    pub elapsed: Duration,
    pub cpu_seconds: f64,
}

/// Runs each of `workers` on a thread of its own until the run is over, or until all have ended by
/// themselves where the work `is_finite`: then all of it is measured.
///
/// # Errors
/// The first worker's error; the others have ended by then.
pub fn run_all<W>(args: &RunArgs, is_finite: bool, workers: Vec<W>) -> anyhow::Result<Outcome>
where
    W: FnOnce(&Pace) -> anyhow::Result<Tally> + Send,
{
    let pace = Pace::start(args, is_finite);
    let mut tally = Tally::new();
    let mut cpu_before = 0.0;
    std::thread::scope(|scope| {
        let pace = &pace;
        let threads: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(move || worker(pace))).collect();
        std::thread::sleep(pace.measured_from.saturating_duration_since(Instant::now()));
        cpu_before = cpu_seconds();
        for thread in threads {
            let seen = thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))?;
            tally.add(seen?);
        }
        anyhow::Ok(())
    })?;
    let elapsed = pace.elapsed(tally.last);
    Ok(Outcome { tally, elapsed, cpu_seconds: cpu_seconds() - cpu_before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(bytes_max: u64, duration: Duration) -> Pace {
        let measured_from = Instant::now();
        Pace {
            measured_from,
            until: measured_from + duration,
            bytes_max,
            claimed_bytes: AtomicU64::new(0),
            timeout: Duration::ZERO,
        }
    }

    #[test]
    fn a_run_ends_when_its_bytes_are_claimed_and_goes_on_when_some_come_back() {
        let pace = pace(100, Duration::from_secs(60));
        let now = Instant::now();
        assert!(pace.claim(60, now));
        assert!(pace.claim(60, now));
        assert!(!pace.claim(60, now));
        pace.give_back(60);
        assert!(pace.claim(60, now));
    }

    #[test]
    fn a_run_that_stalls_is_measured_over_its_whole_time() {
        let pace = pace(u64::MAX, Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(2));
        assert!(!pace.claim(1, Instant::now()));
        assert_eq!(pace.elapsed(Some(pace.measured_from)), Duration::from_millis(1));
    }

    #[test]
    fn a_connection_that_never_comes_back_ends_the_run_with_its_error() {
        let pace = pace(u64::MAX, Duration::from_secs(60));
        let mut tally = Tally::new();
        let refused = |_: &mut Tally| Err(std::io::ErrorKind::ConnectionRefused.into());
        assert!(pace.persist(&mut tally, refused).is_err());
        assert_eq!(tally.errors.values().sum::<u64>(), 2);
    }
}
