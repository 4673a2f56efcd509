//! DeleteGroups: removes empty groups and their offsets.

use super::groups;
use crate::coordinator::replies::{DeletedGroup, Reply};
use crate::coordinator::{Call, Coordinator};
use crate::protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers each group for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DeleteGroupsRequest = request.decode()?;
    let verb_of = |index: usize| {
        let group_id = body.groups_names[index].to_owned();
        move |coordinator: &mut Coordinator, call: &Call<'_>| {
            coordinator.delete_group(call, &group_id)
        }
    };
    let replies = groups::ask_each(request, &body.groups_names, verb_of).await?;
    let deleted = replies.into_iter().zip(&body.groups_names).map(|(reply, name)| match reply {
        Ok(Reply::DeleteGroup(deleted)) => deleted,
        Ok(other) => unreachable!("the deletion of a group is answered with {other:?}"),
        Err(error) => {
            let group_id = (*name).to_owned();
            DeletedGroup { group_id, error, error_message: None }
        }
    });
    let deleted: Vec<DeletedGroup> = deleted.collect();
    let results = deleted.iter().map(DeletedGroup::response).collect();
    Ok(request.encode(&DeleteGroupsResponse { throttle_time_ms: 0, results }))
}
