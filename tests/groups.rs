//! Consumer groups of both protocols on a whole node over real sockets, driven by hand-made frames;
//! and what a kill -9 leaves of their commits.

mod harness;

use harness::groups::Who;
use harness::{Client, Node, PATIENCE, Process, data_dir};
use ringmain::base::ids::TopicId;
use ringmain::coordinator::partition_of;
use ringmain::protocol::batch::{BatchBuilder, Batches};
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::decode_response;
use ringmain::protocol::messages::api_versions::ApiVersionsRequest;
use ringmain::protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use ringmain::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitionsRequest,
};
use ringmain::protocol::messages::delete_groups::DeleteGroupsRequest;
use ringmain::protocol::messages::describe_groups::DescribeGroupsRequest;
use ringmain::protocol::messages::find_coordinator::FindCoordinatorRequest;
use ringmain::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use ringmain::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use ringmain::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringmain::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ringmain::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ringmain::protocol::record::NewRecord;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Settings of the nodes here, and of those that are killed.
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=4"];
const KILLED_SETTINGS: &[&str] =
    &["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=3"];

/// Goal: the first question makes the topic of groups, as an internal one. Method: ask in the
/// oldest and the newest version, for groups and what is none; look at the topic; write to it.
#[test]
fn the_first_question_makes_the_topic_of_groups() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    assert_eq!(
        client.fetch_offset("g", "words").0,
        ErrorCode::NotCoordinator,
        "there are no groups yet"
    );
    assert_eq!(client.list(&[]), []);
    let request = FindCoordinatorRequest { key: "g", ..Default::default() };
    let frame = client.call(0, &request);
    let (_, answer) = decode_response::<FindCoordinatorRequest>(0, &frame).expect("whole");
    assert_eq!((answer.error_code, answer.node_id), (ErrorCode::None, 1));
    assert_eq!(answer.port, i32::from(node.address.port()));
    for (key_type, code) in [
        (0, ErrorCode::None),
        (1, ErrorCode::UnsupportedVersion),
        (2, ErrorCode::InvalidRequest),
        (9, ErrorCode::InvalidRequest),
    ] {
        let coordinator_keys = vec!["a", "b"];
        let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
        let frame = client.call(6, &request);
        let (_, answer) = decode_response::<FindCoordinatorRequest>(6, &frame).expect("whole");
        let keys: Vec<&str> = answer.coordinators.iter().map(|each| each.key).collect();
        assert_eq!(keys, ["a", "b"]);
        assert!(answer.coordinators.iter().all(|each| each.error_code == code), "{answer:?}");
    }
    let topic = MetadataRequestTopic { name: Some("__consumer_offsets"), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let frame = client.call(12, &request);
    let (_, answer) = decode_response::<MetadataRequest>(12, &frame).expect("whole");
    assert_eq!((answer.topics[0].is_internal, answer.topics[0].partitions.len()), (true, 4));
    let mut batch = BatchBuilder::new(Codec::None);
    batch.append(&NewRecord { key: Some(b"k"), value: Some(b"v"), ..NewRecord::default() });
    let batch = batch.finish();
    let (code, _) = client.produce("__consumer_offsets", 0, &batch);
    assert_eq!(code, ErrorCode::InvalidTopicException);
    node.stop();
}

