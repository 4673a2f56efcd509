//! A producer: one connection that sends prebuilt requests and times their acknowledgements.
//!
//! Without a rate it is a closed loop: so many requests are in flight, and the next one leaves when
//! an answer has come. With a rate requests have their times whatever the broker does: one that
//! cannot be sent in time, because as many as may be are in flight or the socket takes no more, is
//! sent when it can be, and its latency counts from the time when it was to be sent.
//! **Invariant:** `in_flight` holds what was sent and not answered, in order; answers keep that
//! order.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::init_producer_id::InitProducerIdRequest;
use ringmain::protocol::messages::produce::ProduceRequest;

use crate::CLIENT_ID;
use crate::arguments::Acks;
use crate::lane::{Lane, sharpen_timers};
use crate::load::{self, Batch, Numbering, PreparedRequest, Shape};
use crate::pace::Pace;
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::stamp::Stamps;
use crate::topic::{Leader, Topic};

/// Version of InitProducerId, which brokers have had since it was first there.
const INIT_VERSION: i16 = 0;

/// Numbers of the series that a producer records.
const PUBLISH: usize = 0;
const SCHEDULE: usize = 1;

/// What the producers of a crew have in common.
pub struct Plan<'a> {
    pub topic: &'a Topic,
    /// What one request carries.
    pub batches: &'a [Arc<Batch>],
    pub acks: Acks,
    pub is_idempotent: bool,
    pub stays_awake: bool,
    pub connections_count: usize,
    pub in_flight_max: usize,
    pub timeout: Duration,
    /// Of all producers together; `None`: a closed loop.
    pub requests_per_second: Option<f64>,
    pub spread: Option<Spread>,
    pub stamps: Option<Arc<Stamps>>,
}

/// How the records of a batch came before it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// From one record to the next.
    pub spacing: Duration,
    /// From the first record to the batch's sending.
    pub wait: Duration,
}

impl Spread {
    /// Ages of a batch's records `waited` after the batch was to be sent, the oldest first.
    pub fn ages(self, waited: Duration, records_count: u32) -> impl Iterator<Item = Duration> {
        let oldest = waited + self.wait;
        (0..records_count).map(move |index| oldest.saturating_sub(self.spacing * index))
    }
}

/// One connection's work.
pub struct Producer {
    address: SocketAddr,
    timeout: Duration,
    is_answered: bool,
    is_idempotent: bool,
    stays_awake: bool,
    partitions_count: usize,
    in_flight_max: usize,
    version: i16,
    requests: Vec<PreparedRequest>,
    request_bytes: u64,
    request_records: u64,
    batches_count: u64,
    schedule: Option<Schedule>,
    spread: Option<Spread>,
    stamps: Option<Arc<Stamps>>,
    /// The next request of the schedule.
    next_number: u64,
    is_warmed_up: bool,
}

/// A request that was sent.
struct Sent {
    correlation_id: i32,
    intended: Instant,
}

/// What a producer may do now.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Send a request that was to be sent at that time.
    Send(Instant),
    /// Wait until then.
    Wait(Instant),
    /// Nothing any more: the run is over.
    Nothing,
}

/// One connection while it lasts.
struct Session<'a> {
    lane: Lane,
    pace: &'a Pace,
    in_flight: VecDeque<Sent>,
    sent_count: usize,
    numbering: Option<Numbering>,
}

