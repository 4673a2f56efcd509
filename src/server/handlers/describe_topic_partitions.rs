//! DescribeTopicPartitions: topics in pages, as `kafka-topics --describe` asks for them (KIP-966).

use super::operations::OF_TOPIC;
use crate::cluster::changes::topic_name_fault;
use crate::cluster::metadata::{Image, Topic};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_topic_partitions::{
    CursorResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};

/// Most partitions of one answer: Kafka's `max.request.partition.size.limit`.
const PARTITIONS_COUNT_MAX: usize = 2_000;

/// Answers from the cursor on, as many partitions as the limit allows.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeTopicPartitionsRequest = request.decode()?;
    let image = request.server.shard.image();
    let mut names: Vec<&str> = if body.topics.is_empty() {
        image.topics().map(|topic| topic.name.as_ref()).collect()
    } else {
        body.topics.iter().map(|topic| topic.name).collect()
    };
    names.sort_unstable();
    names.dedup();
    let (first_name, first_partition) = match &body.cursor {
        // A cursor stands at a partition of a topic that is asked for.
        Some(cursor)
            if cursor.partition_index < 0
                || (!body.topics.is_empty() && !names.contains(&cursor.topic_name)) =>
        {
            return Ok(request.encode(&refused(&body)));
        }
        Some(cursor) => (cursor.topic_name, cursor.partition_index.unsigned_abs() as usize),
        None => ("", 0),
    };
    let asked_count = usize::try_from(body.response_partition_limit).unwrap_or(0).max(1);
    let mut left_count = asked_count.min(PARTITIONS_COUNT_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= first_name) {
        let first = if name == first_name { first_partition } else { 0 };
        if left_count == 0 {
            response.next_cursor = Some(CursorResponse { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = image.topic(name) else {
            if body.topics.iter().any(|asked| asked.name == name) {
                response.topics.push(missing(name));
            }
            continue;
        };
        let described = described(&image, topic, first, left_count);
        left_count -= described.partitions.len();
        let next = first + described.partitions.len();
        response.topics.push(described);
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).expect("partitions are counted in i32");
            response.next_cursor = Some(CursorResponse { topic_name: name, partition_index });
            break;
        }
    }
    Ok(request.encode(&response))
}

/// Every topic refused, as Kafka answers what it can make nothing of.
fn refused<'a>(body: &DescribeTopicPartitionsRequest<'a>) -> DescribeTopicPartitionsResponse<'a> {
    let topics = body.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest,
        name: Some(topic.name),
        ..Default::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic<'_> {
    let error_code = match topic_name_fault(name) {
        Some(_) => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    DescribeTopicPartitionsResponseTopic { error_code, name: Some(name), ..Default::default() }
}

fn described<'a>(
    image: &Image,
    topic: &'a Topic,
    first: usize,
    count_max: usize,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    let page = topic.indexed_partitions().skip(first).take(count_max);
    let partitions = page.map(|(index, partition)| {
        let replicas = partition.replicas.iter();
        let offline = replicas.clone().filter(|id| image.broker(**id).is_none());
        DescribeTopicPartitionsResponsePartition {
            error_code: if partition.leader.0 >= 0 {
                ErrorCode::None
            } else {
                ErrorCode::LeaderNotAvailable
            },
            partition_index: index.0,
            leader_id: partition.leader.0,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: replicas.clone().map(|id| id.0).collect(),
            isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: offline.map(|id| id.0).collect(),
        }
    });
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None,
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: OF_TOPIC,
    }
}
