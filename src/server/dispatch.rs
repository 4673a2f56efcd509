//! From a request's bytes to the handler of its key.

use super::answer::{Outcome, Pending};
use super::connection::Server;
use super::handlers;
use crate::io::Slice;
use crate::protocol::api::{Api, ApiKey};
use crate::protocol::header::{
    HeaderError, decode_request_body, decode_request_header, encode_response,
};
use crate::protocol::wire::{Encoded, Wire, WireError};
use std::net::IpAddr;
use std::rc::Rc;

/// Why a connection is closed over a request, as Kafka does where it cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("{api} requests (key {key}) are not served", api = api.name, key = api.key.number())]
    NotServed { api: &'static Api },
    #[error("malformed {name} request of version {version}: {error}")]
    Malformed { name: &'static str, version: i16, error: WireError },
    #[error("{name} request of version {version}: {reason}")]
    Nonsense { name: &'static str, version: i16, reason: String },
}

/// A request with its header read.
pub struct Request {
    pub server: Rc<Server>,
    pub api: &'static Api,
    pub version: i16,
    pub correlation_id: i32,
    peer: IpAddr,
    frame: Slice,
    body_start: usize,
}

/// How a request goes on.
pub enum Way {
    /// Begun at once, beside those before it.
    Pipelined(Request),
    /// Begun when those before it were answered.
    Alone(AloneRequest),
}

/// A request that is served alone.
pub struct AloneRequest(Request);

/// Reads the header of `frame` and decides how to go on.
///
/// # Errors
/// [`Refused`]: the connection is to be closed.
pub fn begin(server: &Rc<Server>, peer: IpAddr, frame: Slice) -> Result<Way, Refused> {
    let (header, body) = match decode_request_header(&frame) {
        Ok(decoded) => decoded,
        Err(HeaderError::UnsupportedVersion { api, correlation_id, .. })
            if api.key == ApiKey::ApiVersions =>
        {
            // The client may be newer than this broker: it learns the versions from this answer.
            let request = Request {
                server: server.clone(),
                api,
                version: handlers::api_versions::VERSION_NOT_KNOWN,
                correlation_id,
                peer,
                frame: Slice::empty(),
                body_start: 0,
            };
            return Ok(Way::Alone(AloneRequest(request)));
        }
        Err(error) => return Err(error.into()),
    };
    let request = Request {
        server: server.clone(),
        api: header.api,
        version: header.version,
        correlation_id: header.correlation_id,
        peer,
        body_start: frame.len() - body.len(),
        frame: frame.clone(),
    };
    Ok(match request.api.key {
        ApiKey::Produce | ApiKey::Fetch | ApiKey::OffsetCommit => Way::Pipelined(request),
        _ => Way::Alone(AloneRequest(request)),
    })
}

impl Request {
    /// Begins a request that is pipelined.
    ///
    /// # Errors
    /// [`Refused`]: the connection is to be closed.
    pub fn run(self) -> Result<Pending, Refused> {
        match self.api.key {
            ApiKey::Produce => handlers::produce::begin(self),
            ApiKey::Fetch => handlers::fetch::begin(self),
            ApiKey::OffsetCommit => handlers::offset_commit::begin(self),
            key => unreachable!("{key:?} is not pipelined"),
        }
    }

    /// The decoded body.
    ///
    /// # Errors
    /// [`Refused::Malformed`].
    pub fn decode<'a, T: Wire<'a>>(&'a self) -> Result<T, Refused> {
        let version = self.api.version(self.version);
        decode_request_body(self.body(), version).map_err(|error| Refused::Malformed {
            name: self.api.name,
            version: self.version,
            error,
        })
    }

    /// The request says something that no answer fits.
    pub fn nonsense(&self, reason: impl Into<String>) -> Refused {
        Refused::Nonsense { name: self.api.name, version: self.version, reason: reason.into() }
    }

    /// The answer's frame.
    pub fn encode<'a>(&self, body: &impl Wire<'a>) -> Encoded {
        encode_response(self.api.key, self.version, self.correlation_id, body)
    }

    /// Who sends it: the id that the client gave itself, and its address as Kafka shows it.
    pub fn client(&self) -> (String, String) {
        let header = decode_request_header(&self.frame);
        let (header, _) = header.expect("the request came to be through it");
        (header.client_id.unwrap_or_default().to_owned(), format!("/{}", self.peer))
    }

    /// The body's bytes, shared.
    pub fn body_slice(&self) -> Slice {
        self.frame.slice(self.body_start..self.frame.len())
    }

    /// Lets go of the body's memory: an answer needs it no more.
    pub fn release_body(&mut self) {
        self.frame = Slice::empty();
        self.body_start = 0;
    }

    /// The part of the frame that `bytes`, borrowed from the body, is; it shares the memory.
    pub fn slice_of(&self, bytes: &[u8]) -> Slice {
        let start = bytes.as_ptr().addr() - self.frame.as_ptr().addr();
        self.frame.slice(start..start + bytes.len())
    }

    fn body(&self) -> &[u8] {
        &self.frame[self.body_start..]
    }
}

impl AloneRequest {
    /// Whether its answer may be up to other clients: then it holds nothing of the shard's budget
    /// while it waits.
    pub fn waits_for_others(&self) -> bool {
        matches!(self.0.api.key, ApiKey::JoinGroup | ApiKey::SyncGroup)
    }

    /// Serves the request.
    ///
    /// # Errors
    /// [`Refused`]: the connection is to be closed.
    pub async fn run(self) -> Result<Outcome, Refused> {
        let request = self.0;
        let encoded = match request.api.key {
            ApiKey::ApiVersions => handlers::api_versions::handle(&request)?,
            ApiKey::Metadata => handlers::metadata::handle(&request).await?,
            ApiKey::ListOffsets => handlers::list_offsets::handle(&request).await?,
            ApiKey::CreateTopics => handlers::create_topics::handle(&request).await?,
            ApiKey::DeleteTopics => handlers::delete_topics::handle(&request).await?,
            ApiKey::DeleteRecords => handlers::delete_records::handle(&request).await?,
            ApiKey::CreatePartitions => handlers::create_partitions::handle(&request).await?,
            ApiKey::DescribeConfigs => handlers::describe_configs::handle(&request)?,
            ApiKey::AlterConfigs => handlers::alter_configs::handle(&request).await?,
            ApiKey::IncrementalAlterConfigs => {
                handlers::incremental_alter_configs::handle(&request).await?
            }
            ApiKey::DescribeLogDirs => handlers::describe_log_dirs::handle(&request).await?,
            ApiKey::DescribeProducers => handlers::describe_producers::handle(&request).await?,
            ApiKey::InitProducerId => handlers::init_producer_id::handle(&request).await?,
            ApiKey::DescribeQuorum => handlers::describe_quorum::handle(&request).await?,
            ApiKey::ElectLeaders => handlers::elect_leaders::handle(&request)?,
            ApiKey::AlterReplicaLogDirs => handlers::alter_replica_log_dirs::handle(&request)?,
            ApiKey::AlterPartitionReassignments => {
                handlers::alter_partition_reassignments::handle(&request)?
            }
            ApiKey::ListPartitionReassignments => {
                handlers::list_partition_reassignments::handle(&request)?
            }
            ApiKey::UpdateFeatures => handlers::update_features::handle(&request)?,
            ApiKey::ListConfigResources => handlers::list_config_resources::handle(&request)?,
            ApiKey::DescribeCluster => handlers::describe_cluster::handle(&request)?,
            ApiKey::DescribeTopicPartitions => {
                handlers::describe_topic_partitions::handle(&request)?
            }
            ApiKey::OffsetForLeaderEpoch => {
                handlers::offset_for_leader_epoch::handle(&request).await?
            }
            _ => return request.run_of_groups().await,
        };
        Ok(Outcome::Answer(encoded.into()))
    }
}

impl Request {
    /// Serves a request about groups.
    async fn run_of_groups(self) -> Result<Outcome, Refused> {
        let request = &self;
        let encoded = match request.api.key {
            ApiKey::FindCoordinator => handlers::find_coordinator::handle(request).await?,
            ApiKey::JoinGroup => handlers::join_group::handle(self).await?,
            ApiKey::SyncGroup => handlers::sync_group::handle(self).await?,
            ApiKey::Heartbeat => handlers::heartbeat::handle(request).await?,
            ApiKey::LeaveGroup => handlers::leave_group::handle(request).await?,
            ApiKey::OffsetFetch => handlers::offset_fetch::handle(request).await?,
            ApiKey::OffsetDelete => handlers::offset_delete::handle(request).await?,
            ApiKey::DescribeGroups => handlers::describe_groups::handle(request).await?,
            ApiKey::ListGroups => handlers::list_groups::handle(request).await?,
            ApiKey::DeleteGroups => handlers::delete_groups::handle(request).await?,
            ApiKey::ConsumerGroupHeartbeat => {
                handlers::consumer_group_heartbeat::handle(request).await?
            }
            ApiKey::ConsumerGroupDescribe => {
                handlers::consumer_group_describe::handle(request).await?
            }
            _ => return Err(Refused::NotServed { api: request.api }),
        };
        Ok(Outcome::Answer(encoded.into()))
    }
}
