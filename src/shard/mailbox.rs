//! What shards say to each other: one typed message a request group, buffers by reference.
//!
//! A call for the own shard runs without a message. Messages of one shard to another keep their
//! order, and an append happens as its message is taken, so appends keep theirs too.

use super::calls::{Call, CallId};
use super::fetch::{self, FetchGroup, FetchReply};
use super::groups::{self, GroupCall, GroupReply};
use super::offsets::{self, OffsetPart, OffsetsReply};
use super::produce::{self, ProduceGroup, ProduceReply, ProduceWork};
use super::producers::{ProducerIdsReply, ProducersReply};
use super::replica::Replica;
use super::signal::Flag;
use super::state::Shard;
use crate::base::ids::{ShardId, TopicPartition};
use crate::cluster::changes::{
    ChangeError, MorePartitions, NewTopic, Resource, SettingChange, TopicRef,
};
use crate::cluster::controller::QuorumState;
use crate::cluster::metadata::{Image, Topic};
use crate::io::SocketHandle;
use futures_util::future::Either;
use std::collections::HashSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

/// One message.
pub enum ShardMessage {
    Request {
        call: CallId,
        request: ShardRequest,
    },
    Reply {
        call: CallId,
        reply: ShardReply,
    },
    /// The caller of a fetch that may wait wants its answer now.
    CancelFetch {
        call: CallId,
    },
    /// A connection to serve.
    Connection(SocketHandle),
    /// The node ends.
    End,
}

/// What one shard asks of another.
#[derive(Debug)]
pub enum ShardRequest {
    Produce(ProduceGroup),
    Fetch(FetchGroup),
    Offsets(Vec<OffsetPart>),
    Group(GroupCall),
    /// Take over this image: open, close and delete replicas; answered when that is done.
    Image(Arc<Image>),
    Change(ChangeRequest),
    /// Bytes of these logs, or of all.
    LogSizes(Option<Arc<HashSet<TopicPartition>>>),
    /// Where the metadata group stands; shard 0 has the controller.
    Quorum,
    /// A block of producer ids, from shard 0.
    ProducerIds,
    /// The producers that these partitions remember.
    Producers(Vec<TopicPartition>),
    /// End the connections, after their requests: the node stops.
    Drain,
    /// Close the logs; nothing appends any more.
    CloseLogs,
}

/// The answers, in the order of the requests.
#[derive(Debug)]
pub enum ShardReply {
    Produce(ProduceReply),
    Fetch(FetchReply),
    Offsets(OffsetsReply),
    Group(GroupReply),
    Done,
    Change(ChangeReply),
    LogSizes(Vec<LogSize>),
    Quorum(QuorumState),
    ProducerIds(ProducerIdsReply),
    Producers(ProducersReply),
    /// What the closed logs leave for the next start.
    Closed(Vec<crate::storage::CleanLog>),
}

/// What a partition's log occupies here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    pub partition: TopicPartition,
    pub bytes: u64,
}

/// A change of the cluster's metadata; shard 0 has the controller.
#[derive(Debug)]
pub enum ChangeRequest {
    CreateTopics { topics: Vec<NewTopic>, validate_only: bool },
    DeleteTopics(Vec<TopicRef>),
    CreatePartitions { topics: Vec<MorePartitions>, validate_only: bool },
    AlterSettings { changes: Vec<(Resource, Vec<SettingChange>)>, validate_only: bool },
    ReplaceSettings { wanted: Vec<(Resource, Vec<SettingValue>)>, validate_only: bool },
}

/// A setting's name and the value to give it.
pub type SettingValue = (String, Option<String>);

/// One result for each change, in order.
#[derive(Debug)]
pub enum ChangeReply {
    Topics(Vec<Result<Arc<Topic>, ChangeError>>),
    Done(Vec<Result<(), ChangeError>>),
}

/// The shard that has the controller.
pub const CONTROLLER_SHARD: ShardId = ShardId(0);

impl Shard {
    /// Appends the parts of `group` at `to`; by the time this returns, they are on their way in
    /// the order of the calls.
    pub fn produce(
        self: &Rc<Self>,
        to: ShardId,
        group: ProduceGroup,
    ) -> Either<ProduceWork, Call<ShardReply>> {
        if to == self.id {
            return Either::Left(produce::begin(self, &group));
        }
        Either::Right(self.send_request(to, ShardRequest::Produce(group)))
    }

