//! Fetch: records as slices of the logs' own buffers, with long poll and incremental sessions.
//!
//! The first pass reads what is there. If that is less than the client's minimum, the shards that
//! own the partitions are asked again to wait; the first that has more ends the wait of the others.

use super::errors;
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::cluster::metadata::Image;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::protocol::wire::Records;
use crate::server::answer::{Answer, Outcome, Pending};
use crate::server::dispatch::{Refused, Request};
use crate::server::fetch_session::{
    Context, Found, SESSION_NONE, SessionError, SessionRequest, TopicKey, Wanted,
};
use crate::shard::fetch::{FetchGroup, FetchPart, FetchReply, Fetched};
use crate::shard::signal::{Flag, Permit};
use futures_util::future::{Either, join_all, select};
use std::pin::pin;
use std::time::Duration;

/// First version that names topics by id.
const BY_ID_FROM_VERSION: i16 = 13;
/// First version with an error for the whole request.
const ERROR_FROM_VERSION: i16 = 7;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// What one partition comes to.
type Read = Result<Fetched, ErrorCode>;

/// The limits of one request.
#[derive(Clone, Copy)]
struct Limits {
    bytes_max: usize,
    bytes_min: usize,
    wait_max: Duration,
}

/// A partition that exists, and its place in the request.
struct Target {
    index: usize,
    owner: ShardId,
    part: FetchPart,
}

/// Begins a request: its session moves on now, so that pipelined requests keep their order.
pub fn begin(request: Request) -> Result<Pending, Refused> {
    let body: FetchRequest = request.decode()?;
    let committed = match body.isolation_level {
        READ_UNCOMMITTED => false,
        READ_COMMITTED => true,
        other => return Err(request.nonsense(format!("isolation level {other}"))),
    };
    let asked = SessionRequest {
        session_id: body.session_id,
        epoch: body.session_epoch,
        by_ids: request.version >= BY_ID_FROM_VERSION,
        wanted: wanted_of(&body, request.version),
        forgotten: forgotten_of(&body, request.version),
    };
    let now_ms = request.server.shard.io.clock().now_ms();
    let context = request.server.sessions.borrow_mut().context(asked, now_ms);
    let context = match context {
        Ok(context) => context,
        Err(error) => return Ok(Pending::Now(refused(&request, error, SESSION_NONE))),
    };
    let settings = request.server.shard.settings();
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let bytes_max = count(body.max_bytes).min(count(settings.fetch_max_bytes));
    let limits = Limits {
        bytes_max,
        bytes_min: count(body.min_bytes).min(bytes_max),
        wait_max: Duration::from_millis(count(body.max_wait_ms) as u64),
    };
    drop(body);
    Ok(Pending::Later(Box::pin(serve(request, context, limits, committed))))
}

fn key_of(id: TopicId, name: &str, version: i16) -> TopicKey {
    if version >= BY_ID_FROM_VERSION { TopicKey::Id(id) } else { TopicKey::Name(name.into()) }
}

fn wanted_of(body: &FetchRequest<'_>, version: i16) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in &body.topics {
        let key = key_of(topic.topic_id, topic.topic, version);
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: key.clone(),
            partition: PartitionIndex(partition.partition),
            fetch_offset: Offset(partition.fetch_offset),
            leader_epoch: LeaderEpoch(partition.current_leader_epoch),
            last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
            bytes_max: partition.partition_max_bytes,
        }));
    }
    wanted
}

fn forgotten_of(body: &FetchRequest<'_>, version: i16) -> Vec<(TopicKey, PartitionIndex)> {
    let topics = body.forgotten_topics_data.iter().flat_map(|topic| {
        let key = key_of(topic.topic_id, topic.topic, version);
        topic.partitions.iter().map(move |partition| (key.clone(), PartitionIndex(*partition)))
    });
    topics.collect()
}

/// An answer that is nothing but an error of the session.
fn refused(request: &Request, error: SessionError, session_id: i32) -> Outcome {
    debug_assert!(request.version >= ERROR_FROM_VERSION, "older versions have no sessions");
    let error_code = match error {
        SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::Epoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIds => ErrorCode::FetchSessionTopicIdError,
    };
    let response = FetchResponse { error_code, session_id, ..Default::default() };
    Outcome::Answer(request.encode(&response).into())
}

