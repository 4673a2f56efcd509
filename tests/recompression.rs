//! `compression.type` on a whole node over real sockets: batches that come in another codec than
//! their topic's are stored in that one, and say the same.

mod harness;

use harness::{Client, Node, PRODUCE, data_dir, produce_request, produced};
use ringmain::protocol::batch::{BatchBuilder, BatchProducer, BatchView, Batches};
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::decode_response;
use ringmain::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ringmain::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ringmain::protocol::messages::init_producer_id::InitProducerIdRequest;
use ringmain::protocol::record::NewRecord;

const FETCH: i16 = 12;
/// Kafka's names of the codecs as settings.
const TYPES: [(&str, Codec); 5] = [
    ("uncompressed", Codec::None),
    ("gzip", Codec::Gzip),
    ("snappy", Codec::Snappy),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];
/// Below and above what a shard recompresses itself.
const VALUE_BYTES: [usize; 2] = [100, 60_000];

/// A record as it was sent and as it came back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header: Vec<u8>,
}

/// Some records, the same for the same seed.
fn records(seed: u64, value_bytes: usize) -> Vec<Sent> {
    let mut random = fastrand::Rng::with_seed(seed);
    let record = |at: i64| Sent {
        timestamp: 1_000_000 + (at * 37) % 11,
        key: (at % 3 != 0).then(|| format!("key {at}").into_bytes()),
        value: (at % 4 != 3).then(|| (0..value_bytes).map(|_| random.u8(b'a'..b'h')).collect()),
        header: format!("trace {seed}-{at}").into_bytes(),
    };
    (0..8).map(record).collect()
}

fn batch(codec: Codec, records: &[Sent], producer: Option<BatchProducer>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    if let Some(producer) = producer {
        builder = builder.with_producer(producer);
    }
    for record in records {
        builder.append(&NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &[("trace", Some(&record.header))],
        });
    }
    builder.finish()
}

fn records_of(batch: &BatchView<'_>) -> Vec<Sent> {
    let bytes = batch.decompressed(1 << 24).expect("it is valid");
    let records = batch.records_in(&bytes).map(|record| {
        let record = record.expect("it is valid");
        let header = record.headers().next().expect("each has one").1.expect("a value");
        Sent {
            timestamp: batch.timestamp(record.timestamp_delta),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            header: header.to_vec(),
        }
    });
    records.collect()
}

impl Client {
    /// All that partition 0 of the topic holds, in whole batches.
    fn read_all(&mut self, topic: &str, batches_count: usize) -> Vec<Vec<u8>> {
        let (mut found, mut fetch_offset) = (Vec::new(), 0);
        while found.len() < batches_count {
            let partition =
                FetchPartition { fetch_offset, partition_max_bytes: 1 << 24, ..Default::default() };
            let topic = FetchTopic { topic, partitions: vec![partition], ..Default::default() };
            let request = FetchRequest {
                replica_id: -1,
                min_bytes: 1,
                max_bytes: 50 << 20,
                topics: vec![topic],
                ..FetchRequest::default()
            };
            let frame = self.call(FETCH, &request);
            let (_, answer) = decode_response::<FetchRequest>(FETCH, &frame).expect("whole");
            let bytes = answer.responses[0].partitions[0].records.bytes();
            assert!(!bytes.is_empty(), "{} of {batches_count} batches", found.len());
            for batch in Batches::new(bytes) {
                let batch = batch.expect("whole batches");
                batch.check_crc().expect("a true checksum");
                fetch_offset = batch.next_offset().0;
                found.push(batch.bytes().to_vec());
            }
        }
        assert_eq!(found.len(), batches_count);
        found
    }

    /// Sets a topic's setting, or with an empty name one of all brokers.
    fn set(&mut self, topic: &str, name: &str, value: &str) {
        let config = AlterableConfig { name, config_operation: 0, value: Some(value) };
        let resource = AlterConfigsResource {
            resource_type: if topic.is_empty() { 4 } else { 2 },
            resource_name: topic,
            configs: vec![config],
        };
        let resources = vec![resource];
        let frame =
            self.call(1, &IncrementalAlterConfigsRequest { resources, ..Default::default() });
        let (_, answer) =
            decode_response::<IncrementalAlterConfigsRequest>(1, &frame).expect("whole");
        assert_eq!(answer.responses[0].error_code, ErrorCode::None);
    }
}

/// Goal: whatever a producer sends is stored in the topic's codec, with the same records, also
/// after a restart. Method: every codec to every topic, small and large.
#[test]
fn every_codec_becomes_the_topics_own() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let mut sent = Vec::new();
    for (name, _) in TYPES {
        client.create(name, 1, &[("compression.type", name)]);
    }
    client.create("producer", 1, &[]);
    for (seed, codec) in (0..).zip(Codec::ALL) {
        for value_bytes in VALUE_BYTES {
            let records = records(seed, value_bytes);
            let bytes = batch(codec, &records, None);
            let base_offset = 8 * sent.len() as i64;
            for topic in TYPES.map(|(name, _)| name).into_iter().chain(["producer"]) {
                assert_eq!(client.produce(topic, 0, &bytes), (ErrorCode::None, base_offset));
            }
            sent.push((records, bytes));
        }
    }
    node.stop();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    for (name, codec) in TYPES {
        for (bytes, (records, came)) in client.read_all(name, sent.len()).iter().zip(&sent) {
            let stored = BatchView::first(bytes).expect("it is whole");
            assert_eq!(stored.codec(), Some(codec));
            assert_eq!(&records_of(&stored), records, "{name}");
            if BatchView::first(came).expect("it is whole").codec() == Some(codec) {
                assert_eq!(bytes[16..], came[16..], "what is in the codec stays as it is");
            }
        }
    }
    let kept = client.read_all("producer", sent.len());
    assert!(kept.iter().zip(&sent).all(|(bytes, (_, came))| bytes[16..] == came[16..]));
    node.stop();
}

