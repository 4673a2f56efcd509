//! UpdateFeatures: every feature is in force at its highest level, and stays there.

use super::api_versions::{FEATURES, Feature, METADATA_VERSION};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Last version whose answer has a result for each feature.
const RESULTS_TO_VERSION: i16 = 1;
/// Kinds of change by Kafka's numbers: up, down without loss, down with loss (KIP-584).
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// Accepts what is in force already; one update that is not possible refuses them all.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: UpdateFeaturesRequest = request.decode()?;
    let node_id = request.server.shard.node.node_id.0;
    let kind_of = |update: &FeatureUpdateKey<'_>| match request.version {
        0 if update.allow_downgrade => SAFE_DOWNGRADE,
        _ => update.upgrade_type,
    };
    let refusal = body.feature_updates.iter().find_map(|update| {
        let reason = refusal_of(update, kind_of(update), node_id)?;
        Some(format!(
            "The update failed for all features since the following feature had an error: {reason}"
        ))
    });
    let with_results = refusal.is_none() && request.version <= RESULTS_TO_VERSION;
    let updates = body.feature_updates.iter().filter(|_| with_results);
    let results = updates.map(|update| UpdatableFeatureResult {
        feature: update.feature,
        error_code: ErrorCode::None,
        error_message: None,
    });
    Ok(request.encode(&UpdateFeaturesResponse {
        throttle_time_ms: 0,
        error_code: match refusal {
            Some(_) => ErrorCode::InvalidUpdateVersion,
            None => ErrorCode::None,
        },
        error_message: refusal.as_deref(),
        results: results.collect(),
    }))
}

/// Why a feature cannot be brought to a level, in Kafka's words; nothing where it is there.
fn refusal_of(update: &FeatureUpdateKey<'_>, kind: i8, node_id: i32) -> Option<String> {
    let level = update.max_version_level;
    let feature = FEATURES.iter().find(|feature| feature.name == update.feature);
    if let Some(feature) = feature
        && feature.name == METADATA_VERSION
        && (feature.supported.0..feature.finalized).contains(&level)
        && let SAFE_DOWNGRADE | UNSAFE_DOWNGRADE = kind
    {
        let reason = match kind {
            SAFE_DOWNGRADE => {
                "Refusing to perform the requested downgrade because it might delete metadata \
                 information."
            }
            _ => "Unsafe metadata downgrade is not supported in this version.",
        };
        return Some(format!(
            "Unsupported metadata.version downgrade from {} to {level}. {reason}",
            feature.finalized
        ));
    }
    let reason = fault_of(level, kind, feature, node_id)?;
    Some(format!("Invalid update version {level} for feature {}. {reason}", update.feature))
}

fn fault_of(level: i16, kind: i8, feature: Option<&Feature>, node_id: i32) -> Option<String> {
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) {
        return Some("The controller does not support the given upgrade type.".to_owned());
    }
    if level < 0 {
        return Some("A feature version cannot be less than 0.".to_owned());
    }
    let Some(feature) = feature else {
        return Some(format!("Local controller {node_id} does not support this feature."));
    };
    let (first, last) = feature.supported;
    if !(first..=last).contains(&level) {
        return Some(format!("Local controller {node_id} only supports versions {first}-{last}"));
    }
    let reason = match level.cmp(&feature.finalized) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Less if kind == UPGRADE => {
            "Can't downgrade the version of this feature without setting the upgrade type to \
             either safe or unsafe downgrade."
        }
        std::cmp::Ordering::Greater if kind != UPGRADE => "Can't downgrade to a newer version.",
        // A group may have members under the consumer protocol, who could not go on.
        _ => "Can't downgrade the version of this feature.",
    };
    Some(reason.to_owned())
}
