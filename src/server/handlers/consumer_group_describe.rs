//! ConsumerGroupDescribe: groups of the protocol of KIP-848 with their members.

use super::groups;
use super::operations::{NOT_ASKED, OF_GROUP};
use crate::coordinator::replies::{ConsumerDescribedGroup, Reply};
use crate::coordinator::{Call, Coordinator};
use crate::protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Answers each group for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: ConsumerGroupDescribeRequest = request.decode()?;
    let verb_of = |index: usize| {
        let group_id = body.group_ids[index].to_owned();
        move |coordinator: &mut Coordinator, call: &Call<'_>| {
            coordinator.consumer_describe(call, &group_id)
        }
    };
    let replies = groups::ask_each(request, &body.group_ids, verb_of).await?;
    let described = replies.into_iter().zip(&body.group_ids).map(|(reply, group_id)| match reply {
        Ok(Reply::ConsumerDescribe(described)) => described,
        Ok(other) => unreachable!("a group is described with {other:?}"),
        Err(error) => ConsumerDescribedGroup::failed(group_id, error, None),
    });
    let described: Vec<ConsumerDescribedGroup> = described.collect();
    let groups = described.iter().map(|group| {
        let mut row = group.response();
        let shows = body.include_authorized_operations && group.error.is_none();
        row.authorized_operations = if shows { OF_GROUP } else { NOT_ASKED };
        row
    });
    let groups = groups.collect();
    Ok(request.encode(&ConsumerGroupDescribeResponse { throttle_time_ms: 0, groups }))
}
