//! Produce: appends batches; answers when they are acknowledged, or not at all with acks=0.

use super::errors;
use crate::base::ids::{ShardId, TopicId, TopicPartition};
use crate::cluster::metadata::Topic;
use crate::protocol::batch::BatchView;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use crate::protocol::wire::Records;
use crate::server::answer::{Outcome, Pending};
use crate::server::dispatch::{Refused, Request};
use crate::shard::calls::Call;
use crate::shard::mailbox::{ShardReply, produce_reply};
use crate::shard::produce::{ProduceGroup, ProducePart, ProduceReply, ProduceWork};
use crate::shard::replica::{StoreError, Stored};
use futures_util::future::Either;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// First version that names topics by id.
const BY_ID_FROM_VERSION: i16 = 13;
/// A request waits at least so long, ms, for the disk: a shorter timeout would have a producer
/// repeat what is about to be acknowledged.
const TIMEOUT_MS_MIN: i32 = 1_000;

const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

/// One topic of the request, and its partitions' results.
struct TopicWork {
    topic: TopicKey,
    parts: Vec<PartWork>,
}

/// How the answer names the topic.
enum TopicKey {
    Known(Arc<Topic>),
    Name(String),
    Id(TopicId),
}

struct PartWork {
    index: i32,
    result: PartResult,
}

enum PartResult {
    Refused(ErrorCode),
    /// Among the parts of a group.
    Sent {
        id: TopicPartition,
        group: usize,
        part: usize,
    },
}

/// The calls of one request, a group for each shard that owns a partition of it.
struct Groups {
    shards: Vec<ShardId>,
    groups: Vec<ProduceGroup>,
}

/// Begins a request: when this returns its batches are in their logs or on their way there.
pub fn begin(request: Request) -> Result<Pending, Refused> {
    let body: ProduceRequest = request.decode()?;
    let (acks, timeout_ms) = (body.acks, body.timeout_ms.max(TIMEOUT_MS_MIN));
    let wait = acks != ACKS_NONE;
    let mut groups = Groups { shards: Vec::new(), groups: Vec::new() };
    let forbidden = body.transactional_id.is_none() && has_transactional(&body);
    let known_acks = matches!(acks, ACKS_NONE | ACKS_LEADER | ACKS_ALL);
    let image = request.server.shard.image();
    let mut topics = Vec::with_capacity(body.topic_data.len());
    for data in &body.topic_data {
        let found = if forbidden {
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        } else if request.version >= BY_ID_FROM_VERSION {
            errors::topic_of_id(&image, data.topic_id)
        } else {
            errors::named_topic(&image, data.name)
        };
        let key = match found {
            Ok(topic) => TopicKey::Known(topic.clone()),
            Err(_) if request.version >= BY_ID_FROM_VERSION => TopicKey::Id(data.topic_id),
            Err(_) => TopicKey::Name(data.name.to_owned()),
        };
        let found = found.and_then(|topic| match topic.internal {
            _ if !known_acks => Err(ErrorCode::InvalidRequiredAcks),
            true => Err(ErrorCode::InvalidTopicException),
            false => Ok(topic),
        });
        topics.push(TopicWork {
            topic: key,
            parts: parts_of(&request, data, found, &mut groups, wait),
        });
    }
    drop(body);
    let calls = groups.send(&request);
    if !wait && calls.iter().all(Sent::is_finished) && !has_refusal(&topics, &calls) {
        return Ok(Pending::Now(Outcome::Silent));
    }
    let began = request.server.shard.io.clock().monotonic();
    let deadline = began + Duration::from_millis(u64::from(timeout_ms.unsigned_abs()));
    let work = async move {
        let replies = collect(&request, calls, deadline).await;
        if wait {
            Outcome::Answer(answer(&request, &topics, &replies).into())
        } else {
            silent(&request, &topics, &replies)
        }
    };
    Ok(Pending::Later(Box::pin(work)))
}

/// Whether a batch says that it is part of a transaction.
fn has_transactional(body: &ProduceRequest<'_>) -> bool {
    let mut parts = body.topic_data.iter().flat_map(|data| &data.partition_data);
    parts.any(|part| {
        let batch = BatchView::first(part.records.bytes());
        batch.is_ok_and(|batch| batch.is_transactional())
    })
}

fn parts_of(
    request: &Request,
    data: &TopicProduceData<'_>,
    topic: Result<&Arc<Topic>, ErrorCode>,
    groups: &mut Groups,
    wait: bool,
) -> Vec<PartWork> {
    let shard = &request.server.shard;
    let part = |data: &PartitionProduceData<'_>| {
        let id = topic.and_then(|t| errors::led_partition(t, data.index, shard.node.node_id));
        let result = match (id, data.records) {
            (Err(code), _) => PartResult::Refused(code),
            (Ok(_), Records::Null) => PartResult::Refused(ErrorCode::InvalidRecord),
            (Ok(id), records) => {
                let part = ProducePart { partition: id, batch: request.slice_of(records.bytes()) };
                let (group, part) = groups.add(shard.owner(id), part, request.version, wait);
                PartResult::Sent { id, group, part }
            }
        };
        PartWork { index: data.index, result }
    };
    data.partition_data.iter().map(part).collect()
}

impl Groups {
    /// Adds a part to its shard's group; returns its place.
    fn add(
        &mut self,
        owner: ShardId,
        part: ProducePart,
        version: i16,
        wait: bool,
    ) -> (usize, usize) {
        let group = match self.shards.iter().position(|shard| *shard == owner) {
            Some(group) => group,
            None => {
                self.shards.push(owner);
                self.groups.push(ProduceGroup { version, wait, parts: Vec::new() });
                self.groups.len() - 1
            }
        };
        let parts = &mut self.groups[group].parts;
        parts.push(part);
        (group, parts.len() - 1)
    }

