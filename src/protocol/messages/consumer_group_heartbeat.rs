//! ConsumerGroupHeartbeat: the one request of a member in the consumer protocol of KIP-848.

use super::table::*;

message! {
    /// Key 68, versions 0 to 1, flexible from 0.
    ConsumerGroupHeartbeatRequest<'a> {
        0.. => group_id: &'a str,
        0.. => member_id: &'a str,
        0.. => member_epoch: i32,
        0.. => instance_id: Option<&'a str>,
        0.. => rack_id: Option<&'a str>,
        0.. => rebalance_timeout_ms: i32 = -1,
        0.. => subscribed_topic_names: Option<Vec<&'a str>>,
        1.. => subscribed_topic_regex: Option<&'a str>,
        0.. => server_assignor: Option<&'a str>,
        0.. => topic_partitions: Option<Vec<TopicPartitionsRequest>>,
    }
}

message! {
    TopicPartitionsRequest {
        0.. => topic_id: TopicId,
        0.. => partitions: Vec<i32>,
    }
}

message! {
    /// Key 68, versions 0 to 1, flexible from 0.
    ConsumerGroupHeartbeatResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0.. => member_id: Option<&'a str>,
        0.. => member_epoch: i32,
        0.. => heartbeat_interval_ms: i32,
        0.. => assignment: Option<Assignment>,
    }
}

message! {
    Assignment {
        0.. => topic_partitions: Vec<TopicPartitionsResponse>,
    }
}

message! {
    TopicPartitionsResponse {
        0.. => topic_id: TopicId,
        0.. => partitions: Vec<i32>,
    }
}

nullable!(Assignment);