/// Goal: two members of a classic group share its work, commit, and see each other come and go.
/// Method: join, rebalance, sync, commit, leave; restart in between; describe, list and delete.
#[test]
fn two_members_of_a_classic_group_rebalance_and_commit() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let (mut first, mut second) = (node.client(), node.client());
    first.create("words", 2, &[]);
    first.find_loaded("g");
    let leader = first.member_id("g");
    first.send_join("g", &leader);
    let joined = first.joined();
    assert_eq!((joined.code, joined.generation, &joined.leader), (ErrorCode::None, 1, &leader));
    first.send_sync("g", &leader, 1, &[(&leader, b"0,1")]);
    assert_eq!(first.synced(), (ErrorCode::None, b"0,1".to_vec()));

    let follower = second.member_id("g");
    second.send_join("g", &follower);
    while first.heartbeat("g", &leader, 1) != ErrorCode::RebalanceInProgress {
        thread::sleep(Duration::from_millis(1)); // the other connection's join is on its way
    }
    first.send_join("g", &leader);
    let (joined, others) = (first.joined(), second.joined());
    assert_eq!((joined.code, joined.generation), (ErrorCode::None, 2));
    assert_eq!(
        (others.code, others.generation, others.leader),
        (ErrorCode::None, 2, joined.leader)
    );
    let mut members = vec![leader.clone(), follower.clone()];
    members.sort();
    let mut told = joined.members;
    told.sort();
    assert_eq!((told, others.members), (members, vec![]), "the leader alone learns of all");
    second.send_sync("g", &follower, 2, &[]);
    first.send_sync("g", &leader, 2, &[(&leader, b"0"), (&follower, b"1")]);
    assert_eq!(second.synced(), (ErrorCode::None, b"1".to_vec()));
    assert_eq!(first.synced(), (ErrorCode::None, b"0".to_vec()));

    let who = Who { group_id: "g", member_id: &leader, generation: 2 };
    assert_eq!(first.commit(&who, "words", 41), ErrorCode::None);
    let stale = Who { generation: 1, ..who };
    assert_eq!(first.commit(&stale, "words", 5), ErrorCode::IllegalGeneration);
    let stranger = Who { member_id: "x", ..who };
    assert_eq!(first.commit(&stranger, "words", 6), ErrorCode::UnknownMemberId);
    assert_eq!(first.commit(&who, "gone", 7), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(first.fetch_offset("g", "words"), (ErrorCode::None, 41, "note".to_owned()));
    assert_eq!(first.list(&["stable"]), [("g".to_owned(), "Stable".to_owned())]);
    node.stop();

    // A stop is no rebalance: the members go on where they were.
    let node = Node::start(dir.path(), SETTINGS);
    let (mut first, mut second) = (node.client(), node.client());
    first.find_loaded("g");
    assert_eq!(first.heartbeat("g", &leader, 2), ErrorCode::None);
    assert_eq!(first.fetch_offset("g", "words").1, 41);
    let members = vec![MemberIdentity { member_id: &follower, ..MemberIdentity::default() }];
    let request = LeaveGroupRequest { group_id: "g", members, ..Default::default() };
    let frame = second.call(5, &request);
    let (_, answer) = decode_response::<LeaveGroupRequest>(5, &frame).expect("whole");
    assert_eq!(answer.members[0].error_code, ErrorCode::None);
    assert_eq!(first.heartbeat("g", &leader, 2), ErrorCode::RebalanceInProgress);
    describe_and_delete(&mut first, &leader);
    node.stop();
}

/// The group has one member, which is in a rebalance; it leaves.
fn describe_and_delete(client: &mut Client, member: &str) {
    let groups = vec!["g", "none"];
    let request = DescribeGroupsRequest { groups, include_authorized_operations: true };
    let frame = client.call(6, &request);
    let (_, answer) = decode_response::<DescribeGroupsRequest>(6, &frame).expect("whole");
    let group = &answer.groups[0];
    assert_eq!((group.error_code, group.group_state), (ErrorCode::None, "PreparingRebalance"));
    assert_eq!((group.members[0].member_id, group.members[0].client_id), (member, "test"));
    assert_eq!(group.members[0].client_host, "/127.0.0.1");
    assert_eq!(group.authorized_operations, 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11);
    assert_eq!(answer.groups[1].error_code, ErrorCode::GroupIdNotFound);
    let delete = |client: &mut Client| {
        let frame = client.call(2, &DeleteGroupsRequest { groups_names: vec!["g", "none"] });
        let (_, answer) = decode_response::<DeleteGroupsRequest>(2, &frame).expect("whole");
        answer.results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    assert_eq!(delete(client), [ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);
    let request = LeaveGroupRequest { group_id: "g", member_id: member, ..Default::default() };
    client.call(2, &request);
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 9 }];
    let topics = vec![OffsetDeleteRequestTopic { name: "words", partitions }];
    let frame = client.call(0, &OffsetDeleteRequest { group_id: "g", topics });
    let (_, answer) = decode_response::<OffsetDeleteRequest>(0, &frame).expect("whole");
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(delete(client), [ErrorCode::None, ErrorCode::GroupIdNotFound]);
    assert_eq!(client.fetch_offset("g", "words").1, -1);
}

