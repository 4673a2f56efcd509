//! One member of a consumer group: a thread with a connection of its own, as real consumers have.
//!
//! Joins by either protocol, keeps its heartbeats, takes part in rebalances, and tells on its seat
//! how far it is. It reads no records: what is measured is the group.
//! **Invariant:** what a seat calls settled is what the broker has answered, never what was asked.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use uuid::Uuid;

use ringmain::base::ids::TopicId;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::Request;
use ringmain::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitionsRequest,
};
use ringmain::protocol::messages::heartbeat::HeartbeatRequest;
use ringmain::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ringmain::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use ringmain::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use ringmain::protocol::subscription::{self, Assignment, Subscription, TopicPartitions};

use crate::CLIENT_ID;
use crate::lane::Lane;
use crate::result::{LATENCY_US_MAX, new_histogram};

/// How long the broker waits for a member before it is given up, and for all to join again, ms.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// Longest wait for an answer: a join may last as long as a rebalance.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause before a coordinator that is not ready is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Version of the bytes that classic members write for each other: with owned partitions.
const SUBSCRIPTION_VERSION: i16 = 1;
const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";

/// What Kafka calls a member that is about to join, or to leave.
const EPOCH_JOIN: i32 = 0;
const EPOCH_LEAVE: i32 = -1;

/// Which protocol a group speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Protocol {
    /// Members agree among each other: JoinGroup, SyncGroup, Heartbeat
    Classic,
    /// The broker assigns: ConsumerGroupHeartbeat (KIP-848)
    Consumer,
}

/// Versions of the requests that members send.
#[derive(Clone, Copy)]
pub struct Versions {
    pub join: i16,
    pub sync: i16,
    pub heartbeat: i16,
    pub leave: i16,
    pub consumer: i16,
}

/// What all members of a run have in common.
pub struct Plan {
    pub protocol: Protocol,
    pub topic: String,
    pub topic_id: TopicId,
    pub partitions_count: i32,
    pub versions: Versions,
    /// Between heartbeats; `None`: what the broker asks for, 3 s in the classic protocol.
    pub interval: Option<Duration>,
    pub is_measuring: AtomicBool,
    pub tally: Mutex<Tally>,
}

/// What came of the members' heartbeats.
pub struct Tally {
    pub heartbeats_count: u64,
    pub errors: BTreeMap<String, u64>,
    pub latency_us: Histogram<u64>,
}

impl Tally {
    /// An empty tally.
    pub fn new() -> Tally {
        Tally { heartbeats_count: 0, errors: BTreeMap::new(), latency_us: new_histogram() }
    }
}

/// Where a member tells how far it is.
#[derive(Default)]
pub struct Seat {
    pub status: Mutex<Status>,
    pub is_leaving: AtomicBool,
}

/// How far a member is.
#[derive(Default, Clone)]
pub struct Status {
    /// Generation or member epoch of what it owns; `None`: it owns nothing for sure.
    pub epoch: Option<i32>,
    pub owned: Vec<i32>,
    /// When its last join was sent.
    pub joined_at: Option<Instant>,
    /// When it was told what it owns.
    pub settled_at: Option<Instant>,
    pub heartbeats_count: u64,
    pub interval: Duration,
    /// Why its thread has ended early.
    pub failure: Option<String>,
}

impl Seat {
    /// The status, whatever happened to a thread that held it.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member on its thread.
pub struct Member {
    plan: Arc<Plan>,
    seat: Arc<Seat>,
    group: String,
    lane: Lane,
    correlation_id: i32,
    member_id: String,
    phase: f64, // how far into an interval its heartbeats lie, so that a thousand are not one burst
    is_phased: bool,
}

/// Default of Kafka's classic consumers.
const CLASSIC_INTERVAL: Duration = Duration::from_secs(3);

/// What came of joining.
struct Joined {
    generation: i32,
    members: Vec<String>, // all of them where this one leads, none otherwise
}

/// How a generation ends.
enum End {
    Rebalance,
    Leave,
}

impl Member {
    /// Connects a member of `group`, which belongs to the broker at `address`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn connect(
        plan: &Arc<Plan>,
        seat: &Arc<Seat>,
        group: &str,
        address: SocketAddr,
        phase: f64,
    ) -> io::Result<Member> {
        Ok(Member {
            plan: Arc::clone(plan),
            seat: Arc::clone(seat),
            group: group.to_owned(),
            lane: Lane::connect(address, ANSWER_TIMEOUT)?,
            correlation_id: 0,
            member_id: String::new(),
            phase,
            is_phased: false,
        })
    }

