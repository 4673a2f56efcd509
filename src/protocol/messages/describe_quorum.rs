//! DescribeQuorum: the voters and observers of the metadata log.

use super::table::*;

message! {
    /// Key 55, versions 0 to 2, flexible from 0.
    DescribeQuorumRequest<'a> {
        0.. => topics: Vec<TopicDataRequest<'a>>,
    }
}

message! {
    TopicDataRequest<'a> {
        0.. => topic_name: &'a str,
        0.. => partitions: Vec<PartitionDataRequest>,
    }
}

message! {
    PartitionDataRequest {
        0.. => partition_index: i32,
    }
}

message! {
    /// Key 55, versions 0 to 2, flexible from 0.
    DescribeQuorumResponse<'a> {
        0.. => error_code: ErrorCode,
        2.. => error_message: Option<&'a str>,
        0.. => topics: Vec<TopicDataResponse<'a>>,
        2.. => nodes: Vec<Node<'a>>,
    }
}

message! {
    TopicDataResponse<'a> {
        0.. => topic_name: &'a str,
        0.. => partitions: Vec<PartitionDataResponse<'a>>,
    }
}

message! {
    PartitionDataResponse<'a> {
        0.. => partition_index: i32,
        0.. => error_code: ErrorCode,
        2.. => error_message: Option<&'a str>,
        0.. => leader_id: i32,
        0.. => leader_epoch: i32,
        0.. => high_watermark: i64,
        0.. => current_voters: Vec<ReplicaState>,
        0.. => observers: Vec<ReplicaState>,
    }
}

message! {
    ReplicaState {
        0.. => replica_id: i32,
        2.. => replica_directory_id: TopicId,
        0.. => log_end_offset: i64,
        1.. => last_fetch_timestamp: i64 = -1,
        1.. => last_caught_up_timestamp: i64 = -1,
    }
}

message! {
    Node<'a> {
        2.. => node_id: i32,
        2.. => listeners: Vec<Listener<'a>>,
    }
}

message! {
    Listener<'a> {
        2.. => name: &'a str,
        2.. => host: &'a str,
        2.. => port: u16,
    }
}
