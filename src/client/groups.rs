//! Looks into consumer groups and changes them from outside: list, describe, delete, offsets.
//!
//! A group is its coordinator's; where that moves, it is looked for again within the time allowed.
//! Both protocols of groups come back in one shape.

use super::cluster::{Cluster, RETRY_PAUSE};
use super::connection::Connection;
use super::error::ClientError;
use super::request::Response;
use crate::base::ids::{NodeId, Offset};
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::Request;
use crate::protocol::messages::consumer_group_describe::{
    self, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use crate::protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroupMember,
};
use crate::protocol::messages::find_coordinator::FindCoordinatorRequest;
use crate::protocol::messages::list_groups::ListGroupsRequest;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse,
};
use crate::protocol::subscription;
use std::collections::BTreeMap;

/// Version 10 of OffsetCommit and OffsetFetch has topic ids for names. Names are what groups are
/// asked with here, as offsets may outlive their topic.
pub(super) const OFFSETS_VERSION_MAX: i16 = 9;

/// The state that a coordinator gives to a group that does not exist.
const STATE_DEAD: &str = "Dead";

/// What consumers call their protocol in a classic group.
const PROTOCOL_TYPE_CONSUMER: &str = "consumer";

/// A group as its coordinator lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedGroup {
    pub id: String,
    /// `classic`, `consumer` and others; empty where the broker does not tell.
    pub kind: String,
    /// `Stable`, `Empty` and others; empty where the broker does not tell.
    pub state: String,
    /// What its members are: `consumer`, `connect` and others; empty: nobody has joined it.
    pub protocol_type: String,
    /// The broker that looks after it.
    pub coordinator: NodeId,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub id: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    pub state: String,
    pub protocol_type: String,
    /// Who assigns partitions how; empty where there are no members.
    pub assignor: String,
    /// Of the consumer protocol only.
    pub epoch: Option<i32>,
    /// Address of the broker that looks after it.
    pub coordinator: String,
    pub members: Vec<GroupMember>,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    /// Of the consumer protocol only.
    pub epoch: Option<i32>,
    pub topics: Vec<String>,
    pub regex: Option<String>,
    /// What it reads, by topic.
    pub assigned: Vec<(String, Vec<i32>)>,
    /// What it is to read once the others have let go, by topic; of the consumer protocol only.
    pub target: Option<Vec<(String, Vec<i32>)>>,
}

/// A group's position in one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommittedOffset {
    pub topic: String,
    pub partition: i32,
    /// What the group reads next.
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

