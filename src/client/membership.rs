//! The requests of a group's member, in both protocols: what goes out and what is read back.
//!
//! No state and no decisions: those are `client/group_consumer.rs`'s.

use super::assignor::{Candidate, Plan};
use super::connection::Connection;
use super::consumer::TopicPart;
use super::error::ClientError;
use super::group_consumer::GroupConfig;
use crate::base::ids::TopicId;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitionsRequest,
};
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponseMember,
};
use crate::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::protocol::subscription::{self, Assignment, Subscription, TopicPartitions};
use std::collections::BTreeMap;
use std::time::Duration;

/// What consumers call their protocol in a classic group.
const PROTOCOL_TYPE: &str = "consumer";
/// Version of what members write for each other: with owned partitions and their generation.
const SUBSCRIPTION_VERSION: i16 = 3;
/// Epochs with which a member leaves: for good, and as a static member that comes back.
const EPOCH_LEAVE: i32 = -1;
const EPOCH_LEAVE_STATIC: i32 = -2;

/// Who a member is, as its requests say it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub group: String,
    pub instance_id: Option<String>,
    pub member_id: String,
    /// Generation of the classic protocol, member epoch of the other.
    pub epoch: i32,
}

/// A heartbeat's answer.
#[derive(Debug, Clone)]
pub struct Beat {
    pub code: ErrorCode,
    pub message: Option<String>,
    pub epoch: i32,
    pub interval: Duration,
    /// What it is to read now, where that changed; consumer protocol.
    pub assigned: Option<Vec<(TopicId, Vec<i32>)>>,
}

/// A join's answer.
#[derive(Debug, Clone)]
pub struct Joined {
    pub code: ErrorCode,
    pub generation: i32,
    pub member_id: String,
    pub assignor: String,
    /// This member works out what everyone reads.
    pub is_leader: bool,
    /// All members, where this one leads.
    pub members: Vec<Candidate>,
}

impl Beat {
    /// The refusal that it is.
    pub fn refusal(&self, group: &str) -> ClientError {
        let what = format!("being a member of group {group}");
        ClientError::Refused { what, code: self.code, message: self.message.clone() }
    }
}

/// A heartbeat of the classic protocol.
///
/// # Errors
/// Those of the connection.
pub async fn classic_beat(
    connection: &Connection,
    identity: &Identity,
) -> Result<Beat, ClientError> {
    let request = HeartbeatRequest {
        group_id: &identity.group,
        generation_id: identity.epoch,
        member_id: &identity.member_id,
        group_instance_id: identity.instance_id.as_deref(),
    };
    let response = connection.call(&request).await?;
    let code = response.body()?.error_code;
    let epoch = identity.epoch;
    Ok(Beat { code, message: None, epoch, interval: Duration::ZERO, assigned: None })
}

