//! The group coordinator of one partition of `__consumer_offsets`: pure, without I/O or clock.
//!
//! Each verb takes a request and the time, changes the groups in memory, and returns [`Effects`]:
//! records to append and replies to send. Time passes through [`Coordinator::tick`], which is due
//! at [`Coordinator::next_deadline_ms`]. The same calls with the same seed give the same effects.
//!
//! **The rule of replies:** the caller appends an effect's records at once, before it calls again,
//! and sends an effect's replies once everything that was appended up to then is durable, also
//! where the effect itself has no records. So no reply tells of a state that a crash could undo. If
//! an append is refused or a flush fails, the caller drops the coordinator, answers everyone who
//! still waits with an error, and loads a new one from the log: that is the rollback. Nothing that
//! was acknowledged is in it only.
//!
//! Who coordinates a group is [`partition_of`]'s to say. Knows no sockets, logs or shards.
#![forbid(unsafe_code)]

mod classic;
mod consumer;
mod groups;
#[cfg(test)]
mod harness;
mod load;
mod offsets;
mod random;
pub mod records;
pub mod replies;
mod settings;
mod topics;

pub use records::{Record, RecordError};
pub use replies::Reply;
pub use settings::{GroupSettings, MigrationPolicy, OwnSettings};
pub use topics::{TopicView, TopicsView};

use crate::base::limits;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::messages::leave_group::LeaveGroupRequest;
use crate::protocol::messages::sync_group::SyncGroupRequest;
use crate::protocol::subscription;
use groups::Group;
use random::Random;
use replies::{JoinReply, LeaveReply, SyncReply};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names one waiting request; the caller's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What comes of a call. See the module's rule of replies.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    pub records: Vec<Record>,
    pub replies: Vec<(ReplyId, Reply)>,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Of a clock that nobody sets, from any start, ms: deadlines go by it.
    pub steady_ms: i64,
    /// Unix time, ms: what is stored goes by it, and ages over restarts.
    pub unix_ms: i64,
}

/// Who calls, when, and what the topics are then.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub reply: ReplyId,
    /// The request's version.
    pub version: i16,
    pub client_id: &'a str,
    /// As Kafka shows it: a slash and the address.
    pub client_host: &'a str,
    pub now: Moment,
    pub topics: &'a dyn TopicsView,
}

/// What a group's verb works with besides the group.
struct Turn<'a> {
    now: Moment,
    topics: &'a dyn TopicsView,
    settings: &'a GroupSettings,
    random: &'a mut Random,
    effects: Effects,
}

/// The partition of `__consumer_offsets` whose leader coordinates the group: Java's hash of the id,
/// without its sign, modulo the number of partitions.
pub fn partition_of(group_id: &str, partitions_count: i32) -> i32 {
    assert!(partitions_count > 0, "the topic has partitions");
    let hash = group_id
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // As Kafka's Utils.abs: the one number without a positive twin counts as 0.
    hash.checked_abs().unwrap_or(0) % partitions_count
}

/// All groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    settings: GroupSettings,
    random: Random,
    groups: BTreeMap<Arc<str>, Group>,
    wakes: BTreeSet<(i64, Arc<str>)>, // one for each group that time can change
    sweep_ms: i64,                    // when offsets are next looked through for expired ones
    sweep_from: Option<Arc<str>>,     // where a sweep under way goes on
}

impl Coordinator {
    /// An empty one, ready to load. `seed` decides the member ids.
    pub fn new(settings: GroupSettings, seed: u64) -> Coordinator {
        Coordinator {
            settings,
            random: Random::new(seed),
            groups: BTreeMap::new(),
            wakes: BTreeSet::new(),
            sweep_ms: i64::MAX,
            sweep_from: None,
        }
    }

    /// How many groups there are.
    pub fn groups_count(&self) -> usize {
        self.groups.len()
    }

