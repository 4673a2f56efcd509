//! ElectLeaders: elects preferred or unclean leaders.

use super::table::*;

message! {
    /// Key 43, versions 0 to 2, flexible from 2.
    ElectLeadersRequest<'a> {
        1.. => election_type: i8,
        0.. => topic_partitions: Option<Vec<TopicPartitions<'a>>>,
        0.. => timeout_ms: i32 = 60000,
    }
}

message! {
    TopicPartitions<'a> {
        0.. => topic: &'a str,
        0.. => partitions: Vec<i32>,
    }
}

message! {
    /// Key 43, versions 0 to 2, flexible from 2.
    ElectLeadersResponse<'a> {
        0.. => throttle_time_ms: i32,
        1.. => error_code: ErrorCode,
        0.. => replica_election_results: Vec<ReplicaElectionResult<'a>>,
    }
}

message! {
    ReplicaElectionResult<'a> {
        0.. => topic: &'a str,
        0.. => partition_result: Vec<PartitionResult<'a>>,
    }
}

message! {
    PartitionResult<'a> {
        0.. => partition_id: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
    }
}
