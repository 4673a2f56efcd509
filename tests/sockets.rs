//! A whole node on real sockets and a real disk, driven by hand-made frames: what a client can
//! send, right or wrong, and what it gets back. Nothing here depends on how long something takes.

mod harness;

use harness::{Client, Node, PATIENCE, PRODUCE, data_dir, produce_request, produced, serve_args};
use ringmain::base::ids::TopicId;
use ringmain::config::ServeArgs;
use ringmain::protocol::api::{ApiKey, TABLE};
use ringmain::protocol::batch::BatchBuilder;
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ringmain::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use ringmain::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ringmain::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use ringmain::protocol::messages::produce::ProduceRequest;
use ringmain::protocol::record::NewRecord;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::path::Path;

/// Version that the tests speak unless they are about versions.
const FETCH: i16 = 12;

impl Client {
    fn fetch(&mut self, request: &FetchRequest<'_>) -> Fetched {
        let frame = self.call(FETCH, request);
        Fetched::of(&frame)
    }
}

fn fetch_request<'a>(topic: &'a str, offsets: &[(i32, i64)]) -> FetchRequest<'a> {
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let partitions: Vec<FetchPartition> = offsets.iter().map(partition).collect();
    let topic = FetchTopic { topic, partitions, ..FetchTopic::default() };
    let topics = if offsets.is_empty() { Vec::new() } else { vec![topic] };
    FetchRequest { replica_id: -1, min_bytes: 1, max_bytes: 50 << 20, topics, ..Default::default() }
}

/// A fetch answer: by partition its code, high watermark and records.
#[derive(Debug)]
struct Fetched {
    error_code: ErrorCode,
    session_id: i32,
    partitions: Vec<(i32, ErrorCode, i64, Vec<u8>)>,
}

impl Fetched {
    fn of(frame: &[u8]) -> Fetched {
        let (_, answer): (i32, FetchResponse) =
            decode_response::<FetchRequest>(FETCH, frame).expect("whole");
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions).map(|data| {
            let records = data.records.bytes().to_vec();
            (data.partition_index, data.error_code, data.high_watermark, records)
        });
        let partitions = partitions.collect();
        Fetched { error_code: answer.error_code, session_id: answer.session_id, partitions }
    }

    fn indexes(&self) -> Vec<i32> {
        self.partitions.iter().map(|partition| partition.0).collect()
    }

    fn bytes(&self) -> usize {
        self.partitions.iter().map(|partition| partition.3.len()).sum()
    }
}

fn batch(codec: Codec, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for value in values {
        let timestamp = 1_000;
        builder.append(&NewRecord { timestamp, value: Some(value), ..NewRecord::default() });
    }
    builder.finish()
}

/// What of a batch the broker leaves as it came: all behind the leader epoch.
fn unpatched(batch: &[u8]) -> &[u8] {
    &batch[16..]
}

/// Goal: no size makes the node allocate, panic or stop. Method: sizes that are none, on many
/// connections; an honest client goes on.
#[test]
fn a_frame_of_an_impossible_size_closes_its_connection_only() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    for size in [-1, i32::MIN, 0, 7, i32::MAX, (100 << 20) + 1] {
        let mut client = node.client();
        client.socket.write_all(&size.to_be_bytes()).expect("the node reads");
        assert!(client.is_closed(), "size {size}");
    }
    let waiting: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = node.client();
            client.socket.write_all(&(100i32 << 20).to_be_bytes()).expect("the node reads");
            client.socket.write_all(&[0; 100]).expect("the node reads");
            client
        })
        .collect();
    assert_eq!(node.client().try_create("words", 1, &[]).0, ErrorCode::None);
    drop(waiting);
    node.stop();
}

/// Goal: frames arrive in any pieces. Method: byte by byte; then several in one piece.
#[test]
fn frames_are_found_however_the_bytes_arrive() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let request = encode_request(0, 5, None, &ApiVersionsRequest::default()).head;
    for byte in &request {
        client.socket.write_all(&[*byte]).expect("the node reads");
    }
    assert_eq!(client.receive().expect("an answer")[..4], 5i32.to_be_bytes());
    client.socket.write_all(&request.repeat(50)).expect("the node reads");
    for _ in 0..50 {
        assert_eq!(client.receive().expect("an answer")[..4], 5i32.to_be_bytes());
    }
    node.stop();
}