    /// Is a member until its seat says to leave.
    pub fn run(mut self) {
        let ended = match self.plan.protocol {
            Protocol::Classic => self.run_classic(),
            Protocol::Consumer => self.run_consumer(),
        };
        if let Err(error) = ended {
            let mut status = self.seat.status();
            status.epoch = None;
            status.failure = Some(error.to_string());
        }
    }

    fn run_classic(&mut self) -> io::Result<()> {
        loop {
            if self.is_leaving() {
                return self.leave_classic();
            }
            let Some(joined) = self.join()? else { continue };
            if !self.sync(&joined)? {
                continue;
            }
            match self.beat_classic(joined.generation)? {
                End::Rebalance => {}
                End::Leave => return self.leave_classic(),
            }
        }
    }

    /// Joins; `None` where it has to be tried again.
    fn join(&mut self) -> io::Result<Option<Joined>> {
        let wanted = Subscription { topics: vec![&self.plan.topic], ..Subscription::default() };
        let metadata = subscription::write(SUBSCRIPTION_VERSION, &wanted);
        let (group, member_id) = (self.group.clone(), self.member_id.clone());
        let request = JoinGroupRequest {
            group_id: &group,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: &member_id,
            protocol_type: PROTOCOL_TYPE,
            protocols: vec![JoinGroupRequestProtocol { name: ASSIGNOR, metadata: &metadata }],
            ..JoinGroupRequest::default()
        };
        self.unsettle(true);
        let version = self.plan.versions.join;
        let body = self.exchange(&request, version)?;
        let (_, answer) = decode_response::<JoinGroupRequest<'_>>(version, self.lane.bytes(body))
            .map_err(unreadable)?;
        match answer.error_code {
            ErrorCode::None => {
                let members = answer.members.iter().map(|member| member.member_id.to_owned());
                let (members, generation) = (members.collect(), answer.generation_id);
                self.member_id = answer.member_id.to_owned();
                Ok(Some(Joined { generation, members }))
            }
            ErrorCode::MemberIdRequired => {
                self.member_id = answer.member_id.to_owned();
                Ok(None)
            }
            code => self.start_over(code, "JoinGroup").map(|()| None),
        }
    }

    /// Shares out the partitions where it leads, and takes its own; false: join again.
    fn sync(&mut self, joined: &Joined) -> io::Result<bool> {
        let shares = shares_of(&self.plan.topic, self.plan.partitions_count, &joined.members);
        let (group, member_id) = (self.group.clone(), self.member_id.clone());
        let assignments = joined.members.iter().zip(&shares);
        let request = SyncGroupRequest {
            group_id: &group,
            generation_id: joined.generation,
            member_id: &member_id,
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(ASSIGNOR),
            assignments: assignments
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
            ..SyncGroupRequest::default()
        };
        let version = self.plan.versions.sync;
        let body = self.exchange(&request, version)?;
        let (_, answer) = decode_response::<SyncGroupRequest<'_>>(version, self.lane.bytes(body))
            .map_err(unreadable)?;
        if answer.error_code != ErrorCode::None {
            let code = answer.error_code;
            return self.start_over(code, "SyncGroup").map(|()| false);
        }
        let owned = owned_in(answer.assignment)?;
        self.settle(joined.generation, owned, self.plan.interval.unwrap_or(CLASSIC_INTERVAL));
        Ok(true)
    }

    fn beat_classic(&mut self, generation_id: i32) -> io::Result<End> {
        let (group, member_id) = (self.group.clone(), self.member_id.clone());
        let request = HeartbeatRequest {
            group_id: &group,
            generation_id,
            member_id: &member_id,
            group_instance_id: None,
        };
        loop {
            if !self.wait() {
                return Ok(End::Leave);
            }
            let version = self.plan.versions.heartbeat;
            let sent_at = Instant::now();
            let body = self.exchange(&request, version)?;
            let frame = self.lane.bytes(body);
            let (_, answer) =
                decode_response::<HeartbeatRequest<'_>>(version, frame).map_err(unreadable)?;
            self.count(sent_at, answer.error_code);
            match answer.error_code {
                ErrorCode::None => {}
                code => {
                    self.start_over(code, "Heartbeat")?;
                    return Ok(End::Rebalance);
                }
            }
        }
    }

