//! A member of a group against a coordinator that answers from a script, in simulated networks.

use super::cluster::Cluster;
use super::connection::ConnectionConfig;
use super::consumer::Start;
use super::error::ClientError;
use super::group_consumer::{GroupConfig, GroupConsumer};
use super::tests::{Act, Script, address, all_versions, answer, start_broker};
use crate::base::ids::{Offset, TopicId};
use crate::io::{Io, sim};
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::header::{RequestHeader, decode_request};
use crate::protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    TopicPartitionsResponse,
};
use crate::protocol::messages::fetch::FetchResponse;
use crate::protocol::messages::find_coordinator::{Coordinator, FindCoordinatorResponse};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_fetch::{OffsetFetchResponse, OffsetFetchResponseGroup};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 0..8;
const TOPIC: &str = "words";
const TOPIC_ID: TopicId = TopicId(77);
const PARTITIONS_COUNT: i32 = 4;
/// Between polls: what a member does with its records.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// What a coordinator says to one heartbeat.
#[derive(Clone)]
enum Say {
    /// Nothing new, in this epoch.
    Epoch(i32),
    /// Read these partitions.
    Assign(i32, Vec<i32>),
    Refuse(ErrorCode),
}

/// What a member did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    /// A heartbeat with its epoch, and what it says that it owns.
    Beat(i32, Vec<i32>),
    /// A commit of one partition: its number and offset.
    Commit(i32, i64),
}

/// A coordinator that goes through its lines; the last one is repeated.
struct Stage {
    lines: RefCell<VecDeque<Say>>,
    log: RefCell<Vec<Did>>,
}

impl Stage {
    fn new(lines: Vec<Say>) -> Rc<Stage> {
        Rc::new(Stage { lines: RefCell::new(lines.into()), log: RefCell::default() })
    }

    fn log(&self) -> Vec<Did> {
        self.log.borrow().clone()
    }

    fn answer(&self, header: &RequestHeader<'_>, body: &[u8]) -> Act {
        match header.api.key {
            ApiKey::ApiVersions => all_versions(header),
            ApiKey::Metadata => answer(header, &metadata()),
            ApiKey::FindCoordinator => {
                let here = Coordinator { node_id: 1, ..Coordinator::default() };
                let found = FindCoordinatorResponse {
                    coordinators: vec![here],
                    ..FindCoordinatorResponse::default()
                };
                answer(header, &found)
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let request: ConsumerGroupHeartbeatRequest<'_> =
                    decode_request(body, header.version).expect("it is one");
                answer(header, &self.beat(&request))
            }
            ApiKey::OffsetFetch => {
                let none = OffsetFetchResponseGroup::default();
                let groups = vec![none];
                answer(header, &OffsetFetchResponse { groups, ..OffsetFetchResponse::default() })
            }
            ApiKey::OffsetCommit => {
                let request: OffsetCommitRequest<'_> =
                    decode_request(body, header.version).expect("it is one");
                answer(header, &self.commit(&request))
            }
            ApiKey::ListOffsets => {
                let request: ListOffsetsRequest<'_> =
                    decode_request(body, header.version).expect("it is one");
                answer(header, &offsets(&request))
            }
            _ => answer(header, &FetchResponse::default()),
        }
    }

    fn beat(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let owned = request.topic_partitions.iter().flatten();
        let mut owned: Vec<i32> = owned.flat_map(|topic| topic.partitions.clone()).collect();
        owned.sort_unstable();
        self.log.borrow_mut().push(Did::Beat(request.member_epoch, owned));
        let mut lines = self.lines.borrow_mut();
        let say = match lines.len() {
            0 | 1 => lines.front().cloned().unwrap_or(Say::Epoch(1)),
            _ => lines.pop_front().unwrap_or(Say::Epoch(1)),
        };
        let mut said = ConsumerGroupHeartbeatResponse {
            heartbeat_interval_ms: 1_000,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        match say {
            Say::Epoch(epoch) => said.member_epoch = epoch,
            Say::Assign(epoch, partitions) => {
                said.member_epoch = epoch;
                let topic = TopicPartitionsResponse { topic_id: TOPIC_ID, partitions };
                said.assignment = Some(Assignment { topic_partitions: vec![topic] });
            }
            Say::Refuse(code) => said.error_code = code,
        }
        said
    }

    fn commit<'a>(&self, request: &OffsetCommitRequest<'a>) -> OffsetCommitResponse<'a> {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let did = Did::Commit(partition.partition_index, partition.committed_offset);
                self.log.borrow_mut().push(did);
                OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::None,
                }
            });
            OffsetCommitResponseTopic {
                name: topic.name,
                partitions: partitions.collect(),
                ..OffsetCommitResponseTopic::default()
            }
        });
        let topics = topics.collect();
        OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
    }
}

fn metadata() -> MetadataResponse<'static> {
    let broker = MetadataResponseBroker { node_id: 1, host: "127.0.0.1", port: 9092, rack: None };
    let partitions = (0..PARTITIONS_COUNT).map(|partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 0,
        ..MetadataResponsePartition::default()
    });
    let topic = MetadataResponseTopic {
        name: Some(TOPIC),
        topic_id: TOPIC_ID,
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    };
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: vec![topic],
        ..MetadataResponse::default()
    }
}

/// Every log begins and ends at 0.
fn offsets<'a>(request: &ListOffsetsRequest<'a>) -> ListOffsetsResponse<'a> {
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: 0,
                ..ListOffsetsPartitionResponse::default()
            })
            .collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

