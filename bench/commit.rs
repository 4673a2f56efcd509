//! Committing offsets: each connection commits for its share of the groups, from outside of them.
//!
//! Such commits take the same way through the broker as a member's: checked, appended to the
//! group's partition of `__consumer_offsets`, answered when the broker calls them committed.
//! **Invariant:** requests are built once; only the correlation id and the offset change.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use ringmain::io as ring;
use ringmain::protocol::api::ApiKey;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use crate::CLIENT_ID;
use crate::arguments::CommitArgs;
use crate::groups::{allow_files, group_names};
use crate::job::{Crew, Job, Work};
use crate::lane::Lane;
use crate::pace::Pace;
use crate::recorder::Recorder;
use crate::topic;

/// From a commit to its answer.
const COMMIT: &str = "commit";

/// The last version that names topics; version 10 has ids.
const VERSION_MAX: i16 = 9;
/// Where a request's correlation id stands, from the start of its size field.
const CORRELATION_RANGE: std::ops::Range<usize> = 8..12;
/// An offset that stands in no request by chance: it marks where offsets go.
const OFFSET_MARK: i64 = 0x5a17_c3e9_71d2_b684;

/// Makes `ringmain-bench groups commit` ready to run.
///
/// # Errors
/// The topic cannot be made, or the coordinators are not found.
pub fn prepare(args: &CommitArgs) -> anyhow::Result<Job> {
    ensure!(
        args.partitions_per_commit <= args.partitions,
        "a commit cannot have {} of {} partitions",
        args.partitions_per_commit,
        args.partitions
    );
    allow_files(u64::from(args.run.connections) + 64)?;
    topic::prepare(&args.topic_args())?;
    let names = group_names(args.groups);
    let (version, addresses) = ring::run_one(async |io| {
        let cluster = topic::connect(&io, &args.brokers, args.run.timeout).await?;
        let version = cluster.any().await?.version_of(ApiKey::OffsetCommit)?.min(VERSION_MAX);
        let mut addresses = Vec::with_capacity(names.len());
        for name in &names {
            addresses.push(topic::coordinator_address(&cluster, name).await?);
        }
        anyhow::Ok((version, addresses))
    })
    .context("the load generator's runtime")??;
    let committers = committers_of(args, version, &names, &addresses)?;
    let work = committers
        .into_iter()
        .map(|committer| -> Work { Box::new(move |pace, recorder| committer.run(pace, recorder)) });
    let crew = Crew {
        name: "commit",
        series: &[COMMIT],
        rate: None,
        is_finite: false,
        work: work.collect(),
    };
    Ok(Job {
        bounds: args.run.bounds(),
        crews: vec![crew],
        broker_pid: args.run.report.broker_pid,
        cpus: args.run.cpus.clone(),
        may_miss_rate: true,
        check: None,
    })
}

/// One connection's work.
struct Committer {
    address: SocketAddr,
    timeout: Duration,
    in_flight_max: usize,
    version: i16,
    partitions_count: u64,
    requests: Vec<Prepared>,
}

/// One group's commit, ready to be sent.
struct Prepared {
    frame: Vec<u8>,
    offset_positions: Vec<usize>,
    offset: i64,
}

/// A request that was sent.
struct Sent {
    correlation_id: i32,
    at: Instant,
}

/// Shares the groups out: each connection gets groups of one broker, and each group a connection;
/// where there are more connections than groups, some share theirs.
fn committers_of(
    args: &CommitArgs,
    version: i16,
    names: &[String],
    addresses: &[SocketAddr],
) -> anyhow::Result<Vec<Committer>> {
    let mut brokers: Vec<SocketAddr> = addresses.to_vec();
    brokers.sort_unstable();
    brokers.dedup();
    let connections_count = usize::from(args.run.connections);
    ensure!(
        connections_count >= brokers.len(),
        "{} brokers coordinate the groups: use as many --connections at least",
        brokers.len()
    );
    let committer = |index: usize| {
        let address = brokers[index % brokers.len()];
        let of_broker: Vec<&String> = names
            .iter()
            .zip(addresses)
            .filter(|(_, other)| **other == address)
            .map(|(name, _)| name)
            .collect();
        let turn = index / brokers.len();
        let lanes_count = connections_count.div_ceil(brokers.len());
        let mine: Vec<&String> = match of_broker.len() >= lanes_count {
            true => of_broker.iter().skip(turn).step_by(lanes_count).copied().collect(),
            false => vec![of_broker[turn % of_broker.len()]],
        };
        Committer {
            address,
            timeout: args.run.timeout,
            in_flight_max: usize::from(args.run.in_flight),
            version,
            partitions_count: u64::from(args.partitions_per_commit),
            requests: mine.into_iter().map(|name| Prepared::new(args, version, name)).collect(),
        }
    };
    Ok((0..connections_count).map(committer).collect())
}