/// A member of the consumer protocol, as its client sees it.
struct Member {
    client: Client,
    id: &'static str,
    epoch: i32,
    owned: Vec<i32>,
}

impl Member {
    fn join(node: &Node, id: &'static str) -> Member {
        let mut member = Member { client: node.client(), id, epoch: 0, owned: Vec::new() };
        member.beat(TopicId::ZERO, Some(vec!["words"]));
        member
    }

    /// One heartbeat that says what it owns of the topic; takes over what it is told.
    fn beat(&mut self, topic_id: TopicId, topics: Option<Vec<&str>>) {
        assert_eq!(self.try_beat(topic_id, topics).expect("an answer"), ErrorCode::None);
    }

    /// As [`Member::beat`]; after a refusal it is what it was.
    fn try_beat(&mut self, topic_id: TopicId, topics: Option<Vec<&str>>) -> io::Result<ErrorCode> {
        let owned = TopicPartitionsRequest { topic_id, partitions: self.owned.clone() };
        let owned = if self.owned.is_empty() { Vec::new() } else { vec![owned] };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g",
            member_id: self.id,
            member_epoch: self.epoch,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: topics,
            topic_partitions: Some(owned),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.client.send(1, &request)?;
        let frame = self.client.receive()?;
        let (_, answer) =
            decode_response::<ConsumerGroupHeartbeatRequest>(1, &frame).expect("whole");
        if answer.error_code.is_none() {
            self.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                let topics = assignment.topic_partitions.into_iter();
                self.owned = topics.flat_map(|topic| topic.partitions).collect();
            }
        }
        Ok(answer.error_code)
    }

    fn commit(&mut self, epoch: i32, offset: i64) -> ErrorCode {
        let who = Who { group_id: "g", member_id: self.id, generation: epoch };
        self.client.commit(&who, "words", offset)
    }
}

/// Goal: KIP-848 on a whole node: two members come to share the partitions, commit, and go on after
/// a restart of the node and the death of one. Method: heartbeats until both are settled.
#[test]
fn members_of_the_consumer_protocol_share_and_survive_a_restart() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let topic_id = node.client().create("words", 4, &[]);
    node.client().find_loaded("g");
    let mut first = Member::join(&node, "first");
    assert_eq!((first.epoch, first.owned.as_slice()), (1, &[0, 1, 2, 3][..]));
    let mut second = Member::join(&node, "second");
    assert_eq!((second.epoch, second.owned.len()), (2, 0), "all of it is the other's still");
    first.beat(topic_id, None); // learns what to give up
    first.beat(topic_id, None); // has given it up
    second.beat(topic_id, None);
    let mut owned = [first.owned.clone(), second.owned.clone()];
    assert_eq!(owned.each_ref().map(Vec::len), [2, 2]);
    owned[0].extend(&second.owned);
    owned[0].sort_unstable();
    assert_eq!(owned[0], [0, 1, 2, 3], "one owner a partition");
    assert_eq!(first.commit(first.epoch, 17), ErrorCode::None);
    assert_eq!(first.commit(first.epoch + 1, 5), ErrorCode::StaleMemberEpoch);
    node.stop();

    let node = Node::start(dir.path(), SETTINGS);
    (first.client, second.client) = (node.client(), node.client());
    first.client.find_loaded("g");
    let before = (first.epoch, first.owned.clone());
    first.beat(topic_id, None);
    assert_eq!((first.epoch, first.owned.clone()), before);
    assert_eq!(first.client.fetch_offset("g", "words").1, 17);
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec!["g", "none"], ..Default::default() };
    let frame = first.client.call(1, &request);
    let (_, answer) = decode_response::<ConsumerGroupDescribeRequest>(1, &frame).expect("whole");
    let group = &answer.groups[0];
    assert_eq!(
        (group.group_state, group.group_epoch, group.assignor_name),
        ("Stable", 2, "uniform")
    );
    assert_eq!(group.members.len(), 2);
    assert_eq!(group.members[0].assignment.topic_partitions[0].topic_name, "words");
    assert_eq!(answer.groups[1].error_code, ErrorCode::GroupIdNotFound);
    second.epoch = -1;
    second.owned.clear();
    second.beat(topic_id, None);
    first.beat(topic_id, None);
    assert_eq!(first.owned.len(), 4, "what the other left");
    node.stop();
}

