//! IncrementalAlterConfigs: sets, deletes and edits single settings.

use super::resources::{Alterations, Refusal};
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
    let asked = asked.map(|asked| (asked.resource_type, asked.resource_name, changes_of(asked)));
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

fn changes_of(asked: &AlterConfigsResource<'_>) -> Result<Vec<SettingChange>, Refusal> {
    let change =
        |config: &crate::protocol::messages::incremental_alter_configs::AlterableConfig| {
            let verb = match config.config_operation {
                0 => SettingVerb::Set,
                1 => SettingVerb::Delete,
                2 => SettingVerb::Append,
                3 => SettingVerb::Subtract,
                other => {
                    let text = format!("Unknown operation type {other}.");
                    return Err((ErrorCode::InvalidRequest, text));
                }
            };
            let value = config.value.map(str::to_owned);
            Ok(SettingChange { name: config.name.to_owned(), verb, value })
        };
    asked.configs.iter().map(change).collect()
}
