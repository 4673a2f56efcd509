//! DescribeProducers: the producers that partitions remember, for tools that look for stuck ones.

use super::errors;
use crate::base::ids::{ShardId, TopicPartition};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::storage::KnownProducer;

/// What Kafka says where a producer has no transaction: no coordinator, no first offset.
const NO_COORDINATOR_EPOCH: i32 = -1;
const NO_TRANSACTION_OFFSET: i64 = -1;

type Found = Result<Vec<KnownProducer>, ErrorCode>;

/// Answers each partition for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeProducersRequest = request.decode()?;
    let image = request.server.shard.image();
    let node_id = request.server.shard.node.node_id;
    let mut asked = Vec::new();
    for topic in &body.topics {
        let found = errors::named_topic(&image, topic.name);
        let partition = |index: &i32| errors::led_partition(found?, *index, node_id);
        asked.extend(topic.partition_indexes.iter().map(partition));
    }
    let mut found = ask(request, asked).await.into_iter();
    let topics = body.topics.iter().map(|topic| {
        let partition = |index: &i32| {
            let found = found.next().expect("one result for each partition");
            partition_response(*index, &found)
        };
        let partitions = topic.partition_indexes.iter().map(partition).collect();
        TopicResponse { name: topic.name, partitions }
    });
    let topics = topics.collect();
    Ok(request.encode(&DescribeProducersResponse { throttle_time_ms: 0, topics }))
}

/// Asks each shard once; what is refused already is passed on, in order.
async fn ask(request: &Request, asked: Vec<Result<TopicPartition, ErrorCode>>) -> Vec<Found> {
    let shard = &request.server.shard;
    let mut found: Vec<Found> = asked
        .iter()
        .map(|asked| Err(asked.err().unwrap_or(ErrorCode::UnknownServerError)))
        .collect();
    for owner in 0..shard.shards_count() {
        let owner = ShardId(u16::try_from(owner).expect("the count of shards is 16 bit"));
        let here = |asked: &Result<TopicPartition, ErrorCode>| {
            asked.is_ok_and(|partition| shard.owner(partition) == owner)
        };
        let indexes: Vec<usize> = (0..asked.len()).filter(|at| here(&asked[*at])).collect();
        if indexes.is_empty() {
            continue;
        }
        let partitions: Vec<TopicPartition> =
            indexes.iter().filter_map(|at| asked[*at].ok()).collect();
        let replies = shard.producers(owner, partitions.clone()).await;
        for ((at, partition), reply) in indexes.into_iter().zip(partitions).zip(replies) {
            found[at] = reply.ok_or_else(|| errors::of_missing(shard, partition, false));
        }
    }
    found
}

fn partition_response<'a>(index: i32, found: &Found) -> PartitionResponse<'a> {
    let error_code = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
    let state = |known: &KnownProducer| ProducerState {
        producer_id: known.producer_id,
        producer_epoch: known.window.epoch.into(),
        last_sequence: known.window.newest().map_or(-1, |batch| batch.last_sequence),
        last_timestamp: known.window.newest().map_or(-1, |batch| batch.timestamp),
        coordinator_epoch: NO_COORDINATOR_EPOCH,
        current_txn_start_offset: NO_TRANSACTION_OFFSET,
    };
    PartitionResponse {
        partition_index: index,
        error_code,
        error_message: (!error_code.is_none()).then(|| error_code.message()),
        active_producers: found.iter().flatten().map(state).collect(),
    }
}
