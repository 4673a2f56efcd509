//! AlterConfigs: replaces all settings of a resource; the elder way.

use super::resources::Alterations;
use crate::protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::{ChangeRequest, SettingValue};

/// Replaces the settings of each resource for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: AlterConfigsRequest = request.decode()?;
    let validate_only = body.validate_only;
    let asked = body.resources.iter().map(|asked| {
        let value = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let configs = asked.configs.iter().map(|config| value(config.name, config.value));
        let wanted: Vec<SettingValue> = configs.collect();
        (asked.resource_type, asked.resource_name, Ok(wanted))
    });
    let results = Alterations::new(request, asked)
        .make(request, |wanted| ChangeRequest::ReplaceSettings { wanted, validate_only })
        .await;
    let responses = body.resources.iter().zip(&results);
    let responses = responses.map(|(asked, (error_code, message))| AlterConfigsResourceResponse {
        error_code: *error_code,
        error_message: message.as_deref(),
        resource_type: asked.resource_type,
        resource_name: asked.resource_name,
    });
    let responses = responses.collect();
    Ok(request.encode(&AlterConfigsResponse { throttle_time_ms: 0, responses }))
}
