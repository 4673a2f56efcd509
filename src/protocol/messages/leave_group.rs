//! LeaveGroup: takes members out of a classic group.

use super::table::*;

message! {
    /// Key 13, versions 0 to 5, flexible from 4.
    LeaveGroupRequest<'a> {
        0.. => group_id: &'a str,
        3.. => members: Vec<MemberIdentity<'a>>,
        0..=2 => member_id: &'a str,
    }
}

message! {
    MemberIdentity<'a> {
        3.. => member_id: &'a str,
        3.. => group_instance_id: Option<&'a str>,
        5.. => reason: Option<&'a str>,
    }
}

message! {
    /// Key 13, versions 0 to 5, flexible from 4.
    LeaveGroupResponse<'a> {
        1.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        3.. => members: Vec<MemberResponse<'a>>,
    }
}

message! {
    MemberResponse<'a> {
        3.. => member_id: &'a str,
        3.. => group_instance_id: Option<&'a str>,
        3.. => error_code: ErrorCode,
    }
}
