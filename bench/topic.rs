//! The topic under test: made, found, and where each of its partitions lives.
//!
//! Asks before and after a measurement only; speed does not matter here.

use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};

use ringmain::base::ids::TopicId;
use ringmain::protocol::api::ApiKey;
use ringmain::protocol::error::ErrorCode;
use ringmain::protocol::header::{decode_response, encode_request};
use ringmain::protocol::messages::Request;
use ringmain::protocol::messages::api_versions::ApiVersionsRequest;
use ringmain::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ringmain::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ringmain::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ringmain::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};

use crate::CLIENT_ID;
use crate::arguments::{TargetArgs, resolve};
use crate::lane::Lane;

/// Longest wait for a topic to be made or deleted.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause before brokers are asked again whether a change has happened.
const POLL_PAUSE: Duration = Duration::from_millis(2);

/// Asks for the offset behind the newest record.
pub const LATEST: i64 = -1;
/// Asks for the offset of the oldest record.
pub const EARLIEST: i64 = -2;

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
}

impl Topic {
    /// Partitions of the topic.
    pub fn partitions_count(&self) -> usize {
        self.leaders.iter().map(|leader| leader.partitions.len()).sum()
    }

    /// The offset at `timestamp`, [`EARLIEST`] or [`LATEST`] of each partition, by its index.
    ///
    /// # Errors
    /// A leader cannot be reached or refuses.
    pub fn offsets(&self, timestamp: i64, timeout: Duration) -> anyhow::Result<BTreeMap<i32, i64>> {
        let mut offsets = BTreeMap::new();
        for leader in &self.leaders {
            let mut broker = Broker::connect(leader.address, timeout)?;
            let partitions = leader.partitions.iter().map(|&partition_index| {
                ListOffsetsPartition { partition_index, timestamp, ..Default::default() }
            });
            let topic = ListOffsetsTopic { name: &self.name, partitions: partitions.collect() };
            let request =
                ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
            let response = broker.call(&request)?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let index = partition.partition_index;
                check(partition.error_code, || format!("offset of partition {index}"))?;
                offsets.insert(index, partition.offset);
            }
        }
        let missing = self.partitions_count().saturating_sub(offsets.len());
        ensure!(missing == 0, "the brokers say nothing about the offsets of {missing} partitions");
        Ok(offsets)
    }
}

/// Makes the topic as `target` asks for it, unless it is there, and finds its leaders.
///
/// # Errors
/// No broker answers, the topic cannot be made, or it has too few partitions.
pub fn prepare(target: &TargetArgs, timeout: Duration) -> anyhow::Result<Topic> {
    let bootstrap = resolve(&target.brokers)?;
    let mut controller = Broker::controller(&bootstrap, timeout)?;
    if target.recreate {
        delete(&mut controller, &target.topic)?;
    }
    create(&mut controller, target)?;
    let topic = wait_until_ready(&target.brokers, &target.topic, 1, CHANGE_TIMEOUT)?;
    let partitions_count = topic.partitions_count();
    if partitions_count != target.partitions as usize {
        eprintln!("topic {} has {partitions_count} partitions already", target.topic);
    }
    Ok(topic)
}

/// Waits until the topic has `partitions_min` partitions and each has a leader that tells its
/// offset.
///
/// # Errors
/// That is still not so when `timeout` is over: what was wrong last.
pub fn wait_until_ready(
    brokers: &str,
    name: &str,
    partitions_min: usize,
    timeout: Duration,
) -> anyhow::Result<Topic> {
    let bootstrap = resolve(brokers)?;
    let deadline = Instant::now() + timeout;
    loop {
        let attempt = Broker::any(&bootstrap, timeout).and_then(|mut broker| {
            let topic = find(&mut broker, name, partitions_min)?;
            topic.offsets(LATEST, timeout)?;
            Ok(topic)
        });
        match attempt {
            Ok(topic) => return Ok(topic),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(POLL_PAUSE),
        }
    }
}

/// One broker, asked and waited for.
struct Broker {
    lane: Lane,
    address: SocketAddr,
    versions: HashMap<i16, (i16, i16)>,
    correlation_id: i32,
}

