//! DescribeProducers: the idempotent producers that a partition remembers.

use super::table::*;

message! {
    /// Key 61, versions 0 to 0, flexible from 0.
    DescribeProducersRequest<'a> {
        0.. => topics: Vec<TopicRequest<'a>>,
    }
}

message! {
    TopicRequest<'a> {
        0.. => name: &'a str,
        0.. => partition_indexes: Vec<i32>,
    }
}

message! {
    /// Key 61, versions 0 to 0, flexible from 0.
    DescribeProducersResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => topics: Vec<TopicResponse<'a>>,
    }
}

message! {
    TopicResponse<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<PartitionResponse<'a>>,
    }
}

message! {
    PartitionResponse<'a> {
        0.. => partition_index: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0.. => active_producers: Vec<ProducerState>,
    }
}

message! {
    ProducerState {
        0.. => producer_id: i64,
        0.. => producer_epoch: i32,
        0.. => last_sequence: i32 = -1,
        0.. => last_timestamp: i64 = -1,
        0.. => coordinator_epoch: i32,
        0.. => current_txn_start_offset: i64 = -1,
    }
}
