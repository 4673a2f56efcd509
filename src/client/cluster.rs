//! What a client knows of a cluster: its brokers, topics and leaders, and a connection to each.
//!
//! Connections are opened when first needed, shared, and opened again when they have ended.
//! Metadata is asked for when missing or when a broker says that it is out of date.
//! **Invariant:** there is at most one open connection to a broker.

use super::connection::{Connection, ConnectionConfig};
use super::error::ClientError;
use super::request::Response;
use crate::base::ids::{LeaderEpoch, NodeId, TopicId};
use crate::io::Io;
use crate::protocol::error::ErrorCode;
use crate::protocol::messages::Request;
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponsePartition,
    MetadataResponseTopic,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

/// Pause before a request is repeated: elections and creations take a few of these.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A broker as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: NodeId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub is_internal: bool,
    /// In order of their index, without gaps.
    pub partitions: Vec<Partition>,
}

/// A partition as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<NodeId>,
    pub in_sync: Vec<NodeId>,
}

/// A view of one cluster. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    inner: Rc<Inner>,
}

struct Inner {
    io: Io,
    config: ConnectionConfig,
    bootstrap: Vec<String>,
    brokers: RefCell<BTreeMap<NodeId, Broker>>,
    controller: Cell<Option<NodeId>>,
    connections: RefCell<BTreeMap<NodeId, Connection>>,
    first: RefCell<Option<Connection>>, // to a bootstrap address, whose id is not known
    topics: RefCell<BTreeMap<String, Rc<Topic>>>,
}

impl Cluster {
    /// Connects to the first of `bootstrap` (host:port each) that answers, and learns the brokers.
    ///
    /// # Errors
    /// The last address's failure where none answers.
    pub async fn connect(
        io: &Io,
        bootstrap: &[String],
        config: ConnectionConfig,
    ) -> Result<Cluster, ClientError> {
        let cluster = Cluster {
            inner: Rc::new(Inner {
                io: io.clone(),
                config,
                bootstrap: bootstrap.to_vec(),
                brokers: RefCell::default(),
                controller: Cell::new(None),
                connections: RefCell::default(),
                first: RefCell::default(),
                topics: RefCell::default(),
            }),
        };
        cluster.refresh_brokers().await?;
        Ok(cluster)
    }

    /// Asks which brokers there are and which of them is the controller.
    ///
    /// # Errors
    /// Those of [`Cluster::any`].
    pub async fn refresh_brokers(&self) -> Result<(), ClientError> {
        self.describe(Some(&[]), false).await.map(drop)
    }

    /// The runtime that the cluster's connections live on.
    pub fn io(&self) -> &Io {
        &self.inner.io
    }

    /// How long a request may take, retries of it included.
    pub fn time_limit(&self) -> Duration {
        self.inner.config.request_timeout
    }

    /// The brokers as last described.
    pub fn brokers(&self) -> Vec<Broker> {
        self.inner.brokers.borrow().values().cloned().collect()
    }

    /// The topic `name`, from memory where it is known. With `is_created` the broker may create it.
    ///
    /// Waits, within the time allowed, for a new topic to appear.
    ///
    /// # Errors
    /// [`ClientError::Refused`]: there is no such topic, or it may not be seen.
    pub async fn topic(&self, name: &str, is_created: bool) -> Result<Rc<Topic>, ClientError> {
        if let Some(topic) = self.inner.topics.borrow().get(name) {
            return Ok(Rc::clone(topic));
        }
        self.refresh_topic(name, is_created).await
    }

    /// Asks the brokers for the topic `name`, whatever is known of it.
    ///
    /// # Errors
    /// As [`Cluster::topic`].
    pub async fn refresh_topic(
        &self,
        name: &str,
        is_created: bool,
    ) -> Result<Rc<Topic>, ClientError> {
        let deadline = self.now() + self.time_limit();
        loop {
            let found = self.describe(Some(&[name]), is_created).await?.pop();
            let (code, topic) = found
                .ok_or_else(|| self.malformed(format!("it says nothing about topic {name}")))?;
            if code == ErrorCode::None && !topic.partitions.is_empty() {
                let topic = Rc::new(topic);
                self.inner.topics.borrow_mut().insert(name.to_owned(), Rc::clone(&topic));
                return Ok(topic);
            }
            self.inner.topics.borrow_mut().remove(name);
            let may_appear = matches!(code, ErrorCode::None | ErrorCode::LeaderNotAvailable)
                || (is_created && code == ErrorCode::UnknownTopicOrPartition);
            if !may_appear || self.now() >= deadline {
                ClientError::check(code, None, || format!("topic {name}"))?;
                return Err(ClientError::NoLeader { topic: name.to_owned(), partition: 0 });
            }
            self.io().sleep(RETRY_PAUSE).await;
        }
    }

