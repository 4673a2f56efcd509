//! What goes wrong between a client and its brokers, as sentences a person can act on.

use crate::protocol::error::ErrorCode;
use std::time::Duration;

/// A request that gave no result.
///
/// Cloned, as one lost connection fails every request that waits on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address is no `host:port` or its name is unknown.
    #[error("cannot use {address:?} as a broker's address: {reason}")]
    Address { address: String, reason: String },
    /// Nobody answers there.
    #[error("cannot reach a broker at {address}: {reason}; is it running and is this its port?")]
    Connect { address: String, reason: String },
    /// The connection ended while requests were on it.
    #[error("the connection to {address} was lost: {reason}")]
    Lost { address: String, reason: String },
    /// The broker kept a request longer than the time allowed.
    #[error("{address} did not answer within {:.0} s", .limit.as_secs_f64())]
    Timeout { address: String, limit: Duration },
    /// The two know no common version of a request.
    #[error("{address} does not serve {api} in a version that this client knows ({ours})")]
    Version { address: String, api: &'static str, ours: String },
    /// The broker's bytes make no sense.
    #[error("{address} sent an answer that cannot be read: {reason}")]
    Malformed { address: String, reason: String },
    /// More requests are waiting on one connection than a connection may hold.
    #[error("{count} requests wait on the connection to {address}, which is the most it may hold")]
    TooMany { address: String, count: usize },
    /// The broker understood and said no.
    #[error("{what}: {}{}", .code.name(), detail(.message.as_deref(), *.code))]
    Refused { what: String, code: ErrorCode, message: Option<String> },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}; it has {count}, numbered from 0")]
    NoPartition { topic: String, partition: i32, count: usize },
    /// The partition has had no leader for the whole time allowed.
    #[error("partition {partition} of topic {topic} has no leader that can be reached")]
    NoLeader { topic: String, partition: i32 },
    /// Records were tried for the whole time allowed; with what the last attempt met.
    #[error(
        "{topic}-{partition} took no records within {:.0} s; {}",
        .limit.as_secs_f64(),
        .reason.as_deref().unwrap_or("no attempt was answered")
    )]
    Undelivered { topic: String, partition: i32, limit: Duration, reason: Option<String> },
    /// The position lies outside what the partition holds.
    #[error(
        "offset {offset} of {topic}-{partition} is outside the log; \
         use --from earliest or --from latest, or an offset in between"
    )]
    OutOfRange { topic: String, partition: i32, offset: i64 },
    /// A batch of records is damaged or of an unknown kind.
    #[error("{topic}-{partition}: the batch at offset {offset} cannot be read: {reason}")]
    Batch { topic: String, partition: i32, offset: i64, reason: String },
    /// A record is larger than a batch may be.
    #[error("a record of {bytes} bytes is larger than the {limit_bytes} that a batch may have")]
    RecordTooLarge { bytes: usize, limit_bytes: usize },
}

/// What follows the name of a code: the broker's own words, else ours, else Kafka's meaning.
///
/// Where there is no topic or group our words are the better ones: brokers only repeat that.
fn detail(message: Option<&str>, code: ErrorCode) -> String {
    let is_ours_better =
        matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::GroupIdNotFound);
    let words = match (message, advice(code)) {
        (_, Some(advice)) if is_ours_better => advice,
        (Some(message), _) if !message.is_empty() => message,
        (_, Some(advice)) => advice,
        _ => code.message(),
    };
    if words.is_empty() { String::new() } else { format!(" ({words})") }
}

/// What a person can do about `code`, where its meaning does not say it.
fn advice(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopicOrPartition => {
            Some("there is no such topic; `ringmain topics list` shows those that exist")
        }
        ErrorCode::GroupIdNotFound => {
            Some("there is no such group; `ringmain groups list` shows those that exist")
        }
        ErrorCode::NonEmptyGroup => Some("the group has members; stop them first"),
        ErrorCode::InvalidPartitions => Some("1 is the least, and partitions can only be added"),
        ErrorCode::MessageTooLarge => {
            Some("the topic's max.message.bytes allows no batch of this size")
        }
        _ => None,
    }
}

impl ClientError {
    /// Whether the same request may succeed when sent again, perhaps to another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Lost { .. }
            | ClientError::Timeout { .. }
            | ClientError::NoLeader { .. } => true,
            ClientError::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether a broker refused with this code.
    pub fn is_code(&self, wanted: ErrorCode) -> bool {
        matches!(self, ClientError::Refused { code, .. } if *code == wanted)
    }

    /// The broker's refusal of `what`; `Ok` where `code` is no error.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for every other code.
    pub fn check(
        code: ErrorCode,
        message: Option<&str>,
        what: impl FnOnce() -> String,
    ) -> Result<(), ClientError> {
        if code == ErrorCode::None {
            return Ok(());
        }
        Err(ClientError::Refused { what: what(), code, message: message.map(str::to_owned) })
    }
}
