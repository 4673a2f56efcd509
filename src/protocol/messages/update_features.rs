//! UpdateFeatures: finalizes feature levels of the cluster.

use super::table::*;

message! {
    /// Key 57, versions 0 to 2, flexible from 0.
    UpdateFeaturesRequest<'a> {
        0.. => timeout_ms: i32 = 60000,
        0.. => feature_updates: Vec<FeatureUpdateKey<'a>>,
        1.. => validate_only: bool,
    }
}

message! {
    FeatureUpdateKey<'a> {
        0.. => feature: &'a str,
        0.. => max_version_level: i16,
        1.. => upgrade_type: i8 = 1,
        0..=0 => allow_downgrade: bool,
    }
}

message! {
    /// Key 57, versions 0 to 2, flexible from 0.
    UpdateFeaturesResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => error_code: ErrorCode,
        0.. => error_message: Option<&'a str>,
        0..=1 => results: Vec<UpdatableFeatureResult<'a>>,
    }
}

message! {
    UpdatableFeatureResult<'a> {
        0..=1 => feature: &'a str,
        0..=1 => error_code: ErrorCode,
        0..=1 => error_message: Option<&'a str>,
    }
}
