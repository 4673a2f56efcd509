//! A group of the consumer protocol of KIP-848: the broker assigns, members follow in heartbeats.
//!
//! The group's epoch grows with every change of its members, subscriptions or topics. A target
//! assignment is computed for the epoch, and each member is led to its part of it: first it gives
//! up what it loses, then it takes the new epoch, then it gets what others have given up.
//! **Invariant:** a partition is owned, or still to be given up, by one member at most, at every
//! instant; epochs never fall; the records that were appended are the state.

mod assign;
mod classic_member;
mod commit;
pub(super) mod heartbeat;
mod migrate;
mod reconcile;
mod target;
#[cfg(test)]
mod tests;

use super::Turn;
use super::records::{
    self, ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataValue, CurrentPartitions, TargetPartitions,
};
use super::replies::{ConsumerDescribedGroup, ConsumerDescribedMember, Partitions, TopicReply};
use super::topics::TopicsView;
use crate::base::ids::TopicId;
use crate::protocol::error::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The epoch with which a static member leaves for a while.
const LEFT_FOR_A_WHILE: i32 = -2;

/// Partitions with the epoch in which their owner got each (KIP-1251).
type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// Kafka's code for a refusal and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ErrorCode,
    pub(super) message: String,
}

pub(super) fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { error, message: message.into() })
}

/// How far a member is from its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Stable,
    /// It must give partitions up first.
    UnrevokedPartitions,
    /// It waits for partitions that others give up.
    UnreleasedPartitions,
    /// Written by a newer broker: it starts again.
    Unknown(i8),
}

impl MemberState {
    fn number(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown(number) => number,
        }
    }

    fn from_number(number: i8) -> MemberState {
        match number {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            other => MemberState::Unknown(other),
        }
    }
}

/// What a member of the classic protocol brought.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClassicPart {
    session_timeout_ms: i32,
    protocols: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Clone)]
struct Member {
    id: String,
    instance_id: Option<String>,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    topics: BTreeSet<String>,
    regex: Option<String>, // never empty
    rebalance_timeout_ms: i32,
    assignor: Option<String>,
    classic: Option<ClassicPart>,
    epoch: i32,
    previous_epoch: i32,
    state: MemberState,
    assigned: Owned,
    revoking: Owned,
    session_deadline_ms: i64,
    rebalance_deadline_ms: i64, // to give up partitions, to rejoin or to sync; `i64::MAX`: none
}

impl Member {
    fn new(id: &str) -> Member {
        Member {
            id: id.to_owned(),
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            regex: None,
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
            session_deadline_ms: i64::MAX,
            rebalance_deadline_ms: i64::MAX,
        }
    }

    fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}

/// The topics that a regular expression matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolved {
    topics: BTreeSet<String>,
    version: i64, // of the topics it was resolved against; only this process's
    at_ms: i64,
}

#[derive(Debug)]
pub(super) struct Consumer {
    id: Arc<str>,
    pub(super) epoch: i32, // 0: nothing is recorded yet
    metadata_hash: i64,
    target_epoch: i32,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>, // instance id to member id
    targets: BTreeMap<String, Partitions>,
    owners: BTreeMap<(TopicId, i32), String>, // of what is assigned or still to be given up
    regexes: BTreeMap<String, Resolved>,
    topics_version: i64, // of the topics that the epoch stands for; -1: look again
    pub(super) soonest_ms: i64,
}

