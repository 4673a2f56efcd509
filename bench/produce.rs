//! Producing: what the flags ask for, as a crew of producers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use crate::arguments::{LoadArgs, ProduceArgs};
use crate::job::{Crew, Job, Work};
use crate::load::{Batch, Recipe, build_batches};
use crate::producer::{Plan, Producer, Spread};
use crate::recorder::{PUBLISH, SCHEDULE};
use crate::result::Asked;
use crate::stamp::Stamps;
use crate::topic::{self, Topic};
use crate::units::Rate;

/// Makes `ringmain-bench produce` ready to run.
///
/// # Errors
/// The topic cannot be made, or the flags do not fit each other or the topic.
pub fn prepare(args: &ProduceArgs) -> anyhow::Result<Job> {
    let topic = topic::prepare(&args.target)?;
    let (crew, _) = crew("produce", args, &topic, None)?;
    Ok(Job {
        bounds: args.run.bounds(),
        crews: vec![crew],
        broker_pid: args.run.report.broker_pid,
        cpus: args.run.cpus.clone(),
        may_miss_rate: args.load.allow_missed_rate,
        check: None,
    })
}

/// A producer a connection; with `stamps` they write into each batch when it was to be sent. With
/// it, how the records of a batch come where that is not at once.
///
/// # Errors
/// The flags do not fit each other or the topic.
pub fn crew(
    name: &'static str,
    args: &ProduceArgs,
    topic: &Topic,
    stamps: Option<Arc<Stamps>>,
) -> anyhow::Result<(Crew, Option<Spread>)> {
    let connections_count = usize::from(args.run.connections);
    let leaders_count = topic.leaders.len();
    ensure!(
        connections_count >= leaders_count,
        "{leaders_count} brokers lead partitions of the topic: use as many --connections at least"
    );
    let is_stamped = stamps.is_some();
    let (batches, pacing) = batches_and_pacing(&args.load, connections_count, is_stamped)?;
    let plan = Plan {
        topic,
        batches: &batches,
        acks: args.load.acks,
        is_idempotent: args.load.idempotence,
        stays_awake: args.load.busy_poll,
        connections_count,
        in_flight_max: usize::from(args.run.in_flight),
        timeout: args.run.timeout,
        requests_per_second: pacing.asked.as_ref().map(|asked| asked.requests_per_second),
        spread: pacing.spread,
        stamps,
    };
    let producers = (0..connections_count)
        .map(|index| Producer::new(&plan, index))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let work = producers
        .into_iter()
        .map(|producer| -> Work { Box::new(move |pace, recorder| producer.run(pace, recorder)) });
    let series: &'static [&'static str] = match pacing.asked {
        Some(_) => &[PUBLISH, SCHEDULE],
        None => &[PUBLISH],
    };
    let work = work.collect();
    Ok((Crew { name, series, rate: pacing.asked, is_finite: false, work }, pacing.spread))
}

/// The rate in requests a second.
///
/// # Errors
/// The flags do not fit each other.
pub fn requests_per_second(args: &LoadArgs, rate: Rate) -> anyhow::Result<f64> {
    let args = LoadArgs { rate: Some(rate), ..args.clone() };
    let (_, pacing) = batches_and_pacing(&args, 1, false)?;
    Ok(pacing.asked.map_or(0.0, |asked| asked.requests_per_second))
}

/// How fast requests are to be sent, and how old their records are by then.
struct Pacing {
    asked: Option<Asked>,
    spread: Option<Spread>,
}

