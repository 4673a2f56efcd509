//! CreateTopics: makes topics, or only checks whether they could be made.

use super::resources::outcome;
use crate::base::ids::NodeId;
use crate::cluster::changes::{Assignment, ChangeError, NewTopic};
use crate::cluster::metadata::{INTERNAL_TOPICS, Topic};
use crate::cluster::settings::{Described, Layers};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::{ChangeReply, ChangeRequest};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Topics of one request by name: how often it names them, and what became of them.
type Results<'a> = HashMap<&'a str, Result<Arc<Topic>, ChangeError>>;

/// Creates each topic for itself; a name that comes twice is refused.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: CreateTopicsRequest = request.decode()?;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    body.topics.iter().for_each(|topic| *counts.entry(topic.name).or_default() += 1);
    let once: Vec<&CreatableTopic<'_>> =
        body.topics.iter().filter(|topic| counts[topic.name] == 1).collect();
    let topics: Vec<NewTopic> = once.iter().copied().map(new_topic).collect();
    let mut results: Results<'_> = HashMap::new();
    if !topics.is_empty() {
        let validate_only = body.validate_only;
        let change = ChangeRequest::CreateTopics { topics, validate_only };
        let ChangeReply::Topics(made) = request.server.shard.change(change).await else {
            unreachable!("topics answer topics");
        };
        results.extend(once.iter().map(|topic| topic.name).zip(made));
    }
    let described = describe_all(request, &results);
    let mut seen = HashSet::new();
    let names: Vec<&str> =
        body.topics.iter().map(|topic| topic.name).filter(|name| seen.insert(*name)).collect();
    let messages: Vec<(ErrorCode, Option<String>)> = names
        .iter()
        .map(|name| match results.get(name) {
            None => (ErrorCode::InvalidRequest, Some("Duplicate topic name.".to_owned())),
            Some(Ok(_)) => (ErrorCode::None, None),
            Some(Err(error)) => outcome::<()>(Err(error.clone())),
        })
        .collect();
    let answers = names.iter().zip(&messages).map(|(name, (error_code, message))| {
        let made = results.get(name).and_then(|result| result.as_ref().ok());
        CreatableTopicResult {
            name,
            topic_id: made.map(|topic| topic.id).unwrap_or_default(),
            error_code: *error_code,
            error_message: message.as_deref(),
            num_partitions: made.map_or(-1, |topic| count_of(topic.partitions.len())),
            replication_factor: made.map_or(-1, |topic| count_of(topic.replication_factor())),
            configs: Some(described.get(name).map(|rows| rows_of(rows)).unwrap_or_default()),
            topic_config_error_code: ErrorCode::None,
        }
    });
    let topics = answers.collect();
    Ok(request.encode(&CreateTopicsResponse { throttle_time_ms: 0, topics }))
}

fn new_topic(asked: &CreatableTopic<'_>) -> NewTopic {
    let assignments = asked.assignments.iter().map(|assignment| Assignment {
        partition: assignment.partition_index,
        replicas: assignment.broker_ids.iter().copied().map(NodeId).collect(),
    });
    let overrides = asked.configs.iter();
    NewTopic {
        name: asked.name.to_owned(),
        partitions_count: asked.num_partitions,
        replication_factor: asked.replication_factor,
        assignments: assignments.collect(),
        overrides: overrides
            .map(|config| (config.name.to_owned(), config.value.map(str::to_owned)))
            .collect(),
        internal: INTERNAL_TOPICS.contains(&asked.name),
    }
}

fn describe_all<'a>(request: &Request, results: &Results<'a>) -> HashMap<&'a str, Vec<Described>> {
    let node = &request.server.shard.node;
    let image = request.server.shard.image();
    let layers = Layers::of_image(&image, node.node_id, &node.fixed);
    let made = results.iter().filter_map(|(name, result)| Some((*name, result.as_ref().ok()?)));
    made.map(|(name, topic)| (name, layers.describe_topic(&topic.overrides))).collect()
}

fn rows_of(described: &[Described]) -> Vec<CreatableTopicConfigs<'_>> {
    let rows = described.iter().map(|setting| CreatableTopicConfigs {
        name: &setting.name,
        value: setting.value.as_deref(),
        read_only: setting.read_only,
        config_source: setting.source.number(),
        is_sensitive: setting.sensitive,
    });
    rows.collect()
}

fn count_of<T: TryFrom<usize>>(count: usize) -> T
where
    T::Error: std::fmt::Debug,
{
    T::try_from(count).expect("counts of a topic fit their fields: they came in as such")
}