    /// Fetches from `to`; a group that waits ends its wait when `cancel` is raised.
    pub async fn fetch(
        self: &Rc<Self>,
        to: ShardId,
        group: FetchGroup,
        cancel: &Flag,
    ) -> FetchReply {
        if to == self.id {
            return fetch::fetch(self, &group, cancel).await;
        }
        let waits = group.wait_bytes > 0;
        let call = self.send_request(to, ShardRequest::Fetch(group));
        let id = call.id();
        let reply = if waits {
            // Whoever drops this future, its connection ended, cancels as well.
            let mut canceller = Canceller { shard: self, to, id, armed: true };
            let waited = std::pin::pin!(cancel.wait());
            let reply = match futures_util::future::select(call, waited).await {
                Either::Left((reply, _)) => reply,
                Either::Right(((), call)) => {
                    self.mesh.send(to, ShardMessage::CancelFetch { call: id });
                    call.await
                }
            };
            canceller.armed = false;
            reply
        } else {
            call.await
        };
        match reply {
            ShardReply::Fetch(reply) => reply,
            other => unreachable!("a fetch is answered with {other:?}"),
        }
    }

    /// Asks `to` for offsets.
    pub async fn offsets(self: &Rc<Self>, to: ShardId, parts: Vec<OffsetPart>) -> OffsetsReply {
        if to == self.id {
            return offsets::offsets(self, &parts).await;
        }
        match self.send_request(to, ShardRequest::Offsets(parts)).await {
            ShardReply::Offsets(reply) => reply,
            other => unreachable!("offsets are answered with {other:?}"),
        }
    }

    /// Asks the controller for a change; it is in force on every shard when this resolves.
    pub async fn change(self: &Rc<Self>, request: ChangeRequest) -> ChangeReply {
        let call = if self.id == CONTROLLER_SHARD {
            // In a task of its own: a client that goes away does not leave a change half done.
            let call = self.calls.open();
            let (shard, id) = (self.clone(), call.id());
            self.io.spawn(async move {
                let reply = shard.control(request).await;
                shard.calls.finish(id, ShardReply::Change(reply));
            });
            call
        } else {
            self.send_request(CONTROLLER_SHARD, ShardRequest::Change(request))
        };
        match call.await {
            ShardReply::Change(reply) => reply,
            other => unreachable!("a change is answered with {other:?}"),
        }
    }

    /// Asks the controller where the metadata group stands.
    pub async fn quorum_state(self: &Rc<Self>) -> QuorumState {
        if self.id == CONTROLLER_SHARD {
            return self.controls_quorum();
        }
        match self.send_request(CONTROLLER_SHARD, ShardRequest::Quorum).await {
            ShardReply::Quorum(state) => state,
            other => unreachable!("the quorum is answered with {other:?}"),
        }
    }

    /// Bytes of the logs of `partitions`, or of all that there are, by partition.
    pub async fn log_sizes(
        self: &Rc<Self>,
        partitions: Option<HashSet<TopicPartition>>,
    ) -> Vec<LogSize> {
        let partitions = partitions.map(Arc::new);
        let mut sizes = Vec::new();
        for reply in self.ask_all(|| ShardRequest::LogSizes(partitions.clone())).await {
            match reply {
                ShardReply::LogSizes(some) => sizes.extend(some),
                other => unreachable!("sizes are answered with {other:?}"),
            }
        }
        sizes.sort_unstable_by_key(|size| size.partition);
        sizes
    }

    /// Sends the same request to every shard, this one too, and collects the answers by shard.
    pub async fn ask_all(
        self: &Rc<Self>,
        mut request: impl FnMut() -> ShardRequest,
    ) -> Vec<ShardReply> {
        let others = (0..self.shards_count()).map(|shard| {
            let to = ShardId(u16::try_from(shard).expect("the count of shards is 16 bit"));
            (to != self.id).then(|| self.send_request(to, request()))
        });
        let others: Vec<_> = others.collect();
        let mut replies = Vec::with_capacity(others.len());
        for call in others {
            replies.push(match call {
                Some(call) => call.await,
                None => self.clone().serve(request(), &Flag::default()).await,
            });
        }
        replies
    }

    /// Ends the mailboxes of all other shards, and their mains with them.
    pub fn end_others(&self) {
        for shard in (0..self.shards_count()).filter(|shard| *shard != usize::from(self.id.0)) {
            let to = ShardId(u16::try_from(shard).expect("the count of shards is 16 bit"));
            self.mesh.send(to, ShardMessage::End);
        }
    }

    /// Takes messages until the node ends.
    pub async fn serve_mailbox(self: Rc<Self>) {
        loop {
            let (from, message) = self.mesh.recv().await;
            match message {
                ShardMessage::Request { call, request } => self.take_request(from, call, request),
                ShardMessage::Reply { call, reply } => self.calls.finish(call, reply),
                ShardMessage::CancelFetch { call } => {
                    if let Some(cancel) = self.waiting_fetches.borrow().get(&(from, call)) {
                        cancel.raise();
                    }
                }
                ShardMessage::Connection(handle) => self.take_connection(handle),
                ShardMessage::End => return,
            }
        }
    }

