//! A line on the terminal that tells how a run goes, once a second, while a person watches.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::recorder::Recording;

/// Between two looks. The last second is whole and handed over a little after it has ended.
const INTERVAL: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(250);

/// The line; nothing at all where stderr is no terminal.
pub struct Progress<'a> {
    recordings: &'a [Arc<Recording>],
    pace: &'a Pace,
    is_shown: bool,
    next: Instant,
}

impl<'a> Progress<'a> {
    /// A line about `recordings`.
    pub fn new(recordings: &'a [Arc<Recording>], pace: &'a Pace) -> Progress<'a> {
        let is_shown = std::io::stderr().is_terminal();
        Progress { recordings, pace, is_shown, next: Instant::now() }
    }

    /// Prints the line anew when it is time.
    pub fn show(&mut self) {
        let now = Instant::now();
        if !self.is_shown || now < self.next {
            return;
        }
        let measured_from = self.pace.measured_from();
        let line = if now < measured_from {
            self.next = measured_from.min(now + INTERVAL);
            "warming up".to_owned()
        } else {
            let elapsed = (now - measured_from).as_secs();
            self.next = measured_from + INTERVAL * (elapsed as u32 + 1) + DELAY;
            self.line(now, elapsed)
        };
        // A terminal that is gone is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }

    fn line(&self, now: Instant, elapsed: u64) -> String {
        let until = self.pace.until().saturating_duration_since(self.pace.measured_from());
        let mut line = format!("{elapsed} of {} s", until.as_secs());
        for recording in self.recordings {
            let Some((counts, p99)) = recording.last_second(now, 0.99) else { continue };
            line += &format!(
                " | {} {:.1} MB/s, {} requests/s, p99 {}",
                recording.name(),
                counts.bytes as f64 / 1e6,
                counts.requests,
                time(p99)
            );
            if counts.errors > 0 {
                line += &format!(", {} errors", counts.errors);
            }
        }
        line
    }

    /// Takes the line away again.
    pub fn clear(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A time in the unit that people would use.
fn time(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} µs"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_people_use() {
        assert_eq!(time(999), "999 µs");
        assert_eq!(time(12_345), "12.3 ms");
        assert_eq!(time(61_000_000), "61.0 s");
    }
}
