//! A consumer: one connection that reads its share of the partitions, several requests in flight.
//!
//! The partitions of a connection are dealt to as many slots as requests may be in flight, since
//! the next request for a partition needs the offset that the last answer ended with. What comes is
//! read as a consumer would, checked cheaply (lengths, offsets in order), and dropped.
//! **Invariant:** offsets of a partition only grow, until `--repeat` begins again.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmain::base::ids::TopicId;
use ringmain::protocol::batch::BatchView;
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};

use crate::CLIENT_ID;
use crate::lane::Lane;
use crate::pace::Pace;
use crate::producer::Spread;
use crate::recorder::Recorder;
use crate::stamp::Stamps;
use crate::topic::{Leader, Topic};
use crate::walk::walk;

/// Pause after an answer that held nothing but errors.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// How often a consumer that waits for the measurement looks whether the run was stopped.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long after the end of a run records that were acknowledged may still arrive.
const ARRIVAL_GRACE: Duration = Duration::from_secs(10);

/// Where reading begins and ends, by partition.
pub struct Offsets {
    pub begins: BTreeMap<i32, i64>,
    pub ends: BTreeMap<i32, i64>,
}

/// What the consumers of a crew have in common.
#[derive(Clone)]
pub struct Plan {
    pub in_flight_max: usize,
    pub timeout: Duration,
    pub wait: Duration,
    pub request_bytes: u64,
    pub partition_bytes: u64,
    pub is_verified: bool,
    /// Begin again at the end of the data.
    pub is_repeated: bool,
    /// Read nothing before the measurement begins.
    pub waits_for_measurement: bool,
    pub arrivals: Option<Arrivals>,
}

/// What is known of the records that are to arrive.
#[derive(Clone)]
pub struct Arrivals {
    pub stamps: Arc<Stamps>,
    pub spread: Option<Spread>,
    /// Batches that this consumer has received, over all of its connections.
    pub received_count: Arc<AtomicU64>,
}

impl Arrivals {
    /// Whether all that was acknowledged has been received, and no more will come.
    pub fn are_complete(&self) -> bool {
        let is_complete = self.stamps.is_complete();
        is_complete && self.received() >= self.stamps.acknowledged_count()
    }

    /// Batches that have been received.
    pub fn received(&self) -> u64 {
        self.received_count.load(Ordering::Relaxed)
    }
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
pub struct Consumer {
    address: SocketAddr,
    topic: String,
    topic_id: TopicId,
    version: i16,
    timeout: Duration,
    is_repeated: bool,
    is_verified: bool,
    waits_for_measurement: bool,
    arrivals: Option<Arrivals>,
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
    /// When each batch of this run was to be sent, and how many records it has.
    stamped: Vec<(Instant, u32)>,
}

impl Consumer {
    /// One that reads `partitions` of the topic from their leader.
    pub fn new(
        plan: &Plan,
        topic: &Topic,
        leader: &Leader,
        partitions: Vec<i32>,
        offsets: &Offsets,
    ) -> Consumer {
        let slots_count = plan.in_flight_max.min(partitions.len());
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
            timeout: plan.timeout + plan.wait,
            is_repeated: plan.is_repeated,
            is_verified: plan.is_verified,
            waits_for_measurement: plan.waits_for_measurement,
            arrivals: plan.arrivals.clone(),
            bounds: Bounds {
                wait_ms: i32::try_from(plan.wait.as_millis()).unwrap_or(i32::MAX),
                request_bytes: bounded(plan.request_bytes),
                partition_bytes: bounded(plan.partition_bytes),
            },
            slots,
        }
    }

    /// Reads until the run or the data is over and all is answered.
    ///
    /// # Errors
    /// The broker is gone for good.
    pub fn run(mut self, pace: &Pace, mut recorder: Recorder) -> anyhow::Result<()> {
        while self.waits_for_measurement && Instant::now() < pace.measured_from() {
            if pace.is_over(Instant::now()) {
                return Ok(());
            }
            let left = pace.measured_from().saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
        pace.persist(&mut recorder, |recorder| self.session(pace, recorder))
    }

    /// Whether there is nothing more to ask for at `now`.
    fn is_over(&self, pace: &Pace, now: Instant) -> bool {
        let Some(arrivals) = &self.arrivals else { return pace.is_over(now) };
        let is_late = now >= pace.end() + ARRIVAL_GRACE || pace.is_aborted();
        pace.is_over(now) && (arrivals.are_complete() || is_late)
    }

    /// Reads on one connection until the run or the data is over and all is answered.
    fn session(&mut self, pace: &Pace, recorder: &mut Recorder) -> io::Result<()> {
        let mut lane = Lane::connect(self.address, self.timeout)?;
        let mut in_flight: VecDeque<Sent> = VecDeque::new();
        let mut idle: VecDeque<usize> = (0..self.slots.len()).collect();
        let mut correlation_id = 0;
        loop {
            for _ in 0..idle.len() {
                let slot = idle.pop_front().expect("counted");
                let at = Instant::now();
                if self.is_over(pace, at) || self.slots[slot].cursors.is_empty() {
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
            self.count(pace, recorder, brought, now, now - sent.at);
            if is_fruitless {
                std::thread::sleep(ERROR_PAUSE);
            }
            idle.push_back(sent.slot);
        }
    }

    fn count(
        &self,
        pace: &Pace,
        recorder: &mut Recorder,
        brought: Brought,
        now: Instant,
        latency: Duration,
    ) {
        recorder.answered(now, brought.bytes, brought.records);
        for code in brought.errors {
            recorder.error(now, code.name());
        }
        let Some(arrivals) = &self.arrivals else {
            if recorder.counts(now) {
                recorder.latency(0, now, latency, 1);
            }
            return;
        };
        arrivals.received_count.fetch_add(brought.stamped.len() as u64, Ordering::Relaxed);
        for (intended, records_count) in brought.stamped {
            if intended < pace.measured_from() || intended >= pace.end() {
                continue;
            }
            let waited = now.saturating_duration_since(intended);
            match arrivals.spread {
                None => recorder.latency(0, now, waited, 1),
                Some(spread) => spread.ages(waited, records_count).for_each(|age| {
                    recorder.latency(0, now, age, 1);
                }),
            }
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
        let stamps = self.arrivals.as_ref().map(|arrivals| &*arrivals.stamps);
        for partition in responses.iter().flat_map(|topic| &topic.partitions) {
            slot.take(partition, self.is_verified, stamps, &mut brought).map_err(invalid)?;
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
        stamps: Option<&Stamps>,
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
            let mut look = |batch: &BatchView<'_>| {
                let intended = stamps.and_then(|stamps| stamp_in(stamps, batch));
                brought.stamped.extend(intended.map(|at| (at, batch.records_count())));
            };
            let walked = walk(records, cursor.next, is_verified, &mut look)
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

/// When the batch was to be sent, if its first record says so.
fn stamp_in(stamps: &Stamps, batch: &BatchView<'_>) -> Option<Instant> {
    if batch.codec() != Some(Codec::None) {
        return None; // this run's are not compressed
    }
    let first = batch.records_in(batch.payload()).next()?.ok()?;
    stamps.read(first.value?)
}