    /// When `tick` is due, if ever; on the steady clock.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let wake_ms = self.wakes.first().map_or(i64::MAX, |(wake_ms, _)| *wake_ms);
        Some(wake_ms.min(self.sweep_ms)).filter(|deadline_ms| *deadline_ms < i64::MAX)
    }

    /// Lets time pass: sessions and rebalances that ran out, offsets that expired.
    pub fn tick(&mut self, now: Moment, topics: &dyn TopicsView) -> Effects {
        let mut effects = Effects::default();
        while let Some((wake_ms, group_id)) = self.wakes.first().cloned() {
            if wake_ms > now.steady_ms {
                break;
            }
            self.on_group(&group_id, now, topics, &mut effects, |group, turn| {
                group.tick(turn);
            });
        }
        if self.sweep_ms <= now.steady_ms {
            self.sweep_offsets(now, topics, &mut effects);
        }
        effects
    }

    // ---- the classic protocol -------------------------------------------------------------

    /// JoinGroup.
    pub fn join_group(&mut self, call: &Call<'_>, request: &JoinGroupRequest<'_>) -> Effects {
        let mut effects = Effects::default();
        if let Err(error) = self.try_join(call, request, &mut effects) {
            let reply = JoinReply::failed(request.member_id, error);
            effects.replies.push((call.reply, Reply::JoinGroup(reply)));
        }
        effects
    }

    fn try_join(
        &mut self,
        call: &Call<'_>,
        request: &JoinGroupRequest<'_>,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        group_id_named(request.group_id)?;
        let allowed = self.settings.session_timeout_ms_min..=self.settings.session_timeout_ms_max;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        if request.member_id.is_empty() {
            self.create_group(request.group_id, call.now.unix_ms)?;
        }
        let joined = self.on_call(call, request.group_id, effects, |group, turn| {
            group.join(call, request, turn)
        });
        joined.unwrap_or(Err(ErrorCode::UnknownMemberId))
    }

    /// SyncGroup.
    pub fn sync_group(&mut self, call: &Call<'_>, request: &SyncGroupRequest<'_>) -> Effects {
        let mut effects = Effects::default();
        let synced = group_id_named(request.group_id).and_then(|()| {
            self.on_call(call, request.group_id, &mut effects, |group, turn| {
                group.sync(call, request, turn)
            })
            .unwrap_or(Err(ErrorCode::UnknownMemberId))
        });
        if let Err(error) = synced {
            effects.replies.push((call.reply, Reply::SyncGroup(SyncReply::failed(error))));
        }
        effects
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, call: &Call<'_>, request: &HeartbeatRequest<'_>) -> Effects {
        let mut effects = Effects::default();
        let alive = group_id_named(request.group_id).and_then(|()| {
            self.on_call(call, request.group_id, &mut effects, |group, turn| {
                group.heartbeat(request, turn)
            })
            .unwrap_or(Err(ErrorCode::UnknownMemberId))
        });
        let error = alive.err().unwrap_or(ErrorCode::None);
        effects.replies.push((call.reply, Reply::Heartbeat(error)));
        effects
    }

    /// LeaveGroup.
    pub fn leave_group(&mut self, call: &Call<'_>, request: &LeaveGroupRequest<'_>) -> Effects {
        let mut effects = Effects::default();
        let left = group_id_named(request.group_id).and_then(|()| {
            self.on_call(call, request.group_id, &mut effects, |group, turn| {
                group.leave(call.version, request, turn)
            })
            .ok_or(ErrorCode::UnknownMemberId)
        });
        let reply = left.unwrap_or_else(LeaveReply::failed);
        effects.replies.push((call.reply, Reply::LeaveGroup(reply)));
        effects
    }

    // ---- common ground --------------------------------------------------------------------

    /// Makes sure that there is such a group.
    ///
    /// # Errors
    /// There are too many groups: Kafka has no code for that; clients look for another coordinator.
    fn create_group(&mut self, group_id: &str, unix_ms: i64) -> Result<(), ErrorCode> {
        if self.groups.contains_key(group_id) {
            return Ok(());
        }
        if self.groups.len() >= limits::GROUPS_PER_COORDINATOR_MAX {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let id: Arc<str> = group_id.into();
        self.groups.insert(id.clone(), Group::new(id, unix_ms));
        Ok(())
    }

    fn on_call<T>(
        &mut self,
        call: &Call<'_>,
        group_id: &str,
        effects: &mut Effects,
        verb: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        self.on_group(group_id, call.now, call.topics, effects, verb)
    }

    /// Does `verb` to a group, then sees to when it must wake and whether it is worth keeping.
    fn on_group<T>(
        &mut self,
        group_id: &str,
        now: Moment,
        topics: &dyn TopicsView,
        effects: &mut Effects,
        verb: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let Coordinator { settings, random, groups, wakes, .. } = self;
        let group = groups.get_mut(group_id)?;
        let effects_before = std::mem::take(effects);
        let own = topics.own_settings(group_id);
        let own = (own != OwnSettings::default()).then(|| own.over(settings));
        let settings = own.as_ref().unwrap_or(settings);
        let mut turn = Turn { now, topics, settings, random, effects: effects_before };
        let result = verb(group, &mut turn);
        *effects = turn.effects;
        if group.is_nothing() {
            let id = group.id.clone();
            wakes.remove(&(group.wake_ms, id));
            groups.remove(group_id);
            return Some(result);
        }
        let soonest_ms = group.soonest_ms();
        if soonest_ms < group.wake_ms || group.wake_ms <= now.steady_ms {
            wakes.remove(&(group.wake_ms, group.id.clone()));
            group.wake_ms = soonest_ms.max(now.steady_ms.saturating_add(1));
            if group.wake_ms < i64::MAX {
                wakes.insert((group.wake_ms, group.id.clone()));
            }
        }
        Some(result)
    }
}

fn group_id_named(group_id: &str) -> Result<(), ErrorCode> {
    if group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: groups live where Kafka's clients' tools expect them. Method: Java's own hashes.
    #[test]
    fn a_groups_partition_is_javas_hash_of_its_id() {
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("hello", 1_000_000_000), 99_162_322);
        assert_eq!(partition_of("polygenelubricants", 50), 0); // i32::MIN
    }
}
