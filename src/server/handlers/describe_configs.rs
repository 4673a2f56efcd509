//! DescribeConfigs: settings with where each value comes from.

use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, Refusal, TOPIC};
use crate::cluster::changes::topic_name_fault;
use crate::cluster::metadata::{Image, NamedResource, Overrides};
use crate::cluster::settings::{Described, Layers};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use std::collections::HashSet;

/// Describes each resource for itself.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeConfigsRequest = request.decode()?;
    let image = request.server.shard.image();
    // A resource that comes twice is answered once: a small request has no large answer.
    let mut seen = HashSet::new();
    let resources = body.resources.iter();
    let resources: Vec<&DescribeConfigsResource<'_>> =
        resources.filter(|asked| seen.insert((asked.resource_type, asked.resource_name))).collect();
    let found: Vec<Result<Vec<Described>, Refusal>> =
        resources.iter().map(|asked| settings_of(request, &image, asked)).collect();
    let results = resources.iter().zip(&found).map(|(asked, found)| {
        let (error_code, error_message, described) = match found {
            Ok(described) => (ErrorCode::None, None, described.as_slice()),
            Err((code, text)) => (*code, Some(text.as_str()), &[][..]),
        };
        let keys = asked.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
        let wanted = described
            .iter()
            .filter(|setting| keys.is_none_or(|keys| keys.contains(&&*setting.name)));
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            configs: wanted.map(|setting| row_of(setting, &body)).collect(),
        }
    });
    let results = results.collect();
    Ok(request.encode(&DescribeConfigsResponse { throttle_time_ms: 0, results }))
}

fn settings_of(
    request: &Request,
    image: &Image,
    asked: &DescribeConfigsResource<'_>,
) -> Result<Vec<Described>, Refusal> {
    let node = &request.server.shard.node;
    let layers = Layers::of_image(image, node.node_id, &node.fixed);
    let name = asked.resource_name;
    let refused = |text: String| Err((ErrorCode::InvalidRequest, text));
    let named = |kind| {
        let none = Overrides::new();
        let overrides = image.named_overrides(kind, name);
        Ok(layers.describe_named(kind, overrides.map_or(&none, |overrides| overrides)))
    };
    match asked.resource_type {
        TOPIC => match image.topic(name) {
            Some(topic) => Ok(layers.describe_topic(&topic.overrides)),
            None => Err(match topic_name_fault(name) {
                Some(fault) => (ErrorCode::InvalidTopicException, fault),
                // Kafka sends this code with words, but none in them.
                None => (ErrorCode::UnknownTopicOrPartition, String::new()),
            }),
        },
        BROKER if name.is_empty() => Ok(layers.describe_all_brokers()),
        BROKER | BROKER_LOGGER => {
            let is_broker = asked.resource_type == BROKER;
            let or_empty = if is_broker { " or empty string," } else { "" };
            match name.parse::<i32>() {
                _ if name.is_empty() => refused("Broker id must not be empty".to_owned()),
                Ok(id) if id != node.node_id.0 => refused(format!(
                    "Unexpected broker id, expected {}{or_empty} but received {name}",
                    node.node_id
                )),
                Ok(_) if is_broker => Ok(layers.describe_broker()),
                Ok(_) => Ok(Vec::new()), // the log has no levels that clients can set
                Err(_) => refused(format!("Broker id must be an integer, but it is: {name}")),
            }
        }
        CLIENT_METRICS if name.is_empty() => {
            refused("Client metrics subscription name must not be empty".to_owned())
        }
        CLIENT_METRICS => named(NamedResource::ClientMetrics),
        GROUP if name.is_empty() => refused("Group name must not be empty".to_owned()),
        GROUP => named(NamedResource::Group),
        _ => refused(format!("Unexpected resource type UNKNOWN for resource {name}")),
    }
}

fn row_of<'a>(
    setting: &'a Described,
    body: &DescribeConfigsRequest<'_>,
) -> DescribeConfigsResourceResult<'a> {
    let synonyms = setting.synonyms.iter().filter(|_| body.include_synonyms);
    DescribeConfigsResourceResult {
        name: &setting.name,
        value: if setting.sensitive { None } else { setting.value.as_deref() },
        read_only: setting.read_only,
        config_source: setting.source.number(),
        is_sensitive: setting.sensitive,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: &synonym.name,
                value: if setting.sensitive { None } else { Some(&synonym.value) },
                source: synonym.source.number(),
            })
            .collect(),
        config_type: setting.kind.number(),
        documentation: body.include_documentation.then_some(setting.doc),
    }
}
