//! One shard: its view of the cluster, its replicas, what it measures and what it may hold.
//!
//! Everything here belongs to one thread. **Invariant:** when an image is in force here, the
//! replicas that it gives to this shard are open, or their failure was logged and is tried again.

use super::calls::{CallId, Calls};
use super::groups::{self, Groups};
use super::mailbox::{ChangeReply, ChangeRequest, LocalFuture, ShardMessage, ShardReply};
use super::placement::shard_of;
use super::producers::{ProducerIds, ProducerIdsReply};
use super::replica::{Replica, log_config};
use super::signal::{Budget, Flag, Signal};
use crate::base::ids::{NodeId, PartitionIndex, ShardId, TopicPartition};
use crate::base::limits::MIB;
use crate::base::metrics::ShardMetrics;
use crate::cluster::controller::QuorumState;
use crate::cluster::metadata::{Image, Overrides, Partition, Topic};
use crate::cluster::settings::{BrokerSettings, Layers, TopicSettings};
use crate::io::{Io, Mesh, SocketHandle};
use crate::storage::{CleanLog, Committer, Log, OpenLog, StorageError};
use futures_util::stream::{self, StreamExt as _};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Logs that are opened or closed at a time: enough to keep the disk busy.
const LOGS_AT_ONCE: usize = 32;
/// Time between two looks for logs that failed and may be opened anew.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// How long after its start a shard applies retention for the first time, at most: as in Kafka
/// (`log.initial.task.delay.ms`), so that an operator has time to mend a setting.
const RETENTION_DELAY_MAX: Duration = Duration::from_secs(30);
/// A log that cannot be opened is tried after that time, and then after twice the time as often as
/// this: each try reads what a recovery reads.
const REOPEN_DOUBLINGS_COUNT_MAX: u32 = 6;
/// Time between two lines about a long recovery.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// A shard's requests in flight may hold one part in so many of its memory; the rest is for tails
/// and reads.
const REQUESTS_MEMORY_SHARE: usize = 4;

/// Answers with records on their way to clients may hold, of all shards together, what is this part
/// of one shard's memory: all of it may be the tails of one shard.
const ANSWERS_MEMORY_SHARE: usize = 2;
/// But each shard's at least this many bytes, and at most one part in so many of its own memory.
const ANSWERS_BYTES_MIN: usize = 8 * MIB;
const ANSWERS_OWN_MEMORY_SHARE: usize = 4;

/// What is the same on every shard of a node.
#[derive(Debug)]
pub struct NodeFacts {
    pub node_id: NodeId,
    pub data_dir: PathBuf,
    /// Settings from the file and flags.
    pub fixed: Arc<Overrides>,
    /// Open connections by shard: whom to deal the next one to.
    pub connections_counts: Vec<AtomicUsize>,
    /// Open connections by the peer's address; touched when one opens or ends.
    pub addresses: Mutex<HashMap<IpAddr, usize>>,
}

impl NodeFacts {
    /// The shard with the fewest connections.
    pub fn least_loaded(&self) -> ShardId {
        let counts = self.connections_counts.iter().map(|count| count.load(Ordering::Relaxed));
        let least = counts.enumerate().min_by_key(|(_, count)| *count);
        let (shard, _) = least.expect("there is at least one shard");
        ShardId(u16::try_from(shard).expect("the count of shards is 16 bit"))
    }

    /// Counts a connection from `address` unless there are `most` already.
    pub fn admit(&self, address: IpAddr, most: usize) -> bool {
        let mut addresses = self.addresses();
        let count = addresses.entry(address).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        true
    }

