//! OffsetCommit: stores a group's positions.

use super::table::*;

message! {
    /// Key 8, versions 2 to 10, flexible from 8.
    OffsetCommitRequest<'a> {
        2.. => group_id: &'a str,
        2.. => generation_id_or_member_epoch: i32 = -1,
        2.. => member_id: &'a str,
        7.. => group_instance_id: Option<&'a str>,
        2..=4 => retention_time_ms: i64 = -1,
        2.. => topics: Vec<OffsetCommitRequestTopic<'a>>,
    }
}

message! {
    OffsetCommitRequestTopic<'a> {
        10.. => topic_id: TopicId,
        2..=9 => name: &'a str,
        2.. => partitions: Vec<OffsetCommitRequestPartition<'a>>,
    }
}

message! {
    OffsetCommitRequestPartition<'a> {
        2.. => partition_index: i32,
        2.. => committed_offset: i64,
        6.. => committed_leader_epoch: i32 = -1,
        2.. => committed_metadata: Option<&'a str>,
    }
}

message! {
    /// Key 8, versions 2 to 10, flexible from 8.
    OffsetCommitResponse<'a> {
        3.. => throttle_time_ms: i32,
        2.. => topics: Vec<OffsetCommitResponseTopic<'a>>,
    }
}

message! {
    OffsetCommitResponseTopic<'a> {
        10.. => topic_id: TopicId,
        2..=9 => name: &'a str,
        2.. => partitions: Vec<OffsetCommitResponsePartition>,
    }
}

message! {
    OffsetCommitResponsePartition {
        2.. => partition_index: i32,
        2.. => error_code: ErrorCode,
    }
}