/// Goal: topics go by id where the version says so (KIP-848's clients). Method: commit to a known
/// and an unknown id; fetch one, all, and in the versions before.
#[test]
fn offsets_go_by_topic_id_in_version_10() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    let topic_id = client.create("words", 1, &[]);
    client.find_loaded("g");
    let partition = OffsetCommitRequestPartition { committed_offset: 8, ..Default::default() };
    let topics = [TopicId(5), topic_id].map(|topic_id| OffsetCommitRequestTopic {
        topic_id,
        partitions: vec![partition.clone()],
        ..OffsetCommitRequestTopic::default()
    });
    let topics = topics.to_vec();
    let request = OffsetCommitRequest { group_id: "g", topics, ..Default::default() };
    let frame = client.call(10, &request);
    let (_, answer) = decode_response::<OffsetCommitRequest>(10, &frame).expect("whole");
    let codes = answer.topics.iter().map(|it| (it.topic_id, it.partitions[0].error_code));
    let codes: Vec<_> = codes.collect();
    assert_eq!(codes, [(topic_id, ErrorCode::None), (TopicId(5), ErrorCode::UnknownTopicId)]);
    let asked = [topic_id, TopicId(5)].map(|topic_id| OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    });
    let one = OffsetFetchRequestGroup {
        group_id: "g",
        topics: Some(asked.to_vec()),
        ..OffsetFetchRequestGroup::default()
    };
    let all = OffsetFetchRequestGroup { group_id: "g", ..OffsetFetchRequestGroup::default() };
    let request = OffsetFetchRequest { groups: vec![one, all], ..Default::default() };
    let frame = client.call(10, &request);
    let (_, answer) = decode_response::<OffsetFetchRequest>(10, &frame).expect("whole");
    let found = |group: usize, topic: usize| {
        let topic = &answer.groups[group].topics[topic];
        let partition = &topic.partitions[0];
        (topic.topic_id, partition.committed_offset, partition.error_code)
    };
    assert_eq!(found(0, 0), (topic_id, 8, ErrorCode::None));
    assert_eq!(found(0, 1), (TopicId(5), -1, ErrorCode::UnknownTopicId));
    assert_eq!((answer.groups[1].topics.len(), found(1, 0)), (1, (topic_id, 8, ErrorCode::None)));
    for version in 2..=7 {
        let request = OffsetFetchRequest { group_id: "g", ..OffsetFetchRequest::default() };
        let frame = client.call(version, &request);
        let (_, answer) = decode_response::<OffsetFetchRequest>(version, &frame).expect("whole");
        assert_eq!(answer.topics[0].name, "words", "version {version}");
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 8);
    }
    node.stop();
}

