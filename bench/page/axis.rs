//! Axes: where a value lies between the two ends, and which values get a line and a name.
//!
//! **Invariant:** positions are 0 at the left or bottom end and 1 at the other, whatever the value.

use crate::figures;

/// Lines across a linear axis, about.
const LINEAR_TICKS_COUNT: f64 = 5.0;

/// Names along a time axis, about.
const TIME_TICKS_COUNT: f64 = 8.0;

/// Names below a plot that fit on a phone side by side.
const NARROW_TICKS_COUNT: usize = 5;

/// Decades on a percentile axis up to which there is room to name 50 % between 0 and 90.
const DECADES_COUNT_WITH_HALF: f64 = 4.5;

/// Share of a log axis that a line needs from the next so that their names do not touch.
const LOG_GAP_MIN: f64 = 0.055;

/// A line across the plot.
#[derive(Debug, PartialEq)]
pub struct Tick {
    /// Where, 0 to 1.
    pub at: f64,
    /// Empty for a line without a name.
    pub label: String,
    /// Whether a phone shows the name, too.
    pub is_wide_only: bool,
}

/// One axis with its lines.
pub struct Axis {
    scale: Scale,
    pub ticks: Vec<Tick>,
}

enum Scale {
    Linear { min: f64, max: f64 },
    Log { min: f64, max: f64 },
}

impl Scale {
    fn position(&self, value: f64) -> f64 {
        let at = match *self {
            Scale::Linear { min, max } => (value - min) / (max - min),
            Scale::Log { min, max } => (value.max(min) / min).ln() / (max / min).ln(),
        };
        at.clamp(0.0, 1.0)
    }
}

impl Axis {
    /// Where `value` lies, 0 to 1; what is beyond an end lies on it.
    pub fn position(&self, value: f64) -> f64 {
        self.scale.position(value)
    }

    /// Values from 0 to at least `max`, named by `name`.
    pub fn linear(max: f64, name: impl Fn(f64) -> String) -> Axis {
        let step = nice_step(max / LINEAR_TICKS_COUNT);
        let steps_count = (max / step - 1e-9).ceil().max(1.0) as usize;
        let scale = Scale::Linear { min: 0.0, max: steps_count as f64 * step };
        let values = (0..=steps_count).map(|index| index as f64 * step);
        let ticks = values.map(|value| tick(scale.position(value), name(value))).collect();
        Axis { scale, ticks }
    }

    /// Latencies in µs that include `min` to `max`, so that a factor is a length.
    pub fn log_latency(min: f64, max: f64) -> Axis {
        let min = log_floor(min.max(1.0));
        let max = log_ceiling(max.max(min * 2.0));
        let scale = Scale::Log { min, max };
        let mut ticks: Vec<Tick> = Vec::new();
        let decades = (min.log10() - 1e-9).floor() as i32..=(max.log10() + 1e-9).ceil() as i32;
        // The coarse ones first: the finer ones get names where there is still room.
        for factors in [&[1.0][..], &[2.0, 5.0], &[3.0, 7.0]] {
            for decade in decades.clone() {
                for value in factors.iter().map(|factor| factor * 10.0_f64.powi(decade)) {
                    if value < min * 0.999 || value > max * 1.001 {
                        continue;
                    }
                    let at = scale.position(value);
                    let has_room = ticks
                        .iter()
                        .all(|other| other.label.is_empty() || (other.at - at).abs() > LOG_GAP_MIN);
                    let is_fine = factors[0] > 2.0;
                    if has_room && (!is_fine || max / min < 12.0) {
                        ticks.push(tick(at, figures::latency_tick(value)));
                    } else if !is_fine {
                        ticks.push(tick(at, String::new()));
                    }
                }
            }
        }
        ticks.sort_by(|a, b| a.at.total_cmp(&b.at));
        Axis { scale, ticks }
    }

    /// Percentiles by `1 / (1 - quantile)` on the usual log scale: 0, 90, 99, 99.9 % and so on, up
    /// to `inverse_max`, at equal distances.
    pub fn percentile(inverse_max: f64) -> Axis {
        let max = inverse_max.max(100.0);
        let scale = Scale::Log { min: 1.0, max };
        let decades = max.log10();
        let mut inverses: Vec<f64> =
            (0..=(decades + 1e-9) as i32).map(|decade| 10.0_f64.powi(decade)).collect();
        if decades < DECADES_COUNT_WITH_HALF {
            inverses.insert(1, 2.0);
        }
        let mut ticks: Vec<Tick> = inverses
            .iter()
            .map(|inverse| tick(scale.position(*inverse), figures::percentile(*inverse)))
            .collect();
        thin_out(&mut ticks);
        if inverses[1] == 2.0 {
            ticks[1].is_wide_only = true;
        }
        Axis { scale, ticks }
    }

