//! Producers with consumers that follow them, in one process and so on one clock: `end-to-end`, and
//! `mixed`, where others catch up from the beginning meanwhile.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, ensure};

use crate::arguments::{EndToEndArgs, From, MixedArgs, ProduceArgs, TailArgs};
use crate::consumer::{Arrivals, Plan};
use crate::fetch::{connections, offsets};
use crate::job::{Crew, Job};
use crate::pace::Bounds;
use crate::produce;
use crate::producer::Spread;
use crate::recorder::{END_TO_END, FETCH};
use crate::stamp::Stamps;
use crate::topic::{self, Topic};

/// Makes `ringmain-bench end-to-end` ready to run.
///
/// # Errors
/// The topic cannot be made, or the flags do not fit each other or the topic.
pub fn prepare(args: &EndToEndArgs) -> anyhow::Result<Job> {
    ensure!(args.tail.consumers > 0, "without --consumers nothing arrives: use `produce`");
    job_of(args, &topic::prepare(&args.produce.target)?)
}

/// The same for a topic that was found.
///
/// # Errors
/// The flags do not fit each other or the topic.
pub fn job_of(args: &EndToEndArgs, topic: &Topic) -> anyhow::Result<Job> {
    let followed = Followed::new(&args.produce, &args.tail, topic)?;
    let crews = vec![followed.tail, followed.producers];
    job(&args.produce, crews, followed.arrivals)
}

/// Makes `ringmain-bench mixed` ready to run. With `--history` it writes that first.
///
/// # Errors
/// The topic cannot be made or filled, or the flags do not fit each other or the topic.
pub fn prepare_mixed(args: &MixedArgs) -> anyhow::Result<Job> {
    let mut topic = topic::prepare(&args.produce.target)?;
    if let Some(history_bytes) = args.history {
        fill(&args.produce, &topic, history_bytes).context("writing the history")?;
        topic = topic::look_at(&args.produce.target)?;
    }
    let followed = Followed::new(&args.produce, &args.tail, &topic)?;
    let mut crews = vec![followed.producers];
    if args.tail.consumers > 0 {
        crews.push(followed.tail);
    }
    if args.catch_up > 0 {
        crews.push(catch_up(args, &topic));
    }
    job(&args.produce, crews, followed.arrivals)
}

fn job(args: &ProduceArgs, crews: Vec<Crew>, arrivals: Vec<Arrivals>) -> anyhow::Result<Job> {
    Ok(Job {
        bounds: args.run.bounds(),
        crews,
        broker_pid: args.run.report.broker_pid,
        cpus: args.run.cpus.clone(),
        may_miss_rate: args.load.allow_missed_rate,
        check: Some(Box::new(move || arrivals.iter().filter_map(missing).collect())),
    })
}

/// What to say where something was acknowledged and did not arrive.
fn missing(arrivals: &Arrivals) -> Option<String> {
    let acknowledged_count = arrivals.stamps.acknowledged_count();
    let missing_count = acknowledged_count.saturating_sub(arrivals.received());
    (missing_count > 0).then(|| {
        format!(
            "{missing_count} of {acknowledged_count} batches that were acknowledged did not reach \
             a consumer: the latencies are of those that did"
        )
    })
}

/// Producers, and consumers that follow them.
struct Followed {
    producers: Crew,
    tail: Crew,
    arrivals: Vec<Arrivals>,
}

impl Followed {
    fn new(args: &ProduceArgs, tail: &TailArgs, topic: &Topic) -> anyhow::Result<Followed> {
        let stamps = Arc::new(Stamps::new(usize::from(args.run.connections)));
        let is_followed = tail.consumers > 0;
        let written = is_followed.then(|| stamps.clone());
        let (producers, spread) = produce::crew("produce", args, topic, written)?;
        let arrivals: Vec<Arrivals> =
            (0..tail.consumers).map(|_| arrivals(&stamps, spread)).collect();
        let offsets = offsets(topic, From::Latest, true);
        let work = arrivals.iter().flat_map(|arrivals| {
            let plan = Plan {
                in_flight_max: 1, // an answer that waits for data holds up those behind it
                wait: tail.fetch_wait,
                request_bytes: tail.fetch_bytes,
                partition_bytes: tail.fetch_bytes,
                arrivals: Some(arrivals.clone()),
                ..plan(args)
            };
            connections(&plan, topic, &offsets, 1)
        });
        let work = work.collect();
        let tail = Crew { name: "tail", series: &[END_TO_END], rate: None, is_finite: false, work };
        Ok(Followed { producers, tail, arrivals })
    }
}

fn arrivals(stamps: &Arc<Stamps>, spread: Option<Spread>) -> Arrivals {
    let received_count = Arc::new(AtomicU64::new(0));
    Arrivals { stamps: stamps.clone(), spread, received_count }
}

/// What all consumers beside these producers have in common.
fn plan(args: &ProduceArgs) -> Plan {
    Plan {
        in_flight_max: usize::from(args.run.in_flight),
        timeout: args.run.timeout,
        wait: std::time::Duration::from_millis(500),
        request_bytes: 1 << 20,
        partition_bytes: 1 << 20,
        is_verified: false,
        is_repeated: false,
        waits_for_measurement: false,
        arrivals: None,
    }
}

/// Consumers that read what was there at the start, from the beginning of the measurement on.
fn catch_up(args: &MixedArgs, topic: &Topic) -> Crew {
    let plan = Plan {
        request_bytes: args.tail.fetch_bytes,
        partition_bytes: args.tail.fetch_bytes,
        is_repeated: args.catch_up_repeat,
        waits_for_measurement: true,
        ..plan(&args.produce)
    };
    let offsets = offsets(topic, From::Earliest, false);
    let work = (0..args.catch_up).flat_map(|_| connections(&plan, topic, &offsets, 1)).collect();
    let is_finite = !args.catch_up_repeat;
    Crew { name: "catch-up", series: &[FETCH], rate: None, is_finite, work }
}

/// Produces until the topic holds about `history_bytes`, as fast as it goes.
fn fill(args: &ProduceArgs, topic: &Topic, history_bytes: u64) -> anyhow::Result<()> {
    let mut args = args.clone();
    (args.load.rate, args.load.linger) = (None, None);
    let there = topic.records_count() as f64;
    let record_bytes = args.load.record_bytes as f64;
    let missing_bytes = history_bytes as f64 - there * record_bytes;
    if missing_bytes < 1.0 {
        return Ok(());
    }
    eprintln!("writing {:.1} MB of history", missing_bytes / 1e6);
    let (crew, _) = produce::crew("history", &args, topic, None)?;
    let bounds = Bounds {
        warmup: None,
        duration: None,
        bytes: Some(missing_bytes as u64),
        timeout: args.run.timeout,
    };
    let job = Job {
        bounds,
        crews: vec![crew],
        broker_pid: None,
        cpus: None,
        may_miss_rate: true,
        check: None,
    };
    let part = job.measure()?.parts.remove(0);
    ensure!(part.errors == 0, "{} requests failed: {:?}", part.errors, part.errors_by_name);
    Ok(())
}
