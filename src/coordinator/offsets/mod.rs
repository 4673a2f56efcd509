//! Committed offsets: commits, fetches, deletions, and their end.
//!
//! An offset belongs to a group, whether or not the group ever has members. It ends with its topic,
//! when it is deleted, or when the group no longer needs it (KIP-211): `offsets.retention.minutes`
//! after the group became empty, or, where nobody in the group reads the topic, after the commit.

#[cfg(test)]
mod tests;

use super::classic::State;
use super::groups::{Group, Kind};
use super::records::{self, OffsetCommitKey, OffsetCommitValue};
use super::replies::{
    FetchedOffset, OffsetCommitReply, OffsetDeleteReply, OffsetFetchReply, Reply, TopicReply,
};
use super::{Call, Coordinator, Effects, Moment, TopicsView, Turn};
use crate::base::ids::TopicId;
use crate::base::limits;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete::OffsetDeleteRequest;
use crate::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// How many tombstones a sweep writes at once; the rest follows at the next tick.
const SWEEP_RECORDS_MAX: usize = 10_000;

/// One committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    offset: i64,
    leader_epoch: i32,
    metadata: Box<str>,
    commit_ms: i64,
    expire_ms: i64, // the client's own wish, before OffsetCommit 5; -1: none
    topic_id: TopicId,
}

#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Box<str>, BTreeMap<i32, Committed>>,
    count: usize,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn load(&mut self, key: &OffsetCommitKey<'_>, value: &OffsetCommitValue<'_>) {
        let committed = Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.into(),
            commit_ms: value.commit_timestamp,
            expire_ms: value.expire_timestamp,
            topic_id: value.topic_id,
        };
        self.put(key.topic, key.partition, committed);
    }

    fn put(&mut self, topic: &str, partition: i32, committed: Committed) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), BTreeMap::new());
        }
        let partitions = self.topics.get_mut(topic).expect("inserted above");
        self.count += usize::from(partitions.insert(partition, committed).is_none());
    }

    fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let removed = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        self.count -= usize::from(removed);
        removed
    }

    /// Takes out, with tombstones, what `ends` says of topic and offset.
    fn remove_where(
        &mut self,
        group_id: &str,
        effects: &mut Effects,
        mut ends: impl FnMut(&str, &Committed) -> bool,
    ) {
        self.topics.retain(|topic, partitions| {
            partitions.retain(|&partition, committed| {
                let ended = ends(topic, committed);
                if ended {
                    let key = OffsetCommitKey { group: group_id, topic, partition };
                    effects.records.push(records::offset(&key, None));
                    self.count -= 1;
                }
                !ended
            });
            !partitions.is_empty()
        });
    }

    pub(super) fn delete_all(&mut self, group_id: &str, effects: &mut Effects) {
        self.remove_where(group_id, effects, |_, _| true);
        assert!(self.is_empty(), "all of them were deleted");
    }
}

