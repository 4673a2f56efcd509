//! JoinGroup: makes a member of a classic group, and starts or joins a rebalance.

use super::table::*;

message! {
    /// Key 11, versions 0 to 9, flexible from 6.
    JoinGroupRequest<'a> {
        0.. => group_id: &'a str,
        0.. => session_timeout_ms: i32,
        1.. => rebalance_timeout_ms: i32 = -1,
        0.. => member_id: &'a str,
        5.. => group_instance_id: Option<&'a str>,
        0.. => protocol_type: &'a str,
        0.. => protocols: Vec<JoinGroupRequestProtocol<'a>>,
        8.. => reason: Option<&'a str>,
    }
}

message! {
    JoinGroupRequestProtocol<'a> {
        0.. => name: &'a str,
        0.. => metadata: &'a [u8],
    }
}

message! {
    /// Key 11, versions 0 to 9, flexible from 6.
    JoinGroupResponse<'a> {
        2.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => generation_id: i32 = -1,
        7.. => protocol_type: Option<&'a str>,
        0.., null 7.. => protocol_name: Option<&'a str>,
        0.. => leader: &'a str,
        9.. => skip_assignment: bool,
        0.. => member_id: &'a str,
        0.. => members: Vec<JoinGroupResponseMember<'a>>,
    }
}

message! {
    JoinGroupResponseMember<'a> {
        0.. => member_id: &'a str,
        5.. => group_instance_id: Option<&'a str>,
        0.. => metadata: &'a [u8],
    }
}
