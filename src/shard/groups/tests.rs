//! Coordinators on the logs of a simulated disk: what is answered when, and what a failing disk,
//! damaged records and changing topics do to them.

use super::*;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::cluster::records::MetadataRecord;
use crate::coordinator::records::{OffsetCommitKey, OffsetCommitValue, offset as offset_record};
use crate::io::sim::{self, SimDisk};
use crate::io::{Io, Slice};
use crate::protocol::batch::{BatchBuilder, BatchProducer};
use crate::protocol::compression::Codec;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::protocol::record::NewRecord;
use crate::shard::fetch::{FetchGroup, FetchPart, fetch};
use crate::shard::replica::Append;
use crate::shard::signal::Flag;
use crate::shard::tests::{lone_shard, topic_created};
use std::future::Future;

const OFFSETS_ID: TopicId = TopicId(7);
const WORDS_ID: TopicId = TopicId(8);

/// One shard with two partitions of the topic of groups, and a topic to read.
struct World {
    shard: Rc<Shard>,
    image: Image,
    disk: SimDisk,
}

fn on_shard<F: Future<Output = ()>>(seed: u64, test: impl FnOnce(World) -> F) {
    sim::run(seed, |io, disk| async move { test(World::new(io, disk).await).await });
}

impl World {
    async fn new(io: Io, disk: SimDisk) -> World {
        let shard = lone_shard(io);
        shard.io.spawn(shard.clone().keep_group_time());
        let mut world = World { shard, image: Image::default(), disk };
        world.create(OFFSETS_TOPIC, OFFSETS_ID, 2).await;
        world.create("words", WORDS_ID, 3).await;
        world.loaded().await;
        world
    }

    async fn apply(&mut self, record: MetadataRecord) {
        self.image.apply(&record).expect("the test's records fit");
        self.shard.apply_image(Arc::new(self.image.clone())).await;
    }

    async fn create(&mut self, name: &str, id: TopicId, partitions_count: usize) {
        let internal = name == OFFSETS_TOPIC;
        self.apply(topic_created(name, id, partitions_count, internal)).await;
    }

    /// Resolves when no partition is loading.
    async fn loaded(&self) {
        let is_loading = || {
            let hosts = self.shard.groups.hosts.borrow();
            hosts.values().any(|host| matches!(&*host.state.borrow(), State::Loading))
        };
        while is_loading() {
            self.shard.io.sleep(Duration::from_millis(1)).await;
        }
    }

    fn replica(&self, partition: i32) -> Rc<Replica> {
        let partition = PartitionIndex(partition);
        let id = TopicPartition { topic_id: OFFSETS_ID, partition };
        self.shard.replica(id).expect("this shard owns it")
    }

