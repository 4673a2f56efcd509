//! The group coordinators of one shard: one for each partition of `__consumer_offsets` that it
//! owns.
//!
//! A coordinator is pure; here it gets its log, its clock and its callers. Calls run as they come,
//! each one's records are appended as one batch before the next call runs, and replies follow in
//! order as the log becomes durable: calls never wait for each other's flush, and those that come
//! together share one. A log that refuses an append or fails a flush ends its coordinator; another
//! is loaded by [`super::group_load`].
//! **Invariant:** no reply leaves before everything is durable that its coordinator appended up to
//! then.

use super::calls::{Call as Waiting, CallId};
use super::group_load::{self, LoadError};
use super::mailbox::{ShardMessage, ShardReply, ShardRequest};
use super::replica::{Acked, Append, Replica, StoreError, Stored};
use super::signal::Signal;
use super::state::Shard;
use crate::base::ids::{PartitionIndex, ShardId, TopicId, TopicPartition};
use crate::base::limits::{GROUP_MEMBERS_COUNT_MAX, MIB};
use crate::cluster::metadata::{Image, NamedResource, OFFSETS_TOPIC};
use crate::cluster::settings::BrokerSettings;
use crate::coordinator::replies::Reply;
use crate::coordinator::{
    Call, Coordinator, Effects, GroupSettings, MigrationPolicy, Moment, OwnSettings, Record,
    ReplyId, TopicView, TopicsView,
};
use crate::io::{Io, Slice};
use crate::protocol::batch::BatchBuilder;
use crate::protocol::compression::Codec;
use crate::protocol::record::NewRecord;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Pause before a coordinator is loaded again: what failed may go on failing.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Where many offsets end at once, their tombstones come in batches of about so many bytes.
const TOMBSTONES_BATCH_BYTES: usize = MIB;

/// What a handler has a coordinator do.
pub type GroupVerb = Box<dyn FnOnce(&mut Coordinator, &Call<'_>) -> Effects + Send>;

/// One call of a client to the coordinator of one partition.
pub struct GroupCall {
    /// Of `__consumer_offsets`.
    pub partition: PartitionIndex,
    /// The request's version.
    pub version: i16,
    pub client_id: String,
    /// As Kafka shows it: a slash and the address.
    pub client_host: String,
    pub verb: GroupVerb,
}

impl fmt::Debug for GroupCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GroupCall { partition, client_id, .. } = self;
        write!(f, "GroupCall of {client_id} to partition {partition}")
    }
}

/// Why a coordinator does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the groups are being loaded")]
    Loading,
    #[error("the groups are not here, or cannot be loaded")]
    NotHere,
}

/// What comes of a call.
pub type GroupReply = Result<Reply, GroupError>;

/// The coordinators of one shard.
#[derive(Default)]
pub struct Groups {
    hosts: RefCell<BTreeMap<PartitionIndex, Rc<Host>>>,
    due_ms: Cell<i64>, // when the clock's task looks next, Unix time
    sooner: Signal,    // it has to look earlier
}

/// One partition's place: loading, or with a coordinator at work.
struct Host {
    replica: Rc<Replica>,
    state: RefCell<State>,
    deleted_topics: RefCell<Vec<Arc<str>>>, // while it was loading
}

#[derive(Clone)]
enum State {
    Loading,
    Live(Rc<Live>),
    /// Its records are damaged.
    Failed,
}

/// A coordinator from its load to its end.
struct Live {
    coordinator: RefCell<Coordinator>,
    callers: RefCell<HashMap<ReplyId, Caller>>,
    replies_count: Cell<u64>,
    unsettled: RefCell<VecDeque<Unsettled>>,
    settling: Cell<bool>,
    ended: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Caller {
    shard: ShardId,
    call: CallId,
}

/// What comes next in the order of effects.
enum Unsettled {
    Records(Appending),
    Replies(Vec<(ReplyId, Reply)>),
}

/// Records on their way to the disk.
enum Appending {
    Appended(Acked),
    InLine(Waiting<Result<(Stored, Acked), StoreError>>),
}

impl Appending {
    async fn settled(self) -> Result<(), StoreError> {
        let acked = match self {
            Appending::Appended(acked) => acked,
            Appending::InLine(call) => call.await?.1,
        };
        Ok(acked.await?)
    }
}

/// The topics of an image, as coordinators see them.
struct ImageTopics<'a>(&'a Image);