    /// Every topic of the cluster, by name.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn all_topics(&self) -> Result<Vec<Topic>, ClientError> {
        let found = self.describe(None, false).await?;
        let mut topics: Vec<Topic> = found.into_iter().map(|(_, topic)| topic).collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Forgets the topic `name`, so that its next user asks for it.
    pub fn forget_topic(&self, name: &str) {
        self.inner.topics.borrow_mut().remove(name);
    }

    /// The leader of a partition and a connection to it.
    ///
    /// # Errors
    /// [`ClientError::NoPartition`], [`ClientError::NoLeader`] (at this moment), those of
    /// connecting and of [`Cluster::topic`].
    pub async fn leader(
        &self,
        name: &str,
        partition: i32,
    ) -> Result<(Connection, Rc<Topic>), ClientError> {
        let topic = self.topic(name, false).await?;
        let found = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
        let found = found.ok_or_else(|| ClientError::NoPartition {
            topic: name.to_owned(),
            partition,
            count: topic.partitions.len(),
        })?;
        let no_leader = || ClientError::NoLeader { topic: name.to_owned(), partition };
        let connection = self.broker(found.leader.ok_or_else(no_leader)?).await?;
        Ok((connection, topic))
    }

    /// A connection to the broker `id`.
    ///
    /// # Errors
    /// [`ClientError::Connect`]: it cannot be reached or is not known.
    pub async fn broker(&self, id: NodeId) -> Result<Connection, ClientError> {
        if let Some(connection) = self.open_connection(id) {
            return Ok(connection);
        }
        let connection = self.open(&self.address_of(id)?, self.inner.config.clone()).await?;
        if let Some(earlier) = self.open_connection(id) {
            return Ok(earlier); // someone else connected meanwhile
        }
        self.inner.connections.borrow_mut().insert(id, connection.clone());
        Ok(connection)
    }

    /// A connection to the broker `id` that nobody shares, whose requests may take
    /// `request_timeout`.
    ///
    /// # Errors
    /// As [`Cluster::broker`].
    pub async fn open_broker(
        &self,
        id: NodeId,
        request_timeout: Duration,
    ) -> Result<Connection, ClientError> {
        let config = ConnectionConfig { request_timeout, ..self.inner.config.clone() };
        self.open(&self.address_of(id)?, config).await
    }

    /// Where the broker `id` listens, as host:port.
    fn address_of(&self, id: NodeId) -> Result<String, ClientError> {
        let broker = self.inner.brokers.borrow().get(&id).cloned();
        let broker = broker.ok_or_else(|| ClientError::Connect {
            address: format!("node {id}"),
            reason: "the cluster does not list it".to_owned(),
        })?;
        Ok(match broker.host.contains(':') {
            true => format!("[{}]:{}", broker.host, broker.port),
            false => format!("{}:{}", broker.host, broker.port),
        })
    }