/// The batches of a request, which a fixed rate with `--linger` may want smaller than they could
/// be.
fn batches_and_pacing(
    args: &LoadArgs,
    connections_count: usize,
    is_stamped: bool,
) -> anyhow::Result<(Vec<Arc<Batch>>, Pacing)> {
    let build = |records_max: u64| build_batches(&Recipe { args, records_max, is_stamped });
    let mut batches = build(u64::MAX)?;
    let Some(rate) = args.rate else {
        return Ok((batches, Pacing { asked: None, spread: None }));
    };
    let mut asked = asked(rate, &batches);
    let Some(linger) = args.linger else {
        return Ok((batches, Pacing { asked: Some(asked), spread: None }));
    };
    let spacing = Duration::from_secs_f64(connections_count as f64 / asked.records_per_second);
    let full_count = batches[0].records_count;
    let records_count = records_in_time(linger, spacing).min(full_count);
    if records_count < full_count {
        let records_per_second = asked.records_per_second;
        batches = build(records_count)?;
        asked = self::asked(Rate::Records(records_per_second), &batches);
    }
    let last_wait = spacing * (records_count as u32 - 1);
    let wait = if records_count < full_count { linger } else { last_wait };
    Ok((batches, Pacing { asked: Some(asked), spread: Some(Spread { spacing, wait }) }))
}

/// Records that come while the first of them waits for `linger`, itself included.
fn records_in_time(linger: Duration, spacing: Duration) -> u64 {
    (linger.as_nanos() / spacing.as_nanos().max(1)) as u64 + 1
}

/// The rate in every unit, for requests of these batches.
fn asked(rate: Rate, batches: &[Arc<Batch>]) -> Asked {
    let bytes: u64 = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
    let records: u64 = batches.iter().map(|batch| batch.records_count).sum();
    let requests_per_second = match rate {
        Rate::Bytes(rate) => rate / bytes as f64,
        Rate::Requests(rate) => rate,
        Rate::Records(rate) => rate / records as f64,
    };
    Asked {
        requests_per_second,
        bytes_per_second: requests_per_second * bytes as f64,
        records_per_second: requests_per_second * records as f64,
        achieved_share: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::load_args;

    #[test]
    fn a_rate_is_the_same_in_every_unit() {
        let args = load_args(&["--batch-bytes=16K", "--request-bytes=16K", "--rate=20MB"]);
        let (batches, pacing) = batches_and_pacing(&args, 4, false).expect("fits");
        let asked = pacing.asked.expect("there is a rate");
        assert_eq!(asked.bytes_per_second, 20e6);
        let batch = &batches[0];
        assert_eq!(asked.requests_per_second, 20e6 / batch.bytes.len() as f64);
        let records_per_second = asked.requests_per_second * batch.records_count as f64;
        assert_eq!(asked.records_per_second, records_per_second);
        assert!(pacing.spread.is_none());
    }

    /// Goal: batches are as a lingering client would fill them. Method: a rate at which the time
    /// ends first, and one at which they are full before.
    #[test]
    fn a_batch_is_sent_when_it_is_full_or_its_time_is_over() {
        let flags = |rate: &'static str| {
            load_args(&["--record-bytes=1K", "--batch-bytes=16K", "--linger=5ms", rate])
        };
        let (batches, pacing) =
            batches_and_pacing(&flags("--rate=1000rec"), 1, false).expect("fits");
        assert_eq!((batches.len(), batches[0].records_count), (1, 6), "0 to 5 ms, one a ms");
        let asked = pacing.asked.expect("there is a rate");
        assert!((asked.records_per_second - 1000.0).abs() < 1e-6);
        assert!((asked.requests_per_second - 1000.0 / 6.0).abs() < 1e-6);
        let spread = pacing.spread.expect("records come one by one");
        assert_eq!(spread.spacing, Duration::from_millis(1));
        assert_eq!(spread.wait, Duration::from_millis(5));

        let (batches, pacing) =
            batches_and_pacing(&flags("--rate=10krec"), 1, false).expect("fits");
        let full_count = batches[0].records_count;
        assert!((15..=16).contains(&full_count), "{full_count}");
        let spread = pacing.spread.expect("records come one by one");
        assert_eq!(spread.wait, Duration::from_micros(100) * (full_count as u32 - 1));
    }
}
