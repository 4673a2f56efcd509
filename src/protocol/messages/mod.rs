//! One file a request: its table and its answer's. The pairs are tied together here.
//!
//! Names of fields and structures are Kafka's, so that whoever knows its protocol finds them.

mod table;

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod update_features;

use super::api::ApiKey;
use super::wire::Wire;

/// A request: which key it belongs to and what answers it.
pub trait Request<'a>: Wire<'a> {
    const KEY: ApiKey;
    type Response<'r>: Wire<'r>;
}

macro_rules! pairs {
    ($($key:ident: $request:ty => $response:ty;)*) => {$(
        impl<'a> Request<'a> for $request {
            const KEY: ApiKey = ApiKey::$key;
            type Response<'r> = $response;
        }
    )*};
}

pairs! {
    Produce: produce::ProduceRequest<'a> => produce::ProduceResponse<'r>;
    Fetch: fetch::FetchRequest<'a> => fetch::FetchResponse<'r>;
    ListOffsets: list_offsets::ListOffsetsRequest<'a> => list_offsets::ListOffsetsResponse<'r>;
    Metadata: metadata::MetadataRequest<'a> => metadata::MetadataResponse<'r>;
    OffsetCommit: offset_commit::OffsetCommitRequest<'a>
        => offset_commit::OffsetCommitResponse<'r>;
    OffsetFetch: offset_fetch::OffsetFetchRequest<'a> => offset_fetch::OffsetFetchResponse<'r>;
    FindCoordinator: find_coordinator::FindCoordinatorRequest<'a>
        => find_coordinator::FindCoordinatorResponse<'r>;
    JoinGroup: join_group::JoinGroupRequest<'a> => join_group::JoinGroupResponse<'r>;
    Heartbeat: heartbeat::HeartbeatRequest<'a> => heartbeat::HeartbeatResponse;
    LeaveGroup: leave_group::LeaveGroupRequest<'a> => leave_group::LeaveGroupResponse<'r>;
    SyncGroup: sync_group::SyncGroupRequest<'a> => sync_group::SyncGroupResponse<'r>;
    DescribeGroups: describe_groups::DescribeGroupsRequest<'a>
        => describe_groups::DescribeGroupsResponse<'r>;
    ListGroups: list_groups::ListGroupsRequest<'a> => list_groups::ListGroupsResponse<'r>;
    ApiVersions: api_versions::ApiVersionsRequest<'a> => api_versions::ApiVersionsResponse<'r>;
    CreateTopics: create_topics::CreateTopicsRequest<'a>
        => create_topics::CreateTopicsResponse<'r>;
    DeleteTopics: delete_topics::DeleteTopicsRequest<'a>
        => delete_topics::DeleteTopicsResponse<'r>;
    DeleteRecords: delete_records::DeleteRecordsRequest<'a>
        => delete_records::DeleteRecordsResponse<'r>;
    InitProducerId: init_producer_id::InitProducerIdRequest<'a>
        => init_producer_id::InitProducerIdResponse;
    OffsetForLeaderEpoch: offset_for_leader_epoch::OffsetForLeaderEpochRequest<'a>
        => offset_for_leader_epoch::OffsetForLeaderEpochResponse<'r>;
    DescribeConfigs: describe_configs::DescribeConfigsRequest<'a>
        => describe_configs::DescribeConfigsResponse<'r>;
    AlterConfigs: alter_configs::AlterConfigsRequest<'a>
        => alter_configs::AlterConfigsResponse<'r>;
    AlterReplicaLogDirs: alter_replica_log_dirs::AlterReplicaLogDirsRequest<'a>
        => alter_replica_log_dirs::AlterReplicaLogDirsResponse<'r>;
    DescribeLogDirs: describe_log_dirs::DescribeLogDirsRequest<'a>
        => describe_log_dirs::DescribeLogDirsResponse<'r>;
    CreatePartitions: create_partitions::CreatePartitionsRequest<'a>
        => create_partitions::CreatePartitionsResponse<'r>;
    DeleteGroups: delete_groups::DeleteGroupsRequest<'a>
        => delete_groups::DeleteGroupsResponse<'r>;
    ElectLeaders: elect_leaders::ElectLeadersRequest<'a>
        => elect_leaders::ElectLeadersResponse<'r>;
    IncrementalAlterConfigs: incremental_alter_configs::IncrementalAlterConfigsRequest<'a>
        => incremental_alter_configs::IncrementalAlterConfigsResponse<'r>;
    AlterPartitionReassignments:
        alter_partition_reassignments::AlterPartitionReassignmentsRequest<'a>
        => alter_partition_reassignments::AlterPartitionReassignmentsResponse<'r>;
    ListPartitionReassignments: list_partition_reassignments::ListPartitionReassignmentsRequest<'a>
        => list_partition_reassignments::ListPartitionReassignmentsResponse<'r>;
    OffsetDelete: offset_delete::OffsetDeleteRequest<'a>
        => offset_delete::OffsetDeleteResponse<'r>;
    DescribeQuorum: describe_quorum::DescribeQuorumRequest<'a>
        => describe_quorum::DescribeQuorumResponse<'r>;
    UpdateFeatures: update_features::UpdateFeaturesRequest<'a>
        => update_features::UpdateFeaturesResponse<'r>;
    DescribeCluster: describe_cluster::DescribeClusterRequest
        => describe_cluster::DescribeClusterResponse<'r>;
    DescribeProducers: describe_producers::DescribeProducersRequest<'a>
        => describe_producers::DescribeProducersResponse<'r>;
    ConsumerGroupHeartbeat: consumer_group_heartbeat::ConsumerGroupHeartbeatRequest<'a>
        => consumer_group_heartbeat::ConsumerGroupHeartbeatResponse<'r>;
    ConsumerGroupDescribe: consumer_group_describe::ConsumerGroupDescribeRequest<'a>
        => consumer_group_describe::ConsumerGroupDescribeResponse<'r>;
    ListConfigResources: list_config_resources::ListConfigResourcesRequest
        => list_config_resources::ListConfigResourcesResponse<'r>;
    DescribeTopicPartitions: describe_topic_partitions::DescribeTopicPartitionsRequest<'a>
        => describe_topic_partitions::DescribeTopicPartitionsResponse<'r>;
}
