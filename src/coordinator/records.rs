//! The records of `__consumer_offsets`, byte for byte as Kafka's own coordinator writes them.
//!
//! A key is the number of its kind (16 bits) and the kind's fields; a value is its version (16
//! bits) and its fields; no value deletes. Kafka's formatter tools read what is written here, and
//! what any Kafka since 0.9 wrote is read. **Invariant:** bytes that are no record of these give a
//! [`RecordError`], never a panic.

use crate::base::ids::TopicId;
use crate::protocol::schema::{message, nullable};
use crate::protocol::wire::{Reader, Version, Wire, WireError, Writer};

/// One record to append: no value deletes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Bytes of `__consumer_offsets` that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the key of a coordinator record does not decode: {0}")]
    Key(WireError),
    #[error("the value of a coordinator record of kind {kind} does not decode: {error}")]
    Value { kind: i16, error: WireError },
    #[error("version {version} of the value of kind {kind} is not known")]
    Version { kind: i16, version: i16 },
    #[error("record of kind {kind} for group {group_id:?} contradicts what was loaded: {why}")]
    Contradiction { kind: i16, group_id: String, why: &'static str },
}

message! {
    /// Kinds 0 and 1: a committed offset.
    OffsetCommitKey<'a> {
        0.. => group: &'a str,
        0.. => topic: &'a str,
        0.. => partition: i32,
    }
}

message! {
    /// Versions 0 to 4, flexible from 4; version 1 alone carries an expiry of its own.
    OffsetCommitValue<'a> {
        0.. => offset: i64,
        3.. => leader_epoch: i32 = -1,
        0.. => metadata: &'a str,
        0.. => commit_timestamp: i64,
        1..=1 => expire_timestamp: i64 = -1,
    }
    tagged {
        0, 4.. => topic_id: TopicId,
    }
}

message! {
    /// Kinds 2, 3 and 6: what there is once a group.
    GroupKey<'a> {
        0.. => group: &'a str,
    }
}

message! {
    /// Kinds 5, 7 and 8: what there is once a member.
    MemberKey<'a> {
        0.. => group: &'a str,
        0.. => member: &'a str,
    }
}

message! {
    /// Kind 16.
    RegularExpressionKey<'a> {
        0.. => group: &'a str,
        0.. => regular_expression: &'a str,
    }
}

message! {
    /// A classic group. Versions 0 to 4, flexible from 4.
    GroupMetadataValue<'a> {
        0.. => protocol_type: &'a str,
        0.. => generation: i32,
        0.. => protocol: Option<&'a str>,
        0.. => leader: Option<&'a str>,
        2.. => current_state_timestamp: i64 = -1,
        0.. => members: Vec<MemberMetadata<'a>>,
    }
}

message! {
    MemberMetadata<'a> {
        0.. => member_id: &'a str,
        3.. => group_instance_id: Option<&'a str>,
        0.. => client_id: &'a str,
        0.. => client_host: &'a str,
        1.. => rebalance_timeout: i32,
        0.. => session_timeout: i32,
        0.. => subscription: &'a [u8],
        0.. => assignment: &'a [u8],
    }
}

message! {
    /// A group of the consumer protocol: that it is, and its epoch.
    ConsumerGroupMetadataValue {
        0.. => epoch: i32,
    }
    tagged {
        0, 0.. => metadata_hash: i64,
    }
}

message! {
    ConsumerGroupMemberMetadataValue<'a> {
        0.. => instance_id: Option<&'a str>,
        0.. => rack_id: Option<&'a str>,
        0.. => client_id: &'a str,
        0.. => client_host: &'a str,
        0.. => subscribed_topic_names: Vec<&'a str>,
        0.. => subscribed_topic_regex: Option<&'a str>,
        0.. => rebalance_timeout_ms: i32 = -1,
        0.. => server_assignor: Option<&'a str>,
    }
    tagged {
        0, 0.. => classic_member_metadata: Option<ClassicMemberMetadata<'a>>,
    }
}