/// Goal: what is not known is refused as Kafka does. Method: keys and versions around the table.
#[test]
fn unknown_keys_and_versions_close_and_api_versions_answers() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let header = |key: i16, version: i16| {
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend(9i32.to_be_bytes());
        frame.extend([0xff, 0xff, 0]);
        frame
    };
    for (key, version) in [(-1, 0), (4, 0), (999, 0), (0, 2), (0, 14), (1, -1), (3, 14), (11, 5)] {
        let mut client = node.client();
        client.send_frame(&header(key, version));
        assert!(client.is_closed(), "key {key}, version {version}");
    }
    let mut client = node.client();
    client.send_frame(&header(18, 99));
    let frame = client.receive().expect("an answer");
    let (id, answer): (i32, ApiVersionsResponse) =
        decode_response::<ApiVersionsRequest>(0, &frame).expect("version 0");
    assert_eq!((id, answer.error_code), (9, ErrorCode::UnsupportedVersion));
    assert!(answer.api_keys.iter().any(|range| range.api_key == ApiKey::Fetch.number()));
    assert_eq!(client.try_create("words", 1, &[]).0, ErrorCode::None, "the connection goes on");
    node.stop();
}

/// Goal: no bytes make a handler panic. Method: for each served key and version, bodies that are
/// random, cut, or full of large numbers; from a seed that is printed.
#[test]
fn malformed_bodies_end_a_connection_at_most() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    node.client().create("words", 2, &[]);
    for api in TABLE {
        for version in api.versions.first..=api.versions.last {
            for round in 0..12 {
                let mut frame = api.key.number().to_be_bytes().to_vec();
                frame.extend(version.to_be_bytes());
                frame.extend([0, 0, 0, 1, 0xff, 0xff]);
                if api.request_header_flexible(version) {
                    frame.push(0);
                }
                let body_bytes = random.usize(0..200);
                frame.extend((0..body_bytes).map(|_| match round % 3 {
                    0 => random.u8(..),
                    1 => random.u8(0..3),
                    _ => *random.choice(&[0, 0x7f, 0xff, 0x80, 1]).expect("not empty"),
                }));
                let mut client = node.client();
                client.send_frame(&frame);
                client.socket.shutdown(Shutdown::Write).expect("it is open, or closed by the node");
                let mut rest = Vec::new();
                let _ = client.socket.read_to_end(&mut rest); // a reset is an end, too
            }
        }
    }
    assert_eq!(node.client().try_create("still-here", 1, &[]).0, ErrorCode::None);
    node.stop();
}

/// Goal: each fault of a batch has Kafka's code, and nothing of it is stored. Method: bend a batch.
#[test]
fn a_bad_batch_is_refused_with_its_code() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    client.create("words", 1, &[]);
    let good = batch(Codec::None, &[b"a", b"b"]);
    let bent = |position: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[position..position + value.len()].copy_from_slice(value);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("crc", bent(17, &[1, 2, 3, 4]), ErrorCode::CorruptMessage),
        ("magic 1", bent(16, &[1]), ErrorCode::InvalidRecord),
        ("payload", bent(good.len() - 1, &[77]), ErrorCode::CorruptMessage),
        ("two batches", good.repeat(2), ErrorCode::InvalidRecord),
        ("cut", good[..good.len() - 1].to_vec(), ErrorCode::InvalidRecord),
        ("nothing", Vec::new(), ErrorCode::InvalidRecord),
        ("too large", batch(Codec::None, &[&vec![7; 2 << 20]]), ErrorCode::MessageTooLarge),
    ];
    for (fault, bytes, code) in cases {
        assert_eq!(client.produce("words", 0, &bytes), (code, -1), "{fault}");
    }
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(client.produce("words", 1, &good), (unknown, -1));
    assert_eq!(client.produce("words", -1, &good), (unknown, -1));
    assert_eq!(client.produce("other", 0, &good), (unknown, -1));
    let frame = client.call(PRODUCE, &produce_request("words", 0, &good, 2));
    assert_eq!(produced(&frame), (ErrorCode::InvalidRequiredAcks, -1));
    assert_eq!(
        client.produce("words", 0, &good),
        (ErrorCode::None, 0),
        "nothing was stored before"
    );
    node.stop();
}

/// Goal: no name leaves the data directory. Method: ask for such topics in both ways.
#[test]
fn a_topic_name_cannot_escape() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let long = "x".repeat(250);
    for name in ["../../x", "..", ".", "", "a/b", "a\0b", "ä", long.as_str()] {
        assert_eq!(client.try_create(name, 1, &[]).0, ErrorCode::InvalidTopicException, "{name:?}");
        let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let frame = client.call(9, &request);
        let (_, answer) = decode_response::<MetadataRequest>(9, &frame).expect("whole");
        assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidTopicException, "{name:?}");
    }
    node.stop();
}

