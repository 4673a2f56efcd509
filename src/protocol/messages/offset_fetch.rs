//! OffsetFetch: a group's stored positions.

use super::table::*;

message! {
    /// Key 9, versions 1 to 10, flexible from 6.
    OffsetFetchRequest<'a> {
        8.. => groups: Vec<OffsetFetchRequestGroup<'a>>,
        1..=7 => group_id: &'a str,
        1..=7, null 2..=7 => topics: Option<Vec<OffsetFetchRequestTopic<'a>>>,
        7.. => require_stable: bool,
    }
}

message! {
    OffsetFetchRequestGroup<'a> {
        8.. => group_id: &'a str,
        9.. => member_id: Option<&'a str>,
        9.. => member_epoch: i32 = -1,
        8.. => topics: Option<Vec<OffsetFetchRequestTopics<'a>>>,
    }
}

message! {
    OffsetFetchRequestTopics<'a> {
        10.. => topic_id: TopicId,
        8..=9 => name: &'a str,
        8.. => partition_indexes: Vec<i32>,
    }
}

message! {
    OffsetFetchRequestTopic<'a> {
        1..=7 => name: &'a str,
        1..=7 => partition_indexes: Vec<i32>,
    }
}

message! {
    /// Key 9, versions 1 to 10, flexible from 6.
    OffsetFetchResponse<'a> {
        3.. => throttle_time_ms: i32,
        8.. => groups: Vec<OffsetFetchResponseGroup<'a>>,
        1..=7 => topics: Vec<OffsetFetchResponseTopic<'a>>,
        2..=7 => error_code: ErrorCode,
    }
}

message! {
    OffsetFetchResponseGroup<'a> {
        8.. => group_id: &'a str,
        8.. => topics: Vec<OffsetFetchResponseTopics<'a>>,
        8.. => error_code: ErrorCode,
    }
}

message! {
    OffsetFetchResponseTopics<'a> {
        10.. => topic_id: TopicId,
        8..=9 => name: &'a str,
        8.. => partitions: Vec<OffsetFetchResponsePartitions<'a>>,
    }
}

message! {
    OffsetFetchResponsePartitions<'a> {
        8.. => partition_index: i32,
        8.. => committed_offset: i64,
        8.. => committed_leader_epoch: i32 = -1,
        8.. => metadata: Option<&'a str>,
        8.. => error_code: ErrorCode,
    }
}

message! {
    OffsetFetchResponseTopic<'a> {
        1..=7 => name: &'a str,
        1..=7 => partitions: Vec<OffsetFetchResponsePartition<'a>>,
    }
}

message! {
    OffsetFetchResponsePartition<'a> {
        1..=7 => partition_index: i32,
        1..=7 => committed_offset: i64,
        5..=7 => committed_leader_epoch: i32 = -1,
        1..=7 => metadata: Option<&'a str>,
        1..=7 => error_code: ErrorCode,
    }
}
