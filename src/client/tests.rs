//! The client against a broker that answers from a script, in simulated networks of many seeds.

use super::cluster::Cluster;
use super::connection::{Connection, ConnectionConfig};
use super::consumer::{Consumer, ConsumerConfig, Start};
use super::error::ClientError;
use super::producer::{Acks, Producer, ProducerConfig};
use super::request::request_frame;
use crate::base::ids::{LeaderEpoch, Offset, TopicId};
use crate::io::{Io, Listener, Slice, Socket, sim};
use crate::protocol::api::ApiKey;
use crate::protocol::batch::{BatchView, Batches, patch_base_offset_and_epoch};
use crate::protocol::compression::Codec;
use crate::protocol::error::ErrorCode;
use crate::protocol::header::{
    RequestHeader, decode_request, decode_request_header, encode_response,
};
use crate::protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse,
};
use crate::protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::protocol::record::NewRecord;
use crate::protocol::wire::{Records, Wire};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 0..12;
const TOPIC: &str = "words";
const TOPIC_ID: TopicId = TopicId(77);

/// What the broker does with a request.
pub(super) enum Act {
    Answer(Vec<u8>),
    Close,
    Silence,
}

pub(super) type Script = Rc<dyn Fn(&RequestHeader<'_>, &[u8]) -> Act>;

pub(super) fn address() -> SocketAddr {
    "127.0.0.1:9092".parse().expect("it is an address")
}

/// Answers every connection by `script`; what asks for versions gets the whole table.
pub(super) async fn start_broker(io: &Io, script: Script) {
    let listener = io.listen(address()).await.expect("nobody else listens");
    let inner = io.clone();
    io.spawn(accept_all(inner, listener, script));
}

async fn accept_all(io: Io, listener: Listener, script: Script) {
    while let Ok(socket) = listener.accept().await {
        io.spawn(serve(io.clone(), socket, Rc::clone(&script)));
    }
}

async fn serve(io: Io, socket: Socket, script: Script) {
    loop {
        let size = io.memory().allocate_wait(4).await;
        let (outcome, size) = socket.recv_exact(size, 0, 4).await;
        if outcome.is_err() {
            return;
        }
        let bytes = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        let frame = io.memory().allocate_wait(bytes).await;
        let (outcome, frame) = socket.recv_exact(frame, 0, bytes).await;
        if outcome.is_err() {
            return;
        }
        let act = match decode_request_header(&frame) {
            Ok((header, body)) => script(&header, body),
            Err(_) => Act::Close,
        };
        match act {
            Act::Answer(answer) => {
                if socket.send(vec![Slice::from(answer)]).await.is_err() {
                    return;
                }
            }
            Act::Close => return,
            Act::Silence => {}
        }
    }
}

pub(super) fn answer<'a>(header: &RequestHeader<'_>, body: &impl Wire<'a>) -> Act {
    let key = header.api.key;
    Act::Answer(encode_response(key, header.version, header.correlation_id, body).head)
}

pub(super) fn all_versions(header: &RequestHeader<'_>) -> Act {
    let keys = crate::protocol::api::TABLE.iter().map(|api| ApiVersion {
        api_key: api.key.number(),
        min_version: api.versions.first,
        max_version: api.versions.last,
    });
    answer(header, &ApiVersionsResponse { api_keys: keys.collect(), ..Default::default() })
}

async fn connect(io: &Io) -> Connection {
    let config = ConnectionConfig::default();
    Connection::open(io, address(), "broker", config).await.expect("the broker answers")
}

/// A prebuilt request, always with the same correlation id.
fn prebuilt() -> Vec<Slice> {
    request_frame(&ApiVersionsRequest::default(), 0, 1_234, "test", &[])
}

