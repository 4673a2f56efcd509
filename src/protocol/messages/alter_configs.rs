//! AlterConfigs: replaces all settings of a resource; the elder way.

use super::table::*;

message! {
    /// Key 33, versions 0 to 2, flexible from 2.
    AlterConfigsRequest<'a> {
        0.. => resources: Vec<AlterConfigsResource<'a>>,
        0.. => validate_only: bool,
    }
}

message! {
    AlterConfigsResource<'a> {
        0.. => resource_type: i8,
        0.. => resource_name: &'a str,
        0.. => configs: Vec<AlterableConfig<'a>>,
    }
}

message! {
    AlterableConfig<'a> {
        0.. => name: &'a str,
        0.. => value: Option<&'a str>,
    }
}

message! {
    /// Key 33, versions 0 to 2, flexible from 2.
    AlterConfigsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => responses: Vec<AlterConfigsResourceResponse<'a>>,
    }
}

message! {
    AlterConfigsResourceResponse<'a> {
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0.. => resource_type: i8,
        0.. => resource_name: &'a str,
    }
}