impl Consumer {
    pub(super) fn new(id: Arc<str>) -> Consumer {
        Consumer {
            id,
            epoch: 0,
            metadata_hash: 0,
            target_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            topics_version: -1,
            soonest_ms: i64::MAX,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Nothing of it is recorded.
    pub(super) fn is_nothing(&self) -> bool {
        self.members.is_empty() && self.epoch == 0
    }

    pub(super) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.target_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let matches = |regex: &String| {
                self.regexes.get(regex).is_some_and(|resolved| resolved.topics.contains(topic))
            };
            member.topics.contains(topic) || member.regex.as_ref().is_some_and(matches)
        })
    }

    /// As ConsumerGroupDescribe shows it.
    pub(super) fn described(&self, topics: &dyn TopicsView) -> ConsumerDescribedGroup {
        ConsumerDescribedGroup {
            error: ErrorCode::None,
            error_message: None,
            group_id: self.id.to_string(),
            state: self.state_name(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: self.preferred_assignor().to_owned(),
            members: self.members.values().map(|member| self.describe(member, topics)).collect(),
        }
    }

    fn describe(&self, member: &Member, topics: &dyn TopicsView) -> ConsumerDescribedMember {
        let target = self.targets.get(&member.id);
        ConsumerDescribedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: member.topics.iter().cloned().collect(),
            regex: member.regex.clone(),
            assignment: named(&without_epochs(&member.assigned), topics),
            target: target.map_or(Vec::new(), |target| named(target, topics)),
            member_type: i8::from(member.classic.is_none()),
        }
    }

    // ---- who owns what --------------------------------------------------------------------

    /// Takes `member_id`'s partitions out of the map of owners.
    fn disown(&mut self, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        for part in parts(&member.assigned).chain(parts(&member.revoking)) {
            if self.owners.get(&part).is_some_and(|owner| owner == member_id) {
                self.owners.remove(&part);
            }
        }
    }

    /// Puts `member_id`'s partitions into the map of owners.
    fn own(&mut self, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        for part in parts(&member.assigned).chain(parts(&member.revoking)) {
            let before = self.owners.insert(part, member_id.to_owned());
            assert!(before.is_none_or(|owner| owner == member_id), "{part:?} gets a second owner");
        }
    }

    /// Ends every verb: one owner a partition. Walks are debug only.
    fn check(&self) {
        assert!(self.target_epoch <= self.epoch);
        if cfg!(debug_assertions) {
            let mut owned_count = 0;
            for member in self.members.values() {
                for part in parts(&member.assigned).chain(parts(&member.revoking)) {
                    assert_eq!(self.owners.get(&part), Some(&member.id));
                    owned_count += 1;
                }
            }
            assert_eq!(owned_count, self.owners.len());
            assert!(self.targets.keys().all(|id| self.members.contains_key(id)));
        }
    }

    // ---- records --------------------------------------------------------------------------

    fn write_epoch(&self, turn: &mut Turn<'_>) {
        let value =
            ConsumerGroupMetadataValue { epoch: self.epoch, metadata_hash: self.metadata_hash };
        turn.effects.records.push(records::consumer_group(&self.id, Some(&value)));
    }

    fn write_member(&self, member: &Member, turn: &mut Turn<'_>) {
        let classic = member.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .protocols
                .iter()
                .map(|(name, metadata)| ClassicProtocol { name, metadata })
                .collect(),
        });
        let value = ConsumerGroupMemberMetadataValue {
            instance_id: member.instance_id.as_deref(),
            rack_id: member.rack_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            subscribed_topic_names: member.topics.iter().map(String::as_str).collect(),
            subscribed_topic_regex: Some(member.regex.as_deref().unwrap_or_default()),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            server_assignor: member.assignor.as_deref(),
            classic_member_metadata: classic,
        };
        turn.effects.records.push(records::consumer_member(&self.id, &member.id, Some(&value)));
    }

    fn write_current(&self, member: &Member, turn: &mut Turn<'_>) {
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: member.epoch,
            previous_member_epoch: member.previous_epoch,
            state: member.state.number(),
            assigned_partitions: current_partitions(&member.assigned),
            partitions_pending_revocation: current_partitions(&member.revoking),
        };
        turn.effects.records.push(records::current_member(&self.id, &member.id, Some(&value)));
    }

    fn write_target(&self, member_id: &str, target: &Partitions, turn: &mut Turn<'_>) {
        let topic_partitions = target.iter().map(|(&topic_id, partitions)| TargetPartitions {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        let value = ConsumerGroupTargetAssignmentMemberValue {
            topic_partitions: topic_partitions.collect(),
        };
        turn.effects.records.push(records::target_member(&self.id, member_id, Some(&value)));
    }

    fn write_target_epoch(&self, turn: &mut Turn<'_>) {
        let value = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: self.target_epoch,
            assignment_timestamp: turn.now.unix_ms,
        };
        turn.effects.records.push(records::target(&self.id, Some(&value)));
    }

    fn write_regex(&self, regex: &str, resolved: &Resolved, turn: &mut Turn<'_>) {
        let value = ConsumerGroupRegularExpressionValue {
            topics: resolved.topics.iter().map(String::as_str).collect(),
            version: resolved.version,
            timestamp: resolved.at_ms,
        };
        turn.effects.records.push(records::regular_expression(&self.id, regex, Some(&value)));
    }

    fn erase_member(&self, member_id: &str, turn: &mut Turn<'_>) {
        let records = &mut turn.effects.records;
        records.push(records::current_member(&self.id, member_id, None));
        records.push(records::target_member(&self.id, member_id, None));
        records.push(records::consumer_member(&self.id, member_id, None));
    }

    /// Tombstones for all of it.
    pub(super) fn erase(&self, turn: &mut Turn<'_>) {
        for member_id in self.members.keys() {
            self.erase_member(member_id, turn);
        }
        for regex in self.regexes.keys() {
            turn.effects.records.push(records::regular_expression(&self.id, regex, None));
        }
        if self.epoch > 0 {
            turn.effects.records.push(records::target(&self.id, None));
            turn.effects.records.push(records::consumer_group(&self.id, None));
        }
    }
}