message! {
    /// What a member of the classic protocol sent when it joined a group of the consumer protocol.
    ClassicMemberMetadata<'a> {
        0.. => session_timeout_ms: i32,
        0.. => supported_protocols: Vec<ClassicProtocol<'a>>,
    }
}

nullable!(ClassicMemberMetadata<'a>);

message! {
    ClassicProtocol<'a> {
        0.. => name: &'a str,
        0.. => metadata: &'a [u8],
    }
}

message! {
    ConsumerGroupTargetAssignmentMetadataValue {
        0.. => assignment_epoch: i32,
    }
    tagged {
        0, 0.. => assignment_timestamp: i64,
    }
}

message! {
    ConsumerGroupTargetAssignmentMemberValue {
        0.. => topic_partitions: Vec<TargetPartitions>,
    }
}

message! {
    TargetPartitions {
        0.. => topic_id: TopicId,
        0.. => partitions: Vec<i32>,
    }
}

message! {
    ConsumerGroupCurrentMemberAssignmentValue {
        0.. => member_epoch: i32,
        0.. => previous_member_epoch: i32,
        0.. => state: i8,
        0.. => assigned_partitions: Vec<CurrentPartitions>,
        0.. => partitions_pending_revocation: Vec<CurrentPartitions>,
    }
}

message! {
    CurrentPartitions {
        0.. => topic_id: TopicId,
        0.. => partitions: Vec<i32>,
    }
    tagged {
        /// In which epoch the member got each of the partitions (KIP-1251).
        0, 0.. => assignment_epochs: Option<Vec<i32>>,
    }
}

message! {
    ConsumerGroupRegularExpressionValue<'a> {
        0.. => topics: Vec<&'a str>,
        0.. => version: i64,
        0.. => timestamp: i64,
    }
}

