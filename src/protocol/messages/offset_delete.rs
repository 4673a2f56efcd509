//! OffsetDelete: forgets a group's positions in single partitions.

use super::table::*;

message! {
    /// Key 47, versions 0 to 0.
    OffsetDeleteRequest<'a> {
        0.. => group_id: &'a str,
        0.. => topics: Vec<OffsetDeleteRequestTopic<'a>>,
    }
}

message! {
    OffsetDeleteRequestTopic<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<OffsetDeleteRequestPartition>,
    }
}

message! {
    OffsetDeleteRequestPartition {
        0.. => partition_index: i32,
    }
}

message! {
    /// Key 47, versions 0 to 0.
    OffsetDeleteResponse<'a> {
        0.. => error_code: ErrorCode,
        0.. => throttle_time_ms: i32,
        0.. => topics: Vec<OffsetDeleteResponseTopic<'a>>,
    }
}

message! {
    OffsetDeleteResponseTopic<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<OffsetDeleteResponsePartition>,
    }
}

message! {
    OffsetDeleteResponsePartition {
        0.. => partition_index: i32,
        0.. => error_code: ErrorCode,
    }
}