/// Goal: a join blocks its own connection and no other; a stop of the node answers it. Method: let
/// one wait for a member that does not come; send more behind it.
#[test]
fn a_waiting_join_is_answered_first_and_at_a_stop() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let (mut first, mut second) = (node.client(), node.client());
    first.create("words", 2, &[]);
    first.find_loaded("g");
    let leader = first.member_id("g");
    first.send_join("g", &leader);
    assert_eq!(first.joined().generation, 1);
    let follower = second.member_id("g");
    second.send_join("g", &follower);
    second.send(0, &ApiVersionsRequest::default()).expect("the node reads");
    while first.heartbeat("g", &leader, 1) != ErrorCode::RebalanceInProgress {
        thread::sleep(Duration::from_millis(1));
    }
    second.socket.set_nonblocking(true).expect("a socket");
    let mut byte = [0];
    let early = second.socket.peek(&mut byte).map_err(|error| error.kind());
    assert_eq!(early, Err(io::ErrorKind::WouldBlock), "answers come in order");
    second.socket.set_nonblocking(false).expect("a socket");
    assert_eq!(first.list(&[]).len(), 1, "others are served");
    let reader = thread::spawn(move || second.joined());
    node.stop();
    let joined = reader.join().expect("an answer before the end");
    assert_eq!((joined.code, joined.member), (ErrorCode::NotCoordinator, follower));
}

// ---- kill -9 ----------------------------------------------------------------------------------

const KILLS_COUNT: usize = 6;
const COMMITTERS_COUNT: usize = 4;
const IN_FLIGHT_MAX: i64 = 8;
const COMMITTING_MS_MAX: u64 = 120;

/// Goal: no acknowledged commit is lost, whenever the process dies. Method: several connections
/// commit rising offsets, a few at a time; kill; compare what is found with the last acknowledged
/// and the last sent. The seed is printed.
#[test]
fn kill_9_in_the_middle_of_commits_loses_none_that_was_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut process = Process::new("kill-commits", KILLED_SETTINGS);
    let mut client = process.start();
    client.create("words", 1, &[]);
    let mut ranges = vec![(-1, -1); COMMITTERS_COUNT];
    for round in 0..KILLS_COUNT {
        (0..COMMITTERS_COUNT).for_each(|at| client.find_loaded(&format!("g{at}")));
        for (at, &(acked, sent)) in ranges.iter().enumerate() {
            let (code, found, _) = client.fetch_offset(&format!("g{at}"), "words");
            assert_eq!(code, ErrorCode::None);
            let fits = (acked..=sent).contains(&found);
            assert!(fits, "seed {seed}, round {round}: {found} of {acked} to {sent}");
        }
        let acks_count = Arc::new(AtomicU64::new(0));
        let committers = ranges.iter().enumerate().map(|(at, &(_, sent))| {
            let (address, acks_count) = (process.address, acks_count.clone());
            thread::spawn(move || commit_until_killed(address, at, sent + 1, &acks_count))
        });
        let committers: Vec<_> = committers.collect();
        let began = Instant::now();
        while acks_count.load(Ordering::Relaxed) == 0 {
            assert!(began.elapsed() < PATIENCE, "nothing is acknowledged");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(random.u64(0..COMMITTING_MS_MAX)));
        process.kill();
        for (range, committer) in ranges.iter_mut().zip(committers) {
            let (acked, sent) = committer.join().expect("a committer's own check");
            *range = (range.0.max(acked), range.1.max(sent));
        }
        client = process.start();
    }
    assert!(ranges.iter().any(|range| range.0 > 0), "{ranges:?}");
    process.kill();
    process.remove();
}

/// Commits rising offsets from `first` on; returns the last acknowledged (-1: none) and the last
/// sent.
fn commit_until_killed(address: SocketAddr, at: usize, first: i64, acks: &AtomicU64) -> (i64, i64) {
    let group_id = format!("g{at}");
    let who = Who::outside(&group_id);
    let (mut acked, mut sent) = (first - 1, first - 1);
    let Ok(mut client) = Client::open(address) else { return (-1, sent) };
    loop {
        if sent - acked < IN_FLIGHT_MAX {
            if client.send_commit(&who, "words", sent + 1).is_err() {
                break;
            }
            sent += 1;
        } else {
            let Ok(code) = client.committed() else { break };
            assert_eq!(code, ErrorCode::None);
            acked += 1;
            acks.fetch_add(1, Ordering::Relaxed);
        }
    }
    // What the sockets still hold was acknowledged, too.
    while acked < sent && client.committed().is_ok_and(ErrorCode::is_none) {
        acked += 1;
    }
    (if acked < first { -1 } else { acked }, sent)
}