    fn leave_classic(&mut self) -> io::Result<()> {
        let (group, member_id) = (self.group.clone(), self.member_id.clone());
        let request = LeaveGroupRequest {
            group_id: &group,
            member_id: &member_id,
            members: vec![MemberIdentity { member_id: &member_id, ..MemberIdentity::default() }],
        };
        self.exchange(&request, self.plan.versions.leave).map(drop)
    }

    fn run_consumer(&mut self) -> io::Result<()> {
        self.member_id = Uuid::new_v4().to_string();
        let mut epoch = EPOCH_JOIN;
        let mut owned: Vec<i32> = Vec::new();
        let mut is_told = false; // the broker knows what is owned
        loop {
            let is_joining = epoch == EPOCH_JOIN;
            if is_joining {
                self.unsettle(true);
            }
            let sent_at = Instant::now();
            let told = (!is_told).then_some(owned.as_slice());
            let answer = self.beat_consumer(epoch, told)?;
            self.count(sent_at, answer.code);
            match answer.code {
                ErrorCode::None => {}
                code => {
                    self.start_over(code, "ConsumerGroupHeartbeat")?;
                    if !is_passing(code) {
                        (epoch, is_told) = (EPOCH_JOIN, false);
                        owned.clear();
                    }
                    continue;
                }
            }
            epoch = answer.epoch;
            is_told = answer.assigned.as_ref().is_none_or(|assigned| *assigned == owned);
            owned = answer.assigned.unwrap_or(owned);
            let interval = self.plan.interval.unwrap_or(answer.interval);
            self.settle(epoch, owned.clone(), interval);
            if is_told && !self.wait() {
                self.beat_consumer(EPOCH_LEAVE, None)?;
                return Ok(());
            }
        }
    }

    /// One heartbeat; `told` is what is owned, where the broker has to hear it.
    fn beat_consumer(&mut self, epoch: i32, told: Option<&[i32]>) -> io::Result<Beat> {
        let (group, member_id, topic) =
            (self.group.clone(), self.member_id.clone(), self.plan.topic.clone());
        let topic_id = self.plan.topic_id;
        let is_joining = epoch == EPOCH_JOIN;
        let topic_partitions = told.map(|owned| match owned {
            [] => Vec::new(),
            owned => vec![TopicPartitionsRequest { topic_id, partitions: owned.to_vec() }],
        });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &group,
            member_id: &member_id,
            member_epoch: epoch,
            rebalance_timeout_ms: if is_joining { REBALANCE_TIMEOUT_MS } else { -1 },
            subscribed_topic_names: is_joining.then(|| vec![topic.as_str()]),
            topic_partitions,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let version = self.plan.versions.consumer;
        let body = self.exchange(&request, version)?;
        let frame = self.lane.bytes(body);
        let (_, answer) = decode_response::<ConsumerGroupHeartbeatRequest<'_>>(version, frame)
            .map_err(unreadable)?;
        let assigned = answer.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            let mut assigned: Vec<i32> = topics.flat_map(|topic| topic.partitions).collect();
            assigned.sort_unstable();
            assigned
        });
        Ok(Beat {
            code: answer.error_code,
            epoch: answer.member_epoch,
            interval: Duration::from_millis(answer.heartbeat_interval_ms.max(1) as u64),
            assigned,
        })
    }

    /// Sends `request` and waits for its answer, which lies in the lane at what is returned.
    fn exchange<'a, R: Request<'a>>(
        &mut self,
        request: &R,
        version: i16,
    ) -> io::Result<Range<usize>> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let frame = encode_request(version, self.correlation_id, Some(CLIENT_ID), request);
        self.lane.send(&mut [IoSlice::new(&frame.head)])?;
        self.lane.receive()
    }

    /// After a refusal: what may be tried again is, from the start; anything else is an error.
    fn start_over(&mut self, code: ErrorCode, what: &str) -> io::Result<()> {
        self.unsettle(false);
        match code {
            ErrorCode::RebalanceInProgress => {}
            ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedMemberEpoch => {
                if self.plan.protocol == Protocol::Classic {
                    self.member_id.clear();
                }
            }
            code if is_passing(code) => std::thread::sleep(RETRY_PAUSE),
            code => {
                let reason = format!("{what} of group {} is refused: {code}", self.group);
                return Err(io::Error::other(reason));
            }
        }
        Ok(())
    }

    fn is_leaving(&self) -> bool {
        self.seat.is_leaving.load(Ordering::Relaxed)
    }

    /// Waits until the next heartbeat is due; false: it is time to leave.
    fn wait(&mut self) -> bool {
        let mut interval = self.seat.status().interval;
        if !self.is_phased {
            self.is_phased = true;
            interval = interval.mul_f64(self.phase);
        }
        let due = Instant::now() + interval;
        while !self.is_leaving() {
            let now = Instant::now();
            if now >= due {
                return true;
            }
            std::thread::park_timeout(due - now);
        }
        false
    }

    fn count(&self, sent_at: Instant, code: ErrorCode) {
        self.seat.status().heartbeats_count += 1;
        if !self.plan.is_measuring.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut tally = self.plan.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            ErrorCode::None => {
                let us = (now - sent_at).as_micros() as u64;
                tally.heartbeats_count += 1;
                tally.latency_us.saturating_record(us.min(LATENCY_US_MAX));
            }
            code => *tally.errors.entry(code.name().to_owned()).or_default() += 1,
        }
    }

    fn unsettle(&self, is_joining: bool) {
        let mut status = self.seat.status();
        status.epoch = None;
        if is_joining {
            status.joined_at = Some(Instant::now());
        }
    }

    fn settle(&self, epoch: i32, owned: Vec<i32>, interval: Duration) {
        let mut status = self.seat.status();
        let is_news = status.epoch != Some(epoch) || status.owned != owned;
        if is_news {
            status.settled_at = Some(Instant::now());
        }
        status.epoch = Some(epoch);
        status.owned = owned;
        status.interval = interval;
    }
}

