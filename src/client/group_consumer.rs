//! A consumer that is a member of a group: which partitions it reads is the group's choice.
//!
//! Speaks the protocol of KIP-848 where the broker has it, the classic one otherwise. Heartbeats
//! are tasks of their own, one at a time; their answers are acted on in [`GroupConsumer::poll`],
//! which must be called again within the session's time for the member to stay one.
//! **Invariant:** what is committed was handed out and marked as done; a partition that the group
//! takes away is committed before another member may have it.

use super::assignor::{self, COOPERATIVE_STICKY, Candidate, RANGE};
use super::cluster::{Cluster, RETRY_PAUSE};
use super::connection::Connection;
use super::consumer::{Consumer, ConsumerConfig, PartitionRecords, Start, TopicPart};
use super::error::ClientError;
use super::groups::{
    CommittedOffset, OFFSETS_VERSION_MAX, commit_topics, committed_of, is_elsewhere,
    offset_commit_code, offset_fetch_code,
};
use super::membership::{
    Beat, Identity, Joined, classic_beat, classic_join, classic_leave, classic_sync, consumer_beat,
    consumer_leave,
};
use super::request::Response;
use crate::base::ids::{Offset, TopicId};
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_commit::OffsetCommitRequest;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use crate::protocol::subscription;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

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

    /// The group's offsets in `partitions`, where it has any.
    async fn fetch_committed(
        &mut self,
        partitions: &[TopicPart],
    ) -> Result<BTreeMap<TopicPart, Offset>, ClientError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            by_topic.entry(topic).or_default().push(*partition);
        }
        let new = by_topic.iter().map(|(name, indexes)| OffsetFetchRequestTopics {
            name,
            partition_indexes: indexes.clone(),
            ..OffsetFetchRequestTopics::default()
        });
        let old = by_topic.iter().map(|(name, indexes)| OffsetFetchRequestTopic {
            name,
            partition_indexes: indexes.clone(),
        });
        let group_id = self.config.group.clone();
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: &group_id,
                topics: Some(new.collect()),
                ..OffsetFetchRequestGroup::default()
            }],
            group_id: &group_id,
            topics: Some(old.collect()),
            require_stable: true,
        };
        let deadline = self.cluster.now() + self.cluster.time_limit();
        loop {
            let response = match self.ask_offsets(&request).await {
                Err(error) if error.is_retriable() && self.cluster.now() < deadline => {
                    self.connection = None;
                    self.cluster.io().sleep(RETRY_PAUSE).await;
                    continue;
                }
                outcome => outcome?,
            };
            let body = response.body()?;
            let code = offset_fetch_code(&body);
            let is_passing = is_elsewhere(code) || code == ErrorCode::UnstableOffsetCommit;
            if is_passing && self.cluster.now() < deadline {
                self.connection = None;
                self.cluster.io().sleep(RETRY_PAUSE).await;
                continue;
            }
            ClientError::check(code, None, || format!("offsets of group {group_id}"))?;
            let found = committed_of(&body).into_iter();
            let found = found.map(|one| ((Rc::from(one.topic), one.partition), one.offset));
            return Ok(found.collect());
        }
    }

    async fn ask_offsets<'a>(
        &mut self,
        request: &OffsetFetchRequest<'a>,
    ) -> Result<Response<OffsetFetchRequest<'a>>, ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version_of(ApiKey::OffsetFetch)?.min(OFFSETS_VERSION_MAX);
        connection.call_version(request, version, &[]).await
    }

    /// Commits what was marked and is not committed; false: the group is busy, try again later.
    ///
    /// # Errors
    /// A refusal that no later commit would escape.
    pub async fn commit(&mut self) -> Result<bool, ClientError> {
        let is_new =
            |(key, offset): &(&TopicPart, &Offset)| self.committed.get(*key) != Some(*offset);
        let new: Vec<(TopicPart, Offset)> =
            self.done.iter().filter(is_new).map(|(key, offset)| (key.clone(), *offset)).collect();
        if new.is_empty() {
            return Ok(true);
        }
        let offsets: Vec<CommittedOffset> = new
            .iter()
            .map(|((topic, partition), offset)| CommittedOffset {
                topic: topic.to_string(),
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: None,
            })
            .collect();
        let connection = match self.coordinator().await {
            Ok(connection) => connection,
            Err(error) => return self.tolerate(error).map(|()| false),
        };
        let identity = self.identity.clone();
        let request = OffsetCommitRequest {
            group_id: &identity.group,
            generation_id_or_member_epoch: identity.epoch,
            member_id: &identity.member_id,
            group_instance_id: identity.instance_id.as_deref(),
            topics: commit_topics(&offsets),
            ..OffsetCommitRequest::default()
        };
        let version = connection.version_of(ApiKey::OffsetCommit)?.min(OFFSETS_VERSION_MAX);
        let code = match connection.call_version(&request, version, &[]).await {
            Ok(response) => response.body().map(|body| offset_commit_code(&body))?,
            Err(error) => return self.tolerate(error).map(|()| false),
        };
        match code {
            ErrorCode::None => {
                self.committed.extend(new);
                Ok(true)
            }
            ErrorCode::RebalanceInProgress | ErrorCode::StaleMemberEpoch => Ok(false),
            // The next heartbeat says the same, and what follows from it.
            ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedMemberEpoch => Ok(true),
            code if is_elsewhere(code) || code.is_retriable() => {
                self.connection = None;
                Ok(false)
            }
            code => {
                let what = || format!("committing for group {}", self.config.group);
                ClientError::check(code, None, what).map(|()| true)
            }
        }
    }

    /// The classic protocol's assignors that it offers. With range among them it gives up all
    /// that it owns before it joins, since range does not know what others still own.
    fn assignors(&self) -> Vec<&'static str> {
        match self.config.assignor.as_deref() {
            Some(COOPERATIVE_STICKY) => vec![COOPERATIVE_STICKY],
            Some(RANGE) => vec![RANGE],
            _ => vec![RANGE, COOPERATIVE_STICKY],
        }
    }

    /// Joins a generation of the classic protocol, again until the group has agreed on one.
    async fn join(&mut self) -> Result<(), ClientError> {
        self.is_joining = true;
        let outcome = self.join_until_settled().await;
        self.is_joining = false;
        outcome
    }

    async fn join_until_settled(&mut self) -> Result<(), ClientError> {
        loop {
            self.commit().await?;
            let assignors = self.assignors();
            if assignors.contains(&RANGE) {
                self.lose_all();
            }
            let connection = match self.coordinator().await {
                Ok(connection) => connection,
                Err(error) => {
                    self.pause_after(error).await?;
                    continue;
                }
            };
            let owned: Vec<TopicPart> = self.owned.iter().cloned().collect();
            let joined =
                classic_join(&connection, &self.identity, &self.config, &assignors, &owned);
            let joined = match joined.await {
                Ok(joined) => joined,
                Err(error) => {
                    self.pause_after(error).await?;
                    continue;
                }
            };
            match self.take_join(&connection, joined).await {
                Ok(Some(target)) => {
                    let is_revoking = self.owned.difference(&target).next().is_some();
                    self.reconcile(target).await?;
                    if !is_revoking {
                        break;
                    }
                    // Others wait for what was let go: a second round gives it to them.
                }
                Ok(None) => self.cluster.io().sleep(RETRY_PAUSE).await,
                Err(error) => self.pause_after(error).await?,
            }
        }
        self.is_joined = true;
        self.failing_since = None;
        self.beat_at = self.cluster.now() + self.interval;
        Ok(())
    }

    async fn pause_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.tolerate(error)?;
        self.cluster.io().sleep(RETRY_PAUSE).await;
        Ok(())
    }

    /// What the group gives this member, once the leader has worked it out; `None`: join again.
    async fn take_join(
        &mut self,
        connection: &Connection,
        joined: Joined,
    ) -> Result<Option<BTreeSet<TopicPart>>, ClientError> {
        if !joined.member_id.is_empty() {
            self.identity.member_id.clone_from(&joined.member_id);
        }
        match joined.code {
            ErrorCode::None => self.identity.epoch = joined.generation,
            code => return self.take_join_refusal(code).map(|()| None),
        }
        let assignments = self.lead(&joined).await?;
        let (code, assignment) =
            classic_sync(connection, &self.identity, &joined, &assignments).await?;
        if code != ErrorCode::None {
            return self.take_join_refusal(code).map(|()| None);
        }
        if assignment.is_empty() {
            return Ok(Some(BTreeSet::new()));
        }
        let assignment =
            subscription::read_assignment(&assignment).map_err(|error| ClientError::Malformed {
                address: connection.address().to_owned(),
                reason: format!("the assignment of group {}: {error}", self.config.group),
            })?;
        let topics = assignment.assigned_partitions.into_iter();
        let target = topics.flat_map(|topic| {
            let name: Rc<str> = Rc::from(topic.topic);
            topic.partitions.into_iter().map(move |index| (Rc::clone(&name), index))
        });
        Ok(Some(target.collect()))
    }

    /// After a refused join or sync: whether to try again, and as whom.
    fn take_join_refusal(&mut self, code: ErrorCode) -> Result<(), ClientError> {
        match code {
            ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress => Ok(()),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.lose_all();
                self.use_protocol(GroupProtocol::Classic);
                Ok(())
            }
            code if is_elsewhere(code) => {
                self.connection = None;
                Ok(())
            }
            code => {
                let what = || format!("joining group {}", self.config.group);
                ClientError::check(code, None, what)
            }
        }
    }

    /// Everyone's assignment, where this member leads the generation; nothing otherwise.
    async fn lead(&self, joined: &Joined) -> Result<assignor::Plan, ClientError> {
        if !joined.is_leader {
            return Ok(assignor::Plan::new());
        }
        let topics: BTreeSet<&String> =
            joined.members.iter().flat_map(|member| &member.topics).collect();
        let mut counts = BTreeMap::new();
        for topic in topics {
            match self.cluster.refresh_topic(topic, false).await {
                Ok(found) => drop(counts.insert(topic.clone(), found.partitions.len() as i32)),
                Err(ClientError::Refused { .. }) => {} // nobody reads what is not there
                Err(error) => return Err(error),
            }
        }
        let members: &[Candidate] = &joined.members;
        Ok(match joined.assignor.as_str() {
            COOPERATIVE_STICKY => assignor::cooperative_sticky(members, &counts),
            _ => assignor::range(members, &counts),
        })
    }
}
