//! Producing: each connection sends prebuilt requests and times their acknowledgements.
//!
//! A closed loop: so many requests are in flight a connection, and the next one leaves when an
//! answer has come. An answer that comes while a large request is being sent is seen when that is
//! done.
//! **Invariant:** `in_flight` holds what was sent and not answered, in order; answers keep that
//! order.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::init_producer_id::InitProducerIdRequest;
use ringmain::protocol::messages::produce::ProduceRequest;

use crate::CLIENT_ID;
use crate::arguments::{Acks, ProduceArgs};
use crate::lane::{Lane, place_thread};
use crate::load::{self, Batch, Numbering, PreparedRequest, Shape};
use crate::pace::{Pace, run_all};
use crate::report::{Report, Tally};
use crate::topic::{self, Leader, Topic};

/// Version of InitProducerId, which brokers have had since it was first there.
const INIT_VERSION: i16 = 0;

/// Runs `ringmain-bench produce`.
///
/// # Errors
/// The topic cannot be made, the sizes do not fit each other, or the broker is gone for good.
pub fn run(args: &ProduceArgs) -> anyhow::Result<Report> {
    if let Some(cpus) = &args.run.cpus {
        place_thread(&cpus.0)?;
    }
    let topic = topic::prepare(&args.target)?;
    let connections_count = usize::from(args.run.connections);
    let leaders_count = topic.leaders.len();
    ensure!(
        connections_count >= leaders_count,
        "{leaders_count} brokers lead partitions of the topic: use as many --connections at least"
    );
    let batches = load::build_batches(args)?;
    let workers = (0..connections_count)
        .map(|index| Producer::new(args, &topic, &batches, index))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let workers = workers.into_iter().map(|producer| |pace: &Pace| producer.run(pace)).collect();
    let outcome = run_all(&args.run, false, workers)?;
    Ok(Report::new("produce", outcome.tally, outcome.elapsed, outcome.cpu_seconds))
}

/// Asks for a producer id on a connection without requests in flight.
fn producer_id(lane: &mut Lane) -> io::Result<i64> {
    let encoded =
        encode_request(INIT_VERSION, 0, Some(CLIENT_ID), &InitProducerIdRequest::default());
    lane.send(&mut [IoSlice::new(&encoded.head)])?;
    let body = lane.receive()?;
    let (_, answer) = decode_response::<InitProducerIdRequest>(INIT_VERSION, lane.bytes(body))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    match answer.error_code.is_none() {
        true => Ok(answer.producer_id),
        false => Err(io::Error::other(answer.error_code.name())),
    }
}

/// One connection's work.
struct Producer {
    address: SocketAddr,
    timeout: Duration,
    is_answered: bool,
    is_idempotent: bool,
    partitions_count: usize,
    in_flight_max: usize,
    version: i16,
    requests: Vec<PreparedRequest>,
    request_bytes: u64,
    request_records: u64,
}

/// A request that was sent.
struct Sent {
    correlation_id: i32,
    at: Instant,
}

impl Producer {
    /// The `index`th connection: brokers take turns, and connections of one broker begin with
    /// different partitions.
    fn new(
        args: &ProduceArgs,
        topic: &Topic,
        batches: &[Arc<Batch>],
        index: usize,
    ) -> anyhow::Result<Producer> {
        let Leader { address, partitions } = &topic.leaders[index % topic.leaders.len()];
        let in_flight_max = usize::from(args.run.in_flight);
        let acks = match args.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let shape = Shape {
            topic: &topic.name,
            topic_id: topic.id,
            version: topic.produce_version,
            acks,
            partitions,
            batches,
        };
        let turn = index / topic.leaders.len();
        let connections_count = usize::from(args.run.connections).div_ceil(topic.leaders.len());
        let start = turn * partitions.len() / connections_count;
        Ok(Producer {
            address: *address,
            timeout: args.run.timeout,
            is_answered: args.acks != Acks::None,
            is_idempotent: args.idempotence,
            partitions_count: partitions.len(),
            in_flight_max,
            version: topic.produce_version,
            requests: load::prepare(&shape, start, in_flight_max)?,
            request_bytes: batches.iter().map(|batch| batch.bytes.len() as u64).sum(),
            request_records: batches.iter().map(|batch| batch.records_count).sum(),
        })
    }

