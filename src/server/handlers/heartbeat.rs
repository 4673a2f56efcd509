//! Heartbeat: keeps a member of a classic group alive.

use super::groups;
use crate::coordinator::replies::{Reply, heartbeat_response};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers when the coordinator does.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: HeartbeatRequest = request.decode()?;
    let bytes = request.body_slice();
    let asked = groups::ask(request, body.group_id, move |coordinator, call| {
        coordinator.heartbeat(call, &groups::again(&bytes, call.version))
    });
    let error_code = match asked.await {
        Ok(Reply::Heartbeat(error_code)) => error_code,
        Ok(other) => unreachable!("a heartbeat is answered with {other:?}"),
        // As Kafka: sessions begin anew after the load, so the member may as well go on.
        Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(error_code) => error_code,
    };
    Ok(request.encode(&heartbeat_response(error_code)))
}
