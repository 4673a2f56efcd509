//! IncrementalAlterConfigs: sets, deletes and edits single settings.

use super::resources::{Alterations, BROKER_LOGGER, Refusal};
use crate::cluster::changes::{SettingChange, SettingVerb};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::ChangeRequest;

/// Changes each resource for itself, all of its settings or none.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: IncrementalAlterConfigsRequest = request.decode()?;
    let validate_only = body.validate_only;
    let asked = body.resources.iter();
    let asked = asked.map(|asked| {
        let changes = changes_of(asked).and_then(|changes| match asked.resource_type {
            BROKER_LOGGER => Err(refused_loggers(request, asked)),
            _ => Ok(changes),
        });
        (asked.resource_type, asked.resource_name, changes)
    });
    let results = Alterations::new(request, asked)
        .make(request, |changes| ChangeRequest::AlterSettings { changes, validate_only })
        .await;
    let responses = body.resources.iter().zip(&results);
    let responses = responses.map(|(asked, (error_code, message))| AlterConfigsResourceResponse {
        error_code: *error_code,
        error_message: message.as_deref(),
        resource_type: asked.resource_type,
        resource_name: asked.resource_name,
    });
    let responses = responses.collect();
    Ok(request.encode(&IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses }))
}

/// This broker's log has no levels that clients can set, so no logger has a name.
fn refused_loggers(request: &Request, asked: &AlterConfigsResource<'_>) -> Refusal {
    let node_id = request.server.shard.node.node_id;
    let name = asked.resource_name;
    match name.parse::<i32>() {
        Err(_) => {
            let text = format!("Node id must be an integer, but it is: {name}");
            (ErrorCode::InvalidRequest, text)
        }
        Ok(id) if id != node_id.0 => {
            let text = format!("Unexpected node id. Expected {node_id}, but received {name}");
            (ErrorCode::InvalidRequest, text)
        }
        Ok(_) => {
            let logger = asked.configs.first().map_or("", |config| config.name);
            (ErrorCode::InvalidConfig, format!("Logger {logger} does not exist!"))
        }
    }
}

fn changes_of(asked: &AlterConfigsResource<'_>) -> Result<Vec<SettingChange>, Refusal> {
    let change =
        |config: &crate::protocol::messages::incremental_alter_configs::AlterableConfig| {
            let verb = match config.config_operation {
                0 => SettingVerb::Set,
                1 => SettingVerb::Delete,
                2 => SettingVerb::Append,
                3 => SettingVerb::Subtract,
                other => {
                    let text = format!("Unknown operations type {other}");
                    return Err((ErrorCode::InvalidRequest, text));
                }
            };
            let value = config.value.map(str::to_owned);
            Ok(SettingChange { name: config.name.to_owned(), verb, value })
        };
    asked.configs.iter().map(change).collect()
}
