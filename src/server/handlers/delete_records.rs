//! DeleteRecords: moves the start of logs forward; whole segments below it go in the background.

use super::{errors, offsets};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::cluster::metadata::Topic;
use crate::cluster::settings::{Layers, TopicSettings};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::offsets::{OffsetPart, OffsetQuery};
use std::sync::Arc;

/// Stands for the high watermark: everything that consumers can see.
const ALL: i64 = -1;

/// Answers each partition for itself, once its new start is durable.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DeleteRecordsRequest = request.decode()?;
    let image = request.server.shard.image();
    let node_id = request.server.shard.node.node_id;
    let layers = Layers::of_image(&image, node_id, &request.server.shard.node.fixed);
    let mut asked = Vec::new();
    for topic in &body.topics {
        let found =
            errors::named_topic(&image, topic.name).and_then(|found| deletable(found, &layers));
        asked.extend(topic.partitions.iter().map(|partition| {
            let id = errors::led_partition(found?, partition.partition_index, node_id)?;
            let query = match partition.offset {
                ALL => OffsetQuery::DeleteBefore(None),
                offset @ 0.. => OffsetQuery::DeleteBefore(Some(Offset(offset))),
                _ => return Err(ErrorCode::OffsetOutOfRange),
            };
            Ok(OffsetPart { partition: id, current_epoch: LeaderEpoch::UNKNOWN, query })
        }));
    }
    let mut found = offsets::ask(request, asked).await.into_iter();
    let topics = body.topics.iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let found = found.next().expect("one result for each partition");
                DeleteRecordsPartitionResult {
                    partition_index: partition.partition_index,
                    low_watermark: found.map_or(-1, |found| found.offset.0),
                    error_code: found.err().unwrap_or(ErrorCode::None),
                }
            })
            .collect(),
    });
    let topics = topics.collect();
    Ok(request.encode(&DeleteRecordsResponse { throttle_time_ms: 0, topics }))
}

/// The topic, unless its records are the broker's own or go by compaction alone.
fn deletable<'i>(topic: &'i Arc<Topic>, layers: &Layers) -> Result<&'i Arc<Topic>, ErrorCode> {
    if topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    let settings = TopicSettings::resolve(&topic.overrides, layers);
    if settings.cleanup_compact && !settings.cleanup_delete {
        return Err(ErrorCode::PolicyViolation);
    }
    Ok(topic)
}
