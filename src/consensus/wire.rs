//! Messages between the members as bytes: rkyv behind a version, validated before they are looked
//! at.

use super::Outgoing;
use raft::eraftpb::{self, MessageType};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// Version of the bytes below, their first four.
const MESSAGE_VERSION: u32 = 1;

/// The types that travel; the crate keeps the rest within one member.
const TYPES: &[MessageType] = &[
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

#[derive(Archive, Serialize, Deserialize)]
struct EntryBody {
    term: u64,
    index: u64,
    data: Vec<u8>,
    context: Vec<u8>,
}

#[derive(Archive, Serialize, Deserialize)]
struct SnapshotBody {
    index: u64,
    term: u64,
    voters: Vec<u64>,
    data: Vec<u8>,
}

#[derive(Archive, Serialize, Deserialize)]
struct MessageBody {
    kind: u8, // place in TYPES
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    commit: u64,
    commit_term: u64,
    request_snapshot: u64,
    reject: bool,
    reject_hint: u64,
    priority: i64,
    context: Vec<u8>,
    entries: Vec<EntryBody>,
    snapshot: Option<SnapshotBody>,
}

/// Why bytes are no message for this member.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("a raft message of version {version}, this program knows {MESSAGE_VERSION}")]
    Version { version: u32 },
    #[error("a raft message is damaged: {reason}")]
    Invalid { reason: String },
    #[error("a raft message from member {from} to member {to} came here")]
    Stranger { from: u64, to: u64 },
}

pub(super) fn encode_all(messages: Vec<eraftpb::Message>) -> Vec<Outgoing> {
    messages.into_iter().filter_map(encode).collect()
}

fn encode(message: eraftpb::Message) -> Option<Outgoing> {
    let kind = TYPES.iter().position(|kind| *kind == message.get_msg_type())?;
    let snapshot = (message.has_snapshot() && !message.get_snapshot().is_empty()).then(|| {
        let snapshot = super::Snapshot::from(message.get_snapshot());
        let super::Snapshot { index, term, voters, data } = snapshot;
        SnapshotBody { index, term, voters, data }
    });
    let entries = message.entries.iter().map(|entry| EntryBody {
        term: entry.term,
        index: entry.index,
        data: entry.data.to_vec(),
        context: entry.context.to_vec(),
    });
    let body = MessageBody {
        kind: u8::try_from(kind).expect("there are few types"),
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        priority: message.priority,
        context: message.context.to_vec(),
        entries: entries.collect(),
        snapshot,
    };
    let body = rkyv::to_bytes::<rancor::Error>(&body).expect("a message holds only plain values");
    let mut bytes = MESSAGE_VERSION.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Some(Outgoing { to: message.to, bytes })
}

pub(super) fn decode(bytes: &[u8]) -> Result<eraftpb::Message, MessageError> {
    let invalid = |reason: String| MessageError::Invalid { reason };
    let (version, body) =
        bytes.split_first_chunk().ok_or_else(|| invalid("it is too short".to_owned()))?;
    let version = u32::from_le_bytes(*version);
    if version != MESSAGE_VERSION {
        return Err(MessageError::Version { version });
    }
    let mut aligned: AlignedVec = AlignedVec::with_capacity(body.len());
    aligned.extend_from_slice(body); // rkyv reads only aligned memory
    let body = rkyv::from_bytes::<MessageBody, rancor::Error>(&aligned)
        .map_err(|error| invalid(error.to_string()))?;
    let kind = TYPES.get(usize::from(body.kind));
    let kind = *kind.ok_or_else(|| invalid(format!("type {} is unknown", body.kind)))?;
    Ok(foreign_message(kind, body))
}

fn foreign_message(kind: MessageType, body: MessageBody) -> eraftpb::Message {
    let mut message = eraftpb::Message::default();
    message.set_msg_type(kind);
    message.to = body.to;
    message.from = body.from;
    message.term = body.term;
    message.log_term = body.log_term;
    message.index = body.index;
    message.commit = body.commit;
    message.commit_term = body.commit_term;
    message.request_snapshot = body.request_snapshot;
    message.reject = body.reject;
    message.reject_hint = body.reject_hint;
    message.priority = body.priority;
    message.set_context(body.context.into());
    let entries = body.entries.into_iter().map(|entry| eraftpb::Entry {
        term: entry.term,
        index: entry.index,
        data: entry.data.into(),
        context: entry.context.into(),
        ..Default::default()
    });
    message.set_entries(entries.collect::<Vec<_>>().into());
    if let Some(snapshot) = body.snapshot {
        let foreign = message.mut_snapshot();
        foreign.set_data(snapshot.data.into());
        foreign.mut_metadata().index = snapshot.index;
        foreign.mut_metadata().term = snapshot.term;
        foreign.mut_metadata().mut_conf_state().set_voters(snapshot.voters);
    }
    message
}
