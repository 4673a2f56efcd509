//! Which plots a workload gets, and those that do not run over time: latency by percentile, and
//! latency by rate.
//!
//! One contender alone is drawn by its parts and series; several are laid over each other, part by
//! part. Repeated runs are faint behind their sum.

use hdrhistogram::Histogram;

use super::axis::Axis;
use super::over_time;
use super::plot::{Group, Ink, Key, Line, Plot, View, Weight};
use crate::compare::{Contender, SCHEDULE, Workload, part_of, series_of, words};
use crate::figures;
use crate::result::{ResultError, Step, decode_histogram};

/// Points on a percentile line from one nine to the next.
const POINTS_PER_DECADE: f64 = 24.0;

/// Room above the highest value of a linear axis.
pub(super) const HEADROOM: f64 = 1.04;

/// How far below all that is measured a log axis begins, at most, for what is only beside it.
const ASIDE_SHARE_MIN: f64 = 0.2;

/// One thing to draw: its key's index, its weight, and its values.
pub(super) struct Curve<T> {
    pub key: usize,
    pub weight: Weight,
    pub values: T,
}

/// All plots of a workload, in their order.
///
/// # Errors
/// A histogram cannot be read.
pub fn of(workload: &Workload) -> Result<Vec<Plot>, ResultError> {
    let mut plots = match workload.contenders.as_slice() {
        [contender] => single_percentiles(workload, contender)?,
        _ => rival_percentiles(workload)?,
    };
    for part in workload.part_names() {
        plots.push(over_time::throughput(workload, &part));
        for series in workload.series_names(&part) {
            plots.push(over_time::latency(workload, &part, &series)?);
        }
    }
    if workload.contenders.iter().flat_map(|one| &one.runs).any(|run| !run.steps.is_empty()) {
        plots.push(latency_by_rate(workload));
    }
    Ok(plots)
}

/// What a series measures, in a sentence.
fn meaning(series: &str) -> &'static str {
    match series {
        "publish" => "Publish: from when the request was due to be sent to its acknowledgement.",
        "end_to_end" => "End to end: from when the record was due to be sent to its receipt.",
        "fetch" => "Fetch: from the request to its answer.",
        _ => "",
    }
}

// ---- by percentile ----------------------------------------------------------------------------

fn single_percentiles(
    workload: &Workload,
    contender: &Contender,
) -> Result<Vec<Plot>, ResultError> {
    let (mut keys, mut curves, mut captions) = (Vec::new(), Vec::new(), Vec::new());
    let part_names = workload.part_names();
    for part in &part_names {
        let mut names = workload.series_names(part);
        for name in &names {
            if !captions.contains(&meaning(name)) {
                captions.push(meaning(name));
            }
        }
        names.push(SCHEDULE.to_owned());
        for name in names {
            let Some(merged) = contender.merged(part, &name)? else { continue };
            let is_aside = name == SCHEDULE;
            let colors_count = keys.iter().filter(|key: &&Key| key.ink != Ink::Aside).count();
            let what = match name.as_str() {
                SCHEDULE => "schedule: how late the generator itself was".to_owned(),
                name => words(name),
            };
            let label = match part_names.len() {
                1 => what,
                _ => format!("{} · {what}", words(part)),
            };
            let ink = if is_aside { Ink::Aside } else { Ink::Color(colors_count) };
            keys.push(Key { label, ink });
            if !is_aside {
                curves.extend(faint_runs(contender, part, &name, keys.len() - 1)?);
            }
            curves.push(Curve { key: keys.len() - 1, weight: Weight::Bold, values: merged });
        }
    }
    let has_values = !curves.is_empty();
    let plot =
        percentile_plot("Latency by percentile".to_owned(), captions.join(" "), keys, curves);
    Ok(if has_values { vec![plot] } else { Vec::new() })
}

fn rival_percentiles(workload: &Workload) -> Result<Vec<Plot>, ResultError> {
    let mut plots = Vec::new();
    for part in workload.part_names() {
        for name in workload.series_names(&part) {
            let mut curves = Vec::new();
            for (key, contender) in workload.contenders.iter().enumerate() {
                curves.extend(faint_runs(contender, &part, &name, key)?);
                let merged = contender.merged(&part, &name)?;
                let bold = |values| Curve { key, weight: Weight::Bold, values };
                curves.extend(merged.map(bold));
            }
            let title = titled(workload, "Latency by percentile", &part, &name);
            let mut caption = meaning(&name).to_owned();
            if workload.contenders.iter().any(|one| one.runs.len() > 1) {
                caption += " Bold: all runs together; faint: each of them.";
            }
            plots.push(percentile_plot(title, caption, rival_keys(workload), curves));
        }
    }
    Ok(plots)
}

/// The series in each run, where there are several.
fn faint_runs(
    contender: &Contender,
    part: &str,
    series: &str,
    key: usize,
) -> Result<Vec<Curve<Histogram<u64>>>, ResultError> {
    if contender.runs.len() < 2 {
        return Ok(Vec::new());
    }
    let found = contender.runs.iter().filter_map(|run| series_of(part_of(run, part)?, series));
    found
        .map(|series| {
            let values = decode_histogram(&series.histogram)?;
            Ok(Curve { key, weight: Weight::Faint, values })
        })
        .collect()
}