/// A record as it was read, borrowed from its bytes; `None` deletes.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded<'a> {
    Offset(OffsetCommitKey<'a>, Option<OffsetCommitValue<'a>>),
    Group(GroupKey<'a>, Option<GroupMetadataValue<'a>>),
    ConsumerGroup(GroupKey<'a>, Option<ConsumerGroupMetadataValue>),
    ConsumerMember(MemberKey<'a>, Option<ConsumerGroupMemberMetadataValue<'a>>),
    Target(GroupKey<'a>, Option<ConsumerGroupTargetAssignmentMetadataValue>),
    TargetMember(MemberKey<'a>, Option<ConsumerGroupTargetAssignmentMemberValue>),
    CurrentMember(MemberKey<'a>, Option<ConsumerGroupCurrentMemberAssignmentValue>),
    RegularExpression(RegularExpressionKey<'a>, Option<ConsumerGroupRegularExpressionValue<'a>>),
    /// A kind that this broker does not serve, of a newer or a share or streams group: left alone.
    Foreign(i16),
}

/// The numbers of the kinds, in front of each key.
pub mod kind {
    pub const OFFSET_COMMIT_OLD: i16 = 0;
    pub const OFFSET_COMMIT: i16 = 1;
    pub const GROUP: i16 = 2;
    pub const CONSUMER_GROUP: i16 = 3;
    pub const CONSUMER_MEMBER: i16 = 5;
    pub const TARGET: i16 = 6;
    pub const TARGET_MEMBER: i16 = 7;
    pub const CURRENT_MEMBER: i16 = 8;
    pub const REGULAR_EXPRESSION: i16 = 16;
}

const OFFSET_VERSION: i16 = 4;
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
const OFFSET_FLEXIBLE_FROM: i16 = 4;
const GROUP_VERSION: i16 = 3; // as Kafka 4.3: older brokers still read it
const GROUP_FLEXIBLE_FROM: i16 = 4;
const CONSUMER_VERSION: i16 = 0;
const CONSUMER_FLEXIBLE_FROM: i16 = 0;
const KEY_VERSION: Version = Version { number: 0, flexible: false };

/// Reads one record. Kinds and tags of newer brokers are passed over.
///
/// # Errors
/// [`RecordError`]: the bytes are none of Kafka's.
pub fn decode<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Result<Loaded<'a>, RecordError> {
    let mut reader = Reader::new(key);
    let kind = i16::read(&mut reader, KEY_VERSION).map_err(RecordError::Key)?;
    Ok(match kind {
        kind::OFFSET_COMMIT_OLD | kind::OFFSET_COMMIT => {
            Loaded::Offset(key_of(reader)?, value_of(kind, value, 0..=4, OFFSET_FLEXIBLE_FROM)?)
        }
        kind::GROUP => {
            Loaded::Group(key_of(reader)?, value_of(kind, value, 0..=4, GROUP_FLEXIBLE_FROM)?)
        }
        kind::CONSUMER_GROUP => Loaded::ConsumerGroup(key_of(reader)?, consumer(kind, value)?),
        kind::CONSUMER_MEMBER => Loaded::ConsumerMember(key_of(reader)?, consumer(kind, value)?),
        kind::TARGET => Loaded::Target(key_of(reader)?, consumer(kind, value)?),
        kind::TARGET_MEMBER => Loaded::TargetMember(key_of(reader)?, consumer(kind, value)?),
        kind::CURRENT_MEMBER => Loaded::CurrentMember(key_of(reader)?, consumer(kind, value)?),
        kind::REGULAR_EXPRESSION => {
            Loaded::RegularExpression(key_of(reader)?, consumer(kind, value)?)
        }
        foreign => Loaded::Foreign(foreign),
    })
}

fn key_of<'a, K: Wire<'a>>(mut reader: Reader<'a>) -> Result<K, RecordError> {
    let key = K::read(&mut reader, KEY_VERSION).map_err(RecordError::Key)?;
    reader.finish().map_err(RecordError::Key)?;
    Ok(key)
}

fn consumer<'a, V: Wire<'a>>(kind: i16, value: Option<&'a [u8]>) -> Result<Option<V>, RecordError> {
    value_of(kind, value, 0..=0, CONSUMER_FLEXIBLE_FROM)
}

fn value_of<'a, V: Wire<'a>>(
    kind: i16,
    value: Option<&'a [u8]>,
    versions: std::ops::RangeInclusive<i16>,
    flexible_from: i16,
) -> Result<Option<V>, RecordError> {
    let Some(bytes) = value else { return Ok(None) };
    let refused = |error| RecordError::Value { kind, error };
    let mut reader = Reader::new(bytes);
    let number = i16::read(&mut reader, KEY_VERSION).map_err(refused)?;
    if !versions.contains(&number) {
        return Err(RecordError::Version { kind, version: number });
    }
    let version = Version { number, flexible: number >= flexible_from };
    let read = V::read(&mut reader, version).map_err(refused)?;
    reader.finish().map_err(refused)?;
    Ok(Some(read))
}

fn encode<'a>(head: i16, body: &impl Wire<'a>, version: Version) -> Vec<u8> {
    let mut writer = Writer::with_capacity(64);
    writer.put(&head.to_be_bytes());
    body.write(&mut writer, version);
    writer.finish().head
}

fn key_bytes<'a>(kind: i16, key: &impl Wire<'a>) -> Vec<u8> {
    encode(kind, key, KEY_VERSION)
}

/// A committed offset; `None` deletes it.
pub fn offset(key: &OffsetCommitKey<'_>, value: Option<&OffsetCommitValue<'_>>) -> Record {
    let value = value.map(|value| {
        let with_expiry = value.expire_timestamp >= 0;
        let number = if with_expiry { OFFSET_VERSION_WITH_EXPIRY } else { OFFSET_VERSION };
        encode(number, value, Version { number, flexible: number >= OFFSET_FLEXIBLE_FROM })
    });
    Record { key: key_bytes(kind::OFFSET_COMMIT, key), value }
}

