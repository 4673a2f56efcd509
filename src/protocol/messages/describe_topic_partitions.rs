//! DescribeTopicPartitions: topics and partitions in pages, as `kafka-topics` asks for them
//! (KIP-966).

use super::table::*;

message! {
    /// Key 75, versions 0 to 0, flexible from 0.
    DescribeTopicPartitionsRequest<'a> {
        0.. => topics: Vec<TopicRequest<'a>>,
        0.. => response_partition_limit: i32 = 2000,
        0.. => cursor: Option<CursorRequest<'a>>,
    }
}

message! {
    TopicRequest<'a> {
        0.. => name: &'a str,
    }
}

message! {
    CursorRequest<'a> {
        0.. => topic_name: &'a str,
        0.. => partition_index: i32,
    }
}

nullable!(CursorRequest<'a>);

message! {
    /// Key 75, versions 0 to 0, flexible from 0.
    DescribeTopicPartitionsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => topics: Vec<DescribeTopicPartitionsResponseTopic<'a>>,
        0.. => next_cursor: Option<CursorResponse<'a>>,
    }
}

message! {
    DescribeTopicPartitionsResponseTopic<'a> {
        0.. => error_code: ErrorCode,
        0.. => name: Option<&'a str>,
        0.. => topic_id: TopicId,
        0.. => is_internal: bool,
        0.. => partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        0.. => topic_authorized_operations: i32 = i32::MIN,
    }
}

message! {
    DescribeTopicPartitionsResponsePartition {
        0.. => error_code: ErrorCode,
        0.. => partition_index: i32,
        0.. => leader_id: i32,
        0.. => leader_epoch: i32 = -1,
        0.. => replica_nodes: Vec<i32>,
        0.. => isr_nodes: Vec<i32>,
        0.. => eligible_leader_replicas: Option<Vec<i32>>,
        0.. => last_known_elr: Option<Vec<i32>>,
        0.. => offline_replicas: Vec<i32>,
    }
}

message! {
    CursorResponse<'a> {
        0.. => topic_name: &'a str,
        0.. => partition_index: i32,
    }
}

nullable!(CursorResponse<'a>);
