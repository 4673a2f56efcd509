//! Groups under bad input, on a whole node over real sockets: the code that Kafka answers, bounded
//! work, and other groups untouched. (Malformed records of theirs: tests/groups.rs.)

mod harness;

use harness::groups::{JOIN, Who};
use harness::{Node, data_dir};
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::decode_response;
use ringmain::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ringmain::protocol::messages::heartbeat::HeartbeatRequest;
use ringmain::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ringmain::protocol::subscription::{self, Subscription};
use std::thread;
use std::time::Duration;

/// Settings of the nodes here.
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=4"];

/// Goal: a storm of heartbeats, honest and not, gets Kafka's codes and costs nobody else anything.
/// Method: ten thousand, a hundred at a time; meanwhile another group lives and commits.
#[test]
fn a_storm_of_heartbeats_harms_nobody() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let (mut calm, mut wild) = (node.client(), node.client());
    calm.create("words", 1, &[]);
    let member = calm.settle("calm");
    let stormy = wild.settle("stormy");
    for round in 0..100 {
        let nobody = format!("nobody-{round}");
        let group = format!("group-{round}");
        let kinds: [(&str, &str, i32, Option<&str>, ErrorCode); 7] = [
            ("stormy", &stormy, 1, None, ErrorCode::None),
            ("stormy", &stormy, 7, None, ErrorCode::IllegalGeneration),
            ("stormy", &nobody, 1, None, ErrorCode::UnknownMemberId),
            ("stormy", &stormy, 1, Some("instance"), ErrorCode::UnknownMemberId),
            ("calm", &nobody, 1, None, ErrorCode::UnknownMemberId),
            (&group, &nobody, 1, None, ErrorCode::UnknownMemberId),
            ("", &nobody, 1, None, ErrorCode::InvalidGroupId),
        ];
        for at in 0..100 {
            let (group_id, member_id, generation_id, group_instance_id, _) =
                kinds[at % kinds.len()];
            let request =
                HeartbeatRequest { group_id, generation_id, member_id, group_instance_id };
            wild.send(4, &request).expect("the node reads");
        }
        assert_eq!(calm.heartbeat("calm", &member, 1), ErrorCode::None);
        let who = Who { group_id: "calm", member_id: &member, generation: 1 };
        assert_eq!(calm.commit(&who, "words", round), ErrorCode::None);
        for at in 0..100 {
            let frame = wild.receive().expect("an answer");
            let (_, answer) = decode_response::<HeartbeatRequest>(4, &frame).expect("whole");
            assert_eq!(answer.error_code, kinds[at % kinds.len()].4, "kind {}", at % kinds.len());
        }
    }
    let names: Vec<String> = calm.list(&[]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["calm", "stormy"], "no group came of it");
    assert_eq!(calm.fetch_offset("calm", "words").1, 99);
    node.stop();
}

