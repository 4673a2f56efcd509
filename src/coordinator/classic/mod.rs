//! A group of the classic protocol: its members choose a leader, the leader assigns.
//!
//! Members join, the group completes a generation, the leader sends everybody's assignment with its
//! SyncGroup. A join waits until all known members have joined or the rebalance timeout is up; a
//! sync waits for the leader's. The broker never looks into an assignment.
//! **Invariant:** `generation` never falls; a member that waits is a member, and waits for one
//! answer at most.

mod join;
mod rebalance;
mod sync;
#[cfg(test)]
mod tests;

use super::records::{self, GroupMetadataValue, MemberMetadata, Record};
use super::replies::{DescribedMember, JoinReply, JoinedMember, Reply, SyncReply};
use super::subscription;
use super::{ReplyId, Turn};
use crate::protocol::error::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The protocol type of consumers, whose metadata the broker can read.
pub(super) const CONSUMER: &str = "consumer";

/// How long a new member may wait for its first answer before it is taken for gone: Kafka's.
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// Kafka's states of a group; a dead one is dropped here and has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A way to assign that a member supports, with what it tells the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: String,
    pub(super) metadata: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Vec<Protocol>, // in the member's order of preference
    pub(super) assignment: Vec<u8>,
    pub(super) waiting_join: Option<ReplyId>,
    pub(super) waiting_sync: Option<ReplyId>,
    pub(super) session_deadline_ms: i64,
    pub(super) is_new: bool, // has never been answered
    pub(super) joined: u64,  // rank among the members by when they came
}

impl Member {
    /// The metadata under `protocol`; empty if it does not support it.
    fn metadata(&self, protocol: Option<&str>) -> &[u8] {
        let found = self.protocols.iter().find(|offered| Some(offered.name.as_str()) == protocol);
        found.map_or(&[], |offered| &offered.metadata)
    }

    pub(super) fn protocols_bytes(&self) -> usize {
        protocols_bytes(&self.protocols)
    }

    /// Waiting counts as a sign of life, except for a new member's first join.
    fn session_runs(&self) -> bool {
        self.is_new || (self.waiting_join.is_none() && self.waiting_sync.is_none())
    }
}

pub(super) fn protocols_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

/// The phase in which members join.
#[derive(Debug, Clone, Copy)]
struct JoinPhase {
    deadline_ms: i64,
    /// Of a group that was empty: waits a while for more members, even if all known have joined.
    initial: Option<InitialDelay>,
}

#[derive(Debug, Clone, Copy)]
struct InitialDelay {
    remaining_ms: i64,
    new_member: bool, // one came since the delay began: wait once more
}

#[derive(Debug)]
pub(super) struct Classic {
    pub(super) id: Arc<str>,
    pub(super) state: State,
    pub(super) state_since_ms: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    pub(super) static_members: BTreeMap<String, String>, // instance id to member id
    pending: BTreeMap<String, i64>,                      // ids given out, and when they lapse
    pending_sync: BTreeSet<String>,
    joins: Option<JoinPhase>,
    sync_deadline_ms: i64,
    waiting_joins_count: usize,
    joined_count: u64,
    members_bytes: usize,
    subscribed: Option<BTreeSet<String>>, // topics, where all members' metadata can be read
    /// A record of it is in the log, so that deleting it takes a tombstone.
    pub(super) recorded: bool,
    /// No later than the first moment at which time changes this group.
    pub(super) soonest_ms: i64,
}

impl Classic {
    pub(super) fn new(id: Arc<str>, unix_ms: i64) -> Classic {
        Classic {
            id,
            state: State::Empty,
            state_since_ms: unix_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            joins: None,
            sync_deadline_ms: i64::MAX,
            waiting_joins_count: 0,
            joined_count: 0,
            members_bytes: 0,
            subscribed: None,
            recorded: false,
            soonest_ms: i64::MAX,
        }
    }

