//! The topic under test: made, found, and where each of its partitions lives.
//!
//! Asks before a measurement only, through ringmain's own client: speed does not matter here. The
//! client's runtime has ended when the measurement begins.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use ringmain::base::ids::{NodeId, TopicId};
use ringmain::client::admin::NewTopic;
use ringmain::client::cluster::{Cluster, Topic as Described};
use ringmain::client::connection::ConnectionConfig;
use ringmain::client::consumer::offsets_at;
use ringmain::client::error::ClientError;
use ringmain::io;
use ringmain::protocol::api::ApiKey;
use ringmain::protocol::error::ErrorCode;

use crate::CLIENT_ID;
use crate::arguments::TargetArgs;

/// Longest wait for a topic to be made, or for its name to be free again.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause before brokers are asked again: short, as the wait itself is measured.
const POLL_PAUSE: Duration = Duration::from_millis(2);

/// Asks for the offset behind the newest record.
const LATEST: i64 = -1;
/// Asks for the offset of the oldest record.
const EARLIEST: i64 = -2;

/// The broker that leads some of a topic's partitions.
pub struct Leader {
    pub address: SocketAddr,
    pub partitions: Vec<i32>,
}

/// A topic, and who leads what of it. There is a leader for every partition.
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub leaders: Vec<Leader>,
    pub produce_version: i16,
    pub fetch_version: i16,
    /// Of the oldest record there is, by partition.
    pub earliest: BTreeMap<i32, i64>,
    /// Behind the newest record there is, by partition.
    pub latest: BTreeMap<i32, i64>,
}

impl Topic {
    /// Partitions of the topic.
    pub fn partitions_count(&self) -> usize {
        self.latest.len()
    }

    /// Records that the topic holds, as its offsets tell.
    pub fn records_count(&self) -> u64 {
        let ends = self.latest.iter();
        ends.map(|(index, end)| (end - self.earliest[index]).max(0) as u64).sum()
    }
}

/// Makes the topic as `target` asks for it, unless it is there, and finds its leaders.
///
/// # Errors
/// No broker answers, or the topic cannot be made.
pub fn prepare(target: &TargetArgs) -> anyhow::Result<Topic> {
    let topic = io::run_one(async |io| {
        let cluster = connect(&io, &target.brokers, CHANGE_TIMEOUT).await?;
        if target.recreate {
            match cluster.delete_topic(&target.topic).await {
                Err(error) if error.is_code(ErrorCode::UnknownTopicOrPartition) => {}
                outcome => outcome?,
            }
        }
        cluster.any().await?.version_of(ApiKey::Produce)?; // no time brings another version
        cluster.any().await?.version_of(ApiKey::Fetch)?;
        if target.no_create {
            let name = &target.topic;
            let found = cluster.refresh_topic(name, false).await;
            found.with_context(|| format!("topic {name} is not there to be used (--no-create)"))?;
        } else {
            create(&cluster, target).await?;
        }
        look_until_ready(&cluster, &target.topic, 1, CHANGE_TIMEOUT).await
    })
    .context("the load generator's runtime")??;
    if topic.partitions_count() != target.partitions as usize {
        eprintln!("topic {} has {} partitions already", topic.name, topic.partitions_count());
    }
    Ok(topic)
}

/// Looks at a topic that is there.
///
/// # Errors
/// It is not, or no broker answers.
pub fn look_at(target: &TargetArgs) -> anyhow::Result<Topic> {
    wait_until_ready(&target.brokers, &target.topic, 1, CHANGE_TIMEOUT)
}

/// Waits until a broker is there and the topic has `partitions_min` partitions, each with a leader
/// that tells its offsets.
///
/// # Errors
/// That is still not so when `timeout` is over: what was wrong last.
pub fn wait_until_ready(
    brokers: &str,
    name: &str,
    partitions_min: usize,
    timeout: Duration,
) -> anyhow::Result<Topic> {
    io::run_one(async |io| {
        let deadline = io.clock().monotonic() + timeout;
        let cluster = loop {
            match connect(&io, brokers, timeout).await {
                Ok(cluster) => break cluster,
                Err(error) if io.clock().monotonic() >= deadline => return Err(error.into()),
                Err(_) => io.sleep(POLL_PAUSE).await,
            }
        };
        look_until_ready(&cluster, name, partitions_min, timeout).await
    })
    .context("the load generator's runtime")?
}