/// Goal: many requests are on the way at once and each gets its own answer. Method: answers of
/// very different sizes, from nothing to several times the receive buffer, told apart by length.
#[test]
fn answers_of_all_sizes_come_back_in_order() {
    for seed in SEEDS {
        sim::run(seed, |io, _| async move {
            let sizes = [0, 1, 100, 70_000, 3, 65_528, 65_532, 65_533, 300_000, 5];
            let count = Cell::new(0);
            let script = move |header: &RequestHeader<'_>, _: &[u8]| {
                if header.correlation_id != 1_234 {
                    return all_versions(header);
                }
                let size = sizes[count.get() % sizes.len()];
                count.set(count.get() + 1);
                let mut frame = ((4 + size) as u32).to_be_bytes().to_vec();
                frame.extend(1_234_u32.to_be_bytes());
                frame.extend((0..size).map(|index| index as u8));
                Act::Answer(frame)
            };
            start_broker(&io, Rc::new(script)).await;
            let connection = connect(&io).await;
            let answers: Vec<_> = (0..100).map(|_| connection.send_raw(prebuilt())).collect();
            assert_eq!(connection.in_flight_count(), 100);
            for (index, answer) in answers.into_iter().enumerate() {
                let frame = answer.await.expect("it is answered");
                assert_eq!(frame.len(), 4 + sizes[index % sizes.len()], "seed {seed}");
                let tail: Vec<u8> = (0..frame.len() - 4).map(|index| index as u8).collect();
                assert!(frame[4..] == tail, "seed {seed}, answer {index}");
            }
            assert_eq!(connection.in_flight_count(), 0);
            connection.sent().await.expect("all was sent long ago");
        });
    }
}

/// Goal: an older broker's refusal of our ApiVersions leads to its own version. Method: one that
/// knows 0 to 2 answers, as Kafka does, in version 0 with an error.
#[test]
fn an_older_broker_is_asked_again_in_its_own_version() {
    sim::run(1, |io, _| async move {
        let script = |header: &RequestHeader<'_>, _: &[u8]| {
            let range = |api_key, max_version| ApiVersion { api_key, min_version: 0, max_version };
            let mut body = ApiVersionsResponse {
                api_keys: vec![range(ApiKey::ApiVersions.number(), 2), range(3, 5)],
                ..Default::default()
            };
            if header.version <= 2 {
                return answer(header, &body);
            }
            body.error_code = ErrorCode::UnsupportedVersion;
            let id = header.correlation_id;
            Act::Answer(encode_response(ApiKey::ApiVersions, 0, id, &body).head)
        };
        start_broker(&io, Rc::new(script)).await;
        let connection = connect(&io).await;
        assert_eq!(connection.version_of(ApiKey::Metadata), Ok(5));
        let unknown = connection.version_of(ApiKey::Fetch);
        assert!(matches!(unknown, Err(ClientError::Version { api: "Fetch", .. })));
    });
}

