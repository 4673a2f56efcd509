//! Leading one member to its target, a step each heartbeat.

use super::{Consumer, Member, MemberState, Owned, Refusal, parts, refuse};
use crate::coordinator::Turn;
use crate::coordinator::replies::Partitions;
use crate::protocol::error::ErrorCode;

impl Consumer {
    /// Takes the member as far as it can go. `reported` is what the member says it owns, if it says
    /// so: what it must give up counts as given up once it no longer reports it. Whether what it is
    /// assigned changed.
    ///
    /// # Errors
    /// Its state is a newer broker's: it must begin again.
    pub(super) fn reconcile(
        &mut self,
        member_id: &str,
        reported: Option<&Partitions>,
        turn: &mut Turn<'_>,
    ) -> Result<bool, Refusal> {
        let member = &self.members[member_id];
        if member.is_reconciled_to(self.target_epoch) {
            return Ok(false);
        }
        let next = match member.state {
            MemberState::UnrevokedPartitions if still_owns(&member.revoking, reported) => {
                return Ok(false);
            }
            MemberState::Unknown(_) if reported.is_none_or(|owned| !owned.is_empty()) => {
                return refuse(
                    ErrorCode::FencedMemberEpoch,
                    "The consumer group member is in a unknown state. \
                     The member must abandon all its partitions and rejoin.",
                );
            }
            _ => self.next_step(member, reported),
        };
        if same(member, &next) {
            return Ok(false);
        }
        let reassigned = !same_parts(&member.assigned, &next.assigned);
        self.disown(member_id);
        let mut next = next;
        next.rebalance_deadline_ms = i64::MAX;
        if next.classic.is_none() && next.state == MemberState::UnrevokedPartitions {
            let timeout_ms = i64::from(next.rebalance_timeout_ms.max(0));
            next.rebalance_deadline_ms = turn.now.steady_ms + timeout_ms;
            self.soonest_ms = self.soonest_ms.min(next.rebalance_deadline_ms);
        }
        self.write_current(&next, turn);
        self.members.insert(member_id.to_owned(), next);
        self.own(member_id);
        Ok(reassigned)
    }

    /// What the member becomes: it keeps what is in its target, gives up the rest first, then takes
    /// the epoch and of its target what nobody else has.
    fn next_step(&self, member: &Member, reported: Option<&Partitions>) -> Member {
        let none = Partitions::new();
        let target = self.targets.get(&member.id).unwrap_or(&none);
        let wanted = |topic, partition: &i32| {
            target.get(topic).is_some_and(|partitions| partitions.contains(partition))
        };
        let (mut kept, mut revoking) = (Owned::new(), Owned::new());
        for (topic, partitions) in &member.assigned {
            for (partition, epoch) in partitions {
                let side = if wanted(topic, partition) { &mut kept } else { &mut revoking };
                side.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        let mut next = member.clone();
        if !revoking.is_empty() && still_owns(&revoking, reported) {
            next.state = MemberState::UnrevokedPartitions;
            next.assigned = kept;
            next.revoking = revoking;
            return next;
        }
        let mut waits = false;
        for (topic, partitions) in target {
            for partition in partitions {
                let owner = self.owners.get(&(*topic, *partition));
                if kept.get(topic).is_some_and(|kept| kept.contains_key(partition)) {
                    continue;
                }
                if owner.is_some_and(|owner| *owner != member.id) {
                    waits = true; // somebody else still has to give it up
                    continue;
                }
                kept.entry(*topic).or_default().insert(*partition, self.target_epoch);
            }
        }
        if member.epoch != self.target_epoch {
            next.previous_epoch = member.epoch;
            next.epoch = self.target_epoch;
        }
        next.state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        next.assigned = kept;
        next.revoking = Owned::new();
        next
    }
}

fn still_owns(revoking: &Owned, reported: Option<&Partitions>) -> bool {
    let Some(reported) = reported else { return true };
    parts(revoking).any(|(topic, partition)| {
        reported.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
    })
}

fn same_parts(before: &Owned, after: &Owned) -> bool {
    parts(before).eq(parts(after))
}

fn same(member: &Member, next: &Member) -> bool {
    member.epoch == next.epoch
        && member.previous_epoch == next.previous_epoch
        && member.state == next.state
        && member.assigned == next.assigned
        && member.revoking == next.revoking
}
