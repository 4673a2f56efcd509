//! OffsetForLeaderEpoch: where an epoch ended, so that a client sees what was cut (KIP-320).

use super::{errors, offsets};
use crate::base::ids::LeaderEpoch;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::offsets::{FoundOffset, OffsetPart, OffsetQuery};

/// Answers each partition for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: OffsetForLeaderEpochRequest = request.decode()?;
    let image = request.server.shard.image();
    let node_id = request.server.shard.node.node_id;
    let mut asked = Vec::new();
    for topic in &body.topics {
        let found = errors::named_topic(&image, topic.topic);
        asked.extend(topic.partitions.iter().map(|partition| {
            Ok(OffsetPart {
                partition: errors::led_partition(found?, partition.partition, node_id)?,
                current_epoch: LeaderEpoch(partition.current_leader_epoch),
                query: OffsetQuery::EpochEnd(LeaderEpoch(partition.leader_epoch)),
            })
        }));
    }
    let mut found = offsets::ask(request, asked).await.into_iter();
    let topics = body.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let found = found.next().expect("one result for each partition");
                let error_code = found.err().unwrap_or(ErrorCode::None);
                let found = found.unwrap_or(FoundOffset::NONE);
                EpochEndOffset {
                    error_code,
                    partition: partition.partition,
                    leader_epoch: found.epoch.0,
                    end_offset: found.offset.0,
                }
            })
            .collect(),
    });
    let topics = topics.collect();
    Ok(request.encode(&OffsetForLeaderEpochResponse { throttle_time_ms: 0, topics }))
}