impl Group {
    /// Whether who commits may (KIP-848 has rules of its own).
    fn validate_commit(
        &mut self,
        call: &Call<'_>,
        request: &OffsetCommitRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let group = match &mut self.kind {
            Kind::Classic(group) => group,
            Kind::Consumer(group) => return group.validate_commit(call, request),
        };
        let generation = request.generation_id_or_member_epoch;
        let (member_id, instance_id) = (request.member_id, request.group_instance_id);
        if generation < 0 && group.state == State::Empty {
            return Ok(()); // an admin client, or a consumer that assigns its partitions itself
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId); // a group with members is theirs alone
        }
        group.validate_member(member_id, instance_id)?;
        if generation != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if group.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        group.touch(member_id, call.now.steady_ms);
        Ok(())
    }

    /// Commits what can be committed; a code for each partition.
    fn commit(
        &mut self,
        call: &Call<'_>,
        request: &OffsetCommitRequest<'_>,
        metadata_max: usize,
        effects: &mut Effects,
    ) -> OffsetCommitReply {
        let expire_ms = match request.retention_time_ms {
            ..0 => -1,
            retention_ms => call.now.unix_ms.saturating_add(retention_ms),
        };
        let topics = request.topics.iter().map(|topic| {
            let known = call.topics.topic(topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let exists = known.is_some_and(|known| {
                    (0..known.partitions_count).contains(&asked.partition_index)
                });
                let error = if !exists {
                    ErrorCode::UnknownTopicOrPartition
                } else if too_long(asked.committed_metadata, metadata_max) {
                    ErrorCode::OffsetMetadataTooLarge
                } else if self.offsets.count >= limits::GROUP_OFFSETS_COUNT_MAX {
                    ErrorCode::InvalidCommitOffsetSize
                } else {
                    let topic_id = known.map_or(topic.topic_id, |known| known.id);
                    let committed = committed(asked, topic_id, call.now.unix_ms, expire_ms);
                    self.append_commit(topic, asked.partition_index, committed, effects);
                    ErrorCode::None
                };
                partitions.push((asked.partition_index, error));
            }
            TopicReply { id: topic.topic_id, name: topic.name.to_owned(), partitions }
        });
        OffsetCommitReply { topics: topics.collect() }
    }

    fn append_commit(
        &mut self,
        topic: &OffsetCommitRequestTopic<'_>,
        partition: i32,
        committed: Committed,
        effects: &mut Effects,
    ) {
        let key = OffsetCommitKey { group: &self.id, topic: topic.name, partition };
        let value = OffsetCommitValue {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: &committed.metadata,
            commit_timestamp: committed.commit_ms,
            expire_timestamp: committed.expire_ms,
            topic_id: committed.topic_id,
        };
        effects.records.push(records::offset(&key, Some(&value)));
        self.offsets.put(topic.name, partition, committed);
    }

    /// Members of the consumer protocol say who they are (OffsetFetch 9 and up).
    fn validate_fetch(&self, request: &OffsetFetchRequestGroup<'_>) -> Result<(), ErrorCode> {
        match &self.kind {
            Kind::Classic(_) => Ok(()),
            Kind::Consumer(group) => group.validate_fetch(request.member_id, request.member_epoch),
        }
    }

    fn fetch(&self, request: &OffsetFetchRequestGroup<'_>, topics: &dyn TopicsView) -> Fetched {
        let Some(asked) = &request.topics else {
            let all = self.offsets.topics.iter().map(|(name, partitions)| TopicReply {
                id: topics.topic(name).map_or(TopicId::ZERO, |topic| topic.id),
                name: name.to_string(),
                partitions: partitions
                    .iter()
                    .map(|(partition, committed)| fetched(*partition, committed))
                    .collect(),
            });
            return all.collect();
        };
        let one = |topic: &OffsetFetchRequestTopics<'_>, partition: &i32| match self
            .offsets
            .get(topic.name, *partition)
        {
            Some(committed) if same_topic(committed.topic_id, topic.topic_id) => {
                fetched(*partition, committed)
            }
            _ => FetchedOffset::none(*partition, ErrorCode::None),
        };
        let topics = asked.iter().map(|topic| TopicReply {
            id: topic.topic_id,
            name: topic.name.to_owned(),
            partitions: topic.partition_indexes.iter().map(|each| one(topic, each)).collect(),
        });
        topics.collect()
    }

    /// Whether members read the topic, so that its offsets are in use.
    fn is_subscribed(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.is_subscribed(topic),
            Kind::Consumer(group) => group.is_subscribed(topic),
        }
    }

    /// Takes out the offsets that nobody needs any more; then the group, if it is nothing without.
    fn expire(&mut self, retention_ms: i64, turn: &mut Turn<'_>) {
        let now_ms = turn.now.unix_ms; // offsets age over restarts
        if let Some(since_ms) = self.retention_since_ms() {
            let mut offsets = std::mem::take(&mut self.offsets);
            offsets.remove_where(&self.id, &mut turn.effects, |topic, committed| {
                if self.is_subscribed(topic) {
                    return false;
                }
                if committed.expire_ms >= 0 {
                    return committed.expire_ms <= now_ms;
                }
                let base_ms = if since_ms >= 0 { since_ms } else { committed.commit_ms };
                base_ms.saturating_add(retention_ms) <= now_ms
            });
            self.offsets = offsets;
        }
        if self.offsets.is_empty() && self.is_empty() && !self.awaits_members() {
            self.delete(turn);
        }
    }

    /// From when an offset's retention counts, -1: from its commit; `None`: the group is at work
    /// and none expires.
    fn retention_since_ms(&self) -> Option<i64> {
        let Kind::Classic(group) = &self.kind else { return Some(-1) };
        match group.state {
            _ if group.is_simple() => Some(-1),
            State::Empty => Some(group.state_since_ms),
            State::Stable if group.knows_subscriptions() => Some(-1),
            _ => None,
        }
    }

    fn awaits_members(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.awaits_members(),
            Kind::Consumer(_) => false,
        }
    }
}