fn percentile_plot(
    title: String,
    caption: String,
    keys: Vec<Key>,
    curves: Vec<Curve<Histogram<u64>>>,
) -> Plot {
    let count_max = curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0) as f64;
    let points_count = (count_max.max(1.0).log10() * POINTS_PER_DECADE).ceil() as i32;
    let grid: Vec<f64> = (0..=points_count)
        .map(|index| 10.0_f64.powf(f64::from(index) / POINTS_PER_DECADE))
        .collect();
    let lines = curves.iter().map(|curve| Line {
        key: curve.key,
        weight: curve.weight,
        y: percentile_line(&curve.values, &grid),
        name_y: figures::latency,
    });
    let group = Group { lines: lines.collect(), grid };
    let inverse_max = group.grid.last().copied().unwrap_or(1.0);
    let is_aside = |line: &&Line| keys[line.key].ink == Ink::Aside;
    let (min, max) = range(group.lines.iter());
    // What is only for comparison may lie below, not press what is measured into half the plot.
    let (min_measured, _) = range(group.lines.iter().filter(|line| !is_aside(line)));
    let min = min.max(min_measured * ASIDE_SHARE_MIN);
    Plot {
        title,
        caption,
        x: Axis::percentile(inverse_max),
        x_title: "percentile",
        name_x: figures::percentile,
        keys,
        views: latency_views(min, max),
        groups: vec![group],
    }
}

/// The latency at each percentile of the grid, up to the first that all values are below.
pub(super) fn percentile_line(histogram: &Histogram<u64>, grid: &[f64]) -> Vec<Option<f64>> {
    let count = histogram.len() as f64;
    let mut is_at_end = histogram.is_empty();
    let line = grid.iter().map(|inverse| {
        if is_at_end {
            return None;
        }
        is_at_end = *inverse >= count;
        Some(histogram.value_at_quantile(1.0 - 1.0 / inverse) as f64)
    });
    line.collect()
}

/// The log axis, on which a factor is a length, and the linear one, on which a stall looks as long
/// as it was.
pub(super) fn latency_views(min: f64, max: f64) -> Vec<View> {
    vec![
        View { name: "log scale", group: 0, y: Axis::log_latency(min, max) },
        View {
            name: "linear scale",
            group: 0,
            y: Axis::linear(max * HEADROOM, figures::latency_tick),
        },
    ]
}

// ---- by rate ----------------------------------------------------------------------------------

/// What `search` tried: the goal's percentile at each rate that was achieved.
fn latency_by_rate(workload: &Workload) -> Plot {
    let steps = || {
        let contenders = workload.contenders.iter().enumerate();
        contenders.flat_map(|(key, contender)| {
            contender.runs.iter().flat_map(move |run| run.steps.iter().map(move |step| (key, step)))
        })
    };
    let has_bytes = steps().any(|(_, step)| step.bytes_per_second > 0.0);
    let rate = |step: &Step| match has_bytes {
        true => step.bytes_per_second,
        false => step.requests_per_second,
    };
    let mut grid: Vec<f64> = steps().map(|(_, step)| rate(step)).collect();
    grid.sort_by(f64::total_cmp);
    grid.dedup();
    let goal_us = steps().map(|(_, step)| step.goal_us).find(|goal| *goal > 0.0);
    let quantile = steps().map(|(_, step)| step.quantile.as_str()).next().unwrap_or("latency");
    let mut keys = rival_keys(workload);
    let mut lines: Vec<Line> = (0..keys.len())
        .map(|key| {
            let at = |rate_here: &f64| {
                let mut here =
                    steps().filter(|(owner, step)| *owner == key && rate(step) == *rate_here);
                here.next().map(|(_, step)| step.latency_us)
            };
            let y = grid.iter().map(at).collect();
            Line { key, weight: Weight::Bold, y, name_y: figures::latency }
        })
        .collect();
    if let Some(goal_us) = goal_us {
        keys.push(Key { label: "goal".to_owned(), ink: Ink::Aside });
        let y = vec![Some(goal_us); grid.len()];
        let key = keys.len() - 1;
        lines.push(Line { key, weight: Weight::Bold, y, name_y: figures::latency });
    }
    let group = Group { grid, lines };
    let (min, max) = range(group.lines.iter());
    let rate_max = group.grid.last().copied().unwrap_or(1.0) * HEADROOM;
    let (x, name_x, x_title): (_, fn(f64) -> String, _) = match has_bytes {
        true => {
            (Axis::rates(rate_max, figures::byte_rate_tick), figures::byte_rate, "rate achieved")
        }
        false => {
            (Axis::rates(rate_max, figures::rate_tick), figures::requests, "requests a second")
        }
    };
    Plot {
        title: format!("{quantile} by rate"),
        caption: "Each rate that the search tried, at what was achieved of it.".to_owned(),
        x,
        x_title,
        name_x,
        keys,
        views: latency_views(min, max),
        groups: vec![group],
    }
}

// ---- what the plots share ---------------------------------------------------------------------

/// A key for each contender, in its colour on the whole page.
pub(super) fn rival_keys(workload: &Workload) -> Vec<Key> {
    let contenders = workload.contenders.iter();
    let key = |one: &Contender| Key { label: one.label.clone(), ink: Ink::Color(one.label_index) };
    contenders.map(key).collect()
}

/// A title that says which part and series it is of, where there are several.
pub(super) fn titled(workload: &Workload, title: &str, part: &str, series: &str) -> String {
    let mut title = title.to_owned();
    if workload.part_names().len() > 1 {
        title += &format!(" · {}", words(part));
    }
    if workload.series_names(part).len() > 1 && !series.is_empty() {
        title += &format!(" · {}", words(series));
    }
    title
}

/// Least and most of some lines; 0 where they have no values.
pub(super) fn range<'a>(lines: impl Iterator<Item = &'a Line>) -> (f64, f64) {
    let values = lines.flat_map(|line| line.y.iter().flatten().copied());
    let (min, max) =
        values.fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
    (if min.is_finite() { min } else { 0.0 }, max)
}
