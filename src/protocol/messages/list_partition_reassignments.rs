//! ListPartitionReassignments: the partitions whose replicas are on the move.

use super::table::*;

message! {
    /// Key 46, versions 0 to 0, flexible from 0.
    ListPartitionReassignmentsRequest<'a> {
        0.. => timeout_ms: i32 = 60000,
        0.. => topics: Option<Vec<ListPartitionReassignmentsTopics<'a>>>,
    }
}

message! {
    ListPartitionReassignmentsTopics<'a> {
        0.. => name: &'a str,
        0.. => partition_indexes: Vec<i32>,
    }
}

message! {
    /// Key 46, versions 0 to 0, flexible from 0.
    ListPartitionReassignmentsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0.. => topics: Vec<OngoingTopicReassignment<'a>>,
    }
}

message! {
    OngoingTopicReassignment<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<OngoingPartitionReassignment>,
    }
}

message! {
    OngoingPartitionReassignment {
        0.. => partition_index: i32,
        0.. => replicas: Vec<i32>,
        0.. => adding_replicas: Vec<i32>,
        0.. => removing_replicas: Vec<i32>,
    }
}
