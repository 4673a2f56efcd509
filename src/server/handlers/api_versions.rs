//! ApiVersions: what is served, from the codec's own table.

use crate::protocol::api::{ApiKey, advertised};
use crate::protocol::error::ErrorCode;
use crate::protocol::header::encode_response;
use crate::protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Stands for a version of the request that is not known here.
pub const VERSION_NOT_KNOWN: i16 = -1;
/// First version in which a client says what it is.
const NAMED_FROM_VERSION: i16 = 3;
/// First version whose clients take a feature that may be at level 0 (KAFKA-17011).
const LEVEL_ZERO_FROM_VERSION: i16 = 4;

/// One feature of the cluster: its levels, and the one in force.
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) supported: (i16, i16),
    pub(super) finalized: i16,
}

/// Kafka's name of the level that all of its metadata's formats hang on.
pub(super) const METADATA_VERSION: &str = "metadata.version";

/// `group.version` 1 is the consumer group protocol (KIP-848). The `metadata.version` is that of
/// Kafka 4.4: tools tell by it what a cluster can do. Ours has no formats of Kafka's to hang on it.
pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "group.version", supported: (0, 1), finalized: 1 },
    Feature { name: METADATA_VERSION, supported: (7, 33), finalized: 33 },
];

/// Answers a request of any version: one not known gets a version 0 body that says so.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let error_code = if request.version == VERSION_NOT_KNOWN {
        ErrorCode::UnsupportedVersion
    } else {
        let body: ApiVersionsRequest = request.decode()?;
        let cluster_id = body.cluster_id.is_none_or(|asked| {
            asked == request.server.shard.image().cluster_id()
                && (body.node_id < 0 || body.node_id == request.server.shard.node.node_id.0)
        });
        if request.version >= NAMED_FROM_VERSION
            && !(is_name(body.client_software_name) && is_name(body.client_software_version))
        {
            ErrorCode::InvalidRequest
        } else if !cluster_id {
            ErrorCode::RebootstrapRequired
        } else {
            ErrorCode::None
        }
    };
    // Kafka sends the table along with errors too: with version 0 it is the point of the answer.
    let with_keys = error_code != ErrorCode::InvalidRequest;
    let api_keys = advertised().filter(|_| with_keys).map(|(key, versions)| ApiVersion {
        api_key: key.number(),
        min_version: versions.first,
        max_version: versions.last,
    });
    let version = request.version.max(0);
    let features = FEATURES.iter().filter(|_| with_keys);
    let supported = features
        .clone()
        .filter(|feature| version >= LEVEL_ZERO_FROM_VERSION || feature.supported.0 > 0);
    let supported =
        supported.map(|&Feature { name, supported: (min_version, max_version), .. }| {
            SupportedFeatureKey { name, min_version, max_version }
        });
    let finalized = features.map(|&Feature { name, finalized, .. }| FinalizedFeatureKey {
        name,
        max_version_level: finalized,
        min_version_level: finalized,
    });
    let response = ApiVersionsResponse {
        error_code,
        api_keys: api_keys.collect(),
        supported_features: supported.collect(),
        finalized_features_epoch: request.server.shard.image().version().cast_signed(),
        finalized_features: finalized.collect(),
        ..Default::default()
    };
    Ok(encode_response(ApiKey::ApiVersions, version, request.correlation_id, &response))
}

/// Letters, digits, dots and dashes, neither of the latter at an end.
fn is_name(text: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let inner = |byte: u8| plain(&byte) || byte == b'-' || byte == b'.';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().copied().all(inner)
}
