//! CreatePartitions: adds partitions to topics.

use super::table::*;

message! {
    /// Key 37, versions 0 to 3, flexible from 2.
    CreatePartitionsRequest<'a> {
        0.. => topics: Vec<CreatePartitionsTopic<'a>>,
        0.. => timeout_ms: i32,
        0.. => validate_only: bool,
    }
}

message! {
    CreatePartitionsTopic<'a> {
        0.. => name: &'a str,
        /// How many there are to be in all.
        0.. => count: i32,
        /// Replicas of each new partition; null: the broker's choice.
        0.. => assignments: Option<Vec<CreatePartitionsAssignment>>,
    }
}

message! {
    CreatePartitionsAssignment {
        0.. => broker_ids: Vec<i32>,
    }
}

message! {
    /// Key 37, versions 0 to 3, flexible from 2.
    CreatePartitionsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => results: Vec<CreatePartitionsTopicResult<'a>>,
    }
}

message! {
    CreatePartitionsTopicResult<'a> {
        0.. => name: &'a str,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
    }
}
