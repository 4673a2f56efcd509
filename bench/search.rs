//! The highest rate at which the latency of producing holds a goal.
//!
//! Rates are tried one after the other, each a run of its own: doubled while they hold, halved
//! while they do not, and then the middle of the highest that held and the lowest that did not.

use anyhow::{bail, ensure};

use crate::arguments::{ProduceArgs, SearchArgs};
use crate::job::ACHIEVED_SHARE_MIN;
use crate::outcome::{Origin, now_ms, publish};
use crate::pace::stopped_at;
use crate::produce;
use crate::result::{RunResult, Step, decode_histogram};
use crate::units::Rate;

/// Share of what goes without a rate that is tried first.
const FIRST_SHARE: f64 = 0.5;

/// A quantile of the latency that may take so long.
struct Goal {
    name: &'static str,
    quantile: f64,
    us: f64,
}

/// Between which rates the highest lies that holds, requests a second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bracket {
    held: f64,
    missed: f64,
}

impl Bracket {
    /// Nothing is known yet.
    const OPEN: Bracket = Bracket { held: 0.0, missed: f64::INFINITY };

    /// With what came of trying `rate`.
    fn with(self, rate: f64, is_held: bool) -> Bracket {
        match is_held {
            true => Bracket { held: rate.max(self.held), ..self },
            false => Bracket { missed: rate.min(self.missed), ..self },
        }
    }

    /// The rate to try after `rate`; `None` when the highest is known to `tolerance` of itself.
    fn next(self, rate: f64, tolerance: f64) -> Option<f64> {
        if self.missed.is_infinite() {
            Some(rate * 2.0)
        } else if self.held == 0.0 {
            Some(rate / 2.0)
        } else {
            let is_known = self.missed <= self.held * (1.0 + tolerance);
            (!is_known).then(|| (self.held * self.missed).sqrt())
        }
    }
}

/// Runs `ringmain-bench search`.
///
/// # Errors
/// There is no goal or more than one, or a run cannot go on.
pub fn run(args: &SearchArgs, origin: &Origin) -> anyhow::Result<()> {
    let goal = goal(args)?;
    let mut produce_args = args.produce.clone();
    let mut rate = first_rate(&mut produce_args, origin)?;
    let mut bracket = Bracket::OPEN;
    let (mut steps, mut best, mut last): (Vec<Step>, Option<RunResult>, _) = (vec![], None, None);
    for _ in 0..args.steps {
        produce_args.load.rate = Some(Rate::Requests(rate));
        let result = measure(&produce_args, origin)?;
        produce_args.target.recreate = false; // only once
        if result.ended_early {
            last.get_or_insert(result);
            break;
        }
        let step = step(&goal, &result)?;
        say(&step);
        bracket = bracket.with(rate, step.held);
        if step.held && best.as_ref().is_none_or(|best: &RunResult| best.requests < result.requests)
        {
            best = Some(result.clone());
        }
        last = Some(result);
        steps.push(step);
        match bracket.next(rate, args.tolerance) {
            Some(next) => rate = next,
            None => break,
        }
    }
    let is_found = best.is_some();
    let Some(mut result) = best.or(last) else { bail!("no rate was tried") };
    result.steps = steps;
    result.ended_early = stopped_at().is_some();
    if !is_found {
        result.warnings.push(format!(
            "no rate that was tried holds {} of {:.0} µs: these are the figures of the last",
            goal.name, goal.us
        ));
    }
    publish(&[result], &args.produce.run.report)
}

fn goal(args: &SearchArgs) -> anyhow::Result<Goal> {
    let goals = [("p50", 0.5, args.p50), ("p99", 0.99, args.p99), ("p99.9", 0.999, args.p99_9)];
    let given: Vec<Goal> = goals
        .into_iter()
        .filter_map(|(name, quantile, time)| {
            let us = time?.as_secs_f64() * 1e6;
            Some(Goal { name, quantile, us })
        })
        .collect();
    ensure!(given.len() == 1, "give one goal: --p50, --p99 or --p99.9, such as --p99 5ms");
    Ok(given.into_iter().next().expect("there is one"))
}

/// The first rate to try, requests a second. The topic is there afterwards.
fn first_rate(args: &mut ProduceArgs, origin: &Origin) -> anyhow::Result<f64> {
    if let Some(Rate::Requests(rate)) = args.load.rate {
        return Ok(rate);
    }
    let given = args.load.rate.take();
    if let Some(rate) = given {
        return produce::requests_per_second(&args.load, rate);
    }
    ensure!(args.load.linger.is_none(), "--linger needs a --rate to begin with");
    let result = measure(args, origin)?;
    args.target.recreate = false;
    ensure!(result.requests > 0, "nothing was acknowledged without a rate");
    eprintln!(
        "without a rate: {:.0} requests/s, {:.1} MB/s",
        result.requests_per_second,
        result.bytes_per_second / 1e6
    );
    Ok(result.requests_per_second * FIRST_SHARE)
}

fn measure(args: &ProduceArgs, origin: &Origin) -> anyhow::Result<RunResult> {
    let started_at_ms = now_ms();
    let measured = produce::prepare(args)?.measure()?;
    Ok(origin.clone().result(&args.run.report, started_at_ms, measured))
}

fn step(goal: &Goal, result: &RunResult) -> anyhow::Result<Step> {
    let asked = result.asked.clone().unwrap_or_default();
    let series = result.parts.iter().find_map(|part| part.series.first());
    let histogram = decode_histogram(series.map_or("", |series| &series.histogram))?;
    let latency_us = histogram.value_at_quantile(goal.quantile) as f64;
    let is_achieved = asked.achieved_share >= ACHIEVED_SHARE_MIN && result.errors == 0;
    Ok(Step {
        asked,
        bytes_per_second: result.bytes_per_second,
        requests_per_second: result.requests_per_second,
        quantile: goal.name.to_owned(),
        latency_us,
        goal_us: goal.us,
        held: is_achieved && latency_us <= goal.us,
    })
}

fn say(step: &Step) {
    eprintln!(
        "{:.0} requests/s, {:.1} MB/s: {} {:.0} µs, achieved {:.1} %: {}",
        step.asked.requests_per_second,
        step.asked.bytes_per_second / 1e6,
        step.quantile,
        step.latency_us,
        step.asked.achieved_share * 100.0,
        if step.held { "held" } else { "not held" }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates that are tried against a broker that holds all up to `limit`.
    fn tried(first: f64, limit: f64, tolerance: f64) -> Vec<f64> {
        let (mut rates, mut bracket) = (vec![first], Bracket::OPEN);
        loop {
            let rate = *rates.last().expect("one at least");
            bracket = bracket.with(rate, rate <= limit);
            match bracket.next(rate, tolerance) {
                Some(next) => rates.push(next),
                None => return rates,
            }
        }
    }

    #[test]
    fn the_search_ends_just_below_the_highest_rate_that_holds() {
        for (first, limit) in [(100.0, 5000.0), (100_000.0, 5000.0), (5000.0, 5000.0)] {
            let rates = tried(first, limit, 0.05);
            let best = rates.iter().copied().filter(|rate| *rate <= limit).fold(0.0, f64::max);
            assert!(best <= limit && best >= limit / 1.06, "{best} of {limit}: {rates:?}");
            assert!(rates.len() <= 12, "{rates:?}");
        }
    }
}
