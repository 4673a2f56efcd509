//! DescribeQuorum: the metadata group, which on a single node is this node alone.

use crate::cluster::changes::METADATA_TOPIC;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionDataResponse,
    ReplicaState, TopicDataResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// The only partition of the metadata log.
const METADATA_PARTITION: i32 = 0;
/// Name of the listener that controllers are reached over: the clients' own.
const LISTENER: &str = "PLAINTEXT";

/// Answers where the group stands, or for any other topic that it is unknown.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeQuorumRequest = request.decode()?;
    let asks_metadata = match body.topics.as_slice() {
        [topic] => {
            topic.topic_name == METADATA_TOPIC
                && matches!(topic.partitions.as_slice(),
                    [partition] if partition.partition_index == METADATA_PARTITION)
        }
        _ => false,
    };
    if !asks_metadata {
        return Ok(request.encode(&unknown(&body)));
    }
    let shard = &request.server.shard;
    let state = shard.quorum_state().await;
    let now_ms = shard.io.clock().now_ms();
    let node_id = shard.node.node_id;
    // Offsets count from 0 and point behind the record, indexes count from 1 and point at it.
    let offset = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
    let voter = ReplicaState {
        replica_id: node_id.0,
        log_end_offset: offset(state.last_index),
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..ReplicaState::default()
    };
    let partition = PartitionDataResponse {
        partition_index: METADATA_PARTITION,
        leader_id: node_id.0,
        leader_epoch: i32::try_from(state.term).unwrap_or(i32::MAX),
        high_watermark: offset(state.agreed_index),
        current_voters: vec![voter],
        ..PartitionDataResponse::default()
    };
    let image = shard.image();
    let nodes = image.brokers().filter(|broker| broker.id == node_id).map(|broker| Node {
        node_id: node_id.0,
        listeners: vec![Listener { name: LISTENER, host: &broker.host, port: broker.port }],
    });
    let topic = TopicDataResponse { topic_name: METADATA_TOPIC, partitions: vec![partition] };
    Ok(request.encode(&DescribeQuorumResponse {
        topics: vec![topic],
        nodes: nodes.collect(),
        ..DescribeQuorumResponse::default()
    }))
}

fn unknown<'a>(body: &DescribeQuorumRequest<'a>) -> DescribeQuorumResponse<'a> {
    let error_code = ErrorCode::UnknownTopicOrPartition;
    let topics = body.topics.iter().map(|topic| TopicDataResponse {
        topic_name: topic.topic_name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionDataResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message: Some("This server does not host this topic-partition."),
                ..PartitionDataResponse::default()
            })
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..DescribeQuorumResponse::default() }
}