/// Goal: batches keep their order, also where some are recompressed on another thread, and those
/// that come out too large are refused alone. Method: all kinds in turn, pipelined.
#[test]
fn recompressed_batches_keep_their_order() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let settings = [("compression.type", "uncompressed"), ("max.message.bytes", "600000")];
    client.create("words", 1, &settings);
    let (mut next, mut expected, mut kept) = (0, Vec::new(), Vec::new());
    for round in 0..60 {
        // On another thread, as it is, at once, on another thread in vain.
        let codec = [Codec::Zstd, Codec::None, Codec::Gzip, Codec::Zstd][round % 4];
        let mut records = records(round as u64, [60_000, 10, 50, 10][round % 4]);
        let is_too_large = round % 4 == 3;
        if is_too_large {
            records[0].value = Some(vec![0; 900_000]);
        }
        let bytes = batch(codec, &records, None);
        client.send(PRODUCE, &produce_request("words", 0, &bytes, -1)).expect("the node reads");
        if is_too_large {
            expected.push((ErrorCode::MessageTooLarge, -1));
        } else {
            expected.push((ErrorCode::None, next));
            next += records.len() as i64;
            kept.push(records);
        }
    }
    for answer in expected {
        assert_eq!(produced(&client.receive().expect("an answer")), answer);
    }
    for (bytes, records) in client.read_all("words", kept.len()).iter().zip(&kept) {
        let stored = BatchView::first(bytes).expect("it is whole");
        assert_eq!((stored.codec(), &records_of(&stored)), (Some(Codec::None), records));
    }
    node.stop();
}

/// Goal: what else is done to a batch goes together with another codec: numbers of an idempotent
/// producer, the broker's time, a corrected maximum; a change of the setting counts from the next
/// batch on. Method: repeated batches of both sizes; a topic of each kind.
#[test]
fn another_codec_goes_with_repeats_and_the_brokers_time() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let frame = client.call(5, &InitProducerIdRequest::default());
    let (_, answer) = decode_response::<InitProducerIdRequest>(5, &frame).expect("whole");
    let id = answer.producer_id;
    client.create("plain", 1, &[("compression.type", "zstd"), ("compression.zstd.level", "7")]);
    let stamped = [("compression.type", "lz4"), ("message.timestamp.type", "LogAppendTime")];
    client.create("stamped", 1, &[stamped[0], stamped[1], ("compression.lz4.level", "12")]);
    for topic in ["plain", "stamped"] {
        for (round, value_bytes) in (0..).zip(VALUE_BYTES) {
            let producer =
                BatchProducer { id, epoch: 0, base_sequence: 8 * round, transactional: false };
            let bytes = batch(Codec::Gzip, &records(1, value_bytes), Some(producer));
            for _ in 0..2 {
                let answer = client.produce(topic, 0, &bytes);
                assert_eq!(answer, (ErrorCode::None, i64::from(8 * round)), "{topic}");
            }
        }
        let mut wrong = batch(Codec::None, &records(2, 100), None);
        ringmain::protocol::batch::patch_max_timestamp(&mut wrong, 7);
        assert_eq!(client.produce(topic, 0, &wrong), (ErrorCode::None, 16));
        for (number, bytes) in (0..).zip(client.read_all(topic, 3)) {
            let stored = BatchView::first(&bytes).expect("it is whole");
            let is_stamped = topic == "stamped";
            assert_eq!(stored.has_log_append_time(), is_stamped);
            let expected = if is_stamped { Codec::Lz4 } else { Codec::Zstd };
            assert_eq!(stored.codec(), Some(expected));
            if number < 2 {
                assert_eq!(stored.header().producer_id.get(), id);
                assert_eq!(stored.header().base_sequence.get(), 8 * number);
            }
            let records = records_of(&stored);
            assert_eq!(records.len(), 8);
            let max_timestamp = records.iter().map(|record| record.timestamp).max();
            assert_eq!(Some(stored.max_timestamp()), max_timestamp);
            assert_eq!(max_timestamp > Some(2_000_000), is_stamped, "the broker's time is now");
        }
    }
    client.set("", "compression.type", "snappy"); // of all brokers: topics with their own keep it
    client.create("later", 1, &[]);
    let bytes = batch(Codec::None, &records(3, 100), None);
    assert_eq!(client.produce("later", 0, &bytes).0, ErrorCode::None);
    client.set("later", "compression.type", "gzip");
    assert_eq!(client.produce("later", 0, &bytes).0, ErrorCode::None);
    assert_eq!(client.produce("plain", 0, &bytes).0, ErrorCode::None);
    let codec = |bytes: &Vec<u8>| BatchView::first(bytes).expect("it is whole").codec();
    let codecs: Vec<_> = client.read_all("later", 2).iter().map(codec).collect();
    assert_eq!(codecs, [Some(Codec::Snappy), Some(Codec::Gzip)]);
    assert_eq!(codec(&client.read_all("plain", 4)[3]), Some(Codec::Zstd));
    node.stop();
}