/// Goal: whatever ends a connection ends every request on it, at once and with the reason.
/// Method: a closing, a silent, a confused and a boasting broker.
#[test]
fn a_connection_that_fails_fails_all_its_requests() {
    type Case = (fn(&RequestHeader<'_>) -> Act, fn(&ClientError) -> bool);
    let cases: [Case; 4] = [
        (|_| Act::Close, |error| matches!(error, ClientError::Lost { .. })),
        (|_| Act::Silence, |error| matches!(error, ClientError::Timeout { .. })),
        (
            |_| Act::Answer([4_u32.to_be_bytes(), 9_u32.to_be_bytes()].concat()),
            |error| matches!(error, ClientError::Malformed { .. }),
        ),
        (
            |_| Act::Answer(vec![0x7f, 0xff, 0xff, 0xff]),
            |error| matches!(error, ClientError::Malformed { .. }),
        ),
    ];
    for (seed, (act, is_expected)) in SEEDS.flat_map(|seed| cases.map(|case| (seed, case))) {
        sim::run(seed, |io, _| async move {
            let script = move |header: &RequestHeader<'_>, _: &[u8]| match header.correlation_id {
                1_234 => act(header),
                _ => all_versions(header),
            };
            start_broker(&io, Rc::new(script)).await;
            let connection = connect(&io).await;
            let answers: Vec<_> = (0..10).map(|_| connection.send_raw(prebuilt())).collect();
            for answer in answers {
                let error = answer.await.expect_err("nothing was answered");
                assert!(is_expected(&error), "seed {seed}: {error}");
            }
            assert!(connection.is_closed());
            assert!(connection.send_raw(prebuilt()).await.is_err());
            assert!(connection.send_unanswered(prebuilt()).await.is_err());
        });
    }
}

/// A broker with one topic, which keeps what is produced and refuses as it is told.
struct FakeLog {
    partitions_count: i32,
    batches: RefCell<Vec<Vec<Vec<u8>>>>, // by partition
    refusals: Cell<u32>,                 // every so many requests one is refused, 0: none
    requests_count: Cell<u32>,
}

impl FakeLog {
    fn new(partitions_count: i32, refusals: u32) -> Rc<FakeLog> {
        Rc::new(FakeLog {
            partitions_count,
            batches: RefCell::new(vec![Vec::new(); partitions_count as usize]),
            refusals: Cell::new(refusals),
            requests_count: Cell::new(0),
        })
    }

    fn script(self: &Rc<FakeLog>) -> Script {
        let log = Rc::clone(self);
        Rc::new(move |header, body| match header.api.key {
            ApiKey::ApiVersions => all_versions(header),
            ApiKey::Metadata => log.metadata(header),
            ApiKey::Produce => log.produce(header, body),
            ApiKey::ListOffsets => log.list_offsets(header),
            ApiKey::Fetch => log.fetch(header, body),
            _ => Act::Close,
        })
    }

    fn is_refused(&self) -> bool {
        self.requests_count.set(self.requests_count.get() + 1);
        let every = self.refusals.get();
        every > 0 && self.requests_count.get().is_multiple_of(every)
    }

    fn metadata(&self, header: &RequestHeader<'_>) -> Act {
        let broker = MetadataResponseBroker {
            node_id: 1,
            host: "127.0.0.1",
            port: i32::from(address().port()),
            rack: None,
        };
        let partitions = (0..self.partitions_count).map(|partition_index| {
            MetadataResponsePartition { partition_index, leader_id: 1, ..Default::default() }
        });
        let topic = MetadataResponseTopic {
            name: Some(TOPIC),
            topic_id: TOPIC_ID,
            partitions: partitions.collect(),
            ..Default::default()
        };
        let (brokers, topics) = (vec![broker], vec![topic]);
        answer(
            header,
            &MetadataResponse { brokers, topics, controller_id: 1, ..Default::default() },
        )
    }

    fn produce(&self, header: &RequestHeader<'_>, body: &[u8]) -> Act {
        let request: ProduceRequest<'_> =
            decode_request(body, header.version).expect("our client writes what it should");
        let data = &request.topic_data[0].partition_data[0];
        let mut response = PartitionProduceResponse { index: data.index, ..Default::default() };
        if self.is_refused() {
            if self.requests_count.get().is_multiple_of(2) {
                return Act::Close;
            }
            response.error_code = ErrorCode::NotLeaderOrFollower;
        } else {
            let batches = &mut self.batches.borrow_mut()[data.index as usize];
            let end = batches.last().map_or(Offset(0), |batch| {
                BatchView::first(batch).expect("it was kept whole").next_offset()
            });
            let mut batch = data.records.bytes().to_vec();
            let view = BatchView::first(&batch).expect("a batch is whole");
            assert_eq!(view.bytes().len(), batch.len(), "one batch a partition");
            view.check_crc().expect("its checksum is right");
            patch_base_offset_and_epoch(&mut batch, end, LeaderEpoch(0));
            response.base_offset = end.0;
            batches.push(batch);
        }
        let topic = TopicProduceResponse {
            topic_id: TOPIC_ID,
            name: TOPIC,
            partition_responses: vec![response],
        };
        answer(header, &ProduceResponse { responses: vec![topic], ..Default::default() })
    }

    fn list_offsets(&self, header: &RequestHeader<'_>) -> Act {
        let partitions = (0..self.partitions_count).map(|partition_index| {
            ListOffsetsPartitionResponse { partition_index, offset: 0, ..Default::default() }
        });
        let topic = ListOffsetsTopicResponse { name: TOPIC, partitions: partitions.collect() };
        answer(header, &ListOffsetsResponse { topics: vec![topic], ..Default::default() })
    }

    /// One or two batches from the one that holds the offset on; sometimes half a one after it.
    fn fetch(&self, header: &RequestHeader<'_>, body: &[u8]) -> Act {
        let request: FetchRequest<'_> =
            decode_request(body, header.version).expect("our client writes what it should");
        let batches = self.batches.borrow();
        let is_refused = self.is_refused();
        let asked = &request.topics[0].partitions;
        let found: Vec<(i32, Vec<u8>)> = asked
            .iter()
            .map(|asked| {
                let whole = &batches[asked.partition as usize];
                let rest = whole.iter().filter(|batch| {
                    let view = BatchView::first(batch).expect("it was kept whole");
                    view.next_offset().0 > asked.fetch_offset
                });
                let mut bytes = rest.take(2).flatten().copied().collect::<Vec<u8>>();
                let first = Batches::new(&bytes).next().and_then(Result::ok);
                let first_bytes = first.map_or(0, |view| view.bytes().len());
                if self.requests_count.get().is_multiple_of(3) && bytes.len() > first_bytes {
                    bytes.truncate(first_bytes + (bytes.len() - first_bytes) / 2);
                }
                (asked.partition, bytes)
            })
            .collect();
        let partitions = found.iter().map(|(partition_index, bytes)| PartitionData {
            partition_index: *partition_index,
            error_code: if is_refused { ErrorCode::NotLeaderOrFollower } else { ErrorCode::None },
            records: if is_refused { Records::Null } else { Records::Bytes(bytes) },
            ..Default::default()
        });
        let topic = FetchableTopicResponse {
            topic_id: TOPIC_ID,
            topic: TOPIC,
            partitions: partitions.collect(),
        };
        answer(header, &FetchResponse { responses: vec![topic], ..Default::default() })
    }
}

async fn produce_all(cluster: &Cluster, count: usize, seed: u64) {
    let config = ProducerConfig {
        batch_bytes: 400,
        compression: Codec::ALL[seed as usize % Codec::ALL.len()],
        buffer_bytes_max: 3_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(cluster, config);
    let mut deliveries = Vec::new();
    for number in 0..count {
        let value = format!("record {number}");
        let key = (number % 3 > 0).then(|| format!("key {}", number % 7));
        let record = NewRecord {
            timestamp: number as i64,
            key: key.as_deref().map(str::as_bytes),
            value: Some(value.as_bytes()),
            headers: &[],
        };
        deliveries.push(producer.send(TOPIC, None, &record).await.expect("there is room"));
    }
    producer.flush().await.expect("the broker takes all in the end");
    for delivery in deliveries {
        assert!(delivery.offset().await.expect("it was acknowledged").0 >= 0);
    }
}

/// Goal: retries lose nothing, double nothing that was refused, and keep each partition's order;
/// reading gives back the same. Method: a broker that refuses every so many requests, or closes.
#[test]
fn records_survive_refusals_in_order() {
    for seed in SEEDS {
        sim::run(seed, |io, _| async move {
            let log = FakeLog::new(3, [0, 2, 3, 5][seed as usize % 4]);
            start_broker(&io, log.script()).await;
            let config = ConnectionConfig::default();
            let bootstrap = [address().to_string()];
            let cluster =
                Cluster::connect(&io, &bootstrap, config).await.expect("the broker is there");
            let count = 200;
            produce_all(&cluster, count, seed).await;
            let mut consumer = Consumer::new(&cluster, ConsumerConfig::default());
            consumer.assign(TOPIC, &[], Start::Earliest).await.expect("it has offsets");
            let mut last = [-1; 3];
            let mut seen = vec![false; count];
            while seen.iter().any(|is_seen| !is_seen) {
                let Some(records) = consumer.poll().await.expect("reading goes on") else {
                    continue;
                };
                let outcome = records.for_each(|consumed| {
                    let value = consumed.record.value.unwrap_or_default();
                    let number = consumed.timestamp_ms;
                    assert_eq!(value, format!("record {number}").as_bytes(), "seed {seed}");
                    let last = &mut last[records.partition as usize];
                    assert!(number > *last, "seed {seed}: in order");
                    *last = number;
                    assert!(!seen[number as usize], "seed {seed}: once");
                    seen[number as usize] = true;
                    ControlFlow::Continue(())
                });
                outcome.expect("batches are whole");
            }
        });
    }
}

/// Goal: reading survives a broker that is away for a while, and ends when it stays away. Method:
/// a broker that closes every connection from some moment on, on a virtual clock.
#[test]
fn a_consumer_gives_up_when_failures_last() {
    sim::run(5, |io, _| async move {
        let log = FakeLog::new(1, 0);
        let (is_away, inner) = (Rc::new(Cell::new(false)), log.script());
        let away = Rc::clone(&is_away);
        let script: Script = Rc::new(move |header, body| match away.get() {
            true => Act::Close,
            false => inner(header, body),
        });
        start_broker(&io, script).await;
        let bootstrap = [address().to_string()];
        let config = ConnectionConfig::default();
        let cluster = Cluster::connect(&io, &bootstrap, config).await.expect("it is there");
        produce_all(&cluster, 10, 0).await;
        let mut consumer = Consumer::new(&cluster, ConsumerConfig::default());
        consumer.assign(TOPIC, &[], Start::Earliest).await.expect("it has offsets");
        for is_back in [true, false] {
            is_away.set(true);
            let since = cluster.now();
            while cluster.now() - since < cluster.time_limit() / 2 {
                consumer.poll().await.expect("the broker may come back");
            }
            if is_back {
                is_away.set(false);
                assert!(consumer.poll().await.is_ok());
                io.sleep(cluster.time_limit()).await;
                assert!(consumer.poll().await.is_ok());
                continue;
            }
            let error = loop {
                if let Err(error) = consumer.poll().await {
                    break error;
                }
            };
            assert!(error.is_retriable(), "{error}");
            assert!(cluster.now() - since >= cluster.time_limit());
        }
    });
}

/// Goal: what cannot be written is told to who asks, and the producer goes on. Method: acks=0 has
/// no offsets; a broker that refuses for good; a partition that is not there.
#[test]
fn a_producer_tells_what_failed() {
    sim::run(3, |io, _| async move {
        let log = FakeLog::new(2, 0);
        start_broker(&io, log.script()).await;
        let bootstrap = [address().to_string()];
        let config = ConnectionConfig::default();
        let cluster = Cluster::connect(&io, &bootstrap, config).await.expect("it is there");
        let record = NewRecord { value: Some(b"value"), ..NewRecord::default() };
        let config = ProducerConfig {
            delivery_timeout: Duration::from_secs(1),
            ..ProducerConfig::default()
        };
        let producer = Producer::new(&cluster, config.clone());
        let missing = producer.send(TOPIC, Some(2), &record).await.err();
        let expected = ClientError::NoPartition { topic: TOPIC.into(), partition: 2, count: 2 };
        assert_eq!(missing, Some(expected));
        log.refusals.set(1);
        let since = cluster.now();
        let config_small = ProducerConfig { batch_bytes: 1, ..config.clone() };
        let queued = Producer::new(&cluster, config_small);
        for _ in 0..5 {
            queued.send(TOPIC, Some(1), &record).await.expect("there is room");
        }
        let error = queued.flush().await.expect_err("every request is refused");
        assert!(matches!(error, ClientError::Undelivered { reason: Some(_), .. }), "{error}");
        assert!(cluster.now() - since < Duration::from_millis(1_500), "one timeout for all");
        let delivery = producer.send(TOPIC, Some(1), &record).await.expect("there is room");
        assert!(producer.flush().await.is_err());
        assert!(delivery.offset().await.is_err());
        log.refusals.set(0);
        let delivery = producer.send(TOPIC, Some(1), &record).await.expect("there is room");
        producer.flush().await.expect("the failure was told before");
        assert_eq!(delivery.offset().await, Ok(Offset(0)));
        let producer = Producer::new(&cluster, ProducerConfig { acks: Acks::None, ..config });
        let delivery = producer.send(TOPIC, Some(0), &record).await.expect("there is room");
        producer.flush().await.expect("it was sent");
        assert_eq!(delivery.offset().await, Ok(Offset(-1)));
    });
}
