//! Answers that own what they say, since they wait for the disk and cross between shards.
//!
//! Each gives the wire's message with `response()`; messages that name several groups or members
//! are put together by the server from the answers of their coordinators.

use crate::base::ids::TopicId;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::{
    consumer_group_describe, consumer_group_heartbeat, delete_groups, describe_groups, heartbeat,
    join_group, leave_group, list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};

/// An answer to one call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    JoinGroup(JoinReply),
    SyncGroup(SyncReply),
    Heartbeat(ErrorCode),
    LeaveGroup(LeaveReply),
    OffsetCommit(OffsetCommitReply),
    OffsetFetch(OffsetFetchReply),
    OffsetDelete(OffsetDeleteReply),
    DescribeGroup(DescribedGroup),
    ListGroups(Vec<ListedGroup>),
    DeleteGroup(DeletedGroup),
    ConsumerHeartbeat(ConsumerHeartbeatReply),
    ConsumerDescribe(ConsumerDescribedGroup),
}

/// The wire's Heartbeat answer.
pub fn heartbeat_response(error_code: ErrorCode) -> heartbeat::HeartbeatResponse {
    heartbeat::HeartbeatResponse { throttle_time_ms: 0, error_code }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub metadata: Vec<u8>,
}

impl JoinReply {
    /// What is said when there is nothing else to say.
    pub fn failed(member_id: &str, error: ErrorCode) -> JoinReply {
        JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }

    /// For the wire, in `version` of JoinGroup: a null protocol is empty before 7.
    pub fn response(&self, version: i16) -> join_group::JoinGroupResponse<'_> {
        let missing = if version < 7 { Some("") } else { None };
        join_group::JoinGroupResponse {
            throttle_time_ms: 0,
            error_code: self.error,
            generation_id: self.generation,
            protocol_type: self.protocol_type.as_deref(),
            protocol_name: self.protocol.as_deref().or(missing),
            leader: &self.leader,
            skip_assignment: self.skip_assignment,
            member_id: &self.member_id,
            members: self.members.iter().map(JoinedMember::response).collect(),
        }
    }
}

impl JoinedMember {
    fn response(&self) -> join_group::JoinGroupResponseMember<'_> {
        join_group::JoinGroupResponseMember {
            member_id: &self.id,
            group_instance_id: self.instance_id.as_deref(),
            metadata: &self.metadata,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Vec<u8>,
}

impl SyncReply {
    /// What is said when there is nothing else to say.
    pub fn failed(error: ErrorCode) -> SyncReply {
        SyncReply { error, protocol_type: None, protocol: None, assignment: Vec::new() }
    }

    /// For the wire.
    pub fn response(&self) -> sync_group::SyncGroupResponse<'_> {
        sync_group::SyncGroupResponse {
            throttle_time_ms: 0,
            error_code: self.error,
            protocol_type: self.protocol_type.as_deref(),
            protocol_name: self.protocol.as_deref(),
            assignment: &self.assignment,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveReply {
    pub error: ErrorCode,
    pub members: Vec<LeftMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub error: ErrorCode,
}

impl LeaveReply {
    /// What is said when there is nothing else to say.
    pub fn failed(error: ErrorCode) -> LeaveReply {
        LeaveReply { error, members: Vec::new() }
    }

    /// For the wire, in `version` of LeaveGroup: before 3 there is one member, and its error is
    /// the answer's.
    pub fn response(&self, version: i16) -> leave_group::LeaveGroupResponse<'_> {
        let mut error_code = self.error;
        if version < 3
            && error_code.is_none()
            && let [only] = self.members.as_slice()
        {
            error_code = only.error;
        }
        let members = self.members.iter().map(|member| leave_group::MemberResponse {
            member_id: &member.id,
            group_instance_id: member.instance_id.as_deref(),
            error_code: member.error,
        });
        leave_group::LeaveGroupResponse {
            throttle_time_ms: 0,
            error_code,
            members: members.collect(),
        }
    }
}

/// A topic of an answer about partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReply<P> {
    pub id: TopicId,
    pub name: String,
    pub partitions: Vec<P>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitReply {
    pub topics: Vec<TopicReply<(i32, ErrorCode)>>,
}

impl OffsetCommitReply {
    /// `error` for each partition that was asked for.
    pub fn failed(
        request: &offset_commit::OffsetCommitRequest<'_>,
        error: ErrorCode,
    ) -> OffsetCommitReply {
        let topics = request.topics.iter().map(|topic| TopicReply {
            id: topic.topic_id,
            name: topic.name.to_owned(),
            partitions: topic.partitions.iter().map(|each| (each.partition_index, error)).collect(),
        });
        OffsetCommitReply { topics: topics.collect() }
    }

    /// For the wire.
    pub fn response(&self) -> offset_commit::OffsetCommitResponse<'_> {
        let partition = |&(partition_index, error_code): &(i32, ErrorCode)| {
            offset_commit::OffsetCommitResponsePartition { partition_index, error_code }
        };
        let topics = self.topics.iter().map(|topic| offset_commit::OffsetCommitResponseTopic {
            topic_id: topic.id,
            name: &topic.name,
            partitions: topic.partitions.iter().map(partition).collect(),
        });
        offset_commit::OffsetCommitResponse { throttle_time_ms: 0, topics: topics.collect() }
    }
}

/// One group's committed offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchReply {
    pub group_id: String,
    pub error: ErrorCode,
    pub topics: Vec<TopicReply<FetchedOffset>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
    pub error: ErrorCode,
}

