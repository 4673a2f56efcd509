//! A consumer that is a member of a group: which partitions it reads is the group's choice.
//!
//! Speaks the protocol of KIP-848 where the broker has it, the classic one otherwise. Heartbeats
//! are tasks of their own, one at a time; their answers are acted on in [`GroupConsumer::poll`],
//! which must be called again within the session's time for the member to stay one.
//! **Invariant:** what is committed was handed out and marked as done; a partition that the group
//! takes away is committed before another member may have it.

use super::cluster::{Cluster, RETRY_PAUSE};
use super::connection::Connection;
use super::consumer::{Consumer, ConsumerConfig, PartitionRecords, Start, TopicPart};
use super::error::ClientError;
use super::groups::is_elsewhere;
use super::membership::{
    Beat, Identity, classic_beat, classic_leave, consumer_beat, consumer_leave,
};
use crate::base::ids::{Offset, TopicId};
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

mod joining;
mod offsets;

/// Between heartbeats of the classic protocol, and of the other until the broker has said.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Longest that a join may take: other members may ask for this much time to join again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(360);
/// Longest wait where there is nothing to read: the assignment may change meanwhile.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// Epoch of a member of the consumer protocol that is about to join.
const EPOCH_JOIN: i32 = 0;
/// How often the last commit and the goodbye are tried.
const FINAL_ATTEMPTS: u32 = 5;

/// Which protocol a group speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// Members agree among each other (JoinGroup, SyncGroup).
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

/// How a member of a group behaves.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    pub group: String,
    pub topics: Vec<String>,
    /// A name that outlives this process, so that its partitions wait for it (KIP-345).
    pub instance_id: Option<String>,
    /// `None`: the newest that the broker and the group take.
    pub protocol: Option<GroupProtocol>,
    /// Of the classic protocol `range` or `cooperative-sticky`; of the other what the broker has.
    pub assignor: Option<String>,
    /// Where partitions begin that the group has no offset in.
    pub start: Start,
    /// Time between commits while records are read.
    pub commit_interval: Duration,
    /// Time without a heartbeat after which the group gives the member up; classic protocol.
    pub session_timeout: Duration,
    /// Time that the member may take to let go of partitions.
    pub rebalance_timeout: Duration,
}

/// A member of a group with the partitions that it was given.
pub struct GroupConsumer {
    cluster: Cluster,
    config: GroupConfig,
    consumer: Consumer,
    protocol: GroupProtocol,
    connection: Option<Connection>, // its own: a join may keep others waiting behind it
    identity: Identity,
    is_joined: bool, // classic: in a generation that is not over
    is_joining: bool,
    is_told: bool, // consumer: the broker knows what is owned
    interval: Duration,
    beat_at: Duration,
    is_beating: bool,
    inbox: Rc<RefCell<Option<Result<Beat, ClientError>>>>,
    failing_since: Option<Duration>,
    commit_at: Duration,
    done: BTreeMap<TopicPart, Offset>, // of owned partitions, what to commit
    committed: BTreeMap<TopicPart, Offset>, // of owned partitions, what the group has
    owned: BTreeSet<TopicPart>,
}

impl GroupConsumer {
    /// A member to be; it joins in the first [`GroupConsumer::poll`].
    ///
    /// # Errors
    /// A topic does not exist, or no broker can be reached.
    pub async fn new(cluster: &Cluster, config: GroupConfig) -> Result<GroupConsumer, ClientError> {
        for topic in &config.topics {
            cluster.topic(topic, false).await?;
        }
        let has_consumer = cluster.any().await?.version_of(ApiKey::ConsumerGroupHeartbeat).is_ok();
        let newest = match has_consumer {
            true => GroupProtocol::Consumer,
            false => GroupProtocol::Classic,
        };
        let protocol = config.protocol.unwrap_or(newest);
        let now = cluster.now();
        let identity = Identity {
            group: config.group.clone(),
            instance_id: config.instance_id.clone(),
            member_id: String::new(),
            epoch: -1,
        };
        let mut member = GroupConsumer {
            cluster: cluster.clone(),
            consumer: Consumer::new(cluster, ConsumerConfig::default()),
            protocol,
            connection: None,
            identity,
            is_joined: false,
            is_joining: false,
            is_told: false,
            interval: HEARTBEAT_INTERVAL,
            beat_at: now,
            is_beating: false,
            inbox: Rc::default(),
            failing_since: None,
            commit_at: now + config.commit_interval,
            done: BTreeMap::new(),
            committed: BTreeMap::new(),
            owned: BTreeSet::new(),
            config,
        };
        member.use_protocol(protocol);
        Ok(member)
    }

