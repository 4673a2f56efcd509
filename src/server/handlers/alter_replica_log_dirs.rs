//! AlterReplicaLogDirs: there is one directory, and every replica is in it.

use super::describe_log_dirs::log_dir;
use crate::base::ids::PartitionIndex;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use std::collections::BTreeMap;

/// Says of each replica whether it is where it should be; another directory does not exist.
pub fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: AlterReplicaLogDirsRequest = request.decode()?;
    let shard = &request.server.shard;
    let image = shard.image();
    let dir = log_dir(shard);
    let code_of = |path: &str, topic: &str, index: i32| {
        let found = image.topic(topic).and_then(|topic| topic.partition(PartitionIndex(index)));
        match found {
            _ if *path != *dir.to_string_lossy() => ErrorCode::LogDirNotFound,
            Some(_) => ErrorCode::None,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    };
    // A topic is answered once, also where its partitions were to go to different places.
    let mut results: BTreeMap<&str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for asked in &body.dirs {
        for topic in &asked.topics {
            let found = topic.partitions.iter().map(|&partition_index| {
                let error_code = code_of(asked.path, topic.name, partition_index);
                AlterReplicaLogDirPartitionResult { partition_index, error_code }
            });
            results.entry(topic.name).or_default().extend(found);
        }
    }
    let result =
        |(topic_name, partitions)| AlterReplicaLogDirTopicResult { topic_name, partitions };
    let results = results.into_iter().map(result).collect();
    Ok(request.encode(&AlterReplicaLogDirsResponse { throttle_time_ms: 0, results }))
}
