//! Heartbeat: keeps a member of a classic group alive.

use super::table::*;

message! {
    /// Key 12, versions 0 to 4, flexible from 4.
    HeartbeatRequest<'a> {
        0.. => group_id: &'a str,
        0.. => generation_id: i32,
        0.. => member_id: &'a str,
        3.. => group_instance_id: Option<&'a str>,
    }
}

message! {
    /// Key 12, versions 0 to 4, flexible from 4.
    HeartbeatResponse {
        1.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
    }
}
