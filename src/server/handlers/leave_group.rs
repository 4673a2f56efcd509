//! LeaveGroup: takes members out of a classic group.

use super::groups;
use crate::coordinator::replies::{LeaveReply, Reply};
use crate::protocol::messages::leave_group::LeaveGroupRequest;
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers when the coordinator does.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: LeaveGroupRequest = request.decode()?;
    let bytes = request.body_slice();
    let asked = groups::ask(request, body.group_id, move |coordinator, call| {
        coordinator.leave_group(call, &groups::again(&bytes, call.version))
    });
    let reply = match asked.await {
        Ok(Reply::LeaveGroup(reply)) => reply,
        Ok(other) => unreachable!("a leave is answered with {other:?}"),
        Err(error) => LeaveReply::failed(error),
    };
    Ok(request.encode(&reply.response(request.version)))
}