/// A heartbeat of the consumer protocol: all fields each time, so that a lost answer needs no
/// care.
///
/// # Errors
/// Those of the connection.
pub async fn consumer_beat(
    connection: &Connection,
    identity: &Identity,
    config: &GroupConfig,
    owned: &[(TopicId, Vec<i32>)],
) -> Result<Beat, ClientError> {
    let owned = owned.iter().map(|(topic_id, partitions)| TopicPartitionsRequest {
        topic_id: *topic_id,
        partitions: partitions.clone(),
    });
    let request = ConsumerGroupHeartbeatRequest {
        group_id: &identity.group,
        member_id: &identity.member_id,
        member_epoch: identity.epoch,
        instance_id: identity.instance_id.as_deref(),
        rebalance_timeout_ms: milliseconds(config.rebalance_timeout),
        subscribed_topic_names: Some(config.topics.iter().map(String::as_str).collect()),
        server_assignor: config.assignor.as_deref(),
        topic_partitions: Some(owned.collect()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let response = connection.call(&request).await?;
    let body = response.body()?;
    let assigned = body.assignment.map(|assignment| {
        let topics = assignment.topic_partitions.into_iter();
        topics.map(|topic| (topic.topic_id, topic.partitions)).collect()
    });
    Ok(Beat {
        code: body.error_code,
        message: body.error_message.map(str::to_owned),
        epoch: body.member_epoch,
        interval: Duration::from_millis(body.heartbeat_interval_ms.max(1) as u64),
        assigned,
    })
}

/// Leaves a group of the consumer protocol; a static member's partitions wait for it.
///
/// # Errors
/// Those of the connection.
pub async fn consumer_leave(
    connection: &Connection,
    identity: &Identity,
) -> Result<(), ClientError> {
    let is_static = identity.instance_id.is_some();
    let request = ConsumerGroupHeartbeatRequest {
        group_id: &identity.group,
        member_id: &identity.member_id,
        member_epoch: if is_static { EPOCH_LEAVE_STATIC } else { EPOCH_LEAVE },
        instance_id: identity.instance_id.as_deref(),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    connection.call(&request).await.map(drop)
}

/// Joins a generation of the classic protocol. Waits until all members have, which may take as
/// long as the slowest of them is allowed.
///
/// # Errors
/// Those of the connection.
pub async fn classic_join(
    connection: &Connection,
    identity: &Identity,
    config: &GroupConfig,
    assignors: &[&str],
    owned: &[TopicPart],
) -> Result<Joined, ClientError> {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in owned {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let owned =
        by_topic.into_iter().map(|(topic, partitions)| TopicPartitions { topic, partitions });
    let generation = identity.epoch.to_be_bytes(); // where older sticky assignors look for it
    let subscription = Subscription {
        topics: config.topics.iter().map(String::as_str).collect(),
        user_data: Some(&generation),
        owned_partitions: owned.collect(),
        generation_id: identity.epoch,
        rack_id: None,
    };
    let metadata = subscription::write(SUBSCRIPTION_VERSION, &subscription);
    let protocols = assignors.iter();
    let protocols = protocols.map(|name| JoinGroupRequestProtocol { name, metadata: &metadata });
    let request = JoinGroupRequest {
        group_id: &identity.group,
        session_timeout_ms: milliseconds(config.session_timeout),
        rebalance_timeout_ms: milliseconds(config.rebalance_timeout),
        member_id: &identity.member_id,
        group_instance_id: identity.instance_id.as_deref(),
        protocol_type: PROTOCOL_TYPE,
        protocols: protocols.collect(),
        reason: None,
    };
    let response = connection.call(&request).await?;
    let body = response.body()?;
    let is_leader = body.error_code == ErrorCode::None
        && body.leader == body.member_id
        && !body.skip_assignment;
    Ok(Joined {
        code: body.error_code,
        generation: body.generation_id,
        member_id: body.member_id.to_owned(),
        assignor: body.protocol_name.unwrap_or_default().to_owned(),
        is_leader,
        members: body.members.iter().map(candidate).collect(),
    })
}

fn candidate(member: &JoinGroupResponseMember<'_>) -> Candidate {
    // Who cannot be understood gets nothing, and the others their share.
    let subscription = subscription::read(member.metadata).map(|(_, read)| read);
    let subscription = subscription.unwrap_or_default();
    let owned = subscription.owned_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.topic.to_owned(), *partition))
    });
    let user_data = subscription.user_data.and_then(|bytes| bytes.first_chunk::<4>());
    let generation = match (subscription.generation_id, user_data) {
        (-1, Some(bytes)) => i32::from_be_bytes(*bytes),
        (generation, _) => generation,
    };
    Candidate {
        member_id: member.member_id.to_owned(),
        instance_id: member.group_instance_id.map(str::to_owned),
        topics: subscription.topics.iter().map(|topic| (*topic).to_owned()).collect(),
        owned: owned.collect(),
        generation,
    }
}

/// Hands in `plan`, where this member leads, and takes its own assignment's bytes; with the
/// group's refusal if it is one.
///
/// # Errors
/// Those of the connection.
pub async fn classic_sync(
    connection: &Connection,
    identity: &Identity,
    joined: &Joined,
    plan: &Plan,
) -> Result<(ErrorCode, Vec<u8>), ClientError> {
    let assignments: Vec<(&String, Vec<u8>)> = plan
        .iter()
        .map(|(member_id, mine)| {
            let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
            for (topic, partition) in mine {
                by_topic.entry(topic).or_default().push(*partition);
            }
            let topics = by_topic.into_iter();
            let topics = topics.map(|(topic, partitions)| TopicPartitions { topic, partitions });
            let assignment = Assignment { assigned_partitions: topics.collect(), user_data: None };
            (member_id, subscription::write_assignment(SUBSCRIPTION_VERSION, &assignment))
        })
        .collect();
    let request = SyncGroupRequest {
        group_id: &identity.group,
        generation_id: identity.epoch,
        member_id: &identity.member_id,
        group_instance_id: identity.instance_id.as_deref(),
        protocol_type: Some(PROTOCOL_TYPE),
        protocol_name: Some(&joined.assignor),
        assignments: assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
            .collect(),
    };
    let response = connection.call(&request).await?;
    let body = response.body()?;
    Ok((body.error_code, body.assignment.to_vec()))
}

/// Leaves a classic group; a static member stays, as its partitions shall wait for it.
///
/// # Errors
/// Those of the connection.
pub async fn classic_leave(
    connection: &Connection,
    identity: &Identity,
) -> Result<(), ClientError> {
    if identity.instance_id.is_some() {
        return Ok(());
    }
    let member = MemberIdentity { member_id: &identity.member_id, ..MemberIdentity::default() };
    let request = LeaveGroupRequest {
        group_id: &identity.group,
        members: vec![member],
        member_id: &identity.member_id,
    };
    connection.call(&request).await.map(drop)
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