    fn run(mut self, pace: &Pace) -> anyhow::Result<Tally> {
        let mut tally = Tally::new();
        pace.persist(&mut tally, |tally| {
            let mut in_flight = VecDeque::with_capacity(self.in_flight_max);
            let ended = self.session(pace, tally, &mut in_flight);
            pace.give_back(in_flight.len() as u64 * self.request_bytes);
            ended
        })?;
        Ok(tally)
    }

    /// Sends and receives on one connection until the run is over and all is answered.
    fn session(
        &mut self,
        pace: &Pace,
        tally: &mut Tally,
        in_flight: &mut VecDeque<Sent>,
    ) -> io::Result<()> {
        let mut lane = Lane::connect(self.address, self.timeout)?;
        let mut numbering = match self.is_idempotent {
            true => Some(Numbering::new(producer_id(&mut lane)?, self.partitions_count)),
            false => None,
        };
        let mut sent_count: usize = 0;
        loop {
            let count = self.send(&mut lane, pace, sent_count, in_flight, &mut numbering)?;
            sent_count += count;
            if !self.is_answered {
                self.count_unanswered(pace, tally, in_flight);
                if count == 0 {
                    return Ok(());
                }
                continue;
            }
            if in_flight.is_empty() {
                return Ok(());
            }
            self.receive(&mut lane, pace, tally, in_flight)?;
        }
    }

    /// Fills the window with one gathering write; returns how many requests that were.
    fn send(
        &mut self,
        lane: &mut Lane,
        pace: &Pace,
        sent_count: usize,
        in_flight: &mut VecDeque<Sent>,
        numbering: &mut Option<Numbering>,
    ) -> io::Result<usize> {
        let at = Instant::now();
        let requests_count = self.requests.len();
        let indexes = (sent_count..).map(|number| number % requests_count);
        let mut chosen = indexes.clone();
        let mut count = 0;
        while in_flight.len() < self.in_flight_max && pace.claim(self.request_bytes, at) {
            let correlation_id = (sent_count + count) as i32 & i32::MAX;
            let index = chosen.next().expect("goes round for ever");
            self.requests[index].set_correlation_id(correlation_id);
            if let Some(numbering) = numbering {
                self.requests[index].number(numbering);
            }
            in_flight.push_back(Sent { correlation_id, at });
            count += 1;
        }
        let mut gather: Vec<IoSlice<'_>> = Vec::with_capacity(64);
        for index in indexes.take(count) {
            self.requests[index].gather(&mut gather);
        }
        lane.send(&mut gather)?;
        Ok(count)
    }

    /// Waits for one answer and takes all that came with it.
    fn receive(
        &self,
        lane: &mut Lane,
        pace: &Pace,
        tally: &mut Tally,
        in_flight: &mut VecDeque<Sent>,
    ) -> io::Result<()> {
        loop {
            let body = lane.receive()?;
            let now = Instant::now();
            let frame = lane.bytes(body);
            let sent = in_flight.front().expect("the caller awaits an answer");
            let (correlation_id, response) =
                decode_response::<ProduceRequest<'_>>(self.version, frame)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if correlation_id != sent.correlation_id {
                let reason = format!(
                    "the answer to request {correlation_id} where {} is awaited",
                    sent.correlation_id
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            let latency = now - sent.at;
            in_flight.pop_front();
            let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            let failed = partitions.map(|partition| partition.error_code).find(|c| !c.is_none());
            if failed.is_some() {
                pace.give_back(self.request_bytes);
            }
            if pace.counts(now) {
                match failed {
                    None => self.count(tally, now, latency),
                    Some(code) => tally.error(code.name()),
                }
            }
            if let Some(code) = failed.filter(|_| self.is_idempotent) {
                // What follows is out of order: begin anew, as another producer.
                return Err(io::Error::other(code.name()));
            }
            if in_flight.is_empty() || !lane.has_frame() {
                return Ok(());
            }
        }
    }

    /// With acks=0 a request is done when the socket has taken it.
    fn count_unanswered(&self, pace: &Pace, tally: &mut Tally, in_flight: &mut VecDeque<Sent>) {
        let now = Instant::now();
        for sent in in_flight.drain(..) {
            if pace.counts(now) {
                self.count(tally, now, now - sent.at);
            }
        }
    }

    fn count(&self, tally: &mut Tally, now: Instant, latency: Duration) {
        tally.bytes += self.request_bytes;
        tally.records += self.request_records;
        tally.answered(now, latency);
    }
}