impl TopicsView for ImageTopics<'_> {
    fn topic(&self, name: &str) -> Option<TopicView> {
        let topic = self.0.topic(name)?;
        let partitions_count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Some(TopicView { id: topic.id, partitions_count })
    }

    fn name(&self, id: TopicId) -> Option<&str> {
        self.0.topic_by_id(id).map(|topic| &*topic.name)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.topics().map(|topic| &*topic.name))
    }

    fn version(&self) -> i64 {
        self.0.version().cast_signed()
    }

    fn own_settings(&self, group_id: &str) -> OwnSettings {
        let Some(overrides) = self.0.named_overrides(NamedResource::Group, group_id) else {
            return OwnSettings::default();
        };
        let number = |name: &str| overrides.get(name)?.trim().parse().ok();
        OwnSettings {
            consumer_session_timeout_ms: number("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
        }
    }
}

impl Shard {
    /// Has the coordinator of a partition of `__consumer_offsets` do something. Calls to one
    /// coordinator take effect in the order in which they were made.
    pub fn group_call(self: &Rc<Self>, id: TopicPartition, call: GroupCall) -> Waiting<ShardReply> {
        let owner = self.owner(id);
        if owner != self.id {
            return self.send_request(owner, ShardRequest::Group(call));
        }
        let waiting = self.calls.open();
        take(self, self.id, waiting.id(), call);
        waiting
    }

    /// Lets time pass for all coordinators; runs as long as the shard.
    pub async fn keep_group_time(self: Rc<Self>) {
        loop {
            let now = moment(&self.io);
            let mut due_ms = i64::MAX;
            for (host, live) in self.groups.live() {
                if live.deadline_ms() <= now.steady_ms {
                    let effects = {
                        let image = self.image();
                        live.coordinator.borrow_mut().tick(now, &ImageTopics(&image))
                    };
                    carry_out(&self, &host, &live, effects);
                }
                due_ms = due_ms.min(live.deadline_ms());
            }
            self.groups.due_ms.set(due_ms);
            let is_sooner = || (self.groups.due_ms.get() < due_ms).then_some(());
            let sooner = self.groups.sooner.until(is_sooner);
            match u64::try_from(due_ms.saturating_sub(moment(&self.io).steady_ms)) {
                Ok(_) if due_ms == i64::MAX => sooner.await,
                Ok(wait_ms) => {
                    self.io.timeout(Duration::from_millis(wait_ms), sooner).await;
                }
                Err(_) => self.io.yield_now().await, // already over
            }
        }
    }
}

impl Groups {
    fn host(&self, partition: PartitionIndex) -> Option<Rc<Host>> {
        self.hosts.borrow().get(&partition).cloned()
    }

    /// Whether `host` still is the partition's: it may have left while something was awaited.
    fn holds(&self, host: &Rc<Host>) -> bool {
        let held = self.host(host.replica.id().partition);
        held.is_some_and(|held| Rc::ptr_eq(&held, host))
    }

    fn live(&self) -> Vec<(Rc<Host>, Rc<Live>)> {
        let hosts = self.hosts.borrow();
        hosts.values().filter_map(|host| Some((host.clone(), host.live()?))).collect()
    }
}

impl Host {
    fn live(&self) -> Option<Rc<Live>> {
        match &*self.state.borrow() {
            State::Live(live) => Some(live.clone()),
            State::Loading | State::Failed => None,
        }
    }
}

