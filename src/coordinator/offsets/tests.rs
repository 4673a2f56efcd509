//! Commits, fetches, deletions and expiry in virtual time; and what a crash may not undo.

use crate::coordinator::harness::{Sim, Topics, subscribed};
use crate::coordinator::replies::{FetchedOffset, OffsetFetchReply, Reply};
use crate::coordinator::{Coordinator, GroupSettings, RecordError, records};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use std::collections::BTreeMap;

fn one<'a>(topic: &'a str, partition: i32, offset: i64) -> OffsetCommitRequest<'a> {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_leader_epoch: 3,
        committed_metadata: Some("note"),
    };
    let topic =
        OffsetCommitRequestTopic { name: topic, partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest { group_id: "g", topics: vec![topic], ..Default::default() }
}

/// The code for its one partition.
fn commit(sim: &mut Sim, request: &OffsetCommitRequest<'_>) -> ErrorCode {
    let id = sim.call(|coordinator, call| coordinator.offset_commit(call, request));
    match sim.answer(id) {
        Some(Reply::OffsetCommit(reply)) => reply.topics[0].partitions[0].1,
        other => panic!("not a commit's answer: {other:?}"),
    }
}

fn fetch(sim: &mut Sim, group_id: &str, topics: Option<&[(&str, i32)]>) -> OffsetFetchReply {
    let topics = topics.map(|topics| {
        let one = |(name, partition): &(&'static str, i32)| OffsetFetchRequestTopics {
            name,
            partition_indexes: vec![*partition],
            ..Default::default()
        };
        let known = |name: &str| if name == "t" { "t" } else { "u" };
        topics.iter().map(|(name, partition)| one(&(known(name), *partition))).collect()
    });
    let request = OffsetFetchRequestGroup { group_id, topics, ..Default::default() };
    let id = sim.call(|coordinator, call| coordinator.offset_fetch(call, &request));
    match sim.answer(id) {
        Some(Reply::OffsetFetch(reply)) => reply,
        other => panic!("not a fetch's answer: {other:?}"),
    }
}

fn offset_of(sim: &mut Sim, topic: &str, partition: i32) -> i64 {
    fetch(sim, "g", Some(&[(topic, partition)])).topics[0].partitions[0].offset
}

/// Goal: anyone may commit for a group without members; the offset, its epoch and its metadata
/// come back, named and in the list of all, also after a crash.
#[test]
fn a_simple_commit_is_kept() {
    let mut sim = Sim::prompt();
    assert_eq!(commit(&mut sim, &one("t", 1, 42)), ErrorCode::None);
    for _ in 0..2 {
        let all = fetch(&mut sim, "g", None);
        assert_eq!((all.topics.len(), all.topics[0].name.as_str()), (1, "t"));
        assert_eq!(all.topics[0].id, sim.topics.id("t"));
        let metadata = "note".to_owned();
        let error = ErrorCode::None;
        let kept = FetchedOffset { partition: 1, offset: 42, leader_epoch: 3, metadata, error };
        assert_eq!(all.topics[0].partitions, [kept]);
        assert_eq!(offset_of(&mut sim, "t", 0), -1);
        sim.crash(usize::MAX);
    }
    let nothing = fetch(&mut sim, "other", Some(&[("t", 1)]));
    assert_eq!(nothing.topics[0].partitions, [FetchedOffset::none(1, ErrorCode::None)]);
    assert_eq!(fetch(&mut sim, "other", None).topics, []);
}

