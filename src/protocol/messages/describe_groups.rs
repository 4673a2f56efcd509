//! DescribeGroups: classic groups with their members and assignments.

use super::table::*;

message! {
    /// Key 15, versions 0 to 6, flexible from 5.
    DescribeGroupsRequest<'a> {
        0.. => groups: Vec<&'a str>,
        3.. => include_authorized_operations: bool,
    }
}

message! {
    /// Key 15, versions 0 to 6, flexible from 5.
    DescribeGroupsResponse<'a> {
        1.. => throttle_time_ms: i32,
        0.. => groups: Vec<DescribedGroup<'a>>,
    }
}

message! {
    DescribedGroup<'a> {
        0.. => error_code: ErrorCode,
        6.. => error_message: Option<&'a str>,
        0.. => group_id: &'a str,
        0.. => group_state: &'a str,
        0.. => protocol_type: &'a str,
        0.. => protocol_data: &'a str,
        0.. => members: Vec<DescribedGroupMember<'a>>,
        3.. => authorized_operations: i32 = i32::MIN,
    }
}

message! {
    DescribedGroupMember<'a> {
        0.. => member_id: &'a str,
        4.. => group_instance_id: Option<&'a str>,
        0.. => client_id: &'a str,
        0.. => client_host: &'a str,
        0.. => member_metadata: &'a [u8],
        0.. => member_assignment: &'a [u8],
    }
}