const REJOINING_US_MAX: u64 = 3_000;

/// Goal: a rebalance that a kill -9 interrupts did not happen: the members go on where they were,
/// and the next one succeeds. Method: kill while a join waits or a little after the other member's,
/// which ends the wait; the first member heartbeats and commits; at last both join. The seed is
/// printed.
#[test]
fn kill_9_in_the_middle_of_a_rebalance_leaves_the_group_as_it_was() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut process = Process::new("kill-rebalance", KILLED_SETTINGS);
    let mut first = process.start();
    first.create("words", 1, &[]);
    first.find_loaded("g");
    let leader = first.member_id("g");
    first.send_join("g", &leader);
    assert_eq!(first.joined().generation, 1);
    first.send_sync("g", &leader, 1, &[(&leader, b"all")]);
    assert_eq!(first.synced(), (ErrorCode::None, b"all".to_vec()));
    let who = Who { group_id: "g", member_id: &leader, generation: 1 };
    for round in 0..KILLS_COUNT {
        assert_eq!(first.commit(&who, "words", round as i64), ErrorCode::None);
        let mut second = process.client();
        let follower = join_beside(&mut first, &leader, &mut second);
        let ends_the_wait = round > 0;
        if ends_the_wait {
            first.send_join("g", &leader);
            thread::sleep(Duration::from_micros(random.u64(0..REJOINING_US_MAX)));
        }
        process.kill();
        let is_answered = second.receive().is_ok();
        assert!(ends_the_wait || !is_answered, "nobody answered the join");

        first = process.start();
        first.find_loaded("g");
        assert_eq!(first.heartbeat("g", &leader, 1), ErrorCode::None, "seed {seed}, {round}");
        assert_eq!(first.fetch_offset("g", "words").1, round as i64);
        let mut second = process.client();
        second.send_join("g", &follower);
        let joined = second.joined();
        assert_eq!(joined.code, ErrorCode::UnknownMemberId, "it never was a member for good");
    }
    let mut second = process.client();
    join_beside(&mut first, &leader, &mut second);
    first.send_join("g", &leader);
    assert_eq!((first.joined().generation, second.joined().generation), (2, 2));
    process.kill();
    process.remove();
}

/// Lets a new member join until the one that was there hears of it; returns its id.
fn join_beside(first: &mut Client, leader: &str, second: &mut Client) -> String {
    let follower = second.member_id("g");
    second.send_join("g", &follower);
    while first.heartbeat("g", leader, 1) != ErrorCode::RebalanceInProgress {
        thread::sleep(Duration::from_millis(1));
    }
    follower
}

const WORDS_PARTITIONS_COUNT: i32 = 6;
const REBALANCING_US_MAX: u64 = 120_000;
/// A member's epochs when it joins, and when it leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

/// A member that outlives the node. It commits rising offsets in a topic of its own name.
struct Survivor {
    member: Member,
    acked: i64,
    sent: i64,
    is_in_doubt: bool, // an answer may be lost: the next heartbeat says and asks everything
}

impl Survivor {
    fn new(client: Client, id: &'static str) -> Survivor {
        let member = Member { client, id, epoch: JOINS, owned: Vec::new() };
        Survivor { member, acked: -1, sent: -1, is_in_doubt: false }
    }

    /// Heartbeats and commits until the node dies; `is_restless`: leaves whenever it owns anything,
    /// and joins again, so that the others have no rest either.
    fn run_until_killed(&mut self, topic_id: TopicId, is_restless: bool) {
        while self.step(topic_id).is_ok() {
            let leaves = is_restless && !self.member.owned.is_empty();
            if leaves && self.leave(topic_id).is_err() {
                break;
            }
        }
    }

