//! ElectLeaders: a single replica leads already, so nothing is ever elected.

use crate::base::ids::PartitionIndex;
use crate::base::limits::PARTITIONS_COUNT_MAX;
use crate::cluster::metadata::{Image, NO_LEADER, Partition};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
    TopicPartitions,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use std::collections::HashSet;

/// Elections by Kafka's numbers: of the first replica, or of whichever is there (KIP-460).
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// What became of one partition, in Kafka's words.
struct Outcome {
    partition: i32,
    error_code: ErrorCode,
    message: Option<String>,
}

/// Answers each partition for itself, or all that need another leader when asked for none by name.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: ElectLeadersRequest = request.decode()?;
    let image = request.server.shard.image();
    let asked = body.topic_partitions.as_deref();
    let error_code = match body.election_type {
        PREFERRED | UNCLEAN if count_of(asked) <= PARTITIONS_COUNT_MAX => ErrorCode::None,
        _ => ErrorCode::InvalidRequest,
    };
    let outcomes: Vec<(&str, Vec<Outcome>)> = match asked {
        _ if error_code != ErrorCode::None => Vec::new(),
        Some(topics) => {
            let of_topic = |topic: &TopicPartitions<'_>| {
                let mut seen = HashSet::new();
                let partitions = topic.partitions.iter().filter(|index| seen.insert(**index));
                let elect = |index: &i32| outcome_of(&image, topic.topic, *index, &body);
                partitions.map(elect).collect()
            };
            topics.iter().map(|topic| (topic.topic, of_topic(topic))).collect()
        }
        None => needed(&image, &body),
    };
    let results = outcomes.iter().map(|(topic, outcomes)| ReplicaElectionResult {
        topic,
        partition_result: outcomes
            .iter()
            .map(|outcome| PartitionResult {
                partition_id: outcome.partition,
                error_code: outcome.error_code,
                error_message: outcome.message.as_deref(),
            })
            .collect(),
    });
    let replica_election_results = results.collect();
    Ok(request.encode(&ElectLeadersResponse {
        throttle_time_ms: 0,
        error_code,
        replica_election_results,
    }))
}

fn count_of(asked: Option<&[TopicPartitions<'_>]>) -> usize {
    asked.unwrap_or_default().iter().map(|topic| topic.partitions.len()).sum()
}

/// Every partition that has not the leader that was asked for.
fn needed<'i>(image: &'i Image, body: &ElectLeadersRequest<'_>) -> Vec<(&'i str, Vec<Outcome>)> {
    let of_topic = |topic: &'i crate::cluster::metadata::Topic| {
        let partitions = topic.indexed_partitions();
        let needed = partitions.filter(|(_, partition)| !is_led(partition, body.election_type));
        let outcomes: Vec<Outcome> =
            needed.map(|(index, _)| outcome_of(image, &topic.name, index.0, body)).collect();
        (topic.name.as_ref(), outcomes)
    };
    let topics = image.topics().map(|topic| of_topic(topic));
    topics.filter(|(_, outcomes)| !outcomes.is_empty()).collect()
}

fn is_led(partition: &Partition, election_type: i8) -> bool {
    match election_type {
        UNCLEAN => partition.leader != NO_LEADER,
        _ => partition.replicas.first() == Some(&partition.leader),
    }
}

fn outcome_of(image: &Image, topic: &str, index: i32, body: &ElectLeadersRequest<'_>) -> Outcome {
    let outcome = |error_code, message: String| Outcome {
        partition: index,
        error_code,
        message: Some(message),
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let Some(found) = image.topic(topic) else {
        return outcome(unknown, format!("No such topic as {topic}"));
    };
    let Some(partition) = found.partition(PartitionIndex(index)) else {
        return outcome(unknown, format!("No such partition as {topic}-{index}"));
    };
    let (error_code, message) = match body.election_type {
        election_type if is_led(partition, election_type) => {
            (ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.")
        }
        UNCLEAN => (
            ErrorCode::EligibleLeadersNotAvailable,
            "Eligible topic partition leaders are not available.",
        ),
        _ => (ErrorCode::PreferredLeaderNotAvailable, "The preferred leader was not available."),
    };
    outcome(error_code, message.to_owned())
}