    fn call(
        &self,
        partition: i32,
        verb: impl FnOnce(&mut Coordinator, &Call<'_>) -> Effects + Send + 'static,
    ) -> Waiting<ShardReply> {
        let partition = PartitionIndex(partition);
        let id = TopicPartition { topic_id: OFFSETS_ID, partition };
        let call = GroupCall {
            partition,
            version: 9,
            client_id: "test".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            verb: Box::new(verb),
        };
        self.shard.group_call(id, call)
    }

    /// Commits `offset` for partition 0 of the topic that is read.
    fn commit(&self, partition: i32, group: &str, offset: i64) -> Waiting<ShardReply> {
        let group = group.to_owned();
        let metadata = "x".repeat(4_000);
        self.call(partition, move |coordinator, call| {
            let one = OffsetCommitRequestPartition {
                committed_offset: offset,
                committed_metadata: Some(&metadata),
                ..OffsetCommitRequestPartition::default()
            };
            let topics = vec![OffsetCommitRequestTopic {
                name: "words",
                partitions: vec![one],
                ..OffsetCommitRequestTopic::default()
            }];
            let group_id = &group;
            let request = OffsetCommitRequest { group_id, topics, ..Default::default() };
            coordinator.offset_commit(call, &request)
        })
    }

    /// The committed offset; -1: none.
    async fn fetch(&self, partition: i32, group: &str) -> Result<i64, GroupError> {
        let group = group.to_owned();
        let asked = self.call(partition, move |coordinator, call| {
            let topic = OffsetFetchRequestTopics {
                name: "words",
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            };
            let topics = Some(vec![topic]);
            let request =
                OffsetFetchRequestGroup { group_id: &group, topics, ..Default::default() };
            coordinator.offset_fetch(call, &request)
        });
        match reply(asked).await? {
            Reply::OffsetFetch(reply) => Ok(reply.topics[0].partitions[0].offset),
            other => panic!("not a fetch's answer: {other:?}"),
        }
    }

    /// Appends a batch past the coordinator, and loads the partition anew.
    async fn append_and_reload(&self, partition: i32, batch: Vec<u8>) {
        let Append::Done(Ok((_, acked))) = self.replica(partition).append_own(&Slice::from(batch))
        else {
            panic!("the log takes appends");
        };
        acked.await.expect("the disk works");
        let host = self.shard.groups.host(PartitionIndex(partition)).expect("it is hosted");
        let live = host.live().expect("it is loaded");
        reload(&self.shard, &host, &live, &StoreError::TimedOut);
        assert_eq!(self.fetch(partition, "any").await, Err(GroupError::Loading));
        self.loaded().await;
    }
}

async fn reply(asked: Waiting<ShardReply>) -> GroupReply {
    match asked.await {
        ShardReply::Group(reply) => reply,
        other => panic!("a coordinator answers with {other:?}"),
    }
}

async fn committed(asked: Waiting<ShardReply>) -> Result<ErrorCode, GroupError> {
    match reply(asked).await? {
        Reply::OffsetCommit(reply) => Ok(reply.topics[0].partitions[0].1),
        other => panic!("not a commit's answer: {other:?}"),
    }
}

fn batch_of(codec: Codec, records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    builder(BatchBuilder::new(codec), records).finish()
}

fn builder(mut batch: BatchBuilder, records: &[(Vec<u8>, Option<Vec<u8>>)]) -> BatchBuilder {
    for (key, value) in records {
        let (key, value) = (Some(&**key), value.as_deref());
        batch.append(&NewRecord { timestamp: 1_000, key, value, ..NewRecord::default() });
    }
    batch
}

fn offset_of(group: &str, offset: Option<i64>) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = OffsetCommitKey { group, topic: "words", partition: 0 };
    let value = offset.map(|offset| OffsetCommitValue {
        offset,
        expire_timestamp: -1,
        ..OffsetCommitValue::default()
    });
    let record = offset_record(&key, value.as_ref());
    (record.key, record.value)
}

/// Goal: a commit is answered when it is on disk, and those that come together share flushes.
/// Method: 100 commits at once; look at the log when each is answered.
#[test]
fn commits_are_durable_when_answered_and_share_flushes() {
    on_shard(1, |world| async move {
        let flushes = world.shard.metrics.flushes.get();
        let asked: Vec<_> =
            (0..100).map(|number| world.commit(0, &format!("g{}", number % 7), number)).collect();
        assert_eq!(world.replica(0).log().end_offset(), Offset(100), "nobody waited to append");
        for (number, asked) in (0..).zip(asked) {
            assert_eq!(committed(asked).await, Ok(ErrorCode::None));
            assert!(world.replica(0).high_watermark() > Offset(number));
        }
        let flushes = world.shard.metrics.flushes.get() - flushes;
        assert!((1..20).contains(&flushes), "{flushes} flushes for 100 commits");
        assert_eq!(world.fetch(0, "g0").await, Ok(98));
    });
}

/// Goal: a reply without records waits for what was appended before it. Method: commit and fetch at
/// once.
#[test]
fn a_fetch_does_not_tell_of_what_a_crash_could_undo() {
    on_shard(2, |world| async move {
        let commit = world.commit(0, "g", 5);
        let fetched = world.fetch(0, "g").await;
        assert_eq!(fetched, Ok(5));
        assert_eq!(world.replica(0).high_watermark(), Offset(1));
        assert_eq!(committed(commit).await, Ok(ErrorCode::None));
    });
}