impl Live {
    fn new(coordinator: Coordinator) -> Rc<Live> {
        Rc::new(Live {
            coordinator: RefCell::new(coordinator),
            callers: RefCell::default(),
            replies_count: Cell::new(0),
            unsettled: RefCell::default(),
            settling: Cell::new(false),
            ended: Cell::new(false),
        })
    }

    fn deadline_ms(&self) -> i64 {
        self.coordinator.borrow().next_deadline_ms().unwrap_or(i64::MAX)
    }

    fn admit(&self, caller: Caller) -> ReplyId {
        let id = ReplyId(self.replies_count.get());
        self.replies_count.set(id.0 + 1);
        self.callers.borrow_mut().insert(id, caller);
        id
    }

    fn answer(&self, shard: &Shard, replies: Vec<(ReplyId, Reply)>) {
        for (id, reply) in replies {
            let caller = self.callers.borrow_mut().remove(&id);
            let caller = caller.expect("a coordinator answers each of its callers once");
            answer(shard, caller, Ok(reply));
        }
    }

    /// It takes no more part: everyone who waits is told that the groups are not here.
    fn end(&self, shard: &Shard) {
        self.ended.set(true);
        self.unsettled.borrow_mut().clear();
        let callers = std::mem::take(&mut *self.callers.borrow_mut());
        for caller in callers.into_values() {
            answer(shard, caller, Err(GroupError::NotHere));
        }
    }
}

fn answer(shard: &Shard, caller: Caller, reply: GroupReply) {
    let reply = ShardReply::Group(reply);
    if caller.shard == shard.id {
        shard.calls.finish(caller.call, reply);
    } else {
        shard.mesh.send(caller.shard, ShardMessage::Reply { call: caller.call, reply });
    }
}

/// Takes a call of another shard or of this one; it is answered when its coordinator does.
pub(super) fn take(shard: &Rc<Shard>, from: ShardId, call: CallId, task: GroupCall) {
    let caller = Caller { shard: from, call };
    let Some(host) = shard.groups.host(task.partition) else {
        return answer(shard, caller, Err(GroupError::NotHere));
    };
    let state = host.state.borrow().clone();
    let live = match state {
        State::Live(live) => live,
        State::Loading => return answer(shard, caller, Err(GroupError::Loading)),
        State::Failed => return answer(shard, caller, Err(GroupError::NotHere)),
    };
    let image = shard.image();
    let call = Call {
        reply: live.admit(caller),
        version: task.version,
        client_id: &task.client_id,
        client_host: &task.client_host,
        now: moment(&shard.io),
        topics: &ImageTopics(&image),
    };
    let effects = (task.verb)(&mut live.coordinator.borrow_mut(), &call);
    carry_out(shard, &host, &live, effects);
}

/// Appends an effect's records, and sends its replies when all so far is durable.
fn carry_out(shard: &Rc<Shard>, host: &Rc<Host>, live: &Rc<Live>, effects: Effects) {
    if live.ended.get() {
        return; // whoever waited was told
    }
    let Effects { records, replies } = effects;
    for batch in batches(&records) {
        match append(shard, &host.replica, batch) {
            Ok(begun) => live.unsettled.borrow_mut().push_back(Unsettled::Records(begun)),
            Err(error) => return reload(shard, host, live, &error),
        }
    }
    if records.is_empty() && !live.settling.get() {
        live.answer(shard, replies);
    } else {
        live.unsettled.borrow_mut().push_back(Unsettled::Replies(replies));
        if !live.settling.replace(true) {
            shard.io.spawn(settle(shard.clone(), host.clone(), live.clone()));
        }
    }
    let deadline_ms = live.deadline_ms();
    if deadline_ms < shard.groups.due_ms.get() {
        shard.groups.due_ms.set(deadline_ms);
        shard.groups.sooner.notify();
    }
}

/// An effect's records are one batch, so that they are loaded all or not at all. Tombstones alone
/// stand each for itself and may be very many.
fn batches(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let splits = records.iter().all(|record| record.value.is_none());
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let begins = bytes < TOMBSTONES_BATCH_BYTES;
            bytes += record.key.len();
            !splits || begins
        };
        let count = rest.iter().take_while(fits).count();
        let (batch, later) = rest.split_at(count);
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