/// Goal: bytes come back as they were sent, for every codec, across shards, from memory and from
/// disk, and none is copied. Method: 4 partitions on 2 shards; restart; kill nothing.
#[test]
fn batches_come_back_unchanged_from_memory_and_from_disk() {
    let dir = data_dir();
    let mut node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    client.create("words", 4, &[]);
    let value = vec![b'x'; 20_000];
    let mut sent: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 4];
    for (round, codec) in Codec::ALL.into_iter().cycle().take(15).enumerate() {
        for index in 0..4 {
            let bytes = batch(codec, &[b"first", &value, round.to_string().as_bytes()]);
            let offset = (round * 3) as i64;
            assert_eq!(client.produce("words", index, &bytes), (ErrorCode::None, offset));
            sent[index as usize].push(bytes);
        }
    }
    for _ in 0..2 {
        let mut client = node.client();
        let offsets: Vec<(i32, i64)> = (0..4).map(|index| (index, 0)).collect();
        let fetched = client.fetch(&fetch_request("words", &offsets));
        assert_eq!(fetched.indexes(), [0, 1, 2, 3]);
        for (index, code, high_watermark, records) in &fetched.partitions {
            assert_eq!((*code, *high_watermark), (ErrorCode::None, 45));
            let mut rest = &records[..];
            for bytes in &sent[*index as usize] {
                let (head, tail) = rest.split_at(bytes.len());
                assert_eq!(unpatched(head), unpatched(bytes), "partition {index}");
                rest = tail;
            }
            assert!(rest.is_empty());
        }
        let totals = node.stop();
        assert_eq!(totals.fetch_bytes, sent.iter().flatten().map(|b| b.len() as u64).sum::<u64>());
        node = Node::start(dir.path(), &[]);
    }
    node.stop();
}

/// Goal: pipelined requests keep their order, to all shards and with each kind of acks. Method:
/// send hundreds, then read; acks=0 has no answer.
#[test]
fn pipelined_produce_requests_keep_their_order() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    client.create("words", 2, &[]);
    let bytes = batch(Codec::None, &[b"word"]);
    let mut expected = Vec::new();
    let mut next = [0, 0];
    for round in 0..600 {
        let index = round % 2;
        let acks = [-1, 1, 0][round / 2 % 3];
        let request = produce_request("words", index as i32, &bytes, acks);
        if acks == 0 {
            client.send_unanswered(PRODUCE, &request).expect("the node reads");
        } else {
            client.send(PRODUCE, &request).expect("the node reads");
            expected.push(next[index]);
        }
        next[index] += 1;
    }
    for offset in expected {
        let frame = client.receive().expect("an answer");
        assert_eq!(produced(&frame), (ErrorCode::None, offset));
    }
    let fetched = client.fetch(&fetch_request("words", &[(0, 0), (1, 0)]));
    assert_eq!(fetched.bytes(), 600 * bytes.len());
    node.stop();
}

/// Goal: an error with acks=0 ends the connection, as the producer has no other way to learn of it.
#[test]
fn an_error_without_acks_closes_the_connection() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let bytes = batch(Codec::None, &[b"word"]);
    let request = produce_request("nowhere", 0, &bytes, 0);
    client.send_unanswered(PRODUCE, &request).expect("the node reads");
    assert!(client.is_closed());
    node.stop();
}

/// Goal: a fetch waits for data, on whichever shard it comes. Method: wait on both partitions, then
/// produce to one; the wait is longer than the test's patience.
#[test]
fn a_long_poll_ends_with_the_first_record() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let (mut reader, mut writer) = (node.client(), node.client());
    writer.create("words", 2, &[]);
    let bytes = batch(Codec::None, &[b"word"]);
    for round in 0..20 {
        let offset = round / 2;
        let wanted: &[(i32, i64)] = match round % 4 {
            0 | 1 => &[(0, offset), (1, offset)],
            2 => &[(0, offset)],
            _ => &[(1, offset)],
        };
        let mut request = fetch_request("words", wanted);
        request.max_wait_ms = 2 * PATIENCE.as_millis() as i32;
        reader.send(FETCH, &request).expect("the node reads");
        let index = (round % 2) as i32;
        assert_eq!(writer.produce("words", index, &bytes), (ErrorCode::None, offset));
        let fetched = Fetched::of(&reader.receive().expect("an answer"));
        assert_eq!(fetched.bytes(), bytes.len(), "round {round}");
    }
    let fetched = reader.fetch(&fetch_request("words", &[(0, 10), (1, 10)]));
    assert_eq!(fetched.bytes(), 0, "without a wait there is an answer at once");
    node.stop();
}

