//! For tests: a coordinator in virtual time, its log, and the replies that it gave.

use super::replies::{JoinReply, SyncReply};
use super::*;
use crate::base::ids::TopicId;
use crate::protocol::messages::join_group::JoinGroupRequestProtocol;
use crate::protocol::messages::sync_group::SyncGroupRequestAssignment;

/// Topics by name; the id is made of the name's rank.
#[derive(Debug, Clone, Default)]
pub(super) struct Topics {
    pub(super) topics: Vec<(String, TopicView)>,
    pub(super) version: i64,
    /// What every group sets for itself.
    pub(super) own: OwnSettings,
}

impl Topics {
    pub(super) fn new(topics: &[(&str, i32)]) -> Topics {
        let mut all = Topics::default();
        for (name, partitions_count) in topics {
            all.add(name, *partitions_count);
        }
        all
    }

    pub(super) fn add(&mut self, name: &str, partitions_count: i32) {
        self.version += 1;
        let id = TopicId(1000 + self.version as u128);
        self.topics.push((name.to_owned(), TopicView { id, partitions_count }));
    }

    pub(super) fn id(&self, name: &str) -> TopicId {
        self.topic(name).expect("the test made the topic").id
    }
}

impl TopicsView for Topics {
    fn topic(&self, name: &str) -> Option<TopicView> {
        self.topics.iter().find(|(own, _)| own == name).map(|(_, view)| *view)
    }

    fn name(&self, id: TopicId) -> Option<&str> {
        let found = self.topics.iter().find(|(_, view)| view.id == id);
        found.map(|(name, _)| name.as_str())
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.topics.iter().map(|(name, _)| name.as_str()))
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn own_settings(&self, _: &str) -> OwnSettings {
        self.own
    }
}

/// One coordinator and all that is around it.
pub(super) struct Sim {
    pub(super) coordinator: Coordinator,
    pub(super) topics: Topics,
    pub(super) settings: GroupSettings,
    /// The steady clock.
    pub(super) now_ms: i64,
    /// How far the wall clock is ahead of it: far, so that mistaking one for the other shows.
    pub(super) unix_ahead_ms: i64,
    pub(super) log: Vec<Record>,
    pub(super) replies: BTreeMap<ReplyId, Reply>,
    pub(super) version: i16,
    calls_count: u64,
}

impl Sim {
    pub(super) fn new(settings: GroupSettings) -> Sim {
        let mut sim = Sim {
            coordinator: Coordinator::new(settings.clone(), 1),
            topics: Topics::new(&[("t", 4), ("u", 4)]),
            settings,
            now_ms: 1_000_000,
            unix_ahead_ms: 1_700_000_000_000,
            log: Vec::new(),
            replies: BTreeMap::new(),
            version: 5,
            calls_count: 0,
        };
        let effects = sim.coordinator.finish_load(sim.now(), &sim.topics);
        assert_eq!(effects, Effects::default());
        sim
    }

