//! SyncGroup: carries the leader's assignment in and each member's own out.

use super::groups;
use crate::coordinator::replies::{Reply, SyncReply};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::sync_group::SyncGroupRequest;
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// First version that must say which protocol it means (KIP-559).
const PROTOCOL_FROM_VERSION: i16 = 5;

/// Answers when the coordinator does, which may be up to the group's leader.
pub async fn handle(mut request: Request) -> Result<Encoded, Refused> {
    let asked = {
        let body: SyncGroupRequest = request.decode()?;
        let says_protocol = body.protocol_type.is_some() && body.protocol_name.is_some();
        if request.version >= PROTOCOL_FROM_VERSION && !says_protocol {
            let reply = SyncReply::failed(ErrorCode::InconsistentGroupProtocol);
            return Ok(request.encode(&reply.response()));
        }
        let bytes = request.body_slice();
        groups::ask(&request, body.group_id, move |coordinator, call| {
            coordinator.sync_group(call, &groups::again(&bytes, call.version))
        })
    };
    request.release_body();
    let reply = match groups::unless_stopping(&request, asked).await {
        Ok(Reply::SyncGroup(reply)) => reply,
        Ok(other) => unreachable!("a sync is answered with {other:?}"),
        Err(error) => SyncReply::failed(error),
    };
    Ok(request.encode(&reply.response()))
}
