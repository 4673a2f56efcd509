//! OffsetDelete: forgets a group's positions in single partitions.

use super::groups;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::coordinator::replies::{OffsetDeleteReply, Reply, TopicReply};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_delete::OffsetDeleteRequest;
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use std::collections::HashMap;

/// Answers when the coordinator does; partitions that do not exist are answered here.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: OffsetDeleteRequest = request.decode()?;
    let bytes = request.body_slice();
    let asked = groups::ask(request, body.group_id, move |coordinator, call| {
        let mut body: OffsetDeleteRequest = groups::again(&bytes, call.version);
        for topic in &mut body.topics {
            let count = call.topics.topic(topic.name).map_or(0, |known| known.partitions_count);
            topic.partitions.retain(|partition| (0..count).contains(&partition.partition_index));
        }
        coordinator.offset_delete(call, &body)
    });
    let reply = match asked.await {
        Ok(Reply::OffsetDelete(reply)) if reply.error.is_none() => whole(request, &body, reply),
        Ok(Reply::OffsetDelete(reply)) => reply,
        Ok(other) => unreachable!("a deletion of offsets is answered with {other:?}"),
        Err(error) => OffsetDeleteReply::failed(error),
    };
    Ok(request.encode(&reply.response()))
}

/// The reply with all that was asked for.
fn whole(
    request: &Request,
    body: &OffsetDeleteRequest<'_>,
    reply: OffsetDeleteReply,
) -> OffsetDeleteReply {
    let image = request.server.shard.image();
    let mut codes: HashMap<(&str, i32), ErrorCode> = HashMap::new();
    for topic in &reply.topics {
        let of_topic = topic.partitions.iter();
        codes.extend(of_topic.map(|&(partition, code)| ((topic.name.as_str(), partition), code)));
    }
    let code_of = |topic: &str, partition: i32| {
        let known = image.topic(topic).and_then(|known| known.partition(PartitionIndex(partition)));
        let known = known.and_then(|_| codes.get(&(topic, partition)));
        known.copied().unwrap_or(ErrorCode::UnknownTopicOrPartition)
    };
    let topics = body.topics.iter().map(|topic| TopicReply {
        id: TopicId::ZERO,
        name: topic.name.to_owned(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| (asked.partition_index, code_of(topic.name, asked.partition_index)))
            .collect(),
    });
    OffsetDeleteReply { error: ErrorCode::None, topics: topics.collect() }
}
