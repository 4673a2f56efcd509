//! ListOffsets: finds offsets by timestamp, or the ends of a log.

use super::table::*;

message! {
    /// Key 2, versions 1 to 11, flexible from 6.
    ListOffsetsRequest<'a> {
        1.. => replica_id: i32,
        2.. => isolation_level: i8,
        1.. => topics: Vec<ListOffsetsTopic<'a>>,
        10.. => timeout_ms: i32,
    }
}

message! {
    ListOffsetsTopic<'a> {
        1.. => name: &'a str,
        1.. => partitions: Vec<ListOffsetsPartition>,
    }
}

message! {
    ListOffsetsPartition {
        1.. => partition_index: i32,
        4.. => current_leader_epoch: i32 = -1,
        /// Unix time, ms; or -1 the end, -2 the start, -3 the record with the largest time, -4 the
        /// start on this disk, -5 the end in tiered storage, -6 what is to be tiered next.
        1.. => timestamp: i64,
    }
}

message! {
    /// Key 2, versions 1 to 11, flexible from 6.
    ListOffsetsResponse<'a> {
        2.. => throttle_time_ms: i32,
        1.. => topics: Vec<ListOffsetsTopicResponse<'a>>,
    }
}

message! {
    ListOffsetsTopicResponse<'a> {
        1.. => name: &'a str,
        1.. => partitions: Vec<ListOffsetsPartitionResponse>,
    }
}

message! {
    ListOffsetsPartitionResponse {
        1.. => partition_index: i32,
        1.. => error_code: ErrorCode,
        1.. => timestamp: i64 = -1,
        1.. => offset: i64 = -1,
        4.. => leader_epoch: i32 = -1,
    }
}
