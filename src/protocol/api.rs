//! The keys that exist here, with their versions: the one table that everything derives from.
//!
//! Decoding, the headers' versions and what ApiVersions advertises all read [`TABLE`], so the codec
//! and the advertisement can't disagree. Every key that has a codec has a handler.

use super::schema::Span;
use super::wire::Version;

/// What a request asks for, by Kafka's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    CreatePartitions = 37,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    DescribeProducers = 61,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
}

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    pub name: &'static str,
    /// What is decoded and encoded.
    pub versions: Span,
    /// What ApiVersions says of it.
    pub advertised: Span,
    /// First version with compact encodings and tagged fields.
    pub flexible_from: Option<i16>,
}

/// Every key with a codec, by number: Kafka 4.4's ranges.
pub const TABLE: &[Api] = &[
    row(ApiKey::Produce, "Produce", 3, 13, Some(9)),
    row(ApiKey::Fetch, "Fetch", 4, 18, Some(12)),
    row(ApiKey::ListOffsets, "ListOffsets", 1, 11, Some(6)),
    row(ApiKey::Metadata, "Metadata", 0, 13, Some(9)),
    row(ApiKey::OffsetCommit, "OffsetCommit", 2, 10, Some(8)),
    row(ApiKey::OffsetFetch, "OffsetFetch", 1, 10, Some(6)),
    row(ApiKey::FindCoordinator, "FindCoordinator", 0, 6, Some(3)),
    row(ApiKey::JoinGroup, "JoinGroup", 0, 9, Some(6)),
    row(ApiKey::Heartbeat, "Heartbeat", 0, 4, Some(4)),
    row(ApiKey::LeaveGroup, "LeaveGroup", 0, 5, Some(4)),
    row(ApiKey::SyncGroup, "SyncGroup", 0, 5, Some(4)),
    row(ApiKey::DescribeGroups, "DescribeGroups", 0, 6, Some(5)),
    row(ApiKey::ListGroups, "ListGroups", 0, 5, Some(3)),
    row(ApiKey::ApiVersions, "ApiVersions", 0, 5, Some(3)),
    row(ApiKey::CreateTopics, "CreateTopics", 2, 7, Some(5)),
    row(ApiKey::DeleteTopics, "DeleteTopics", 1, 6, Some(4)),
    row(ApiKey::DeleteRecords, "DeleteRecords", 0, 2, Some(2)),
    row(ApiKey::InitProducerId, "InitProducerId", 0, 6, Some(2)),
    row(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, Some(4)),
    row(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4, Some(4)),
    row(ApiKey::AlterConfigs, "AlterConfigs", 0, 2, Some(2)),
    row(ApiKey::AlterReplicaLogDirs, "AlterReplicaLogDirs", 1, 2, Some(2)),
    row(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 5, Some(2)),
    row(ApiKey::CreatePartitions, "CreatePartitions", 0, 3, Some(2)),
    row(ApiKey::DeleteGroups, "DeleteGroups", 0, 3, Some(2)),
    row(ApiKey::ElectLeaders, "ElectLeaders", 0, 2, Some(2)),
    row(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1, Some(1)),
    row(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", 0, 1, Some(0)),
    row(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0, Some(0)),
    row(ApiKey::OffsetDelete, "OffsetDelete", 0, 0, None),
    row(ApiKey::DescribeQuorum, "DescribeQuorum", 0, 2, Some(0)),
    row(ApiKey::UpdateFeatures, "UpdateFeatures", 0, 2, Some(0)),
    row(ApiKey::DescribeCluster, "DescribeCluster", 0, 2, Some(0)),
    row(ApiKey::DescribeProducers, "DescribeProducers", 0, 0, Some(0)),
    row(ApiKey::ConsumerGroupHeartbeat, "ConsumerGroupHeartbeat", 0, 1, Some(0)),
    row(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe", 0, 1, Some(0)),
    row(ApiKey::ListConfigResources, "ListConfigResources", 0, 1, Some(0)),
    row(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", 0, 0, Some(0)),
];

const fn row(
    key: ApiKey,
    name: &'static str,
    first: i16,
    last: i16,
    flexible_from: Option<i16>,
) -> Api {
    let versions = Span { first, last };
    let advertised = match key {
        // librdkafka takes an advertised minimum of 0 as the sign of features that came long ago,
        // and turns compression off without it; 0 to 2 are refused all the same (KAFKA-18659).
        ApiKey::Produce => Span { first: 0, last },
        // Version 6 belongs to two-phase commits (KIP-939) and is still flagged unstable.
        ApiKey::InitProducerId => Span { first, last: 5 },
        _ => versions,
    };
    Api { key, name, versions, advertised, flexible_from }
}

impl ApiKey {
    /// Kafka's number.
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The key of a number, if there is a codec for it.
    pub fn from_number(number: i16) -> Option<ApiKey> {
        let index = TABLE.binary_search_by_key(&number, |api| api.key.number()).ok()?;
        Some(TABLE[index].key)
    }

    /// Its row of the table.
    pub fn api(self) -> &'static Api {
        let index = TABLE.binary_search_by_key(&self, |api| api.key);
        &TABLE[index.expect("every key has a row")]
    }

    /// Version `number` of its messages.
    pub fn version(self, number: i16) -> Version {
        self.api().version(number)
    }
}

impl Api {
    /// Version `number` of its messages.
    pub fn version(&self, number: i16) -> Version {
        let flexible = self.flexible_from.is_some_and(|first| number >= first);
        Version { number, flexible }
    }

    /// Whether the header of a request of version `number` has tagged fields (header version 2; 1
    /// otherwise).
    pub fn request_header_flexible(&self, number: i16) -> bool {
        self.version(number).flexible
    }

    /// Whether the header of an answer of version `number` has tagged fields (header version 1; 0
    /// otherwise). Never for ApiVersions: the client does not know yet what the broker speaks.
    pub fn response_header_flexible(&self, number: i16) -> bool {
        self.key != ApiKey::ApiVersions && self.version(number).flexible
    }
}

/// What ApiVersions answers: each key with the versions it may be asked in.
pub fn advertised() -> impl Iterator<Item = (ApiKey, Span)> {
    TABLE.iter().map(|api| (api.key, api.advertised))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the look-ups may search by halves. Method: compare each row with the one before.
    #[test]
    fn the_table_is_in_order_and_finds_every_key() {
        assert!(TABLE.is_sorted_by_key(|api| api.key));
        for api in TABLE {
            assert_eq!(ApiKey::from_number(api.key.number()), Some(api.key));
            assert_eq!(api.key.api(), api);
            assert!(api.versions.contains(api.advertised.last), "{}", api.name);
            assert!(api.advertised.first <= api.versions.first, "{}", api.name);
        }
        assert_eq!(ApiKey::from_number(4), None);
        assert_eq!(ApiKey::from_number(-1), None);
    }

    /// Goal: the traps of the advertisement. Method: look at the two rows and the header.
    #[test]
    fn produce_is_advertised_from_zero_and_api_versions_has_a_plain_header() {
        assert_eq!(ApiKey::Produce.api().advertised, Span { first: 0, last: 13 });
        assert_eq!(ApiKey::InitProducerId.api().advertised.last, 5);
        assert!(!ApiKey::ApiVersions.api().response_header_flexible(5));
        assert!(ApiKey::ApiVersions.api().request_header_flexible(3));
        assert!(advertised().any(|(key, _)| key == ApiKey::Fetch));
    }
}
