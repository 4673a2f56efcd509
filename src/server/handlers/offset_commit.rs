//! OffsetCommit: stores a group's positions; answered when they are on disk.

use super::groups;
use crate::coordinator::replies::{OffsetCommitReply, Reply};
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::protocol::wire::Encoded;
use crate::server::answer::{Outcome, Pending};
use crate::server::dispatch::{Refused, Request};
use std::sync::Arc;

/// First version that names topics by id.
const BY_ID_FROM_VERSION: i16 = 10;

/// The topics' names in the order of the request; `None`: no topic has that id.
type Names = Vec<Option<Arc<str>>>;

/// Begins a request: when this returns the coordinator has it or will have it before later ones.
pub fn begin(request: Request) -> Result<Pending, Refused> {
    let body: OffsetCommitRequest = request.decode()?;
    let names = (request.version >= BY_ID_FROM_VERSION).then(|| names_of(&request, &body));
    let bytes = request.body_slice();
    let names_there = names.clone();
    let asked = groups::ask(&request, body.group_id, move |coordinator, call| {
        let mut body: OffsetCommitRequest = groups::again(&bytes, call.version);
        if let Some(names) = &names_there {
            put_names(&mut body, names);
        }
        coordinator.offset_commit(call, &body)
    });
    let answer = async move {
        let reply = match asked.await {
            Ok(Reply::OffsetCommit(reply)) => Ok(reply),
            Ok(other) => unreachable!("a commit is answered with {other:?}"),
            Err(error) => Err(error),
        };
        Outcome::Answer(answer(&request, names.as_ref(), reply).into())
    };
    Ok(Pending::Later(Box::pin(answer)))
}

fn names_of(request: &Request, body: &OffsetCommitRequest<'_>) -> Names {
    let image = request.server.shard.image();
    let name = |id| image.topic_by_id(id).map(|topic| topic.name.clone());
    body.topics.iter().map(|topic| name(topic.topic_id)).collect()
}

/// Names the topics, and takes out those that have no name.
fn put_names<'a>(body: &mut OffsetCommitRequest<'a>, names: &'a Names) {
    let topics = std::mem::take(&mut body.topics);
    let named = topics.into_iter().zip(names).filter_map(|(mut topic, name)| {
        topic.name = name.as_deref()?;
        Some(topic)
    });
    body.topics = named.collect();
}

fn answer(
    request: &Request,
    names: Option<&Names>,
    reply: Result<OffsetCommitReply, ErrorCode>,
) -> Encoded {
    let bytes = request.body_slice();
    let body: OffsetCommitRequest = groups::again(&bytes, request.version);
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            return request.encode(&OffsetCommitReply::failed(&body, error).response());
        }
    };
    let mut response: OffsetCommitResponse = reply.response();
    let names = names.into_iter().flatten();
    let unknown = body.topics.iter().zip(names).filter(|(_, name)| name.is_none());
    response.topics.extend(unknown.map(|(topic, _)| {
        OffsetCommitResponseTopic {
            topic_id: topic.topic_id,
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UnknownTopicId,
                })
                .collect(),
        }
    }));
    request.encode(&response)
}
