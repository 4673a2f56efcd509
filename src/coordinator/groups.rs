//! A group of either protocol with its offsets; and what is asked about groups from outside.

use super::classic::{CONSUMER, Classic, State};
use super::consumer::{Consumer, Refusal, heartbeat, refuse};
use super::offsets::Offsets;
use super::replies::{
    ConsumerDescribedGroup, ConsumerHeartbeatReply, DeletedGroup, DescribedGroup, LeaveReply,
    ListedGroup, Reply,
};
use super::{Call, Coordinator, Effects, Turn};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::messages::leave_group::LeaveGroupRequest;
use crate::protocol::messages::sync_group::SyncGroupRequest;
use std::sync::Arc;

/// DescribeGroups and DeleteGroups versions that say in words what is wrong.
const DESCRIBE_SAYS_MISSING_FROM: i16 = 6;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Arc<str>,
    pub(super) kind: Kind,
    pub(super) offsets: Offsets,
    pub(super) wake_ms: i64, // its place among the coordinator's wakes; `i64::MAX`: none
}

#[derive(Debug)]
pub(super) enum Kind {
    Classic(Box<Classic>),
    Consumer(Box<Consumer>),
}

impl Group {
    pub(super) fn new(id: Arc<str>, unix_ms: i64) -> Group {
        let kind = Kind::Classic(Box::new(Classic::new(id.clone(), unix_ms)));
        Group { id, kind, offsets: Offsets::default(), wake_ms: i64::MAX }
    }

    /// No later than when time changes it.
    pub(super) fn soonest_ms(&self) -> i64 {
        match &self.kind {
            Kind::Classic(group) => group.soonest_ms,
            Kind::Consumer(group) => group.soonest_ms,
        }
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_nothing(&self) -> bool {
        self.offsets.is_empty()
            && match &self.kind {
                Kind::Classic(group) => group.is_nothing(),
                Kind::Consumer(group) => group.is_nothing(),
            }
    }

    /// Whether it has no member.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.state == State::Empty,
            Kind::Consumer(group) => group.is_empty(),
        }
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        match &mut self.kind {
            Kind::Classic(group) => group.tick(turn),
            Kind::Consumer(group) => {
                let overdue = group.overdue(turn.now.steady_ms);
                for member in &overdue {
                    tracing::info!(group = %self.id, %member, "the member is taken for gone");
                }
                self.remove_members(&overdue, turn);
                if let Kind::Consumer(group) = &mut self.kind {
                    group.find_soonest();
                }
            }
        }
    }

    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        match &mut self.kind {
            Kind::Classic(group) => group.resume(turn),
            Kind::Consumer(group) => group.resume(turn),
        }
    }

    pub(super) fn join(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if let Kind::Consumer(group) = &mut self.kind {
            if !group.is_empty() {
                group.join_classic(call, request, turn)?;
                self.remove_members(&[], turn); // it may have replaced the last of the others
                return Ok(());
            }
            group.erase(turn);
            self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone(), turn.now.unix_ms)));
        }
        let Kind::Classic(group) = &mut self.kind else { unreachable!("made classic above") };
        group.join(call, request, turn)
    }

    pub(super) fn sync(
        &mut self,
        call: &Call<'_>,
        request: &SyncGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.sync(call, request, turn),
            Kind::Consumer(group) => group.sync_classic(call, request, turn),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.heartbeat(request, turn.now.steady_ms),
            Kind::Consumer(group) => group.heartbeat_classic(request, turn),
        }
    }

    pub(super) fn leave(
        &mut self,
        version: i16,
        request: &LeaveGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> LeaveReply {
        match &mut self.kind {
            Kind::Classic(group) => group.leave(version, request, turn),
            Kind::Consumer(group) => {
                let (leaving, reply) = group.leave_classic(version, request);
                self.remove_members(&leaving, turn);
                reply
            }
        }
    }

    /// ConsumerGroupHeartbeat; it may make a group of the consumer protocol of a classic one.
    pub(super) fn consumer_heartbeat(
        &mut self,
        call: &Call<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        if let Kind::Classic(group) = &mut self.kind {
            if !heartbeat::joins(request) {
                let message = format!("Group {} is not a consumer group.", self.id);
                return refuse(ErrorCode::GroupIdNotFound, message);
            }
            self.kind = Kind::Consumer(Box::new(Consumer::upgrade(group, turn)?));
        }
        let Kind::Consumer(group) = &mut self.kind else { unreachable!("upgraded above") };
        if !heartbeat::leaves(request) {
            return group.heartbeat(call, request, turn);
        }
        if let Some(leaving) = group.leave(request, turn)? {
            self.remove_members(&[leaving], turn);
        }
        Ok(ConsumerHeartbeatReply {
            error: ErrorCode::None,
            error_message: None,
            member_id: Some(request.member_id.to_owned()),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// Takes members out of a group of the consumer protocol; if only classic ones are left, the
    /// group becomes classic.
    fn remove_members(&mut self, leaving: &[String], turn: &mut Turn<'_>) {
        let Kind::Consumer(group) = &mut self.kind else { return };
        if group.downgrades_without(leaving, turn) {
            let classic = group.downgrade(leaving, turn);
            self.kind = Kind::Classic(Box::new(classic));
        } else if !leaving.is_empty() {
            group.remove(leaving, turn);
        }
    }

    fn state_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(group) => group.state.name(),
            Kind::Consumer(group) => group.state_name(),
        }
    }

    fn listed(&self) -> ListedGroup {
        let protocol_type = match &self.kind {
            Kind::Classic(group) => group.protocol_type.clone().unwrap_or_default(),
            Kind::Consumer(_) => CONSUMER.to_owned(),
        };
        ListedGroup {
            group_id: self.id.to_string(),
            protocol_type,
            state: self.state_name(),
            group_type: self.type_name(),
        }
    }

    fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(_) => "Classic",
            Kind::Consumer(_) => "Consumer",
        }
    }

    /// As DescribeGroups shows it: a classic group.
    fn described(&self) -> Option<DescribedGroup> {
        let Kind::Classic(group) = &self.kind else { return None };
        let settled = group.state == State::Stable;
        let protocol = group.protocol.clone().filter(|_| settled);
        Some(DescribedGroup {
            error: ErrorCode::None,
            error_message: None,
            group_id: self.id.to_string(),
            state: self.state_name(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            members: group.described(),
        })
    }

    /// The tombstones that take an empty group out of the log, its offsets first.
    pub(super) fn delete(&mut self, turn: &mut Turn<'_>) {
        assert!(self.is_empty(), "only groups without members are deleted");
        self.offsets.delete_all(&self.id, &mut turn.effects);
        match &mut self.kind {
            Kind::Classic(group) => group.erase(turn),
            Kind::Consumer(group) => group.erase(turn),
        }
        self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone(), turn.now.unix_ms)));
    }
}

