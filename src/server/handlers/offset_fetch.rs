//! OffsetFetch: the stored positions of one group, or of several (KIP-709).

use super::groups;
use crate::base::ids::TopicId;
use crate::coordinator::replies::{FetchedOffset, OffsetFetchReply, Reply, TopicReply};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use std::sync::Arc;

/// First version that asks for several groups.
const MANY_FROM_VERSION: i16 = 8;
/// First version that names topics by id.
const BY_ID_FROM_VERSION: i16 = 10;

/// What is asked of one group, owned: it crosses to the group's shard.
struct Asked {
    group_id: String,
    member_id: Option<String>,
    member_epoch: i32,
    /// `None`: all there are.
    topics: Option<Vec<AskedTopic>>,
    /// By id, but there is no such topic.
    unknown: Vec<(TopicId, Vec<i32>)>,
}

struct AskedTopic {
    id: TopicId,
    name: Arc<str>,
    partitions: Vec<i32>,
}

/// Answers each group for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: OffsetFetchRequest = request.decode()?;
    let asked: Arc<[Asked]> = if request.version < MANY_FROM_VERSION {
        Arc::new([asked_alone(&body)])
    } else {
        body.groups.iter().map(|group| asked_of(request, group)).collect()
    };
    let group_ids: Vec<&str> = asked.iter().map(|group| group.group_id.as_str()).collect();
    let verb_of = |index: usize| {
        let asked = asked.clone();
        move |coordinator: &mut crate::coordinator::Coordinator,
              call: &crate::coordinator::Call<'_>| {
            coordinator.offset_fetch(call, &asked[index].request())
        }
    };
    let replies = groups::ask_each(request, &group_ids, verb_of).await?;
    let replies = replies.into_iter().zip(asked.iter()).map(|(reply, asked)| match reply {
        Ok(Reply::OffsetFetch(reply)) => reply,
        Ok(other) => unreachable!("a fetch of offsets is answered with {other:?}"),
        Err(error) => OffsetFetchReply::failed(&asked.request(), error),
    });
    let mut replies: Vec<OffsetFetchReply> = replies.collect();
    if request.version < MANY_FROM_VERSION {
        return Ok(request.encode(&replies[0].response()));
    }
    if request.version >= BY_ID_FROM_VERSION {
        for (reply, asked) in replies.iter_mut().zip(asked.iter()) {
            name_by_ids(reply, asked);
        }
    }
    let groups = replies.iter().map(OffsetFetchReply::group).collect();
    Ok(request.encode(&OffsetFetchResponse { groups, ..Default::default() }))
}

fn asked_alone(body: &OffsetFetchRequest<'_>) -> Asked {
    let topics = body.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| AskedTopic {
            id: TopicId::ZERO,
            name: topic.name.into(),
            partitions: topic.partition_indexes.clone(),
        });
        topics.collect()
    });
    let group_id = body.group_id.to_owned();
    Asked { group_id, member_id: None, member_epoch: -1, topics, unknown: Vec::new() }
}

fn asked_of(request: &Request, group: &OffsetFetchRequestGroup<'_>) -> Asked {
    let image = request.server.shard.image();
    let mut unknown = Vec::new();
    let topics = group.topics.as_ref().map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            let (id, partitions) = (topic.topic_id, topic.partition_indexes.clone());
            let name = if request.version >= BY_ID_FROM_VERSION {
                image.topic_by_id(id).map(|topic| topic.name.clone())
            } else {
                Some(topic.name.into())
            };
            match name {
                Some(name) => known.push(AskedTopic { id, name, partitions }),
                None => unknown.push((id, partitions)),
            }
        }
        known
    });
    Asked {
        group_id: group.group_id.to_owned(),
        member_id: group.member_id.map(str::to_owned),
        member_epoch: group.member_epoch,
        topics,
        unknown,
    }
}

impl Asked {
    fn request(&self) -> OffsetFetchRequestGroup<'_> {
        let topic =
            |topic: &'_ AskedTopic| -> (TopicId, Vec<i32>) { (topic.id, topic.partitions.clone()) };
        let topics = self.topics.as_ref().map(|topics| {
            let topics = topics.iter().map(|asked| {
                let (topic_id, partition_indexes) = topic(asked);
                OffsetFetchRequestTopics { topic_id, name: &asked.name, partition_indexes }
            });
            topics.collect()
        });
        OffsetFetchRequestGroup {
            group_id: &self.group_id,
            member_id: self.member_id.as_deref(),
            member_epoch: self.member_epoch,
            topics,
        }
    }
}

/// Where topics go by id, those that are gone cannot be told of, and those that never were are.
fn name_by_ids(reply: &mut OffsetFetchReply, asked: &Asked) {
    if !reply.error.is_none() {
        return;
    }
    reply.topics.retain(|topic| topic.id != TopicId::ZERO);
    reply.topics.extend(asked.unknown.iter().map(|(id, partitions)| {
        TopicReply {
            id: *id,
            name: String::new(),
            partitions: partitions
                .iter()
                .map(|partition| FetchedOffset::none(*partition, ErrorCode::UnknownTopicId))
                .collect(),
        }
    }));
}
