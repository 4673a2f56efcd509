//! DeleteRecords: moves the start of partitions' logs forward.

use super::table::*;

message! {
    /// Key 21, versions 0 to 2, flexible from 2.
    DeleteRecordsRequest<'a> {
        0.. => topics: Vec<DeleteRecordsTopic<'a>>,
        0.. => timeout_ms: i32,
    }
}

message! {
    DeleteRecordsTopic<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<DeleteRecordsPartition>,
    }
}

message! {
    DeleteRecordsPartition {
        0.. => partition_index: i32,
        0.. => offset: i64,
    }
}

message! {
    /// Key 21, versions 0 to 2, flexible from 2.
    DeleteRecordsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => topics: Vec<DeleteRecordsTopicResult<'a>>,
    }
}

message! {
    DeleteRecordsTopicResult<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<DeleteRecordsPartitionResult>,
    }
}

message! {
    DeleteRecordsPartitionResult {
        0.. => partition_index: i32,
        0.. => low_watermark: i64,
        0.. => error_code: ErrorCode,
    }
}