impl Coordinator {
    /// DescribeGroups, one of its groups.
    pub fn describe_group(&self, call: &Call<'_>, group_id: &str) -> Effects {
        let group = self.groups.get(group_id);
        let described = group.and_then(Group::described).unwrap_or_else(|| {
            if call.version < DESCRIBE_SAYS_MISSING_FROM {
                return DescribedGroup::failed(group_id, ErrorCode::None, None);
            }
            let message = match group {
                Some(_) => format!("Group {group_id} is not a classic group."),
                None => format!("Group {group_id} not found."),
            };
            DescribedGroup::failed(group_id, ErrorCode::GroupIdNotFound, Some(message))
        });
        only(call, Reply::DescribeGroup(described))
    }

    /// ConsumerGroupDescribe, one of its groups.
    pub fn consumer_describe(&self, call: &Call<'_>, group_id: &str) -> Effects {
        let missing = |message: String| {
            let error = ErrorCode::GroupIdNotFound;
            ConsumerDescribedGroup::failed(group_id, error, Some(message))
        };
        let described = match self.groups.get(group_id).map(|group| &group.kind) {
            Some(Kind::Consumer(group)) => group.described(call.topics),
            Some(_) => missing(format!("Group {group_id} is not a consumer group.")),
            None => missing(format!("Group {group_id} not found.")),
        };
        only(call, Reply::ConsumerDescribe(described))
    }

    /// ConsumerGroupHeartbeat (KIP-848).
    pub fn consumer_heartbeat(
        &mut self,
        call: &Call<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Effects {
        let mut effects = Effects::default();
        let reply = self.try_consumer_heartbeat(call, request, &mut effects);
        let reply = reply.unwrap_or_else(|refusal| {
            ConsumerHeartbeatReply::failed(refusal.error, refusal.message)
        });
        effects.replies.push((call.reply, Reply::ConsumerHeartbeat(reply)));
        effects
    }

    fn try_consumer_heartbeat(
        &mut self,
        call: &Call<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        effects: &mut Effects,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        heartbeat::validate(call.version, request)?;
        let group_id = request.group_id;
        if heartbeat::joins(request) {
            self.create_group(group_id, call.now.unix_ms)
                .map_err(|error| Refusal { error, message: String::new() })?;
        }
        let lived = self.on_call(call, group_id, effects, |group, turn| {
            group.consumer_heartbeat(call, request, turn)
        });
        lived.unwrap_or_else(|| {
            refuse(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found."))
        })
    }

    /// ListGroups: those of this coordinator, in the states and of the types asked for; none asked
    /// for means all. Case does not matter.
    pub fn list_groups(&self, call: &Call<'_>, states: &[&str], types: &[&str]) -> Effects {
        let among = |asked: &[&str], own: &str| {
            asked.is_empty() || asked.iter().any(|asked| asked.eq_ignore_ascii_case(own))
        };
        let listed = self
            .groups
            .values()
            .filter(|group| among(states, group.state_name()) && among(types, group.type_name()))
            .map(Group::listed);
        only(call, Reply::ListGroups(listed.collect()))
    }

    /// DeleteGroups, one of its groups.
    pub fn delete_group(&mut self, call: &Call<'_>, group_id: &str) -> Effects {
        let mut effects = Effects::default();
        let deleted = self.on_call(call, group_id, &mut effects, |group, turn| {
            if !group.is_empty() {
                return (ErrorCode::NonEmptyGroup, Some("The group is not empty.".to_owned()));
            }
            group.delete(turn);
            (ErrorCode::None, None)
        });
        let (error, error_message) = deleted.unwrap_or_else(|| {
            (ErrorCode::GroupIdNotFound, Some(format!("Group {group_id} not found.")))
        });
        let group_id = group_id.to_owned();
        let reply = DeletedGroup { group_id, error, error_message };
        effects.replies.push((call.reply, Reply::DeleteGroup(reply)));
        effects
    }
}

fn only(call: &Call<'_>, reply: Reply) -> Effects {
    Effects { records: Vec::new(), replies: vec![(call.reply, reply)] }
}