/// A heartbeat's answer.
struct Beat {
    code: ErrorCode,
    epoch: i32,
    interval: Duration,
    assigned: Option<Vec<i32>>,
}

/// Whether a refusal passes by itself, with nothing lost.
fn is_passing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable)
}

fn unreadable(error: ringmain::protocol::wire::WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The assignments of `members`, one run of partitions each, as even as can be.
fn shares_of(topic: &str, partitions_count: i32, members: &[String]) -> Vec<Vec<u8>> {
    let members_count = members.len() as i64;
    let bound = |index: usize| (index as i64 * i64::from(partitions_count) / members_count) as i32;
    let share = |index: usize| {
        let partitions: Vec<i32> = (bound(index)..bound(index + 1)).collect();
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![TopicPartitions { topic, partitions }],
        };
        let assignment = Assignment { assigned_partitions: topics, user_data: None };
        subscription::write_assignment(SUBSCRIPTION_VERSION, &assignment)
    };
    (0..members.len()).map(share).collect()
}

/// The partitions of an assignment's bytes.
fn owned_in(assignment: &[u8]) -> io::Result<Vec<i32>> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let assignment = subscription::read_assignment(assignment).map_err(unreadable)?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics.flat_map(|topic| topic.partitions).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each partition has one owner and nobody much more than others. Method: counts that
    /// divide and that do not, also more members than partitions.
    #[test]
    fn shares_cover_every_partition_once_and_evenly() {
        for (partitions_count, members_count) in [(1_000, 100), (1_000, 99), (3, 5), (7, 1)] {
            let members: Vec<String> = (0..members_count).map(|n: usize| n.to_string()).collect();
            let shares = shares_of("t", partitions_count, &members);
            let owned: Vec<Vec<i32>> =
                shares.iter().map(|share| owned_in(share).expect("is one")).collect();
            let sizes = owned.iter().map(Vec::len);
            let spread = sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0);
            assert!(spread <= 1, "{partitions_count} over {members_count}");
            let all: Vec<i32> = owned.concat();
            assert_eq!(all, (0..partitions_count).collect::<Vec<_>>());
        }
    }
}
