//! Reads of one request from partitions of one shard, and the wait for more.
//!
//! Records leave as slices of the log's own buffers. A wait is registered with each partition's
//! watermark; nothing polls.

use super::signal::Flag;
use super::state::Shard;
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::io::Slice;
use crate::storage::ReadError;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::rc::Rc;

/// The part of a Fetch request that one shard serves.
#[derive(Debug, Clone)]
pub struct FetchGroup {
    pub parts: Vec<FetchPart>,
    pub bytes_max: usize,
    /// The first part with records answers at least one batch, even beyond the limits.
    pub at_least_one: bool,
    /// Wait until the parts have so many bytes, the time is up or the caller cancels; 0: do not.
    pub wait_bytes: usize,
}

/// What is wanted of one partition.
#[derive(Debug, Clone, Copy)]
pub struct FetchPart {
    pub partition: TopicPartition,
    pub offset: Offset,
    /// -1: the client does not know.
    pub leader_epoch: LeaderEpoch,
    pub bytes_max: usize,
}

/// What one partition has.
#[derive(Debug)]
pub struct Fetched {
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub slices: Vec<Slice>,
    pub bytes: usize,
}

/// Why a partition gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("this shard holds no such replica")]
    NoReplica,
    #[error("the client's leader epoch is an old one")]
    FencedEpoch,
    #[error("the client's leader epoch is not known here")]
    UnknownEpoch,
    #[error("offset {offset} is not in {start} to {end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    #[error("the records are damaged: {0}")]
    Corrupt(String),
    #[error("the log cannot be read: {0}")]
    Storage(String),
}

/// One result for each part, in order.
pub type FetchReply = Vec<Result<Fetched, FetchError>>;

/// Reads the parts; waits as the group says, until `cancel` is raised.
pub async fn fetch(shard: &Rc<Shard>, group: &FetchGroup, cancel: &Flag) -> FetchReply {
    loop {
        let reply = read_all(shard, group).await;
        let bytes: usize = reply.iter().flatten().map(|fetched| fetched.bytes).sum();
        let is_error = reply.iter().any(Result::is_err);
        if is_error || bytes >= group.wait_bytes || cancel.is_raised() {
            return reply;
        }
        let mut seen = Vec::with_capacity(reply.len());
        for fetched in reply.iter().flatten() {
            seen.push(fetched.high_watermark);
        }
        // Buffers are not held while waiting: they would keep the tail's memory from being reused.
        drop(reply);
        wait_for_more(shard, group, &seen, cancel).await;
    }
}

async fn read_all(shard: &Rc<Shard>, group: &FetchGroup) -> FetchReply {
    let mut left_bytes = group.bytes_max;
    let mut at_least_one = group.at_least_one;
    let mut reply = Vec::with_capacity(group.parts.len());
    for part in &group.parts {
        let result = read_part(shard, part, left_bytes, at_least_one).await;
        if let Ok(fetched) = &result {
            left_bytes = left_bytes.saturating_sub(fetched.bytes);
            at_least_one &= fetched.bytes == 0;
        }
        reply.push(result);
    }
    reply
}

async fn read_part(
    shard: &Rc<Shard>,
    part: &FetchPart,
    left_bytes: usize,
    at_least_one: bool,
) -> Result<Fetched, FetchError> {
    let replica = shard.replica(part.partition).ok_or_else(|| missing(shard, part.partition))?;
    check_epoch(part.leader_epoch, replica.leader_epoch())?;
    let log = replica.log();
    let (start, end) = (log.start_offset(), log.end_offset());
    if part.offset < start || part.offset > end {
        return Err(FetchError::OutOfRange { offset: part.offset, start, end });
    }
    let high_watermark = replica.high_watermark();
    let bytes_max = part.bytes_max.min(left_bytes);
    let mut fetched = Fetched { high_watermark, log_start: start, slices: Vec::new(), bytes: 0 };
    if part.offset < high_watermark && (bytes_max > 0 || at_least_one) {
        let read = log.read(part.offset, bytes_max, high_watermark, at_least_one).await?;
        fetched.slices = read.slices;
        fetched.bytes = read.bytes;
    }
    Ok(fetched)
}

/// Why this shard has no replica of `partition`.
pub fn missing(shard: &Shard, partition: TopicPartition) -> FetchError {
    match shard.is_unopened(partition) {
        true => FetchError::Storage("it could not be opened".to_owned()),
        false => FetchError::NoReplica,
    }
}

/// Compares the epoch that a client believes in with the replica's (KIP-320).
///
/// # Errors
/// [`FetchError::FencedEpoch`], [`FetchError::UnknownEpoch`].
pub fn check_epoch(asked: LeaderEpoch, current: LeaderEpoch) -> Result<(), FetchError> {
    match asked {
        LeaderEpoch::UNKNOWN => Ok(()),
        asked if asked < current => Err(FetchError::FencedEpoch),
        asked if asked > current => Err(FetchError::UnknownEpoch),
        _ => Ok(()),
    }
}

/// Resolves when a partition's watermark moved past what was seen, one closed, or on `cancel`.
async fn wait_for_more(shard: &Rc<Shard>, group: &FetchGroup, seen: &[Offset], cancel: &Flag) {
    let mut waits = FuturesUnordered::new();
    for (part, &seen) in group.parts.iter().zip(seen) {
        let Some(replica) = shard.replica(part.partition) else { return };
        waits.push(async move {
            let watch = replica.log().subscribe();
            let moved = std::pin::pin!(watch.past(seen));
            let closed = std::pin::pin!(replica.closed().wait());
            // A fenced log is opened anew or closed: both end this wait.
            if let Either::Left((Err(_), closed)) = select(moved, closed).await {
                select(std::pin::pin!(replica.unfenced()), closed).await;
            }
        });
    }
    select(waits.next(), std::pin::pin!(cancel.wait())).await;
}

impl From<ReadError> for FetchError {
    fn from(error: ReadError) -> FetchError {
        match error {
            ReadError::OutOfRange { offset, start, end } => {
                FetchError::OutOfRange { offset, start, end }
            }
            ReadError::Corrupt { .. } | ReadError::Undecodable { .. } => {
                FetchError::Corrupt(error.to_string())
            }
            ReadError::Io { .. } => FetchError::Storage(error.to_string()),
        }
    }
}
