//! AlterReplicaLogDirs: moves replicas between the directories of one broker.

use super::table::*;

message! {
    /// Key 34, versions 1 to 2, flexible from 2.
    AlterReplicaLogDirsRequest<'a> {
        0.. => dirs: Vec<AlterReplicaLogDir<'a>>,
    }
}

message! {
    AlterReplicaLogDir<'a> {
        0.. => path: &'a str,
        0.. => topics: Vec<AlterReplicaLogDirTopic<'a>>,
    }
}

message! {
    AlterReplicaLogDirTopic<'a> {
        0.. => name: &'a str,
        0.. => partitions: Vec<i32>,
    }
}

message! {
    /// Key 34, versions 1 to 2, flexible from 2.
    AlterReplicaLogDirsResponse<'a> {
        0.. => throttle_time_ms: i32,
        0.. => results: Vec<AlterReplicaLogDirTopicResult<'a>>,
    }
}

message! {
    AlterReplicaLogDirTopicResult<'a> {
        0.. => topic_name: &'a str,
        0.. => partitions: Vec<AlterReplicaLogDirPartitionResult>,
    }
}

message! {
    AlterReplicaLogDirPartitionResult {
        0.. => partition_index: i32,
        0.. => error_code: ErrorCode,
    }
}
