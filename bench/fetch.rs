//! Fetching: what the flags ask for, as a crew of consumers.

use anyhow::ensure;

use crate::arguments::{FetchArgs, From};
use crate::consumer::{Consumer, Offsets, Plan};
use crate::job::{Crew, Job, Work};
use crate::recorder::FETCH;
use crate::topic::{self, Topic};

/// Makes `ringmain-bench fetch` ready to run.
///
/// # Errors
/// The topic is not there and cannot be made.
pub fn prepare(args: &FetchArgs) -> anyhow::Result<Job> {
    let topic = topic::prepare(&args.target)?;
    let is_endless = args.follow || args.from == From::Latest;
    let offsets = offsets(&topic, args.from, is_endless);
    let plan = Plan {
        in_flight_max: if is_endless { 1 } else { usize::from(args.run.in_flight) },
        timeout: args.run.timeout,
        wait: args.wait,
        request_bytes: args.request_bytes,
        partition_bytes: args.partition_bytes,
        is_verified: args.verify,
        is_repeated: args.repeat,
        waits_for_measurement: false,
        arrivals: None,
    };
    let mut work = Vec::new();
    for _ in 0..args.consumers {
        let connections_count = usize::from(args.run.connections);
        work.extend(connections(&plan, &topic, &offsets, connections_count));
    }
    let wanted_count = usize::from(args.run.connections) * usize::from(args.consumers);
    if work.len() < wanted_count {
        eprintln!("{} connections: a partition of a consumer is read by one only", work.len());
    }
    ensure!(!work.is_empty(), "topic {} has no partitions", topic.name);
    let is_finite = !(is_endless || args.repeat);
    let crew = Crew { name: "fetch", series: &[FETCH], rate: None, is_finite, work };
    Ok(Job {
        bounds: args.run.bounds(),
        crews: vec![crew],
        broker_pid: args.run.report.broker_pid,
        cpus: args.run.cpus.clone(),
        may_miss_rate: true,
        check: None,
    })
}

/// From where to where the topic's partitions are read.
pub fn offsets(topic: &Topic, from: From, is_endless: bool) -> Offsets {
    let begins = match from {
        From::Earliest => topic.earliest.clone(),
        From::Latest => topic.latest.clone(),
    };
    let mut ends = topic.latest.clone();
    if is_endless {
        ends.values_mut().for_each(|end| *end = i64::MAX);
    }
    Offsets { begins, ends }
}

/// One consumer of the whole topic, over so many connections if there are as many partitions, and
/// one a leader at least.
pub fn connections(
    plan: &Plan,
    topic: &Topic,
    offsets: &Offsets,
    connections_count: usize,
) -> Vec<Work> {
    let mut work: Vec<Work> = Vec::new();
    for leader in &topic.leaders {
        let share = connections_count.div_ceil(topic.leaders.len()).min(leader.partitions.len());
        for turn in 0..share {
            let partitions = leader.partitions.iter().copied().skip(turn).step_by(share).collect();
            let consumer = Consumer::new(plan, topic, leader, partitions, offsets);
            work.push(Box::new(move |pace, recorder| consumer.run(pace, recorder)));
        }
    }
    work
}