impl Cluster {
    /// A connection to the broker that looks after `group`, shared with other requests.
    ///
    /// # Errors
    /// There is none within the time allowed, or the id is refused.
    pub async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        let id = self.coordinator_id(group).await?;
        self.broker(id).await
    }

    /// Which broker looks after `group`. The first of all groups waits until its topic is made.
    ///
    /// # Errors
    /// As [`Cluster::coordinator`].
    pub async fn coordinator_id(&self, group: &str) -> Result<NodeId, ClientError> {
        let deadline = self.now() + self.time_limit();
        loop {
            match self.coordinator_id_once(group).await {
                Err(error) if error.is_retriable() && self.now() < deadline => {
                    self.io().sleep(RETRY_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn coordinator_id_once(&self, group: &str) -> Result<NodeId, ClientError> {
        let request =
            FindCoordinatorRequest { key: group, key_type: 0, coordinator_keys: vec![group] };
        let response = self.call(&request).await?;
        let body = response.body()?;
        let (code, message, id) = match body.coordinators.first() {
            Some(found) => (found.error_code, found.error_message, found.node_id),
            None => (body.error_code, body.error_message, body.node_id),
        };
        ClientError::check(code, message, || format!("looking for the coordinator of {group}"))?;
        let id = NodeId(id);
        if !self.brokers().iter().any(|broker| broker.id == id) {
            self.refresh_brokers().await?;
        }
        Ok(id)
    }

    /// Sends `request` to the coordinator of `group`, again while that moves or loads.
    ///
    /// In `version_max` at most; `code_of` finds in the answer what tells a wrong coordinator.
    async fn ask_coordinator<'a, R: Request<'a>>(
        &self,
        group: &str,
        request: &R,
        version_max: i16,
        code_of: impl Fn(&R::Response<'_>) -> ErrorCode,
    ) -> Result<(Response<R>, String), ClientError> {
        let deadline = self.now() + self.time_limit();
        loop {
            let connection = self.coordinator(group).await?;
            let version = connection.version_of(R::KEY)?.min(version_max);
            let failure = match connection.call_version(request, version, &[]).await {
                Ok(response) => {
                    let code = response.body().map(|body| code_of(&body))?;
                    if !is_elsewhere(code) {
                        return Ok((response, connection.address().to_owned()));
                    }
                    let what = format!("asking the coordinator of {group}");
                    ClientError::Refused { what, code, message: None }
                }
                Err(error @ ClientError::Lost { .. }) => error,
                Err(error) => return Err(error),
            };
            if self.now() >= deadline {
                return Err(failure);
            }
            self.io().sleep(RETRY_PAUSE).await;
        }
    }

    /// Every group of every broker, by id.
    ///
    /// # Errors
    /// A broker cannot be reached or refuses.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        let mut groups = Vec::new();
        for broker in self.brokers() {
            let deadline = self.now() + self.time_limit();
            let response = loop {
                let connection = self.broker(broker.id).await?;
                let response = connection.call(&ListGroupsRequest::default()).await?;
                if !is_elsewhere(response.body()?.error_code) || self.now() >= deadline {
                    break response;
                }
                self.io().sleep(RETRY_PAUSE).await;
            };
            let body = response.body()?;
            let what = || format!("listing the groups of broker {}", broker.id);
            ClientError::check(body.error_code, None, what)?;
            groups.extend(body.groups.iter().map(|group| ListedGroup {
                id: group.group_id.to_owned(),
                kind: group.group_type.to_ascii_lowercase(),
                state: group.group_state.to_owned(),
                protocol_type: group.protocol_type.to_owned(),
                coordinator: broker.id,
            }));
        }
        groups.sort();
        Ok(groups)
    }

    /// The group `id` with its members, whichever protocol it uses.
    ///
    /// # Errors
    /// [`ErrorCode::GroupIdNotFound`]: there is no such group; or it may not be seen.
    pub async fn describe_group(&self, id: &str) -> Result<GroupDescription, ClientError> {
        let connection = self.coordinator(id).await?;
        if connection.version_of(ApiKey::ConsumerGroupDescribe).is_ok() {
            match self.describe_consumer_group(id).await {
                Err(error)
                    if error.is_code(ErrorCode::GroupIdNotFound)
                        || error.is_code(ErrorCode::UnsupportedVersion) => {}
                outcome => return outcome,
            }
        }
        self.describe_classic_group(id).await
    }

    async fn describe_consumer_group(&self, id: &str) -> Result<GroupDescription, ClientError> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![id],
            include_authorized_operations: false,
        };
        let code_of = |body: &ConsumerGroupDescribeResponse<'_>| {
            body.groups.first().map_or(ErrorCode::None, |group| group.error_code)
        };
        let (response, coordinator) = self.ask_coordinator(id, &request, i16::MAX, code_of).await?;
        let body = response.body()?;
        let group = body.groups.first().ok_or_else(|| not_told(id))?;
        ClientError::check(group.error_code, None, || format!("group {id}"))?;
        Ok(GroupDescription {
            id: id.to_owned(),
            kind: "consumer",
            state: group.group_state.to_owned(),
            protocol_type: PROTOCOL_TYPE_CONSUMER.to_owned(),
            assignor: group.assignor_name.to_owned(),
            epoch: Some(group.group_epoch),
            coordinator,
            members: group.members.iter().map(consumer_member).collect(),
        })
    }

    async fn describe_classic_group(&self, id: &str) -> Result<GroupDescription, ClientError> {
        let request =
            DescribeGroupsRequest { groups: vec![id], include_authorized_operations: false };
        let code_of = |body: &DescribeGroupsResponse<'_>| {
            body.groups.first().map_or(ErrorCode::None, |group| group.error_code)
        };
        let (response, coordinator) = self.ask_coordinator(id, &request, i16::MAX, code_of).await?;
        let body = response.body()?;
        let group = body.groups.first().ok_or_else(|| not_told(id))?;
        ClientError::check(group.error_code, None, || format!("group {id}"))?;
        if group.group_state == STATE_DEAD {
            ClientError::check(ErrorCode::GroupIdNotFound, None, || format!("group {id}"))?;
        }
        let is_of_consumers = group.protocol_type == PROTOCOL_TYPE_CONSUMER;
        let members = group.members.iter().map(|member| classic_member(member, is_of_consumers));
        Ok(GroupDescription {
            id: id.to_owned(),
            kind: "classic",
            state: group.group_state.to_owned(),
            protocol_type: group.protocol_type.to_owned(),
            assignor: group.protocol_data.to_owned(),
            epoch: None,
            coordinator,
            members: members.collect(),
        })
    }

    /// Removes the group `id` and its offsets.
    ///
    /// # Errors
    /// [`ErrorCode::NonEmptyGroup`]: it has members; [`ErrorCode::GroupIdNotFound`]: there is none.
    pub async fn delete_group(&self, id: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![id] };
        let code_of = |body: &DeleteGroupsResponse<'_>| {
            body.results.first().map_or(ErrorCode::None, |result| result.error_code)
        };
        let (response, _) = self.ask_coordinator(id, &request, i16::MAX, code_of).await?;
        let body = response.body()?;
        let result = body.results.first().ok_or_else(|| not_told(id))?;
        ClientError::check(result.error_code, None, || format!("deleting group {id}"))
    }

    /// Every position that the group `id` has committed, by topic and partition; none where there
    /// is no such group.
    ///
    /// # Errors
    /// They may not be seen.
    pub async fn committed_offsets(&self, id: &str) -> Result<Vec<CommittedOffset>, ClientError> {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: id,
                ..OffsetFetchRequestGroup::default()
            }],
            group_id: id,
            ..OffsetFetchRequest::default()
        };
        let (response, _) =
            self.ask_coordinator(id, &request, OFFSETS_VERSION_MAX, offset_fetch_code).await?;
        let body = response.body()?;
        ClientError::check(offset_fetch_code(&body), None, || format!("offsets of group {id}"))?;
        let mut committed = committed_of(&body);
        committed.sort();
        Ok(committed)
    }

    /// Sets positions of the group `id` from outside of it, which needs a group without members;
    /// one that does not exist comes into being.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownMemberId`]: it has members; or a partition's refusal.
    pub async fn commit_offsets(
        &self,
        id: &str,
        offsets: &[CommittedOffset],
    ) -> Result<(), ClientError> {
        let request =
            OffsetCommitRequest { group_id: id, topics: commit_topics(offsets), ..no_member() };
        let (response, _) =
            self.ask_coordinator(id, &request, OFFSETS_VERSION_MAX, offset_commit_code).await?;
        check_commit(&response.body()?, id)
    }
}