    /// From the group's record; its members are given time to show themselves by `resume`.
    pub(super) fn from_record(id: Arc<str>, value: &GroupMetadataValue<'_>) -> Classic {
        let mut group = Classic::new(id, value.current_state_timestamp);
        group.recorded = true;
        group.generation = value.generation;
        group.protocol_type = text(value.protocol_type);
        group.protocol = value.protocol.map(str::to_owned);
        group.leader = value.leader.map(str::to_owned);
        for member in &value.members {
            // Version 0 had no rebalance timeout: the session's stands for it.
            let rebalance_timeout_ms = match member.rebalance_timeout {
                ..=0 => member.session_timeout,
                own => own,
            };
            let name = value.protocol.unwrap_or_default().to_owned();
            group.insert(Member {
                id: member.member_id.to_owned(),
                instance_id: member.group_instance_id.map(str::to_owned),
                client_id: member.client_id.to_owned(),
                client_host: member.client_host.to_owned(),
                rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout,
                protocols: vec![Protocol { name, metadata: member.subscription.to_vec() }],
                assignment: member.assignment.to_vec(),
                waiting_join: None,
                waiting_sync: None,
                session_deadline_ms: i64::MAX,
                is_new: false,
                joined: 0,
            });
        }
        group.leader = value.leader.map(str::to_owned);
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group.read_subscriptions();
        group
    }

    /// From members that another protocol's group leaves behind, with what they own; rebalances at
    /// once.
    pub(super) fn from_members(
        id: Arc<str>,
        generation: i32,
        members: Vec<Member>,
        turn: &mut Turn<'_>,
    ) -> Classic {
        assert!(!members.is_empty(), "a group without members stays what it is");
        let mut group = Classic::new(id, turn.now.unix_ms);
        group.generation = generation;
        group.protocol_type = Some(CONSUMER.to_owned());
        for member in members {
            let member_id = member.id.clone();
            group.insert(member);
            group.touch(&member_id, turn.now.steady_ms);
        }
        group.protocol = group.choose_protocol();
        group.state = State::Stable;
        group.read_subscriptions();
        group.append_record(turn);
        group.prepare_rebalance(turn);
        group.check();
        group
    }

    /// Tells everyone who waits to join again.
    pub(super) fn send_away(&mut self, turn: &mut Turn<'_>) {
        let error = ErrorCode::RebalanceInProgress;
        let mut members = std::mem::take(&mut self.members);
        for member in members.values_mut() {
            let reply = JoinReply::failed(&member.id, error);
            self.answer_join(member, reply, turn);
            answer_sync(member, SyncReply::failed(error), turn);
        }
        self.members = members;
    }

