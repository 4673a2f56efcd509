//! The way of a request through a whole shard, in a simulated machine: what is asked is answered.
//!
//! The same work is the same instructions here, whatever the machine does meanwhile:
//! `scripts/bench-gate.sh` runs these tests under a simulated processor, twice with different
//! numbers of requests, and takes the difference.

use ringmain::base::ids::NodeId;
use ringmain::base::metrics::ShardMetrics;
use ringmain::cluster::changes::NewTopic;
use ringmain::cluster::controller::{Controller, ControllerConfig};
use ringmain::cluster::metadata::Broker;
use ringmain::io::{Io, Slice, Socket, sim};
use ringmain::protocol::batch::BatchBuilder;
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::Request;
use ringmain::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ringmain::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ringmain::protocol::record::NewRecord;
use ringmain::protocol::wire::Records;
use ringmain::server::connection::Server;
use ringmain::server::listener;
use ringmain::shard::signal::Flag;
use ringmain::shard::state::{NodeFacts, Shard};
use ringmain::storage::{Budgets, Committer};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

/// How many requests each test sends; whoever counts instructions sets it.
const REQUESTS_VARIABLE: &str = "RINGMAIN_HOT_PATH_REQUESTS";
const REQUESTS_COUNT: usize = 64;

const SEED: u64 = 1;
const TOPIC: &str = "words";
const NODE: NodeId = NodeId(1);
/// Versions that the tests speak: the last ones that name topics.
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;
/// Requests that a client with several in flight keeps unanswered.
const WINDOW: usize = 8;
/// A batch as Kafka's producer sends it when it has much to send.
const BATCH_VALUE_BYTES: usize = 1024;
const BATCH_RECORDS_COUNT: usize = 15;

fn requests_count() -> usize {
    let asked = std::env::var(REQUESTS_VARIABLE).ok();
    asked.map_or(REQUESTS_COUNT, |count| count.parse().expect("a number of requests"))
}

fn address() -> SocketAddr {
    "127.0.0.1:9092".parse().expect("it is an address")
}

/// One shard with its listener, and a topic of one partition that it leads.
async fn start(io: &Io) {
    let data_dir = PathBuf::from("/data");
    let node = Arc::new(NodeFacts {
        node_id: NODE,
        data_dir: data_dir.clone(),
        fixed: Arc::default(),
        connections_counts: vec![AtomicUsize::new(0)],
        addresses: Mutex::new(HashMap::new()),
    });
    let metrics = Rc::new(ShardMetrics::default());
    let budgets = Budgets::of(io.memory().budget_bytes());
    let committer = Committer::with_budgets(io, &metrics, budgets);
    let mesh = sim::meshes(io, 1).pop().expect("one shard");
    let shard = Shard::new(io.clone(), mesh, node, metrics, committer, []);
    Server::new(shard.clone()).open();
    io.spawn(shard.clone().serve_mailbox());

    let config = ControllerConfig { data_dir, node_id: NODE, fixed: Arc::default() };
    let controller = Controller::open(io, config, |_| ()).await.expect("the disk is empty");
    let (host, port) = (address().ip().to_string(), address().port());
    let broker = Broker { id: NODE, host, port, rack: None };
    controller.register_broker("cluster", &broker).await.expect("the disk is whole");
    let topic = NewTopic { partitions_count: 1, ..NewTopic::with_defaults(TOPIC) };
    let created = controller.create_topics(&[topic], false).await;
    assert!(created[0].is_ok(), "{created:?}");
    shard.apply_image(controller.image()).await;

    let listener = io.listen(address()).await.expect("nobody else listens");
    io.spawn(listener::accept(shard, listener, Rc::new(Flag::default())));
}

/// A client that sends one and the same frame.
struct Client {
    io: Io,
    socket: Socket,
    frame: Slice,
}

impl Client {
    async fn connect<'a, T: Request<'a>>(io: &Io, version: i16, request: &T) -> Client {
        let socket = io.connect(address()).await.expect("the shard listens");
        let encoded = encode_request(version, 1, Some("test"), request);
        assert!(encoded.cuts.is_empty(), "all of the request is in its head");
        Client { io: io.clone(), socket, frame: Slice::from(encoded.head) }
    }

