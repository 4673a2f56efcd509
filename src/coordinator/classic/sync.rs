//! SyncGroup, Heartbeat and LeaveGroup: the life of a member between rebalances.

use super::{Classic, State};
use crate::base::limits;
use crate::coordinator::replies::{LeaveReply, LeftMember, Reply};
use crate::coordinator::{Call, Turn};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::sync_group::SyncGroupRequest;
use std::collections::BTreeMap;

/// The LeaveGroup version from which it names several members.
const MEMBERS_FROM: i16 = 3;

impl Classic {
    /// Handles one sync; it waits for the leader's unless there is an assignment.
    ///
    /// # Errors
    /// Kafka's code for a sync that is refused at once.
    pub(in crate::coordinator) fn sync(
        &mut self,
        call: &Call<'_>,
        request: &SyncGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let member_id = request.member_id;
        self.validate_member(member_id, request.group_instance_id)?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |asked: Option<&str>, own: &Option<String>| {
            asked.is_some_and(|asked| own.as_deref().is_some_and(|own| own != asked))
        };
        if differs(request.protocol_type, &self.protocol_type)
            || differs(request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => return Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance => self.wait_for_assignment(call, request, turn)?,
            State::Stable => {
                let reply = self.sync_reply(&self.members[member_id].assignment);
                turn.effects.replies.push((call.reply, Reply::SyncGroup(reply)));
                self.synced(member_id);
                self.touch(member_id, turn.now.steady_ms);
            }
        }
        self.check();
        Ok(())
    }

    fn wait_for_assignment(
        &mut self,
        call: &Call<'_>,
        request: &SyncGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let leads = self.leader.as_deref() == Some(request.member_id);
        let bytes: usize = request.assignments.iter().map(|each| each.assignment.len()).sum();
        if leads && bytes > limits::GROUP_BYTES_MAX {
            return Err(ErrorCode::UnknownServerError); // what Kafka says of a record too large
        }
        let member = self.members.get_mut(request.member_id).expect("validated above");
        let superseded = super::SyncReply::failed(ErrorCode::RebalanceInProgress);
        super::answer_sync(member, superseded, turn);
        member.waiting_sync = Some(call.reply);
        self.synced(request.member_id);
        if leads {
            self.assign(request, turn);
        }
        Ok(())
    }

    fn synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline_ms = i64::MAX;
        }
    }

    /// The leader has spoken: the assignment goes to the log, then to everybody that waits.
    /// Assignments for those who are no members are passed over.
    fn assign(&mut self, request: &SyncGroupRequest<'_>, turn: &mut Turn<'_>) {
        let assigned: BTreeMap<&str, &[u8]> =
            request.assignments.iter().map(|each| (each.member_id, each.assignment)).collect();
        for member in self.members.values_mut() {
            let own = assigned.get(member.id.as_str()).copied();
            member.assignment = own.unwrap_or_default().to_vec();
        }
        self.enter(State::Stable, turn.now.unix_ms);
        self.append_record(turn);
        let waiting: Vec<String> = self
            .members
            .values()
            .filter(|member| member.waiting_sync.is_some())
            .map(|member| member.id.clone())
            .collect();
        for member_id in waiting {
            let reply = self.sync_reply(&self.members[&member_id].assignment);
            let member = self.members.get_mut(&member_id).expect("listed above");
            super::answer_sync(member, reply, turn);
            self.touch(&member_id, turn.now.steady_ms);
        }
    }

    /// One sign of life.
    ///
    /// # Errors
    /// Kafka's code; `RebalanceInProgress` is one, and the member lives on all the same.
    pub(in crate::coordinator) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        self.validate_member(request.member_id, request.group_instance_id)?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.touch(request.member_id, now_ms);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Takes members out, by id or by instance id (KIP-345), and rebalances once for all of them.
    pub(in crate::coordinator) fn leave(
        &mut self,
        version: i16,
        request: &LeaveGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> LeaveReply {
        let only = [MemberIdentity { member_id: request.member_id, ..Default::default() }];
        let leaving = if version < MEMBERS_FROM { &only } else { request.members.as_slice() };
        let mut members = Vec::with_capacity(leaving.len());
        let (mut changed, mut any_pending) = (false, false);
        for identity in leaving {
            let error = match self.leave_one(identity, turn) {
                Ok(was_pending) => {
                    changed |= !was_pending;
                    any_pending |= was_pending;
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
        if changed {
            self.rebalance_or_complete(turn);
        } else if any_pending {
            self.complete_if_all_joined(turn);
        }
        self.check();
        LeaveReply { error: ErrorCode::None, members }
    }

    /// Whether it was only awaited.
    fn leave_one(
        &mut self,
        identity: &MemberIdentity<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<bool, ErrorCode> {
        let member_id = match (identity.member_id, identity.group_instance_id) {
            ("", Some(instance_id)) => {
                let held = self.static_members.get(instance_id);
                held.cloned().ok_or(ErrorCode::UnknownMemberId)?
            }
            ("", None) => return Err(ErrorCode::UnknownMemberId),
            (pending, _) if self.pending.remove(pending).is_some() => return Ok(true),
            (member_id, instance_id) => {
                self.validate_member(member_id, instance_id)?;
                member_id.to_owned()
            }
        };
        self.remove(&member_id, ErrorCode::UnknownMemberId, turn);
        Ok(false)
    }
}