/// Goal: clients that do not read their answers cannot keep others from theirs. Method: more of
/// them than the answers of all shards may hold together, then one that reads; it needs only that
/// some of them are closed.
#[test]
fn clients_that_do_not_read_make_room_for_those_that_do() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    client.create("words", 2, &[]);
    let bytes = batch(Codec::None, &[&[7; 1_000_000]]);
    for index in 0..48 {
        assert_eq!(client.produce("words", index % 2, &bytes).0, ErrorCode::None);
    }
    let mut request = fetch_request("words", &[(0, 0), (1, 0)]);
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 24 << 20;
    }
    let mut idle: Vec<Client> = (0..4).map(|_| node.client()).collect();
    for reader in &mut idle {
        reader.send(FETCH, &request).expect("the node reads");
    }
    // All that there are shards, as connections are dealt to them in turn.
    for _ in 0..2 {
        assert_eq!(node.client().fetch(&request).bytes(), 48 * bytes.len());
    }
    drop(idle);
    let totals = node.stop();
    assert!(totals.refused > 0, "some had to go: {totals:?}");
}

/// Goal: a stop answers who waits for records. Method: long polls on one shard and on two, a stop;
/// each gets an empty answer, which a dropped request would not. Behind each a record without
/// acknowledgement: requests of a connection are begun in order, so once it can be read, the long
/// poll has been begun.
#[test]
fn a_stop_answers_long_polls() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let (mut one, mut both, mut last) = (node.client(), node.client(), node.client());
    one.create("words", 2, &[]);
    one.create("others", 1, &[]);
    let bytes = batch(Codec::None, &[b"word"]);
    let partitions: [&[(i32, i64)]; 2] = [&[(0, 0)], &[(0, 0), (1, 0)]];
    for (reader, wanted) in [&mut one, &mut both].into_iter().zip(partitions) {
        let mut request = fetch_request("words", wanted);
        request.max_wait_ms = 2 * PATIENCE.as_millis() as i32;
        reader.send(FETCH, &request).expect("the node reads");
        let request = produce_request("others", 0, &bytes, 0);
        reader.send_unanswered(PRODUCE, &request).expect("the node reads");
    }
    let mut both_records = fetch_request("others", &[(0, 0)]);
    both_records.max_wait_ms = PATIENCE.as_millis() as i32;
    both_records.min_bytes = 2 * bytes.len() as i32;
    assert_eq!(last.fetch(&both_records).bytes(), 2 * bytes.len());
    node.stop();
    for reader in [&mut one, &mut both] {
        let answer = reader.receive().expect("an answer, not a closed connection");
        assert_eq!(Fetched::of(&answer).bytes(), 0);
    }
}

/// Goal: a fetch is bounded, but a large batch is never stuck. Method: limits below one batch.
#[test]
fn a_fetch_answers_at_least_one_batch() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    client.create("words", 2, &[]);
    let bytes = batch(Codec::None, &[&[7; 5_000]]);
    for index in [0, 1, 0, 1] {
        client.produce("words", index, &bytes);
    }
    let mut request = fetch_request("words", &[(0, 0), (1, 0)]);
    request.max_bytes = 1;
    assert_eq!(client.fetch(&request).bytes(), bytes.len());
    request.max_bytes = 1 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 1;
    request.topics[0].partitions[1].partition_max_bytes = 1;
    assert!(client.fetch(&request).bytes() >= bytes.len());
    let outside = client.fetch(&fetch_request("words", &[(0, 3)]));
    assert_eq!(outside.partitions[0].1, ErrorCode::OffsetOutOfRange);
    assert_eq!(outside.partitions[0].2, -1);
    node.stop();
}

