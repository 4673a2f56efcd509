//! Fetching: each connection reads its share of the partitions, several requests in flight.
//!
//! The partitions of a connection are dealt to as many slots as requests may be in flight, since
//! the next request for a partition needs the offset that the last answer ended with. What comes is
//! read as a consumer would, checked cheaply (lengths, offsets in order), and dropped.
//! **Invariant:** offsets of a partition only grow, until `--repeat` begins again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringmain::base::ids::TopicId;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};

use crate::CLIENT_ID;
use crate::arguments::{FetchArgs, From};
use crate::lane::{Lane, place_thread};
use crate::pace::{Pace, run_all};
use crate::report::{Report, Tally};
use crate::topic::{self, Leader, Topic};
use crate::walk::walk;

/// Pause after an answer that held nothing but errors.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// Runs `ringmain-bench fetch`.
///
/// # Errors
/// The topic is not there and cannot be made, or the broker is gone for good.
pub fn run(args: &FetchArgs) -> anyhow::Result<Report> {
    if let Some(cpus) = &args.run.cpus {
        place_thread(&cpus.0)?;
    }
    let topic = topic::prepare(&args.target)?;
    let begins = match args.from {
        From::Earliest => topic.earliest.clone(),
        From::Latest => topic.latest.clone(),
    };
    let is_endless = args.follow || args.from == From::Latest;
    let mut ends = topic.latest.clone();
    if is_endless {
        ends.values_mut().for_each(|end| *end = i64::MAX);
    }
    let offsets = Offsets { begins, ends };
    let mut workers = Vec::new();
    for leader in &topic.leaders {
        let share = usize::from(args.run.connections).div_ceil(topic.leaders.len());
        let share = share.min(leader.partitions.len());
        for turn in 0..share {
            let partitions = leader.partitions.iter().copied().skip(turn).step_by(share).collect();
            workers.push(Consumer::new(args, &topic, leader, partitions, &offsets));
        }
    }
    if workers.len() < usize::from(args.run.connections) {
        eprintln!("{} connections: a partition is read by one only", workers.len());
    }
    let workers = workers.into_iter().map(|consumer| |pace: &Pace| consumer.run(pace)).collect();
    let is_finite = !(is_endless || args.repeat);
    let outcome = run_all(&args.run, is_finite, workers)?;
    Ok(Report::new("fetch", outcome.tally, outcome.elapsed, outcome.cpu_seconds))
}

/// Where reading begins and ends, by partition.
struct Offsets {
    begins: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
}

/// How far one partition has been read.
struct Cursor {
    partition: i32,
    begin: i64,
    next: i64,
    end: i64,
}

/// The partitions of one request, those first that have waited longest.
struct Slot {
    cursors: VecDeque<Cursor>,
    done: Vec<Cursor>, // read to their end
}

/// One connection's work.
struct Consumer {
    address: SocketAddr,
    topic: String,
    topic_id: TopicId,
    version: i16,
    timeout: Duration,
    is_repeated: bool,
    is_verified: bool,
    /// All but the topic's partitions.
    bounds: Bounds,
    slots: Vec<Slot>,
}

/// The limits of each request.
#[derive(Clone, Copy)]
struct Bounds {
    wait_ms: i32,
    request_bytes: i32,
    partition_bytes: i32,
}

/// A request that was sent.
struct Sent {
    correlation_id: i32,
    slot: usize,
    at: Instant,
}

/// What one answer brought.
#[derive(Default)]
struct Brought {
    bytes: u64,
    records: u64,
    errors: Vec<ErrorCode>,
}

impl Consumer {
    fn new(
        args: &FetchArgs,
        topic: &Topic,
        leader: &Leader,
        partitions: Vec<i32>,
        offsets: &Offsets,
    ) -> Consumer {
        let slots_count = usize::from(args.run.in_flight).min(partitions.len());
        let mut slots: Vec<Slot> = Vec::new();
        slots.resize_with(slots_count, || Slot { cursors: VecDeque::new(), done: Vec::new() });
        for (turn, partition) in partitions.into_iter().enumerate() {
            let (begin, end) = (offsets.begins[&partition], offsets.ends[&partition]);
            let cursor = Cursor { partition, begin, next: begin, end };
            let slot = &mut slots[turn % slots_count];
            if begin < end { slot.cursors.push_back(cursor) } else { slot.done.push(cursor) }
        }
        let bounded = |bytes: u64| i32::try_from(bytes).unwrap_or(i32::MAX);
        Consumer {
            address: leader.address,
            topic: topic.name.clone(),
            topic_id: topic.id,
            version: topic.fetch_version,
            timeout: args.run.timeout + args.wait,
            is_repeated: args.repeat,
            is_verified: args.verify,
            bounds: Bounds {
                wait_ms: i32::try_from(args.wait.as_millis()).unwrap_or(i32::MAX),
                request_bytes: bounded(args.request_bytes),
                partition_bytes: bounded(args.partition_bytes),
            },
            slots,
        }
    }

