//! Messages between shards: one lock-free inbox a shard, its bell to wake it.
//!
//! Sending pushes and rings; it never blocks, and rings between two looks of the receiver are one
//! system call. Messages of one sender to one receiver keep their order. An inbox has no bound of
//! its own: every message belongs to a request that was admitted under a budget. (A `MSG_RING`
//! operation would save some 20 µs of a round trip between parked shards, but needs a ring on the
//! sender's side, which the control thread has not; the bell works for all.)

use super::notify::{Bell, BellWatch};
use crate::base::ids::ShardId;
use crossbeam_queue::SegQueue;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// One shard's messages with their senders, and the bell that says so.
type Inbox<M> = (SegQueue<(ShardId, M)>, Arc<Bell>);

/// All shards' inboxes.
pub(super) struct Inboxes<M>(Vec<Inbox<M>>);

impl<M> Inboxes<M> {
    pub fn new(bells: Vec<Arc<Bell>>) -> Arc<Inboxes<M>> {
        Arc::new(Inboxes(bells.into_iter().map(|bell| (SegQueue::new(), bell)).collect()))
    }

    fn send(&self, from: ShardId, to: ShardId, message: M) {
        let (queue, bell) = &self.0[usize::from(to.0)];
        queue.push((from, message));
        bell.ring();
    }
}

/// One shard's end of the mesh. Clones are the same end; one task receives.
pub struct Mesh<M> {
    shard: ShardId,
    inboxes: Arc<Inboxes<M>>,
    watch: Rc<BellWatch>,
    receiver: Rc<RefCell<Option<Waker>>>,
}

impl<M> Clone for Mesh<M> {
    fn clone(&self) -> Mesh<M> {
        Mesh {
            shard: self.shard,
            inboxes: self.inboxes.clone(),
            watch: self.watch.clone(),
            receiver: self.receiver.clone(),
        }
    }
}

impl<M: Send> Mesh<M> {
    pub(super) fn new(shard: ShardId, inboxes: Arc<Inboxes<M>>, watch: Rc<BellWatch>) -> Mesh<M> {
        Mesh { shard, inboxes, watch, receiver: Rc::default() }
    }

    /// The shard whose end this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards there are; their numbers are 0 up to this.
    pub fn shards_count(&self) -> usize {
        self.inboxes.0.len()
    }

    /// Puts `message` into the inbox of `to`, which may be this shard. Never blocks.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn send(&self, to: ShardId, message: M) {
        if to != self.shard {
            self.inboxes.send(self.shard, to, message);
            return;
        }
        self.inboxes.0[usize::from(to.0)].0.push((self.shard, message));
        let receiver = self.receiver.borrow_mut().take();
        if let Some(waker) = receiver {
            waker.wake();
        }
    }

    /// The next message and who sent it.
    pub async fn receive(&self) -> (ShardId, M) {
        poll_fn(|context| {
            let queue = &self.inboxes.0[usize::from(self.shard.0)].0;
            if let Some(message) = queue.pop() {
                return Poll::Ready(message);
            }
            self.watch.watch(context.waker());
            let last = self.receiver.borrow_mut().replace(context.waker().clone());
            drop(last);
            queue.pop().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next message if one is there: lets a receiver take a batch before it works.
    pub fn try_receive(&self) -> Option<(ShardId, M)> {
        self.inboxes.0[usize::from(self.shard.0)].0.pop()
    }

    /// As `receive`.
    pub async fn recv(&self) -> (ShardId, M) {
        self.receive().await
    }

    /// A sender for threads that are no shard; its messages come as from this shard.
    pub fn sender(&self) -> MeshSender<M> {
        MeshSender { from: self.shard, inboxes: self.inboxes.clone() }
    }
}

/// Sends to shards from any thread.
pub struct MeshSender<M> {
    from: ShardId,
    inboxes: Arc<Inboxes<M>>,
}

impl<M> Clone for MeshSender<M> {
    fn clone(&self) -> MeshSender<M> {
        MeshSender { from: self.from, inboxes: self.inboxes.clone() }
    }
}

impl<M: Send> MeshSender<M> {
    /// Puts `message` into the inbox of `to`. Never blocks.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn send(&self, to: ShardId, message: M) {
        self.inboxes.send(self.from, to, message);
    }
}
