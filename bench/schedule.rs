//! A fixed rate: when each request of a connection is due, whatever the broker does.
//!
//! The intended times are laid out before the run: request n of a connection is due at a time that
//! no answer moves. So a broker that stalls is charged with every request that it kept waiting, and
//! not only with those that were in flight (the error that is called coordinated omission).
//! **Invariant:** due times are evenly spaced, and so are those of all connections together.

use std::time::{Duration, Instant};

/// The due times of one connection of several that share a rate.
#[derive(Clone, Debug)]
pub struct Schedule {
    first: Duration,
    interval_ns: f64,
}

impl Schedule {
    /// Of the connection at `index` of `connections_count`, which send `requests_per_second`
    /// together, in turn.
    pub fn new(requests_per_second: f64, connections_count: usize, index: usize) -> Schedule {
        assert!(requests_per_second > 0.0 && index < connections_count);
        let turn_ns = 1e9 / requests_per_second;
        Schedule {
            first: Duration::from_nanos((turn_ns * index as f64) as u64),
            interval_ns: turn_ns * connections_count as f64,
        }
    }

    /// When the `number`th request is due, counted from 0 at `began`.
    pub fn due(&self, began: Instant, number: u64) -> Instant {
        began + self.first + Duration::from_nanos((number as f64 * self.interval_ns) as u64)
    }

    /// How many requests are due within a microsecond, 1 at least.
    pub fn count_per_microsecond(&self) -> u64 {
        ((1e3 / self.interval_ns) as u64).max(1)
    }

    /// The first request that is due at `at` or later.
    pub fn number_at(&self, began: Instant, at: Instant) -> u64 {
        let since = at.saturating_duration_since(began + self.first);
        let mut number = (since.as_nanos() as f64 / self.interval_ns) as u64;
        while number > 0 && self.due(began, number - 1) >= at {
            number -= 1; // the division was rounded
        }
        while self.due(began, number) < at {
            number += 1;
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: all connections together are as even as one. Method: four that share 1000 a second.
    #[test]
    fn connections_take_turns_at_even_distances() {
        let began = Instant::now();
        let schedules: Vec<Schedule> =
            (0..4).map(|index| Schedule::new(1000.0, 4, index)).collect();
        let mut due: Vec<Instant> = schedules
            .iter()
            .flat_map(|schedule| (0..250).map(|number| schedule.due(began, number)))
            .collect();
        due.sort();
        for (index, at) in due.into_iter().enumerate() {
            assert_eq!(at - began, Duration::from_millis(index as u64));
        }
    }

    /// Goal: what lies within a microsecond is counted together. Method: rates below and above one.
    #[test]
    fn only_rates_above_one_a_microsecond_have_several_in_it() {
        let count = |rate| Schedule::new(rate, 2, 0).count_per_microsecond();
        assert_eq!([1.0, 2e6, 1e7, 1e9].map(count), [1, 1, 5, 500]);
    }

    #[test]
    fn the_number_at_a_time_is_the_first_that_is_not_before_it() {
        let began = Instant::now();
        for rate in [3.0, 1_000.0, 333_333.0] {
            let schedule = Schedule::new(rate, 3, 2);
            for number in [0, 1, 7, 100_000, 9_999_999] {
                let due = schedule.due(began, number);
                assert_eq!(schedule.number_at(began, due), number);
                assert_eq!(schedule.number_at(began, due + Duration::from_nanos(1)), number + 1);
            }
            assert_eq!(schedule.number_at(began, began), 0);
        }
    }
}