    fn run(mut self, pace: &Pace) -> anyhow::Result<Tally> {
        let mut tally = Tally::new();
        pace.persist(&mut tally, |tally| self.session(pace, tally))?;
        Ok(tally)
    }

    /// Reads on one connection until the run or the data is over and all is answered.
    fn session(&mut self, pace: &Pace, tally: &mut Tally) -> io::Result<()> {
        let mut lane = Lane::connect(self.address, self.timeout)?;
        let mut in_flight: VecDeque<Sent> = VecDeque::new();
        let mut idle: VecDeque<usize> = (0..self.slots.len()).collect();
        let mut correlation_id = 0;
        loop {
            for _ in 0..idle.len() {
                let slot = idle.pop_front().expect("counted");
                let at = Instant::now();
                if pace.is_over(at) || self.slots[slot].cursors.is_empty() {
                    continue; // this slot is through for good
                }
                correlation_id = (correlation_id + 1) & i32::MAX;
                let head = self.slots[slot].request(self, correlation_id);
                lane.send(&mut [IoSlice::new(&head)])?;
                in_flight.push_back(Sent { correlation_id, slot, at });
            }
            let Some(sent) = in_flight.pop_front() else { return Ok(()) };
            let body = lane.receive()?;
            let now = Instant::now();
            let brought = self.take(lane.bytes(body), &sent)?;
            pace.claim(brought.bytes, now);
            let is_fruitless = brought.bytes == 0 && !brought.errors.is_empty();
            if pace.counts(now) {
                count(tally, brought, now, now - sent.at);
            }
            if is_fruitless {
                std::thread::sleep(ERROR_PAUSE);
            }
            idle.push_back(sent.slot);
        }
    }

    /// Reads an answer's batches and moves its slot's cursors on.
    fn take(&mut self, frame: &[u8], sent: &Sent) -> io::Result<Brought> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let (correlation_id, response) = decode_response::<FetchRequest<'_>>(self.version, frame)
            .map_err(|error| invalid(error.to_string()))?;
        if correlation_id != sent.correlation_id {
            let awaited = sent.correlation_id;
            return Err(invalid(format!(
                "the answer to request {correlation_id} where {awaited} is awaited"
            )));
        }
        let mut brought = Brought::default();
        let FetchResponse { error_code, responses, .. } = response;
        if !error_code.is_none() {
            brought.errors.push(error_code);
        }
        let slot = &mut self.slots[sent.slot];
        for partition in responses.iter().flat_map(|topic| &topic.partitions) {
            slot.take(partition, self.is_verified, &mut brought).map_err(invalid)?;
        }
        if slot.cursors.is_empty() && self.is_repeated {
            slot.begin_again();
        }
        Ok(brought)
    }
}

impl Slot {
    fn request(&self, consumer: &Consumer, correlation_id: i32) -> Vec<u8> {
        let Bounds { wait_ms, request_bytes, partition_bytes } = consumer.bounds;
        let partitions = self.cursors.iter().map(|cursor| FetchPartition {
            partition: cursor.partition,
            fetch_offset: cursor.next,
            partition_max_bytes: partition_bytes,
            ..Default::default()
        });
        let topic = FetchTopic {
            topic_id: consumer.topic_id,
            topic: &consumer.topic,
            partitions: partitions.collect(),
        };
        let request = FetchRequest {
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: request_bytes,
            topics: vec![topic],
            ..Default::default()
        };
        encode_request(consumer.version, correlation_id, Some(CLIENT_ID), &request).head
    }

    /// Takes one partition's part of an answer.
    fn take(
        &mut self,
        answer: &PartitionData<'_>,
        is_verified: bool,
        brought: &mut Brought,
    ) -> Result<(), String> {
        let partition = answer.partition_index;
        let position = self.cursors.iter().position(|cursor| cursor.partition == partition);
        let position =
            position.ok_or_else(|| format!("partition {partition} was not asked for"))?;
        let records = answer.records.bytes();
        if answer.error_code.is_none() && records.is_empty() {
            return Ok(());
        }
        let mut cursor = self.cursors.remove(position).expect("was just found");
        if answer.error_code.is_none() {
            let walked = walk(records, cursor.next, is_verified)
                .map_err(|fault| format!("partition {partition}: {fault}"))?;
            cursor.next = walked.next_offset;
            brought.bytes += walked.bytes;
            brought.records += walked.records_count;
        } else {
            brought.errors.push(answer.error_code);
        }
        let is_lost = answer.error_code == ErrorCode::OffsetOutOfRange;
        if cursor.next >= cursor.end || is_lost {
            self.done.push(cursor);
        } else {
            self.cursors.push_back(cursor); // the others come first next time
        }
        Ok(())
    }

    fn begin_again(&mut self) {
        for mut cursor in self.done.drain(..).filter(|cursor| cursor.begin < cursor.end) {
            cursor.next = cursor.begin;
            self.cursors.push_back(cursor);
        }
    }
}

fn count(tally: &mut Tally, brought: Brought, now: Instant, latency: Duration) {
    tally.bytes += brought.bytes;
    tally.records += brought.records;
    for code in brought.errors {
        tally.error(code.name());
    }
    tally.answered(now, latency);
}
