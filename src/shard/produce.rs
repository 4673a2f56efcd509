//! Appends of one request to partitions of one shard: dispatched at once, in order, then awaited.

use super::calls::Call;
use super::replica::{Acked, Append, StoreError, Stored};
use super::state::Shard;
use crate::base::ids::TopicPartition;
use crate::base::limits::RECOMPRESSED_AT_ONCE_BYTES_MAX;
use crate::io::Slice;

/// The part of a Produce request that one shard serves.
#[derive(Debug)]
pub struct ProduceGroup {
    /// Version of the request.
    pub version: i16,
    /// Whether the answer waits for the flush: all but acks=0.
    pub wait: bool,
    pub parts: Vec<ProducePart>,
}

/// One partition's batch, a slice of the request's frame.
#[derive(Debug)]
pub struct ProducePart {
    pub partition: TopicPartition,
    pub batch: Slice,
}

/// One result for each part, in order.
pub type ProduceReply = Vec<Result<Stored, StoreError>>;

/// Appends under way; the batches are in the logs or in line for them.
pub struct ProduceWork {
    wait: bool,
    parts: Vec<PartWork>,
}

enum PartWork {
    Failed(StoreError),
    Appended(Stored, Acked),
    InLine(Call<Result<(Stored, Acked), StoreError>>),
}

/// Appends every part now; nothing is awaited, so that calls keep their order.
pub fn begin(shard: &Shard, group: &ProduceGroup) -> ProduceWork {
    let mut at_once_bytes = RECOMPRESSED_AT_ONCE_BYTES_MAX;
    let begin_part = |part: &ProducePart| {
        let Some(replica) = shard.replica(part.partition) else {
            return PartWork::Failed(match shard.is_unopened(part.partition) {
                true => StoreError::Storage("it could not be opened".to_owned()),
                false => StoreError::NoReplica,
            });
        };
        match replica.append(&part.batch, group.version, &mut at_once_bytes) {
            Append::Done(Ok((stored, acked))) => PartWork::Appended(stored, acked),
            Append::Done(Err(error)) => PartWork::Failed(error),
            Append::InLine(call) => PartWork::InLine(call),
        }
    };
    ProduceWork { wait: group.wait, parts: group.parts.iter().map(begin_part).collect() }
}

impl ProduceWork {
    /// Whether `finish` has nothing to wait for.
    pub fn is_finished(&self) -> bool {
        self.parts.iter().all(|part| match part {
            PartWork::Failed(_) => true,
            PartWork::Appended(..) => !self.wait,
            PartWork::InLine(_) => false,
        })
    }

    /// Whether a part is known to have failed.
    pub fn has_failed(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, PartWork::Failed(_)))
    }

    /// Resolves when all parts are acknowledged or have failed.
    pub async fn finish(self) -> ProduceReply {
        let mut results = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let result = match part {
                PartWork::Failed(error) => Err(error),
                PartWork::Appended(stored, acked) => settle(stored, acked, self.wait).await,
                PartWork::InLine(call) => match call.await {
                    Ok((stored, acked)) => settle(stored, acked, self.wait).await,
                    Err(error) => Err(error),
                },
            };
            results.push(result);
        }
        results
    }
}

async fn settle(stored: Stored, acked: Acked, wait: bool) -> Result<Stored, StoreError> {
    if wait {
        acked.await?;
    }
    Ok(stored)
}
