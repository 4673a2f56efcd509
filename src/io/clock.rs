//! The time: the machine's, or the simulation's.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix time at which every simulation begins, ms: a round moment in 2023.
pub(super) const SIMULATION_START_MS: i64 = 1_700_000_000_000;

/// Where a shard reads the time. Cheap to clone and to ask.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    Real { start: Instant },
    Sim { nanoseconds: Rc<Cell<u64>> },
}

impl Clock {
    pub(super) fn real() -> Clock {
        Clock(Kind::Real { start: Instant::now() })
    }

    pub(super) fn simulated(nanoseconds: Rc<Cell<u64>>) -> Clock {
        Clock(Kind::Sim { nanoseconds })
    }

    /// Unix time, ms: what records and retention go by; may jump when the machine's clock is set.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Kind::Real { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Kind::Sim { nanoseconds } => {
                SIMULATION_START_MS + (nanoseconds.get() / 1_000_000).cast_signed()
            }
        }
    }

    /// Time since the shard's start: never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Kind::Real { start } => start.elapsed(),
            Kind::Sim { nanoseconds } => Duration::from_nanos(nanoseconds.get()),
        }
    }
}