    /// What it reads now, each with the offset that is next to be asked for.
    pub fn positions(&self) -> Vec<(TopicPart, Offset)> {
        self.consumer.positions()
    }

    /// Whether records have come in that were not handed out.
    pub fn has_ready(&self) -> bool {
        self.consumer.has_ready()
    }

    /// Whether it is a member now.
    pub fn is_member(&self) -> bool {
        match self.protocol {
            GroupProtocol::Classic => self.is_joined,
            GroupProtocol::Consumer => self.identity.epoch > EPOCH_JOIN,
        }
    }

    /// The protocol that it speaks.
    pub fn protocol(&self) -> GroupProtocol {
        self.protocol
    }

    /// The next records of any partition that it was given; `None` where none came for a while.
    ///
    /// Here the member joins, follows the group's rebalances, and commits from time to time what
    /// was marked with [`GroupConsumer::mark`].
    ///
    /// # Errors
    /// The group refuses this member, another one took its instance id, a topic cannot be read,
    /// or the coordinator has been away for longer than the session.
    pub async fn poll(&mut self) -> Result<Option<PartitionRecords>, ClientError> {
        self.tend().await?;
        if self.consumer.positions().is_empty() && !self.consumer.has_ready() {
            self.cluster.io().sleep(IDLE_PAUSE).await;
            return Ok(None);
        }
        self.consumer.poll().await
    }

    /// Says that everything before `next` is done: the next commit tells the group.
    pub fn mark(&mut self, topic: &Rc<str>, partition: i32, next: Offset) {
        let key = (Rc::clone(topic), partition);
        if self.owned.contains(&key) {
            self.done.insert(key, next);
        }
    }

