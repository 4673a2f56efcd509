//! The protocol of KIP-848 in virtual time.

use crate::coordinator::harness::{Sim, subscribed};
use crate::coordinator::replies::{
    ConsumerDescribedGroup, ConsumerHeartbeatReply, Partitions, Reply,
};
use crate::coordinator::subscription;
use crate::coordinator::{GroupSettings, MigrationPolicy, OwnSettings};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitionsRequest,
};
use std::collections::BTreeSet;

/// A client that follows the protocol: it reports what it owns and gives up what it must.
struct Client {
    id: String,
    instance: Option<&'static str>,
    epoch: i32,
    owned: Partitions,
}

impl Client {
    fn new(id: &str) -> Client {
        Client { id: id.to_owned(), instance: None, epoch: 0, owned: Partitions::new() }
    }

    fn joining<'a>(&'a self, topics: &[&'a str]) -> ConsumerGroupHeartbeatRequest<'a> {
        ConsumerGroupHeartbeatRequest {
            group_id: "g",
            member_id: &self.id,
            member_epoch: 0,
            instance_id: self.instance,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(topics.to_vec()),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        }
    }

    fn join(&mut self, sim: &mut Sim, topics: &[&str]) {
        self.owned = Partitions::new();
        let reply = beat(sim, &self.joining(topics));
        self.follow(reply);
    }

    fn beat(&mut self, sim: &mut Sim) {
        let owned = self.owned.iter().map(|(topic_id, partitions)| TopicPartitionsRequest {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g",
            member_id: &self.id,
            member_epoch: self.epoch,
            instance_id: self.instance,
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        };
        let reply = beat(sim, &request);
        self.follow(reply);
    }

    fn leave(&mut self, sim: &mut Sim, epoch: i32) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g",
            member_id: &self.id,
            member_epoch: epoch,
            instance_id: self.instance,
            ..Default::default()
        };
        let reply = beat(sim, &request);
        assert_eq!((reply.error, reply.member_epoch), (ErrorCode::None, epoch));
    }

    fn follow(&mut self, reply: ConsumerHeartbeatReply) {
        assert_eq!(reply.error, ErrorCode::None, "{:?}", reply.error_message);
        assert!(reply.member_epoch >= self.epoch || self.epoch == 0);
        self.epoch = reply.member_epoch;
        if let Some(assignment) = reply.assignment {
            self.owned = assignment;
        }
    }

    fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

fn beat(sim: &mut Sim, request: &ConsumerGroupHeartbeatRequest<'_>) -> ConsumerHeartbeatReply {
    let id = sim.call(|coordinator, call| coordinator.consumer_heartbeat(call, request));
    match sim.answer(id) {
        Some(Reply::ConsumerHeartbeat(reply)) => reply,
        other => panic!("not a heartbeat's answer: {other:?}"),
    }
}

fn describe(sim: &mut Sim) -> ConsumerDescribedGroup {
    let id = sim.call(|coordinator, call| coordinator.consumer_describe(call, "g"));
    match sim.answer(id) {
        Some(Reply::ConsumerDescribe(group)) => group,
        other => panic!("not a description: {other:?}"),
    }
}

/// No two of them believe that they own the same.
#[track_caller]
fn disjoint(clients: &[&Client]) {
    let mut seen = BTreeSet::new();
    for client in clients {
        for (topic, partitions) in &client.owned {
            for partition in partitions {
                assert!(seen.insert((*topic, *partition)), "{}: {topic} {partition}", client.id);
            }
        }
    }
}

/// Goal: a second member takes half, and only what the first gave up before; all within three
/// heartbeats each.
#[test]
fn a_member_gives_up_before_another_takes() {
    let mut sim = Sim::prompt();
    let (mut first, mut second) = (Client::new("a"), Client::new("b"));
    first.join(&mut sim, &["t"]);
    assert_eq!((first.count(), first.epoch), (4, 1));
    assert_eq!(describe(&mut sim).state, "Stable");
    second.join(&mut sim, &["t"]);
    assert_eq!((second.count(), second.epoch), (0, 2));
    assert_eq!(describe(&mut sim).state, "Reconciling");
    first.beat(&mut sim); // learns what it must give up, in its old epoch
    assert_eq!((first.count(), first.epoch), (2, 1));
    second.beat(&mut sim);
    assert_eq!(second.count(), 0, "the first has not said that it gave up");
    first.beat(&mut sim);
    assert_eq!((first.count(), first.epoch), (2, 2));
    second.beat(&mut sim);
    assert_eq!((second.count(), second.epoch), (2, 2));
    disjoint(&[&first, &second]);
    assert_eq!(describe(&mut sim).state, "Stable");
    let log = sim.log.len();
    first.beat(&mut sim);
    second.beat(&mut sim);
    assert_eq!(sim.log.len(), log, "a settled group writes nothing");
}

/// Goal: the state survives a crash in the middle of a rebalance. Method: load the log and go on.
#[test]
fn a_rebalance_goes_on_after_a_crash() {
    let mut sim = Sim::prompt();
    let (mut first, mut second) = (Client::new("a"), Client::new("b"));
    first.join(&mut sim, &["t", "u"]);
    second.join(&mut sim, &["t", "u"]);
    first.beat(&mut sim);
    let before = describe(&mut sim);
    sim.crash(usize::MAX);
    assert_eq!(describe(&mut sim), before);
    first.beat(&mut sim);
    second.beat(&mut sim);
    assert_eq!((first.count(), second.count()), (4, 4));
    disjoint(&[&first, &second]);
}

/// Goal: the first request says all that is needed; words and codes are Kafka's.
#[test]
fn bad_heartbeats_are_refused_in_kafkas_words() {
    let mut sim = Sim::prompt();
    let client = Client::new("a");
    let good = client.joining(&["t"]);
    let invalid = |bad, message| (bad, ErrorCode::InvalidRequest, message);
    type Request<'a> = ConsumerGroupHeartbeatRequest<'a>;
    let cases = [
        invalid(Request { member_id: "", ..good.clone() }, "MemberId can't be empty."),
        invalid(Request { group_id: " ", ..good.clone() }, "GroupId can't be empty."),
        invalid(Request { instance_id: Some(""), ..good.clone() }, "InstanceId can't be empty."),
        invalid(Request { rack_id: Some(""), ..good.clone() }, "RackId can't be empty."),
        invalid(
            Request { rebalance_timeout_ms: -1, ..good.clone() },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        invalid(
            Request { topic_partitions: None, ..good.clone() },
            "TopicPartitions must be empty when (re-)joining.",
        ),
        invalid(
            Request { subscribed_topic_names: None, ..good.clone() },
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
             (re-)joining.",
        ),
        invalid(Request { member_epoch: -3, ..good.clone() }, "MemberEpoch is invalid."),
        invalid(Request { member_epoch: -2, ..good.clone() }, "InstanceId can't be null."),
        (
            Request { member_epoch: 5, ..good.clone() },
            ErrorCode::GroupIdNotFound,
            "Group g not found.",
        ),
    ];
    sim.version = 1;
    for (request, error, message) in cases {
        let reply = beat(&mut sim, &request);
        assert_eq!((reply.error, reply.error_message.as_deref()), (error, Some(message)));
        assert_eq!(sim.coordinator.groups_count(), 0);
    }
    let mut other = good.clone();
    other.server_assignor = Some("own");
    let reply = beat(&mut sim, &other);
    assert_eq!(reply.error, ErrorCode::UnsupportedAssignor);
    let words = "ServerAssignor own is not supported. Supported assignors: uniform, range.";
    assert_eq!(reply.error_message.as_deref(), Some(words));
}

/// Goal: epochs fence: ahead, behind with more than was given; behind by one answer is forgiven.
#[test]
fn epochs_fence_members() {
    let mut sim = Sim::prompt();
    let mut client = Client::new("a");
    client.join(&mut sim, &["t"]);
    let mut request = client.joining(&[]);
    request.subscribed_topic_names = None;
    request.rebalance_timeout_ms = -1;
    request.member_epoch = 2;
    let reply = beat(&mut sim, &request);
    assert_eq!(reply.error, ErrorCode::FencedMemberEpoch);
    let message = reply.error_message.unwrap();
    assert!(message.contains("a greater member epoch (2) than"), "{message}");
    sim.topics.add("v", 1);
    let mut full = client.joining(&["t", "v"]);
    full.member_epoch = 1;
    assert_eq!(beat(&mut sim, &full).member_epoch, 2, "the answer to this is lost");
    request.member_epoch = 1;
    assert_eq!(beat(&mut sim, &request).error, ErrorCode::None, "it owns nothing it was not given");
    request.topic_partitions = None;
    assert_eq!(beat(&mut sim, &request).error, ErrorCode::FencedMemberEpoch);
    request.member_id = "nobody";
    let reply = beat(&mut sim, &request);
    assert_eq!(reply.error, ErrorCode::UnknownMemberId);
    let words = "Member nobody is not a member of group g.";
    assert_eq!(reply.error_message.as_deref(), Some(words));
}

/// Goal: silence ends a session; who does not give up in the rebalance timeout is fenced.
#[test]
fn sessions_and_rebalances_time_out() {
    let mut sim = Sim::prompt();
    let (mut first, mut second) = (Client::new("a"), Client::new("b"));
    first.join(&mut sim, &["t"]);
    second.join(&mut sim, &["t"]);
    first.beat(&mut sim);
    // It beats without saying that it gave anything up.
    for _ in 0..6 {
        sim.pass(10_000 - 1);
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g",
            member_id: "a",
            member_epoch: 1,
            ..Default::default()
        };
        assert_eq!(beat(&mut sim, &request).error, ErrorCode::None);
        second.beat(&mut sim);
        assert_eq!(second.count(), 0);
    }
    sim.pass(10_000);
    second.beat(&mut sim);
    assert_eq!(second.count(), 4, "the first was fenced");
    sim.pass(45_000);
    assert_eq!(describe(&mut sim).state, "Empty");
    sim.crash(usize::MAX);
    assert_eq!(describe(&mut sim).members.len(), 0);
}

/// Goal: what a group sets for itself counts at its next heartbeat (KIP-848). Method: a longer
/// session and interval; silence beyond the coordinator's session.
#[test]
fn a_group_may_set_its_own_session_and_interval() {
    let mut sim = Sim::prompt();
    let mut client = Client::new("a");
    client.join(&mut sim, &["t"]);
    sim.topics.own = OwnSettings {
        consumer_session_timeout_ms: Some(60_000),
        consumer_heartbeat_interval_ms: Some(7_000),
    };
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g",
        member_id: "a",
        member_epoch: client.epoch,
        ..Default::default()
    };
    assert_eq!(beat(&mut sim, &request).heartbeat_interval_ms, 7_000);
    sim.pass(45_000);
    assert_eq!(describe(&mut sim).members.len(), 1, "its session is longer");
    sim.pass(15_000);
    assert_eq!(describe(&mut sim).members.len(), 0);
}

