//! Metadata: brokers and topics; asking for a topic may create it.

use super::errors;
use super::operations::{NOT_ASKED, OF_CLUSTER, OF_TOPIC};
use crate::base::ids::TopicId;
use crate::cluster::changes::{ChangeError, NewTopic, topic_name_fault};
use crate::cluster::metadata::{INTERNAL_TOPICS, Image, Topic};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::{ChangeReply, ChangeRequest};
use std::collections::{HashMap, HashSet};

/// First version in which a client may ask by id alone.
const BY_ID_FROM_VERSION: i16 = 12;
/// First version in which "no topics" is an empty list; before, that meant all.
const EMPTY_FROM_VERSION: i16 = 1;
/// First version in which a client may forbid creation; before, it wants it.
const CREATION_FROM_VERSION: i16 = 4;

/// Answers with what was asked for, by name or id, or with all topics.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: MetadataRequest = request.decode()?;
    let asked = body.topics.as_deref();
    let asked = asked.filter(|t| !(t.is_empty() && request.version < EMPTY_FROM_VERSION));
    if asked.unwrap_or_default().iter().any(|topic| is_nonsense(topic, request.version)) {
        return Ok(request.encode(&refused(asked.unwrap_or_default())));
    }
    let names = asked.unwrap_or_default().iter().filter_map(|topic| topic.name);
    let may_create = body.allow_auto_topic_creation || request.version < CREATION_FROM_VERSION;
    let refusals = if may_create && request.server.shard.settings().auto_create_topics_enable {
        create_missing(request, names).await
    } else {
        HashMap::new()
    };
    let shard = &request.server.shard;
    let image = shard.image();
    let operations = if body.include_topic_authorized_operations { OF_TOPIC } else { NOT_ASKED };
    // A name that comes twice is answered once: the answer is bounded by the topics there are.
    let mut seen = HashSet::new();
    let topics = match asked {
        None => image.topics().map(|topic| described(topic, operations)).collect(),
        Some(asked) => asked
            .iter()
            .filter(|topic| seen.insert((topic.name, topic.topic_id)))
            .map(|topic| match topic.name {
                _ if topic.topic_id != TopicId::ZERO => by_id(&image, topic.topic_id, operations),
                Some(name) => by_name(&image, name, operations, &refusals),
                None => unreachable!("refused above"),
            })
            .collect(),
    };
    let brokers = image.brokers().map(|broker| MetadataResponseBroker {
        node_id: broker.id.0,
        host: &broker.host,
        port: broker.port.into(),
        rack: broker.rack.as_deref(),
    });
    Ok(request.encode(&MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(image.cluster_id()),
        controller_id: shard.node.node_id.0,
        topics,
        cluster_authorized_operations: if body.include_cluster_authorized_operations {
            OF_CLUSTER
        } else {
            NOT_ASKED
        },
        ..Default::default()
    }))
}

/// Names nothing, or names by id where only a later version does.
fn is_nonsense(topic: &MetadataRequestTopic<'_>, version: i16) -> bool {
    match topic.name {
        None => version < BY_ID_FROM_VERSION || topic.topic_id == TopicId::ZERO,
        Some(_) => version < BY_ID_FROM_VERSION && topic.topic_id != TopicId::ZERO,
    }
}

/// Every topic refused: what Kafka answers when it can make nothing of one of them.
fn refused<'a>(asked: &[MetadataRequestTopic<'a>]) -> MetadataResponse<'a> {
    let error_code = ErrorCode::InvalidRequest;
    let topics = asked.iter().map(|topic| MetadataResponseTopic {
        error_code,
        name: Some(topic.name.unwrap_or_default()),
        topic_id: topic.topic_id,
        ..Default::default()
    });
    MetadataResponse { topics: topics.collect(), error_code, ..Default::default() }
}

/// Creates the topics that are not there; returns why some could not be.
async fn create_missing<'n>(
    request: &Request,
    names: impl Iterator<Item = &'n str>,
) -> HashMap<String, ChangeError> {
    let image = request.server.shard.image();
    let missing = |name: &&str| image.topic(name).is_none() && topic_name_fault(name).is_none();
    let ordinary = |name: &&str| !INTERNAL_TOPICS.contains(name);
    let names: HashSet<&str> = names.filter(missing).filter(ordinary).collect();
    let topics: Vec<NewTopic> = names.into_iter().map(NewTopic::with_defaults).collect();
    if topics.is_empty() {
        return HashMap::new();
    }
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let change = ChangeRequest::CreateTopics { topics, validate_only: false };
    let ChangeReply::Topics(results) = request.server.shard.change(change).await else {
        unreachable!("topics answer topics");
    };
    let refusals = names.into_iter().zip(results).filter_map(|(name, result)| match result {
        Ok(_) | Err(ChangeError::TopicExists { .. }) => None,
        Err(error) => {
            tracing::info!(topic = name, %error, "topic not created on first use");
            Some((name, error))
        }
    });
    refusals.collect()
}

fn by_id(image: &Image, id: TopicId, operations: i32) -> MetadataResponseTopic<'_> {
    match image.topic_by_id(id) {
        Some(topic) => described(topic, operations),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicId,
            topic_id: id,
            ..Default::default()
        },
    }
}

fn by_name<'a>(
    image: &'a Image,
    name: &'a str,
    operations: i32,
    refusals: &HashMap<String, ChangeError>,
) -> MetadataResponseTopic<'a> {
    if let Some(topic) = image.topic(name) {
        return described(topic, operations);
    }
    let error_code = match refusals.get(name) {
        _ if topic_name_fault(name).is_some() => ErrorCode::InvalidTopicException,
        Some(refusal) => errors::of_change(refusal),
        None => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic { error_code, name: Some(name), ..Default::default() }
}

fn described(topic: &Topic, topic_authorized_operations: i32) -> MetadataResponseTopic<'_> {
    let partitions = topic.indexed_partitions().map(|(index, partition)| {
        let has_leader = partition.leader.0 >= 0;
        MetadataResponsePartition {
            error_code: if has_leader { ErrorCode::None } else { ErrorCode::LeaderNotAvailable },
            partition_index: index.0,
            leader_id: partition.leader.0,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
            isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
            offline_replicas: Vec::new(),
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations,
    }
}