    fn dismiss(&self, address: IpAddr) {
        let mut addresses = self.addresses();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections of all shards.
    pub fn connections_count(&self) -> usize {
        self.connections_counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Who changes the cluster's metadata; on shard 0 only.
pub trait Control {
    /// Carries the change out; it is in force on every shard when this resolves.
    fn change(&self, request: ChangeRequest) -> LocalFuture<ChangeReply>;
    /// A block of producer ids that nobody was given before.
    fn allocate_producer_ids(&self) -> LocalFuture<ProducerIdsReply>;
    /// Where the group that agrees on changes stands.
    fn quorum_state(&self) -> QuorumState;
}

/// Who serves connections on this shard.
pub trait Connections {
    /// Serves one more.
    fn take(&self, handle: SocketHandle);
    /// Resolves when all have ended; no more are taken.
    fn drain(&self) -> LocalFuture<()>;
}

fn answers_bytes_max(io: &Io, shards_count: usize) -> usize {
    let shares_count = (ANSWERS_MEMORY_SHARE * shards_count).max(ANSWERS_OWN_MEMORY_SHARE);
    (io.memory().budget_bytes() / shares_count).max(ANSWERS_BYTES_MIN)
}

/// A partition whose log could not be opened.
struct Unopened {
    tries_count: u32,
    due: Duration,
}

/// One shard.
pub struct Shard {
    pub id: ShardId,
    pub io: Io,
    pub metrics: Rc<ShardMetrics>,
    /// Bytes of requests in flight.
    pub requests_budget: Rc<Budget>,
    /// Bytes of records in answers that are being sent.
    pub answers_budget: Rc<Budget>,
    pub node: Arc<NodeFacts>,
    pub(super) mesh: Mesh<ShardMessage>,
    pub(super) calls: Calls<ShardReply>,
    pub(super) waiting_fetches: RefCell<HashMap<(ShardId, CallId), Rc<Flag>>>,
    pub(super) groups: Groups,
    pub(super) producer_ids: ProducerIds,
    image: RefCell<Arc<Image>>,
    settings: RefCell<Rc<BrokerSettings>>,
    replicas: RefCell<HashMap<TopicPartition, Rc<Replica>>>,
    unopened: RefCell<HashMap<TopicPartition, Unopened>>,
    clean: RefCell<HashMap<String, CleanLog>>,
    committer: Committer,
    applying: Cell<bool>,
    applied: Signal,
    control: OnceCell<Box<dyn Control>>,
    connections: OnceCell<Box<dyn Connections>>,
}

impl Shard {
    /// A shard without replicas; `clean` is what a clean stop left of the logs.
    pub fn new(
        io: Io,
        mesh: Mesh<ShardMessage>,
        node: Arc<NodeFacts>,
        metrics: Rc<ShardMetrics>,
        committer: Committer,
        clean: impl IntoIterator<Item = CleanLog>,
    ) -> Rc<Shard> {
        let image = Image::default();
        let layers = Layers::of_image(&image, node.node_id, &node.fixed);
        let settings = Rc::new(BrokerSettings::resolve(&layers));
        let clean = clean.into_iter().map(|log| (log.dir_name.clone(), log)).collect();
        Rc::new(Shard {
            id: mesh.shard(),
            requests_budget: Budget::new(io.memory().budget_bytes() / REQUESTS_MEMORY_SHARE),
            answers_budget: Budget::new(answers_bytes_max(&io, mesh.shards_count())),
            io,
            metrics,
            mesh,
            calls: Calls::default(),
            waiting_fetches: RefCell::default(),
            groups: Groups::default(),
            producer_ids: ProducerIds::default(),
            image: RefCell::new(Arc::new(image)),
            settings: RefCell::new(settings),
            replicas: RefCell::default(),
            unopened: RefCell::default(),
            clean: RefCell::new(clean),
            committer,
            applying: Cell::new(false),
            applied: Signal::default(),
            control: OnceCell::new(),
            connections: OnceCell::new(),
            node,
        })
    }

    /// How many shards the node has.
    pub fn shards_count(&self) -> usize {
        self.mesh.shards_count()
    }

    /// The metadata in force.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// The broker's settings in force.
    pub fn settings(&self) -> Rc<BrokerSettings> {
        self.settings.borrow().clone()
    }

    /// The shard that owns `partition`.
    pub fn owner(&self, partition: TopicPartition) -> ShardId {
        shard_of(partition, self.shards_count())
    }

    /// The replica of `partition`, if this shard has it.
    pub fn replica(&self, partition: TopicPartition) -> Option<Rc<Replica>> {
        self.replicas.borrow().get(&partition).cloned()
    }

    /// Whether `partition` is this shard's but its log could not be opened; that is tried again.
    pub fn is_unopened(&self, partition: TopicPartition) -> bool {
        self.unopened.borrow().contains_key(&partition)
    }

    /// All replicas that are open here.
    pub fn replicas(&self) -> Vec<Rc<Replica>> {
        self.replicas.borrow().values().cloned().collect()
    }

    /// How many replicas are open here.
    pub fn replicas_count(&self) -> usize {
        self.replicas.borrow().len()
    }

    /// Gives the controller to this shard, once.
    pub fn set_control(&self, control: Box<dyn Control>) {
        assert!(self.control.set(control).is_ok(), "a shard gets its controller once");
    }

    /// Says who serves connections here, once.
    pub fn set_connections(&self, connections: Box<dyn Connections>) {
        assert!(self.connections.set(connections).is_ok(), "a shard gets its server once");
    }

    /// Hands a connection to the shard that has the least to do.
    pub fn deal(&self, handle: SocketHandle) {
        let to = self.node.least_loaded();
        // Counted at once, so that the next of a burst goes elsewhere.
        self.node.connections_counts[usize::from(to.0)].fetch_add(1, Ordering::Relaxed);
        if to == self.id {
            self.take_connection(handle);
        } else {
            self.mesh.send(to, ShardMessage::Connection(handle));
        }
    }

    /// A connection from `address` that `deal` gave to this shard has ended.
    pub fn connection_ended(&self, address: IpAddr) {
        self.node.dismiss(address);
        self.node.connections_counts[usize::from(self.id.0)].fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn take_connection(&self, handle: SocketHandle) {
        match self.connections.get() {
            Some(connections) => connections.take(handle),
            None => self.connection_ended(handle.peer().ip()),
        }
    }

    pub(super) async fn drain(&self) {
        if let Some(connections) = self.connections.get() {
            connections.drain().await;
        }
    }

    pub(super) async fn control(&self, request: ChangeRequest) -> ChangeReply {
        let control = self.control.get().expect("changes are asked of the controller's shard");
        control.change(request).await
    }

    pub(super) fn controls_quorum(&self) -> QuorumState {
        let control = self.control.get().expect("the quorum is asked of the controller's shard");
        control.quorum_state()
    }

    pub(super) async fn controls_producer_ids(&self) -> ProducerIdsReply {
        let control = self.control.get().expect("ids are asked of the controller's shard");
        control.allocate_producer_ids().await
    }

    /// Takes over `image`: opens, updates, closes and deletes replicas, then puts it in force.
    pub async fn apply_image(self: &Rc<Self>, image: Arc<Image>) {
        self.applied.until(|| (!self.applying.get()).then_some(())).await;
        self.applying.set(true);
        if image.version() > self.image.borrow().version() {
            self.remove_missing(&image).await;
            self.open_and_update(&image).await;
            let layers = Layers::of_image(&image, self.node.node_id, &self.node.fixed);
            *self.settings.borrow_mut() = Rc::new(BrokerSettings::resolve(&layers));
            let before = self.image.replace(image);
            groups::follow_image(self, &before);
        }
        self.applying.set(false);
        self.applied.notify();
    }

    /// Closes the replicas whose topic is gone, and deletes their directories.
    async fn remove_missing(&self, image: &Image) {
        let missing: Vec<Rc<Replica>> = {
            let mut replicas = self.replicas.borrow_mut();
            let gone = replicas.extract_if(|id, _| image.topic_by_id(id.topic_id).is_none());
            gone.map(|(_, replica)| replica).collect()
        };
        self.unopened.borrow_mut().retain(|id, _| image.topic_by_id(id.topic_id).is_some());
        for replica in missing {
            replica.closed().raise();
            let log = replica.log();
            let dir = log.dir().to_path_buf();
            match log.delete().await {
                Ok(()) => tracing::info!(dir = %dir.display(), "partition deleted"),
                Err(error) => tracing::error!(%error, "partition not deleted"),
            }
        }
    }

    async fn open_and_update(self: &Rc<Self>, image: &Arc<Image>) {
        let layers = Layers::of_image(image, self.node.node_id, &self.node.fixed);
        let before = self.image();
        let same_layers = layers == Layers::of_image(&before, self.node.node_id, &self.node.fixed);
        let mut missing = Vec::new();
        for topic in image.topics() {
            let known = before.topic_by_id(topic.id);
            if same_layers && known.is_some_and(|known| Arc::ptr_eq(known, topic)) {
                continue;
            }
            let settings = Rc::new(TopicSettings::resolve(&topic.overrides, &layers));
            for (index, partition) in topic.indexed_partitions() {
                let id = TopicPartition { topic_id: topic.id, partition: index };
                let here = partition.replicas.contains(&self.node.node_id);
                if !here || self.owner(id) != self.id {
                    continue;
                }
                match self.replica(id) {
                    Some(replica) => replica.update(partition.leader_epoch, settings.clone()),
                    None => {
                        missing.push(self.open_replica(topic, index, partition, settings.clone()))
                    }
                }
            }
        }
        self.open_all(missing).await;
    }

    /// Opens logs, many at a time, and says how far it is where a recovery takes long.
    async fn open_all(&self, opening: Vec<impl Future<Output = ()>>) {
        let count = opening.len();
        let mut opening = stream::iter(opening).buffer_unordered(LOGS_AT_ONCE);
        let mut opened_count = 0;
        let clock = self.io.clock();
        let mut told = clock.monotonic();
        while opening.next().await.is_some() {
            opened_count += 1;
            if clock.monotonic().saturating_sub(told) >= PROGRESS_INTERVAL {
                told = clock.monotonic();
                tracing::info!(shard = %self.id, "opened {opened_count} of {count} partitions");
            }
        }
    }

    async fn open_replica(
        self: &Rc<Self>,
        topic: &Arc<Topic>,
        index: PartitionIndex,
        partition: &Partition,
        settings: Rc<TopicSettings>,
    ) {
        let id = TopicPartition { topic_id: topic.id, partition: index };
        let dir_name = format!("{}-{index}", topic.name);
        let clean = self.clean.borrow_mut().remove(&dir_name);
        let log = match self.open_log(&dir_name, id, &settings, clean).await {
            Ok(log) => log,
            Err(error) => {
                let again = self.note_unopened(id);
                tracing::error!(%error, partition = dir_name, ?again, "partition cannot be opened");
                return;
            }
        };
        let name = topic.name.clone();
        let epoch = partition.leader_epoch;
        let replica = Replica::new(&self.io, id, name, log, epoch, settings);
        self.unopened.borrow_mut().remove(&id);
        let before = self.replicas.borrow_mut().insert(id, replica);
        assert!(before.is_none(), "a partition is opened once");
    }

    /// Takes note of a log that could not be opened; returns the time until it is tried again.
    fn note_unopened(&self, id: TopicPartition) -> Duration {
        let now = self.io.clock().monotonic();
        let mut unopened = self.unopened.borrow_mut();
        let entry = unopened.entry(id).or_insert(Unopened { tries_count: 0, due: now });
        let pause = REOPEN_INTERVAL * (1 << entry.tries_count.min(REOPEN_DOUBLINGS_COUNT_MAX));
        entry.tries_count += 1;
        entry.due = now + pause;
        pause
    }

    /// Opens those logs anew whose time has come.
    async fn retry_unopened(self: &Rc<Self>) {
        let now = self.io.clock().monotonic();
        if !self.unopened.borrow().values().any(|unopened| unopened.due <= now) {
            return;
        }
        self.applied.until(|| (!self.applying.get()).then_some(())).await;
        self.applying.set(true);
        let due: Vec<TopicPartition> = {
            let unopened = self.unopened.borrow();
            unopened.iter().filter(|(_, unopened)| unopened.due <= now).map(|(id, _)| *id).collect()
        };
        let image = self.image();
        let layers = Layers::of_image(&image, self.node.node_id, &self.node.fixed);
        let opening = due.into_iter().filter_map(|id| {
            let topic = image.topic_by_id(id.topic_id)?;
            let partition = topic.partition(id.partition)?;
            let settings = Rc::new(TopicSettings::resolve(&topic.overrides, &layers));
            Some(self.open_replica(topic, id.partition, partition, settings))
        });
        self.open_all(opening.collect()).await;
        groups::follow_image(self, &image);
        self.applying.set(false);
        self.applied.notify();
    }

    async fn open_log(
        &self,
        dir_name: &str,
        id: TopicPartition,
        settings: &TopicSettings,
        clean: Option<CleanLog>,
    ) -> Result<Log, StorageError> {
        let open = OpenLog {
            dir: self.node.data_dir.join(dir_name),
            topic_id: id.topic_id,
            config: log_config(settings),
            clean,
        };
        let (log, recovery) = Log::open(&self.io, &self.committer, open).await?;
        if recovery.cut_bytes > 0 || !recovery.corrupt.is_empty() {
            tracing::warn!(
                partition = dir_name,
                cut_bytes = recovery.cut_bytes,
                corrupt = ?recovery.corrupt,
                "partition recovered"
            );
        }
        Ok(log)
    }

    /// Applies retention at its interval, opens failed logs anew and those that could not be
    /// opened; runs as long as the shard.
    pub async fn maintain(self: Rc<Self>) {
        let interval = |shard: &Self| {
            let interval_ms = shard.settings().log_retention_check_interval_ms;
            Duration::from_millis(u64::try_from(interval_ms).unwrap_or(1))
        };
        let first_after = interval(&self).min(RETENTION_DELAY_MAX);
        let mut retention_due = self.io.clock().monotonic() + first_after;
        loop {
            self.io.sleep(REOPEN_INTERVAL).await;
            self.retry_unopened().await;
            let replicas: Vec<Rc<Replica>> = self.replicas.borrow().values().cloned().collect();
            let is_failed = |log: Log| log.fenced().is_some() && !log.is_busy();
            for replica in replicas.iter().filter(|replica| is_failed(replica.log())) {
                self.reopen(replica).await;
            }
            let now = self.io.clock().monotonic();
            if now < retention_due {
                continue;
            }
            retention_due = now + interval(&self);
            self.committer.begin_retention();
            for replica in replicas {
                let now_ms = self.io.clock().now_ms();
                if let Err(error) = replica.log().apply_retention(now_ms).await {
                    tracing::warn!(%error, "retention failed");
                }
            }
        }
    }

    async fn reopen(&self, replica: &Rc<Replica>) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(replica.id().topic_id) else { return };
        let layers = Layers::of_image(&image, self.node.node_id, &self.node.fixed);
        let settings = TopicSettings::resolve(&topic.overrides, &layers);
        let dir_name = format!("{}-{}", topic.name, replica.id().partition);
        match self.open_log(&dir_name, replica.id(), &settings, None).await {
            Ok(log) => {
                tracing::info!(partition = dir_name, "log opened anew");
                replica.replace_log(log);
            }
            Err(error) => tracing::error!(%error, partition = dir_name, "log stays closed"),
        }
    }

    pub(super) async fn close_logs(&self) -> Vec<CleanLog> {
        groups::end(self);
        let replicas: Vec<_> = self.replicas.borrow_mut().drain().collect();
        let closing = replicas.into_iter().map(|(_, replica)| async move {
            replica.closed().raise();
            match replica.log().close_clean().await {
                Ok(clean) => Some(clean),
                Err(error) => {
                    tracing::error!(%error, "log not closed clean; it is recovered at next start");
                    None
                }
            }
        });
        let closed = stream::iter(closing).buffer_unordered(LOGS_AT_ONCE);
        let clean = closed.filter_map(async |clean| clean).collect().await;
        if let Err(error) = self.committer.end_journal().await {
            tracing::warn!(%error, "journal not removed: the next start reads it");
        }
        clean
    }
}