    /// One heartbeat and one commit. A member that the node refuses joins again with the next one.
    fn step(&mut self, topic_id: TopicId) -> io::Result<()> {
        let member = &mut self.member;
        let is_in_full = self.is_in_doubt || member.epoch == JOINS;
        let code = member.try_beat(topic_id, is_in_full.then(|| vec!["words"]))?;
        self.is_in_doubt = false;
        if matches!(code, ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) {
            member.owned.clear();
            member.epoch = JOINS;
            return Ok(());
        }
        assert_eq!(code, ErrorCode::None, "{}", member.id);
        self.sent += 1;
        let who = Who { group_id: "g", member_id: member.id, generation: member.epoch };
        member.client.send_commit(&who, member.id, self.sent)?;
        assert_eq!(member.client.committed()?, ErrorCode::None, "{}", member.id);
        self.acked = self.sent;
        Ok(())
    }

    fn leave(&mut self, topic_id: TopicId) -> io::Result<()> {
        self.member.owned.clear();
        self.member.epoch = LEAVES;
        let answer = self.member.try_beat(topic_id, None);
        self.member.epoch = JOINS;
        answer.map(|code| assert_eq!(code, ErrorCode::None, "{}", self.member.id))
    }
}

/// Whether every partition has an owner and all are in one epoch; none may ever have two.
fn is_settled(survivors: &[Survivor]) -> bool {
    let mut owned: Vec<i32> =
        survivors.iter().flat_map(|survivor| survivor.member.owned.iter().copied()).collect();
    owned.sort_unstable();
    let owned_count = owned.len();
    owned.dedup();
    assert_eq!(owned.len(), owned_count, "a partition has two owners");
    let epochs = survivors.iter().map(|survivor| survivor.member.epoch);
    owned == (0..WORDS_PARTITIONS_COUNT).collect::<Vec<_>>()
        && epochs.clone().min() == epochs.max()
        && survivors.iter().all(|survivor| survivor.member.epoch > JOINS)
}

/// Goal: members of the consumer protocol (KIP-848) come to an agreement whenever the process dies
/// in a rebalance: never has a partition two owners, in the end each has one, and no acknowledged
/// commit is lost. Method: one of three members leaves and joins without end; kill; each goes on
/// with what it knows; compare with what the node says. The seed is printed.
#[test]
fn kill_9_in_the_middle_of_consumer_protocol_rebalances_leaves_one_owner_a_partition() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut process = Process::new("kill-consumer-rebalance", KILLED_SETTINGS);
    let mut client = process.start();
    let topic_id = client.create("words", WORDS_PARTITIONS_COUNT, &[]);
    client.find_loaded("g");
    let ids = ["first", "second", "third"];
    for id in ids {
        client.create(id, 1, &[]);
    }
    let mut survivors: Vec<Survivor> =
        ids.into_iter().map(|id| Survivor::new(process.client(), id)).collect();
    let mut unsettled_count = 0;
    for round in 0..KILLS_COUNT {
        let restless = random.usize(0..survivors.len());
        thread::scope(|scope| {
            for (at, survivor) in survivors.iter_mut().enumerate() {
                scope.spawn(move || survivor.run_until_killed(topic_id, at == restless));
            }
            thread::sleep(Duration::from_micros(random.u64(0..REBALANCING_US_MAX)));
            process.kill();
        });
        unsettled_count += usize::from(!is_settled(&survivors));
        client = process.start();
        client.find_loaded("g");
        for survivor in &mut survivors {
            let (code, found, _) = client.fetch_offset("g", survivor.member.id);
            let (acked, sent) = (survivor.acked, survivor.sent);
            assert_eq!(code, ErrorCode::None);
            let fits = (acked..=sent).contains(&found);
            assert!(fits, "seed {seed}, round {round}: {found} of {acked} to {sent}");
            (survivor.member.client, survivor.is_in_doubt) = (process.client(), true);
        }
        settle(&mut survivors, topic_id);
        check_described(&mut client, &survivors);
    }
    println!("{unsettled_count} of {KILLS_COUNT} kills fell into a rebalance");
    assert!(unsettled_count > 0 && survivors.iter().all(|survivor| survivor.acked > 0));
    process.kill();
    process.remove();
}

