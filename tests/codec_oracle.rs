//! The codec against another: every message in every version, byte for byte, and under attack.
//!
//! Values are generated as bytes by a third, small encoder that walks the tables' descriptions. Our
//! codec and the `kafka-protocol` crate must both read them and write the same bytes again. Then
//! every truncation must be refused, and every count and length that lies, without memory to match
//! the lie.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use ringmain::protocol::api::{ApiKey, TABLE};
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_body, encode_body};
use ringmain::protocol::messages as ours;
use ringmain::protocol::schema::{Field, Kind, Schema};
use ringmain::protocol::wire::{DECODED_BYTES_FREE, DECODED_FACTOR_MAX, Version, WireError};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod codec_vectors;
use codec_vectors::VECTORS;

/// Generated values a message and version.
const ROUNDS: usize = 40;

/// What `kafka-protocol` 0.18 does not know: [`VECTORS`] holds encodings of Kafka's own for these.
const UNKNOWN_TO_THE_ORACLE: &[(&str, i16)] = &[
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    ("InitProducerIdRequest", 6),
    ("DescribeLogDirsRequest", 5),
    ("DescribeLogDirsResponse", 5),
    ("DeleteGroupsRequest", 3),
    ("DeleteGroupsResponse", 3),
];

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// The allocator counts for the whole process, so the tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`; returns with it the most bytes that it held at once.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

/// One message: ours, theirs and its table.
struct Pair {
    key: ApiKey,
    name: &'static str,
    schema: &'static Schema,
    theirs_versions: (i16, i16),
    ours_again: fn(&[u8], Version) -> Result<Vec<u8>, WireError>,
    ours_equal: fn(&[u8], &[u8], Version) -> bool,
    theirs_again: fn(&[u8], i16) -> Result<Vec<u8>, String>,
}

fn again<T: Decodable + Encodable>(bytes: &[u8], number: i16) -> Result<Vec<u8>, String> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let message = T::decode(&mut rest, number).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes are left", rest.len()));
    }
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded, number).map_err(|error| error.to_string())?;
    Ok(encoded.to_vec())
}

macro_rules! pairs {
    ($($key:ident: $module:ident::$request:ident => $response:ident;)*) => {
        fn pairs() -> Vec<Pair> {
            vec![$(pair!($key, $module, $request), pair!($key, $module, $response),)*]
        }
    };
}

macro_rules! pair {
    ($key:ident, $module:ident, $message:ident) => {
        Pair {
            key: ApiKey::$key,
            name: stringify!($message),
            schema: &ours::$module::$message::SCHEMA,
            theirs_versions: {
                let versions = <theirs::$message as Message>::VERSIONS;
                (versions.min, versions.max)
            },
            ours_again: |bytes, version| {
                let message: ours::$module::$message = decode_body(bytes, version)?;
                Ok(encode_body(&message, version).head)
            },
            ours_equal: |one, other, version| {
                let one: Result<ours::$module::$message, _> = decode_body(one, version);
                let other: Result<ours::$module::$message, _> = decode_body(other, version);
                one.is_ok() && one == other
            },
            theirs_again: again::<theirs::$message>,
        }
    };
}