    /// Commits what was marked, and leaves the group, so that others take over at once.
    ///
    /// # Errors
    /// The commit failed for good; the group was left all the same.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        let mut outcome = Ok(true);
        for _ in 0..FINAL_ATTEMPTS {
            outcome = self.commit().await;
            if !matches!(outcome, Ok(false)) {
                break;
            }
            self.cluster.io().sleep(RETRY_PAUSE).await;
        }
        if self.is_joining {
            self.connection = None; // a join that is still on its way keeps that one busy
        }
        if self.is_member() || (self.is_joining && !self.identity.member_id.is_empty()) {
            let connection = self.coordinator().await?;
            let left = match self.protocol {
                GroupProtocol::Classic => classic_leave(&connection, &self.identity).await,
                GroupProtocol::Consumer => consumer_leave(&connection, &self.identity).await,
            };
            if let Err(error) = left {
                tracing::debug!(%error, "leaving the group"); // it ends with the session anyway
            }
        }
        match outcome? {
            true => Ok(()),
            false => Err(ClientError::Refused {
                what: format!("committing for group {}", self.config.group),
                code: ErrorCode::RebalanceInProgress,
                message: None,
            }),
        }
    }

    fn use_protocol(&mut self, protocol: GroupProtocol) {
        self.protocol = protocol;
        (self.identity.member_id, self.identity.epoch) = match protocol {
            GroupProtocol::Classic => (String::new(), -1),
            GroupProtocol::Consumer => (Uuid::new_v4().to_string(), EPOCH_JOIN),
        };
    }

    /// Acts on what the group said, and does what is due.
    async fn tend(&mut self) -> Result<(), ClientError> {
        let arrived = self.inbox.borrow_mut().take();
        if let Some(outcome) = arrived {
            self.is_beating = false;
            match outcome {
                Ok(beat) => self.take_beat(beat).await?,
                Err(error) => self.tolerate(error)?,
            }
        }
        if self.protocol == GroupProtocol::Classic && !self.is_joined && !self.is_beating {
            self.join().await?;
        }
        let now = self.cluster.now();
        if now >= self.beat_at && !self.is_beating {
            self.send_beat().await?;
        }
        if now >= self.commit_at {
            self.commit_at = now + self.config.commit_interval;
            self.commit().await?;
        }
        Ok(())
    }

    /// A connection to the coordinator, its own.
    async fn coordinator(&mut self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connection.as_ref().filter(|one| !one.is_closed()) {
            return Ok(connection.clone());
        }
        let id = self.cluster.coordinator_id(&self.config.group).await?;
        let connection = self.cluster.open_broker(id, JOIN_TIMEOUT).await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Lets a failure of the coordinator pass that may end by itself, within the session's time.
    fn tolerate(&mut self, error: ClientError) -> Result<(), ClientError> {
        let now = self.cluster.now();
        let since = *self.failing_since.get_or_insert(now);
        if !error.is_retriable() || now >= since + self.config.session_timeout {
            return Err(error);
        }
        tracing::debug!(%error, "asking the coordinator again");
        self.connection = None;
        self.beat_at = now + RETRY_PAUSE;
        Ok(())
    }

    /// Sends a heartbeat, whose answer comes to the inbox.
    async fn send_beat(&mut self) -> Result<(), ClientError> {
        let connection = match self.coordinator().await {
            Ok(connection) => connection,
            Err(error) => return self.tolerate(error),
        };
        let owned = match self.protocol {
            GroupProtocol::Classic => Vec::new(),
            GroupProtocol::Consumer => self.owned_by_id().await?,
        };
        self.is_told = true;
        self.is_beating = true;
        self.beat_at = self.cluster.now() + self.interval;
        let (protocol, identity) = (self.protocol, self.identity.clone());
        let (config, inbox) = (self.config.clone(), Rc::downgrade(&self.inbox));
        let io = self.cluster.io().clone();
        self.cluster.io().spawn(async move {
            let beat = async {
                match protocol {
                    GroupProtocol::Classic => classic_beat(&connection, &identity).await,
                    GroupProtocol::Consumer => {
                        consumer_beat(&connection, &identity, &config, &owned).await
                    }
                }
            };
            let limit = config.session_timeout / 3;
            let address = connection.address().to_owned();
            let outcome = io.timeout(limit, beat).await;
            let outcome = outcome.unwrap_or(Err(ClientError::Timeout { address, limit }));
            if let Some(inbox) = inbox.upgrade() {
                *inbox.borrow_mut() = Some(outcome);
            }
        });
        Ok(())
    }

    /// What it owns, by topic id.
    async fn owned_by_id(&self) -> Result<Vec<(TopicId, Vec<i32>)>, ClientError> {
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &self.owned {
            by_topic.entry(topic).or_default().push(*partition);
        }
        let mut owned = Vec::with_capacity(by_topic.len());
        for (topic, partitions) in by_topic {
            owned.push((self.cluster.topic(topic, false).await?.id, partitions));
        }
        Ok(owned)
    }

    /// Acts on a heartbeat's answer.
    async fn take_beat(&mut self, beat: Beat) -> Result<(), ClientError> {
        if is_elsewhere(beat.code) {
            return self.tolerate(beat.refusal(&self.config.group));
        }
        self.failing_since = None;
        match (beat.code, self.protocol) {
            (ErrorCode::None, GroupProtocol::Classic) => {}
            (ErrorCode::None, GroupProtocol::Consumer) => {
                self.identity.epoch = beat.epoch;
                self.interval = beat.interval;
                if let Some(assigned) = beat.assigned {
                    let target = self.named(assigned).await?;
                    self.reconcile(target).await?;
                }
                let now = self.cluster.now();
                self.beat_at = if self.is_told { now + self.interval } else { now };
            }
            (ErrorCode::RebalanceInProgress, GroupProtocol::Classic) => self.is_joined = false,
            (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration, GroupProtocol::Classic) => {
                self.lose_all();
                self.use_protocol(GroupProtocol::Classic);
                self.is_joined = false;
            }
            (
                ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch,
                GroupProtocol::Consumer,
            ) => {
                self.lose_all();
                self.identity.epoch = EPOCH_JOIN;
                self.beat_at = self.cluster.now();
            }
            (
                ErrorCode::UnsupportedVersion
                | ErrorCode::GroupIdNotFound
                | ErrorCode::InconsistentGroupProtocol,
                GroupProtocol::Consumer,
            ) if self.identity.epoch == EPOCH_JOIN && self.config.protocol.is_none() => {
                self.use_protocol(GroupProtocol::Classic); // the cluster or the group is an old one
            }
            _ => return Err(beat.refusal(&self.config.group)),
        }
        Ok(())
    }

    /// An assignment with names for ids. What is not known yet (a topic that has just been made
    /// again) is left out: the broker goes on telling it.
    async fn named(
        &self,
        assigned: Vec<(TopicId, Vec<i32>)>,
    ) -> Result<BTreeSet<TopicPart>, ClientError> {
        let mut target = BTreeSet::new();
        for (id, partitions) in assigned {
            let mut name = None;
            for topic in &self.config.topics {
                let mut found = self.cluster.topic(topic, false).await?;
                if found.id != id {
                    found = self.cluster.refresh_topic(topic, false).await?;
                }
                if found.id == id {
                    name = Some(Rc::<str>::from(topic.as_str()));
                    break;
                }
            }
            let Some(name) = name else { continue };
            target.extend(partitions.into_iter().map(|index| (Rc::clone(&name), index)));
        }
        Ok(target)
    }

    /// Lets go of what is not in `target`, after a commit, and begins with what is new there.
    async fn reconcile(&mut self, target: BTreeSet<TopicPart>) -> Result<(), ClientError> {
        let revoked: Vec<TopicPart> = self.owned.difference(&target).cloned().collect();
        let added: Vec<TopicPart> = target.difference(&self.owned).cloned().collect();
        if revoked.is_empty() && added.is_empty() {
            return Ok(());
        }
        if !revoked.is_empty() {
            self.commit().await?;
            self.drop_partitions(&revoked);
        }
        let committed = self.fetch_committed(&added).await?;
        for key in added {
            match committed.get(&key) {
                Some(offset) => {
                    self.committed.insert(key.clone(), *offset);
                    self.consumer.assign_at(&key, *offset, self.config.start);
                }
                None => self.consumer.assign(&key.0, &[key.1], self.config.start).await?,
            }
            self.owned.insert(key);
        }
        // Where it begins without an offset of the group's is committed, too: who takes over
        // before the first record must not begin at a later "latest".
        for (key, position) in self.consumer.positions() {
            if !self.committed.contains_key(&key) {
                self.done.entry(key).or_insert(position);
            }
        }
        self.is_told = false;
        Ok(())
    }

    fn drop_partitions(&mut self, partitions: &[TopicPart]) {
        for key in partitions {
            self.consumer.drop_partition(&key.0, key.1);
            self.owned.remove(key);
            self.done.remove(key);
            self.committed.remove(key);
        }
    }

    /// The group goes on without this member: what it read may be read by others already.
    fn lose_all(&mut self) {
        let all: Vec<TopicPart> = self.owned.iter().cloned().collect();
        self.drop_partitions(&all);
        self.is_told = false;
    }
}
