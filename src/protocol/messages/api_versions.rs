//! ApiVersions: which keys and versions a broker serves; the first request of most clients.

use super::table::*;

message! {
    /// Key 18, versions 0 to 5, flexible from 3.
    ApiVersionsRequest<'a> {
        3.. => client_software_name: &'a str,
        3.. => client_software_version: &'a str,
        5.. => cluster_id: Option<&'a str>,
        5.. => node_id: i32 = -1,
    }
}

message! {
    /// Key 18, versions 0 to 5, flexible from 3.
    ApiVersionsResponse<'a> {
        0.. => error_code: ErrorCode,
        0.. => api_keys: Vec<ApiVersion>,
        1.. => throttle_time_ms: i32,
    }
    tagged {
        0, 3.. => supported_features: Vec<SupportedFeatureKey<'a>>,
        1, 3.. => finalized_features_epoch: i64 = -1,
        2, 3.. => finalized_features: Vec<FinalizedFeatureKey<'a>>,
        3, 3.. => zk_migration_ready: bool,
    }
}

message! {
    ApiVersion {
        0.. => api_key: i16,
        0.. => min_version: i16,
        0.. => max_version: i16,
    }
}

message! {
    SupportedFeatureKey<'a> {
        3.. => name: &'a str,
        3.. => min_version: i16,
        3.. => max_version: i16,
    }
}

message! {
    FinalizedFeatureKey<'a> {
        3.. => name: &'a str,
        3.. => max_version_level: i16,
        3.. => min_version_level: i16,
    }
}