// ---- loading ------------------------------------------------------------------------------

impl Consumer {
    pub(super) fn load_epoch(&mut self, value: &ConsumerGroupMetadataValue) {
        self.epoch = value.epoch;
        self.metadata_hash = value.metadata_hash;
    }

    pub(super) fn load_member(
        &mut self,
        member_id: &str,
        value: Option<&ConsumerGroupMemberMetadataValue<'_>>,
    ) {
        let Some(value) = value else {
            self.members.remove(member_id);
            return;
        };
        let member =
            self.members.entry(member_id.to_owned()).or_insert_with(|| Member::new(member_id));
        let own = |text: Option<&str>| text.map(str::to_owned);
        member.instance_id = own(value.instance_id);
        member.rack_id = own(value.rack_id);
        member.client_id = value.client_id.to_owned();
        member.client_host = value.client_host.to_owned();
        member.topics =
            value.subscribed_topic_names.iter().map(|name| (*name).to_owned()).collect();
        member.regex = own(value.subscribed_topic_regex).filter(|regex| !regex.is_empty());
        member.rebalance_timeout_ms = value.rebalance_timeout_ms;
        member.assignor = own(value.server_assignor);
        member.classic = value.classic_member_metadata.as_ref().map(|classic| ClassicPart {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic
                .supported_protocols
                .iter()
                .map(|protocol| (protocol.name.to_owned(), protocol.metadata.to_vec()))
                .collect(),
        });
    }

    pub(super) fn load_target_epoch(
        &mut self,
        value: Option<&ConsumerGroupTargetAssignmentMetadataValue>,
    ) {
        self.target_epoch = value.map_or(0, |value| value.assignment_epoch);
    }