    async fn send(&self) {
        self.socket.send(vec![self.frame.clone()]).await.expect("the shard reads");
    }

    async fn receive(&self) -> Vec<u8> {
        let size = self.receive_exact(4).await;
        let bytes = u32::from_be_bytes(size.try_into().expect("4 bytes"));
        self.receive_exact(bytes as usize).await
    }

    async fn receive_exact(&self, bytes: usize) -> Vec<u8> {
        let buffer = self.io.memory().allocate_wait(bytes).await;
        let (outcome, buffer) = self.socket.recv_exact(buffer, 0, bytes).await;
        outcome.expect("answers come whole");
        buffer[..bytes].to_vec()
    }

    /// Sends `count` requests with `window` of them unanswered at most; `check` sees each answer.
    async fn ask(&self, count: usize, window: usize, mut check: impl FnMut(usize, &[u8])) {
        let mut sent = 0;
        for answered in 0..count {
            while sent < count.min(answered + window) {
                self.send().await;
                sent += 1;
            }
            check(answered, &self.receive().await);
        }
    }
}

fn batch(values: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder.append(&NewRecord {
            timestamp: 1_000,
            value: Some(value.as_slice()),
            ..NewRecord::default()
        });
    }
    builder.finish()
}

fn produce_request(batch: &[u8]) -> ProduceRequest<'_> {
    let partition = PartitionProduceData { index: 0, records: Records::Bytes(batch) };
    let data = TopicProduceData {
        name: TOPIC,
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![data], ..Default::default() }
}

/// The offset that the batch of an answer was given.
fn base_offset(answer: &[u8]) -> i64 {
    let (_, answer) = decode_response::<ProduceRequest>(PRODUCE, answer).expect("whole");
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::None);
    partition.base_offset
}

async fn produce(io: &Io, values: &[Vec<u8>], count: usize, window: usize) {
    let batch = batch(values);
    let client = Client::connect(io, PRODUCE, &produce_request(&batch)).await;
    let check = |index: usize, answer: &[u8]| {
        assert_eq!(base_offset(answer), (index * values.len()) as i64, "offsets follow on");
    };
    client.ask(count, window, check).await;
}

#[test]
fn one_record_a_request_is_acknowledged() {
    sim::run(SEED, |io, _| async move {
        start(&io).await;
        produce(&io, &[vec![b'x'; 100]], requests_count(), 1).await;
    });
}

#[test]
fn one_record_a_request_is_acknowledged_with_several_in_flight() {
    sim::run(SEED, |io, _| async move {
        start(&io).await;
        produce(&io, &[vec![b'x'; 100]], requests_count(), WINDOW).await;
    });
}

#[test]
fn batches_are_acknowledged_with_several_in_flight() {
    sim::run(SEED, |io, _| async move {
        start(&io).await;
        let values = vec![vec![b'x'; BATCH_VALUE_BYTES]; BATCH_RECORDS_COUNT];
        produce(&io, &values, requests_count(), WINDOW).await;
    });
}

/// Each fetch brings all that there is: one batch.
#[test]
fn the_newest_batch_is_fetched_again_and_again() {
    sim::run(SEED, |io, _| async move {
        start(&io).await;
        let values = vec![vec![b'x'; BATCH_VALUE_BYTES]; BATCH_RECORDS_COUNT];
        produce(&io, &values, 1, 1).await;
        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let topics =
            vec![FetchTopic { topic: TOPIC, partitions: vec![partition], ..FetchTopic::default() }];
        let request = FetchRequest {
            replica_id: -1,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics,
            ..FetchRequest::default()
        };
        let client = Client::connect(&io, FETCH, &request).await;
        let expected_bytes = batch(&values).len();
        let check = |_: usize, answer: &[u8]| {
            let (_, answer) = decode_response::<FetchRequest>(FETCH, answer).expect("whole");
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, ErrorCode::None);
            assert_eq!(data.records.bytes().len(), expected_bytes);
        };
        client.ask(requests_count(), 1, check).await;
    });
}