    /// Starts the sessions of members that were loaded.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.touch(&id, turn.now.steady_ms);
        }
        if self.members.len() > turn.settings.members_count_max {
            self.prepare_rebalance(turn); // as Kafka: lets members commit and some stay out
        }
        self.check();
    }

    /// A group without members and without a protocol: made by a commit from outside of groups.
    pub(super) fn is_simple(&self) -> bool {
        self.protocol_type.is_none() && self.state == State::Empty
    }

    /// Nothing would be lost with it: no member, none awaited, no record.
    pub(super) fn is_nothing(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty() && !self.recorded
    }

    /// Ids were given out with which somebody may still join.
    pub(super) fn awaits_members(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    /// Whether the topics that the members subscribe to are known.
    pub(super) fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    /// What DescribeGroups shows of the members: metadata and assignments only when settled.
    pub(super) fn described(&self) -> Vec<DescribedMember> {
        let settled = self.state == State::Stable;
        let protocol = self.protocol.as_deref();
        let describe = |member: &Member| DescribedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if settled { member.metadata(protocol).to_vec() } else { Vec::new() },
            assignment: if settled { member.assignment.clone() } else { Vec::new() },
        };
        self.members.values().map(describe).collect()
    }

    /// The group's record as it is now, with what the members are assigned.
    pub(super) fn record(&self) -> Record {
        let protocol = self.protocol.as_deref();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: &member.id,
            group_instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: &member.assignment,
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default(),
            generation: self.generation,
            protocol,
            leader: self.leader.as_deref(),
            current_state_timestamp: self.state_since_ms,
            members: members.collect(),
        };
        records::group(&self.id, Some(&value))
    }

    fn append_record(&mut self, turn: &mut Turn<'_>) {
        self.recorded = true;
        turn.effects.records.push(self.record());
    }

    /// The tombstone of its record.
    pub(super) fn erase(&mut self, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.recorded) {
            turn.effects.records.push(records::group(&self.id, None));
        }
    }

    /// Checks that `member_id` speaks for a member, by its instance id if it has one (KIP-345).
    ///
    /// # Errors
    /// Kafka's code: unknown, or fenced by another member with that instance id.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether the group may go on with members that offer `names`: one protocol must be common.
    pub(super) fn supports(&self, protocol_type: &str, names: &[&str]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !names.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.iter().any(|name| self.members.values().all(|member| offers(member, name)))
    }

    /// The protocol that most members prefer among those that all support; of equals the first by
    /// name, so that the choice can be replayed.
    fn choose_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let common: BTreeSet<&str> = first
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .filter(|name| self.members.values().all(|member| offers(member, name)))
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|protocol| protocol.name.as_str());
            if let Some(vote) = names.find(|name| common.contains(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.iter().find(|(_, count)| **count == most).map(|(name, _)| (*name).to_owned())
    }

    fn read_subscriptions(&mut self) {
        self.subscribed = None;
        if !self.uses_consumer_protocol() {
            return;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let Some(names) = subscription::topics(member.metadata(self.protocol.as_deref()))
            else {
                return;
            };
            topics.extend(names);
        }
        self.subscribed = Some(topics);
    }

    // ---- members --------------------------------------------------------------------------

    fn insert(&mut self, mut member: Member) {
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.joined_count += 1;
        member.joined = self.joined_count;
        self.waiting_joins_count += usize::from(member.waiting_join.is_some());
        self.members_bytes += member.protocols_bytes();
        let before = self.members.insert(member.id.clone(), member);
        assert!(before.is_none(), "ids are new when they are inserted");
    }

    /// Takes a member out; whatever it waits for is answered with `error`.
    pub(super) fn remove(&mut self, member_id: &str, error: ErrorCode, turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        self.members_bytes -= member.protocols_bytes();
        self.answer_join(&mut member, JoinReply::failed(member_id, error), turn);
        answer_sync(&mut member, SyncReply::failed(error), turn);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.pending_sync.remove(member_id);
        if self.leader.as_deref() == Some(member_id) {
            let oldest = self.members.values().min_by_key(|member| member.joined);
            self.leader = oldest.map(|member| member.id.clone());
        }
    }

    fn answer_join(&mut self, member: &mut Member, reply: JoinReply, turn: &mut Turn<'_>) {
        if let Some(waiting) = member.waiting_join.take() {
            self.waiting_joins_count -= 1;
            turn.effects.replies.push((waiting, Reply::JoinGroup(reply)));
        }
    }

    /// A sign of life: the session begins anew.
    pub(super) fn touch(&mut self, member_id: &str, now_ms: i64) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.session_deadline_ms = now_ms + i64::from(member.session_timeout_ms);
        self.soonest_ms = self.soonest_ms.min(member.session_deadline_ms);
    }

    /// As JoinGroup lists them to the leader.
    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref();
        let listed = |member: &Member| JoinedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol).to_vec(),
        };
        self.members.values().map(listed).collect()
    }

    /// The answer to a member's join in this generation: the leader gets everybody's metadata.
    fn join_reply(&self, member_id: &str) -> JoinReply {
        let leads = self.leader.as_deref() == Some(member_id);
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if leads { self.joined_members() } else { Vec::new() },
        }
    }

    fn sync_reply(&self, assignment: &[u8]) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: assignment.to_vec(),
        }
    }

    fn enter(&mut self, state: State, unix_ms: i64) {
        self.state = state;
        self.state_since_ms = unix_ms;
    }

    /// Ends every verb. Walks are debug only.
    fn check(&self) {
        assert!(self.generation >= 0);
        assert_eq!(self.joins.is_some(), self.state == State::PreparingRebalance);
        assert!(self.state != State::Empty || self.members.is_empty());
        assert!(self.members.is_empty() || self.leader.is_some());
        debug_assert_eq!(
            self.waiting_joins_count,
            self.members.values().filter(|member| member.waiting_join.is_some()).count()
        );
        debug_assert_eq!(
            self.members_bytes,
            self.members.values().map(Member::protocols_bytes).sum::<usize>()
        );
        debug_assert!(self.static_members.values().all(|id| self.members.contains_key(id)));
    }
}

fn answer_sync(member: &mut Member, reply: SyncReply, turn: &mut Turn<'_>) {
    if let Some(waiting) = member.waiting_sync.take() {
        turn.effects.replies.push((waiting, Reply::SyncGroup(reply)));
    }
}

fn offers(member: &Member, name: &str) -> bool {
    member.protocols.iter().any(|protocol| protocol.name == name)
}

/// Null where a record's text is empty.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
