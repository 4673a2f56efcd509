//! Administering a whole node over real sockets, driven by hand-made frames: settings that are in
//! force at once and stay, the cluster as a single node describes it, questions that make no sense.

mod harness;

use harness::{Client, Node, PATIENCE, data_dir, serve_args};
use ringmain::base::ids::TopicId;
use ringmain::config::ServeArgs;
use ringmain::protocol::api::ApiKey;
use ringmain::protocol::batch::BatchBuilder;
use ringmain::protocol::compression::Codec;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::decode_response;
use ringmain::protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ringmain::protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use ringmain::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ringmain::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ringmain::protocol::messages::describe_cluster::DescribeClusterRequest;
use ringmain::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use ringmain::protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use ringmain::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, PartitionDataRequest, TopicDataRequest,
};
use ringmain::protocol::messages::describe_topic_partitions::{
    CursorRequest, DescribeTopicPartitionsRequest, TopicRequest,
};
use ringmain::protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use ringmain::protocol::messages::find_coordinator::FindCoordinatorRequest;
use ringmain::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ringmain::protocol::messages::list_config_resources::ListConfigResourcesRequest;
use ringmain::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ringmain::protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use ringmain::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use ringmain::protocol::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use ringmain::protocol::record::NewRecord;
use std::thread::{self};
use std::time::{Duration, Instant};

/// Kafka's numbers of what has settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// Kafka's numbers for setting a value and for going back to the default.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Settings of the nodes here.
const SETTINGS: &[&str] = &["offsets.topic.num.partitions=2"];

impl Client {
    /// Changes one setting; nothing as value deletes it.
    fn alter(&mut self, kind: i8, resource: &str, name: &str, value: Option<&str>) -> ErrorCode {
        let config_operation = if value.is_some() { SET } else { DELETE };
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: resource,
            configs: vec![AlterableConfig { name, config_operation, value }],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let frame = self.call(1, &request);
        let (_, answer) =
            decode_response::<IncrementalAlterConfigsRequest>(1, &frame).expect("whole");
        answer.responses[0].error_code
    }

    /// Produces one record of so many bytes to partition 0.
    fn produce_bytes(&mut self, topic: &str, bytes: usize) -> ErrorCode {
        let mut builder = BatchBuilder::new(Codec::None);
        let value = vec![b'v'; bytes];
        builder.append(&NewRecord { value: Some(&value), ..NewRecord::default() });
        self.produce(topic, 0, &builder.finish()).0
    }

    /// The interval that a member of the group is told when it joins.
    fn heartbeat_interval_ms(&mut self, group_id: &str) -> i32 {
        let request = ConsumerGroupHeartbeatRequest {
            group_id,
            member_id: "member",
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec!["words"]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        // Asking for the coordinator makes the topic that groups live in.
        let find = FindCoordinatorRequest { key: group_id, ..FindCoordinatorRequest::default() };
        self.call(3, &find);
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "the group has no coordinator");
            let frame = self.call(1, &request);
            let (_, answer) =
                decode_response::<ConsumerGroupHeartbeatRequest>(1, &frame).expect("whole");
            match answer.error_code {
                ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator => thread::sleep(Duration::from_millis(5)),
                code => {
                    assert_eq!(code, ErrorCode::None, "{:?}", answer.error_message);
                    return answer.heartbeat_interval_ms;
                }
            }
        }
    }

    /// Names of the resources of that type that have, or may have, settings.
    fn configured(&mut self, kind: i8) -> Vec<String> {
        let request = ListConfigResourcesRequest { resource_types: vec![kind] };
        let frame = self.call(1, &request);
        let (_, answer) = decode_response::<ListConfigResourcesRequest>(1, &frame).expect("whole");
        assert_eq!(answer.error_code, ErrorCode::None);
        answer.config_resources.iter().map(|found| found.resource_name.to_owned()).collect()
    }
}

