//! DeleteGroups: removes empty groups and their offsets.

use super::table::*;

message! {
    /// Key 42, versions 0 to 3, flexible from 2.
    DeleteGroupsRequest<'a> {
        0.. => groups_names: Vec<&'a str>,
    }
}

message! {
    /// Key 42, versions 0 to 3, flexible from 2.
    DeleteGroupsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => results: Vec<DeletableGroupResult<'a>>,
    }
}

message! {
    DeletableGroupResult<'a> {
        0.. => group_id: &'a str,
        0.. => error_code: ErrorCode,
        3.. => error_message: Option<&'a str>,
    }
}
