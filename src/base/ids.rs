//! Identifiers as newtypes, so that an offset is never taken for a partition.
//!
//! Numbers and text forms are Kafka's: a topic id prints as 22 characters of url-safe base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;

macro_rules! number_ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

number_ids! {
    /// Position of a record in its partition, 0 and up; -1 where Kafka says "unknown".
    Offset(i64);
    /// Term of a partition's leader, 0 and up; -1 where a client does not know it (KIP-101).
    LeaderEpoch(i32);
    /// Number of a partition in its topic, 0 and up.
    PartitionIndex(i32);
    /// Id of a broker, 0 and up.
    NodeId(i32);
    /// Number of a shard in this process, 0-based.
    ShardId(u16);
}

impl Offset {
    /// The offset `count` records further on.
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl LeaderEpoch {
    /// What a client sends when it does not know the epoch.
    pub const UNKNOWN: LeaderEpoch = LeaderEpoch(-1);
}

/// Id of a topic for its whole life; one created again under the same name gets another
/// (KIP-516).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl TopicId {
    /// Kafka's "no id": a request that names the topic instead.
    pub const ZERO: TopicId = TopicId(0);

    /// A random version 4 id whose text does not begin with a dash: a shell would take that for a
    /// flag.
    pub fn random() -> TopicId {
        loop {
            let id = TopicId(uuid::Uuid::new_v4().as_u128());
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.to_be_bytes()))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// The text is not 22 characters of url-safe base64.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: 22 characters of url-safe base64 are expected")]
pub struct IdError {
    text: String,
}

impl FromStr for TopicId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<TopicId, IdError> {
        let refused = || IdError { text: text.to_owned() };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| refused())?;
        Ok(TopicId(u128::from_be_bytes(bytes)))
    }
}

/// One partition of one topic, by the topic's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an id survives its text. Method: print and parse random ids; parse what is none.
    #[test]
    fn a_topic_id_reads_back_what_it_prints() {
        for _ in 0..100 {
            let id = TopicId::random();
            assert_eq!(id.to_string().len(), 22);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!("short".parse::<TopicId>().is_err());
        assert!("!!!!!!!!!!!!!!!!!!!!!!".parse::<TopicId>().is_err());
    }
}