impl Producer {
    /// The `index`th connection: brokers take turns, and connections of one broker begin with
    /// different partitions.
    ///
    /// # Errors
    /// More batches a request than partitions.
    pub fn new(plan: &Plan<'_>, index: usize) -> anyhow::Result<Producer> {
        let Plan { topic, batches, .. } = plan;
        let leaders_count = topic.leaders.len();
        let Leader { address, partitions } = &topic.leaders[index % leaders_count];
        let acks = match plan.acks {
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
        let of_broker_count = plan.connections_count.div_ceil(leaders_count);
        let start = index / leaders_count * partitions.len() / of_broker_count;
        let schedule = |rate: f64| Schedule::new(rate, plan.connections_count, index);
        Ok(Producer {
            address: *address,
            timeout: plan.timeout,
            is_answered: plan.acks != Acks::None,
            is_idempotent: plan.is_idempotent,
            stays_awake: plan.stays_awake,
            partitions_count: partitions.len(),
            in_flight_max: plan.in_flight_max,
            version: topic.produce_version,
            requests: load::prepare(&shape, start, plan.in_flight_max)?,
            request_bytes: batches.iter().map(|batch| batch.bytes.len() as u64).sum(),
            request_records: batches.iter().map(|batch| batch.records_count).sum(),
            batches_count: batches.len() as u64,
            schedule: plan.requests_per_second.map(schedule),
            spread: plan.spread,
            stamps: plan.stamps.clone(),
            next_number: 0,
            is_warmed_up: false,
        })
    }

    /// Sends and receives until the run is over and all is answered.
    ///
    /// # Errors
    /// The broker is gone for good.
    pub fn run(mut self, pace: &Pace, mut recorder: Recorder) -> anyhow::Result<()> {
        if self.schedule.is_some() {
            sharpen_timers();
        }
        let ended = pace.persist(&mut recorder, |recorder| self.session(pace, recorder));
        if ended.is_ok() {
            self.charge_unsent(pace, &mut recorder);
        }
        if let Some(stamps) = &self.stamps {
            stamps.producer_ended();
        }
        ended
    }

    fn session(&mut self, pace: &Pace, recorder: &mut Recorder) -> io::Result<()> {
        let mut lane = Lane::connect(self.address, self.timeout)?;
        lane.stay_awake(self.stays_awake);
        let numbering = match self.is_idempotent {
            true => Some(Numbering::new(producer_id(&mut lane)?, self.partitions_count)),
            false => None,
        };
        let in_flight = VecDeque::with_capacity(self.in_flight_max);
        let mut session = Session { lane, pace, in_flight, sent_count: 0, numbering };
        let ended = self.serve(&mut session, recorder);
        self.charge_lost(&session, recorder);
        ended
    }

    /// Sends and receives on one connection until the run is over and all is answered.
    fn serve(&mut self, session: &mut Session<'_>, recorder: &mut Recorder) -> io::Result<()> {
        loop {
            let (sent_count, next) = self.send(session, recorder)?;
            if !self.is_answered {
                self.count_unanswered(session, recorder);
            }
            let is_full = session.in_flight.len() >= self.in_flight_max;
            match next {
                Next::Nothing if session.in_flight.is_empty() => return Ok(()),
                Next::Wait(until) if !is_full => {
                    if session.lane.wait(until)? {
                        self.receive(session, recorder)?;
                    }
                }
                Next::Send(_) if !is_full => {
                    assert!(sent_count > 0, "a window with room was filled");
                }
                _ => self.receive(session, recorder)?,
            }
        }
    }

    /// What may be sent at `now`, were there room for it.
    fn next(&mut self, pace: &Pace, now: Instant) -> Next {
        let Some(schedule) = &self.schedule else {
            return if pace.claim(self.request_bytes, now) {
                Next::Send(now)
            } else {
                Next::Nothing
            };
        };
        let began = pace.began();
        if !self.is_warmed_up && now >= pace.measured_from() {
            // What the warm-up did not get to is no load of the measured time.
            self.is_warmed_up = true;
            let first_measured = schedule.number_at(began, pace.measured_from());
            self.next_number = self.next_number.max(first_measured);
        }
        let due = schedule.due(began, self.next_number);
        if due >= pace.end() || pace.is_over(now) {
            Next::Nothing
        } else if due > now {
            Next::Wait(due)
        } else if pace.claim(self.request_bytes, now) {
            self.next_number += 1;
            Next::Send(due)
        } else {
            Next::Nothing
        }
    }

    /// Fills the window with one gathering write; returns how many requests that were, and what
    /// came after them.
    fn send(
        &mut self,
        session: &mut Session<'_>,
        recorder: &mut Recorder,
    ) -> io::Result<(usize, Next)> {
        let at = Instant::now();
        let requests_count = self.requests.len();
        let first = session.sent_count;
        let mut next = Next::Send(at);
        while session.in_flight.len() < self.in_flight_max {
            next = self.next(session.pace, at);
            let Next::Send(intended) = next else { break };
            let correlation_id = session.sent_count as i32 & i32::MAX;
            let request = &mut self.requests[session.sent_count % requests_count];
            request.set_correlation_id(correlation_id);
            let stamp = self.stamps.as_ref().map(|stamps| stamps.write(intended));
            if session.numbering.is_some() || stamp.is_some() {
                request.renew(session.numbering.as_mut(), stamp);
            }
            if self.schedule.is_some() && intended >= session.pace.measured_from() {
                recorder.latency(SCHEDULE, at, at - intended, 1);
            }
            session.in_flight.push_back(Sent { correlation_id, intended });
            session.sent_count += 1;
        }
        let count = session.sent_count - first;
        if count > 0 {
            let mut gather: Vec<IoSlice<'_>> = Vec::with_capacity(64);
            for number in first..session.sent_count {
                self.requests[number % requests_count].gather(&mut gather);
            }
            session.lane.send(&mut gather)?;
        }
        Ok((count, next))
    }

    /// Waits for one answer and takes all that came with it.
    fn receive(&self, session: &mut Session<'_>, recorder: &mut Recorder) -> io::Result<()> {
        loop {
            let body = session.lane.receive()?;
            let now = Instant::now();
            let Some(sent) = session.in_flight.front() else {
                let reason = "an answer where none is awaited";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            };
            let failed = self.failure_in(session.lane.bytes(body), sent.correlation_id)?;
            let intended = sent.intended;
            session.in_flight.pop_front();
            match failed {
                None => self.count(session.pace, recorder, now, intended),
                Some(name) => {
                    session.pace.give_back(self.request_bytes);
                    recorder.error(now, name);
                    if self.is_idempotent {
                        // What follows is out of order: begin anew, as another producer.
                        return Err(io::Error::other(name));
                    }
                }
            }
            if session.in_flight.is_empty() || !session.lane.has_frame() {
                return Ok(());
            }
        }
    }

    /// The first error of the answer that `correlation_id` awaits.
    fn failure_in(&self, frame: &[u8], correlation_id: i32) -> io::Result<Option<&'static str>> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let (answered_id, response) = decode_response::<ProduceRequest<'_>>(self.version, frame)
            .map_err(|error| invalid(error.to_string()))?;
        if answered_id != correlation_id {
            let reason =
                format!("the answer to request {answered_id} where {correlation_id} is awaited");
            return Err(invalid(reason));
        }
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let mut codes = partitions.map(|partition| partition.error_code);
        Ok(codes.find(|code| !code.is_none()).map(|code| code.name()))
    }

