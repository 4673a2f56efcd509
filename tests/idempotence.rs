//! Producers that number their batches, on a whole node over real sockets: what is stored once,
//! what is refused, and that neither a stop nor a kill -9 changes that.

mod harness;

use harness::{Client, PATIENCE, PRODUCE, Process, produce_request};
use ringmain::protocol::batch::{BatchBuilder, BatchProducer};
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::decode_response;
use ringmain::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ringmain::protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use ringmain::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ringmain::protocol::messages::init_producer_id::InitProducerIdRequest;
use ringmain::protocol::messages::produce::ProduceRequest;
use ringmain::protocol::record::NewRecord;
use std::collections::BTreeSet;
use std::time::Instant;

const INIT: i16 = 5;

impl Client {
    /// The code, id and epoch that InitProducerId answers.
    fn init(&mut self, request: &InitProducerIdRequest<'_>) -> (ErrorCode, i64, i16) {
        let frame = self.call(INIT, request);
        let (_, answer) = decode_response::<InitProducerIdRequest>(INIT, &frame).expect("whole");
        (answer.error_code, answer.producer_id, answer.producer_epoch)
    }

    fn producer_id(&mut self) -> i64 {
        let (code, id, epoch) = self.init(&InitProducerIdRequest::default());
        assert_eq!((code, epoch), (ErrorCode::None, 0));
        id
    }

    /// Produces one batch to partition `index`: its code, base offset and append time.
    fn produce_timed(&mut self, topic: &str, index: i32, batch: &[u8]) -> (ErrorCode, i64, i64) {
        self.produce_with(topic, index, batch, None)
    }

    fn produce_with(
        &mut self,
        topic: &str,
        index: i32,
        batch: &[u8],
        transactional_id: Option<&str>,
    ) -> (ErrorCode, i64, i64) {
        let request = produce_request(topic, index, batch, -1);
        let request = ProduceRequest { transactional_id, ..request };
        let frame = self.call(PRODUCE, &request);
        let (_, answer) = decode_response::<ProduceRequest>(PRODUCE, &frame).expect("whole");
        let partition = &answer.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset, partition.log_append_time_ms)
    }

    /// The producers that a partition remembers: id, epoch, last sequence, last timestamp.
    fn describe(&mut self, topic: &str, index: i32) -> (ErrorCode, Vec<(i64, i32, i32, i64)>) {
        let topics = vec![TopicRequest { name: topic, partition_indexes: vec![index] }];
        let frame = self.call(0, &DescribeProducersRequest { topics });
        let (_, answer) = decode_response::<DescribeProducersRequest>(0, &frame).expect("whole");
        let partition = &answer.topics[0].partitions[0];
        let producers = partition.active_producers.iter().map(|one| {
            assert_eq!((one.coordinator_epoch, one.current_txn_start_offset), (-1, -1));
            (one.producer_id, one.producer_epoch, one.last_sequence, one.last_timestamp)
        });
        (partition.error_code, producers.collect())
    }
}

/// A batch of `count` records of producer `id`.
fn batch_of(id: i64, epoch: i16, base_sequence: i32, count: i32, transactional: bool) -> Vec<u8> {
    let producer = BatchProducer { id, epoch, base_sequence, transactional };
    let mut builder = BatchBuilder::new(Codec::None).with_producer(producer);
    for at in 0..count {
        let value = format!("{id} {}", base_sequence + at);
        let timestamp = 1_000 + i64::from(at);
        let value = Some(value.as_bytes());
        builder.append(&NewRecord { timestamp, value, ..NewRecord::default() });
    }
    builder.finish()
}

fn batch(id: i64, base_sequence: i32, count: i32) -> Vec<u8> {
    batch_of(id, 0, base_sequence, count, false)
}

/// Goal: a batch sent again is stored once, whoever carries it, over kill -9 and a clean stop.
/// Method: window by window: send, end the node, repeat all five over new connections, go on.
#[test]
fn a_repeated_batch_gets_its_first_offsets_also_after_a_kill() {
    let mut process = Process::new("repeated", &[]);
    let mut client = process.start();
    client.create("words", 2, &[]);
    client.create("stamped", 2, &[("message.timestamp.type", "LogAppendTime")]);
    let id = client.producer_id();
    let mut next = 0;
    for life in 0..5 {
        let mut client = process.client();
        let mut sent = Vec::new();
        for _ in 0..5 {
            for topic in ["words", "stamped"] {
                let answer = client.produce_timed(topic, 1, &batch(id, next, 3));
                assert_eq!((answer.0, answer.1), (ErrorCode::None, i64::from(next)));
                assert_eq!(answer.2 == -1, topic == "words");
                sent.push((topic, next, answer));
            }
            next += 3;
        }
        match life % 3 {
            0 => process.kill(),
            1 => process.stop(),
            _ => {}
        }
        if !process.is_running() {
            process.start();
        }
        for (topic, sequence, answer) in sent {
            // Of a repeated batch Kafka tells its largest timestamp, on either kind of topic.
            let timestamp = if topic == "words" { 1_002 } else { answer.2 };
            let again = process.client().produce_timed(topic, 1, &batch(id, sequence, 3));
            let expected = (answer.0, answer.1, timestamp);
            assert_eq!(again, expected, "life {life}, {topic}, {sequence}");
        }
        let refused = process.client().produce_timed("words", 1, &batch(id, next + 1, 1));
        assert_eq!(refused.0, ErrorCode::OutOfOrderSequenceNumber, "life {life}");
    }
    let (code, known) = process.client().describe("words", 1);
    assert_eq!((code, known), (ErrorCode::None, vec![(id, 0, next - 1, 1_002)]));
    process.stop();
    process.remove();
}

