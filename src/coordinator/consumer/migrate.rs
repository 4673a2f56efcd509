//! A group changes its protocol: by its first member of the new one, or when the last is gone.

use super::{
    ClassicPart, Consumer, Member, MemberState, Owned, Refusal, classic_member, refuse,
    without_epochs,
};
use crate::coordinator::classic::{self, Classic, Protocol};
use crate::coordinator::{Turn, subscription};
use crate::protocol::error::ErrorCode;
use std::collections::BTreeSet;

impl Consumer {
    /// Makes a group of the consumer protocol of a classic one: its members stay classic, with
    /// their generation as epoch and what they own as target. Whoever waits must join again.
    ///
    /// # Errors
    /// Kafka's refusal: the policy, another protocol type, or metadata that cannot be read.
    pub(in crate::coordinator) fn upgrade(
        group: &mut Classic,
        turn: &mut Turn<'_>,
    ) -> Result<Consumer, Refusal> {
        let mut consumer = Consumer::new(group.id.clone());
        if group.members.is_empty() {
            group.erase(turn);
            return Ok(consumer);
        }
        check_upgrade(group, turn)?;
        consumer.epoch = group.generation;
        consumer.target_epoch = group.generation;
        let mut taken = BTreeSet::new();
        for member in group.members.values() {
            let mut upgraded = upgraded(member, group, turn)?;
            // Between generations two members may believe that they own the same: the first does.
            for (topic, partitions) in &mut upgraded.assigned {
                partitions.retain(|partition, _| taken.insert((*topic, *partition)));
            }
            upgraded.assigned.retain(|_, partitions| !partitions.is_empty());
            consumer.members.insert(upgraded.id.clone(), upgraded);
        }
        group.send_away(turn);
        group.erase(turn);
        consumer.static_members = group.static_members.clone();
        let ids: Vec<String> = consumer.members.keys().cloned().collect();
        for id in &ids {
            let member = consumer.members[id].clone();
            consumer.write_member(&member, turn);
        }
        consumer.metadata_hash = consumer.compute_hash(turn.topics);
        consumer.write_epoch(turn);
        for id in &ids {
            let member = consumer.members[id].clone();
            let target = without_epochs(&member.assigned);
            consumer.write_target(id, &target, turn);
            consumer.targets.insert(id.clone(), target);
            consumer.write_current(&member, turn);
            consumer.own(id);
            consumer.touch(id, turn);
        }
        consumer.write_target_epoch(turn);
        consumer.check();
        Ok(consumer)
    }

    /// Whether the group is to become classic once `leaving` are gone: nobody is left but members
    /// of the classic protocol.
    pub(in crate::coordinator) fn downgrades_without(
        &self,
        leaving: &[String],
        turn: &Turn<'_>,
    ) -> bool {
        let mut staying =
            self.members.values().filter(|member| !leaving.contains(&member.id)).peekable();
        turn.settings.consumer_migration.downgrades()
            && staying.peek().is_some()
            && staying.all(|member| member.classic.is_some())
    }

    /// Makes a classic group of it, without those who leave; it rebalances at once.
    pub(in crate::coordinator) fn downgrade(
        &self,
        leaving: &[String],
        turn: &mut Turn<'_>,
    ) -> Classic {
        self.erase(turn);
        let mut members = Vec::new();
        for member in self.members.values().filter(|member| !leaving.contains(&member.id)) {
            let Some(part) = &member.classic else { continue };
            let metadata = part.protocols.first().map(|(_, metadata)| metadata.as_slice());
            let number = metadata
                .and_then(|metadata| subscription::read(metadata).ok())
                .map_or(0, |(number, _)| number);
            let none = crate::coordinator::replies::Partitions::new();
            let target = self.targets.get(&member.id).unwrap_or(&none);
            members.push(classic::Member {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: part.session_timeout_ms,
                protocols: part
                    .protocols
                    .iter()
                    .map(|(name, metadata)| Protocol {
                        name: name.clone(),
                        metadata: metadata.clone(),
                    })
                    .collect(),
                assignment: classic_member::assignment_bytes(number, target, turn),
                waiting_join: None,
                waiting_sync: None,
                session_deadline_ms: i64::MAX,
                is_new: false,
                joined: 0,
            });
        }
        Classic::from_members(self.id.clone(), self.epoch, members, turn)
    }
}

fn check_upgrade(group: &Classic, turn: &Turn<'_>) -> Result<(), Refusal> {
    let refused = |why: &str| {
        refuse(
            ErrorCode::GroupIdNotFound,
            format!("Cannot upgrade classic group {} to consumer group because {why}", group.id),
        )
    };
    if !turn.settings.consumer_migration.upgrades() {
        return refused("online upgrade is disabled.");
    }
    if !group.uses_consumer_protocol() {
        return refused("the group does not use the consumer embedded protocol.");
    }
    if group.members.len() >= turn.settings.consumer_members_count_max {
        return refused("the group size exceeds the consumer group maximum size.");
    }
    Ok(())
}

/// One member: what it was assigned, or, while it waits for an assignment, what it says it owns.
fn upgraded(member: &classic::Member, group: &Classic, turn: &Turn<'_>) -> Result<Member, Refusal> {
    let malformed = || Refusal {
        error: ErrorCode::GroupIdNotFound,
        message: format!(
            "Cannot upgrade classic group {} to consumer group because the embedded consumer \
             protocol is malformed.",
            group.id
        ),
    };
    let first = member.protocols.first().ok_or_else(malformed)?;
    let (_, read) = subscription::read(&first.metadata).map_err(|_| malformed())?;
    let partitions = if member.assignment.is_empty() {
        classic_member::by_id(&read.owned_partitions, turn)
    } else {
        let assigned = subscription::read_assignment(&member.assignment);
        let assigned = assigned.map_err(|_| malformed())?;
        if assigned.user_data.is_some_and(|data| !data.is_empty()) {
            return refuse(
                ErrorCode::GroupIdNotFound,
                format!(
                    "Cannot upgrade classic group {} to consumer group because an unsupported \
                     custom assignor is in use. Please refer to the documentation or switch to a \
                     default assignor before re-attempting the upgrade.",
                    group.id
                ),
            );
        }
        classic_member::by_id(&assigned.assigned_partitions, turn)
    };
    let with_epoch = |partitions: &BTreeSet<i32>| {
        partitions.iter().map(|partition| (*partition, group.generation)).collect()
    };
    let assigned: Owned =
        partitions.iter().map(|(topic, partitions)| (*topic, with_epoch(partitions))).collect();
    let mut upgraded = Member::new(&member.id);
    upgraded.instance_id = member.instance_id.clone();
    upgraded.rack_id = read.rack_id.map(str::to_owned);
    upgraded.client_id = member.client_id.clone();
    upgraded.client_host = member.client_host.clone();
    upgraded.topics = read.topics.iter().map(|name| (*name).to_owned()).collect();
    upgraded.rebalance_timeout_ms = member.rebalance_timeout_ms;
    upgraded.epoch = group.generation;
    upgraded.previous_epoch = group.generation;
    upgraded.state = MemberState::Stable;
    upgraded.assigned = assigned;
    upgraded.classic = Some(ClassicPart {
        session_timeout_ms: member.session_timeout_ms,
        protocols: member
            .protocols
            .iter()
            .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
            .collect(),
    });
    Ok(upgraded)
}
