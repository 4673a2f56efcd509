//! A group of either protocol with its offsets; and what is asked about groups from outside.

use super::classic::{Classic, State};
use super::offsets::Offsets;
use super::records;
use super::replies::{
    DeletedGroup, DescribedGroup, JoinReply, LeaveReply, ListedGroup, Reply, SyncReply,
};
use super::{Call, Coordinator, Effects, ReplyId, Turn};
use crate::protocol::error::ErrorCode;
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
    Classic(Classic),
}

impl Group {
    pub(super) fn new(id: Arc<str>, now_ms: i64) -> Group {
        let kind = Kind::Classic(Classic::new(id.clone(), now_ms));
        Group { id, kind, offsets: Offsets::default(), wake_ms: i64::MAX }
    }

    /// No later than when time changes it.
    pub(super) fn soonest_ms(&self) -> i64 {
        match &self.kind {
            Kind::Classic(group) => group.soonest_ms,
        }
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_nothing(&self) -> bool {
        let Kind::Classic(group) = &self.kind;
        self.offsets.is_empty() && group.is_nothing()
    }

    /// Whether it has no member.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.state == State::Empty,
        }
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        match &mut self.kind {
            Kind::Classic(group) => group.tick(turn),
        }
    }

    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        match &mut self.kind {
            Kind::Classic(group) => group.resume(turn),
        }
    }

    /// `error` for everyone who waits.
    pub(super) fn abandon(self, error: ErrorCode, replies: &mut Vec<(ReplyId, Reply)>) {
        let Kind::Classic(group) = self.kind;
        for member in group.members.into_values() {
            if let Some(waiting) = member.waiting_join {
                let reply = JoinReply::failed(&member.id, error);
                replies.push((waiting, Reply::JoinGroup(reply)));
            }
            if let Some(waiting) = member.waiting_sync {
                replies.push((waiting, Reply::SyncGroup(SyncReply::failed(error))));
            }
        }
    }

    pub(super) fn join(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.join(call, request, turn),
        }
    }

    pub(super) fn sync(
        &mut self,
        call: &Call<'_>,
        request: &SyncGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.sync(call, request, turn),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.heartbeat(request, turn.now_ms),
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
        }
    }

    fn state_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(group) => group.state.name(),
        }
    }

    fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(_) => "Classic",
        }
    }

    fn listed(&self) -> ListedGroup {
        let Kind::Classic(group) = &self.kind;
        ListedGroup {
            group_id: self.id.to_string(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: self.state_name(),
            group_type: self.type_name(),
        }
    }

    fn described(&self) -> DescribedGroup {
        let Kind::Classic(group) = &self.kind;
        let settled = group.state == State::Stable;
        let protocol = group.protocol.clone().filter(|_| settled);
        DescribedGroup {
            error: ErrorCode::None,
            error_message: None,
            group_id: self.id.to_string(),
            state: self.state_name(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            members: group.described(),
        }
    }

    /// The tombstones that take an empty group out of the log, its offsets first.
    pub(super) fn delete(&mut self, effects: &mut Effects) {
        assert!(self.is_empty(), "only groups without members are deleted");
        self.offsets.delete_all(&self.id, effects);
        let Kind::Classic(group) = &mut self.kind;
        if group.recorded {
            effects.records.push(records::group(&self.id, None));
        }
        *group = Classic::new(self.id.clone(), group.state_since_ms);
    }
}

impl Coordinator {
    /// DescribeGroups, one of its groups.
    pub fn describe_group(&self, call: &Call<'_>, group_id: &str) -> Effects {
        let described = match self.groups.get(group_id) {
            Some(group) => group.described(),
            None if call.version >= DESCRIBE_SAYS_MISSING_FROM => {
                let message = Some(format!("Group {group_id} not found."));
                DescribedGroup::failed(group_id, ErrorCode::GroupIdNotFound, message)
            }
            None => DescribedGroup::failed(group_id, ErrorCode::None, None),
        };
        only(call, Reply::DescribeGroup(described))
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
            group.delete(&mut turn.effects);
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
