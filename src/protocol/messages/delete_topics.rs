//! DeleteTopics: removes topics, by name or by id.

use super::table::*;

message! {
    /// Key 20, versions 1 to 6, flexible from 4.
    DeleteTopicsRequest<'a> {
        6.. => topics: Vec<DeleteTopicState<'a>>,
        1..=5 => topic_names: Vec<&'a str>,
        1.. => timeout_ms: i32,
    }
}

message! {
    DeleteTopicState<'a> {
        /// Null: by id.
        6.. => name: Option<&'a str>,
        6.. => topic_id: TopicId,
    }
}

message! {
    /// Key 20, versions 1 to 6, flexible from 4.
    DeleteTopicsResponse<'a> {
        1.. => throttle_time_ms: i32,
        1.. => responses: Vec<DeletableTopicResult<'a>>,
    }
}

message! {
    DeletableTopicResult<'a> {
        1.., null 6.. => name: Option<&'a str>,
        6.. => topic_id: TopicId,
        1.. => error_code: ErrorCode,
        5.. => error_message: Option<&'a str>,
    }
}
