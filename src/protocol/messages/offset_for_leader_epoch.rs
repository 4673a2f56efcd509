//! OffsetForLeaderEpoch: where a leader epoch ended, so that a client notices a truncation
//! (KIP-320).

use super::table::*;

message! {
    /// Key 23, versions 2 to 4, flexible from 4.
    OffsetForLeaderEpochRequest<'a> {
        3.. => replica_id: i32 = -2,
        2.. => topics: Vec<OffsetForLeaderTopic<'a>>,
    }
}

message! {
    OffsetForLeaderTopic<'a> {
        2.. => topic: &'a str,
        2.. => partitions: Vec<OffsetForLeaderPartition>,
    }
}

message! {
    OffsetForLeaderPartition {
        2.. => partition: i32,
        2.. => current_leader_epoch: i32 = -1,
        2.. => leader_epoch: i32,
    }
}

message! {
    /// Key 23, versions 2 to 4, flexible from 4.
    OffsetForLeaderEpochResponse<'a> {
        2.. => throttle_time_ms: i32,
        2.. => topics: Vec<OffsetForLeaderTopicResult<'a>>,
    }
}

message! {
    OffsetForLeaderTopicResult<'a> {
        2.. => topic: &'a str,
        2.. => partitions: Vec<EpochEndOffset>,
    }
}

message! {
    EpochEndOffset {
        2.. => error_code: ErrorCode,
        2.. => partition: i32,
        2.. => leader_epoch: i32 = -1,
        /// First offset behind the epoch; -1: not known.
        2.. => end_offset: i64 = -1,
    }
}