async fn serve(request: Request, context: Context, limits: Limits, committed: bool) -> Outcome {
    let began = request.server.shard.io.clock().monotonic();
    let (reads, permit) = read_permitted(&request, context.wanted(), limits).await;
    let metrics = &request.server.shard.metrics;
    let waited = request.server.shard.io.clock().monotonic().saturating_sub(began);
    metrics.fetch_wait_time.record(waited);
    if !context.is_current() {
        return refused(&request, SessionError::Epoch, context.session_id());
    }
    let mut answer = answer(&request, &context, reads, committed);
    answer.permit = permit;
    metrics.fetch_bytes.add(answer.slices.iter().map(|slice| slice.len() as u64).sum());
    // Logs hand out parts of their buffers: records on the heap were copied there by somebody.
    let copied = answer.slices.iter().filter(|slice| slice.is_on_heap());
    metrics.fetch_copied_bytes.add(copied.map(|slice| slice.len() as u64).sum());
    Outcome::Answer(answer)
}

fn bytes_of(reads: &[Read]) -> usize {
    reads.iter().flatten().map(|read| read.bytes).sum()
}

/// As [`read`], within what the shard's answers may hold: clients that read slowly keep the logs'
/// own buffers from being used again.
///
/// Where there is no room, what was read is let go, and once there is, read again; no more than
/// that then, but for one batch.
async fn read_permitted(
    request: &Request,
    wanted: &[Wanted],
    limits: Limits,
) -> (Vec<Read>, Option<Permit>) {
    let reads = read(request, wanted, &limits).await;
    let bytes = bytes_of(&reads);
    if bytes == 0 {
        return (reads, None);
    }
    let budget = &request.server.shard.answers_budget;
    if let Some(permit) = budget.try_take(bytes) {
        return (reads, Some(permit));
    }
    drop(reads);
    let mut permit = budget.take(bytes).await;
    let now = Limits { bytes_max: bytes, bytes_min: 0, wait_max: Duration::ZERO };
    let reads = read(request, wanted, &now).await;
    permit.enlarge(bytes_of(&reads));
    (reads, Some(permit))
}

/// Reads what is wanted, waiting for it as long as the limits allow.
async fn read(request: &Request, wanted: &[Wanted], limits: &Limits) -> Vec<Read> {
    let clock = request.server.shard.io.clock();
    let deadline = clock.monotonic() + limits.wait_max;
    let image = request.server.shard.image();
    let mut targets = Vec::with_capacity(wanted.len());
    let mut reads: Vec<Read> = Vec::with_capacity(wanted.len());
    for (index, wanted) in wanted.iter().enumerate() {
        match target(request, &image, wanted) {
            Ok(part) => {
                let owner = request.server.shard.owner(part.partition);
                targets.push(Target { index, owner, part });
                reads.push(Err(ErrorCode::None));
            }
            Err(code) => reads.push(Err(code)),
        }
    }
    if targets.is_empty() {
        return reads; // as when a consumer closes its session: there is nothing to wait for
    }
    let may_wait = !limits.wait_max.is_zero() && limits.bytes_min > 0;
    let failed = |reads: &[Read]| targets.iter().any(|target| reads[target.index].is_err());
    let one_owner = targets.windows(2).all(|pair| pair[0].owner == pair[1].owner);
    if may_wait && one_owner {
        // The only shard waits by itself: one message there and one back.
        let wait_bytes = limits.bytes_min;
        let waits = vec![(targets[0].owner, (0..targets.len()).collect::<Vec<_>>(), wait_bytes)];
        wait_pass(request, &targets, waits, limits, deadline, &mut reads).await;
        return reads;
    }
    loop {
        first_pass(request, &targets, limits, &mut reads).await;
        let bytes = bytes_of(&reads);
        let is_error = failed(&reads);
        let is_stopping = request.server.stopping().is_raised();
        let is_over = is_stopping || clock.monotonic() >= deadline;
        if is_error || bytes >= limits.bytes_min || !may_wait || is_over {
            return reads;
        }
        let mut waits = by_owner(&targets, 0..targets.len());
        for (_, indexes, wait_bytes) in &mut waits {
            let bytes_of = |at: &usize| reads[targets[*at].index].as_ref().map_or(0, |r| r.bytes);
            *wait_bytes = indexes.iter().map(bytes_of).sum::<usize>() + 1;
        }
        // What was read is read again after the wait; meanwhile its buffers are free to go.
        targets.iter().for_each(|target| reads[target.index] = Err(ErrorCode::None));
        wait_pass(request, &targets, waits, limits, deadline, &mut reads).await;
        let bytes = bytes_of(&reads);
        let is_error = failed(&reads);
        if is_error || (bytes >= limits.bytes_min && bytes <= limits.bytes_max) {
            return reads;
        }
    }
}

