//! AlterPartitionReassignments: a single node has all replicas already, so none ever moves.

use crate::base::ids::{NodeId, PartitionIndex};
use crate::base::limits::PARTITIONS_COUNT_MAX;
use crate::cluster::changes::check_replicas;
use crate::cluster::metadata::Image;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::server::handlers::errors;

/// A code and Kafka's words for it.
type Outcome = Result<(), (ErrorCode, String)>;

/// Answers each partition for itself.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: AlterPartitionReassignmentsRequest = request.decode()?;
    let image = request.server.shard.image();
    let asked_count: usize = body.topics.iter().map(|topic| topic.partitions.len()).sum();
    if asked_count > PARTITIONS_COUNT_MAX {
        return Ok(request.encode(&AlterPartitionReassignmentsResponse {
            error_code: ErrorCode::InvalidRequest,
            ..AlterPartitionReassignmentsResponse::default()
        }));
    }
    let outcomes: Vec<Vec<Outcome>> = body
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|it| outcome_of(&image, topic.name, it)).collect())
        .collect();
    let responses = body.topics.iter().zip(&outcomes).map(|(topic, outcomes)| {
        let partitions = topic.partitions.iter().zip(outcomes).map(|(asked, outcome)| {
            let (error_code, error_message) = match outcome {
                Ok(()) => (ErrorCode::None, None),
                Err((code, text)) => (*code, Some(text.as_str())),
            };
            let partition_index = asked.partition_index;
            ReassignablePartitionResponse { partition_index, error_code, error_message }
        });
        ReassignableTopicResponse { name: topic.name, partitions: partitions.collect() }
    });
    Ok(request.encode(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: body.allow_replication_factor_change,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }))
}

fn outcome_of(image: &Image, topic: &str, asked: &ReassignablePartition) -> Outcome {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let index = asked.partition_index;
    let Some(found) = image.topic(topic) else {
        return Err((unknown, format!("Unable to find a topic named {topic}.")));
    };
    let Some(partition) = found.partition(PartitionIndex(index)) else {
        return Err((unknown, format!("Unable to find partition {topic}:{index}.")));
    };
    let Some(replicas) = &asked.replicas else {
        let text = "No partition reassignment is in progress.".to_owned();
        return Err((ErrorCode::NoReassignmentInProgress, text));
    };
    let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
    check_replicas(image, &replicas)
        .map_err(|error| (errors::of_change(&error), error.to_string()))?;
    if replicas != partition.replicas {
        let text = "Replicas cannot move between brokers yet.".to_owned();
        return Err((ErrorCode::InvalidReplicaAssignment, text));
    }
    Ok(())
}