/// Goal: a static member that leaves for a while gets its partitions back, under a new id, and
/// nobody else notices; its instance id is not given away while it is in use.
#[test]
fn a_static_member_returns_to_its_partitions() {
    let mut sim = Sim::prompt();
    let (mut first, mut second) = (Client::new("a"), Client::new("b"));
    first.instance = Some("i");
    first.join(&mut sim, &["t"]);
    second.join(&mut sim, &["t"]);
    for _ in 0..2 {
        first.beat(&mut sim);
        second.beat(&mut sim);
    }
    let owned = first.owned.clone();
    let mut back = Client::new("c");
    back.instance = Some("i");
    let reply = beat(&mut sim, &back.joining(&["t"]));
    assert_eq!(reply.error, ErrorCode::UnreleasedInstanceId);
    first.leave(&mut sim, -2);
    sim.crash(usize::MAX);
    let epoch = describe(&mut sim).epoch;
    back.join(&mut sim, &["t"]);
    assert_eq!((&back.owned, back.epoch), (&owned, epoch));
    let reply =
        beat(&mut sim, &ConsumerGroupHeartbeatRequest { member_epoch: 2, ..first.joining(&["t"]) });
    assert_eq!(reply.error, ErrorCode::FencedInstanceId);
    second.beat(&mut sim);
    assert_eq!((second.count(), second.epoch), (2, epoch));
}

