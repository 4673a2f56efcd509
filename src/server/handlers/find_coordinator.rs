//! FindCoordinator: this node, for every group; the first question makes the topic that holds them.

use super::groups;
use crate::base::ids::NodeId;
use crate::cluster::changes::{ChangeError, NewTopic};
use crate::cluster::metadata::{Image, OFFSETS_TOPIC};
use crate::cluster::settings::BrokerSettings;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use crate::protocol::wire::Encoded;
use crate::server::dispatch::{Refused, Request};
use crate::shard::mailbox::{ChangeReply, ChangeRequest};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// First version that asks for several keys (KIP-699).
const MANY_FROM_VERSION: i16 = 4;

/// Why there is no coordinator, with words of this broker's own where Kafka has none for it.
type Refusal = (ErrorCode, Option<&'static str>);

/// Answers each key for itself.
pub async fn handle(request: &Request) -> Result<Encoded, Refused> {
    let body: FindCoordinatorRequest = request.decode()?;
    if body.key_type == GROUP {
        make_topic(request).await;
    }
    let shard = &request.server.shard;
    let image = shard.image();
    let find = |key: &str| find(request, body.key_type, key);
    let node_of = |found: &Result<(), Refusal>| match found {
        Ok(()) => node(&image, shard.node.node_id),
        Err(_) => (-1, "", -1),
    };
    let code_of = |found: &Result<(), Refusal>| found.err().map_or(ErrorCode::None, |it| it.0);
    let words_of = |found: &Result<(), Refusal>| found.err().and_then(|refusal| refusal.1);
    if request.version < MANY_FROM_VERSION {
        let found = find(body.key);
        let (node_id, host, port) = node_of(&found);
        let error_code = code_of(&found);
        return Ok(request.encode(&FindCoordinatorResponse {
            error_code,
            error_message: Some(words_of(&found).unwrap_or_else(|| words(error_code))),
            node_id,
            host,
            port,
            ..Default::default()
        }));
    }
    let coordinators = body.coordinator_keys.iter().map(|key| {
        let found = find(key);
        let (node_id, host, port) = node_of(&found);
        let (error_code, error_message) = (code_of(&found), words_of(&found).or(Some("")));
        Coordinator { key, node_id, host, port, error_code, error_message }
    });
    let coordinators = coordinators.collect();
    Ok(request.encode(&FindCoordinatorResponse { coordinators, ..Default::default() }))
}

/// As Kafka says them before version 4: "NONE" is said, too.
fn words(code: ErrorCode) -> &'static str {
    if code.is_none() { code.name() } else { code.message() }
}

fn find(request: &Request, key_type: i8, key: &str) -> Result<(), Refusal> {
    match key_type {
        GROUP => match groups::partition_of_group(request, key) {
            Some(_) => Ok(()),
            None => Err((ErrorCode::CoordinatorNotAvailable, None)),
        },
        // No retry helps, and producers tell their users these words.
        TRANSACTION => {
            Err((ErrorCode::UnsupportedVersion, Some("transactions are not served by this broker")))
        }
        _ => Err((ErrorCode::InvalidRequest, None)),
    }
}

fn node(image: &Image, node_id: NodeId) -> (i32, &str, i32) {
    match image.broker(node_id) {
        Some(broker) => (broker.id.0, &broker.host, broker.port.into()),
        None => (-1, "", -1),
    }
}

/// Makes the topic of groups if it is not there; it is on every shard when this resolves.
async fn make_topic(request: &Request) {
    let shard = &request.server.shard;
    if shard.image().topic(OFFSETS_TOPIC).is_some() {
        return;
    }
    let topics = vec![offsets_topic(&shard.settings())];
    let change = ChangeRequest::CreateTopics { topics, validate_only: false };
    let ChangeReply::Topics(made) = shard.change(change).await else {
        unreachable!("topics answer topics");
    };
    match made.first() {
        Some(Err(ChangeError::TopicExists { .. })) | Some(Ok(_)) | None => {}
        Some(Err(error)) => tracing::error!(topic = OFFSETS_TOPIC, %error, "topic not created"),
    }
}

fn offsets_topic(settings: &BrokerSettings) -> NewTopic {
    let overrides = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", settings.offsets_topic_segment_bytes.to_string()),
    ];
    let overrides = overrides.into_iter().map(|(name, value)| (name.to_owned(), Some(value)));
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions_count: settings.offsets_topic_num_partitions,
        replication_factor: settings.offsets_topic_replication_factor,
        assignments: Vec::new(),
        overrides: overrides.collect(),
        internal: true,
    }
}