    /// A connection to any broker.
    ///
    /// # Errors
    /// The last failure where none can be reached.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let open = self.inner.first.borrow().clone().filter(|first| !first.is_closed());
        if let Some(first) = open {
            return Ok(first);
        }
        let mut failure = ClientError::Address {
            address: String::new(),
            reason: "no broker was given".to_owned(),
        };
        for address in &self.inner.bootstrap {
            match self.open(address, self.inner.config.clone()).await {
                Ok(connection) => {
                    *self.inner.first.borrow_mut() = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) => failure = error,
            }
        }
        let known: Vec<NodeId> = self.inner.brokers.borrow().keys().copied().collect();
        for id in known {
            if let Ok(connection) = self.broker(id).await {
                return Ok(connection);
            }
        }
        Err(failure)
    }

    /// A connection to the controller; to any broker where none is named.
    ///
    /// # Errors
    /// As [`Cluster::any`].
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        match self.inner.controller.get() {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    /// Sends `request` to any broker, once more if the connection turned out to be dead.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn call<'a, R: Request<'a>>(&self, request: &R) -> Result<Response<R>, ClientError> {
        match self.any().await?.call(request).await {
            Err(ClientError::Lost { .. }) => self.any().await?.call(request).await,
            outcome => outcome,
        }
    }

    /// Monotonic time.
    pub fn now(&self) -> Duration {
        self.io().clock().monotonic()
    }

    /// Asks for `names` (`None`: all topics) and keeps what comes back about the brokers.
    async fn describe(
        &self,
        names: Option<&[&str]>,
        is_created: bool,
    ) -> Result<Vec<(ErrorCode, Topic)>, ClientError> {
        let request = MetadataRequest {
            topics: names.map(|names| names.iter().copied().map(topic_by_name).collect()),
            allow_auto_topic_creation: is_created,
            ..MetadataRequest::default()
        };
        let response = self.call(&request).await?;
        let body = response.body()?;
        self.keep_brokers(&body);
        let topics = body.topics.iter().map(topic_of).collect::<Option<Vec<_>>>();
        topics.ok_or_else(|| self.malformed("it numbers partitions with gaps".to_owned()))
    }

    fn keep_brokers(&self, body: &MetadataResponse<'_>) {
        let brokers = body.brokers.iter().map(|broker| {
            let id = NodeId(broker.node_id);
            let (host, rack) = (broker.host.to_owned(), broker.rack.map(str::to_owned));
            (id, Broker { id, host, port: broker.port, rack })
        });
        let brokers: BTreeMap<NodeId, Broker> = brokers.collect();
        let mut known = self.inner.brokers.borrow_mut();
        let is_same = |id: &NodeId| brokers.contains_key(id) && brokers.get(id) == known.get(id);
        self.inner.connections.borrow_mut().retain(|id, _| is_same(id));
        *known = brokers;
        let controller = Some(NodeId(body.controller_id)).filter(|id| known.contains_key(id));
        self.inner.controller.set(controller);
    }

    fn malformed(&self, reason: String) -> ClientError {
        let address = self.inner.first.borrow().as_ref().map(|first| first.address().to_owned());
        ClientError::Malformed { address: address.unwrap_or_default(), reason }
    }

    fn open_connection(&self, id: NodeId) -> Option<Connection> {
        let connections = self.inner.connections.borrow();
        connections.get(&id).filter(|connection| !connection.is_closed()).cloned()
    }

    /// Opens a connection to `address` (host:port), trying every address that its name has.
    async fn open(
        &self,
        address: &str,
        config: ConnectionConfig,
    ) -> Result<Connection, ClientError> {
        let mut failure = ClientError::Address {
            address: address.to_owned(),
            reason: "its name has no address".to_owned(),
        };
        for target in resolve(self.io(), address).await? {
            match Connection::open(self.io(), target, address, config.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// The addresses of `host:port`, IPv4 first; a name is looked up off this thread.
///
/// # Errors
/// [`ClientError::Address`]: no port, or a name that nobody knows.
pub async fn resolve(io: &Io, address: &str) -> Result<Vec<SocketAddr>, ClientError> {
    if let Ok(number) = address.parse() {
        return Ok(vec![number]);
    }
    let refused = |reason: String| ClientError::Address { address: address.to_owned(), reason };
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        return Err(refused("host:port is expected, such as 127.0.0.1:9092".to_owned()));
    }
    let name = address.to_owned();
    let found = io.blocking(move || name.to_socket_addrs().map(Iterator::collect::<Vec<_>>)).await;
    let mut found = found.map_err(|error| refused(error.to_string()))?;
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn topic_by_name(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() }
}

/// A topic and whether it may be used; `None`: its partitions are not numbered from 0 on.
fn topic_of(topic: &MetadataResponseTopic<'_>) -> Option<(ErrorCode, Topic)> {
    let mut partitions: Vec<&MetadataResponsePartition> = topic.partitions.iter().collect();
    partitions.sort_by_key(|partition| partition.partition_index);
    if (0..).zip(&partitions).any(|(index, partition)| partition.partition_index != index) {
        return None;
    }
    let described = Topic {
        name: topic.name.unwrap_or_default().to_owned(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.into_iter().map(partition_of).collect(),
    };
    Some((topic.error_code, described))
}

fn partition_of(partition: &MetadataResponsePartition) -> Partition {
    let ids = |ids: &[i32]| ids.iter().copied().map(NodeId).collect();
    Partition {
        leader: Some(NodeId(partition.leader_id)).filter(|leader| leader.0 >= 0),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        replicas: ids(&partition.replica_nodes),
        in_sync: ids(&partition.isr_nodes),
    }
}