/// Goal: the broker finds the topics of an expression, also those that come later; the whole name
/// must match; a bad or huge expression is refused.
#[test]
fn a_regular_expression_follows_the_topics() {
    let mut sim = Sim::prompt();
    sim.version = 1;
    let client = Client::new("a");
    let mut request = client.joining(&[]);
    request.subscribed_topic_names = None;
    request.subscribed_topic_regex = Some("t|v.*");
    let reply = beat(&mut sim, &request);
    let topics: Vec<_> = reply.assignment.unwrap().into_keys().collect();
    assert_eq!(topics, [sim.topics.id("t")]);
    sim.topics.add("vw", 2);
    sim.topics.add("w-v", 2);
    let live = ConsumerGroupHeartbeatRequest {
        group_id: "g",
        member_id: "a",
        member_epoch: 1,
        ..Default::default()
    };
    let reply = beat(&mut sim, &live);
    assert_eq!(reply.member_epoch, 2);
    let topics: Vec<_> = reply.assignment.unwrap().into_keys().collect();
    assert_eq!(topics, [sim.topics.id("t"), sim.topics.id("vw")]);
    sim.crash(usize::MAX);
    let group = describe(&mut sim);
    assert_eq!(group.members[0].regex.as_deref(), Some("t|v.*"));
    for bad in ["(", "a)|(b", "(?:a{1000}){1000}", "(a{500}){500}"] {
        let mut request = client.joining(&[]);
        request.subscribed_topic_regex = Some(bad);
        let reply = beat(&mut sim, &request);
        assert_eq!(reply.error, ErrorCode::InvalidRegularExpression, "{bad}");
    }
}

/// Goal: a topic that grows or goes moves the epoch, and the target with it.
#[test]
fn changed_topics_are_assigned_anew() {
    let mut sim = Sim::prompt();
    let mut client = Client::new("a");
    client.join(&mut sim, &["t", "later"]);
    assert_eq!(client.count(), 4);
    sim.topics.add("unrelated", 3);
    client.beat(&mut sim);
    assert_eq!((client.count(), client.epoch), (4, 1));
    sim.topics.add("later", 3);
    client.beat(&mut sim);
    assert_eq!((client.count(), client.epoch), (7, 2));
    sim.topics.topics.remove(0);
    sim.topics.version += 1;
    client.beat(&mut sim);
    client.beat(&mut sim);
    assert_eq!((client.count(), client.epoch), (3, 3));
}

/// Goal: KIP-848's live upgrade: a classic group takes a member of the new protocol without losing
/// its assignment; classic members are told to rejoin and hand over; when the last new one leaves,
/// the group is classic again and rebalances.
#[test]
fn a_group_upgrades_and_downgrades_live() {
    let mut sim = Sim::prompt();
    let all = classic_assignment(&[0, 1, 2, 3]);
    let (classic, joined) = sim.join_twice(&["range"]);
    assert_eq!(sim.join_reply(joined).unwrap().generation, 1);
    let synced = sim.sync(&classic, 1, &[(&classic, &all)]);
    assert_eq!(sim.sync_reply(synced).unwrap().assignment, all);
    let mut new = Client::new("new");
    new.join(&mut sim, &["t"]);
    assert_eq!((new.epoch, new.count()), (2, 0));
    sim.crash(usize::MAX);
    assert_eq!(sim.heartbeat(&classic, 1), ErrorCode::RebalanceInProgress);
    // An eager consumer gives everything up before it rejoins.
    let joined = sim.join(&classic, None, &["range"]);
    let reply = sim.join_reply(joined).unwrap();
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, 2));
    assert_ne!(reply.leader, classic, "the broker leads");
    let synced = sim.sync(&classic, 2, &[]);
    let assignment = sim.sync_reply(synced).unwrap().assignment;
    let kept = subscription::read_assignment(&assignment).unwrap();
    assert_eq!(kept.assigned_partitions[0].partitions.len(), 2);
    assert_eq!(sim.heartbeat(&classic, 2), ErrorCode::None);
    new.beat(&mut sim);
    assert_eq!(new.count(), 2);
    let described = describe(&mut sim);
    assert_eq!(described.state, "Stable");
    assert_eq!(described.members.iter().filter(|member| member.member_type == 0).count(), 1);
    new.leave(&mut sim, -1);
    assert_eq!(describe(&mut sim).error, ErrorCode::GroupIdNotFound);
    assert_eq!(sim.heartbeat(&classic, 2), ErrorCode::RebalanceInProgress);
    let joined = sim.join(&classic, None, &["range"]);
    let reply = sim.join_reply(joined).unwrap();
    assert_eq!((reply.generation, reply.leader), (3, classic));
    sim.crash(usize::MAX);
    assert_eq!(describe(&mut sim).error, ErrorCode::GroupIdNotFound);
}

