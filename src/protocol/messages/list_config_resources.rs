//! ListConfigResources: the resources that have settings of their own.

use super::table::*;

message! {
    /// Key 74, versions 0 to 1, flexible from 0.
    ListConfigResourcesRequest {
        1.. => resource_types: Vec<i8>,
    }
}

message! {
    /// Key 74, versions 0 to 1, flexible from 0.
    ListConfigResourcesResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => config_resources: Vec<ConfigResource<'a>>,
    }
}

message! {
    ConfigResource<'a> {
        0.. => resource_name: &'a str,
        1.. => resource_type: i8 = 16,
    }
}
