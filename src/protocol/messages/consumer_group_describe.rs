//! ConsumerGroupDescribe: groups of the protocol of KIP-848 with their members.

use super::table::*;

message! {
    /// Key 69, versions 0 to 1, flexible from 0.
    ConsumerGroupDescribeRequest<'a> {
        0.. => group_ids: Vec<&'a str>,
        0.. => include_authorized_operations: bool,
    }
}

message! {
    /// Key 69, versions 0 to 1, flexible from 0.
    ConsumerGroupDescribeResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => groups: Vec<DescribedGroup<'a>>,
    }
}

message! {
    DescribedGroup<'a> {
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0.. => group_id: &'a str,
        0.. => group_state: &'a str,
        0.. => group_epoch: i32,
        0.. => assignment_epoch: i32,
        0.. => assignor_name: &'a str,
        0.. => members: Vec<Member<'a>>,
        0.. => authorized_operations: i32 = i32::MIN,
    }
}

message! {
    Member<'a> {
        0.. => member_id: &'a str,
        0.. => instance_id: Option<&'a str>,
        0.. => rack_id: Option<&'a str>,
        0.. => member_epoch: i32,
        0.. => client_id: &'a str,
        0.. => client_host: &'a str,
        0.. => subscribed_topic_names: Vec<&'a str>,
        0.. => subscribed_topic_regex: Option<&'a str>,
        0.. => assignment: Assignment<'a>,
        0.. => target_assignment: Assignment<'a>,
        1.. => member_type: i8 = -1,
    }
}

message! {
    Assignment<'a> {
        0.. => topic_partitions: Vec<TopicPartitions<'a>>,
    }
}

message! {
    TopicPartitions<'a> {
        0.. => topic_id: TopicId,
        0.. => topic_name: &'a str,
        0.. => partitions: Vec<i32>,
    }
}