/// Goal: a failed flush takes back what was not acknowledged, and service goes on. Method: fail
/// one under a commit and a waiting join; load again; compare. Other partitions do not notice.
#[test]
fn a_failed_flush_loads_the_groups_anew() {
    for seed in 0..8 {
        on_shard(seed, |world| async move {
            assert_eq!(committed(world.commit(0, "g", 1)).await, Ok(ErrorCode::None));
            let waiting = world.call(0, |coordinator, call| {
                let protocol = JoinGroupRequestProtocol { name: "range", metadata: b"" };
                let request = JoinGroupRequest {
                    group_id: "waits",
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 10_000,
                    group_instance_id: Some("static"),
                    protocol_type: "consumer",
                    protocols: vec![protocol],
                    ..JoinGroupRequest::default()
                };
                coordinator.join_group(call, &request)
            });
            world.disk.fail_next_sync();
            let failed = committed(world.commit(0, "g", 2)).await;
            assert_eq!(failed, Err(GroupError::NotHere));
            assert_eq!(reply(waiting).await, Err(GroupError::NotHere), "who waits is told");
            assert_eq!(world.fetch(0, "g").await, Err(GroupError::Loading));
            assert_eq!(world.fetch(1, "g").await, Ok(-1));
            world.loaded().await;
            let found = world.fetch(0, "g").await.expect("loaded");
            assert!([1, 2].contains(&found), "acknowledged or in doubt, not {found}");
            assert_eq!(committed(world.commit(0, "g", 3)).await, Ok(ErrorCode::None));
            assert_eq!(world.fetch(0, "g").await, Ok(3));
        });
    }
}