/// Whether `code` says that the coordinator is another broker or not ready yet.
pub(super) fn is_elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
    )
}

/// An answer without an entry for what was asked.
fn not_told(id: &str) -> ClientError {
    ClientError::Refused {
        what: format!("group {id}"),
        code: ErrorCode::UnknownServerError,
        message: Some("the broker's answer does not mention it".to_owned()),
    }
}

fn no_member<'a>() -> OffsetCommitRequest<'a> {
    OffsetCommitRequest { generation_id_or_member_epoch: -1, ..OffsetCommitRequest::default() }
}

/// `offsets` as a commit has them, by topic.
pub(super) fn commit_topics(offsets: &[CommittedOffset]) -> Vec<OffsetCommitRequestTopic<'_>> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
    for committed in offsets {
        topics.entry(&committed.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: committed.partition,
            committed_offset: committed.offset.0,
            committed_leader_epoch: committed.leader_epoch,
            committed_metadata: Some(committed.metadata.as_deref().unwrap_or_default()),
        });
    }
    let topics = topics.into_iter();
    topics
        .map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..OffsetCommitRequestTopic::default()
        })
        .collect()
}

/// The first refusal in a commit's answer that is the whole group's, else the first at all.
pub(super) fn offset_commit_code(body: &OffsetCommitResponse<'_>) -> ErrorCode {
    let codes = body.topics.iter().flat_map(|topic| &topic.partitions);
    codes.map(|partition| partition.error_code).find(|code| !code.is_none()).unwrap_or_default()
}

/// Checks each partition of a commit's answer.
pub(super) fn check_commit(body: &OffsetCommitResponse<'_>, id: &str) -> Result<(), ClientError> {
    for topic in &body.topics {
        for partition in &topic.partitions {
            let (name, index) = (topic.name, partition.partition_index);
            let what = || format!("committing {name}-{index} for group {id}");
            ClientError::check(partition.error_code, None, what)?;
        }
    }
    Ok(())
}

/// The code of an OffsetFetch answer for its one group.
pub(super) fn offset_fetch_code(body: &OffsetFetchResponse<'_>) -> ErrorCode {
    body.groups.first().map_or(body.error_code, |group| group.error_code)
}

/// The positions in an OffsetFetch answer, of whatever version; without those never committed.
pub(super) fn committed_of(body: &OffsetFetchResponse<'_>) -> Vec<CommittedOffset> {
    let mut found = Vec::new();
    let mut take = |topic: &str, partition, offset, leader_epoch, metadata: Option<&str>| {
        if offset >= 0 {
            found.push(CommittedOffset {
                topic: topic.to_owned(),
                partition,
                offset: Offset(offset),
                leader_epoch,
                metadata: metadata.map(str::to_owned),
            });
        }
    };
    for topic in body.groups.iter().flat_map(|group| &group.topics) {
        for one in &topic.partitions {
            let (index, epoch) = (one.partition_index, one.committed_leader_epoch);
            take(topic.name, index, one.committed_offset, epoch, one.metadata);
        }
    }
    for topic in &body.topics {
        for one in &topic.partitions {
            let (index, epoch) = (one.partition_index, one.committed_leader_epoch);
            take(topic.name, index, one.committed_offset, epoch, one.metadata);
        }
    }
    found
}

