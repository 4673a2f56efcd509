//! Plots over time: throughput, with what was asked and where errors were, and latency.
//!
//! A point is a second, or as many as keep a long run's lines short. Runs are laid over each other
//! by their seconds: latencies of all runs in a second are taken together, rates by their median.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::charts::{Curve, HEADROOM, latency_views, range, rival_keys, titled};
use super::plot::{Group, Ink, Key, Line, Plot, View, Weight};
use crate::compare::{Contender, Spread, Workload, add, part_of, series_of, words};
use crate::figures;
use crate::result::{Asked, Part, ResultError, RunResult, Slice, decode_histogram, new_histogram};

/// Most points on a line: a longer run has several seconds in each.
const POINTS_COUNT_MAX: f64 = 900.0;

/// Shorter ends of a run say little of its rate, s; they are left out where there is more.
const SLICE_SECONDS_MIN: f64 = 0.25;

/// Percentiles that are drawn, with their quantiles.
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];

/// What rivals are shown by at first, of [`PERCENTILES`].
const RIVALS_FIRST: &str = "p99";

/// Values by the index of their point.
type Points = BTreeMap<u32, f64>;

/// What is counted in each second.
struct Measure {
    name: &'static str,
    of: fn(&Slice) -> u64,
    asked: fn(&Asked) -> f64,
    name_y: fn(f64) -> String,
    name_tick: fn(f64) -> String,
}

const MEASURES: [Measure; 3] = [
    Measure {
        name: "MB/s",
        of: |slice| slice.bytes,
        asked: |asked| asked.bytes_per_second,
        name_y: figures::byte_rate,
        name_tick: figures::byte_rate_tick,
    },
    Measure {
        name: "records/s",
        of: |slice| slice.records,
        asked: |asked| asked.records_per_second,
        name_y: figures::records,
        name_tick: figures::rate_tick,
    },
    Measure {
        name: "requests/s",
        of: |slice| slice.requests,
        asked: |asked| asked.requests_per_second,
        name_y: figures::requests,
        name_tick: figures::rate_tick,
    },
];

/// Throughput of a part: what came about beside what was asked.
pub fn throughput(workload: &Workload, part: &str) -> Plot {
    let mut plot = empty_plot(workload, "Throughput over time", part, "");
    plot.keys = rival_keys(workload);
    if let [contender] = workload.contenders.as_slice() {
        let is_sum = contender.runs.len() > 1;
        plot.keys[0].label = if is_sum { "median of the runs" } else { "achieved" }.to_owned();
    }
    let asked = asked_of_all(workload, part);
    if asked.is_some() {
        plot.keys.push(Key { label: "asked".to_owned(), ink: Ink::Aside });
    }
    let has_errors = parts(workload, part).any(|part| part.timeline.iter().any(|s| s.errors > 0));
    if has_errors {
        plot.keys.push(Key { label: "errors".to_owned(), ink: Ink::Warning });
    }
    let is_used = |measure: &&Measure| {
        parts(workload, part).any(|part| part.timeline.iter().any(|s| (measure.of)(s) > 0))
    };
    for measure in MEASURES.iter().filter(is_used) {
        let mut group = measure.group(workload, part);
        let constants = plot.keys.iter().enumerate().skip(workload.contenders.len());
        for (key, it) in constants {
            let (y, name_y): (_, fn(f64) -> String) = match (it.ink, asked) {
                (Ink::Aside, Some(asked)) => {
                    (vec![Some((measure.asked)(asked)); group.grid.len()], measure.name_y)
                }
                _ => (errors(workload, part, &group.grid), figures::rate),
            };
            group.lines.push(Line { key, weight: Weight::Bold, y, name_y });
        }
        let rates = group.lines.iter().filter(|line| plot.keys[line.key].ink != Ink::Warning);
        let rate_max = rates.flat_map(|line| line.y.iter().flatten()).copied().fold(0.0, f64::max);
        let y = Axis::linear(rate_max * HEADROOM, measure.name_tick);
        plot.views.push(View { name: measure.name, group: plot.groups.len(), y });
        plot.groups.push(group);
    }
    plot
}