/// Goal: ten thousand subscribed topics are served in both protocols, and no more than the bounds.
/// Method: join with them, and with too much; another group goes on.
#[test]
fn ten_thousand_subscribed_topics_are_taken_and_more_is_refused() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let (mut calm, mut client) = (node.client(), node.client());
    let topic_id = calm.create("words", 1, &[]);
    let member = calm.settle("calm");
    let names: Vec<String> = (0..10_000).map(|at| format!("{at:-^200}")).collect();
    let topics: Vec<&str> = names.iter().map(String::as_str).chain(["words"]).collect();
    let subscription = Subscription { topics: topics.clone(), ..Default::default() };
    let fits = subscription::write(0, &subscription);
    let huge = vec![0; 5 << 20];
    client.find_loaded("many");
    let mut member_id = String::new();
    for (metadata, code) in [
        (&fits, ErrorCode::MemberIdRequired),
        (&fits, ErrorCode::None),
        (&huge, ErrorCode::GroupMaxSizeReached),
    ] {
        let protocol = JoinGroupRequestProtocol { name: "range", metadata };
        let request = JoinGroupRequest {
            group_id: "many",
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: &member_id,
            protocol_type: "consumer",
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        client.send(JOIN, &request).expect("the node reads");
        let joined = client.joined();
        assert_eq!(joined.code, code);
        member_id = joined.member;
    }
    let subscribed = |names: Vec<&str>, group_id| {
        let request = ConsumerGroupHeartbeatRequest {
            group_id,
            member_id: "member",
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(names.clone()),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let frame = node.client().call(1, &request);
        let (_, answer) =
            decode_response::<ConsumerGroupHeartbeatRequest>(1, &frame).expect("whole");
        let owned = answer.assignment.map(|it| it.topic_partitions[0].topic_id);
        (answer.error_code, owned)
    };
    assert_eq!(subscribed(topics, "new"), (ErrorCode::None, Some(topic_id)));
    let (code, owned) = subscribed(vec!["words"; 50_001], "newer");
    assert_eq!((code, owned), (ErrorCode::InvalidRequest, None));
    assert_eq!(calm.heartbeat("calm", &member, 1), ErrorCode::None);
    let names: Vec<String> = calm.list(&[]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["calm", "many", "new"]);
    node.stop();
}

/// Goal: no regular expression costs more than its length and the topics' names. Method: those that
/// backtracking engines never end with, over names made for them; those that grow when compiled.
#[test]
fn a_regular_expression_cannot_blow_up() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let (mut calm, mut client) = (node.client(), node.client());
    let member = calm.settle("calm");
    for at in 0..50 {
        client.create(&format!("{}-{at}", "a".repeat(200)), 1, &[]);
    }
    let wide = "(a|b|c)?".repeat(3_000);
    for (number, (regex, code)) in [
        ("(a+)+$", ErrorCode::None),
        ("(a|aa)+x", ErrorCode::None),
        ("(.*)*(.*)*(.*)*[^-]", ErrorCode::None),
        ("(?:a{1000}){1000}", ErrorCode::InvalidRegularExpression),
        ("((a{100}){100}){100}", ErrorCode::InvalidRegularExpression),
        (&wide, ErrorCode::InvalidRegularExpression),
        ("(", ErrorCode::InvalidRegularExpression),
    ]
    .into_iter()
    .enumerate()
    {
        let group_id = format!("group-{number}");
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &group_id,
            member_id: "member",
            rebalance_timeout_ms: 60_000,
            subscribed_topic_regex: Some(regex),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let frame = client.call(1, &request);
        let (_, answer) =
            decode_response::<ConsumerGroupHeartbeatRequest>(1, &frame).expect("whole");
        assert_eq!(answer.error_code, code, "{:.40}: {:?}", regex, answer.error_message);
        assert_eq!(calm.heartbeat("calm", &member, 1), ErrorCode::None);
    }
    node.stop();
}

/// Goal: only the leader assigns. Method: the follower sends assignments for itself and the leader,
/// the leader one for somebody who is no member.
#[test]
fn an_assignment_for_somebody_else_is_not_taken() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let (mut first, mut second) = (node.client(), node.client());
    let leader = first.settle("g");
    let follower = second.member_id("g");
    second.send_join("g", &follower);
    while first.heartbeat("g", &leader, 1) != ErrorCode::RebalanceInProgress {
        thread::sleep(Duration::from_millis(1)); // the other connection's join is on its way
    }
    first.send_join("g", &leader);
    assert_eq!((first.joined().generation, second.joined().generation), (2, 2));
    second.send_sync("g", &follower, 2, &[(&follower, b"stolen"), (&leader, b"nothing")]);
    first.send_sync("g", &leader, 2, &[(&leader, b"one"), (&follower, b"two"), ("x", b"three")]);
    assert_eq!(first.synced(), (ErrorCode::None, b"one".to_vec()));
    assert_eq!(second.synced(), (ErrorCode::None, b"two".to_vec()));
    node.stop();
}
