//! CreateTopics: makes topics, or only checks whether they could be made.

use super::table::*;

message! {
    /// Key 19, versions 2 to 7, flexible from 5.
    CreateTopicsRequest<'a> {
        2.. => topics: Vec<CreatableTopic<'a>>,
        2.. => timeout_ms: i32 = 60000,
        2.. => validate_only: bool,
    }
}

message! {
    CreatableTopic<'a> {
        2.. => name: &'a str,
        /// -1: the broker's default, or as `assignments` says (KIP-464).
        2.. => num_partitions: i32,
        /// -1: the broker's default, or as `assignments` says.
        2.. => replication_factor: i16,
        /// Replicas of each partition; empty: the broker's choice.
        2.. => assignments: Vec<CreatableReplicaAssignment>,
        2.. => configs: Vec<CreatableTopicConfig<'a>>,
    }
}

message! {
    CreatableReplicaAssignment {
        2.. => partition_index: i32,
        2.. => broker_ids: Vec<i32>,
    }
}

message! {
    CreatableTopicConfig<'a> {
        2.. => name: &'a str,
        2.. => value: Option<&'a str>,
    }
}

message! {
    /// Key 19, versions 2 to 7, flexible from 5.
    CreateTopicsResponse<'a> {
        2.. => throttle_time_ms: i32,
        2.. => topics: Vec<CreatableTopicResult<'a>>,
    }
}

message! {
    CreatableTopicResult<'a> {
        2.. => name: &'a str,
        7.. => topic_id: TopicId,
        2.. => error_code: ErrorCode,
        2.. => error_message: Option<&'a str>,
        5.. => num_partitions: i32 = -1,
        5.. => replication_factor: i16 = -1,
        /// Null where they may not be seen.
        5.. => configs: Option<Vec<CreatableTopicConfigs<'a>>>,
    }
    tagged {
        0, 5.. => topic_config_error_code: ErrorCode,
    }
}

message! {
    CreatableTopicConfigs<'a> {
        5.. => name: &'a str,
        5.. => value: Option<&'a str>,
        5.. => read_only: bool,
        5.. => config_source: i8 = -1,
        5.. => is_sensitive: bool,
    }
}