    /// Seconds from 0 to `max`.
    pub fn time(max: f64) -> Axis {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = nice_step(max / TIME_TICKS_COUNT);
        let scale = Scale::Linear { min: 0.0, max };
        let values = (0..).map(|index| f64::from(index) * step).take_while(|v| *v <= max * 1.0001);
        let mut ticks: Vec<Tick> =
            values.map(|value| tick(scale.position(value), figures::seconds(value))).collect();
        thin_out(&mut ticks);
        Axis { scale, ticks }
    }

    /// Rates from 0 to `max`, named by `name`, that lie side by side below a plot.
    pub fn rates(max: f64, name: impl Fn(f64) -> String) -> Axis {
        let mut axis = Axis::linear(max, name);
        thin_out(&mut axis.ticks);
        axis
    }
}

fn tick(at: f64, label: String) -> Tick {
    Tick { at, label, is_wide_only: false }
}

/// Leaves every second name, or third, to a phone.
fn thin_out(ticks: &mut [Tick]) {
    let every = ticks.len().div_ceil(NARROW_TICKS_COUNT).max(1);
    for (index, tick) in ticks.iter_mut().enumerate() {
        tick.is_wide_only = !index.is_multiple_of(every);
    }
}

/// The next of 1, 2, 2.5, 5, 10 and so on from `step` upwards.
fn nice_step(step: f64) -> f64 {
    if step <= 0.0 || !step.is_finite() {
        return 1.0;
    }
    let power = 10.0_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= step * 0.9999);
    factor.unwrap_or(10.0) * power
}

/// The next of 1, 2, 5, 10 and so on from `value` downwards.
fn log_floor(value: f64) -> f64 {
    let power = 10.0_f64.powf((value.log10() + 1e-9).floor());
    let factors = [5.0, 2.0, 1.0];
    factors.into_iter().find(|factor| factor * power <= value * 1.0001).unwrap_or(1.0) * power
}

/// The next of 1, 2, 5, 10 and so on from `value` upwards.
fn log_ceiling(value: f64) -> f64 {
    let power = 10.0_f64.powf((value.log10() + 1e-9).floor());
    let factors = [1.0, 2.0, 5.0];
    factors.into_iter().find(|factor| factor * power >= value * 0.9999).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_0_and_ends_at_a_round_value() {
        let axis = Axis::linear(345.0, |value| value.to_string());
        assert_eq!(labels(&axis), ["0", "100", "200", "300", "400"]);
        assert_eq!((axis.position(0.0), axis.position(200.0), axis.position(1e9)), (0.0, 0.5, 1.0));
        assert_eq!(labels(&Axis::linear(0.0, |value| value.to_string())), ["0", "1"]);
        let axis = Axis::linear(1e-9, |value| value.to_string());
        assert!(axis.ticks.len() > 1 && axis.ticks.len() < 9);
    }

    #[test]
    fn a_percentile_axis_puts_each_nine_at_the_same_distance() {
        let axis = Axis::percentile(10_000.0);
        assert_eq!(labels(&axis), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        let at: Vec<f64> = [1.0, 10.0, 100.0, 1e3, 1e4].map(|x| axis.position(x)).into();
        assert!(at.windows(2).all(|pair| (pair[1] - pair[0] - 0.25).abs() < 1e-9), "{at:?}");
        assert_eq!(labels(&Axis::percentile(1.0)), ["0 %", "50 %", "90 %", "99 %"]);
        let axis = Axis::percentile(3e7);
        let shown = axis.ticks.iter().filter(|tick| !tick.is_wide_only).count();
        assert!(shown <= NARROW_TICKS_COUNT, "{shown}");
    }

    /// Goal: names do not touch, over a part of a decade as over seven. Method: look at their gaps.
    #[test]
    fn a_latency_axis_has_room_between_its_names() {
        for (min, max) in [(90.0, 120.0), (87.0, 640.0), (100.0, 47_000.0), (1.0, 3.6e9)] {
            let axis = Axis::log_latency(min, max);
            assert!(axis.position(min) < 0.5 && axis.position(max) > 0.5);
            let named: Vec<f64> = axis
                .ticks
                .iter()
                .filter(|tick| !tick.label.is_empty())
                .map(|tick| tick.at)
                .collect();
            assert!(named.len() >= 2, "{min} to {max}: {:?}", labels(&axis));
            assert!(named.windows(2).all(|pair| pair[1] - pair[0] > LOG_GAP_MIN));
        }
        let axis = Axis::log_latency(232.0, 6_400.0);
        assert_eq!(labels(&axis), ["200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms"]);
        assert_eq!(labels(&Axis::log_latency(0.0, 0.0)), ["1 µs", "2 µs"]);
    }

    #[test]
    fn a_time_axis_ends_with_the_data() {
        assert_eq!(labels(&Axis::time(2.0)).len(), 9);
        assert_eq!(
            labels(&Axis::time(30.0)),
            ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]
        );
        assert_eq!(Axis::time(2.0).position(2.0), 1.0);
        assert!(Axis::time(0.0).ticks.len() > 1);
    }
}