    pub(super) fn load_target(
        &mut self,
        member_id: &str,
        value: Option<&ConsumerGroupTargetAssignmentMemberValue>,
    ) {
        let Some(value) = value else {
            self.targets.remove(member_id);
            return;
        };
        let topics = value.topic_partitions.iter();
        let target =
            topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()));
        self.targets.insert(member_id.to_owned(), target.collect());
    }

    /// Without its member, whose record may come later, an assignment makes one.
    pub(super) fn load_current(
        &mut self,
        member_id: &str,
        value: Option<&ConsumerGroupCurrentMemberAssignmentValue>,
    ) {
        let Some(value) = value else {
            if let Some(member) = self.members.get_mut(member_id) {
                member.epoch = 0;
                member.assigned.clear();
                member.revoking.clear();
            }
            return;
        };
        let member =
            self.members.entry(member_id.to_owned()).or_insert_with(|| Member::new(member_id));
        member.epoch = value.member_epoch;
        member.previous_epoch = value.previous_member_epoch;
        member.state = MemberState::from_number(value.state);
        member.assigned = owned_of(&value.assigned_partitions, value.member_epoch);
        member.revoking = owned_of(&value.partitions_pending_revocation, value.member_epoch);
    }

    pub(super) fn load_regex(
        &mut self,
        regex: &str,
        value: Option<&ConsumerGroupRegularExpressionValue<'_>>,
    ) {
        let Some(value) = value else {
            self.regexes.remove(regex);
            return;
        };
        let topics = value.topics.iter().map(|name| (*name).to_owned()).collect();
        let resolved = Resolved { topics, version: -1, at_ms: value.timestamp };
        self.regexes.insert(regex.to_owned(), resolved);
    }

    /// The log has ended: sessions begin. What contradicts itself, since somebody else wrote it,
    /// goes to the first that claims it.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        self.target_epoch = self.target_epoch.min(self.epoch);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        self.targets.retain(|id, _| self.members.contains_key(id));
        for id in &ids {
            let mut member = self.members.remove(id).expect("its id was just listed");
            for owned in [&mut member.assigned, &mut member.revoking] {
                owned.retain(|topic, partitions| {
                    partitions.retain(|partition, _| {
                        let first = !self.owners.contains_key(&(*topic, *partition));
                        if first {
                            self.owners.insert((*topic, *partition), id.clone());
                        }
                        first
                    });
                    !partitions.is_empty()
                });
            }
            if let Some(instance_id) = &member.instance_id {
                self.static_members.insert(instance_id.clone(), id.clone());
            }
            if member.state == MemberState::UnrevokedPartitions && member.classic.is_none() {
                let timeout_ms = i64::from(member.rebalance_timeout_ms.max(0));
                member.rebalance_deadline_ms = turn.now.steady_ms + timeout_ms;
                self.soonest_ms = self.soonest_ms.min(member.rebalance_deadline_ms);
            }
            self.members.insert(id.clone(), member);
            self.touch(id, turn);
        }
        self.check();
    }
}

fn parts(owned: &Owned) -> impl Iterator<Item = (TopicId, i32)> + '_ {
    owned.iter().flat_map(|(topic, partitions)| {
        partitions.keys().map(move |partition| (*topic, *partition))
    })
}

fn without_epochs(owned: &Owned) -> Partitions {
    let topics = owned.iter();
    topics.map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

fn current_partitions(owned: &Owned) -> Vec<CurrentPartitions> {
    let topics = owned.iter().map(|(&topic_id, partitions)| CurrentPartitions {
        topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    });
    topics.collect()
}

/// Before Kafka 4.3 the epochs were not written: the member's stands for them.
fn owned_of(topics: &[CurrentPartitions], member_epoch: i32) -> Owned {
    let one = |topic: &CurrentPartitions| {
        let epochs = topic.assignment_epochs.as_ref();
        let epochs = epochs.filter(|epochs| epochs.len() == topic.partitions.len());
        let partitions = topic.partitions.iter().enumerate();
        let with_epochs = partitions.map(|(index, &partition)| {
            (partition, epochs.map_or(member_epoch, |epochs| epochs[index]))
        });
        (topic.topic_id, with_epochs.collect())
    };
    topics.iter().map(one).collect()
}

/// Topics that still exist, with their names.
fn named(partitions: &Partitions, topics: &dyn TopicsView) -> Vec<TopicReply<i32>> {
    let named = partitions.iter().filter_map(|(&id, partitions)| {
        let name = topics.name(id)?.to_owned();
        Some(TopicReply { id, name, partitions: partitions.iter().copied().collect() })
    });
    named.collect()
}
