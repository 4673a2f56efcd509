//! ConsumerGroupHeartbeat: the one request of a member in the protocol of KIP-848.

use super::groups;
use crate::coordinator::replies::{ConsumerHeartbeatReply, Reply};
use crate::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers when the coordinator does.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: ConsumerGroupHeartbeatRequest = request.decode()?;
    let bytes = request.body_slice();
    let asked = groups::ask(request, body.group_id, move |coordinator, call| {
        coordinator.consumer_heartbeat(call, &groups::again(&bytes, call.version))
    });
    let reply = match asked.await {
        Ok(Reply::ConsumerHeartbeat(reply)) => reply,
        Ok(other) => unreachable!("a heartbeat is answered with {other:?}"),
        Err(error) => ConsumerHeartbeatReply::failed(error, error.message()),
    };
    Ok(request.encode(&reply.response()))
}