fn classic_assignment(partitions: &[i32]) -> Vec<u8> {
    let owned = subscription::TopicPartitions { topic: "t", partitions: partitions.to_vec() };
    let assignment = subscription::Assignment { assigned_partitions: vec![owned], user_data: None };
    subscription::write_assignment(0, &assignment)
}

/// Goal: where the policy forbids it, a classic group stays classic; an empty group changes freely.
#[test]
fn the_policy_decides_on_migration() {
    let settings = GroupSettings {
        initial_rebalance_delay_ms: 0,
        consumer_migration: MigrationPolicy::Disabled,
        ..GroupSettings::default()
    };
    let mut sim = Sim::new(settings);
    let classic = sim.settled();
    let client = Client::new("new");
    let reply = beat(&mut sim, &client.joining(&["t"]));
    assert_eq!(reply.error, ErrorCode::GroupIdNotFound);
    assert!(reply.error_message.unwrap().ends_with("online upgrade is disabled."));
    assert_eq!(sim.heartbeat(&classic, 1), ErrorCode::None);
    sim.pass(20_000);
    let mut client = Client::new("new");
    client.join(&mut sim, &["t"]);
    assert_eq!(client.count(), 4);
    let metadata = subscribed(&["t"]);
    let request = crate::coordinator::harness::join_request("", None, &["range"], &metadata);
    let id = sim.call(|coordinator, call| coordinator.join_group(call, &request));
    assert_eq!(sim.join_reply(id).unwrap().error, ErrorCode::GroupIdNotFound);
    client.leave(&mut sim, -1);
    sim.settled();
    sim.crash(usize::MAX);
    assert_eq!(describe(&mut sim).error, ErrorCode::GroupIdNotFound);
}

/// Goal: one owner for each partition at every instant, epochs that only grow, and a group that
/// settles, whatever happens. Method: random members, topics, silence and crashes; the seed is
/// printed.
#[test]
fn random_schedules_keep_one_owner_for_each_partition() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let mut sim = Sim::prompt();
        let mut clients: Vec<Client> = Vec::new();
        let mut named = 0;
        let mut epoch = 0;
        for _ in 0..120 {
            match random.u32(0..20) {
                0..=2 if clients.len() < 6 => {
                    named += 1;
                    let mut client = Client::new(&format!("m{named}"));
                    let topics: &[&str] = if random.bool() { &["t", "u"] } else { &["t"] };
                    client.join(&mut sim, topics);
                    clients.push(client);
                }
                3 if !clients.is_empty() => {
                    let mut client = clients.swap_remove(random.usize(..clients.len()));
                    client.leave(&mut sim, -1);
                }
                4 => sim.topics.add(&format!("x{}", sim.topics.version), 2),
                5 => sim.crash(usize::MAX),
                // The broker dies before a heartbeat is durable: its answer never leaves.
                6 if !clients.is_empty() => {
                    let chosen = random.usize(..clients.len());
                    let client = &mut clients[chosen];
                    let (epoch, owned, log) = (client.epoch, client.owned.clone(), sim.log.len());
                    client.beat(&mut sim);
                    (client.epoch, client.owned) = (epoch, owned);
                    sim.crash(log);
                }
                7 => sim.pass(random.i64(0..4_000)),
                _ if clients.is_empty() => {}
                _ => {
                    let client = random.usize(..clients.len());
                    clients[client].beat(&mut sim);
                }
            }
            disjoint(&clients.iter().collect::<Vec<_>>());
            let group = describe(&mut sim);
            if group.error.is_none() {
                assert!(group.epoch >= epoch, "epochs never fall");
                epoch = group.epoch;
            }
            if random.u32(0..8) == 0 {
                for client in &mut clients {
                    client.beat(&mut sim); // nobody is silent for a whole session
                }
            }
        }
        for _ in 0..4 {
            for client in &mut clients {
                client.beat(&mut sim);
            }
        }
        if !clients.is_empty() {
            assert_eq!(describe(&mut sim).state, "Stable");
            let owned: usize = clients.iter().map(Client::count).sum();
            assert!(owned >= 4, "all of t is owned");
        }
    }
}
