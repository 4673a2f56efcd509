//! DescribeGroups: classic groups with their members and assignments.

use super::groups;
use super::operations::{NOT_ASKED, OF_GROUP};
use crate::coordinator::replies::{DescribedGroup, Reply};
use crate::coordinator::{Call, Coordinator};
use crate::protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers each group for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeGroupsRequest = request.decode()?;
    let verb_of = |index: usize| {
        let group_id = body.groups[index].to_owned();
        move |coordinator: &mut Coordinator, call: &Call<'_>| {
            coordinator.describe_group(call, &group_id)
        }
    };
    let replies = groups::ask_each(request, &body.groups, verb_of).await?;
    let described = replies.into_iter().zip(&body.groups).map(|(reply, group_id)| match reply {
        Ok(Reply::DescribeGroup(described)) => described,
        Ok(other) => unreachable!("a group is described with {other:?}"),
        Err(error) => DescribedGroup::failed(group_id, error, None),
    });
    let described: Vec<DescribedGroup> = described.collect();
    let groups = described.iter().map(|group| {
        let mut row = group.response();
        let shows = body.include_authorized_operations && group.error.is_none();
        row.authorized_operations = if shows { OF_GROUP } else { NOT_ASKED };
        row
    });
    let groups = groups.collect();
    Ok(request.encode(&DescribeGroupsResponse { throttle_time_ms: 0, groups }))
}