    /// With acks=0 a request is done when the socket has taken it.
    fn count_unanswered(&self, session: &mut Session<'_>, recorder: &mut Recorder) {
        let now = Instant::now();
        for sent in session.in_flight.drain(..) {
            self.count(session.pace, recorder, now, sent.intended);
        }
    }

    fn count(&self, pace: &Pace, recorder: &mut Recorder, now: Instant, intended: Instant) {
        recorder.answered(now, self.request_bytes, self.request_records);
        let is_measured = match self.schedule {
            Some(_) => pace.measured_from() <= intended && intended < pace.end(),
            None => recorder.counts(now),
        };
        if is_measured {
            self.record(recorder, now, intended, 1);
        }
        if let Some(stamps) = &self.stamps {
            stamps.acknowledged(self.batches_count);
        }
    }

    /// Records what `count` requests, or each of their records, have waited at `now`.
    fn record(&self, recorder: &mut Recorder, now: Instant, intended: Instant, count: u64) {
        let waited = now.saturating_duration_since(intended);
        let Some(spread) = self.spread else {
            recorder.latency(PUBLISH, now, waited, count);
            return;
        };
        for age in spread.ages(waited, self.request_records as u32) {
            recorder.latency(PUBLISH, now, age, count);
        }
    }

    /// What was in flight when a connection was lost has failed. At a fixed rate it counts with the
    /// time that it had waited by then: what was never answered must not look better than what was
    /// answered late.
    fn charge_lost(&self, session: &Session<'_>, recorder: &mut Recorder) {
        let now = Instant::now();
        for sent in &session.in_flight {
            session.pace.give_back(self.request_bytes);
            recorder.error(now, "unanswered when the connection was lost");
            let is_measured = session.pace.measured_from() <= sent.intended;
            if self.schedule.is_some() && is_measured {
                self.record(recorder, now, sent.intended, 1);
            }
        }
    }

    /// What the schedule asked for and was never sent counts with the time that it had waited when
    /// the run was over.
    fn charge_unsent(&self, pace: &Pace, recorder: &mut Recorder) {
        let Some(schedule) = self.schedule.as_ref().filter(|_| !pace.is_spent()) else { return };
        let end = pace.end().min(Instant::now());
        let first = schedule.number_at(pace.began(), pace.measured_from());
        let past = schedule.number_at(pace.began(), end);
        let mut number = self.next_number.max(first);
        while number < past {
            // Those of one microsecond have waited for the same time, as far as it is told; one by
            // one, a rate far above what can be sent would take longer to count than to run.
            let count = schedule.count_per_microsecond().min(past - number);
            self.record(recorder, end, schedule.due(pace.began(), number), count);
            number += count;
        }
    }
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