/// Goal: no id is given out twice. Method: more than a block on connections of both shards, with
/// kills in between.
#[test]
fn a_producer_id_is_given_out_once() {
    let mut process = Process::new("ids", &[]);
    let mut given = BTreeSet::new();
    for _ in 0..3 {
        process.start();
        for _ in 0..4 {
            let mut client = process.client();
            for _ in 0..700 {
                let id = client.producer_id();
                assert!(id >= 0 && given.insert(id), "{id} a second time");
            }
        }
        process.kill();
    }
    process.remove();
}

/// Goal: every refusal is Kafka's. Method: gaps, old epochs, transactions, ids that do not fit.
#[test]
fn what_is_out_of_order_is_refused_in_kafkas_codes() {
    let mut process = Process::new("refused", &[]);
    let mut client = process.start();
    client.create("words", 2, &[]);
    let id = client.producer_id();
    let code = |client: &mut Client, batch: &[u8]| client.produce_timed("words", 0, batch).0;
    assert_eq!(code(&mut client, &batch(id, 0, 2)), ErrorCode::None);
    assert_eq!(code(&mut client, &batch(id, 3, 1)), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(code(&mut client, &batch(id, 1, 1)), ErrorCode::OutOfOrderSequenceNumber);
    let bumped = |sequence| batch_of(id, 1, sequence, 1, false);
    assert_eq!(code(&mut client, &bumped(2)), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(code(&mut client, &bumped(0)), ErrorCode::None);
    assert_eq!(code(&mut client, &batch(id, 2, 1)), ErrorCode::InvalidProducerEpoch);
    assert_eq!(code(&mut client, &batch(id + 900_000, 77, 1)), ErrorCode::None, "KIP-360");
    let transactional = batch_of(id, 1, 1, 1, true);
    let forbidden = ErrorCode::TransactionalIdAuthorizationFailed;
    assert_eq!(code(&mut client, &transactional), forbidden);
    let named = client.produce_with("words", 0, &transactional, Some("transfers"));
    assert_eq!(named.0, ErrorCode::InvalidTxnState);
    assert_eq!(client.describe("words", 0).1.len(), 2);
    assert_eq!(client.describe("words", 2).0, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(client.describe("other", 0).0, ErrorCode::UnknownTopicOrPartition);
    let none = (-1, -1);
    for (transactional_id, producer_id, producer_epoch, code) in [
        (Some("transfers"), -1, -1, ErrorCode::UnsupportedVersion),
        (Some(""), -1, -1, ErrorCode::InvalidRequest),
        (None, 5, -1, ErrorCode::InvalidRequest),
        (None, -1, 5, ErrorCode::InvalidRequest),
    ] {
        let request = InitProducerIdRequest {
            transactional_id,
            transaction_timeout_ms: 1_000,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        let (found, given_id, given_epoch) = client.init(&request);
        assert_eq!((found, (given_id, given_epoch)), (code, none));
    }
    let request =
        InitProducerIdRequest { producer_id: id, producer_epoch: 3, ..Default::default() };
    let (code, given_id, epoch) = client.init(&request);
    assert_eq!((code, epoch), (ErrorCode::None, 0));
    assert_ne!(given_id, id, "as in Kafka, only transactional ids keep theirs");
    process.stop();
    process.remove();
}

/// Goal: deleted records leave their producer known; a producer whose time is up is forgotten.
/// Method: delete all; set the time to 1 ms at run time, and repeat a gap until it passes.
#[test]
fn a_producer_is_known_beyond_its_records_but_not_beyond_its_time() {
    let mut process = Process::new("expiry", &[]);
    let mut client = process.start();
    client.create("words", 2, &[]);
    let id = client.producer_id();
    assert_eq!(client.produce_timed("words", 0, &batch(id, 0, 4)).1, 0);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: "words", partitions }];
    client.call(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 });
    process.kill();
    let mut client = process.start();
    let gap = batch(id, 50, 1);
    assert_eq!(client.produce_timed("words", 0, &gap).0, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(client.produce_timed("words", 0, &batch(id, 0, 4)).1, 0);
    let config = AlterableConfig {
        name: "producer.id.expiration.ms",
        config_operation: 0,
        value: Some("1"),
    };
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "", configs: vec![config] };
    let resources = vec![resource];
    client.call(1, &IncrementalAlterConfigsRequest { resources, validate_only: false });
    let deadline = Instant::now() + PATIENCE;
    while client.produce_timed("words", 0, &gap).0 != ErrorCode::None {
        assert!(Instant::now() < deadline, "it is never forgotten");
    }
    process.stop();
    process.remove();
}
