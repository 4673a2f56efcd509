//! DeleteTopics: removes topics, by name or by id.

use super::errors;
use crate::base::ids::TopicId;
use crate::cluster::changes::{ChangeError, TopicRef};
use crate::cluster::metadata::Topic;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::{ChangeReply, ChangeRequest};
use std::collections::HashMap;
use std::sync::Arc;

/// First version that names topics by id as well.
const STATES_FROM_VERSION: i16 = 6;
/// First version that knows the code for disabled deletion.
const DISABLED_FROM_VERSION: i16 = 3;

/// Deletes each topic for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: DeleteTopicsRequest = request.decode()?;
    let states: Vec<DeleteTopicState<'_>> = if request.version >= STATES_FROM_VERSION {
        body.topics
    } else {
        let states = body.topic_names.iter();
        states.map(|name| DeleteTopicState { name: Some(name), topic_id: TopicId::ZERO }).collect()
    };
    let mut counts: HashMap<(Option<&str>, TopicId), usize> = HashMap::new();
    for state in &states {
        *counts.entry((state.name, state.topic_id)).or_default() += 1;
    }
    let refs: Vec<Result<TopicRef, &str>> = states
        .iter()
        .map(|state| match (state.name, state.topic_id) {
            key if counts[&key] > 1 && state.name.is_some() => Err("Duplicate topic name."),
            key if counts[&key] > 1 => Err("Duplicate topic id."),
            (Some(name), TopicId::ZERO) => Ok(TopicRef::Name(name.to_owned())),
            (None, TopicId::ZERO) => Err("Neither topic name nor id were specified."),
            (None, id) => Ok(TopicRef::Id(id)),
            (Some(_), _) => Err("You may not specify both topic name and topic id."),
        })
        .collect();
    let asked: Vec<TopicRef> = refs.iter().filter_map(|asked| asked.clone().ok()).collect();
    let mut results = delete(request, asked).await.into_iter();
    let outcomes: Vec<(ErrorCode, Option<String>, Option<Arc<Topic>>)> = refs
        .iter()
        .map(|asked| match asked {
            Err(text) => (ErrorCode::InvalidRequest, Some((*text).to_owned()), None),
            Ok(_) => match results.next().expect("one result for each topic") {
                Ok(topic) => (ErrorCode::None, None, Some(topic)),
                Err(error) => (code_of(&error, request.version), Some(error.to_string()), None),
            },
        })
        .collect();
    let responses = states.iter().zip(&outcomes).map(|(state, (error_code, message, topic))| {
        let topic = topic.as_ref();
        DeletableTopicResult {
            name: state.name.or(topic.map(|topic| topic.name.as_ref())),
            topic_id: topic.map_or(state.topic_id, |topic| topic.id),
            error_code: *error_code,
            error_message: message.as_deref(),
        }
    });
    let responses = responses.collect();
    Ok(request.encode(&DeleteTopicsResponse { throttle_time_ms: 0, responses }))
}

async fn delete(request: &Request, asked: Vec<TopicRef>) -> Vec<Result<Arc<Topic>, ChangeError>> {
    if asked.is_empty() {
        return Vec::new();
    }
    match request.server.shard.change(ChangeRequest::DeleteTopics(asked)).await {
        ChangeReply::Topics(results) => results,
        ChangeReply::Done(_) => unreachable!("deleted topics are answered with topics"),
    }
}

fn code_of(error: &ChangeError, version: i16) -> ErrorCode {
    match error {
        ChangeError::TopicDeletionDisabled if version < DISABLED_FROM_VERSION => {
            ErrorCode::InvalidRequest
        }
        error => errors::of_change(error),
    }
}
