//! Stamps: when a batch was meant to be sent, written into its first record, so that whoever
//! receives it knows how long it took. One clock: both ends live in this process.
//!
//! **Invariant:** a stamp is read only by the run that wrote it; other records have none.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a stamp: the run's number, and ns since the run began.
pub const STAMP_BYTES: usize = 16;

/// What stands in a batch where its stamp goes until it is sent.
pub const STAMP_MARK: [u8; STAMP_BYTES] = [
    0xd3, 0x1c, 0x9e, 0x55, 0x0a, 0xf7, 0x62, 0xb8, 0x41, 0xec, 0x8d, 0x27, 0x93, 0xfa, 0x1e, 0x6b,
];

/// The stamps of one run, and how many of them are on their way.
pub struct Stamps {
    run: u64,
    began: Instant,
    acknowledged_count: AtomicU64,
    producers_count: AtomicUsize,
}

impl Stamps {
    /// Of a run with so many producers.
    pub fn new(producers_count: usize) -> Stamps {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamps {
            run: since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 48,
            began: Instant::now(),
            acknowledged_count: AtomicU64::new(0),
            producers_count: AtomicUsize::new(producers_count),
        }
    }

    /// The stamp of a batch that was to be sent at `intended`, which is no earlier than the run.
    pub fn write(&self, intended: Instant) -> [u8; STAMP_BYTES] {
        let ns = intended.saturating_duration_since(self.began).as_nanos() as u64;
        let mut stamp = [0; STAMP_BYTES];
        stamp[..8].copy_from_slice(&self.run.to_be_bytes());
        stamp[8..].copy_from_slice(&ns.to_be_bytes());
        stamp
    }

    /// When the record with this value was to be sent, if this run sent it.
    pub fn read(&self, value: &[u8]) -> Option<Instant> {
        let (run, rest) = value.split_first_chunk::<8>()?;
        let ns = rest.first_chunk::<8>()?;
        let is_ours = u64::from_be_bytes(*run) == self.run;
        is_ours.then(|| self.began + Duration::from_nanos(u64::from_be_bytes(*ns)))
    }

    /// Counts batches that the broker has acknowledged: they must arrive.
    pub fn acknowledged(&self, batches_count: u64) {
        self.acknowledged_count.fetch_add(batches_count, Ordering::Relaxed);
    }

    /// Batches that have been acknowledged so far.
    pub fn acknowledged_count(&self) -> u64 {
        self.acknowledged_count.load(Ordering::Acquire)
    }

    /// One producer has ended, and nothing of it is in flight any more.
    pub fn producer_ended(&self) {
        self.producers_count.fetch_sub(1, Ordering::Release);
    }

    /// Whether all producers have ended.
    pub fn is_complete(&self) -> bool {
        self.producers_count.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_its_time_to_its_own_run_only() {
        let stamps = Stamps::new(1);
        let intended = Instant::now() + Duration::from_nanos(1_234_567);
        let mut value = stamps.write(intended).to_vec();
        value.extend(b"the rest of the record");
        assert_eq!(stamps.read(&value), Some(intended));
        assert_eq!(stamps.read(&value[..15]), None);
        value[3] ^= 1;
        assert_eq!(stamps.read(&value), None);
    }
}
