//! JoinGroup: makes a member of a classic group; answered when the rebalance that it joins ends.

use super::groups;
use crate::coordinator::replies::{JoinReply, Reply};
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers when the coordinator does, which may be up to other members.
pub async fn handle(mut request: Request) -> Result<Encoded, Refused> {
    let (asked, member_id) = {
        let body: JoinGroupRequest = request.decode()?;
        let bytes = request.body_slice();
        let asked = groups::ask(&request, body.group_id, move |coordinator, call| {
            coordinator.join_group(call, &groups::again(&bytes, call.version))
        });
        (asked, body.member_id.to_owned())
    };
    request.release_body();
    let reply = match groups::unless_stopping(&request, asked).await {
        Ok(Reply::JoinGroup(reply)) => reply,
        Ok(other) => unreachable!("a join is answered with {other:?}"),
        Err(error) => JoinReply::failed(&member_id, error),
    };
    Ok(request.encode(&reply.response(request.version)))
}
