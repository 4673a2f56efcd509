//! Members of the classic protocol in a group of the consumer protocol (KIP-848's live upgrade).
//!
//! They join, sync and heartbeat as ever; their generation is their member epoch, nobody leads, and
//! the assignment is the broker's. A member that must give up or may take partitions is told that a
//! rebalance is under way, and rejoins.

use super::{ClassicPart, Consumer, Member, MemberState, Refusal};
use crate::base::limits;
use crate::coordinator::classic::CONSUMER;
use crate::coordinator::replies::{
    JoinReply, LeaveReply, LeftMember, Partitions, Reply, SyncReply,
};
use crate::coordinator::settings::MigrationPolicy;
use crate::coordinator::subscription::{self, Assignment, TopicPartitions};
use crate::coordinator::{Call, Turn};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::sync_group::SyncGroupRequest;
use std::collections::BTreeSet;

const MEMBER_ID_REQUIRED_FROM: i16 = 4;
const MEMBERS_FROM: i16 = 3;

impl Consumer {
    /// JoinGroup of a classic member.
    ///
    /// # Errors
    /// Kafka's code; the group is as before.
    pub(in crate::coordinator) fn join_classic(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if turn.settings.consumer_migration == MigrationPolicy::Disabled {
            return Err(ErrorCode::GroupIdNotFound);
        }
        let read = self.accept_classic(request, turn)?;
        let unknown = request.member_id.is_empty();
        let member_id = if unknown { turn.random.uuid() } else { request.member_id.to_owned() };
        let is_new = match request.group_instance_id {
            None if unknown && call.version >= MEMBER_ID_REQUIRED_FROM => {
                let reply = JoinReply::failed(&member_id, ErrorCode::MemberIdRequired);
                turn.effects.replies.push((call.reply, Reply::JoinGroup(reply)));
                return Ok(());
            }
            None => self.subscribe(&member_id, 0, true, None).map_err(code)?,
            Some(instance_id) if unknown => match self.static_members.get(instance_id).cloned() {
                Some(holder) => {
                    self.replace(&holder, &member_id, turn);
                    false
                }
                None => {
                    self.static_members.insert(instance_id.to_owned(), member_id.clone());
                    self.subscribe(&member_id, 0, true, None).map_err(code)?
                }
            },
            Some(instance_id) => {
                self.static_member(&member_id, instance_id).map_err(code)?;
                false
            }
        };
        let (topics, rack_id, reported) = read;
        let mut member = self.members[&member_id].clone();
        member.instance_id = request.group_instance_id.map(str::to_owned).or(member.instance_id);
        member.rack_id = rack_id.or(member.rack_id);
        if request.rebalance_timeout_ms != -1 {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        } else {
            member.rebalance_timeout_ms = request.session_timeout_ms;
        }
        member.topics = topics;
        member.regex = None;
        member.assignor = None;
        member.client_id = call.client_id.to_owned();
        member.client_host = call.client_host.to_owned();
        member.classic = Some(classic_part(request));
        let changed = self.put_changed(member, turn);
        self.update_target(is_new || changed || self.epoch == 0, turn);
        self.reconcile(&member_id, Some(&reported), turn).map_err(code)?;
        self.touch(&member_id, turn);
        self.expect_within_rebalance(&member_id, turn, true);
        self.check();
        let reply = self.joined(&member_id);
        turn.effects.replies.push((call.reply, Reply::JoinGroup(reply)));
        Ok(())
    }