/// Goal: a full disk refuses commits, loses none that was acknowledged, and takes them again when
/// there is space. Method: commit large ones until the disk is full; make space.
#[test]
fn a_full_disk_refuses_commits_until_there_is_space() {
    on_shard(9, |world| async move {
        world.disk.out_of_space(true);
        let (mut acked, mut sent) = (-1, -1);
        let refused = loop {
            let asked: Vec<_> = (0..64).map(|at| world.commit(0, "g", sent + 1 + at)).collect();
            sent += 64;
            let mut refused = None;
            for asked in asked {
                match committed(asked).await {
                    Ok(ErrorCode::None) => acked += 1,
                    Err(error) => refused = refused.or(Some(error)),
                    Ok(code) => panic!("a right commit is refused: {code}"),
                }
            }
            if let Some(refused) = refused {
                break refused;
            }
            assert!(sent < 100_000, "the disk never gets full");
        };
        assert_eq!(refused, GroupError::NotHere);
        world.loaded().await;
        let found = world.fetch(0, "g").await.expect("loaded");
        assert!((acked..=sent).contains(&found), "{found} of {acked} to {sent}");
        assert_eq!(committed(world.commit(0, "g", 7)).await, Err(GroupError::NotHere));
        world.disk.out_of_space(false);
        while committed(world.commit(0, "g", 8)).await != Ok(ErrorCode::None) {
            world.shard.io.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(world.fetch(0, "g").await, Ok(8));
    });
}

/// Goal: what other brokers may have written is loaded: compressed batches, tombstones, markers of
/// transactions, kinds of newer brokers. Method: append each; load.
#[test]
fn every_kind_of_batch_is_loaded() {
    on_shard(3, |world| async move {
        for codec in Codec::ALL {
            let records = [offset_of("kept", Some(7)), offset_of("gone", Some(8))];
            world.append_and_reload(0, batch_of(codec, &records)).await;
            assert_eq!(world.fetch(0, "gone").await, Ok(8), "{codec}");
            world.append_and_reload(0, batch_of(codec, &[offset_of("gone", None)])).await;
            assert_eq!(world.fetch(0, "kept").await, Ok(7), "{codec}");
            assert_eq!(world.fetch(0, "gone").await, Ok(-1), "{codec}");
        }
        let newer = (vec![0, 99, 1, 2], Some(vec![1]));
        world.append_and_reload(0, batch_of(Codec::None, &[newer])).await;
        let producer = BatchProducer { id: 5, epoch: 0, base_sequence: -1, transactional: true };
        let marker = [(vec![0, 0, 0, 1], Some(vec![0; 6]))];
        let mut control =
            builder(BatchBuilder::new(Codec::None).with_producer(producer), &marker).finish();
        control[22] |= 0x20; // the flag of control batches
        world.append_and_reload(0, control).await;
        assert_eq!(world.fetch(0, "kept").await, Ok(7));
    });
}

/// Goal: a damaged record stops its partition, not the others nor the node. Method: four kinds of
/// damage; ask both partitions.
#[test]
fn a_malformed_record_stops_its_partition_alone() {
    let producer = BatchProducer { id: 5, epoch: 0, base_sequence: 0, transactional: true };
    let mut cut = offset_of("g", Some(1));
    cut.1.as_mut().expect("a value").pop();
    let transaction = BatchBuilder::new(Codec::None).with_producer(producer);
    let damaged = [
        batch_of(Codec::None, &[(vec![0], Some(vec![]))]),
        batch_of(Codec::Lz4, &[offset_of("g", Some(1)), cut]),
        batch_of(Codec::None, &[(vec![0, 2, 0, 1, b'g'], Some(vec![0, 77]))]),
        builder(transaction, &[offset_of("g", Some(1))]).finish(),
    ];
    for batch in damaged {
        on_shard(4, |world| async move {
            assert_eq!(committed(world.commit(0, "g", 1)).await, Ok(ErrorCode::None));
            world.append_and_reload(0, batch).await;
            assert_eq!(world.fetch(0, "g").await, Err(GroupError::NotHere));
            assert_eq!(committed(world.commit(1, "g", 1)).await, Ok(ErrorCode::None));
        });
    }
}

/// Goal: offsets end with their topic, also of partitions that were being loaded. Method: delete
/// it, once while one partition loads; make it anew.
#[test]
fn offsets_end_with_their_topic() {
    for loading in [false, true] {
        on_shard(5, |mut world| async move {
            for partition in 0..2 {
                let asked = world.commit(partition, "g", 4);
                assert_eq!(committed(asked).await, Ok(ErrorCode::None));
            }
            if loading {
                let host = world.shard.groups.host(PartitionIndex(0)).expect("it is hosted");
                let live = host.live().expect("it is loaded");
                reload(&world.shard, &host, &live, &StoreError::TimedOut);
            }
            world.apply(MetadataRecord::TopicDeleted { id: WORDS_ID.0 }).await;
            world.create("words", TopicId(9), 1).await;
            world.loaded().await;
            for partition in 0..2 {
                assert_eq!(world.fetch(partition, "g").await, Ok(-1));
                let host = world.shard.groups.host(PartitionIndex(partition)).expect("hosted");
                let live = host.live().expect("it is loaded");
                reload(&world.shard, &host, &live, &StoreError::TimedOut);
            }
            world.loaded().await;
            assert_eq!(world.fetch(0, "g").await, Ok(-1), "the tombstones are in the log");
        });
    }
}

/// Goal: the topic of groups may go and come back; who waits is told. Method: delete it under a
/// call; make it anew.
#[test]
fn groups_end_with_their_own_topic() {
    on_shard(6, |mut world| async move {
        assert_eq!(committed(world.commit(0, "g", 4)).await, Ok(ErrorCode::None));
        world.apply(MetadataRecord::TopicDeleted { id: OFFSETS_ID.0 }).await;
        assert_eq!(world.fetch(0, "g").await, Err(GroupError::NotHere));
        let asked = world.shard.groups.hosts.borrow().len();
        assert_eq!(asked, 0);
        world.create(OFFSETS_TOPIC, TopicId(11), 2).await;
        world.loaded().await;
        assert_eq!(world.fetch(0, "g").await, Ok(-1));
    });
}

/// Goal: time passes for groups, with one timer for all of them. Method: a member joins and says
/// nothing more; wait for its session in virtual time.
#[test]
fn sessions_end_when_their_time_is_up() {
    on_shard(7, |world| async move {
        let join = |member: String| {
            world.call(1, move |coordinator, call| {
                let protocol = JoinGroupRequestProtocol { name: "range", metadata: b"" };
                let request = JoinGroupRequest {
                    group_id: "g",
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 60_000,
                    member_id: &member,
                    protocol_type: "consumer",
                    protocols: vec![protocol],
                    ..JoinGroupRequest::default()
                };
                coordinator.join_group(call, &request)
            })
        };
        let Ok(Reply::JoinGroup(first)) = reply(join(String::new())).await else {
            panic!("an id is given out")
        };
        assert_eq!(first.error, ErrorCode::MemberIdRequired);
        let began = world.shard.io.clock().now_ms();
        let Ok(Reply::JoinGroup(joined)) = reply(join(first.member_id)).await else {
            panic!("the rebalance ends")
        };
        assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
        let delay_ms = world.shard.io.clock().now_ms() - began;
        assert!((3_000..3_100).contains(&delay_ms), "group.initial.rebalance.delay.ms: {delay_ms}");
        world.shard.io.sleep(Duration::from_secs(11)).await;
        let listed = reply(
            world.call(1, |coordinator, call| coordinator.list_groups(call, &["Empty"], &[])),
        );
        let Ok(Reply::ListGroups(listed)) = listed.await else { panic!("groups are listed") };
        assert_eq!(listed.len(), 1, "its only member was taken for gone");
    });
}

/// Goal: many tombstones come in bounded batches, other records as one. Method: count and add up.
#[test]
fn only_tombstones_are_split() {
    let tombstones: Vec<Record> =
        (0..50_000).map(|_| Record { key: vec![0; 64], value: None }).collect();
    let sizes: Vec<usize> = batches(&tombstones).map(<[Record]>::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), tombstones.len());
    assert!(sizes.len() == 4 && sizes.iter().all(|size| size * 64 <= MIB + 64), "{sizes:?}");
    let mut mixed = tombstones;
    mixed[7].value = Some(Vec::new());
    assert_eq!(batches(&mixed).count(), 1);
    assert_eq!(batches(&[]).count(), 0);
}