/// Goal: unknown topics and partitions, and metadata that is too long, are refused one by one.
#[test]
fn bad_partitions_of_a_commit_are_refused_alone() {
    let mut sim = Sim::prompt();
    assert_eq!(commit(&mut sim, &one("none", 0, 1)), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(commit(&mut sim, &one("t", 4, 1)), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(commit(&mut sim, &one("t", -1, 1)), ErrorCode::UnknownTopicOrPartition);
    let long = "ä".repeat(4_096);
    let mut request = one("t", 0, 1);
    request.topics[0].partitions[0].committed_metadata = Some(&long);
    assert_eq!(commit(&mut sim, &request), ErrorCode::None, "characters count, not bytes");
    let too_long = "x".repeat(4_097);
    request.topics[0].partitions[0].committed_metadata = Some(&too_long);
    assert_eq!(commit(&mut sim, &request), ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(offset_of(&mut sim, "t", 0), 1);
}

/// Goal: only members of the generation commit for a group that has members.
#[test]
fn a_group_with_members_takes_commits_of_its_generation_only() {
    let mut sim = Sim::prompt();
    let mut request = one("t", 0, 1);
    request.generation_id_or_member_epoch = 1;
    request.member_id = "nobody";
    assert_eq!(commit(&mut sim, &request), ErrorCode::IllegalGeneration, "there is no group");
    let member = sim.settled();
    assert_eq!(commit(&mut sim, &one("t", 0, 1)), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut sim, &request), ErrorCode::UnknownMemberId);
    request.member_id = &member;
    assert_eq!(commit(&mut sim, &request), ErrorCode::None);
    request.generation_id_or_member_epoch = 0;
    assert_eq!(commit(&mut sim, &request), ErrorCode::IllegalGeneration);
    request.generation_id_or_member_epoch = 2;
    let rejoined = sim.join(&member, None, &["range"]);
    assert_eq!(sim.join_reply(rejoined).unwrap().generation, 2);
    assert_eq!(commit(&mut sim, &request), ErrorCode::RebalanceInProgress);
    assert_eq!(offset_of(&mut sim, "t", 0), 1);
}

/// Goal: KIP-496, offsets are deleted unless members read the topic.
#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut sim = Sim::prompt();
    commit(&mut sim, &one("t", 0, 1));
    commit(&mut sim, &one("u", 0, 1));
    sim.settled();
    let topic = |name| OffsetDeleteRequestTopic {
        name,
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    let request = OffsetDeleteRequest { group_id: "g", topics: vec![topic("t"), topic("u")] };
    let id = sim.call(|coordinator, call| coordinator.offset_delete(call, &request));
    let Some(Reply::OffsetDelete(reply)) = sim.answer(id) else { panic!("not its answer") };
    assert_eq!(reply.error, ErrorCode::None);
    let codes: Vec<ErrorCode> = reply.topics.iter().map(|topic| topic.partitions[0].1).collect();
    assert_eq!(codes, [ErrorCode::GroupSubscribedToTopic, ErrorCode::None]);
    sim.crash(usize::MAX);
    assert_eq!((offset_of(&mut sim, "t", 0), offset_of(&mut sim, "u", 0)), (1, -1));
    let request = OffsetDeleteRequest { group_id: "none", topics: Vec::new() };
    let id = sim.call(|coordinator, call| coordinator.offset_delete(call, &request));
    let Some(Reply::OffsetDelete(reply)) = sim.answer(id) else { panic!("not its answer") };
    assert_eq!(reply.error, ErrorCode::GroupIdNotFound);
}

fn retention(minutes: i64) -> GroupSettings {
    GroupSettings {
        initial_rebalance_delay_ms: 0,
        offsets_retention_ms: minutes * 60_000,
        offsets_check_interval_ms: 60_000,
        ..GroupSettings::default()
    }
}

/// Goal: KIP-211, offsets outlive their commit while the group lives, and go when it has been
/// empty for the retention; those of topics that nobody reads go before; then the group goes.
#[test]
fn offsets_expire_when_nobody_needs_them() {
    let mut sim = Sim::new(retention(60));
    commit(&mut sim, &one("t", 0, 1));
    commit(&mut sim, &one("u", 0, 1));
    let member = sim.settled();
    for _ in 0..90 * 10 {
        assert_eq!(sim.heartbeat(&member, 1), ErrorCode::None);
        sim.pass(6_000);
    }
    assert_eq!((offset_of(&mut sim, "t", 0), offset_of(&mut sim, "u", 0)), (1, -1));
    sim.pass(59 * 60_000);
    assert_eq!(offset_of(&mut sim, "t", 0), 1, "the group has been empty for less");
    sim.crash(usize::MAX);
    sim.pass(3 * 60_000);
    assert_eq!(sim.coordinator.groups_count(), 0);
    sim.crash(usize::MAX);
    assert_eq!(sim.coordinator.groups_count(), 0, "the tombstones are in the log");
}

/// Goal: a simple group's offsets go with the age of their commit, and a client's own wish of
/// before OffsetCommit 5 is heard.
#[test]
fn simple_offsets_expire_with_their_commit() {
    let mut sim = Sim::new(retention(60));
    commit(&mut sim, &one("t", 0, 1));
    let mut request = one("t", 1, 1);
    request.retention_time_ms = 5 * 60_000;
    commit(&mut sim, &request);
    sim.pass(7 * 60_000);
    sim.crash(usize::MAX);
    assert_eq!((offset_of(&mut sim, "t", 0), offset_of(&mut sim, "t", 1)), (1, -1));
    sim.pass(55 * 60_000);
    assert_eq!(sim.coordinator.groups_count(), 0);
}

/// Goal: offsets go with their topic; a topic of the same name that comes later has none.
#[test]
fn offsets_go_with_their_topic() {
    let mut sim = Sim::prompt();
    commit(&mut sim, &one("t", 0, 1));
    commit(&mut sim, &one("u", 0, 1));
    let effects = sim.coordinator.topic_deleted("t", sim.now(), &sim.topics);
    sim.take(effects);
    sim.crash(usize::MAX);
    assert_eq!((offset_of(&mut sim, "t", 0), offset_of(&mut sim, "u", 0)), (-1, 1));
    let mut asked = OffsetFetchRequestTopics {
        topic_id: sim.topics.id("u"),
        name: "u",
        partition_indexes: vec![0],
    };
    for expected in [1, -1] {
        let topics = Some(vec![asked.clone()]);
        let request = OffsetFetchRequestGroup { group_id: "g", topics, ..Default::default() };
        let id = sim.call(|coordinator, call| coordinator.offset_fetch(call, &request));
        let Some(Reply::OffsetFetch(reply)) = sim.answer(id) else { panic!("not its answer") };
        assert_eq!(reply.topics[0].partitions[0].offset, expected);
        asked.topic_id = sim.topics.id("t"); // as if made anew
    }
}

/// Goal: groups are listed by state and type, and deleted only when empty, with their offsets.
#[test]
fn groups_are_listed_and_deleted() {
    let mut sim = Sim::prompt();
    commit(&mut sim, &one("t", 0, 1));
    let list = |sim: &mut Sim, states: &[&str], types: &[&str]| {
        let id = sim.call(|coordinator, call| coordinator.list_groups(call, states, types));
        let Some(Reply::ListGroups(groups)) = sim.answer(id) else { panic!("not its answer") };
        groups.len()
    };
    assert_eq!(list(&mut sim, &[], &[]), 1);
    assert_eq!(list(&mut sim, &["empty"], &["classic"]), 1);
    assert_eq!(list(&mut sim, &["Stable"], &[]) + list(&mut sim, &[], &["consumer"]), 0);
    let delete = |sim: &mut Sim| {
        let id = sim.call(|coordinator, call| coordinator.delete_group(call, "g"));
        let Some(Reply::DeleteGroup(group)) = sim.answer(id) else { panic!("not its answer") };
        group.error
    };
    let member = sim.settled();
    assert_eq!(delete(&mut sim), ErrorCode::NonEmptyGroup);
    let _ = member;
    sim.pass(11_000);
    assert_eq!(delete(&mut sim), ErrorCode::None);
    assert_eq!(delete(&mut sim), ErrorCode::GroupIdNotFound);
    sim.crash(usize::MAX);
    assert_eq!(sim.coordinator.groups_count(), 0);
}

/// Goal: a malformed record ends the load with an error that names it.
#[test]
fn a_malformed_record_ends_the_load() {
    let mut coordinator = Coordinator::new(GroupSettings::default(), 0);
    let record = records::group("g", Some(&records::GroupMetadataValue::default()));
    let mut value = record.value.unwrap();
    value.pop();
    let error = coordinator.load(&record.key, Some(&value)).unwrap_err();
    assert!(matches!(error, RecordError::Value { kind: records::kind::GROUP, .. }), "{error}");
    assert_eq!(coordinator.load(&[0, 77], Some(&[1])), Ok(()), "a newer kind is passed over");
}

/// Goal: no acknowledged commit is lost, whenever the broker dies. Method: random commits by a
/// classic member across rebalances; an answer counts once the log is durable up to it; a crash
/// loses any part of what is not. The seed is printed.
#[test]
fn random_crashes_lose_no_acknowledged_commit() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..40 {
        let mut sim = Sim::prompt();
        sim.topics = Topics::new(&[("t", 4)]);
        let mut acknowledged: BTreeMap<i32, i64> = BTreeMap::new();
        let mut waiting: Vec<(usize, i32, i64)> = Vec::new(); // end in the log, partition, offset
        let (mut durable, mut generation) = (0, 0);
        let mut member: Option<String> = None;
        for offset in 1..200 {
            match random.u32(0..12) {
                0 => {
                    let lost = random.usize(durable..=sim.log.len());
                    sim.crash(lost);
                    durable = sim.log.len();
                    waiting.clear();
                    for (&partition, &expected) in &acknowledged {
                        assert!(offset_of(&mut sim, "t", partition) >= expected);
                    }
                }
                1 => {
                    let id = member.take().unwrap_or_default();
                    let (joined_id, reply) = if id.is_empty() {
                        let (joined_id, joined) = sim.join_twice(&["range"]);
                        (joined_id, sim.join_reply(joined))
                    } else {
                        let joined = sim.join(&id, None, &["range"]);
                        (id, sim.join_reply(joined))
                    };
                    let Some(reply) = reply.filter(|reply| reply.error.is_none()) else { continue };
                    let assignment = subscribed(&[]);
                    let synced = sim.sync(
                        &joined_id,
                        reply.generation,
                        &[(&joined_id, assignment.as_slice())],
                    );
                    sim.sync_reply(synced);
                    generation = reply.generation;
                    member = Some(joined_id);
                }
                2..=4 => {
                    durable = random.usize(durable..=sim.log.len());
                    waiting.retain(|(end, partition, offset)| {
                        if *end <= durable {
                            acknowledged.insert(*partition, *offset);
                        }
                        *end > durable
                    });
                }
                5 => sim.pass(random.i64(0..6_000)),
                _ => {
                    let partition = random.i32(0..4);
                    let mut request = one("t", partition, offset);
                    if let Some(member) = &member {
                        request.member_id = member;
                        request.generation_id_or_member_epoch = generation;
                    }
                    if commit(&mut sim, &request).is_none() {
                        waiting.push((sim.log.len(), partition, offset));
                    }
                }
            }
        }
    }
}