/// A classic group; `None` deletes it.
pub fn group(group_id: &str, value: Option<&GroupMetadataValue<'_>>) -> Record {
    let version = Version { number: GROUP_VERSION, flexible: GROUP_VERSION >= GROUP_FLEXIBLE_FROM };
    let value = value.map(|value| encode(GROUP_VERSION, value, version));
    Record { key: key_bytes(kind::GROUP, &GroupKey { group: group_id }), value }
}

fn consumer_value<'a>(value: Option<&impl Wire<'a>>) -> Option<Vec<u8>> {
    let version = Version { number: CONSUMER_VERSION, flexible: true };
    value.map(|value| encode(CONSUMER_VERSION, value, version))
}

fn of_group<'a>(kind: i16, group_id: &str, value: Option<&impl Wire<'a>>) -> Record {
    let key = key_bytes(kind, &GroupKey { group: group_id });
    Record { key, value: consumer_value(value) }
}

fn of_member<'a>(
    kind: i16,
    group_id: &str,
    member_id: &str,
    value: Option<&impl Wire<'a>>,
) -> Record {
    let key = key_bytes(kind, &MemberKey { group: group_id, member: member_id });
    Record { key, value: consumer_value(value) }
}

/// The epoch of a group of the consumer protocol.
pub fn consumer_group(group_id: &str, value: Option<&ConsumerGroupMetadataValue>) -> Record {
    of_group(kind::CONSUMER_GROUP, group_id, value)
}

/// What a member of the consumer protocol told of itself.
pub fn consumer_member(
    group_id: &str,
    member_id: &str,
    value: Option<&ConsumerGroupMemberMetadataValue<'_>>,
) -> Record {
    of_member(kind::CONSUMER_MEMBER, group_id, member_id, value)
}

/// The epoch of a group's target assignment.
pub fn target(
    group_id: &str,
    value: Option<&ConsumerGroupTargetAssignmentMetadataValue>,
) -> Record {
    of_group(kind::TARGET, group_id, value)
}

/// What a member is to own.
pub fn target_member(
    group_id: &str,
    member_id: &str,
    value: Option<&ConsumerGroupTargetAssignmentMemberValue>,
) -> Record {
    of_member(kind::TARGET_MEMBER, group_id, member_id, value)
}

/// What a member owns and gives up.
pub fn current_member(
    group_id: &str,
    member_id: &str,
    value: Option<&ConsumerGroupCurrentMemberAssignmentValue>,
) -> Record {
    of_member(kind::CURRENT_MEMBER, group_id, member_id, value)
}

