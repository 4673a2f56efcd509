//! ListGroups: the groups of all coordinators.

use super::groups;
use crate::base::ids::TopicPartition;
use crate::cluster::metadata::OFFSETS_TOPIC;
use crate::coordinator::replies::{ListedGroup, Reply};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use futures_util::future::join_all;
use std::sync::Arc;

/// Asks every coordinator; one that cannot answer yet makes the whole answer an error.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: ListGroupsRequest = request.decode()?;
    let owned = |texts: &[&str]| -> Arc<[String]> { texts.iter().map(|it| (*it).into()).collect() };
    let (states, types) = (owned(&body.states_filter), owned(&body.types_filter));
    let image = request.server.shard.image();
    let topic = image.topic(OFFSETS_TOPIC);
    let partitions = topic.into_iter().flat_map(|topic| {
        let indexes = topic.indexed_partitions().map(|(partition, _)| partition);
        indexes.map(|partition| TopicPartition { topic_id: topic.id, partition })
    });
    let asked = partitions.map(|partition| {
        let (states, types) = (states.clone(), types.clone());
        groups::ask_partition(request, Some(partition), move |coordinator, call| {
            let states: Vec<&str> = states.iter().map(String::as_str).collect();
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            coordinator.list_groups(call, &states, &types)
        })
    });
    let mut listed: Vec<ListedGroup> = Vec::new();
    for reply in join_all(asked).await {
        match reply {
            Ok(Reply::ListGroups(groups)) => listed.extend(groups),
            Ok(other) => unreachable!("groups are listed with {other:?}"),
            Err(ErrorCode::NotCoordinator) => {} // what is not here is not ours to list
            Err(error_code) => {
                let response = ListGroupsResponse { error_code, ..Default::default() };
                return Ok(request.encode(&response));
            }
        }
    }
    let groups = listed.iter().map(ListedGroup::response).collect();
    Ok(request.encode(&ListGroupsResponse { groups, ..Default::default() }))
}
