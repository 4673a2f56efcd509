//! The records of the metadata log and their bytes.
//!
//! A batch of records is one entry of the log; an image's snapshot is a batch too. Bytes are rkyv
//! behind a version, and every byte that comes back from disk or a peer is validated before it is
//! looked at.

use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// Version of the bytes below. A record or field that is added makes it the next number.
const RECORDS_VERSION: u32 = 3;

/// The oldest version whose bytes read as today's do: what came since is records of new kinds,
/// which change nothing of the others' layout.
const RECORDS_VERSION_MIN: u32 = 1;
const _: () =
    assert!(size_of::<ArchivedMetadataRecord>() == 64, "version 1 had records of 64 bytes");

/// Bytes of the head in front of the rkyv value: the version, then the value's length.
const HEAD_BYTES: usize = 8;

/// One partition as it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionRecord {
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub partition_epoch: i32,
}

/// A broker and its address.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct BrokerRecord {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// One change of the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// The cluster's id: the first record of every log.
    Cluster {
        cluster_id: String,
    },
    /// A broker is there, or has moved.
    BrokerRegistered(BrokerRecord),
    /// A topic with all its partitions and settings.
    TopicCreated {
        id: u128,
        name: String,
        internal: bool,
        partitions: Vec<PartitionRecord>,
        overrides: Vec<(String, String)>,
    },
    TopicDeleted {
        id: u128,
    },
    /// More partitions, numbered on from those that are there.
    PartitionsAdded {
        topic_id: u128,
        partitions: Vec<PartitionRecord>,
    },
    PartitionChanged {
        topic_id: u128,
        partition: i32,
        state: PartitionRecord,
    },
    /// A topic's setting has this value, or its default again.
    TopicSettingChanged {
        topic_id: u128,
        name: String,
        value: Option<String>,
    },
    /// A broker's setting (all brokers': no id) has this value, or its default again.
    BrokerSettingChanged {
        node_id: Option<i32>,
        name: String,
        value: Option<String>,
    },
    /// A setting of a group, or of what clients are asked to measure, has this value, or its
    /// default again.
    NamedSettingChanged {
        kind: NamedKind,
        resource: String,
        name: String,
        value: Option<String>,
    },
    /// Producer ids below this one may be in use; a shard got the last block of them.
    ProducerIdsAllocated {
        next: i64,
    },
}

/// What is known by the settings that somebody gave it, and by nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub enum NamedKind {
    Group,
    ClientMetrics,
}

/// The records as bytes of one entry.
pub fn encode_records(records: &Vec<MetadataRecord>) -> Vec<u8> {
    let body = rkyv::to_bytes::<rancor::Error>(records).expect("records hold only plain values");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    let body_bytes = u32::try_from(body.len()).expect("a batch of records is far below 4 GiB");
    bytes.extend_from_slice(&RECORDS_VERSION.to_le_bytes());
    bytes.extend_from_slice(&body_bytes.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The records of an entry's bytes.
///
/// # Errors
/// [`RecordsError`]: another version, or bytes that no encoder of ours wrote.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<MetadataRecord>, RecordsError> {
    let Some((head, body)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Err(RecordsError::Short { bytes: bytes.len() });
    };
    let version = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if !(RECORDS_VERSION_MIN..=RECORDS_VERSION).contains(&version) {
        return Err(RecordsError::Version { version });
    }
    let body_bytes = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if body_bytes != body.len() {
        return Err(RecordsError::Short { bytes: bytes.len() });
    }
    let mut aligned: AlignedVec = AlignedVec::with_capacity(body.len());
    aligned.extend_from_slice(body); // rkyv reads only aligned memory
    rkyv::from_bytes::<Vec<MetadataRecord>, rancor::Error>(&aligned)
        .map_err(|error| RecordsError::Invalid { reason: error.to_string() })
}

/// Why an entry's bytes are no records.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error("metadata records of {bytes} bytes are not as long as their head says")]
    Short { bytes: usize },
    #[error("metadata records of version {version}, this program knows up to {RECORDS_VERSION}")]
    Version { version: u32 },
    #[error("metadata records are damaged: {reason}")]
    Invalid { reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<MetadataRecord> {
        let state = PartitionRecord {
            leader: 1,
            leader_epoch: 2,
            replicas: vec![1, 2, 3],
            isr: vec![1],
            partition_epoch: 4,
        };
        vec![
            MetadataRecord::Cluster { cluster_id: "5L6g3nShT-eMCtK--X86sw".to_owned() },
            MetadataRecord::TopicCreated {
                id: u128::MAX,
                name: "words".to_owned(),
                internal: false,
                partitions: vec![state.clone(); 3],
                overrides: vec![("cleanup.policy".to_owned(), String::new())],
            },
            MetadataRecord::PartitionChanged { topic_id: 5, partition: 0, state },
            MetadataRecord::BrokerSettingChanged {
                node_id: Some(1),
                name: "num.partitions".to_owned(),
                value: None,
            },
            MetadataRecord::ProducerIdsAllocated { next: i64::MAX },
            MetadataRecord::NamedSettingChanged {
                kind: NamedKind::ClientMetrics,
                resource: "producers".to_owned(),
                name: "interval.ms".to_owned(),
                value: Some("5000".to_owned()),
            },
        ]
    }

    #[test]
    fn records_survive_their_bytes_at_any_alignment() {
        let bytes = encode_records(&sample());
        for shift in 0..16 {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(&bytes);
            assert_eq!(decode_records(&shifted[shift..]).unwrap(), sample());
        }
    }

    /// Goal: damage is an error, never a panic. Method: cut at every length, flip seeded bytes.
    #[test]
    fn damaged_records_never_panic() {
        let bytes = encode_records(&sample());
        for cut in 0..bytes.len() {
            assert!(decode_records(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5_000 {
            let mut damaged = bytes.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..damaged.len());
                damaged[at] = random.u8(..);
            }
            let _ = decode_records(&damaged);
        }
        assert!(decode_records(&[9, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