type Fetched = Vec<TopicReply<FetchedOffset>>;

impl Coordinator {
    /// OffsetCommit. Every topic must carry its name, also where the wire has only its id: the
    /// server resolves ids and answers those that are none itself.
    pub fn offset_commit(&mut self, call: &Call<'_>, request: &OffsetCommitRequest<'_>) -> Effects {
        let mut effects = Effects::default();
        let reply = self
            .try_commit(call, request, &mut effects)
            .unwrap_or_else(|error| OffsetCommitReply::failed(request, error));
        effects.replies.push((call.reply, Reply::OffsetCommit(reply)));
        effects
    }

    fn try_commit(
        &mut self,
        call: &Call<'_>,
        request: &OffsetCommitRequest<'_>,
        effects: &mut Effects,
    ) -> Result<OffsetCommitReply, ErrorCode> {
        if !self.groups.contains_key(request.group_id) {
            if request.generation_id_or_member_epoch >= 0 {
                return Err(ErrorCode::IllegalGeneration);
            }
            self.create_group(request.group_id, call.now.unix_ms)?;
        }
        let metadata_max = self.settings.offset_metadata_max;
        let committed = self.on_call(call, request.group_id, effects, |group, turn| {
            group.validate_commit(call, request)?;
            Ok(group.commit(call, request, metadata_max, &mut turn.effects))
        });
        committed.unwrap_or(Err(ErrorCode::UnknownMemberId))
    }

    /// OffsetFetch, one of its groups; topics named as for `offset_commit`. There are no open
    /// transactions here, so every offset is stable.
    pub fn offset_fetch(
        &mut self,
        call: &Call<'_>,
        request: &OffsetFetchRequestGroup<'_>,
    ) -> Effects {
        let reply = match self.groups.get(request.group_id) {
            None => OffsetFetchReply::failed(request, ErrorCode::None),
            Some(group) => match group.validate_fetch(request) {
                Err(error) => OffsetFetchReply::failed(request, error),
                Ok(()) => OffsetFetchReply {
                    group_id: request.group_id.to_owned(),
                    error: ErrorCode::None,
                    topics: group.fetch(request, call.topics),
                },
            },
        };
        Effects { records: Vec::new(), replies: vec![(call.reply, Reply::OffsetFetch(reply))] }
    }

    /// OffsetDelete (KIP-496): not of topics that members are subscribed to.
    pub fn offset_delete(&mut self, call: &Call<'_>, request: &OffsetDeleteRequest<'_>) -> Effects {
        let mut effects = Effects::default();
        let deleted = self.on_call(call, request.group_id, &mut effects, |group, turn| {
            group.delete_offsets(request, &mut turn.effects)
        });
        let reply = match deleted {
            Some(Ok(reply)) => reply,
            Some(Err(error)) => OffsetDeleteReply::failed(error),
            None => OffsetDeleteReply::failed(ErrorCode::GroupIdNotFound),
        };
        effects.replies.push((call.reply, Reply::OffsetDelete(reply)));
        effects
    }

