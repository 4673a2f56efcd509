//! ListOffsets: the ends of logs, and offsets by time.

use super::{errors, offsets};
use crate::base::ids::LeaderEpoch;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::offsets::{FoundOffset, OffsetPart, OffsetQuery};
use std::collections::HashSet;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// What a timestamp of a request stands for.
enum Asked {
    Log(OffsetQuery),
    /// Nothing is kept elsewhere: there is no such offset.
    Nothing,
}

/// Answers each partition for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: ListOffsetsRequest = request.decode()?;
    let image = request.server.shard.image();
    let node_id = request.server.shard.node.node_id;
    let twice = twice(&body);
    let mut asked = Vec::new();
    for topic in &body.topics {
        let found = errors::named_topic(&image, topic.name);
        asked.extend(topic.partitions.iter().map(|partition| {
            if twice.contains(&(topic.name, partition.partition_index)) {
                return Err(ErrorCode::InvalidRequest);
            }
            let query = query_of(partition, request.version)?;
            let id = errors::led_partition(found?, partition.partition_index, node_id)?;
            let query = match query {
                Asked::Log(query) => query,
                Asked::Nothing => return Err(ErrorCode::None),
            };
            let current_epoch = LeaderEpoch(partition.current_leader_epoch);
            Ok(OffsetPart { partition: id, current_epoch, query })
        }));
    }
    let mut found = offsets::ask(request, asked).await.into_iter();
    let topics = body.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let found = found.next().expect("one result for each partition");
                answer_of(partition.partition_index, found)
            })
            .collect(),
    });
    Ok(request.encode(&ListOffsetsResponse { throttle_time_ms: 0, topics: topics.collect() }))
}

/// Partitions that the request names more than once: each time they are refused.
fn twice<'a>(body: &ListOffsetsRequest<'a>) -> HashSet<(&'a str, i32)> {
    let mut seen = HashSet::new();
    let named = body.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name, partition.partition_index))
    });
    named.filter(|named| !seen.insert(*named)).collect()
}

fn query_of(partition: &ListOffsetsPartition, version: i16) -> Result<Asked, ErrorCode> {
    let since = |first: i16, asked: Asked| {
        if version < first { Err(ErrorCode::UnsupportedVersion) } else { Ok(asked) }
    };
    match partition.timestamp {
        LATEST => Ok(Asked::Log(OffsetQuery::Latest)),
        EARLIEST => Ok(Asked::Log(OffsetQuery::Earliest)),
        MAX_TIMESTAMP => since(7, Asked::Log(OffsetQuery::MaxTimestamp)),
        EARLIEST_LOCAL => since(8, Asked::Log(OffsetQuery::Earliest)),
        LATEST_TIERED => since(9, Asked::Nothing),
        EARLIEST_PENDING_UPLOAD => since(11, Asked::Nothing),
        timestamp @ 0.. => Ok(Asked::Log(OffsetQuery::AtOrAfter(timestamp))),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn answer_of(
    partition_index: i32,
    found: Result<FoundOffset, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let error_code = found.err().unwrap_or(ErrorCode::None);
    let found = found.unwrap_or(FoundOffset::NONE);
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        timestamp: found.timestamp,
        offset: found.offset.0,
        leader_epoch: found.epoch.0,
    }
}
