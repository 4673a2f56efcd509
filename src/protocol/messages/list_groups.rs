//! ListGroups: the groups of a broker.

use super::table::*;

message! {
    /// Key 16, versions 0 to 5, flexible from 3.
    ListGroupsRequest<'a> {
        4.. => states_filter: Vec<&'a str>,
        5.. => types_filter: Vec<&'a str>,
    }
}

message! {
    /// Key 16, versions 0 to 5, flexible from 3.
    ListGroupsResponse<'a> {
        1.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => groups: Vec<ListedGroup<'a>>,
    }
}

message! {
    ListedGroup<'a> {
        0.. => group_id: &'a str,
        0.. => protocol_type: &'a str,
        4.. => group_state: &'a str,
        5.. => group_type: &'a str,
    }
}
