//! The rebalance: from the first join of a generation to its last, and what time does to it.

use super::{Classic, InitialDelay, JoinPhase, State};
use crate::coordinator::Turn;
use crate::coordinator::replies::{JoinReply, SyncReply};
use crate::protocol::error::ErrorCode;

impl Classic {
    /// After a change of the members: begins a rebalance, or ends the one under way if this was
    /// what it waited for.
    pub(super) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance {
            self.complete_if_all_joined(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    pub(in crate::coordinator) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        assert!(self.state != State::PreparingRebalance, "a rebalance is prepared once");
        if self.state == State::CompletingRebalance {
            self.drop_assignments(ErrorCode::RebalanceInProgress, turn);
        }
        self.sync_deadline_ms = i64::MAX;
        self.pending_sync.clear();
        let timeout_ms = self.rebalance_timeout_ms();
        let initial = self.state == State::Empty;
        let delay_ms = i64::from(turn.settings.initial_rebalance_delay_ms);
        let (wait_ms, initial) = if initial {
            let remaining_ms = (timeout_ms - delay_ms).max(0);
            (delay_ms, Some(InitialDelay { remaining_ms, new_member: false }))
        } else {
            (timeout_ms, None)
        };
        self.enter(State::PreparingRebalance, turn.now.unix_ms);
        self.wait_for_joins(JoinPhase { deadline_ms: turn.now.steady_ms + wait_ms, initial });
        if wait_ms == 0 && initial.is_some() {
            self.complete_joins(turn);
        } else {
            self.complete_if_all_joined(turn);
        }
    }

    fn wait_for_joins(&mut self, phase: JoinPhase) {
        self.soonest_ms = self.soonest_ms.min(phase.deadline_ms);
        self.joins = Some(phase);
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout_ms);
        i64::from(timeouts.max().unwrap_or(0).max(0))
    }

    /// Who waits for an assignment gets `error` and no member keeps one.
    fn drop_assignments(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        let now_ms = turn.now.steady_ms;
        for member in self.members.values_mut() {
            member.assignment.clear();
            if member.waiting_sync.is_some() {
                member.session_deadline_ms = now_ms + i64::from(member.session_timeout_ms);
                self.soonest_ms = self.soonest_ms.min(member.session_deadline_ms);
            }
            super::answer_sync(member, SyncReply::failed(error), turn);
        }
    }

    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let Some(JoinPhase { initial: None, .. }) = self.joins else { return };
        if self.waiting_joins_count == self.members.len() && self.pending.is_empty() {
            self.complete_joins(turn);
        }
    }

    /// Ends the join phase: whoever has not joined is out, except static members, who may come back
    /// within their session; the rest is the next generation.
    fn complete_joins(&mut self, turn: &mut Turn<'_>) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.waiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for member_id in absent {
            self.remove(&member_id, ErrorCode::UnknownMemberId, turn);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only absent static members are left: they get the timeout once more.
            let deadline_ms = turn.now.steady_ms + self.rebalance_timeout_ms().max(1);
            self.wait_for_joins(JoinPhase { deadline_ms, initial: None });
            return;
        }
        self.joins = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol = self.choose_protocol();
        if self.members.is_empty() {
            self.leader = None;
            self.read_subscriptions();
            self.enter(State::Empty, turn.now.unix_ms);
            self.append_record(turn);
            return;
        }
        self.read_subscriptions();
        self.enter(State::CompletingRebalance, turn.now.unix_ms);
        self.answer_joins(turn);
    }

    fn answer_joins(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut replies: Vec<JoinReply> = ids.iter().map(|id| self.join_reply(id)).collect();
        for (id, reply) in ids.iter().zip(replies.drain(..)) {
            let member = self.members.get_mut(id).expect("its id was just listed");
            member.is_new = false;
            if let Some(waiting) = member.waiting_join.take() {
                self.waiting_joins_count -= 1;
                let reply = crate::coordinator::replies::Reply::JoinGroup(reply);
                turn.effects.replies.push((waiting, reply));
            }
            self.touch(id, turn.now.steady_ms);
            self.pending_sync.insert(id.clone());
        }
        self.sync_deadline_ms = turn.now.steady_ms + self.rebalance_timeout_ms();
        self.soonest_ms = self.soonest_ms.min(self.sync_deadline_ms);
    }

    /// Whether a member that has joined leads; an absent leader loses its place to the first.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.waiting_join.is_some()) {
            return true;
        }
        let joined = self.members.values().filter(|member| member.waiting_join.is_some());
        let Some(first) = joined.min_by_key(|member| member.joined) else { return false };
        self.leader = Some(first.id.clone());
        true
    }

    /// Acts on every deadline that has passed, and finds the next.
    pub(in crate::coordinator) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        self.expire_joins(turn);
        self.expire_syncs(turn);
        self.soonest_ms = self.next_deadline_ms();
        self.check();
    }

    fn next_deadline_ms(&self) -> i64 {
        let running = self.members.values().filter(|member| member.session_runs());
        let sessions = running.map(|member| member.session_deadline_ms).min();
        let pending = self.pending.values().copied().min();
        let joins = self.joins.map(|phase| phase.deadline_ms);
        let soonest = [sessions, pending, joins].into_iter().flatten().min();
        soonest.unwrap_or(i64::MAX).min(self.sync_deadline_ms)
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        let count = self.pending.len();
        self.pending.retain(|_, deadline_ms| *deadline_ms > turn.now.steady_ms);
        if self.pending.len() < count {
            self.complete_if_all_joined(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let silent = |member: &&super::Member| {
            member.session_runs() && member.session_deadline_ms <= turn.now.steady_ms
        };
        let gone: Vec<String> =
            self.members.values().filter(silent).map(|member| member.id.clone()).collect();
        if gone.is_empty() {
            return;
        }
        for member_id in gone {
            tracing::info!(group = %self.id, member = %member_id, "the member's session ended");
            self.remove(&member_id, ErrorCode::UnknownMemberId, turn);
        }
        self.rebalance_or_complete(turn);
    }

    fn expire_joins(&mut self, turn: &mut Turn<'_>) {
        let Some(phase) = self.joins else { return };
        if phase.deadline_ms > turn.now.steady_ms {
            return;
        }
        match phase.initial {
            Some(InitialDelay { remaining_ms, new_member: true }) if remaining_ms > 0 => {
                let delay_ms = i64::from(turn.settings.initial_rebalance_delay_ms);
                let delay_ms = delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms - delay_ms;
                let initial = Some(InitialDelay { remaining_ms, new_member: false });
                self.wait_for_joins(JoinPhase {
                    deadline_ms: turn.now.steady_ms + delay_ms,
                    initial,
                });
            }
            _ => self.complete_joins(turn),
        }
    }

    /// Members that joined and did not sync in time are out (KAFKA-13435).
    fn expire_syncs(&mut self, turn: &mut Turn<'_>) {
        if self.sync_deadline_ms > turn.now.steady_ms {
            return;
        }
        self.sync_deadline_ms = i64::MAX;
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() {
            return;
        }
        for member_id in late {
            self.remove(&member_id, ErrorCode::UnknownMemberId, turn);
        }
        self.rebalance_or_complete(turn);
    }
}