    fn take_request(self: &Rc<Self>, from: ShardId, call: CallId, request: ShardRequest) {
        let shard = self.clone();
        match request {
            ShardRequest::Produce(group) => {
                let work = produce::begin(self, &group);
                drop(group);
                self.io.spawn(async move {
                    let reply = ShardReply::Produce(work.finish().await);
                    shard.mesh.send(from, ShardMessage::Reply { call, reply });
                });
            }
            ShardRequest::Fetch(group) => {
                let cancel = Rc::new(Flag::default());
                let waits = group.wait_bytes > 0;
                if waits {
                    self.waiting_fetches.borrow_mut().insert((from, call), cancel.clone());
                }
                self.io.spawn(async move {
                    let reply = ShardReply::Fetch(fetch::fetch(&shard, &group, &cancel).await);
                    if waits {
                        shard.waiting_fetches.borrow_mut().remove(&(from, call));
                    }
                    shard.mesh.send(from, ShardMessage::Reply { call, reply });
                });
            }
            ShardRequest::Group(task) => groups::take(self, from, call, task),
            request => self.io.spawn(async move {
                let reply = shard.clone().serve(request, &Flag::default()).await;
                shard.mesh.send(from, ShardMessage::Reply { call, reply });
            }),
        }
    }

    /// Answers a request of any kind.
    async fn serve(self: Rc<Self>, request: ShardRequest, cancel: &Flag) -> ShardReply {
        match request {
            ShardRequest::Produce(group) => {
                ShardReply::Produce(produce::begin(&self, &group).finish().await)
            }
            ShardRequest::Fetch(group) => {
                ShardReply::Fetch(fetch::fetch(&self, &group, cancel).await)
            }
            ShardRequest::Offsets(parts) => {
                ShardReply::Offsets(offsets::offsets(&self, &parts).await)
            }
            ShardRequest::Group(task) => unreachable!("{task:?} is one for its owner alone"),
            ShardRequest::Image(image) => {
                self.apply_image(image).await;
                ShardReply::Done
            }
            ShardRequest::Change(request) => ShardReply::Change(self.control(request).await),
            ShardRequest::LogSizes(partitions) => {
                ShardReply::LogSizes(self.own_log_sizes(partitions.as_deref()))
            }
            ShardRequest::Quorum => ShardReply::Quorum(self.controls_quorum()),
            ShardRequest::ProducerIds => {
                ShardReply::ProducerIds(self.controls_producer_ids().await)
            }
            ShardRequest::Producers(partitions) => {
                ShardReply::Producers(self.own_producers(&partitions))
            }
            ShardRequest::Drain => {
                self.drain().await;
                ShardReply::Done
            }
            ShardRequest::CloseLogs => ShardReply::Closed(self.close_logs().await),
        }
    }

    fn own_log_sizes(&self, partitions: Option<&HashSet<TopicPartition>>) -> Vec<LogSize> {
        let replicas = self.replicas();
        let asked = |id: &TopicPartition| partitions.is_none_or(|asked| asked.contains(id));
        let asked = replicas.iter().filter(|replica| asked(&replica.id()));
        let size = |replica: &Rc<Replica>| LogSize {
            partition: replica.id(),
            bytes: replica.log().bytes(),
        };
        asked.map(size).collect()
    }

    pub(super) fn send_request(&self, to: ShardId, request: ShardRequest) -> Call<ShardReply> {
        let call = self.calls.open();
        self.mesh.send(to, ShardMessage::Request { call: call.id(), request });
        call
    }
}

/// Ends the wait of a fetch at another shard when its caller is gone.
struct Canceller<'a> {
    shard: &'a Shard,
    to: ShardId,
    id: CallId,
    armed: bool,
}

impl Drop for Canceller<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shard.mesh.send(self.to, ShardMessage::CancelFetch { call: self.id });
        }
    }
}

/// The reply of a produce call to another shard.
pub fn produce_reply(reply: ShardReply) -> ProduceReply {
    match reply {
        ShardReply::Produce(reply) => reply,
        other => unreachable!("a produce is answered with {other:?}"),
    }
}

/// Future of [`Shard::change`] and its like, where a trait object is needed.
pub type LocalFuture<T> = std::pin::Pin<Box<dyn Future<Output = T>>>;

const fn assert_send<T: Send>() {}
const _: () = assert_send::<ShardMessage>();