pairs! {
    Produce: produce::ProduceRequest => ProduceResponse;
    Fetch: fetch::FetchRequest => FetchResponse;
    ListOffsets: list_offsets::ListOffsetsRequest => ListOffsetsResponse;
    Metadata: metadata::MetadataRequest => MetadataResponse;
    OffsetCommit: offset_commit::OffsetCommitRequest => OffsetCommitResponse;
    OffsetFetch: offset_fetch::OffsetFetchRequest => OffsetFetchResponse;
    FindCoordinator: find_coordinator::FindCoordinatorRequest => FindCoordinatorResponse;
    JoinGroup: join_group::JoinGroupRequest => JoinGroupResponse;
    Heartbeat: heartbeat::HeartbeatRequest => HeartbeatResponse;
    LeaveGroup: leave_group::LeaveGroupRequest => LeaveGroupResponse;
    SyncGroup: sync_group::SyncGroupRequest => SyncGroupResponse;
    DescribeGroups: describe_groups::DescribeGroupsRequest => DescribeGroupsResponse;
    ListGroups: list_groups::ListGroupsRequest => ListGroupsResponse;
    ApiVersions: api_versions::ApiVersionsRequest => ApiVersionsResponse;
    CreateTopics: create_topics::CreateTopicsRequest => CreateTopicsResponse;
    DeleteTopics: delete_topics::DeleteTopicsRequest => DeleteTopicsResponse;
    DeleteRecords: delete_records::DeleteRecordsRequest => DeleteRecordsResponse;
    InitProducerId: init_producer_id::InitProducerIdRequest => InitProducerIdResponse;
    OffsetForLeaderEpoch: offset_for_leader_epoch::OffsetForLeaderEpochRequest
        => OffsetForLeaderEpochResponse;
    DescribeConfigs: describe_configs::DescribeConfigsRequest => DescribeConfigsResponse;
    AlterConfigs: alter_configs::AlterConfigsRequest => AlterConfigsResponse;
    AlterReplicaLogDirs: alter_replica_log_dirs::AlterReplicaLogDirsRequest
        => AlterReplicaLogDirsResponse;
    DescribeLogDirs: describe_log_dirs::DescribeLogDirsRequest => DescribeLogDirsResponse;
    CreatePartitions: create_partitions::CreatePartitionsRequest => CreatePartitionsResponse;
    DeleteGroups: delete_groups::DeleteGroupsRequest => DeleteGroupsResponse;
    ElectLeaders: elect_leaders::ElectLeadersRequest => ElectLeadersResponse;
    IncrementalAlterConfigs: incremental_alter_configs::IncrementalAlterConfigsRequest
        => IncrementalAlterConfigsResponse;
    AlterPartitionReassignments:
        alter_partition_reassignments::AlterPartitionReassignmentsRequest
        => AlterPartitionReassignmentsResponse;
    ListPartitionReassignments: list_partition_reassignments::ListPartitionReassignmentsRequest
        => ListPartitionReassignmentsResponse;
    OffsetDelete: offset_delete::OffsetDeleteRequest => OffsetDeleteResponse;
    DescribeQuorum: describe_quorum::DescribeQuorumRequest => DescribeQuorumResponse;
    UpdateFeatures: update_features::UpdateFeaturesRequest => UpdateFeaturesResponse;
    DescribeCluster: describe_cluster::DescribeClusterRequest => DescribeClusterResponse;
    DescribeProducers: describe_producers::DescribeProducersRequest => DescribeProducersResponse;
    ConsumerGroupHeartbeat: consumer_group_heartbeat::ConsumerGroupHeartbeatRequest
        => ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe: consumer_group_describe::ConsumerGroupDescribeRequest
        => ConsumerGroupDescribeResponse;
    ListConfigResources: list_config_resources::ListConfigResourcesRequest
        => ListConfigResourcesResponse;
    DescribeTopicPartitions: describe_topic_partitions::DescribeTopicPartitionsRequest
        => DescribeTopicPartitionsResponse;
}

/// A generated message: its bytes, and where a count or length stands with how many bytes.
#[derive(Default)]
struct Generated {
    bytes: Vec<u8>,
    lengths: Vec<(usize, usize)>,
}

/// The third encoder: writes random values of a table's description.
struct Generator {
    random: fastrand::Rng,
    version: Version,
    out: Generated,
    not_default: bool,
}

impl Generator {
    fn message(random: fastrand::Rng, schema: &Schema, version: Version) -> Generated {
        let out = Generated::default();
        let mut generator = Generator { random, version, out, not_default: false };
        generator.structure(schema);
        generator.out
    }

