//! Questions about the ends of logs of one shard: offsets by place or time, ends of leader epochs;
//! and the one order that is given in the same way, to move the start of a log forward.

use super::fetch::{FetchError, check_epoch, missing};
use super::state::Shard;
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use std::rc::Rc;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The high watermark.
    Latest,
    /// The first offset that is kept.
    Earliest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record of this time, ms, or later.
    AtOrAfter(i64),
    /// Where this leader epoch ended.
    EpochEnd(LeaderEpoch),
    /// The first offset that is kept, once everything before this one is given up; `None`: before
    /// the high watermark. Durable when it is answered.
    DeleteBefore(Option<Offset>),
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct OffsetPart {
    pub partition: TopicPartition,
    /// The epoch that the client believes in; -1: it does not know.
    pub current_epoch: LeaderEpoch,
    pub query: OffsetQuery,
}

/// One answer; -1 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub epoch: LeaderEpoch,
}

impl FoundOffset {
    /// No record, no epoch of that kind.
    pub const NONE: FoundOffset =
        FoundOffset { offset: Offset(-1), timestamp: -1, epoch: LeaderEpoch::UNKNOWN };
}

/// One result for each question, in order.
pub type OffsetsReply = Vec<Result<FoundOffset, FetchError>>;

/// Answers all of `parts`.
pub async fn offsets(shard: &Rc<Shard>, parts: &[OffsetPart]) -> OffsetsReply {
    let mut reply = Vec::with_capacity(parts.len());
    for part in parts {
        reply.push(offset(shard, part).await);
    }
    reply
}

async fn offset(shard: &Rc<Shard>, part: &OffsetPart) -> Result<FoundOffset, FetchError> {
    let replica = shard.replica(part.partition).ok_or_else(|| missing(shard, part.partition))?;
    let current = replica.leader_epoch();
    check_epoch(part.current_epoch, current)?;
    let log = replica.log();
    let plain = |offset, epoch| FoundOffset { offset, timestamp: -1, epoch };
    let found = match part.query {
        OffsetQuery::Latest => Some(plain(replica.high_watermark(), current)),
        OffsetQuery::Earliest => {
            let start = log.start_offset();
            // A leader's epoch begins at its log's end, be it that no record has it yet.
            let epoch = log.epoch_of(start);
            Some(plain(start, if epoch == LeaderEpoch::UNKNOWN { current } else { epoch }))
        }
        OffsetQuery::MaxTimestamp => log.max_timestamp_offset().await?.map(FoundOffset::from),
        OffsetQuery::AtOrAfter(timestamp) => {
            log.offset_for_timestamp(timestamp).await?.map(FoundOffset::from)
        }
        OffsetQuery::EpochEnd(epoch) if epoch == current => Some(plain(log.end_offset(), current)),
        OffsetQuery::EpochEnd(epoch) => {
            log.epoch_end_offset(epoch).map(|(epoch, end)| plain(end, epoch))
        }
        OffsetQuery::DeleteBefore(offset) => {
            let end = replica.high_watermark();
            let offset = offset.unwrap_or(end);
            if offset > end {
                return Err(FetchError::OutOfRange { offset, start: log.start_offset(), end });
            }
            let start = log.advance_start_offset(offset).await;
            Some(plain(start.map_err(|error| FetchError::Storage(error.to_string()))?, current))
        }
    };
    Ok(found.unwrap_or(FoundOffset::NONE))
}

impl From<crate::storage::TimestampedOffset> for FoundOffset {
    fn from(found: crate::storage::TimestampedOffset) -> FoundOffset {
        FoundOffset { offset: found.offset, timestamp: found.timestamp, epoch: found.epoch }
    }
}