/// Goal: a broker's dynamic setting is in force at once, on every shard, and after a restart; so is
/// a group's. Method: a limit that a batch breaks, an interval that a member is told.
#[test]
fn settings_are_in_force_at_once_and_stay() {
    let dir = data_dir();
    let mut node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    client.create("words", 1, &[]);
    assert_eq!(client.produce_bytes("words", 2_000), ErrorCode::None);
    assert_eq!(client.alter(BROKER, "", "message.max.bytes", Some("1000")), ErrorCode::None);
    assert_eq!(client.produce_bytes("words", 2_000), ErrorCode::MessageTooLarge);
    assert_eq!(client.alter(BROKER, "1", "message.max.bytes", Some("5000")), ErrorCode::None);
    assert_eq!(
        client.produce_bytes("words", 2_000),
        ErrorCode::None,
        "the one broker's own counts"
    );
    assert_eq!(client.alter(TOPIC, "words", "max.message.bytes", Some("500")), ErrorCode::None);
    assert_eq!(
        client.produce_bytes("words", 700),
        ErrorCode::MessageTooLarge,
        "the topic's even more"
    );
    let interval = "consumer.heartbeat.interval.ms";
    assert_eq!(client.heartbeat_interval_ms("before"), 5_000);
    assert_eq!(client.alter(GROUP, "readers", interval, Some("6000")), ErrorCode::None);
    assert_eq!(client.heartbeat_interval_ms("readers"), 6_000);
    assert_eq!(client.alter(GROUP, "readers", interval, Some("1")), ErrorCode::InvalidConfig);
    assert_eq!(client.alter(CLIENT_METRICS, "m", "interval.ms", Some("100")), ErrorCode::None);
    assert_eq!(client.alter(BROKER, "1", "node.id", Some("7")), ErrorCode::InvalidRequest);
    node.stop();
    node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    assert_eq!(client.produce_bytes("words", 700), ErrorCode::MessageTooLarge);
    assert_eq!(client.alter(TOPIC, "words", "max.message.bytes", None), ErrorCode::None);
    assert_eq!(client.produce_bytes("words", 700), ErrorCode::None);
    assert_eq!(client.alter(BROKER, "1", "message.max.bytes", None), ErrorCode::None);
    assert_eq!(client.produce_bytes("words", 2_000), ErrorCode::MessageTooLarge);
    assert_eq!(client.heartbeat_interval_ms("readers"), 6_000);
    assert_eq!(client.configured(GROUP), ["readers"]);
    assert_eq!(client.configured(CLIENT_METRICS), ["m"]);
    assert_eq!(client.configured(BROKER), ["1"]);
    assert_eq!(client.alter(GROUP, "readers", interval, None), ErrorCode::None);
    assert_eq!(client.heartbeat_interval_ms("readers"), 5_000);
    assert!(client.configured(GROUP).is_empty());
    node.stop();
}

/// Goal: the cluster's keys answer in every version. Method: each version of each, decoded whole.
#[test]
fn a_single_node_describes_itself_in_every_version() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    let id = client.create("words", 1, &[]);
    assert_eq!(client.produce_bytes("words", 100), ErrorCode::None);
    for version in versions(ApiKey::DescribeLogDirs) {
        let frame = client.call(version, &DescribeLogDirsRequest::default());
        let (_, answer) =
            decode_response::<DescribeLogDirsRequest>(version, &frame).expect("whole");
        let [dir] = answer.results.as_slice() else { panic!("one directory: {answer:?}") };
        let words = dir.topics.iter().find(|topic| topic.name == "words").expect("it is there");
        assert!(words.partitions[0].partition_size > 100, "{words:?}");
        assert_eq!(dir.total_bytes >= dir.usable_bytes && dir.total_bytes > 0, version >= 4);
    }
    for version in versions(ApiKey::DescribeQuorum) {
        for (topic_name, code) in
            [("__cluster_metadata", ErrorCode::None), ("words", ErrorCode::UnknownTopicOrPartition)]
        {
            let partitions = vec![PartitionDataRequest { partition_index: 0 }];
            let topics = vec![TopicDataRequest { topic_name, partitions }];
            let frame = client.call(version, &DescribeQuorumRequest { topics });
            let (_, answer) =
                decode_response::<DescribeQuorumRequest>(version, &frame).expect("whole");
            let partition = &answer.topics[0].partitions[0];
            assert_eq!(partition.error_code, code);
            assert_eq!(partition.current_voters.len(), usize::from(code == ErrorCode::None));
        }
    }
    for version in versions(ApiKey::ElectLeaders) {
        let asked = vec![TopicPartitions { topic: "words", partitions: vec![0, 7, 7] }];
        let request = ElectLeadersRequest { topic_partitions: Some(asked), ..Default::default() };
        let frame = client.call(version, &request);
        let (_, answer) = decode_response::<ElectLeadersRequest>(version, &frame).expect("whole");
        let results = &answer.replica_election_results[0].partition_result;
        let codes: Vec<ErrorCode> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition]);
    }
    for version in versions(ApiKey::ListPartitionReassignments) {
        let frame = client.call(version, &ListPartitionReassignmentsRequest::default());
        let (_, answer) =
            decode_response::<ListPartitionReassignmentsRequest>(version, &frame).expect("whole");
        assert_eq!((answer.error_code, answer.topics.len()), (ErrorCode::None, 0));
    }
    for version in versions(ApiKey::ListConfigResources) {
        let frame = client.call(version, &ListConfigResourcesRequest::default());
        let (_, answer) =
            decode_response::<ListConfigResourcesRequest>(version, &frame).expect("whole");
        let listed = answer.config_resources.iter().any(|it| it.resource_name == "words");
        assert_eq!(listed, version >= 1, "before, only client metrics are listed");
    }
    assert_ne!(id, TopicId::ZERO);
    node.stop();
}