async fn member(io: &Io, stage: &Rc<Stage>) -> GroupConsumer {
    let stage = Rc::clone(stage);
    let script: Script = Rc::new(move |header, body| stage.answer(header, body));
    start_broker(io, script).await;
    let bootstrap = [address().to_string()];
    let cluster = Cluster::connect(io, &bootstrap, ConnectionConfig::default()).await;
    let config = GroupConfig {
        group: "readers".to_owned(),
        topics: vec![TOPIC.to_owned()],
        instance_id: None,
        protocol: None,
        assignor: None,
        start: Start::Earliest,
        commit_interval: Duration::from_secs(3_600),
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(60),
    };
    let cluster = cluster.expect("the broker answers");
    GroupConsumer::new(&cluster, config).await.expect("the topic is there")
}

/// Polls until the log is as `is_so` says; the network is slow, not for ever.
async fn poll_until(
    io: &Io,
    member: &mut GroupConsumer,
    stage: &Stage,
    is_so: impl Fn(&[Did]) -> bool,
) -> Result<(), ClientError> {
    for _ in 0..2_000 {
        member.poll().await?;
        if is_so(&stage.log()) {
            return Ok(());
        }
        io.sleep(POLL_PAUSE).await;
    }
    panic!("it never came to that: {:?}", stage.log());
}

/// Goal: what the group takes away is committed before the member says that it has let go, and
/// what it is given it says that it has (KIP-848). Method: two partitions, then one of them and
/// another; marks in between.
#[test]
fn a_revoked_partition_is_committed_before_it_is_let_go() {
    for seed in SEEDS {
        let stage = Stage::new(vec![
            Say::Assign(1, vec![0, 1]),
            Say::Epoch(1),
            Say::Assign(1, vec![1]),
            Say::Assign(2, vec![1, 3]),
            Say::Epoch(2),
        ]);
        let played = Rc::clone(&stage);
        sim::run(seed, |io, _| async move {
            let mut member = member(&io, &played).await;
            let owns = |owned: &'static [i32]| {
                move |log: &[Did]| match log.last() {
                    Some(Did::Beat(_, told)) => told == owned,
                    _ => false,
                }
            };
            poll_until(&io, &mut member, &played, owns(&[0, 1])).await.expect("it is a member");
            member.mark(&Rc::from(TOPIC), 0, Offset(9));
            member.mark(&Rc::from(TOPIC), 3, Offset(4)); // not its own: not for it to commit
            poll_until(&io, &mut member, &played, owns(&[1, 3])).await.expect("it still is");
            assert!(member.is_member());
            member.leave().await.expect("it may go");
        });
        let log = stage.log();
        let place = |did: &Did| log.iter().position(|one| one == did);
        let committed = place(&Did::Commit(0, 9)).expect("it was marked");
        let let_go = place(&Did::Beat(1, vec![1])).expect("it was told to");
        assert!(committed < let_go, "seed {seed}: {log:?}");
        assert!(!log.contains(&Did::Commit(3, 4)), "seed {seed}: {log:?}");
        assert_eq!(log[0], Did::Beat(0, vec![]), "seed {seed}: it joins owning nothing");
        assert_eq!(log.last(), Some(&Did::Beat(-1, vec![])), "seed {seed}: it says goodbye");
    }
}

/// Goal: a fenced member commits nothing more of what it had, and joins again from the start.
/// Method: fence it after a mark.
#[test]
fn a_fenced_member_gives_up_what_it_had_and_joins_again() {
    for seed in SEEDS {
        let stage = Stage::new(vec![
            Say::Assign(5, vec![0, 1]),
            Say::Epoch(5),
            Say::Refuse(ErrorCode::FencedMemberEpoch),
            Say::Assign(7, vec![2]),
            Say::Epoch(7),
        ]);
        let played = Rc::clone(&stage);
        sim::run(seed, |io, _| async move {
            let mut member = member(&io, &played).await;
            let first = |log: &[Did]| log.contains(&Did::Beat(5, vec![0, 1]));
            poll_until(&io, &mut member, &played, first).await.expect("it is a member");
            member.mark(&Rc::from(TOPIC), 1, Offset(6));
            let again = |log: &[Did]| log.contains(&Did::Beat(7, vec![2]));
            poll_until(&io, &mut member, &played, again).await.expect("it is one again");
            let owned: Vec<i32> = member.positions().iter().map(|((_, index), _)| *index).collect();
            assert_eq!(owned, [2]);
            member.leave().await.expect("it may go");
        });
        let log = stage.log();
        assert!(!log.contains(&Did::Commit(1, 6)), "seed {seed}: {log:?}");
        assert_eq!(
            log.iter().filter(|did| **did == Did::Beat(0, vec![])).count(),
            2,
            "seed {seed}"
        );
    }
}

/// Goal: a coordinator that is not ready is asked again, a refusal for good is told. Method: both.
#[test]
fn a_coordinator_that_loads_is_waited_for_and_a_refusal_is_told() {
    for seed in SEEDS {
        let stage = Stage::new(vec![
            Say::Refuse(ErrorCode::CoordinatorLoadInProgress),
            Say::Refuse(ErrorCode::NotCoordinator),
            Say::Assign(1, vec![0]),
            Say::Refuse(ErrorCode::GroupMaxSizeReached),
        ]);
        let played = Rc::clone(&stage);
        sim::run(seed, |io, _| async move {
            let mut member = member(&io, &played).await;
            let error = poll_until(&io, &mut member, &played, |_| false).await;
            let error = error.expect_err("the group is full");
            assert!(error.is_code(ErrorCode::GroupMaxSizeReached), "seed {seed}: {error}");
            assert!(error.to_string().contains("group readers"), "seed {seed}: {error}");
        });
        let joins = stage.log().iter().filter(|did| **did == Did::Beat(0, vec![])).count();
        assert_eq!(joins, 3, "seed {seed}: {:?}", stage.log());
    }
}