    fn joined(&self, member_id: &str) -> JoinReply {
        let member = &self.members[member_id];
        let protocols = member.classic.iter().flat_map(|classic| &classic.protocols);
        JoinReply {
            error: ErrorCode::None,
            generation: member.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: protocols.map(|(name, _)| name.clone()).next(),
            leader: String::new(), // the broker leads
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }

    /// Checks a join without changing anything; gives what the member subscribes to and owns.
    #[allow(clippy::type_complexity)] // read once, taken apart at once
    fn accept_classic(
        &self,
        request: &JoinGroupRequest<'_>,
        turn: &Turn<'_>,
    ) -> Result<(BTreeSet<String>, Option<String>, Partitions), ErrorCode> {
        let known = self.members.contains_key(request.member_id)
            || request.group_instance_id.is_some_and(|id| self.static_members.contains_key(id));
        if !known && self.members.len() >= turn.settings.consumer_members_count_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let bytes: usize = request
            .protocols
            .iter()
            .map(|protocol| protocol.name.len() + protocol.metadata.len())
            .sum();
        if bytes > limits::GROUP_MEMBER_BYTES_MAX {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let common = |name: &str| {
            let classics = self.members.values().filter_map(|member| member.classic.as_ref());
            let mut classics = classics;
            classics.all(|classic| classic.protocols.iter().any(|(own, _)| own == name))
        };
        let supported = request.protocols.len() <= limits::GROUP_PROTOCOLS_COUNT_MAX
            && request.protocols.iter().any(|protocol| common(protocol.name));
        if request.protocol_type != CONSUMER || !supported {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let metadata = request.protocols[0].metadata;
        let (_, read) =
            subscription::read(metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        let topics = read.topics.iter().map(|name| (*name).to_owned()).collect();
        let reported = by_id(&read.owned_partitions, turn);
        Ok((topics, read.rack_id.map(str::to_owned), reported))
    }

    /// Gives a classic member the rebalance timeout for its next step, unless it has one running.
    fn expect_within_rebalance(&mut self, member_id: &str, turn: &Turn<'_>, anew: bool) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if !anew && member.rebalance_deadline_ms < i64::MAX {
            return;
        }
        let timeout_ms = i64::from(member.rebalance_timeout_ms.max(0));
        member.rebalance_deadline_ms = turn.now.steady_ms + timeout_ms;
        self.soonest_ms = self.soonest_ms.min(member.rebalance_deadline_ms);
    }

    fn classic_of(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<&ClassicPart, ErrorCode> {
        if let Some(instance_id) = instance_id {
            self.static_member(member_id, instance_id).map_err(code)?;
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        member.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)
    }

    /// SyncGroup of a classic member: it gets what the broker assigned.
    ///
    /// # Errors
    /// Kafka's code.
    pub(in crate::coordinator) fn sync_classic(
        &mut self,
        call: &Call<'_>,
        request: &SyncGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let member_id = request.member_id;
        let classic = self.classic_of(member_id, request.group_instance_id)?;
        let first = classic.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let (name, metadata) = (first.0.clone(), &first.1);
        let number = subscription::read(metadata).map_or(0, |(number, _)| number);
        let member = &self.members[member_id];
        if request.generation_id != member.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        if request.protocol_type.is_some_and(|asked| asked != CONSUMER)
            || request.protocol_name.is_some_and(|asked| asked != name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            self.expect_within_rebalance(member_id, turn, false);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let assignment = assignment_bytes(number, &super::without_epochs(&member.assigned), turn);
        let member = self.members.get_mut(member_id).expect("looked up above");
        member.rebalance_deadline_ms = i64::MAX;
        self.touch(member_id, turn);
        let reply = SyncReply {
            error: ErrorCode::None,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(name),
            assignment,
        };
        turn.effects.replies.push((call.reply, Reply::SyncGroup(reply)));
        Ok(())
    }

    /// Heartbeat of a classic member; it is told to rejoin when there is something to give or take.
    ///
    /// # Errors
    /// Kafka's code.
    pub(in crate::coordinator) fn heartbeat_classic(
        &mut self,
        request: &HeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let member_id = request.member_id;
        self.classic_of(member_id, request.group_instance_id)?;
        if request.generation_id != self.members[member_id].epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.touch(member_id, turn);
        let member = &self.members[member_id];
        let must_rejoin = member.epoch < self.epoch
            || member.state == MemberState::UnrevokedPartitions
            || (member.state == MemberState::UnreleasedPartitions && !self.waits(member));
        if must_rejoin {
            self.expect_within_rebalance(member_id, turn, false);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether anything of its target is still somebody else's.
    fn waits(&self, member: &Member) -> bool {
        let target = self.targets.get(&member.id);
        target.into_iter().flatten().any(|(topic, partitions)| {
            partitions.iter().any(|partition| {
                let owner = self.owners.get(&(*topic, *partition));
                owner.is_some_and(|owner| *owner != member.id)
            })
        })
    }

    /// LeaveGroup: checks who may leave; gives their ids with the answer.
    pub(in crate::coordinator) fn leave_classic(
        &self,
        version: i16,
        request: &LeaveGroupRequest<'_>,
    ) -> (Vec<String>, LeaveReply) {
        let only = [MemberIdentity { member_id: request.member_id, ..Default::default() }];
        let asked = if version < MEMBERS_FROM { &only } else { request.members.as_slice() };
        let (mut leaving, mut members) = (Vec::new(), Vec::new());
        for identity in asked {
            let found = self.leaving(identity);
            let error = match found {
                Ok(id) if leaving.contains(&id) => ErrorCode::UnknownMemberId,
                Ok(id) => {
                    leaving.push(id);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            members.push(LeftMember {
                id: identity.member_id.to_owned(),
                instance_id: identity.group_instance_id.map(str::to_owned),
                error,
            });
        }
        (leaving, LeaveReply { error: ErrorCode::None, members })
    }

    fn leaving(&self, identity: &MemberIdentity<'_>) -> Result<String, ErrorCode> {
        match (identity.member_id, identity.group_instance_id) {
            ("", Some(instance_id)) => {
                let holder = self.static_members.get(instance_id);
                holder.cloned().ok_or(ErrorCode::UnknownMemberId)
            }
            (member_id, instance_id) => {
                self.classic_of(member_id, instance_id)?;
                Ok(member_id.to_owned())
            }
        }
    }
}

fn classic_part(request: &JoinGroupRequest<'_>) -> ClassicPart {
    let protocols = request.protocols.iter();
    ClassicPart {
        session_timeout_ms: request.session_timeout_ms,
        protocols: protocols
            .map(|protocol| (protocol.name.to_owned(), protocol.metadata.to_vec()))
            .collect(),
    }
}

/// Partitions that a consumer named, by id; topics that are no more are passed over.
pub(super) fn by_id(topics: &[TopicPartitions<'_>], turn: &Turn<'_>) -> Partitions {
    let mut partitions = Partitions::new();
    for named in topics {
        if let Some(topic) = turn.topics.topic(named.topic) {
            partitions.entry(topic.id).or_default().extend(&named.partitions);
        }
    }
    partitions
}

/// An assignment as classic consumers read it.
pub(super) fn assignment_bytes(number: i16, partitions: &Partitions, turn: &Turn<'_>) -> Vec<u8> {
    let named = partitions.iter().filter_map(|(id, partitions)| {
        let topic = turn.topics.name(*id)?;
        Some(TopicPartitions { topic, partitions: partitions.iter().copied().collect() })
    });
    let assignment = Assignment { assigned_partitions: named.collect(), user_data: None };
    subscription::write_assignment(number, &assignment)
}

fn code(refusal: Refusal) -> ErrorCode {
    refusal.error
}