/// Goal: what would move replicas is answered as by a single node of Kafka's. Method: in every
/// version each answer that there is; the codes are those of Kafka 4.4.
#[test]
fn replicas_stay_where_they_are_in_every_version() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    client.create("words", 1, &[]);
    let frame = client.call(4, &DescribeLogDirsRequest::default());
    let (_, answer) = decode_response::<DescribeLogDirsRequest>(4, &frame).expect("whole");
    let log_dir = answer.results[0].log_dir.to_owned();
    for version in versions(ApiKey::AlterPartitionReassignments) {
        for (name, partition_index, replicas, code) in [
            ("words", 0, Some(vec![1]), ErrorCode::None),
            ("words", 0, Some(vec![2]), ErrorCode::InvalidReplicaAssignment),
            ("words", 0, Some(vec![1, 1]), ErrorCode::InvalidReplicaAssignment),
            ("words", 0, Some(vec![]), ErrorCode::InvalidReplicaAssignment),
            ("words", 0, None, ErrorCode::NoReassignmentInProgress),
            ("words", 1, Some(vec![1]), ErrorCode::UnknownTopicOrPartition),
            ("others", 0, None, ErrorCode::UnknownTopicOrPartition),
        ] {
            let partitions = vec![ReassignablePartition { partition_index, replicas }];
            let topics = vec![ReassignableTopic { name, partitions }];
            let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
            let frame = client.call(version, &request);
            let (_, answer) =
                decode_response::<AlterPartitionReassignmentsRequest>(version, &frame)
                    .expect("whole");
            assert_eq!(answer.error_code, ErrorCode::None);
            let found = &answer.responses[0].partitions[0];
            assert_eq!((found.partition_index, found.error_code), (partition_index, code));
        }
    }
    for version in versions(ApiKey::AlterReplicaLogDirs) {
        for (path, name, index, code) in [
            (log_dir.as_str(), "words", 0, ErrorCode::None),
            (log_dir.as_str(), "words", 1, ErrorCode::UnknownTopicOrPartition),
            (log_dir.as_str(), "others", 0, ErrorCode::UnknownTopicOrPartition),
            ("/no/such", "words", 0, ErrorCode::LogDirNotFound),
            ("/no/such", "others", 0, ErrorCode::LogDirNotFound),
        ] {
            let topics = vec![AlterReplicaLogDirTopic { name, partitions: vec![index] }];
            let dirs = vec![AlterReplicaLogDir { path, topics }];
            let frame = client.call(version, &AlterReplicaLogDirsRequest { dirs });
            let (_, answer) =
                decode_response::<AlterReplicaLogDirsRequest>(version, &frame).expect("whole");
            let found = &answer.results[0].partitions[0];
            assert_eq!((found.partition_index, found.error_code), (index, code), "{path}, {name}");
        }
    }
    node.stop();
}

