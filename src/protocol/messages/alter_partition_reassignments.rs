//! AlterPartitionReassignments: moves partitions to other replicas, or ends such a move.

use super::table::*;

message! {
    /// Key 45, versions 0 to 1, flexible from 0.
    AlterPartitionReassignmentsRequest<'a> {
        0.. => timeout_ms: i32 = 60000,
        1.. => allow_replication_factor_change: bool = true,
        0.. => topics: Vec<ReassignableTopic<'a>>,
    }
}

message! {
    ReassignableTopic<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<ReassignablePartition>,
    }
}

message! {
    ReassignablePartition {
        0.. => partition_index: i32,
        /// Nothing: the move under way is to end.
        0.. => replicas: Option<Vec<i32>>,
    }
}

message! {
    /// Key 45, versions 0 to 1, flexible from 0.
    AlterPartitionReassignmentsResponse<'a> {
        0.. => throttle_time_ms: i32,
        1.. => allow_replication_factor_change: bool = true,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0.. => responses: Vec<ReassignableTopicResponse<'a>>,
    }
}

message! {
    ReassignableTopicResponse<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<ReassignablePartitionResponse<'a>>,
    }
}

message! {
    ReassignablePartitionResponse<'a> {
        0.. => partition_index: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
    }
}