/// Latency of a series: one contender's percentiles in one plot; of several, each percentile in a
/// view of its own.
///
/// # Errors
/// A histogram cannot be read.
pub fn latency(workload: &Workload, part: &str, series: &str) -> Result<Plot, ResultError> {
    let mut plot = empty_plot(workload, "Latency over time", part, series);
    let bin_s = bin_seconds(workload, part);
    if let [contender] = workload.contenders.as_slice() {
        let runs: Vec<&RunResult> = contender.runs.iter().collect();
        let curves = (0..PERCENTILES.len()).zip(percentiles(&runs, part, series, bin_s)?);
        let bold = |(key, values)| Curve { key, weight: Weight::Bold, values };
        let group = group_of(curves.map(bold).collect(), bin_s, figures::latency);
        plot.keys = (0..PERCENTILES.len())
            .map(|index| Key { label: PERCENTILES[index].0.to_owned(), ink: Ink::Color(index) })
            .collect();
        let (min, max) = range(group.lines.iter());
        plot.views = latency_views(min, max);
        plot.groups.push(group);
        return Ok(plot);
    }
    plot.keys = rival_keys(workload);
    let mut curves: [Vec<Curve<Points>>; PERCENTILES.len()] = Default::default();
    for (key, contender) in workload.contenders.iter().enumerate() {
        for (weight, runs) in sums_and_runs(contender) {
            let found = percentiles(&runs, part, series, bin_s)?;
            for (curves, values) in curves.iter_mut().zip(found) {
                curves.push(Curve { key, weight, values });
            }
        }
    }
    for ((name, _), curves) in PERCENTILES.into_iter().zip(curves) {
        let group = group_of(curves, bin_s, figures::latency);
        let (min, max) = range(group.lines.iter());
        plot.views.push(View { name, group: plot.groups.len(), y: Axis::log_latency(min, max) });
        plot.groups.push(group);
    }
    plot.views.sort_by_key(|view| view.name != RIVALS_FIRST); // stable: the others as they were
    Ok(plot)
}

impl Measure {
    fn group(&self, workload: &Workload, part: &str) -> Group {
        let bin_s = bin_seconds(workload, part);
        let mut curves = Vec::new();
        for (key, contender) in workload.contenders.iter().enumerate() {
            for (weight, runs) in sums_and_runs(contender) {
                let found = runs.iter().filter_map(|run| part_of(run, part));
                let rates: Vec<Points> = found.map(|part| self.rates(part, bin_s)).collect();
                curves.push(Curve { key, weight, values: medians(&rates) });
            }
        }
        group_of(curves, bin_s, self.name_y)
    }

    fn rates(&self, part: &Part, bin_s: f64) -> Points {
        let is_long = |slice: &&Slice| slice.seconds >= SLICE_SECONDS_MIN;
        let has_long = part.timeline.iter().any(|slice| is_long(&slice));
        let mut sums: BTreeMap<u32, (u64, f64)> = BTreeMap::new();
        for slice in part.timeline.iter().filter(|slice| !has_long || is_long(slice)) {
            let sum = sums.entry(bin(slice.start_s, bin_s)).or_default();
            sum.0 += (self.of)(slice);
            sum.1 += slice.seconds;
        }
        let timed = sums.into_iter().filter(|(_, (_, seconds))| *seconds > 0.0);
        timed.map(|(at, (count, seconds))| (at, count as f64 / seconds)).collect()
    }
}

fn empty_plot(workload: &Workload, title: &str, part: &str, series: &str) -> Plot {
    let seconds_max = parts(workload, part).map(|part| part.seconds).fold(0.0, f64::max);
    let bin_s = bin_seconds(workload, part);
    Plot {
        title: titled(workload, title, part, series),
        caption: match bin_s > 1.0 {
            true => format!("{}: a point for each {}.", words(part), figures::seconds(bin_s)),
            false => String::new(),
        },
        x: Axis::time(seconds_max),
        x_title: "time",
        name_x: |second| format!("at {}", figures::seconds(second)),
        keys: Vec::new(),
        groups: Vec::new(),
        views: Vec::new(),
    }
}

/// What was asked, where it was the same of all.
fn asked_of_all<'a>(workload: &'a Workload, part: &'a str) -> Option<&'a Asked> {
    let first = parts(workload, part).find_map(|part| part.asked.as_ref())?;
    let is_first = |part: &Part| {
        let asked = part.asked.as_ref();
        asked.is_some_and(|asked| asked.requests_per_second == first.requests_per_second)
    };
    parts(workload, part).all(is_first).then_some(first)
}