    /// Without the initial delay.
    pub(super) fn prompt() -> Sim {
        Sim::new(GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() })
    }

    pub(super) fn now(&self) -> Moment {
        Moment { steady_ms: self.now_ms, unix_ms: self.now_ms + self.unix_ahead_ms }
    }

    pub(super) fn take(&mut self, effects: Effects) {
        self.log.extend(effects.records);
        for (id, reply) in effects.replies {
            assert!(self.replies.insert(id, reply).is_none(), "{id:?} was answered twice");
        }
    }

    /// Does one call and keeps what comes of it.
    pub(super) fn call(
        &mut self,
        verb: impl FnOnce(&mut Coordinator, &Call<'_>) -> Effects,
    ) -> ReplyId {
        self.calls_count += 1;
        let reply = ReplyId(self.calls_count);
        let call = Call {
            reply,
            version: self.version,
            client_id: "client",
            client_host: "/127.0.0.1",
            now: self.now(),
            topics: &self.topics,
        };
        let effects = verb(&mut self.coordinator, &call);
        self.take(effects);
        reply
    }

    /// Lets time pass, stopping at each deadline on the way.
    pub(super) fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(due_ms) = self.coordinator.next_deadline_ms().filter(|due| *due <= end_ms) {
            assert!(due_ms < i64::MAX);
            self.now_ms = self.now_ms.max(due_ms);
            let effects = self.coordinator.tick(self.now(), &self.topics);
            self.take(effects);
            let next_ms = self.coordinator.next_deadline_ms();
            assert!(next_ms.is_none_or(|next| next > self.now_ms), "a tick makes progress");
        }
        self.now_ms = end_ms;
    }

    /// The coordinator dies with all that waits; another loads the log's first `count` records.
    pub(super) fn crash(&mut self, count: usize) {
        self.log.truncate(count);
        self.coordinator = Coordinator::new(self.settings.clone(), self.calls_count);
        for record in &self.log {
            self.coordinator
                .load(&record.key, record.value.as_deref())
                .expect("what was written loads");
        }
        let effects = self.coordinator.finish_load(self.now(), &self.topics);
        self.take(effects);
    }

    pub(super) fn answer(&mut self, id: ReplyId) -> Option<Reply> {
        self.replies.remove(&id)
    }

    pub(super) fn join_reply(&mut self, id: ReplyId) -> Option<JoinReply> {
        match self.answer(id)? {
            Reply::JoinGroup(reply) => Some(reply),
            other => panic!("not a join's answer: {other:?}"),
        }
    }

    pub(super) fn sync_reply(&mut self, id: ReplyId) -> Option<SyncReply> {
        match self.answer(id)? {
            Reply::SyncGroup(reply) => Some(reply),
            other => panic!("not a sync's answer: {other:?}"),
        }
    }

    pub(super) fn join(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        protocols: &[&str],
    ) -> ReplyId {
        let metadata = subscribed(&["t"]);
        let request = join_request(member_id, instance, protocols, &metadata);
        self.call(|coordinator, call| coordinator.join_group(call, &request))
    }

    /// Joins without an id, takes the one given out, and joins with it (KIP-394).
    pub(super) fn join_twice(&mut self, protocols: &[&str]) -> (String, ReplyId) {
        let first = self.join("", None, protocols);
        let reply = self.join_reply(first).expect("an id is given out at once");
        assert_eq!(reply.error, ErrorCode::MemberIdRequired);
        let second = self.join(&reply.member_id, None, protocols);
        (reply.member_id, second)
    }

    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &[u8])],
    ) -> ReplyId {
        let request = SyncGroupRequest {
            group_id: "g",
            generation_id: generation,
            member_id,
            assignments: assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
            ..Default::default()
        };
        self.call(|coordinator, call| coordinator.sync_group(call, &request))
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g",
            generation_id: generation,
            member_id,
            group_instance_id: None,
        };
        let id = self.call(|coordinator, call| coordinator.heartbeat(call, &request));
        match self.answer(id) {
            Some(Reply::Heartbeat(error)) => error,
            other => panic!("not a heartbeat's answer: {other:?}"),
        }
    }

    /// A settled group of one dynamic member that owns everything; its id.
    pub(super) fn settled(&mut self) -> String {
        let (member_id, joined) = self.join_twice(&["range"]);
        let reply = self.join_reply(joined).expect("no delay");
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
        assert_eq!(reply.leader, member_id);
        let synced = self.sync(&member_id, 1, &[(&member_id, b"all")]);
        let reply = self.sync_reply(synced).expect("the leader does not wait");
        assert_eq!(reply.assignment, b"all");
        member_id
    }
}

/// A consumer's metadata.
pub(super) fn subscribed(topics: &[&str]) -> Vec<u8> {
    let subscription = subscription::Subscription { topics: topics.to_vec(), ..Default::default() };
    subscription::write(0, &subscription)
}

pub(super) fn join_request<'a>(
    member_id: &'a str,
    instance: Option<&'a str>,
    protocols: &[&'a str],
    metadata: &'a [u8],
) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id,
        group_instance_id: instance,
        protocol_type: "consumer",
        protocols: protocols
            .iter()
            .map(|name| JoinGroupRequestProtocol { name, metadata })
            .collect(),
        reason: None,
    }
}