/// A view of the cluster, whose requests may take `limit`.
///
/// # Errors
/// None of `brokers` (host:port, separated by commas) answers.
pub async fn connect(io: &io::Io, brokers: &str, limit: Duration) -> Result<Cluster, ClientError> {
    let bootstrap: Vec<String> = brokers.split(',').map(|name| name.trim().to_owned()).collect();
    let config = ConnectionConfig {
        client_id: CLIENT_ID.to_owned(),
        request_timeout: limit,
        ..ConnectionConfig::default()
    };
    Cluster::connect(io, &bootstrap, config).await
}

/// Creates the topic; that it is there already is fine. Right after a deletion the name may still
/// be taken for a moment.
async fn create(cluster: &Cluster, target: &TargetArgs) -> anyhow::Result<()> {
    let deadline = cluster.now() + CHANGE_TIMEOUT;
    let topic = NewTopic {
        name: target.topic.clone(),
        partitions_count: Some(target.partitions as i32),
        replication_factor: Some(target.replication as i16),
        configs: target.topic_config.clone(),
    };
    loop {
        let Err(error) = cluster.create_topic(&topic).await else { return Ok(()) };
        let exists = error.is_code(ErrorCode::TopicAlreadyExists);
        if exists && !target.recreate {
            return Ok(());
        }
        if !(exists || error.is_retriable()) || cluster.now() >= deadline {
            return Err(error.into());
        }
        cluster.io().sleep(POLL_PAUSE).await;
    }
}

async fn look_until_ready(
    cluster: &Cluster,
    name: &str,
    partitions_min: usize,
    timeout: Duration,
) -> anyhow::Result<Topic> {
    let deadline = cluster.now() + timeout;
    loop {
        match look(cluster, name, partitions_min).await {
            Ok(topic) => return Ok(topic),
            Err(error) if cluster.now() >= deadline => return Err(error),
            Err(_) => cluster.io().sleep(POLL_PAUSE).await,
        }
    }
}

/// Looks for the topic once.
async fn look(cluster: &Cluster, name: &str, partitions_min: usize) -> anyhow::Result<Topic> {
    let described = cluster.refresh_topic(name, false).await?;
    let partitions_count = described.partitions.len();
    if partitions_count < partitions_min {
        bail!("topic {name} has {partitions_count} partitions, not {partitions_min}");
    }
    let partitions: Vec<i32> = (0..partitions_count as i32).collect();
    let earliest = offsets_at(cluster, name, &partitions, EARLIEST).await?;
    let latest = offsets_at(cluster, name, &partitions, LATEST).await?;
    let leaders = leaders_of(cluster, &described)?;
    let connection = cluster.any().await?;
    Ok(Topic {
        name: name.to_owned(),
        id: described.id,
        leaders,
        produce_version: connection.version_of(ApiKey::Produce)?,
        fetch_version: connection.version_of(ApiKey::Fetch)?,
        earliest: earliest.into_iter().map(|(index, offset)| (index, offset.0)).collect(),
        latest: latest.into_iter().map(|(index, offset)| (index, offset.0)).collect(),
    })
}

fn leaders_of(cluster: &Cluster, described: &Rc<Described>) -> anyhow::Result<Vec<Leader>> {
    let mut partitions_of: BTreeMap<NodeId, Vec<i32>> = BTreeMap::new();
    for (index, partition) in described.partitions.iter().enumerate() {
        let leader = partition.leader.ok_or_else(|| anyhow!("partition {index} has no leader"))?;
        partitions_of.entry(leader).or_default().push(index as i32);
    }
    let brokers = cluster.brokers();
    let leaders = partitions_of.into_iter().map(|(id, partitions)| {
        let broker = brokers.iter().find(|broker| broker.id == id);
        let broker = broker.ok_or_else(|| anyhow!("the cluster lists no broker {id}"))?;
        Ok(Leader { address: address_of(&broker.host, broker.port)?, partitions })
    });
    leaders.collect()
}

/// Where the broker listens that looks after `group`.
///
/// # Errors
/// There is none in time, or its name has no address.
pub async fn coordinator_address(cluster: &Cluster, group: &str) -> anyhow::Result<SocketAddr> {
    let id = cluster.coordinator_id(group).await?;
    let brokers = cluster.brokers();
    let broker = brokers.iter().find(|broker| broker.id == id);
    let broker = broker.ok_or_else(|| anyhow!("the cluster lists no broker {id}"))?;
    address_of(&broker.host, broker.port)
}

fn address_of(host: &str, port: i32) -> anyhow::Result<SocketAddr> {
    let port = u16::try_from(port).with_context(|| format!("broker {host} has port {port}"))?;
    let found = (host, port).to_socket_addrs().with_context(|| format!("a broker is {host}"))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| anyhow!("the broker's name {host} has no address"))
}
