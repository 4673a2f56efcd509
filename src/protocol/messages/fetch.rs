//! Fetch: reads record batches, also in sessions that name only what changed (KIP-227).

use super::table::*;

message! {
    /// Key 1, versions 4 to 18, flexible from 12.
    FetchRequest<'a> {
        /// -1 for a consumer.
        4..=14 => replica_id: i32 = -1,
        /// How long the broker may wait for `min_bytes`.
        4.. => max_wait_ms: i32,
        4.. => min_bytes: i32,
        /// Of the whole answer; the first batch is sent even where it is larger (KIP-74).
        4.. => max_bytes: i32 = i32::MAX,
        /// 0 reads everything, 1 only what is committed.
        4.. => isolation_level: i8,
        /// 0: none yet (KIP-227).
        7.. => session_id: i32,
        /// 0 asks for a session, -1 ends one or wants none; else the number of this request in it.
        7.. => session_epoch: i32 = -1,
        4.. => topics: Vec<FetchTopic<'a>>,
        /// What leaves the session.
        7.. => forgotten_topics_data: Vec<ForgottenTopic<'a>>,
        11.. => rack_id: &'a str,
    }
    tagged {
        0, 12.. => cluster_id: Option<&'a str>,
        1, 15.. => replica_state: ReplicaState,
    }
}

message! {
    FetchTopic<'a> {
        13.. => topic_id: TopicId,
        4..=12 => topic: &'a str,
        4.. => partitions: Vec<FetchPartition>,
    }
}

message! {
    FetchPartition {
        4.. => partition: i32,
        /// -1: not checked.
        9.. => current_leader_epoch: i32 = -1,
        4.. => fetch_offset: i64,
        12.. => last_fetched_epoch: i32 = -1,
        /// The follower's; -1 from consumers.
        5.. => log_start_offset: i64 = -1,
        4.. => partition_max_bytes: i32,
    }
    tagged {
        0, 17.. => replica_directory_id: TopicId,
        /// What the follower knows of it; the answer waits no longer where it is behind (KIP-1166).
        1, 18.. => high_watermark: i64 = i64::MAX,
    }
}

message! {
    ForgottenTopic<'a> {
        13.. => topic_id: TopicId,
        7..=12 => topic: &'a str,
        7.. => partitions: Vec<i32>,
    }
}

message! {
    ReplicaState {
        15.. => replica_id: i32 = -1,
        15.. => replica_epoch: i64 = -1,
    }
}

message! {
    /// Key 1, versions 4 to 18, flexible from 12.
    FetchResponse<'a> {
        4.. => throttle_time_ms: i32,
        7.. => error_code: ErrorCode,
        /// 0: no session was made.
        7.. => session_id: i32,
        4.. => responses: Vec<FetchableTopicResponse<'a>>,
    }
    tagged {
        0, 16.. => node_endpoints: Vec<NodeEndpoint<'a>>,
    }
}

message! {
    FetchableTopicResponse<'a> {
        13.. => topic_id: TopicId,
        4..=12 => topic: &'a str,
        4.. => partitions: Vec<PartitionData<'a>>,
    }
}

message! {
    PartitionData<'a> {
        4.. => partition_index: i32,
        4.. => error_code: ErrorCode,
        4.. => high_watermark: i64,
        4.. => last_stable_offset: i64 = -1,
        5.. => log_start_offset: i64 = -1,
        /// Null where everything was asked for.
        4.. => aborted_transactions: Option<Vec<AbortedTransaction>>,
        /// -1: this one.
        11.. => preferred_read_replica: i32 = -1,
        4.. => records: Records<'a>,
    }
    tagged {
        0, 12.. => diverging_epoch: EpochEndOffset,
        1, 12.. => current_leader: LeaderIdAndEpoch,
        2, 12.. => snapshot_id: SnapshotId,
    }
}

message! {
    AbortedTransaction {
        4.. => producer_id: i64,
        4.. => first_offset: i64,
    }
}

message! {
    EpochEndOffset {
        12.. => epoch: i32 = -1,
        12.. => end_offset: i64 = -1,
    }
}

message! {
    LeaderIdAndEpoch {
        12.. => leader_id: i32 = -1,
        12.. => leader_epoch: i32 = -1,
    }
}

message! {
    SnapshotId {
        12.. => end_offset: i64 = -1,
        12.. => epoch: i32 = -1,
    }
}

message! {
    NodeEndpoint<'a> {
        16.. => node_id: i32,
        16.. => host: &'a str,
        16.. => port: i32,
        16.. => rack: Option<&'a str>,
    }
}
