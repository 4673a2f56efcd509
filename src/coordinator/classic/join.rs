//! JoinGroup: who becomes a member, and what a join changes.

use super::{Classic, JoinPhase, Member, NEW_MEMBER_TIMEOUT_MS, Protocol, State, protocols_bytes};
use crate::base::limits;
use crate::coordinator::replies::{JoinReply, Reply};
use crate::coordinator::{Call, Turn};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::join_group::JoinGroupRequest;

/// JoinGroup versions from which a new member must come back with the id it was given (KIP-394),
/// may name its instance (KIP-345), and a returning static leader is told not to assign (KIP-814).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl Classic {
    /// Handles one join; the answer may come much later.
    ///
    /// # Errors
    /// Kafka's code for a join that is refused at once; the group is as before.
    pub(in crate::coordinator) fn join(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if request.protocols.len() > limits::GROUP_PROTOCOLS_COUNT_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        let names: Vec<&str> = request.protocols.iter().map(|protocol| protocol.name).collect();
        let protocols = protocols_of(request);
        self.accept_size(request.member_id, &protocols, turn)?;
        if request.member_id.is_empty() {
            self.join_new(call, request, &names, protocols, turn)?;
        } else {
            self.join_known(call, request, &names, protocols, turn)?;
        }
        self.check();
        Ok(())
    }

    /// KIP-389: a full group takes no more members; those it has may rejoin.
    fn accept_size(
        &self,
        member_id: &str,
        protocols: &[Protocol],
        turn: &Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let most = turn.settings.members_count_max;
        let member = self.members.get(member_id);
        let accepted = match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.waiting_join.is_some())
                    || self.waiting_joins_count < most
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < most
            }
        };
        let bytes = protocols_bytes(protocols);
        let bytes_before = member.map_or(0, Member::protocols_bytes);
        let fits = bytes <= limits::GROUP_MEMBER_BYTES_MAX
            && self.members_bytes - bytes_before + bytes <= limits::GROUP_BYTES_MAX;
        let pending_fit = member.is_some()
            || self.pending.len() < limits::GROUP_MEMBERS_COUNT_MAX
            || self.pending.contains_key(member_id);
        if accepted && fits && pending_fit { Ok(()) } else { Err(ErrorCode::GroupMaxSizeReached) }
    }

    fn join_new(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        names: &[&str],
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if !self.supports(request.protocol_type, names) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let stem = request.group_instance_id.unwrap_or(call.client_id);
        let member_id = format!("{stem}-{}", turn.random.uuid());
        if let Some(instance_id) = request.group_instance_id {
            if let Some(old_id) = self.static_members.get(instance_id).cloned() {
                self.replace_static(call, request, &old_id, member_id, protocols, turn);
            } else {
                self.add(call, request, member_id, protocols, turn);
            }
        } else if call.version >= MEMBER_ID_REQUIRED_FROM {
            let deadline_ms = turn.now.steady_ms + i64::from(request.session_timeout_ms);
            self.soonest_ms = self.soonest_ms.min(deadline_ms);
            self.pending.insert(member_id.clone(), deadline_ms);
            let reply = JoinReply::failed(&member_id, ErrorCode::MemberIdRequired);
            turn.effects.replies.push((call.reply, Reply::JoinGroup(reply)));
        } else {
            self.add(call, request, member_id, protocols, turn);
        }
        Ok(())
    }

    fn join_known(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        names: &[&str],
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if !self.supports(request.protocol_type, names) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let member_id = request.member_id;
        if self.pending.contains_key(member_id) {
            if request.group_instance_id.is_some() {
                return Err(ErrorCode::UnknownMemberId); // a static member is never made to wait
            }
            self.add(call, request, member_id.to_owned(), protocols, turn);
            return Ok(());
        }
        self.validate_member(member_id, request.group_instance_id)?;
        let same = self.members[member_id].protocols == protocols;
        let leads = self.leader.as_deref() == Some(member_id);
        let answer_again = match self.state {
            State::PreparingRebalance => false,
            // The member lost the answer to its join and asks again.
            State::CompletingRebalance => same,
            // The leader rejoins to have the group assigned anew.
            State::Stable => same && !leads,
            State::Empty => return Err(ErrorCode::UnknownMemberId),
        };
        if answer_again {
            let reply = self.join_reply(member_id);
            turn.effects.replies.push((call.reply, Reply::JoinGroup(reply)));
            self.touch(member_id, turn.now.steady_ms);
            return Ok(());
        }
        self.update(call, request, member_id, protocols, turn);
        self.rebalance_or_complete(turn);
        Ok(())
    }

    fn add(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        member_id: String,
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.to_owned());
        }
        self.pending.remove(&member_id);
        if let Some(JoinPhase { initial: Some(initial), .. }) = &mut self.joins {
            initial.new_member = true;
        }
        let session_deadline_ms = turn.now.steady_ms + NEW_MEMBER_TIMEOUT_MS;
        self.soonest_ms = self.soonest_ms.min(session_deadline_ms);
        self.insert(Member {
            id: member_id,
            instance_id: request.group_instance_id.map(str::to_owned),
            client_id: call.client_id.to_owned(),
            client_host: call.client_host.to_owned(),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            session_timeout_ms: request.session_timeout_ms,
            protocols,
            assignment: Vec::new(),
            waiting_join: Some(call.reply),
            waiting_sync: None,
            session_deadline_ms,
            is_new: true,
            joined: 0,
        });
        self.rebalance_or_complete(turn);
    }

    /// Takes over what a member says of itself when it joins again, and lets it wait.
    fn update(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        member_id: &str,
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        self.members_bytes -= member.protocols_bytes();
        // A second join of the same member: the first is answered, or its caller waits for ever.
        let superseded = JoinReply::failed(member_id, ErrorCode::RebalanceInProgress);
        self.answer_join(&mut member, superseded, turn);
        member.client_id = call.client_id.to_owned();
        member.client_host = call.client_host.to_owned();
        member.rebalance_timeout_ms = rebalance_timeout_ms(request);
        member.session_timeout_ms = request.session_timeout_ms;
        member.protocols = protocols;
        member.waiting_join = Some(call.reply);
        self.waiting_joins_count += 1;
        self.members_bytes += member.protocols_bytes();
        self.members.insert(member_id.to_owned(), member);
    }

    /// A static member comes back without its id: it takes its old place under a new one (KIP-345).
    /// If that leaves a settled group's protocol as it was, nobody else notices.
    fn replace_static(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        old_id: &str,
        new_id: String,
        protocols: Vec<Protocol>,
        turn: &mut Turn<'_>,
    ) {
        let leader_before = self.leader.clone().unwrap_or_default();
        self.rename(old_id, &new_id, turn);
        self.update(call, request, &new_id, protocols, turn);
        self.touch(&new_id, turn.now.steady_ms);
        if self.state == State::Stable && self.choose_protocol() == self.protocol {
            let leads = self.leader.as_deref() == Some(&new_id);
            let skips = call.version >= SKIP_ASSIGNMENT_FROM;
            let mut reply = self.join_reply(&new_id);
            if skips {
                reply.skip_assignment = leads;
            } else {
                // An old client would assign if it were told that it leads.
                reply.leader = leader_before;
                reply.members = Vec::new();
            }
            let mut member = self.members.remove(&new_id).expect("renamed above");
            self.answer_join(&mut member, reply, turn);
            self.members.insert(new_id, member);
            self.append_record(turn);
        } else {
            self.rebalance_or_complete(turn);
        }
    }

    /// Gives a static member another id; who still waits under the old one is fenced.
    fn rename(&mut self, old_id: &str, new_id: &str, turn: &mut Turn<'_>) {
        let mut member = self.members.remove(old_id).expect("static members are members");
        let fenced = JoinReply::failed(old_id, ErrorCode::FencedInstanceId);
        self.answer_join(&mut member, fenced, turn);
        super::answer_sync(
            &mut member,
            crate::coordinator::replies::SyncReply::failed(ErrorCode::FencedInstanceId),
            turn,
        );
        if self.leader.as_deref() == Some(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.to_owned());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.to_owned());
        }
        member.id = new_id.to_owned();
        self.members.insert(new_id.to_owned(), member);
    }
}

fn protocols_of(request: &JoinGroupRequest<'_>) -> Vec<Protocol> {
    let protocols = request.protocols.iter();
    protocols
        .map(|offered| Protocol {
            name: offered.name.to_owned(),
            metadata: offered.metadata.to_vec(),
        })
        .collect()
}

/// Version 0 has none: the session's stands for it.
fn rebalance_timeout_ms(request: &JoinGroupRequest<'_>) -> i32 {
    match request.rebalance_timeout_ms {
        ..0 => request.session_timeout_ms,
        own => own,
    }
}