    /// A topic is gone: so are its offsets, in every group.
    pub fn topic_deleted(&mut self, topic: &str, now: Moment, topics: &dyn TopicsView) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<Arc<str>> = self
            .groups
            .values()
            .filter(|group| group.offsets.topics.contains_key(topic))
            .map(|group| group.id.clone())
            .collect();
        for id in ids {
            self.on_group(&id, now, topics, &mut effects, |group, turn| {
                let group_id = group.id.clone();
                let ends = |name: &str, _: &Committed| name == topic;
                group.offsets.remove_where(&group_id, &mut turn.effects, ends);
            });
        }
        effects
    }

    /// Looks through the groups for expired offsets, a bounded number of them at once.
    pub(super) fn sweep_offsets(
        &mut self,
        now: Moment,
        topics: &dyn TopicsView,
        effects: &mut Effects,
    ) {
        let retention_ms = self.settings.offsets_retention_ms;
        loop {
            let from = self.sweep_from.take().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.groups.range::<Arc<str>, _>((from, Bound::Unbounded)).next();
            let Some(id) = next.map(|(id, _)| id.clone()) else { break };
            self.on_group(&id, now, topics, effects, |group, turn| {
                group.expire(retention_ms, turn);
            });
            self.sweep_from = Some(id);
            if effects.records.len() >= SWEEP_RECORDS_MAX {
                self.sweep_ms = now.steady_ms + 1;
                return;
            }
        }
        self.sweep_ms = now.steady_ms + self.settings.offsets_check_interval_ms;
    }
}

impl Group {
    fn delete_offsets(
        &mut self,
        request: &OffsetDeleteRequest<'_>,
        effects: &mut Effects,
    ) -> Result<OffsetDeleteReply, ErrorCode> {
        if let Kind::Classic(group) = &self.kind
            && group.state != State::Empty
            && !group.uses_consumer_protocol()
        {
            return Err(ErrorCode::NonEmptyGroup); // what its members read is not known
        }
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let subscribed = self.is_subscribed(topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let partition = partition.partition_index;
                if subscribed {
                    partitions.push((partition, ErrorCode::GroupSubscribedToTopic));
                    continue;
                }
                if self.offsets.remove(topic.name, partition) {
                    let key = OffsetCommitKey { group: &self.id, topic: topic.name, partition };
                    effects.records.push(records::offset(&key, None));
                }
                partitions.push((partition, ErrorCode::None));
            }
            let name = topic.name.to_owned();
            topics.push(TopicReply { id: TopicId::ZERO, name, partitions });
        }
        Ok(OffsetDeleteReply { error: ErrorCode::None, topics })
    }
}

fn committed(
    asked: &OffsetCommitRequestPartition<'_>,
    topic_id: TopicId,
    commit_ms: i64,
    expire_ms: i64,
) -> Committed {
    Committed {
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.unwrap_or_default().into(),
        commit_ms,
        expire_ms,
        topic_id,
    }
}

fn fetched(partition: i32, committed: &Committed) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.to_string(),
        error: ErrorCode::None,
    }
}

/// An offset of a topic that was deleted and made anew is none of the new one's; without an id on
/// either side the name decides.
fn same_topic(committed: TopicId, asked: TopicId) -> bool {
    committed == TopicId::ZERO || asked == TopicId::ZERO || committed == asked
}

/// Kafka counts Java's characters.
fn too_long(metadata: Option<&str>, most: usize) -> bool {
    let metadata = metadata.unwrap_or_default();
    metadata.len() > most && metadata.encode_utf16().count() > most
}