impl FetchedOffset {
    /// No offset, for this reason.
    pub fn none(partition: i32, error: ErrorCode) -> FetchedOffset {
        FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: String::new(), error }
    }
}

impl OffsetFetchReply {
    /// `error` for the group, and before version 2, which has no such place, for each partition.
    pub fn failed(
        request: &offset_fetch::OffsetFetchRequestGroup<'_>,
        error: ErrorCode,
    ) -> OffsetFetchReply {
        let topics = request.topics.iter().flatten().map(|topic| TopicReply {
            id: topic.topic_id,
            name: topic.name.to_owned(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|partition| FetchedOffset::none(*partition, error))
                .collect(),
        });
        OffsetFetchReply { group_id: request.group_id.to_owned(), error, topics: topics.collect() }
    }

    /// For the wire from version 8 on, a row of the answer's groups.
    pub fn group(&self) -> offset_fetch::OffsetFetchResponseGroup<'_> {
        let partition = |fetched: &'_ FetchedOffset| -> (i32, i64, i32, ErrorCode) {
            (fetched.partition, fetched.offset, fetched.leader_epoch, fetched.error)
        };
        let topics = self.topics.iter().map(|topic| offset_fetch::OffsetFetchResponseTopics {
            topic_id: topic.id,
            name: &topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|fetched| {
                    let (partition_index, committed_offset, epoch, error_code) = partition(fetched);
                    offset_fetch::OffsetFetchResponsePartitions {
                        partition_index,
                        committed_offset,
                        committed_leader_epoch: epoch,
                        metadata: Some(&fetched.metadata),
                        error_code,
                    }
                })
                .collect(),
        });
        offset_fetch::OffsetFetchResponseGroup {
            group_id: &self.group_id,
            topics: topics.collect(),
            error_code: self.error,
        }
    }

    /// For the wire before version 8; version 1 has no code for the whole but in each partition.
    pub fn response(&self) -> offset_fetch::OffsetFetchResponse<'_> {
        let partition = |fetched| -> offset_fetch::OffsetFetchResponsePartition<'_> {
            let fetched: &FetchedOffset = fetched;
            offset_fetch::OffsetFetchResponsePartition {
                partition_index: fetched.partition,
                committed_offset: fetched.offset,
                committed_leader_epoch: fetched.leader_epoch,
                metadata: Some(&fetched.metadata),
                error_code: fetched.error,
            }
        };
        let topics = self.topics.iter().map(|topic| offset_fetch::OffsetFetchResponseTopic {
            name: &topic.name,
            partitions: topic.partitions.iter().map(partition).collect(),
        });
        offset_fetch::OffsetFetchResponse {
            topics: topics.collect(),
            error_code: self.error,
            ..Default::default()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDeleteReply {
    pub error: ErrorCode,
    pub topics: Vec<TopicReply<(i32, ErrorCode)>>,
}

impl OffsetDeleteReply {
    /// What is said when there is nothing else to say.
    pub fn failed(error: ErrorCode) -> OffsetDeleteReply {
        OffsetDeleteReply { error, topics: Vec::new() }
    }

    /// For the wire.
    pub fn response(&self) -> offset_delete::OffsetDeleteResponse<'_> {
        let partition = |&(partition_index, error_code): &(i32, ErrorCode)| {
            offset_delete::OffsetDeleteResponsePartition { partition_index, error_code }
        };
        let topics = self.topics.iter().map(|topic| offset_delete::OffsetDeleteResponseTopic {
            name: &topic.name,
            partitions: topic.partitions.iter().map(partition).collect(),
        });
        offset_delete::OffsetDeleteResponse {
            error_code: self.error,
            throttle_time_ms: 0,
            topics: topics.collect(),
        }
    }
}

/// A row of DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub error: ErrorCode,
    pub error_message: Option<String>,
    pub group_id: String,
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Vec<u8>,
    pub assignment: Vec<u8>,
}

impl DescribedGroup {
    /// What is said when there is nothing else to say.
    pub fn failed(group_id: &str, error: ErrorCode, message: Option<String>) -> DescribedGroup {
        DescribedGroup {
            error,
            error_message: message,
            group_id: group_id.to_owned(),
            state: if matches!(error, ErrorCode::None | ErrorCode::GroupIdNotFound) {
                "Dead"
            } else {
                ""
            },
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }

    /// For the wire; the authorized operations are the server's to fill in.
    pub fn response(&self) -> describe_groups::DescribedGroup<'_> {
        let members = self.members.iter().map(|member| describe_groups::DescribedGroupMember {
            member_id: &member.id,
            group_instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            member_metadata: &member.metadata,
            member_assignment: &member.assignment,
        });
        describe_groups::DescribedGroup {
            error_code: self.error,
            error_message: self.error_message.as_deref(),
            group_id: &self.group_id,
            group_state: self.state,
            protocol_type: &self.protocol_type,
            protocol_data: &self.protocol,
            members: members.collect(),
            ..Default::default()
        }
    }
}

