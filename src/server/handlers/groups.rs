//! Requests about groups go to the shard that has the group's coordinator: the one that owns the
//! group's partition of `__consumer_offsets`.

use super::errors;
use crate::base::ids::{PartitionIndex, TopicPartition};
use crate::base::limits::GROUPS_PER_REQUEST_COUNT_MAX;
use crate::cluster::metadata::OFFSETS_TOPIC;
use crate::coordinator::replies::Reply;
use crate::coordinator::{Call, Coordinator, Effects, partition_of};
use crate::io::Slice;
use crate::protocol::error::ErrorCode;
use crate::protocol::header::decode_request;
use crate::protocol::messages;
use crate::server::dispatch::{Refused, Request};
use crate::shard::groups::GroupCall;
use crate::shard::mailbox::ShardReply;
use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt as _};
use std::future::Future;
use std::pin::pin;

/// Groups of one request that are asked for at a time.
const ASKED_AT_ONCE: usize = 256;

/// The partition that a group belongs to; nothing before there are groups.
pub fn partition_of_group(request: &Request, group_id: &str) -> Option<TopicPartition> {
    let image = request.server.shard.image();
    let topic = image.topic(OFFSETS_TOPIC)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = PartitionIndex(partition_of(group_id, count));
    let leads = topic.partition(partition)?.leader == request.server.shard.node.node_id;
    leads.then_some(TopicPartition { topic_id: topic.id, partition })
}

/// Has the coordinator of `group_id` do `verb`; it is on its way when this returns.
///
/// # Errors
/// The code of a coordinator that does not answer.
pub fn ask<V>(
    request: &Request,
    group_id: &str,
    verb: V,
) -> impl Future<Output = Result<Reply, ErrorCode>> + use<V>
where
    V: FnOnce(&mut Coordinator, &Call<'_>) -> Effects + Send + 'static,
{
    ask_partition(request, partition_of_group(request, group_id), verb)
}

/// As [`ask`], of the coordinator of a partition.
///
/// # Errors
/// As [`ask`].
pub fn ask_partition<V>(
    request: &Request,
    partition: Option<TopicPartition>,
    verb: V,
) -> impl Future<Output = Result<Reply, ErrorCode>> + use<V>
where
    V: FnOnce(&mut Coordinator, &Call<'_>) -> Effects + Send + 'static,
{
    let waiting = partition.map(|id| {
        let (client_id, client_host) = request.client();
        let (partition, version, verb) = (id.partition, request.version, Box::new(verb));
        let call = GroupCall { partition, version, client_id, client_host, verb };
        request.server.shard.group_call(id, call)
    });
    async move {
        let Some(waiting) = waiting else { return Err(ErrorCode::NotCoordinator) };
        match waiting.await {
            ShardReply::Group(reply) => reply.map_err(errors::of_group),
            other => unreachable!("a coordinator answers with {other:?}"),
        }
    }
}

/// Asks for each of `group_ids`, many at a time; one result each, in order.
///
/// # Errors
/// [`Refused`]: they are too many.
pub async fn ask_each<V>(
    request: &Request,
    group_ids: &[&str],
    verb_of: impl Fn(usize) -> V,
) -> Result<Vec<Result<Reply, ErrorCode>>, Refused>
where
    V: FnOnce(&mut Coordinator, &Call<'_>) -> Effects + Send + 'static,
{
    if group_ids.len() > GROUPS_PER_REQUEST_COUNT_MAX {
        let count = group_ids.len();
        return Err(request.nonsense(format!("{count} groups in one request")));
    }
    let asking = group_ids.iter().enumerate();
    let asking = asking.map(|(index, group_id)| ask(request, group_id, verb_of(index)));
    Ok(stream::iter(asking).buffered(ASKED_AT_ONCE).collect().await)
}

/// What is `asked`, unless the node stops: then whoever waits for other members is sent away.
pub async fn unless_stopping(
    request: &Request,
    asked: impl Future<Output = Result<Reply, ErrorCode>>,
) -> Result<Reply, ErrorCode> {
    match select(pin!(asked), pin!(request.server.stopping().wait())).await {
        Either::Left((reply, _)) => reply,
        Either::Right(_) => Err(ErrorCode::NotCoordinator),
    }
}

/// A request's body that a handler has decoded before, for where its coordinator is.
pub fn again<'a, T: messages::Request<'a>>(body: &'a Slice, version: i16) -> T {
    decode_request(body, version).expect("the handler has decoded the same bytes")
}