/// Lets the members heartbeat in turn until they agree.
fn settle(survivors: &mut [Survivor], topic_id: TopicId) {
    let began = Instant::now();
    loop {
        for at in 0..survivors.len() {
            survivors[at].step(topic_id).expect("the node runs");
            is_settled(survivors); // checks that no partition has two owners
        }
        if is_settled(survivors) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the members do not agree");
    }
}

/// The node describes the group as its members see it.
fn check_described(client: &mut Client, survivors: &[Survivor]) {
    let request = ConsumerGroupDescribeRequest { group_ids: vec!["g"], ..Default::default() };
    let frame = client.call(1, &request);
    let (_, answer) = decode_response::<ConsumerGroupDescribeRequest>(1, &frame).expect("whole");
    let group = &answer.groups[0];
    assert_eq!((group.error_code, group.group_state), (ErrorCode::None, "Stable"));
    assert_eq!(group.members.len(), survivors.len());
    for Survivor { member, .. } in survivors {
        let found = group.members.iter().find(|found| found.member_id == member.id);
        let found = found.expect("it is a member");
        let assigned = found.assignment.topic_partitions.iter();
        let assigned: Vec<i32> =
            assigned.flat_map(|topic| topic.partitions.iter().copied()).collect();
        assert_eq!((found.member_epoch, assigned), (member.epoch, member.owned.clone()));
    }
}

/// Goal: a record that is none stops its partition's groups, not the node. Method: kill the node,
/// write such a record behind the last one in the log, start.
#[test]
fn a_malformed_record_in_the_log_stops_its_partition_alone() {
    let mut process = Process::new("malformed-group", KILLED_SETTINGS);
    let mut client = process.start();
    client.create("words", 1, &[]);
    let groups = ["a", "b", "c"]; // one in each partition
    let mut partitions: Vec<i32> = groups.iter().map(|group| partition_of(group, 3)).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
    for group in groups {
        client.find_loaded(group);
        assert_eq!(client.commit(&Who::outside(group), "words", 5), ErrorCode::None);
    }
    process.kill();
    let dir = format!("__consumer_offsets-{}", partition_of("b", 3));
    let log = process.data().join(dir).join("00000000000000000000.log");
    append_malformed(&log);

    let mut client = process.start();
    for group in ["a", "c"] {
        client.find_loaded(group);
        assert_eq!(client.fetch_offset(group, "words").1, 5);
    }
    client.find_loaded("b");
    assert_eq!(client.fetch_offset("b", "words").0, ErrorCode::NotCoordinator);
    assert_eq!(client.list(&[]).len(), 2);
    let said = fs::read_to_string(process.log()).expect("the node's log");
    assert!(said.contains("the groups of this partition are not served"), "{said}");
    process.kill();
    process.remove();
}

/// Writes a batch behind the last one of a log: right in itself, but its record is no group's.
fn append_malformed(log: &Path) {
    let bytes = fs::read(log).expect("the log is there");
    let whole = Batches::new(&bytes).take_while(|batch| {
        batch.as_ref().is_ok_and(|batch| batch.check_crc().is_ok() && !batch.bytes().is_empty())
    });
    let (mut end, mut next_offset) = (0, 0);
    for batch in whole.flatten() {
        end += batch.bytes().len();
        next_offset = batch.next_offset().0;
    }
    assert!(end > 0, "a commit is in it");
    let mut batch = BatchBuilder::new(Codec::None);
    batch.append(&NewRecord { key: Some(&[0, 1, 9]), value: Some(b""), ..NewRecord::default() });
    let mut batch = batch.finish();
    batch[..8].copy_from_slice(&i64::to_be_bytes(next_offset));
    batch[12..16].copy_from_slice(&bytes[12..16]); // the epoch of the others
    let file = File::options().write(true).open(log).expect("the log is there");
    file.write_all_at(&batch, end as u64).expect("the disk has room");
}
