//! IncrementalAlterConfigs: sets, deletes and edits single settings.

use super::table::*;

message! {
    /// Key 44, versions 0 to 1, flexible from 1.
    IncrementalAlterConfigsRequest<'a> {
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
        /// 0 sets, 1 deletes, 2 appends to a list, 3 takes from a list.
        0.. => config_operation: i8,
        0.. => value: Option<&'a str>,
    }
}

message! {
    /// Key 44, versions 0 to 1, flexible from 1.
    IncrementalAlterConfigsResponse<'a> {
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