/// The runs of a contender as they are drawn: each faintly, where there are several, and their sum.
fn sums_and_runs(contender: &Contender) -> Vec<(Weight, Vec<&RunResult>)> {
    let all: Vec<&RunResult> = contender.runs.iter().collect();
    let mut drawn = Vec::new();
    if all.len() > 1 {
        drawn.extend(all.iter().map(|run| (Weight::Faint, vec![*run])));
    }
    drawn.push((Weight::Bold, all));
    drawn
}

/// Each of [`PERCENTILES`] over time, of all values that these runs have in the same time.
fn percentiles(
    runs: &[&RunResult],
    part: &str,
    series: &str,
    bin_s: f64,
) -> Result<[Points; PERCENTILES.len()], ResultError> {
    let mut encoded: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for found in runs.iter().filter_map(|run| series_of(part_of(run, part)?, series)) {
        for interval in &found.intervals {
            let texts = encoded.entry(bin(interval.start_s, bin_s)).or_default();
            texts.push(&interval.histogram);
        }
    }
    let mut points: [Points; PERCENTILES.len()] = Default::default();
    let mut sum = new_histogram();
    sum.auto(true); // another version's may reach further
    for (at, texts) in encoded {
        sum.reset(); // one for all: it takes more memory than a long run may have of them
        for text in texts {
            add(&mut sum, &decode_histogram(text)?)?;
        }
        if !sum.is_empty() {
            for ((_, quantile), points) in PERCENTILES.iter().zip(&mut points) {
                points.insert(at, sum.value_at_quantile(*quantile) as f64);
            }
        }
    }
    Ok(points)
}

fn medians(runs: &[Points]) -> Points {
    let mut values: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (at, value) in runs.iter().flatten() {
        values.entry(*at).or_default().push(*value);
    }
    let medians = values.into_iter().filter_map(|(at, v)| Some((at, Spread::of(v)?.median)));
    medians.collect()
}

/// Errors of all runs at each point of the grid; a gap where there were none.
fn errors(workload: &Workload, part: &str, grid: &[f64]) -> Vec<Option<f64>> {
    let bin_s = bin_seconds(workload, part);
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for slice in parts(workload, part).flat_map(|part| &part.timeline) {
        *counts.entry(bin(slice.start_s, bin_s)).or_default() += slice.errors;
    }
    let at = |x: &f64| counts.get(&bin(*x, bin_s)).filter(|count| **count > 0);
    grid.iter().map(|x| at(x).map(|count| *count as f64)).collect()
}

/// The curves over one grid: the middle of each point's time.
fn group_of(curves: Vec<Curve<Points>>, bin_s: f64, name_y: fn(f64) -> String) -> Group {
    let mut bins: Vec<u32> = curves.iter().flat_map(|curve| curve.values.keys()).copied().collect();
    bins.sort_unstable();
    bins.dedup();
    let line = |curve: Curve<Points>| Line {
        key: curve.key,
        weight: curve.weight,
        y: bins.iter().map(|bin| curve.values.get(bin).copied()).collect(),
        name_y,
    };
    let lines = curves.into_iter().map(line).collect();
    let grid = bins.iter().map(|bin| (f64::from(*bin) + 0.5) * bin_s).collect();
    Group { grid, lines }
}

fn parts<'a>(workload: &'a Workload, name: &'a str) -> impl Iterator<Item = &'a Part> {
    let runs = workload.contenders.iter().flat_map(|contender| &contender.runs);
    runs.filter_map(move |run| part_of(run, name))
}

/// Seconds in a point: whole ones.
fn bin_seconds(workload: &Workload, part: &str) -> f64 {
    let seconds_max = parts(workload, part).map(|part| part.seconds).fold(0.0, f64::max);
    (seconds_max / POINTS_COUNT_MAX).ceil().max(1.0)
}

/// Index of the point that a time belongs to. A start may be some ms early.
fn bin(start_s: f64, bin_s: f64) -> u32 {
    ((start_s + 0.05) / bin_s).max(0.0) as u32
}
