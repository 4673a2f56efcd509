//! ConsumerGroupHeartbeat: joining, living on, leaving; and what becomes of silence.

use super::{Consumer, LEFT_FOR_A_WHILE, Member, MemberState, Owned, Refusal, refuse, target};
use super::{assign, without_epochs};
use crate::base::limits;
use crate::coordinator::replies::{ConsumerHeartbeatReply, Partitions};
use crate::coordinator::{Call, Turn};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

const JOINS: i32 = 0;
const LEAVES: i32 = -1;
/// The version from which members make up their own ids.
const OWN_ID_FROM: i16 = 1;

/// Checks what can be checked without the group.
///
/// # Errors
/// Kafka's refusals, word for word.
pub(in crate::coordinator) fn validate(
    version: i16,
    request: &ConsumerGroupHeartbeatRequest<'_>,
) -> Result<(), Refusal> {
    let invalid = |message: &str| refuse(ErrorCode::InvalidRequest, message);
    let blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    if (version >= OWN_ID_FROM || request.member_epoch != JOINS) && blank(Some(request.member_id)) {
        return invalid("MemberId can't be empty.");
    }
    if blank(Some(request.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if blank(request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if blank(request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    match request.member_epoch {
        JOINS => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none()
            {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null \
                     when (re-)joining.",
                );
            }
        }
        LEFT_FOR_A_WHILE if request.instance_id.is_none() => {
            return invalid("InstanceId can't be null.");
        }
        ..LEFT_FOR_A_WHILE => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    let names_count = request.subscribed_topic_names.as_ref().map_or(0, Vec::len);
    if names_count > limits::GROUP_TOPICS_COUNT_MAX {
        return invalid("Too many SubscribedTopicNames.");
    }
    if let Some(assignor) = request.server_assignor
        && !assign::NAMES.contains(&assignor)
    {
        let supported = assign::NAMES.join(", ");
        return refuse(
            ErrorCode::UnsupportedAssignor,
            format!(
                "ServerAssignor {assignor} is not supported. Supported assignors: {supported}."
            ),
        );
    }
    match request.subscribed_topic_regex {
        Some(regex) if !regex.is_empty() => target::compile(regex).map(|_| ()),
        _ => Ok(()),
    }
}

/// Whether the request makes a member, so that it may make the group.
pub(in crate::coordinator) fn joins(request: &ConsumerGroupHeartbeatRequest<'_>) -> bool {
    request.member_epoch == JOINS
}

/// Whether the request ends a membership, or interrupts a static one.
pub(in crate::coordinator) fn leaves(request: &ConsumerGroupHeartbeatRequest<'_>) -> bool {
    request.member_epoch < JOINS
}

impl Consumer {
    /// One heartbeat of a member that joins or goes on.
    ///
    /// # Errors
    /// Kafka's refusal; the group is as before.
    pub(in crate::coordinator) fn heartbeat(
        &mut self,
        call: &Call<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        let member_id = match request.member_id {
            "" => turn.random.uuid(),
            own => own.to_owned(),
        };
        let full = self.members.len() >= turn.settings.consumer_members_count_max;
        if full && !self.members.contains_key(&member_id) && !self.replaces(request) {
            let most = turn.settings.consumer_members_count_max;
            return refuse(
                ErrorCode::GroupMaxSizeReached,
                format!("The consumer group has reached its maximum capacity of {most} members."),
            );
        }
        let reported = request.topic_partitions.as_ref().map(|topics| {
            let mut owned = Partitions::new();
            for topic in topics {
                owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
            }
            owned
        });
        let joins = joins(request);
        let is_new = match request.instance_id {
            None => self.subscribe(&member_id, request.member_epoch, joins, reported.as_ref())?,
            Some(instance_id) => self.subscribe_static(
                &member_id,
                instance_id,
                request.member_epoch,
                joins,
                reported.as_ref(),
                turn,
            )?,
        };
        let changed = self.update(&member_id, call, request, turn);
        self.update_target(is_new || changed || self.epoch == 0, turn);
        let reassigned = self.reconcile(&member_id, reported.as_ref(), turn)?;
        self.touch(&member_id, turn);
        self.check();
        let member = &self.members[&member_id];
        let in_full = joins
            || (request.rebalance_timeout_ms != -1
                && (request.subscribed_topic_names.is_some()
                    || request.subscribed_topic_regex.is_some())
                && request.topic_partitions.is_some());
        Ok(ConsumerHeartbeatReply {
            error: ErrorCode::None,
            error_message: None,
            member_epoch: member.epoch,
            heartbeat_interval_ms: turn.settings.consumer_heartbeat_interval_ms,
            assignment: (in_full || reassigned).then(|| without_epochs(&member.assigned)),
            member_id: Some(member_id),
        })
    }

    /// Whether it takes a static member's place, which makes the group no larger.
    fn replaces(&self, request: &ConsumerGroupHeartbeatRequest<'_>) -> bool {
        request.instance_id.is_some_and(|id| self.static_members.contains_key(id))
    }

    /// Finds or makes a dynamic member; whether it is new.
    pub(super) fn subscribe(
        &mut self,
        member_id: &str,
        epoch: i32,
        create: bool,
        reported: Option<&Partitions>,
    ) -> Result<bool, Refusal> {
        if let Some(member) = self.members.get(member_id) {
            validate_epoch(member, epoch, reported)?;
            return Ok(false);
        }
        if !create {
            return self.unknown(member_id);
        }
        self.members.insert(member_id.to_owned(), Member::new(member_id));
        Ok(true)
    }

    fn unknown<T>(&self, member_id: &str) -> Result<T, Refusal> {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        refuse(ErrorCode::UnknownMemberId, message)
    }

    /// Finds, makes or replaces a static member; whether it is new.
    fn subscribe_static(
        &mut self,
        member_id: &str,
        instance_id: &str,
        epoch: i32,
        joins: bool,
        reported: Option<&Partitions>,
        turn: &mut Turn<'_>,
    ) -> Result<bool, Refusal> {
        if !joins {
            self.static_member(member_id, instance_id)?;
            validate_epoch(&self.members[member_id], epoch, reported)?;
            return Ok(false);
        }
        let Some(holder) = self.static_members.get(instance_id).cloned() else {
            let is_new = self.subscribe(member_id, epoch, true, reported)?;
            self.static_members.insert(instance_id.to_owned(), member_id.to_owned());
            return Ok(is_new);
        };
        let held = &self.members[&holder];
        if held.epoch != LEFT_FOR_A_WHILE && held.classic.is_none() {
            return refuse(
                ErrorCode::UnreleasedInstanceId,
                format!(
                    "Static member {member_id} with instance id {instance_id} cannot join the \
                     group because the instance id is owned by {holder} member."
                ),
            );
        }
        self.replace(&holder, member_id, turn);
        Ok(false)
    }

    /// Checks that an instance id is the member's own.
    pub(super) fn static_member(&self, member_id: &str, instance_id: &str) -> Result<(), Refusal> {
        match self.static_members.get(instance_id) {
            None => {
                refuse(ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))
            }
            Some(holder) if holder != member_id => refuse(
                ErrorCode::FencedInstanceId,
                format!(
                    "Static member {member_id} with instance id {instance_id} was fenced by \
                     member {holder}."
                ),
            ),
            Some(_) => Ok(()),
        }
    }

    /// Puts a static member's new self in the old one's place, with all that it owns. It starts
    /// again from epoch 0.
    pub(super) fn replace(&mut self, old_id: &str, new_id: &str, turn: &mut Turn<'_>) {
        self.disown(old_id);
        let mut member = self.members.remove(old_id).expect("static members are members");
        if old_id != new_id {
            self.erase_member(old_id, turn);
        }
        let target = self.targets.remove(old_id).unwrap_or_default();
        member.id = new_id.to_owned();
        member.epoch = JOINS;
        member.previous_epoch = JOINS;
        member.state = MemberState::Stable;
        member.revoking = Owned::new(); // its old self is gone
        member.rebalance_deadline_ms = i64::MAX;
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.to_owned());
        }
        self.write_member(&member, turn);
        self.write_target(new_id, &target, turn);
        self.write_current(&member, turn);
        self.targets.insert(new_id.to_owned(), target);
        self.members.insert(new_id.to_owned(), member);
        self.own(new_id);
    }

    /// Takes over what the member says of itself; whether its subscription changed.
    fn update(
        &mut self,
        member_id: &str,
        call: &Call<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let before = &self.members[member_id];
        let says_nothing = request.instance_id.is_none_or(|_| before.instance_id.is_some())
            && request.rack_id.is_none()
            && request.server_assignor.is_none()
            && request.rebalance_timeout_ms == -1
            && request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none();
        let same_client =
            before.client_id == call.client_id && before.client_host == call.client_host;
        if says_nothing && same_client && before.classic.is_none() {
            return false; // as almost every heartbeat
        }
        let mut member = before.clone();
        let own = |text: Option<&str>| text.map(str::to_owned);
        member.instance_id = own(request.instance_id).or(member.instance_id);
        member.rack_id = own(request.rack_id).or(member.rack_id);
        member.assignor = own(request.server_assignor).or(member.assignor);
        if request.rebalance_timeout_ms != -1 {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(names) = &request.subscribed_topic_names {
            member.topics = names.iter().map(|name| (*name).to_owned()).collect();
        }
        if let Some(regex) = request.subscribed_topic_regex {
            member.regex = Some(regex.to_owned()).filter(|regex| !regex.is_empty());
        }
        member.client_id = call.client_id.to_owned();
        member.client_host = call.client_host.to_owned();
        member.classic = None;
        self.put_changed(member, turn)
    }

    /// Stores a member, with a record if anything is new; whether its subscription is.
    pub(super) fn put_changed(&mut self, member: Member, turn: &mut Turn<'_>) -> bool {
        let before = &self.members[&member.id];
        let resubscribed = before.topics != member.topics || before.regex != member.regex;
        let unrecorded = before.rebalance_timeout_ms == -1 && before.epoch == 0;
        let changed = resubscribed
            || unrecorded
            || before.instance_id != member.instance_id
            || before.rack_id != member.rack_id
            || before.assignor != member.assignor
            || before.rebalance_timeout_ms != member.rebalance_timeout_ms
            || before.client_id != member.client_id
            || before.client_host != member.client_host
            || before.classic != member.classic;
        if changed {
            self.write_member(&member, turn);
        }
        self.members.insert(member.id.clone(), member);
        resubscribed
    }

    /// A sign of life: the session begins anew.
    pub(super) fn touch(&mut self, member_id: &str, turn: &Turn<'_>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let timeout_ms = match &member.classic {
            Some(classic) => classic.session_timeout_ms,
            None => turn.settings.consumer_session_timeout_ms,
        };
        member.session_deadline_ms = turn.now.steady_ms + i64::from(timeout_ms);
        self.soonest_ms = self.soonest_ms.min(member.session_deadline_ms);
    }

    /// Checks a goodbye. Gives the member that leaves for good, or nobody if it was a static
    /// member that leaves for a while, which is done here.
    ///
    /// # Errors
    /// Kafka's refusal.
    pub(in crate::coordinator) fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Option<String>, Refusal> {
        let member_id = request.member_id;
        if let Some(instance_id) = request.instance_id {
            self.static_member(member_id, instance_id)?;
        }
        if !self.members.contains_key(member_id) {
            return self.unknown(member_id);
        }
        if request.member_epoch == LEAVES {
            return Ok(Some(member_id.to_owned()));
        }
        self.disown(member_id);
        let mut member = self.members.remove(member_id).expect("looked up above");
        member.epoch = LEFT_FOR_A_WHILE;
        member.revoking = Owned::new();
        member.rebalance_deadline_ms = i64::MAX;
        for epoch in member.assigned.values_mut().flat_map(|partitions| partitions.values_mut()) {
            *epoch = 0;
        }
        self.write_current(&member, turn);
        self.members.insert(member_id.to_owned(), member);
        self.own(member_id);
        self.check();
        Ok(None)
    }

    /// Members whose session or whose time to give up partitions, to rejoin or to sync has ended.
    pub(in crate::coordinator) fn overdue(&self, now_ms: i64) -> Vec<String> {
        let late = self.members.values().filter(|member| {
            member.session_deadline_ms <= now_ms || member.rebalance_deadline_ms <= now_ms
        });
        late.map(|member| member.id.clone()).collect()
    }

    /// Finds the next deadline, once all that have passed were acted upon.
    pub(in crate::coordinator) fn find_soonest(&mut self) {
        let deadlines = self
            .members
            .values()
            .map(|member| member.session_deadline_ms.min(member.rebalance_deadline_ms));
        self.soonest_ms = deadlines.min().unwrap_or(i64::MAX);
    }

    /// Takes members out for good; the others hear of it with their next heartbeats.
    pub(in crate::coordinator) fn remove(&mut self, ids: &[String], turn: &mut Turn<'_>) {
        for id in ids {
            self.disown(id);
            let Some(member) = self.members.remove(id) else { continue };
            self.targets.remove(id);
            if let Some(instance_id) = &member.instance_id
                && self.static_members.get(instance_id) == Some(id)
            {
                self.static_members.remove(instance_id);
            }
            self.erase_member(id, turn);
        }
        self.resolve_regexes(turn);
        self.bump_epoch(turn);
        self.check();
    }
}

/// A member may be one epoch behind, if the answer that told it was lost: then what it owns must be
/// within what it was given.
fn validate_epoch(
    member: &Member,
    epoch: i32,
    reported: Option<&Partitions>,
) -> Result<(), Refusal> {
    if epoch == JOINS || epoch == member.epoch {
        return Ok(());
    }
    let refused = |than: &str| {
        refuse(
            ErrorCode::FencedMemberEpoch,
            format!(
                "The consumer group member has a {than} member epoch ({epoch}) than the one known \
                 by the group coordinator ({}). The member must abandon all its partitions and \
                 rejoin.",
                member.epoch
            ),
        )
    };
    if epoch > member.epoch {
        return refused("greater");
    }
    let within = reported.is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            let assigned = member.assigned.get(topic);
            partitions
                .iter()
                .all(|partition| assigned.is_some_and(|assigned| assigned.contains_key(partition)))
        })
    });
    if epoch == member.previous_epoch && within { Ok(()) } else { refused("smaller") }
}