fn append(
    shard: &Shard,
    replica: &Rc<Replica>,
    records: &[Record],
) -> Result<Appending, StoreError> {
    let timestamp = shard.io.clock().now_ms();
    let mut batch = BatchBuilder::new(codec(&shard.settings()));
    for record in records {
        let (key, value) = (Some(&*record.key), record.value.as_deref());
        batch.append(&NewRecord { timestamp, key, value, ..NewRecord::default() });
    }
    match replica.append_own(&Slice::from(batch.finish())) {
        Append::Done(done) => done.map(|(_, acked)| Appending::Appended(acked)),
        Append::InLine(call) => Ok(Appending::InLine(call)),
    }
}

fn codec(settings: &BrokerSettings) -> Codec {
    Codec::from_number(settings.offsets_topic_compression_codec).unwrap_or(Codec::None)
}

/// Sends replies in order, as their log gets there.
async fn settle(shard: Rc<Shard>, host: Rc<Host>, live: Rc<Live>) {
    loop {
        let next = live.unsettled.borrow_mut().pop_front();
        let Some(next) = next else { break };
        match next {
            Unsettled::Records(append) => {
                if let Err(error) = append.settled().await {
                    return reload(&shard, &host, &live, &error);
                }
            }
            Unsettled::Replies(replies) => live.answer(&shard, replies),
        }
        if live.ended.get() {
            return;
        }
    }
    live.settling.set(false);
}

/// What was done since the last durable record did not happen: another coordinator takes over from
/// the log.
fn reload(shard: &Rc<Shard>, host: &Rc<Host>, live: &Live, error: &StoreError) {
    if live.ended.get() {
        return;
    }
    live.end(shard);
    if !shard.groups.holds(host) {
        return;
    }
    let partition = host.replica.id().partition;
    tracing::warn!(%partition, %error, "groups are loaded anew: their log failed");
    *host.state.borrow_mut() = State::Loading;
    let (shard, host) = (shard.clone(), host.clone());
    shard.io.clone().spawn(async move {
        shard.io.sleep(RELOAD_INTERVAL).await;
        load(shard, host).await;
    });
}

/// Loads until it succeeds, the records turn out damaged, or the partition leaves.
async fn load(shard: Rc<Shard>, host: Rc<Host>) {
    let partition = host.replica.id().partition;
    while shard.groups.holds(&host) {
        let settings = group_settings(&shard.settings());
        match group_load::load(&shard.io, &host.replica, settings).await {
            Ok(coordinator) => return begin(&shard, &host, coordinator),
            Err(error @ LoadError::Damaged { .. }) => {
                *host.state.borrow_mut() = State::Failed;
                tracing::error!(
                    topic = OFFSETS_TOPIC,
                    %partition,
                    %error,
                    "the groups of this partition are not served"
                );
                return;
            }
            Err(error @ LoadError::Unavailable(_)) => {
                tracing::warn!(%partition, %error, "groups are not loaded yet");
                shard.io.sleep(RELOAD_INTERVAL).await;
            }
        }
    }
}

/// Now, for a coordinator.
fn moment(io: &Io) -> Moment {
    let steady_ms = io.clock().monotonic().as_millis();
    let steady_ms = i64::try_from(steady_ms).expect("no shard runs for 292 million years");
    Moment { steady_ms, unix_ms: io.clock().now_ms() }
}

/// Puts a loaded coordinator to work.
fn begin(shard: &Rc<Shard>, host: &Rc<Host>, mut coordinator: Coordinator) {
    if !shard.groups.holds(host) {
        return;
    }
    let image = shard.image();
    let effects = coordinator.finish_load(moment(&shard.io), &ImageTopics(&image));
    let live = Live::new(coordinator);
    *host.state.borrow_mut() = State::Live(live.clone());
    carry_out(shard, host, &live, effects);
    for topic in host.deleted_topics.take() {
        forget_topic(shard, host, &topic);
    }
}