    fn structure(&mut self, schema: &Schema) {
        let number = self.version.number;
        let present = |field: &&Field| field.versions.contains(number);
        for field in schema.fields.iter().filter(present).filter(|field| field.tag.is_none()) {
            let nullable = field.nulls.is_none_or(|nulls| nulls.contains(number));
            self.value(&field.kind, nullable);
        }
        if !self.version.flexible {
            return;
        }
        let tagged = schema.fields.iter().filter(present).filter(|field| field.tag.is_some());
        let chosen: Vec<&Field> = tagged.filter(|_| self.random.bool()).collect();
        self.uvarint_length(chosen.len() as u32);
        for field in chosen {
            self.uvarint(field.tag.expect("it is tagged"));
            let rest = std::mem::take(&mut self.out);
            let not_default = std::mem::replace(&mut self.not_default, true);
            self.value(&field.kind, false);
            self.not_default = not_default;
            let body = std::mem::replace(&mut self.out, rest);
            self.uvarint_length(body.bytes.len() as u32);
            let start = self.out.bytes.len();
            self.out.bytes.extend(body.bytes);
            self.out.lengths.extend(body.lengths.iter().map(|(at, bytes)| (start + at, *bytes)));
        }
    }

    fn value(&mut self, kind: &Kind, nullable: bool) {
        let null = nullable && !self.not_default && self.random.u8(..) < 50;
        match *kind {
            Kind::Bool => {
                let value = self.not_default || self.random.bool();
                self.out.bytes.push(u8::from(value));
            }
            Kind::I8 => self.number(1),
            Kind::I16 | Kind::U16 => self.number(2),
            Kind::I32 => self.number(4),
            Kind::I64 => self.number(8),
            Kind::Uuid => self.number(16),
            Kind::F64 => {
                let value = self.random.f64() + 1.0;
                self.out.bytes.extend(value.to_be_bytes());
            }
            Kind::ErrorCode => {
                let codes = &ErrorCode::ALL[usize::from(self.not_default) * 2..];
                let code = self.random.choice(codes).expect("there are codes");
                self.out.bytes.extend(code.number().to_be_bytes());
            }
            Kind::Text { nullable: can } => self.text(can && null),
            Kind::Bytes { nullable: can } => self.blob(can && null),
            Kind::Records => self.blob(null),
            Kind::Array { nullable: can, item } => self.array(can && null, item),
            Kind::Struct(schema) => self.structure(schema),
            Kind::NullableStruct(schema) => {
                self.out.bytes.push(if null { 0xff } else { 1 });
                if !null {
                    self.structure(schema);
                }
            }
        }
    }

    /// Small, large and any numbers; where defaults must not occur, one that is none.
    fn number(&mut self, bytes: usize) {
        let mut number = [0; 16];
        match self.random.u8(0..4) {
            0 if !self.not_default => number[15] = self.random.u8(0..3),
            1 if !self.not_default => number = [0xff; 16],
            _ => number.fill_with(|| self.random.u8(1..0x7f)),
        }
        self.out.bytes.extend(&number[16 - bytes..]);
    }

    fn count(&mut self, most: usize) -> usize {
        let least = usize::from(self.not_default);
        self.random.usize(least..=most)
    }

    fn text(&mut self, null: bool) {
        if null {
            return self.length(None, false);
        }
        let most = if self.random.u8(..) < 20 { 300 } else { 12 };
        let count = self.count(most);
        let letters = ['a', 'Z', '_', '.', 'é', '世'];
        let text: String = (0..count).filter_map(|_| self.random.choice(letters)).collect();
        self.length(Some(text.len()), false);
        self.out.bytes.extend(text.bytes());
    }

    fn blob(&mut self, null: bool) {
        if null {
            return self.length(None, true);
        }
        let most = if self.random.u8(..) < 20 { 300 } else { 12 };
        let count = self.count(most);
        self.length(Some(count), true);
        for _ in 0..count {
            self.out.bytes.push(self.random.u8(..));
        }
    }

    fn array(&mut self, null: bool, item: &Kind) {
        if null {
            return self.length(None, true);
        }
        let most = if self.random.u8(..) < 5 && matches!(item, Kind::I32) { 200 } else { 3 };
        let count = self.count(most);
        self.length(Some(count), true);
        for _ in 0..count {
            self.value(item, false);
        }
    }

