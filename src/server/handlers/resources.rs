//! What has settings, as requests name it by number and text.

use crate::base::ids::NodeId;
use crate::cluster::changes::{ChangeError, Resource};
use crate::cluster::metadata::NamedResource;
use crate::protocol::error::ErrorCode;
use crate::server::dispatch::Request;
use crate::server::handlers::errors;
use crate::shard::mailbox::{ChangeReply, ChangeRequest};
use std::collections::HashSet;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// A code and Kafka's words for it.
pub type Refusal = (ErrorCode, String);

/// The resource of a type and name, as one that can be changed.
///
/// # Errors
/// [`Refusal`]: there is none.
pub fn resource_to_change(kind: i8, name: &str, node_id: NodeId) -> Result<Resource, Refusal> {
    let text = match kind {
        TOPIC => return Ok(Resource::Topic(name.to_owned())),
        GROUP => return Ok(Resource::Named(NamedResource::Group, name.to_owned())),
        CLIENT_METRICS => {
            return Ok(Resource::Named(NamedResource::ClientMetrics, name.to_owned()));
        }
        BROKER if name.is_empty() => return Ok(Resource::AllBrokers),
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == node_id.0 => return Ok(Resource::Broker(node_id)),
            Ok(_) => format!("Unexpected broker id, expected {node_id}, but received {name}"),
            Err(_) => format!("Node id must be an integer, but it is: {name}"),
        },
        _ => format!("Unknown resource type {kind}"),
    };
    Err((ErrorCode::InvalidRequest, text))
}

/// Changes of several resources: what is refused before the controller sees it, and the rest.
pub struct Alterations<C> {
    refusals: Vec<Option<Refusal>>,
    accepted: Vec<(Resource, C)>,
}

impl<C> Alterations<C> {
    /// Sorts `asked`, which are (type, name, changes). A resource named twice is refused each time.
    pub fn new<'a>(
        request: &Request,
        asked: impl Iterator<Item = (i8, &'a str, Result<C, Refusal>)> + Clone,
    ) -> Alterations<C> {
        let node_id = request.server.shard.node.node_id;
        let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
        for (kind, name, _) in asked.clone() {
            if !seen.insert((kind, name)) {
                twice.insert((kind, name));
            }
        }
        let mut alterations = Alterations { refusals: Vec::new(), accepted: Vec::new() };
        for (kind, name, changes) in asked {
            let resource = if twice.contains(&(kind, name)) {
                let text = "Each resource must appear at most once.".to_owned();
                Err((ErrorCode::InvalidRequest, text))
            } else if let (BROKER_LOGGER, Err(refusal)) = (kind, &changes) {
                Err(refusal.clone())
            } else {
                resource_to_change(kind, name, node_id)
            };
            match resource.and_then(|resource| Ok((resource, changes?))) {
                Ok(accepted) => {
                    alterations.refusals.push(None);
                    alterations.accepted.push(accepted);
                }
                Err(refusal) => alterations.refusals.push(Some(refusal)),
            }
        }
        alterations
    }

    /// Has the controller make the changes; one result for each that was asked, in order.
    pub async fn make(
        self,
        request: &Request,
        change: impl FnOnce(Vec<(Resource, C)>) -> ChangeRequest,
    ) -> Vec<(ErrorCode, Option<String>)> {
        let Alterations { refusals, accepted } = self;
        let results = if accepted.is_empty() {
            Vec::new()
        } else {
            match request.server.shard.change(change(accepted)).await {
                ChangeReply::Done(results) => results,
                ChangeReply::Topics(_) => unreachable!("settings are answered with results"),
            }
        };
        let mut results = results.into_iter();
        let answer = |refusal: Option<Refusal>| match refusal {
            Some((code, text)) => (code, Some(text)),
            None => outcome(results.next().expect("one result for each change")),
        };
        refusals.into_iter().map(answer).collect()
    }
}

/// Code and message of a change's result.
pub fn outcome<T>(result: Result<T, ChangeError>) -> (ErrorCode, Option<String>) {
    match result {
        Ok(_) => (ErrorCode::None, None),
        Err(error) => (errors::of_change(&error), Some(error.to_string())),
    }
}