impl Prepared {
    fn new(args: &CommitArgs, version: i16, group: &str) -> Prepared {
        let partitions = (0..args.partitions_per_commit as i32).map(|partition_index| {
            OffsetCommitRequestPartition {
                partition_index,
                committed_offset: OFFSET_MARK,
                committed_metadata: Some(""),
                ..OffsetCommitRequestPartition::default()
            }
        });
        let topic = OffsetCommitRequestTopic {
            name: &args.topic,
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: group,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let frame = encode_request(version, 0, Some(CLIENT_ID), &request).head;
        let mark = OFFSET_MARK.to_be_bytes();
        let windows = frame.windows(mark.len()).enumerate();
        let offset_positions = windows.filter(|(_, bytes)| *bytes == mark).map(|(at, _)| at);
        let offset_positions: Vec<usize> = offset_positions.collect();
        assert_eq!(offset_positions.len(), args.partitions_per_commit as usize, "one a partition");
        Prepared { frame, offset_positions, offset: 0 }
    }

    /// Makes it the commit of the next offset.
    fn advance(&mut self, correlation_id: i32) {
        self.offset += 1;
        self.frame[CORRELATION_RANGE].copy_from_slice(&correlation_id.to_be_bytes());
        for &at in &self.offset_positions {
            self.frame[at..at + size_of::<i64>()].copy_from_slice(&self.offset.to_be_bytes());
        }
    }
}

impl Committer {
    fn run(mut self, pace: &Pace, mut recorder: Recorder) -> anyhow::Result<()> {
        pace.persist(&mut recorder, |recorder| {
            let mut in_flight = VecDeque::with_capacity(self.in_flight_max);
            let ended = self.session(pace, recorder, &mut in_flight);
            pace.give_back(in_flight.len() as u64);
            ended
        })
    }

    /// Sends and receives on one connection until the run is over and all is answered.
    fn session(
        &mut self,
        pace: &Pace,
        recorder: &mut Recorder,
        in_flight: &mut VecDeque<Sent>,
    ) -> io::Result<()> {
        let mut lane = Lane::connect(self.address, self.timeout)?;
        let mut sent_count: usize = 0;
        let mut outgoing = Vec::new();
        loop {
            let at = Instant::now();
            outgoing.clear();
            while in_flight.len() < self.in_flight_max && pace.claim(1, at) {
                let index = sent_count % self.requests.len();
                let correlation_id = sent_count as i32 & i32::MAX;
                let request = &mut self.requests[index];
                request.advance(correlation_id);
                outgoing.extend_from_slice(&request.frame);
                in_flight.push_back(Sent { correlation_id, at });
                sent_count += 1;
            }
            if !outgoing.is_empty() {
                lane.send(&mut [IoSlice::new(&outgoing)])?;
            }
            if in_flight.is_empty() {
                return Ok(());
            }
            self.receive(&mut lane, recorder, in_flight)?;
        }
    }

    /// Waits for one answer and takes all that came with it.
    fn receive(
        &self,
        lane: &mut Lane,
        recorder: &mut Recorder,
        in_flight: &mut VecDeque<Sent>,
    ) -> io::Result<()> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        loop {
            let body = lane.receive()?;
            let now = Instant::now();
            let sent = in_flight.pop_front().expect("the caller awaits an answer");
            let (correlation_id, answer) =
                decode_response::<OffsetCommitRequest<'_>>(self.version, lane.bytes(body))
                    .map_err(|error| invalid(error.to_string()))?;
            if correlation_id != sent.correlation_id {
                let expected = sent.correlation_id;
                let reason = format!("the answer to {correlation_id} where {expected} is awaited");
                return Err(invalid(reason));
            }
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let failed = partitions.map(|one| one.error_code).find(|code| !code.is_none());
            match failed {
                None => {
                    recorder.answered(now, 0, self.partitions_count);
                    if recorder.counts(now) {
                        recorder.latency(0, now, now - sent.at, 1);
                    }
                }
                Some(code) => recorder.error(now, code.name()),
            }
            if in_flight.is_empty() || !lane.has_frame() {
                return Ok(());
            }
        }
    }
}
