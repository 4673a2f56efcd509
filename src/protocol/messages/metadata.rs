//! Metadata: the brokers, and the topics with their partitions and leaders.

use super::table::*;

message! {
    /// Key 3, versions 0 to 13, flexible from 9.
    MetadataRequest<'a> {
        /// Null asks for all; version 0 does so with an empty list.
        0.., null 1.. => topics: Option<Vec<MetadataRequestTopic<'a>>>,
        4.. => allow_auto_topic_creation: bool = true,
        8..=10 => include_cluster_authorized_operations: bool,
        8.. => include_topic_authorized_operations: bool,
    }
}

message! {
    MetadataRequestTopic<'a> {
        10.. => topic_id: TopicId,
        0.., null 10.. => name: Option<&'a str>,
    }
}

message! {
    /// Key 3, versions 0 to 13, flexible from 9.
    MetadataResponse<'a> {
        3.. => throttle_time_ms: i32,
        0.. => brokers: Vec<MetadataResponseBroker<'a>>,
        2.. => cluster_id: Option<&'a str>,
        1.. => controller_id: i32 = -1,
        0.. => topics: Vec<MetadataResponseTopic<'a>>,
        13.. => error_code: ErrorCode,
        /// A set of bits; `i32::MIN`: was not asked for.
        8..=10 => cluster_authorized_operations: i32 = i32::MIN,
    }
}

message! {
    MetadataResponseBroker<'a> {
        0.. => node_id: i32,
        0.. => host: &'a str,
        0.. => port: i32,
        1.. => rack: Option<&'a str>,
    }
}

message! {
    MetadataResponseTopic<'a> {
        0.. => error_code: ErrorCode,
        0.., null 12.. => name: Option<&'a str>,
        10.. => topic_id: TopicId,
        1.. => is_internal: bool,
        0.. => partitions: Vec<MetadataResponsePartition>,
        /// A set of bits; `i32::MIN`: was not asked for.
        8.. => topic_authorized_operations: i32 = i32::MIN,
    }
}

message! {
    MetadataResponsePartition {
        0.. => error_code: ErrorCode,
        0.. => partition_index: i32,
        /// -1: there is none.
        0.. => leader_id: i32,
        7.. => leader_epoch: i32 = -1,
        0.. => replica_nodes: Vec<i32>,
        0.. => isr_nodes: Vec<i32>,
        5.. => offline_replicas: Vec<i32>,
    }
}
