//! Ids for producers that number their batches, from a block that the controller gave this shard;
//! and what the shard's partitions remember of producers.
//!
//! The next block is asked for before this one is used up, so that nobody waits for it.
//! **Invariant:** an id is given out once: blocks are agreed on before they are used, and what is
//! left of one at a stop is never used.

use super::mailbox::{CONTROLLER_SHARD, ShardReply, ShardRequest};
use super::signal::Signal;
use super::state::Shard;
use crate::base::ids::{ShardId, TopicPartition};
use crate::base::limits::PRODUCER_IDS_PER_BLOCK;
use crate::cluster::changes::ChangeError;
use crate::storage::KnownProducer;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

/// With so few ids left the next block is asked for.
const IDS_LEFT_MIN: i64 = PRODUCER_IDS_PER_BLOCK / 10;

/// A block of ids that nobody was given before.
pub type ProducerIdsReply = Result<Range<i64>, ChangeError>;

/// One entry for each partition asked for; `None`: this shard has no such replica.
pub type ProducersReply = Vec<Option<Vec<KnownProducer>>>;

/// The ids that a shard has to give.
#[derive(Default)]
pub struct ProducerIds {
    block: RefCell<Range<i64>>,
    /// Follows when `block` is used up.
    reserve: RefCell<Option<Range<i64>>>,
    asked_count: Cell<u64>,
    answered_count: Cell<u64>,
    failure: RefCell<Option<ChangeError>>,
    answered: Signal,
}

impl ProducerIds {
    fn take(&self) -> Option<i64> {
        let mut block = self.block.borrow_mut();
        if block.is_empty() {
            *block = self.reserve.borrow_mut().take()?;
        }
        block.next()
    }

    fn is_low(&self) -> bool {
        let block = self.block.borrow();
        self.reserve.borrow().is_none() && block.end - block.start <= IDS_LEFT_MIN
    }
}

impl Shard {
    /// An id that no producer of the cluster was ever given.
    ///
    /// # Errors
    /// [`ChangeError`]: no block could be agreed on.
    pub async fn producer_id(self: &Rc<Self>) -> Result<i64, ChangeError> {
        let ids = &self.producer_ids;
        loop {
            if let Some(id) = ids.take() {
                if ids.is_low() {
                    self.ask_for_producer_ids();
                }
                return Ok(id);
            }
            let attempt = self.ask_for_producer_ids();
            let is_answered = || (ids.answered_count.get() >= attempt).then_some(());
            ids.answered.until(is_answered).await;
            if let Some(error) = ids.failure.borrow().clone() {
                return Err(error);
            }
        }
    }

    /// Asks the controller for a block, unless an answer is awaited; returns which attempt it is.
    fn ask_for_producer_ids(self: &Rc<Self>) -> u64 {
        let ids = &self.producer_ids;
        let attempt = ids.answered_count.get() + 1;
        if ids.asked_count.replace(attempt) == attempt {
            return attempt;
        }
        // In a task of its own: who asks may go away, others wait for the same answer.
        let shard = self.clone();
        self.io.spawn(async move {
            let block = shard.new_producer_ids().await;
            let ids = &shard.producer_ids;
            *ids.failure.borrow_mut() = block.as_ref().err().cloned();
            if let Ok(block) = block {
                *ids.reserve.borrow_mut() = Some(block);
            }
            ids.answered_count.set(attempt);
            ids.answered.notify();
        });
        attempt
    }

    async fn new_producer_ids(&self) -> ProducerIdsReply {
        if self.id == CONTROLLER_SHARD {
            return self.controls_producer_ids().await;
        }
        match self.send_request(CONTROLLER_SHARD, ShardRequest::ProducerIds).await {
            ShardReply::ProducerIds(reply) => reply,
            other => unreachable!("ids are answered with {other:?}"),
        }
    }

    /// The producers that `partitions`, all of shard `to`, remember.
    pub async fn producers(&self, to: ShardId, partitions: Vec<TopicPartition>) -> ProducersReply {
        if to == self.id {
            return self.own_producers(&partitions);
        }
        match self.send_request(to, ShardRequest::Producers(partitions)).await {
            ShardReply::Producers(reply) => reply,
            other => unreachable!("producers are answered with {other:?}"),
        }
    }

    pub(super) fn own_producers(&self, partitions: &[TopicPartition]) -> ProducersReply {
        let now_ms = self.io.clock().now_ms();
        let known = |id: &TopicPartition| Some(self.replica(*id)?.log().producers(now_ms));
        partitions.iter().map(known).collect()
    }
}