    fn length(&mut self, length: Option<usize>, wide: bool) {
        let start = self.out.bytes.len();
        let signed = length.map_or(-1, |length| length as i32);
        match (self.version.flexible, wide) {
            (true, _) => return self.uvarint_length((signed + 1) as u32),
            (false, true) => self.out.bytes.extend(signed.to_be_bytes()),
            (false, false) => self.out.bytes.extend((signed as i16).to_be_bytes()),
        }
        self.out.lengths.push((start, self.out.bytes.len() - start));
    }

    fn uvarint_length(&mut self, value: u32) {
        let start = self.out.bytes.len();
        self.uvarint(value);
        self.out.lengths.push((start, self.out.bytes.len() - start));
    }

    fn uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.out.bytes.push((value & 0x7f) as u8 | 0x80);
            value /= 0x80;
        }
        self.out.bytes.push(value as u8);
    }
}

/// Calls `check` with generated messages of every pair and version; a failure names what replays
/// it.
fn for_each_generated(check: impl Fn(&Pair, Version, &Generated)) {
    let _turn = alone();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for pair in pairs() {
        let versions = pair.key.api().versions;
        for number in versions.first..=versions.last {
            let version = pair.key.version(number);
            for _ in 0..ROUNDS {
                let generated = Generator::message(random.fork(), pair.schema, version);
                check(&pair, version, &generated);
            }
        }
    }
}

/// Goal: the two codecs agree. Method: generated bytes through ours and through theirs come out the
/// same, and ours reads the same value from both.
#[test]
fn every_message_and_version_agrees_with_the_oracle() {
    for_each_generated(|pair, version, generated| {
        let (name, number, bytes) = (pair.name, version.number, &generated.bytes);
        let ours = (pair.ours_again)(bytes, version);
        assert_eq!(ours.as_ref(), Ok(bytes), "{name} {number}: ours");
        let (first, last) = pair.theirs_versions;
        if number < first || last < number {
            return;
        }
        let theirs = (pair.theirs_again)(bytes, number);
        assert_eq!(theirs.as_ref(), Ok(bytes), "{name} {number}: theirs");
        let theirs = theirs.expect("it was compared");
        assert!((pair.ours_equal)(bytes, &theirs, version), "{name} {number}: values");
    });
}

/// Goal: nobody believes that a version was compared when it was not. Method: the list, exactly.
#[test]
fn the_versions_that_the_oracle_lacks_are_known() {
    let mut unknown = Vec::new();
    for pair in pairs() {
        let versions = pair.key.api().versions;
        let (first, last) = pair.theirs_versions;
        let lacks = |number: &i16| *number < first || last < *number;
        unknown.extend((versions.first..=versions.last).filter(lacks).map(|n| (pair.name, n)));
    }
    assert_eq!(unknown, UNKNOWN_TO_THE_ORACLE);
    let compared: Vec<ApiKey> = pairs().iter().step_by(2).map(|pair| pair.key).collect();
    let table: Vec<ApiKey> = TABLE.iter().map(|api| api.key).collect();
    assert_eq!(compared, table, "every key of the table is compared");
}

/// Goal: the versions that the oracle lacks are Kafka's too. Method: encodings that Kafka's own
/// classes confirmed come out of our codec as they went in.
#[test]
fn the_versions_that_the_oracle_lacks_agree_with_kafka() {
    let _turn = alone();
    let listed: Vec<_> = VECTORS.iter().map(|(name, number, _)| (*name, *number)).collect();
    assert_eq!(listed, UNKNOWN_TO_THE_ORACLE);
    for (name, number, vectors) in VECTORS {
        let pairs = pairs();
        let pair = pairs.iter().find(|pair| pair.name == *name).expect("it is in the table");
        for vector in *vectors {
            let digits = |at: usize| u8::from_str_radix(&vector[at..at + 2], 16);
            let bytes: Result<Vec<u8>, _> = (0..vector.len()).step_by(2).map(digits).collect();
            let bytes = bytes.expect("vectors are hexadecimal");
            let ours = (pair.ours_again)(&bytes, pair.key.version(*number));
            assert_eq!(ours, Ok(bytes), "{name} {number}");
        }
    }
}