/// Goal: sessions answer changes only, and each misuse has its code. Method: a consumer's life.
#[test]
fn a_fetch_session_tells_what_changed() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let (mut client, mut writer) = (node.client(), node.client());
    writer.create("words", 3, &[]);
    let session = |id: i32, epoch: i32, offsets: &[(i32, i64)]| FetchRequest {
        session_id: id,
        session_epoch: epoch,
        ..fetch_request("words", offsets)
    };
    let full = client.fetch(&session(0, 0, &[(0, 0), (1, 0), (2, 0)]));
    assert_eq!(full.indexes(), [0, 1, 2]);
    let id = full.session_id;
    assert_ne!(id, 0);
    assert!(client.fetch(&session(id, 1, &[])).indexes().is_empty());
    writer.produce("words", 1, &batch(Codec::None, &[b"word"]));
    assert_eq!(client.fetch(&session(id, 2, &[])).indexes(), [1]);
    let next = client.fetch(&session(id, 3, &[(1, 1)]));
    assert!(next.indexes().is_empty(), "read on from offset 1, nothing is new");
    let wrong = client.fetch(&session(id, 9, &[]));
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch);
    let unknown = client.fetch(&session(id ^ 1, 1, &[]));
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound);
    let mut forget = session(id, 4, &[]);
    let partitions = vec![0, 1, 2];
    let gone = ForgottenTopic { topic: "words", partitions, ..ForgottenTopic::default() };
    forget.forgotten_topics_data = vec![gone];
    assert_eq!(client.fetch(&forget).session_id, 0, "an empty session ends");
    node.stop();
}

/// Goal: ids name topics from version 13. Method: fetch and produce by a right and a wrong id.
#[test]
fn topics_go_by_id_in_newer_versions() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let topic_id = client.create("words", 1, &[]);
    let bytes = batch(Codec::None, &[b"word"]);
    let stranger = TopicId(topic_id.0 ^ 1);
    let expected = [(topic_id, ErrorCode::None), (stranger, ErrorCode::UnknownTopicId)];
    for (topic_id, code) in expected {
        let mut request = produce_request("", 0, &bytes, -1);
        request.topic_data[0].topic_id = topic_id;
        let frame = client.call(13, &request);
        let (_, answer) = decode_response::<ProduceRequest>(13, &frame).expect("whole");
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code);
        let mut request = fetch_request("", &[(0, 0)]);
        request.topics[0].topic_id = topic_id;
        let frame = client.call(18, &request);
        let (_, answer) = decode_response::<FetchRequest>(18, &frame).expect("whole");
        assert_eq!(answer.responses[0].partitions[0].error_code, code);
        assert_eq!(answer.responses[0].topic_id, topic_id);
    }
    node.stop();
}

/// Goal: a topic is there once asked for, and its ends are told. Method: metadata, then offsets.
#[test]
fn asking_creates_a_topic_and_offsets_tell_its_ends() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client();
    let topic = MetadataRequestTopic { name: Some("words"), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let frame = client.call(9, &request);
    let (_, answer) = decode_response::<MetadataRequest>(9, &frame).expect("whole");
    assert_eq!(answer.topics[0].error_code, ErrorCode::None);
    assert_eq!(answer.topics[0].partitions[0].leader_id, answer.brokers[0].node_id);
    client.produce("words", 0, &batch(Codec::Zstd, &[b"a", b"b", b"c"]));
    let mut offset_of = |timestamp: i64| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: "words", partitions: vec![partition] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let frame = client.call(9, &request);
        let (_, answer) = decode_response::<ListOffsetsRequest>(9, &frame).expect("whole");
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.offset)
    };
    assert_eq!(offset_of(-1), (ErrorCode::None, 3));
    assert_eq!(offset_of(-2), (ErrorCode::None, 0));
    assert_eq!(offset_of(0), (ErrorCode::None, 0));
    assert_eq!(offset_of(1_001), (ErrorCode::None, -1));
    assert_eq!(offset_of(-3).0, ErrorCode::None);
    assert_eq!(offset_of(-6), (ErrorCode::UnsupportedVersion, -1));
    node.stop();
}

/// Goal: a start that cannot succeed says so. Method: a directory in use, a port in use, a
/// stranger's directory.
#[test]
fn a_failed_start_is_one_sentence() {
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let text = |dir: &Path, listen: &str| {
        let args = ServeArgs { listen: Some(listen.to_owned()), ..serve_args(dir, &[]) };
        match Node::try_start(&args) {
            Ok(_) => panic!("it must not start"),
            Err(error) => error.to_string(),
        }
    };
    let other = data_dir();
    assert!(text(dir.path(), "127.0.0.1:0").contains("in use by another node"));
    assert!(text(other.path(), &node.address.to_string()).contains("in use by another program"));
    let foreign = data_dir();
    std::fs::write(foreign.path().join("letter.txt"), "dear").expect("writable");
    assert!(text(foreign.path(), "127.0.0.1:0").contains("not a ringmain data directory"));
    node.stop();
}