/// The topics that a regular expression matched.
pub fn regular_expression(
    group_id: &str,
    regular_expression: &str,
    value: Option<&ConsumerGroupRegularExpressionValue<'_>>,
) -> Record {
    let key = RegularExpressionKey { group: group_id, regular_expression };
    Record { key: key_bytes(kind::REGULAR_EXPRESSION, &key), value: consumer_value(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId(0x0102_0304_0506_0708_1112_1314_1516_1718);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    /// The bytes are what Kafka 4.3.1 made of the same fields.
    #[track_caller]
    fn same(record: &Record, key: &str, value: &str) {
        assert_eq!(hex(&record.key), key);
        assert_eq!(hex(record.value.as_ref().unwrap()), value);
        decode(&record.key, record.value.as_deref()).unwrap();
    }

    /// Goal: Kafka reads our offsets and we read all of its versions. Method: bytes of Kafka's.
    #[test]
    fn offsets_are_kafkas_own_records() {
        let key = OffsetCommitKey { group: "grp", topic: "top", partition: 5 };
        let newest = OffsetCommitValue {
            offset: 42,
            leader_epoch: 7,
            metadata: "meta",
            commit_timestamp: 1_700_000_000_000,
            expire_timestamp: -1,
            topic_id: ID,
        };
        let key_hex = "000100036772700003746f7000000005";
        let newest_hex = "0004000000000000002a00000007056d6574610000018bcfe56800\
            01001001020304050607081112131415161718";
        same(&offset(&key, Some(&newest)), key_hex, newest_hex);
        let expiring_hex = "0001000000000000002a00046d6574610000018bcfe568000000018bcfe58f0f";
        let expiring = OffsetCommitValue { expire_timestamp: 1_700_000_009_999, ..newest.clone() };
        same(&offset(&key, Some(&expiring)), key_hex, expiring_hex);
        for (value_hex, leader_epoch) in [
            ("0000000000000000002a00046d6574610000018bcfe56800", -1),
            ("0002000000000000002a00046d6574610000018bcfe56800", -1),
            ("0003000000000000002a0000000700046d6574610000018bcfe56800", 7),
        ] {
            let value =
                OffsetCommitValue { leader_epoch, topic_id: TopicId::ZERO, ..newest.clone() };
            let read = decode(&bytes(key_hex), Some(&bytes(value_hex))).map(|_| ());
            assert_eq!(read, Ok(()));
            let (key_raw, value_raw) = (bytes(key_hex), bytes(value_hex));
            let read = decode(&key_raw, Some(&value_raw));
            assert_eq!(read, Ok(Loaded::Offset(key.clone(), Some(value))));
        }
    }

    /// Goal: the same of classic groups. Method: bytes of Kafka's, versions 0 to 4.
    #[test]
    fn classic_groups_are_kafkas_own_records() {
        let member = MemberMetadata {
            member_id: "m1",
            group_instance_id: Some("i1"),
            client_id: "c",
            client_host: "/h",
            rebalance_timeout: 20_000,
            session_timeout: 10_000,
            subscription: &[1, 2],
            assignment: &[3],
        };
        let value = GroupMetadataValue {
            protocol_type: "consumer",
            generation: 3,
            protocol: Some("range"),
            leader: Some("m1"),
            current_state_timestamp: 1_700_000_000_000,
            members: vec![member],
        };
        let key_hex = "00020003677270";
        let value_hex = "00030008636f6e73756d657200000003000572616e676500026d310000018bcfe56800\
            0000000100026d310002693100016300022f6800004e20000027100000000201020000000103";
        same(&group("grp", Some(&value)), key_hex, value_hex);
        for (version, value_hex) in [
            "00000008636f6e73756d657200000003000572616e676500026d310000000100026d3100016300022f68\
                000027100000000201020000000103",
            "00010008636f6e73756d657200000003000572616e676500026d310000000100026d3100016300022f68\
                00004e20000027100000000201020000000103",
            "00020008636f6e73756d657200000003000572616e676500026d310000018bcfe568000000000100026d\
                3100016300022f6800004e20000027100000000201020000000103",
            value_hex,
            "000409636f6e73756d6572000000030672616e6765036d310000018bcfe5680002036d31036931026303\
                2f6800004e200000271003010202030000",
        ]
        .iter()
        .enumerate()
        {
            let mut value = value.clone();
            let member = &mut value.members[0];
            if version < 1 {
                member.rebalance_timeout = 0;
            }
            if version < 2 {
                value.current_state_timestamp = -1;
            }
            if version < 3 {
                member.group_instance_id = None;
            }
            let key = GroupKey { group: "grp" };
            let (key_raw, value_raw) = (bytes(key_hex), bytes(value_hex));
            let read = decode(&key_raw, Some(&value_raw));
            assert_eq!(read, Ok(Loaded::Group(key, Some(value))), "version {version}");
        }
    }

    /// Goal: the same of KIP-848's members. Method: bytes of Kafka's.
    #[test]
    fn members_of_kip_848_are_kafkas_own_records() {
        let protocol = ClassicProtocol { name: "range", metadata: &[9] };
        let mut value = ConsumerGroupMemberMetadataValue {
            instance_id: Some("i"),
            rack_id: None,
            client_id: "c",
            client_host: "/h",
            subscribed_topic_names: vec!["a", "b"],
            subscribed_topic_regex: Some("x.*"),
            rebalance_timeout_ms: 1000,
            server_assignor: Some("range"),
            classic_member_metadata: Some(ClassicMemberMetadata {
                session_timeout_ms: 500,
                supported_protocols: vec![protocol],
            }),
        };
        same(
            &consumer_member("grp", "m1", Some(&value)),
            "0005000367727000026d31",
            "00000269000263032f68030261026204782e2a000003e80672616e6765\
                01001001000001f4020672616e676502090000",
        );
        value.instance_id = None;
        value.rack_id = Some("r");
        value.subscribed_topic_names = vec!["a"];
        value.subscribed_topic_regex = Some("");
        value.server_assignor = None;
        value.classic_member_metadata = None;
        same(
            &consumer_member("grp", "m1", Some(&value)),
            "0005000367727000026d31",
            "00000002720263032f6802026101000003e80000",
        );
    }

    /// Goal: the same of KIP-848's other kinds. Method: bytes of Kafka's.
    #[test]
    fn groups_and_assignments_of_kip_848_are_kafkas_own_records() {
        let value = ConsumerGroupMetadataValue { epoch: 9, metadata_hash: 77 };
        let value_hex = "000000000009010008000000000000004d";
        same(&consumer_group("grp", Some(&value)), "00030003677270", value_hex);
        let value = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: 4,
            assignment_timestamp: 123_456,
        };
        let value_hex = "000000000004010008000000000001e240";
        same(&target("grp", Some(&value)), "00060003677270", value_hex);
        let partitions = TargetPartitions { topic_id: ID, partitions: vec![0, 1, 2] };
        let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: vec![partitions] };
        let value_hex = "00000201020304050607081112131415161718040000000000000001000000020000";
        same(&target_member("grp", "m1", Some(&value)), "0007000367727000026d31", value_hex);
        let owned = CurrentPartitions {
            topic_id: ID,
            partitions: vec![0, 1],
            assignment_epochs: Some(vec![3, 4]),
        };
        let given_up =
            CurrentPartitions { topic_id: ID, partitions: vec![2], assignment_epochs: None };
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: 5,
            previous_member_epoch: 4,
            state: 2,
            assigned_partitions: vec![owned],
            partitions_pending_revocation: vec![given_up],
        };
        same(
            &current_member("grp", "m1", Some(&value)),
            "0008000367727000026d31",
            "0000000000050000000402020102030405060708111213141516171803000000000000000101000903\
                0000000300000004020102030405060708111213141516171802000000020000",
        );
        let value =
            ConsumerGroupRegularExpressionValue { topics: vec!["xa"], version: 8, timestamp: 99 };
        let value_hex = "0000020378610000000000000008000000000000006300";
        same(
            &regular_expression("grp", "x.*", Some(&value)),
            "001000036772700003782e2a",
            value_hex,
        );
    }

    /// Goal: damage is an error, a newer kind is none. Method: cut and change the bytes of records.
    #[test]
    fn damaged_records_are_typed_errors() {
        let whole = group("grp", Some(&GroupMetadataValue::default()));
        let value = whole.value.unwrap();
        for cut in 0..value.len() {
            assert!(decode(&whole.key, Some(&value[..cut])).is_err(), "cut at {cut}");
        }
        assert!(decode(&whole.key[..3], None).is_err());
        assert!(decode(&[], None).is_err());
        let error = decode(&whole.key, Some(&[0, 9])).unwrap_err();
        assert_eq!(error, RecordError::Version { kind: kind::GROUP, version: 9 });
        assert_eq!(decode(&[0, 99, 1], Some(&[1])), Ok(Loaded::Foreign(99)));
    }
}