/// Goal: no byte is trusted. Method: bytes of true encodings bent at random; decoding ends with a
/// value or an error, within the bound of the decoder.
#[test]
fn bent_bytes_neither_panic_nor_exceed_the_decoding_bound() {
    for_each_generated(|pair, version, generated| {
        let mut random = fastrand::Rng::with_seed(generated.bytes.len() as u64);
        for _ in 0..20 {
            let mut bytes = generated.bytes.clone();
            for _ in 0..random.usize(1..4) {
                let Some(byte) = random.choice(bytes.iter_mut()) else { return };
                *byte = random.u8(..);
            }
            let (_, peak) = peak_bytes(|| (pair.ours_again)(&bytes, version));
            let bound = 2 * (bytes.len() * DECODED_FACTOR_MAX + DECODED_BYTES_FREE);
            assert!(peak <= bound, "{} {}: {peak} bytes", pair.name, version.number);
        }
    });
}

/// Goal: dense arrays of tiny elements do not multiply memory. Method: an array of empty strings as
/// large as a frame allows is refused; one that fits the bound is within it.
#[test]
fn dense_arrays_stay_within_the_decoding_bound() {
    let _turn = alone();
    const FRAME_BYTES: usize = 4 << 20;
    let version = ApiKey::DeleteTopics.version(4);
    let mut frame = vec![1; FRAME_BYTES]; // compact empty strings
    let count = (FRAME_BYTES - 10) as u32;
    frame[..4].copy_from_slice(&[
        count as u8 | 0x80,
        (count >> 7) as u8 | 0x80,
        (count >> 14) as u8 | 0x80,
        (count >> 21) as u8,
    ]);
    let decode = || decode_body::<ours::delete_topics::DeleteTopicsRequest>(&frame, version);
    let (refused, peak) = peak_bytes(|| decode().is_err());
    assert!(refused && peak < 64 * 1024, "{peak} bytes");
}

/// Goal: no part of a message passes for the whole. Method: every truncation; a byte too many.
#[test]
fn every_truncation_is_refused() {
    for_each_generated(|pair, version, generated| {
        let bytes = &generated.bytes;
        for cut in 0..bytes.len() {
            let cut_off = (pair.ours_again)(&bytes[..cut], version);
            assert!(cut_off.is_err(), "{} {}: {cut} bytes", pair.name, version.number);
        }
        let more = [&bytes[..], &[0]].concat();
        let trailing = Err(WireError::TrailingBytes { count_bytes: 1 });
        assert_eq!((pair.ours_again)(&more, version), trailing, "{}", pair.name);
    });
}

/// Goal: a count or length that lies costs nothing. Method: each in turn made huge, or larger by a
/// few; decoding fails and never holds more than twice the bytes received.
#[test]
fn lying_lengths_are_refused_without_memory_for_the_lie() {
    const FREE_BYTES: usize = 16 * 1024; // also for the harness, which reports meanwhile
    for_each_generated(|pair, version, generated| {
        let bytes = &generated.bytes;
        for &(start, length_bytes) in &generated.lengths {
            let old = &bytes[start..start + length_bytes];
            let huge: &[u8] = match (version.flexible, length_bytes) {
                (true, _) => &[0xff, 0xff, 0xff, 0xff, 0x0f],
                (false, 2) => &[0x7f, 0xff],
                (false, _) => &[0x7f, 0xff, 0xff, 0xff],
            };
            let beyond = bytes.len() as u32 + 2;
            let beyond: Vec<u8> = match (version.flexible, length_bytes) {
                (true, _) => vec![beyond as u8 | 0x80, (beyond >> 7) as u8 | 0x80, 0x01],
                (false, 2) => (beyond as u16).to_be_bytes().to_vec(),
                (false, _) => beyond.to_be_bytes().to_vec(),
            };
            for lie in [huge, &beyond] {
                let lying = [&bytes[..start], lie, &bytes[start + old.len()..]].concat();
                let (result, peak) = peak_bytes(|| (pair.ours_again)(&lying, version));
                let what = format!("{} {}, length at {start}", pair.name, version.number);
                assert!(result.is_err(), "{what}");
                assert!(peak <= 2 * lying.len() + FREE_BYTES, "{what}: {peak} bytes");
            }
        }
    });
}
