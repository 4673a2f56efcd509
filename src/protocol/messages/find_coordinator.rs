//! FindCoordinator: which broker looks after a group or a transactional id.

use super::table::*;

message! {
    /// Key 10, versions 0 to 6, flexible from 3.
    FindCoordinatorRequest<'a> {
        0..=3 => key: &'a str,
        /// 0 group, 1 transaction, 2 share group.
        1.. => key_type: i8,
        4.. => coordinator_keys: Vec<&'a str>,
    }
}

message! {
    /// Key 10, versions 0 to 6, flexible from 3.
    FindCoordinatorResponse<'a> {
        1.. => throttle_time_ms: i32,
        4.. => coordinators: Vec<Coordinator<'a>>,
        0..=3 => error_code: ErrorCode,
        1..=3 => error_message: Option<&'a str>,
        0..=3 => node_id: i32,
        0..=3 => host: &'a str,
        0..=3 => port: i32,
    }
}

message! {
    Coordinator<'a> {
        4.. => key: &'a str,
        4.. => node_id: i32,
        4.. => host: &'a str,
        4.. => port: i32,
        4.. => error_code: ErrorCode,
        4.. => error_message: Option<&'a str>,
    }
}