fn consumer_member(member: &consumer_group_describe::Member<'_>) -> GroupMember {
    let by_topic = |assignment: &consumer_group_describe::Assignment<'_>| {
        let topics = assignment.topic_partitions.iter();
        sorted(topics.map(|topic| (topic.topic_name.to_owned(), topic.partitions.clone())))
    };
    let names = member.subscribed_topic_names.iter().copied();
    GroupMember {
        id: member.member_id.to_owned(),
        instance_id: member.instance_id.map(str::to_owned),
        client_id: member.client_id.to_owned(),
        host: plain_host(member.client_host),
        epoch: Some(member.member_epoch),
        topics: names.map(str::to_owned).collect(),
        regex: member.subscribed_topic_regex.filter(|regex| !regex.is_empty()).map(str::to_owned),
        assigned: by_topic(&member.assignment),
        target: Some(by_topic(&member.target_assignment)),
    }
}

fn classic_member(member: &DescribedGroupMember<'_>, is_consumer: bool) -> GroupMember {
    // What cannot be read is another kind of member's own business.
    let metadata = Some(member.member_metadata).filter(|_| is_consumer);
    let topics = metadata.and_then(subscription::topics).unwrap_or_default();
    let assignment =
        Some(member.member_assignment).filter(|bytes| is_consumer && !bytes.is_empty());
    let assigned = assignment.and_then(|bytes| subscription::read_assignment(bytes).ok());
    let assigned = assigned.map(|assignment| assignment.assigned_partitions).unwrap_or_default();
    GroupMember {
        id: member.member_id.to_owned(),
        instance_id: member.group_instance_id.map(str::to_owned),
        client_id: member.client_id.to_owned(),
        host: plain_host(member.client_host),
        epoch: None,
        topics,
        regex: None,
        assigned: sorted(
            assigned.into_iter().map(|topic| (topic.topic.to_owned(), topic.partitions)),
        ),
        target: None,
    }
}

/// Java's brokers put a slash before an address.
fn plain_host(host: &str) -> String {
    host.strip_prefix('/').unwrap_or(host).to_owned()
}

fn sorted(topics: impl Iterator<Item = (String, Vec<i32>)>) -> Vec<(String, Vec<i32>)> {
    let mut topics: Vec<(String, Vec<i32>)> = topics.collect();
    topics.iter_mut().for_each(|(_, partitions)| partitions.sort_unstable());
    topics.sort();
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };
    use crate::protocol::subscription::{Assignment, TopicPartitions};

    /// Goal: both shapes of the answer give the same, and no offset is none. Method: one of each.
    #[test]
    fn committed_offsets_are_read_from_answers_of_every_version() {
        let new = OffsetFetchResponseGroup {
            topics: vec![OffsetFetchResponseTopics {
                name: "t",
                partitions: [(0, 7), (1, -1)]
                    .map(|(partition_index, committed_offset)| OffsetFetchResponsePartitions {
                        partition_index,
                        committed_offset,
                        ..Default::default()
                    })
                    .to_vec(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let old = OffsetFetchResponseTopic {
            name: "t",
            partitions: [(0, 7), (1, -1)]
                .map(|(partition_index, committed_offset)| OffsetFetchResponsePartition {
                    partition_index,
                    committed_offset,
                    ..Default::default()
                })
                .to_vec(),
        };
        let new = OffsetFetchResponse { groups: vec![new], ..Default::default() };
        let old = OffsetFetchResponse { topics: vec![old], ..Default::default() };
        let found = committed_of(&new);
        assert_eq!(found, committed_of(&old));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].partition, found[0].offset), (0, Offset(7)));
    }

    /// Goal: a classic member's assignment is shown, a foreign one's bytes do no harm. Method: a
    /// consumer, and the same bytes under another protocol type, and bytes that are none.
    #[test]
    fn a_classic_members_assignment_is_read_only_where_it_is_a_consumers() {
        let topic = TopicPartitions { topic: "t", partitions: vec![2, 0] };
        let assignment = Assignment { assigned_partitions: vec![topic], user_data: None };
        let bytes = subscription::write_assignment(1, &assignment);
        let member = DescribedGroupMember {
            member_id: "m",
            client_host: "/127.0.0.1",
            member_assignment: &bytes,
            ..Default::default()
        };
        let shown = classic_member(&member, true);
        assert_eq!(shown.assigned, [("t".to_owned(), vec![0, 2])]);
        assert_eq!(shown.host, "127.0.0.1");
        assert!(classic_member(&member, false).assigned.is_empty());
        let damaged = DescribedGroupMember { member_assignment: &[0, 1, 9], ..member };
        assert!(classic_member(&damaged, true).assigned.is_empty());
    }
}
