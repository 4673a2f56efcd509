//! ListConfigResources: what has, or may have, settings of its own (KIP-1142).

use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::cluster::metadata::{Image, NamedResource};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// First version in which a client says which types it wants; before, it got client metrics.
const TYPED_FROM_VERSION: i16 = 1;
/// Every type, in the order in which Kafka answers.
const TYPES: [i8; 5] = [GROUP, CLIENT_METRICS, BROKER_LOGGER, BROKER, TOPIC];

/// Answers with the resources of the types that were asked for, or of all.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: ListConfigResourcesRequest = request.decode()?;
    let image = request.server.shard.image();
    let supported: &[i8] =
        if request.version < TYPED_FROM_VERSION { &[CLIENT_METRICS] } else { &TYPES };
    let asked = &body.resource_types;
    if asked.iter().any(|kind| !supported.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion;
        return Ok(
            request.encode(&ListConfigResourcesResponse { error_code, ..Default::default() })
        );
    }
    let wanted = supported.iter().filter(|kind| asked.is_empty() || asked.contains(kind));
    let named =
        wanted.flat_map(|kind| names_of(&image, *kind).into_iter().map(|name| (name, *kind)));
    let named: Vec<(String, i8)> = named.collect();
    let resources = named
        .iter()
        .map(|(name, resource_type)| ConfigResource {
            resource_name: name,
            resource_type: *resource_type,
        })
        .collect();
    Ok(request
        .encode(&ListConfigResourcesResponse { config_resources: resources, ..Default::default() }))
}

/// Groups and subscriptions that have settings, every broker, every topic.
fn names_of(image: &Image, kind: i8) -> Vec<String> {
    match kind {
        GROUP => image.configured(NamedResource::Group).map(str::to_owned).collect(),
        CLIENT_METRICS => {
            image.configured(NamedResource::ClientMetrics).map(str::to_owned).collect()
        }
        TOPIC => image.topics().map(|topic| topic.name.to_string()).collect(),
        _ => image.brokers().map(|broker| broker.id.to_string()).collect(),
    }
}