/// A row of ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    pub protocol_type: String,
    pub state: &'static str,
    pub group_type: &'static str,
}

impl ListedGroup {
    /// For the wire.
    pub fn response(&self) -> list_groups::ListedGroup<'_> {
        list_groups::ListedGroup {
            group_id: &self.group_id,
            protocol_type: &self.protocol_type,
            group_state: self.state,
            group_type: self.group_type,
        }
    }
}

/// A row of DeleteGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedGroup {
    pub group_id: String,
    pub error: ErrorCode,
    pub error_message: Option<String>,
}

impl DeletedGroup {
    /// For the wire.
    pub fn response(&self) -> delete_groups::DeletableGroupResult<'_> {
        delete_groups::DeletableGroupResult {
            group_id: &self.group_id,
            error_code: self.error,
            error_message: self.error_message.as_deref(),
        }
    }
}

/// Partitions by topic, in order: what members own, give up, or are to own.
pub type Partitions = std::collections::BTreeMap<TopicId, std::collections::BTreeSet<i32>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeatReply {
    pub error: ErrorCode,
    pub error_message: Option<String>,
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None`: as before.
    pub assignment: Option<Partitions>,
}

impl ConsumerHeartbeatReply {
    /// What is said when there is nothing else to say.
    pub fn failed(error: ErrorCode, message: impl Into<String>) -> ConsumerHeartbeatReply {
        let message = message.into();
        ConsumerHeartbeatReply {
            error,
            error_message: (!message.is_empty()).then_some(message),
            member_id: None,
            member_epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }

    /// For the wire.
    pub fn response(&self) -> consumer_group_heartbeat::ConsumerGroupHeartbeatResponse<'_> {
        let topic = |(&topic_id, partitions): (&TopicId, &std::collections::BTreeSet<i32>)| {
            consumer_group_heartbeat::TopicPartitionsResponse {
                topic_id,
                partitions: partitions.iter().copied().collect(),
            }
        };
        let assignment = self.assignment.as_ref().map(|partitions| {
            let topic_partitions = partitions.iter().map(topic).collect();
            consumer_group_heartbeat::Assignment { topic_partitions }
        });
        consumer_group_heartbeat::ConsumerGroupHeartbeatResponse {
            throttle_time_ms: 0,
            error_code: self.error,
            error_message: self.error_message.as_deref(),
            member_id: self.member_id.as_deref(),
            member_epoch: self.member_epoch,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            assignment,
        }
    }
}

/// A row of ConsumerGroupDescribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescribedGroup {
    pub error: ErrorCode,
    pub error_message: Option<String>,
    pub group_id: String,
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: String,
    pub members: Vec<ConsumerDescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescribedMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: Vec<String>,
    pub regex: Option<String>,
    pub assignment: Vec<TopicReply<i32>>,
    pub target: Vec<TopicReply<i32>>,
    /// 1 for the consumer protocol, 0 for the classic one.
    pub member_type: i8,
}

impl ConsumerDescribedGroup {
    /// What is said when there is nothing else to say.
    pub fn failed(group_id: &str, error: ErrorCode, message: Option<String>) -> Self {
        ConsumerDescribedGroup {
            error,
            error_message: message,
            group_id: group_id.to_owned(),
            state: "",
            epoch: 0,
            assignment_epoch: 0,
            assignor: String::new(),
            members: Vec::new(),
        }
    }

    /// For the wire; the authorized operations are the server's to fill in.
    pub fn response(&self) -> consumer_group_describe::DescribedGroup<'_> {
        consumer_group_describe::DescribedGroup {
            error_code: self.error,
            error_message: self.error_message.as_deref(),
            group_id: &self.group_id,
            group_state: self.state,
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: &self.assignor,
            members: self.members.iter().map(ConsumerDescribedMember::response).collect(),
            ..Default::default()
        }
    }
}

impl ConsumerDescribedMember {
    fn response(&self) -> consumer_group_describe::Member<'_> {
        consumer_group_describe::Member {
            member_id: &self.id,
            instance_id: self.instance_id.as_deref(),
            rack_id: self.rack_id.as_deref(),
            member_epoch: self.epoch,
            client_id: &self.client_id,
            client_host: &self.client_host,
            subscribed_topic_names: self.topics.iter().map(String::as_str).collect(),
            subscribed_topic_regex: self.regex.as_deref(),
            assignment: described_assignment(&self.assignment),
            target_assignment: described_assignment(&self.target),
            member_type: self.member_type,
        }
    }
}

fn described_assignment(topics: &[TopicReply<i32>]) -> consumer_group_describe::Assignment<'_> {
    let topic_partitions = topics.iter().map(|topic| consumer_group_describe::TopicPartitions {
        topic_id: topic.id,
        topic_name: &topic.name,
        partitions: topic.partitions.clone(),
    });
    consumer_group_describe::Assignment { topic_partitions: topic_partitions.collect() }
}
