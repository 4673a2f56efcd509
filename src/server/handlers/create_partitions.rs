//! CreatePartitions: adds partitions to topics.

use super::resources::outcome;
use crate::base::ids::NodeId;
use crate::cluster::changes::MorePartitions;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::{ChangeReply, ChangeRequest};
use std::collections::HashMap;

/// Changes each topic for itself; a name that comes twice is refused.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: CreatePartitionsRequest = request.decode()?;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    body.topics.iter().for_each(|topic| *counts.entry(topic.name).or_default() += 1);
    let once = body.topics.iter().filter(|topic| counts[topic.name] == 1);
    let topics: Vec<MorePartitions> = once.map(more_partitions).collect();
    let results = if topics.is_empty() {
        Vec::new()
    } else {
        let validate_only = body.validate_only;
        let change = ChangeRequest::CreatePartitions { topics, validate_only };
        match request.server.shard.change(change).await {
            ChangeReply::Done(results) => results,
            ChangeReply::Topics(_) => unreachable!("added partitions are answered with results"),
        }
    };
    let mut results = results.into_iter();
    let outcomes: Vec<(ErrorCode, Option<String>)> = body
        .topics
        .iter()
        .map(|topic| match counts[topic.name] {
            1 => outcome(results.next().expect("one result for each topic")),
            _ => (ErrorCode::InvalidRequest, Some("Duplicate topic name.".to_owned())),
        })
        .collect();
    let results = body.topics.iter().zip(&outcomes);
    let results = results.map(|(topic, (error_code, message))| CreatePartitionsTopicResult {
        name: topic.name,
        error_code: *error_code,
        error_message: message.as_deref(),
    });
    let results = results.collect();
    Ok(request.encode(&CreatePartitionsResponse { throttle_time_ms: 0, results }))
}

fn more_partitions(asked: &CreatePartitionsTopic<'_>) -> MorePartitions {
    let assignments = asked.assignments.as_ref().map(|assignments| {
        let ids = |ids: &Vec<i32>| ids.iter().copied().map(NodeId).collect();
        assignments.iter().map(|assignment| ids(&assignment.broker_ids)).collect()
    });
    MorePartitions { topic: asked.name.to_owned(), partitions_count: asked.count, assignments }
}