/// Follows the image that came into force after `before`: hosts the partitions that are here, lets
/// go of those that are not, and forgets the offsets of deleted topics.
pub(super) fn follow_image(shard: &Rc<Shard>, before: &Image) {
    let image = shard.image();
    let mut gone: Vec<Rc<Host>> = Vec::new();
    shard.groups.hosts.borrow_mut().retain(|_, host| {
        let stays = !host.replica.closed().is_raised();
        gone.extend((!stays).then(|| host.clone()));
        stays
    });
    gone.iter().filter_map(|host| host.live()).for_each(|live| live.end(shard));
    let hosts: Vec<Rc<Host>> = shard.groups.hosts.borrow().values().cloned().collect();
    for topic in before.topics().filter(|topic| image.topic_by_id(topic.id).is_none()) {
        hosts.iter().for_each(|host| forget_topic(shard, host, &topic.name));
    }
    let Some(topic) = image.topic(OFFSETS_TOPIC) else { return };
    for (partition, _) in topic.indexed_partitions() {
        let id = TopicPartition { topic_id: topic.id, partition };
        if shard.groups.host(partition).is_some() {
            continue;
        }
        if let Some(replica) = shard.replica(id) {
            let (state, deleted_topics) = (RefCell::new(State::Loading), RefCell::default());
            let host = Rc::new(Host { replica, state, deleted_topics });
            shard.groups.hosts.borrow_mut().insert(partition, host.clone());
            shard.io.spawn(load(shard.clone(), host));
        }
    }
}

fn forget_topic(shard: &Rc<Shard>, host: &Rc<Host>, topic: &Arc<str>) {
    let state = host.state.borrow().clone();
    let live = match state {
        State::Live(live) => live,
        State::Loading => return host.deleted_topics.borrow_mut().push(topic.clone()),
        State::Failed => return,
    };
    let image = shard.image();
    let topics = ImageTopics(&image);
    let effects = live.coordinator.borrow_mut().topic_deleted(topic, moment(&shard.io), &topics);
    carry_out(shard, host, &live, effects);
}

/// Ends all coordinators: the logs are about to be closed.
pub(super) fn end(shard: &Shard) {
    let hosts = std::mem::take(&mut *shard.groups.hosts.borrow_mut());
    hosts.values().filter_map(|host| host.live()).for_each(|live| live.end(shard));
}

fn group_settings(broker: &BrokerSettings) -> GroupSettings {
    const MINUTE_MS: i64 = 60_000;
    let members =
        |most: i32| usize::try_from(most).unwrap_or(usize::MAX).min(GROUP_MEMBERS_COUNT_MAX);
    GroupSettings {
        session_timeout_ms_min: broker.group_min_session_timeout_ms,
        session_timeout_ms_max: broker.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: broker.group_initial_rebalance_delay_ms,
        members_count_max: members(broker.group_max_size),
        consumer_members_count_max: members(broker.group_consumer_max_size),
        offset_metadata_max: usize::try_from(broker.offset_metadata_max_bytes).unwrap_or(0),
        offsets_retention_ms: i64::from(broker.offsets_retention_minutes) * MINUTE_MS,
        offsets_check_interval_ms: broker.offsets_retention_check_interval_ms,
        consumer_session_timeout_ms: broker.group_consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms: broker.group_consumer_heartbeat_interval_ms,
        consumer_regex_refresh_ms: broker.group_consumer_regex_refresh_interval_ms.into(),
        consumer_migration: match broker.group_consumer_migration_policy.to_lowercase().as_str() {
            "disabled" => MigrationPolicy::Disabled,
            "upgrade" => MigrationPolicy::Upgrade,
            "downgrade" => MigrationPolicy::Downgrade,
            _ => MigrationPolicy::Bidirectional,
        },
    }
}

#[cfg(test)]
mod tests;