    fn send(self, request: &Request) -> Vec<Sent> {
        let calls = self.shards.into_iter().zip(self.groups);
        let calls = calls.map(|(owner, group)| {
            let parts_count = group.parts.len();
            let call = request.server.shard.produce(owner, group);
            Sent { parts_count, call }
        });
        calls.collect()
    }
}

/// A group under way.
struct Sent {
    parts_count: usize,
    call: Either<ProduceWork, Call<ShardReply>>,
}

impl Sent {
    fn is_finished(&self) -> bool {
        match &self.call {
            Either::Left(work) => work.is_finished(),
            Either::Right(_) => false,
        }
    }
}

fn has_refusal(topics: &[TopicWork], calls: &[Sent]) -> bool {
    let refused = topics
        .iter()
        .flat_map(|topic| &topic.parts)
        .any(|part| matches!(part.result, PartResult::Refused(_)));
    let failed = |sent: &Sent| matches!(&sent.call, Either::Left(work) if work.has_failed());
    refused || calls.iter().any(failed)
}

/// The results of all groups; those that are not there in time have timed out.
async fn collect(request: &Request, calls: Vec<Sent>, deadline: Duration) -> Vec<ProduceReply> {
    let mut replies = Vec::with_capacity(calls.len());
    for sent in calls {
        let reply = match sent.call {
            Either::Left(work) => until(request, deadline, work.finish()).await,
            Either::Right(call) => until(request, deadline, call).await.map(produce_reply),
        };
        let timed_out = || (0..sent.parts_count).map(|_| Err(StoreError::TimedOut)).collect();
        replies.push(reply.unwrap_or_else(timed_out));
    }
    replies
}

/// `None` if `deadline` is over. No timer: the connection's sweep wakes requests that wait long.
async fn until<T>(
    request: &Request,
    deadline: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let clock = request.server.shard.io.clock();
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if clock.monotonic() >= deadline => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// With acks=0 a producer learns of an error by the end of the connection, and looks for its
/// leaders.
fn silent(request: &Request, topics: &[TopicWork], replies: &[ProduceReply]) -> Outcome {
    for topic in topics {
        for part in &topic.parts {
            let (code, _) = result_of(request, part, replies);
            if code != ErrorCode::None {
                let name = topic.topic.name();
                let index = part.index;
                let code = code.name();
                return Outcome::Close(format!("produce with acks=0 to {name}-{index}: {code}"));
            }
        }
    }
    Outcome::Silent
}

fn result_of<'r>(
    request: &Request,
    part: &PartWork,
    replies: &'r [ProduceReply],
) -> (ErrorCode, Option<&'r Result<Stored, StoreError>>) {
    match part.result {
        PartResult::Refused(code) => (code, None),
        PartResult::Sent { id, group, part } => {
            let result = &replies[group][part];
            let by_id = request.version >= BY_ID_FROM_VERSION;
            let code = match result {
                Ok(_) => ErrorCode::None,
                Err(error) => errors::of_store(error, &request.server.shard, id, by_id),
            };
            (code, Some(result))
        }
    }
}

fn answer(
    request: &Request,
    topics: &[TopicWork],
    replies: &[ProduceReply],
) -> crate::protocol::wire::Encoded {
    let messages: Vec<Option<String>> = replies
        .iter()
        .flatten()
        .map(|result| result.as_ref().err().map(ToString::to_string))
        .collect();
    let starts: Vec<usize> = replies
        .iter()
        .scan(0, |start, reply| Some(std::mem::replace(start, *start + reply.len())))
        .collect();
    let message_of = |part: &PartWork| match part.result {
        PartResult::Refused(_) => None,
        PartResult::Sent { group, part, .. } => messages[starts[group] + part].as_deref(),
    };
    let responses = topics.iter().map(|topic| TopicProduceResponse {
        topic_id: topic.topic.id(),
        name: topic.topic.name_or_empty(),
        partition_responses: topic
            .parts
            .iter()
            .map(|part| {
                let (code, result) = result_of(request, part, replies);
                part_answer(part.index, code, result, message_of(part))
            })
            .collect(),
    });
    request.encode(&ProduceResponse { responses: responses.collect(), ..Default::default() })
}

fn part_answer<'a>(
    index: i32,
    error_code: ErrorCode,
    result: Option<&Result<Stored, StoreError>>,
    error_message: Option<&'a str>,
) -> PartitionProduceResponse<'a> {
    let mut answer = PartitionProduceResponse {
        index,
        error_code,
        base_offset: -1,
        error_message,
        ..Default::default()
    };
    match result {
        Some(Ok(stored)) => {
            answer.base_offset = stored.base_offset.0;
            answer.log_append_time_ms = stored.log_append_time_ms.unwrap_or(-1);
            answer.log_start_offset = stored.log_start.0;
        }
        Some(Err(StoreError::Refused(error))) => {
            let indexes = error.record_indexes().iter().map(|index| *index as i32); // a count's
            answer.record_errors.extend(indexes.map(|batch_index| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: None, // the partition's says it
            }));
        }
        _ => {}
    }
    answer
}

impl TopicKey {
    fn id(&self) -> TopicId {
        match self {
            TopicKey::Known(topic) => topic.id,
            TopicKey::Name(_) => TopicId::ZERO,
            TopicKey::Id(id) => *id,
        }
    }

    fn name_or_empty(&self) -> &str {
        match self {
            TopicKey::Known(topic) => &topic.name,
            TopicKey::Name(name) => name,
            TopicKey::Id(_) => "",
        }
    }

    fn name(&self) -> String {
        match self {
            TopicKey::Id(id) => id.to_string(),
            named => named.name_or_empty().to_owned(),
        }
    }
}
