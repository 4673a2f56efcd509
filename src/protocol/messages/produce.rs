//! Produce: appends record batches to partitions.

use super::table::*;

message! {
    /// Key 0, versions 3 to 13, flexible from 9.
    ProduceRequest<'a> {
        3.. => transactional_id: Option<&'a str>,
        /// Who must have it before the answer: 1 the leader, -1 the whole in-sync set. With 0 there
        /// is no answer.
        3.. => acks: i16,
        /// How long to wait for the in-sync set.
        3.. => timeout_ms: i32,
        3.. => topic_data: Vec<TopicProduceData<'a>>,
    }
}

message! {
    TopicProduceData<'a> {
        13.. => topic_id: TopicId,
        3..=12 => name: &'a str,
        3.. => partition_data: Vec<PartitionProduceData<'a>>,
    }
}

message! {
    PartitionProduceData<'a> {
        3.. => index: i32,
        /// Exactly one record batch.
        3.. => records: Records<'a>,
    }
}

message! {
    /// Key 0, versions 3 to 13, flexible from 9.
    ProduceResponse<'a> {
        3.. => responses: Vec<TopicProduceResponse<'a>>,
        3.. => throttle_time_ms: i32,
    }
    tagged {
        0, 10.. => node_endpoints: Vec<NodeEndpoint<'a>>,
    }
}

message! {
    TopicProduceResponse<'a> {
        13.. => topic_id: TopicId,
        3..=12 => name: &'a str,
        3.. => partition_responses: Vec<PartitionProduceResponse<'a>>,
    }
}

message! {
    PartitionProduceResponse<'a> {
        3.. => index: i32,
        3.. => error_code: ErrorCode,
        /// Offset of the first record; -1 with an error.
        3.. => base_offset: i64,
        /// The broker's time where the topic wants it; else -1.
        3.. => log_append_time_ms: i64 = -1,
        5.. => log_start_offset: i64 = -1,
        /// Which records are at fault; then none of the batch was appended (KIP-467).
        8.. => record_errors: Vec<BatchIndexAndErrorMessage<'a>>,
        8.. => error_message: Option<&'a str>,
    }
    tagged {
        0, 10.. => current_leader: LeaderIdAndEpoch,
    }
}

message! {
    BatchIndexAndErrorMessage<'a> {
        8.. => batch_index: i32,
        8.. => batch_index_error_message: Option<&'a str>,
    }
}

message! {
    LeaderIdAndEpoch {
        10.. => leader_id: i32 = -1,
        10.. => leader_epoch: i32 = -1,
    }
}

message! {
    NodeEndpoint<'a> {
        10.. => node_id: i32,
        10.. => host: &'a str,
        10.. => port: i32,
        10.. => rack: Option<&'a str>,
    }
}
