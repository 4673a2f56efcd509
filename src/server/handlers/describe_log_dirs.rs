//! DescribeLogDirs: the data directory, the room on its disk, and what each partition occupies.

use crate::base::ids::{PartitionIndex, TopicPartition};
use crate::cluster::metadata::Image;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::LogSize;
use crate::shard::state::Shard;
use std::collections::{BTreeMap, HashSet};
use std::path::{self, PathBuf};

/// What Kafka says where a size is not known.
const UNKNOWN_BYTES: i64 = -1;

/// Answers for the one directory; partitions that are not in it are left out.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DescribeLogDirsRequest = request.decode()?;
    let shard = &request.server.shard;
    let image = shard.image();
    let asked = body.topics.as_deref().map(|topics| partitions_of(&image, topics));
    let sizes = shard.log_sizes(asked).await;
    let dir = log_dir(shard);
    let (total_bytes, usable_bytes) = match shard.io.disk_space(&dir).await {
        Ok(space) => (in_bytes(space.total_bytes), in_bytes(space.usable_bytes)),
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "the disk's size cannot be read");
            (UNKNOWN_BYTES, UNKNOWN_BYTES)
        }
    };
    let log_dir = dir.to_string_lossy();
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::None,
        log_dir: &log_dir,
        topics: topics_of(&image, &sizes),
        total_bytes,
        usable_bytes,
        is_cordoned: false,
    };
    Ok(request.encode(&DescribeLogDirsResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None,
        results: vec![result],
    }))
}

/// The one directory, as clients are told it.
pub(super) fn log_dir(shard: &Shard) -> PathBuf {
    path::absolute(&shard.node.data_dir).unwrap_or(shard.node.data_dir.clone())
}

/// The partitions of `asked` that exist.
fn partitions_of(image: &Image, asked: &[DescribableLogDirTopic<'_>]) -> HashSet<TopicPartition> {
    let known = asked.iter().filter_map(|asked| Some((asked, image.topic(asked.topic)?)));
    let partitions = known.flat_map(|(asked, topic)| {
        let exists = |index: &&i32| topic.partition(PartitionIndex(**index)).is_some();
        asked
            .partitions
            .iter()
            .filter(exists)
            .map(|index| TopicPartition { topic_id: topic.id, partition: PartitionIndex(*index) })
    });
    partitions.collect()
}

fn topics_of<'i>(image: &'i Image, sizes: &[LogSize]) -> Vec<DescribeLogDirsTopic<'i>> {
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for size in sizes {
        // A topic that was deleted meanwhile has no name any more.
        let Some(topic) = image.topic_by_id(size.partition.topic_id) else { continue };
        topics.entry(&topic.name).or_default().push(DescribeLogDirsPartition {
            partition_index: size.partition.partition.0,
            partition_size: in_bytes(size.bytes),
            offset_lag: 0, // the only replica is where it should be
            is_future_key: false,
        });
    }
    let topic = |(name, partitions)| DescribeLogDirsTopic { name, partitions };
    topics.into_iter().map(topic).collect()
}

fn in_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
