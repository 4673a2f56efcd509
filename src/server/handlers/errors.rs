//! Kafka's codes for what the layers below report.

use crate::base::ids::{NodeId, PartitionIndex, TopicId, TopicPartition};
use crate::cluster::changes::ChangeError;
use crate::cluster::metadata::{Image, Topic};
use crate::protocol::error::ErrorCode;
use crate::shard::fetch::FetchError;
use crate::shard::groups::GroupError;
use crate::shard::replica::StoreError;
use crate::shard::state::Shard;
use crate::storage::ProducerError;
use std::sync::Arc;

/// The code of a refused change.
pub fn of_change(error: &ChangeError) -> ErrorCode {
    match error {
        ChangeError::InvalidTopic(_) => ErrorCode::InvalidTopicException,
        ChangeError::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        ChangeError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        ChangeError::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
        ChangeError::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
        ChangeError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        ChangeError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        ChangeError::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        ChangeError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        ChangeError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        ChangeError::PolicyViolation(_) => ErrorCode::PolicyViolation,
        ChangeError::NoSpace | ChangeError::Unavailable(_) => ErrorCode::KafkaStorageError,
    }
}

/// The code of a partition that could not be read.
pub fn of_fetch(error: &FetchError, shard: &Shard, id: TopicPartition, by_id: bool) -> ErrorCode {
    match error {
        FetchError::NoReplica => of_missing(shard, id, by_id),
        FetchError::FencedEpoch => ErrorCode::FencedLeaderEpoch,
        FetchError::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
        FetchError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        FetchError::Corrupt(_) => ErrorCode::CorruptMessage,
        FetchError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// The code of a batch that was not stored.
pub fn of_store(error: &StoreError, shard: &Shard, id: TopicPartition, by_id: bool) -> ErrorCode {
    match error {
        StoreError::NoReplica => of_missing(shard, id, by_id),
        StoreError::Refused(error) => error.code(),
        StoreError::Transactional => ErrorCode::InvalidTxnState,
        StoreError::Producer(ProducerError::OutOfOrder { .. }) => {
            ErrorCode::OutOfOrderSequenceNumber
        }
        StoreError::Producer(ProducerError::StaleEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        StoreError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        StoreError::NoSpace | StoreError::Storage(_) => ErrorCode::KafkaStorageError,
        StoreError::TimedOut => ErrorCode::RequestTimedOut,
    }
}

/// The code of a coordinator that does not answer.
pub fn of_group(error: GroupError) -> ErrorCode {
    match error {
        GroupError::Loading => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotHere => ErrorCode::NotCoordinator,
    }
}

/// A replica that is not open: its topic was deleted meanwhile, or is being opened, or failed to.
pub fn of_missing(shard: &Shard, id: TopicPartition, by_id: bool) -> ErrorCode {
    match shard.image().topic_by_id(id.topic_id) {
        Some(_) => ErrorCode::NotLeaderOrFollower,
        None if by_id => ErrorCode::UnknownTopicId,
        None => ErrorCode::UnknownTopicOrPartition,
    }
}

/// A topic as a request names it.
pub fn named_topic<'i>(image: &'i Image, name: &str) -> Result<&'i Arc<Topic>, ErrorCode> {
    image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// A topic as a newer request names it.
pub fn topic_of_id(image: &Image, id: TopicId) -> Result<&Arc<Topic>, ErrorCode> {
    image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)
}

/// A partition that this node leads.
pub fn led_partition(
    topic: &Topic,
    index: i32,
    node_id: NodeId,
) -> Result<TopicPartition, ErrorCode> {
    let index = PartitionIndex(index);
    match topic.partition(index) {
        None => Err(ErrorCode::UnknownTopicOrPartition),
        Some(partition) if partition.leader != node_id => Err(ErrorCode::NotLeaderOrFollower),
        Some(_) => Ok(TopicPartition { topic_id: topic.id, partition: index }),
    }
}