impl Broker {
    fn connect(address: SocketAddr, timeout: Duration) -> anyhow::Result<Broker> {
        let lane = Lane::connect(address, timeout)
            .with_context(|| format!("cannot connect to broker {address}"))?;
        let versions = HashMap::from([(ApiKey::ApiVersions.number(), (0, 0))]);
        let mut broker = Broker { lane, address, versions, correlation_id: 0 };
        let response = broker.call(&ApiVersionsRequest::default())?;
        check(response.error_code, || "versions".to_owned())?;
        let ranges =
            response.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version)));
        broker.versions = ranges.collect();
        Ok(broker)
    }

    fn any(addresses: &[SocketAddr], timeout: Duration) -> anyhow::Result<Broker> {
        let mut first_error = None;
        for address in addresses {
            match Broker::connect(*address, timeout) {
                Ok(broker) => return Ok(broker),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| anyhow!("no broker was named")))
    }

    /// The broker that makes and deletes topics.
    fn controller(bootstrap: &[SocketAddr], timeout: Duration) -> anyhow::Result<Broker> {
        let mut broker = Broker::any(bootstrap, timeout)?;
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let metadata = broker.call(&request)?;
        match address_of(&metadata, metadata.controller_id) {
            Ok(address) if address != broker.address => Broker::connect(address, timeout),
            _ => Ok(broker), // the only one, or a cluster whose brokers all pass requests on
        }
    }

    /// The highest version of `key` that both sides know.
    fn version_of(&self, key: ApiKey) -> anyhow::Result<i16> {
        let ours = key.api().versions;
        let (first, last) = self.versions.get(&key.number()).copied().unwrap_or((0, -1));
        let version = last.min(ours.last);
        ensure!(
            version >= first.max(ours.first),
            "broker {} speaks versions {first} to {last} of {}, this program {} to {}",
            self.address,
            key.api().name,
            ours.first,
            ours.last
        );
        Ok(version)
    }

    fn call<'a, T: Request<'a>>(&mut self, request: &T) -> anyhow::Result<T::Response<'_>> {
        let version = self.version_of(T::KEY)?;
        self.correlation_id += 1;
        let frame = encode_request(version, self.correlation_id, Some(CLIENT_ID), request);
        let name = T::KEY.api().name;
        let broken = || format!("asking broker {} for {name}", self.address);
        self.lane.send(&mut [IoSlice::new(&frame.head)]).with_context(broken)?;
        let body = self.lane.receive().with_context(broken)?;
        let (correlation_id, response) =
            decode_response::<T>(version, self.lane.bytes(body)).with_context(broken)?;
        ensure!(correlation_id == self.correlation_id, "{name}: the answer to another request");
        Ok(response)
    }
}

/// Whether a failing topic change or look-up may succeed a little later.
fn may_pass(code: ErrorCode) -> bool {
    code.is_retriable() || code == ErrorCode::UnknownTopicOrPartition
}

fn check(code: ErrorCode, what: impl FnOnce() -> String) -> anyhow::Result<()> {
    ensure!(code.is_none(), "{}: {} ({})", what(), code.message(), code.name());
    Ok(())
}

fn delete(controller: &mut Broker, name: &str) -> anyhow::Result<()> {
    let state = DeleteTopicState { name: Some(name), ..Default::default() };
    let request = DeleteTopicsRequest {
        topics: vec![state],
        topic_names: vec![name],
        timeout_ms: CHANGE_TIMEOUT.as_millis() as i32,
    };
    let response = controller.call(&request)?;
    for topic in &response.responses {
        if topic.error_code != ErrorCode::UnknownTopicOrPartition {
            check(topic.error_code, || format!("deleting topic {name}"))?;
        }
    }
    Ok(())
}

/// Creates the topic; that it is there already is fine. Right after a deletion the name may still
/// be taken for a moment, which looks the same and is settled by asking for the topic.
fn create(controller: &mut Broker, target: &TargetArgs) -> anyhow::Result<()> {
    let deadline = Instant::now() + CHANGE_TIMEOUT;
    let configs = target
        .topic_config
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
    let topic = CreatableTopic {
        name: &target.topic,
        num_partitions: target.partitions as i32,
        replication_factor: target.replication as i16,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    loop {
        let response = controller.call(&request)?;
        let Some(result) = response.topics.first() else { bail!("no word about the new topic") };
        let code = result.error_code;
        let exists = code == ErrorCode::TopicAlreadyExists;
        if code.is_none() || (exists && !target.recreate) {
            return Ok(());
        }
        if !(exists || may_pass(code)) || Instant::now() >= deadline {
            let reason = result.error_message.unwrap_or(code.message());
            bail!("creating topic {}: {reason} ({})", target.topic, code.name());
        }
        std::thread::sleep(POLL_PAUSE);
    }
}

/// Looks for the topic once.
fn find(broker: &mut Broker, name: &str, partitions_min: usize) -> anyhow::Result<Topic> {
    let produce_version = broker.version_of(ApiKey::Produce)?;
    let fetch_version = broker.version_of(ApiKey::Fetch)?;
    let wanted = MetadataRequestTopic { name: Some(name), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let metadata = broker.call(&request)?;
    let found = metadata.topics.first().ok_or_else(|| anyhow!("no word about topic {name}"))?;
    check(found.error_code, || format!("topic {name}"))?;
    let partitions_count = found.partitions.len();
    ensure!(partitions_count >= partitions_min, "topic {name} has {partitions_count} partitions");
    let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in &found.partitions {
        let index = partition.partition_index;
        check(partition.error_code, || format!("partition {index} of topic {name}"))?;
        leaders.entry(partition.leader_id).or_default().push(index);
    }
    let leaders = leaders.into_iter().map(|(id, mut partitions)| {
        partitions.sort_unstable();
        Ok(Leader { address: address_of(&metadata, id)?, partitions })
    });
    Ok(Topic {
        name: name.to_owned(),
        id: found.topic_id,
        leaders: leaders.collect::<anyhow::Result<_>>()?,
        produce_version,
        fetch_version,
    })
}

fn address_of(metadata: &MetadataResponse<'_>, id: i32) -> anyhow::Result<SocketAddr> {
    let broker = metadata.brokers.iter().find(|broker| broker.node_id == id);
    let broker = broker.ok_or_else(|| anyhow!("the cluster lists no broker {id}"))?;
    let port = u16::try_from(broker.port).context("a broker's port")?;
    let mut addresses: Vec<SocketAddr> = (broker.host, port)
        .to_socket_addrs()
        .with_context(|| format!("broker {id} is advertised as {}", broker.host))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| anyhow!("{} has no address", broker.host))
}