fn target(request: &Request, image: &Image, wanted: &Wanted) -> Result<FetchPart, ErrorCode> {
    let topic = match &wanted.topic {
        TopicKey::Id(id) => errors::topic_of_id(image, *id)?,
        TopicKey::Name(name) => errors::named_topic(image, name)?,
    };
    let node_id = request.server.shard.node.node_id;
    Ok(FetchPart {
        partition: errors::led_partition(topic, wanted.partition.0, node_id)?,
        offset: wanted.fetch_offset,
        leader_epoch: wanted.leader_epoch,
        bytes_max: usize::try_from(wanted.bytes_max).unwrap_or(0),
    })
}

/// Owner, positions in `targets`, bytes to wait for.
type Wait = (ShardId, Vec<usize>, usize);

fn by_owner(targets: &[Target], range: std::ops::Range<usize>) -> Vec<Wait> {
    let mut groups: Vec<Wait> = Vec::new();
    for at in range {
        let owner = targets[at].owner;
        match groups.iter_mut().find(|group| group.0 == owner) {
            Some(group) => group.1.push(at),
            None => groups.push((owner, vec![at], 0)),
        }
    }
    groups
}

fn group_of(targets: &[Target], wait: &Wait, bytes_max: usize, at_least_one: bool) -> FetchGroup {
    let parts = wait.1.iter().map(|&at| targets[at].part).collect();
    FetchGroup { parts, bytes_max, at_least_one, wait_bytes: wait.2 }
}

/// Reads without waiting, in rounds: each takes as many partitions as could fill what is left, so
/// that shards do not read what the answer has no room for. Rounds grow, for most partitions of a
/// consumer that has caught up are empty.
async fn first_pass(request: &Request, targets: &[Target], limits: &Limits, reads: &mut [Read]) {
    let shard = &request.server.shard;
    let mut left_bytes = limits.bytes_max;
    let mut found_bytes = 0;
    let mut next = 0;
    let mut factor = 1;
    while next < targets.len() {
        let first = next;
        let room = left_bytes.saturating_mul(factor);
        let mut asked_bytes = 0usize;
        while next < targets.len() && (next == first || asked_bytes < room || left_bytes == 0) {
            asked_bytes = asked_bytes.saturating_add(targets[next].part.bytes_max);
            next += 1;
        }
        let cancel = Flag::default();
        let calls = by_owner(targets, first..next).into_iter().map(|wait| {
            let group = group_of(targets, &wait, left_bytes, found_bytes == 0);
            let call = shard.fetch(wait.0, group, &cancel);
            async move { (wait.1, call.await) }
        });
        for (places, reply) in join_all(calls).await {
            note(request, targets, &places, reply, reads);
        }
        for target in &targets[first..next] {
            trim(&mut reads[target.index], limits.bytes_max, &mut found_bytes);
        }
        left_bytes = limits.bytes_max.saturating_sub(found_bytes);
        factor = factor.saturating_mul(2);
    }
}