/// Goal: what tools set of a broker and nothing here acts on is kept as Kafka keeps it. Method: a
/// name of Kafka's and nobody's, described before and after a restart.
#[test]
fn settings_that_only_kafka_has_are_kept_and_shown() {
    let dir = data_dir();
    let mut node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    let sasl = "sasl.kerberos.min.time.before.relogin";
    assert_eq!(client.alter(BROKER, "1", sasl, Some("58000")), ErrorCode::None);
    assert_eq!(client.alter(BROKER, "", sasl, Some("58000")), ErrorCode::InvalidRequest);
    assert_eq!(client.alter(BROKER, "", "no.such", Some("secret")), ErrorCode::None);
    for _ in 0..2 {
        let resource = DescribeConfigsResource {
            resource_type: BROKER,
            resource_name: "1",
            configuration_keys: Some(vec![sasl, "no.such"]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let frame = client.call(4, &request);
        let (_, answer) = decode_response::<DescribeConfigsRequest>(4, &frame).expect("whole");
        let rows = answer.results[0].configs.iter();
        let mut rows: Vec<_> =
            rows.map(|row| (row.name, row.value, row.is_sensitive, row.config_type)).collect();
        rows.sort_unstable();
        assert_eq!(rows, [("no.such", None, true, 0), (sasl, Some("58000"), false, 5)]);
        node.stop();
        node = Node::start(dir.path(), SETTINGS);
        client = node.client();
    }
    node.stop();
}

/// Goal: features are in force at their highest level and stay there. Method: in every version of
/// the request levels that are, could be and cannot be.
#[test]
fn features_stay_at_their_highest_level() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    for version in versions(ApiKey::UpdateFeatures) {
        for (feature, level, code) in [
            ("group.version", 1, ErrorCode::None),
            ("group.version", 2, ErrorCode::InvalidUpdateVersion),
            ("metadata.version", 33, ErrorCode::None),
            ("metadata.version", 32, ErrorCode::InvalidUpdateVersion),
            ("metadata.version", 34, ErrorCode::InvalidUpdateVersion),
        ] {
            let update = FeatureUpdateKey {
                feature,
                max_version_level: level,
                upgrade_type: 1,
                allow_downgrade: false,
            };
            let feature_updates = vec![update];
            let request = UpdateFeaturesRequest { feature_updates, ..Default::default() };
            let frame = client.call(version, &request);
            let (_, answer) =
                decode_response::<UpdateFeaturesRequest>(version, &frame).expect("whole");
            assert_eq!(answer.error_code, code);
        }
    }
    node.stop();
}

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let versions = key.api().versions;
    versions.first..=versions.last
}

/// Goal: a question that makes no sense is answered, and the connection lives. Method: one of each
/// kind, on one connection.
#[test]
fn nonsense_is_refused_and_the_connection_goes_on() {
    let dir = data_dir();
    let node = Node::start(dir.path(), SETTINGS);
    let mut client = node.client();
    client.create("words", 1, &[]);
    client.create("kept", 1, &[("cleanup.policy", "compact")]);
    let nobody = MetadataRequestTopic { topic_id: TopicId::ZERO, name: None };
    let request = MetadataRequest { topics: Some(vec![nobody]), ..MetadataRequest::default() };
    let frame = client.call(10, &request);
    let (_, answer) = decode_response::<MetadataRequest>(10, &frame).expect("whole");
    assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidRequest);
    for (topic_name, partition_index) in [("words", -1), ("others", 0)] {
        let request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "words" }],
            cursor: Some(CursorRequest { topic_name, partition_index }),
            ..DescribeTopicPartitionsRequest::default()
        };
        let frame = client.call(0, &request);
        let (_, answer) =
            decode_response::<DescribeTopicPartitionsRequest>(0, &frame).expect("whole");
        assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidRequest);
    }
    let latest =
        ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp: -1 };
    let partitions = vec![latest.clone(), latest];
    let topics = vec![ListOffsetsTopic { name: "words", partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    let frame = client.call(7, &request);
    let (_, answer) = decode_response::<ListOffsetsRequest>(7, &frame).expect("whole");
    let twice = answer.topics[0].partitions.iter();
    assert!(twice.clone().all(|found| found.error_code == ErrorCode::InvalidRequest));
    for (name, code) in [
        ("words", ErrorCode::None),
        ("kept", ErrorCode::PolicyViolation),
        ("none", ErrorCode::UnknownTopicOrPartition),
    ] {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 0 }];
        let topics = vec![DeleteRecordsTopic { name, partitions }];
        let frame = client.call(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 });
        let (_, answer) = decode_response::<DeleteRecordsRequest>(2, &frame).expect("whole");
        assert_eq!(answer.topics[0].partitions[0].error_code, code, "{name}");
    }
    node.stop();
}

/// Goal: clients are sent where the operator says. Method: another name and port than the socket's.
#[test]
fn the_advertised_address_is_what_clients_are_told() {
    let dir = data_dir();
    let advertise = Some("broker.example:19092".to_owned());
    let node = Node::try_start(&ServeArgs { advertise, ..serve_args(dir.path(), SETTINGS) });
    let node = node.expect("the node starts");
    let mut client = node.client();
    let frame = client.call(13, &MetadataRequest::default());
    let (_, answer) = decode_response::<MetadataRequest>(13, &frame).expect("whole");
    assert_eq!((answer.brokers[0].host, answer.brokers[0].port), ("broker.example", 19_092));
    let request = DescribeClusterRequest { endpoint_type: 1, ..DescribeClusterRequest::default() };
    let frame = client.call(2, &request);
    let (_, answer) = decode_response::<DescribeClusterRequest>(2, &frame).expect("whole");
    assert_eq!((answer.brokers[0].host, answer.brokers[0].port), ("broker.example", 19_092));
    assert_eq!(answer.controller_id, answer.brokers[0].broker_id);
    node.stop();
}