fn words(partition: i32) -> TopicPartition {
    TopicPartition { topic_id: WORDS_ID, partition: PartitionIndex(partition) }
}

/// Goal: a log that could not be opened is opened once the disk allows it. Method: make topics on a
/// full disk, one of them goes again; make room; each has its turn after a minute at most.
#[test]
fn a_log_that_could_not_be_opened_is_tried_again() {
    on_shard(1, |mut world| async move {
        let late = |id| TopicPartition { topic_id: TopicId(id), partition: PartitionIndex(0) };
        world.disk.out_of_space(true);
        world.create("late", TopicId(9), 1).await;
        world.create("gone", TopicId(10), 1).await;
        world.shard.io.sleep(Duration::from_secs(200)).await;
        assert!(world.shard.is_unopened(late(9)) && world.shard.is_unopened(late(10)));
        world.apply(MetadataRecord::TopicDeleted { id: 10 }).await;
        world.disk.out_of_space(false);
        world.shard.io.sleep(Duration::from_secs(70)).await;
        assert!(!world.shard.is_unopened(late(9)) && world.shard.replica(late(9)).is_some());
        assert!(!world.shard.is_unopened(late(10)) && world.shard.replica(late(10)).is_none());
    });
}

/// Goal: who waits for records learns of those in a log that was opened anew. Method: fail a write
/// under a wait, let the log be opened, append.
#[test]
fn a_long_poll_follows_a_log_that_was_opened_anew() {
    on_shard(2, |world| async move {
        let (shard, io) = (world.shard.clone(), world.shard.io.clone());
        let replica = shard.replica(words(0)).expect("this shard owns it");
        let part = FetchPart {
            partition: words(0),
            offset: Offset(0),
            leader_epoch: LeaderEpoch::UNKNOWN,
            bytes_max: 1 << 20,
        };
        let (bytes_max, at_least_one) = (1 << 20, true);
        let group = FetchGroup { parts: vec![part], bytes_max, at_least_one, wait_bytes: 1 };
        let append = async || {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.append(&NewRecord { value: Some(b"word"), ..NewRecord::default() });
            match replica.append_own(&Slice::from(builder.finish())) {
                Append::Done(Ok((_, acked))) => acked.await,
                _ => panic!("there is room"),
            }
        };
        let write = async {
            io.sleep(Duration::from_millis(10)).await;
            world.disk.fail_next_write();
            assert!(append().await.is_err());
            replica.unfenced().await;
            assert_eq!(append().await, Ok(()));
        };
        let never = Flag::default();
        let wait = io.timeout(Duration::from_secs(60), fetch(&shard, &group, &never));
        let (reply, ()) = futures_util::future::join(wait, write).await;
        let reply = reply.expect("the wait ends with the record");
        assert!(reply[0].as_ref().expect("it can be read").bytes > 0);
    });
}