/// Reads and lets the owners wait for more until `deadline`.
async fn wait_pass(
    request: &Request,
    targets: &[Target],
    waits: Vec<Wait>,
    limits: &Limits,
    deadline: Duration,
    reads: &mut [Read],
) {
    let shard = &request.server.shard;
    let cancel = Flag::default();
    let replies = {
        let calls = waits.into_iter().map(|wait| {
            let group = group_of(targets, &wait, limits.bytes_max, true);
            let call = shard.fetch(wait.0, group, &cancel);
            let cancel = &cancel;
            async move {
                let reply = call.await;
                cancel.raise();
                (wait.1, reply)
            }
        });
        let all = pin!(join_all(calls));
        let left = deadline.saturating_sub(shard.io.clock().monotonic());
        let over = pin!(shard.io.timeout(left, request.server.stopping().wait()));
        match select(all, over).await {
            Either::Left((replies, _)) => replies,
            Either::Right((_, all)) => {
                cancel.raise();
                all.await
            }
        }
    };
    for (places, reply) in replies {
        note(request, targets, &places, reply, reads);
    }
    let mut found_bytes = 0;
    for target in targets {
        trim(&mut reads[target.index], limits.bytes_max, &mut found_bytes);
    }
}

fn note(
    request: &Request,
    targets: &[Target],
    places: &[usize],
    reply: FetchReply,
    reads: &mut [Read],
) {
    let by_id = request.version >= BY_ID_FROM_VERSION;
    for (&at, result) in places.iter().zip(reply) {
        let target = &targets[at];
        let id: TopicPartition = target.part.partition;
        reads[target.index] =
            result.map_err(|error| errors::of_fetch(&error, &request.server.shard, id, by_id));
    }
}

/// Takes the records out again where several shards together found more than the answer may have.
fn trim(read: &mut Read, bytes_max: usize, found_bytes: &mut usize) {
    let Ok(fetched) = read else { return };
    if *found_bytes > 0 && *found_bytes + fetched.bytes > bytes_max {
        fetched.slices = Vec::new();
        fetched.bytes = 0;
    }
    *found_bytes += fetched.bytes;
}

fn answer(request: &Request, context: &Context, reads: Vec<Read>, committed: bool) -> Answer {
    let mut slices = Vec::new();
    let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
    let mut last: Option<&TopicKey> = None;
    for (index, (wanted, read)) in context.wanted().iter().zip(reads).enumerate() {
        let found = match &read {
            Ok(fetched) => Found {
                high_watermark: fetched.high_watermark.0,
                log_start_offset: fetched.log_start.0,
                records_bytes: fetched.bytes,
                is_error: false,
            },
            Err(_) => {
                Found { high_watermark: -1, log_start_offset: -1, records_bytes: 0, is_error: true }
            }
        };
        if !context.note(index, found) {
            continue;
        }
        let partition = partition_answer(wanted.partition.0, &read, found, committed);
        if let Ok(fetched) = read {
            slices.extend(fetched.slices);
        }
        if last != Some(&wanted.topic) {
            last = Some(&wanted.topic);
            responses.push(match &wanted.topic {
                TopicKey::Id(id) => FetchableTopicResponse { topic_id: *id, ..Default::default() },
                TopicKey::Name(name) => {
                    FetchableTopicResponse { topic: name.as_ref(), ..Default::default() }
                }
            });
        }
        let topic = responses.last_mut().expect("pushed just now, or before");
        topic.partitions.push(partition);
    }
    let session_id = context.session_id();
    let response = FetchResponse { session_id, responses, ..Default::default() };
    Answer { encoded: request.encode(&response), slices, permit: None }
}

fn partition_answer<'a>(
    partition_index: i32,
    read: &Read,
    found: Found,
    committed: bool,
) -> PartitionData<'a> {
    let mut data = PartitionData {
        partition_index,
        high_watermark: found.high_watermark,
        // Without transactions every record below the high watermark is stable.
        last_stable_offset: found.high_watermark,
        log_start_offset: found.log_start_offset,
        records: Records::Bytes(&[]),
        ..Default::default()
    };
    match read {
        Err(code) => data.error_code = *code,
        Ok(fetched) => {
            data.aborted_transactions = committed.then(Vec::new);
            if fetched.bytes > 0 {
                data.records = Records::Elsewhere { bytes: fetched.bytes };
            }
        }
    }
    data
}
