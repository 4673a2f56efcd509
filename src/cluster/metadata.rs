//! The cluster's metadata as one immutable value, and the records that change it.
//!
//! An [`Image`] shares all its parts with the images before and after it, so a copy costs a few
//! reference counts and a change costs the touched topic only. It knows no raft, disk or wire.
//! **Invariant:** `by_name` and `by_id` hold the same topics, and partition `n` is at position `n`.

pub use super::records::NamedKind as NamedResource;
use super::records::{BrokerRecord, MetadataRecord, PartitionRecord};
use crate::base::ids::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Settings that somebody set: Kafka's name to the value's text.
pub type Overrides = BTreeMap<String, String>;

/// A partition without a leader says so with this id, as in Kafka.
pub const NO_LEADER: NodeId = NodeId(-1);

/// The topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Topics that brokers keep for themselves: made by the part that uses them, and written to by no
/// client.
pub const INTERNAL_TOPICS: [&str; 3] =
    [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

/// Where a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: NodeId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// One partition: who holds it, who leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// Preferred leader first.
    pub replicas: Vec<NodeId>,
    pub isr: Vec<NodeId>,
    /// Grows with each change of this partition; fences late changes.
    pub partition_epoch: i32,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    /// Kafka's own topics (`__consumer_offsets`): clients may not produce to them.
    pub internal: bool,
    pub partitions: Vec<Partition>,
    pub overrides: Arc<Overrides>,
}

impl Topic {
    /// The partition, or nothing where the topic has fewer.
    pub fn partition(&self, partition: PartitionIndex) -> Option<&Partition> {
        usize::try_from(partition.0).ok().and_then(|index| self.partitions.get(index))
    }

    /// The partitions with their numbers, in order.
    pub fn indexed_partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
        (0..).map(PartitionIndex).zip(&self.partitions)
    }

    /// Replicas of each partition, taken from the first.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}

/// Everything the cluster has agreed on, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Image {
    cluster_id: Arc<str>,
    version: u64, // records applied so far
    brokers: RedBlackTreeMapSync<NodeId, Arc<Broker>>,
    by_id: HashTrieMapSync<TopicId, Arc<Topic>>,
    by_name: RedBlackTreeMapSync<Arc<str>, Arc<Topic>>,
    /// Names with '.' as '_', of topics that have either: Kafka's metrics mix the two up.
    by_folded_name: HashTrieMapSync<String, Arc<str>>,
    partitions_count: usize,
    broker_overrides: RedBlackTreeMapSync<NodeId, Arc<Overrides>>,
    default_broker_overrides: Arc<Overrides>,
    producer_id_next: i64,
    named_overrides: RedBlackTreeMapSync<(NamedResource, Arc<str>), Arc<Overrides>>,
}

impl Image {
    /// The cluster's id: 22 characters of base64; empty before the first record.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// How many records this image has seen; a later image has a larger one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All brokers by rising id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().map(Arc::as_ref)
    }

    /// The broker of that id.
    pub fn broker(&self, id: NodeId) -> Option<&Broker> {
        self.brokers.get(&id).map(Arc::as_ref)
    }

    /// How many brokers are registered.
    pub fn brokers_count(&self) -> usize {
        self.brokers.size()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics by rising name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// How many topics there are.
    pub fn topics_count(&self) -> usize {
        self.by_name.size()
    }

    /// How many partitions all topics have together.
    pub fn partitions_count(&self) -> usize {
        self.partitions_count
    }

    /// An existing topic whose name differs from `name` at most in '.' and '_', as Kafka's rule has
    /// it.
    pub fn colliding_topic(&self, name: &str) -> Option<&str> {
        let folded = folded_name(name)?;
        self.by_folded_name.get(&folded).map(Arc::as_ref)
    }

    /// What was set for this broker alone.
    pub fn broker_overrides(&self, id: NodeId) -> Option<&Arc<Overrides>> {
        self.broker_overrides.get(&id)
    }

    /// What was set for all brokers.
    pub fn default_broker_overrides(&self) -> &Arc<Overrides> {
        &self.default_broker_overrides
    }

    /// The first producer id that no shard was given.
    pub fn producer_id_next(&self) -> i64 {
        self.producer_id_next
    }

    /// What was set for the group or the client metrics of that name.
    pub fn named_overrides(&self, kind: NamedResource, name: &str) -> Option<&Arc<Overrides>> {
        if self.named_overrides.is_empty() {
            return None; // asked at every heartbeat of a group
        }
        self.named_overrides.get(&(kind, name.into()))
    }

    /// Names of the groups, or of the client metrics, that have settings; in order.
    pub fn configured(&self, kind: NamedResource) -> impl Iterator<Item = &str> {
        let of_kind = self.named_overrides.keys().filter(move |(found, _)| *found == kind);
        of_kind.map(|(_, name)| name.as_ref())
    }

    /// How many groups and client metrics have settings.
    pub fn configured_count(&self) -> usize {
        self.named_overrides.size()
    }

    /// Changes this image by one record; images cloned from it before keep what they showed.
    ///
    /// O(log topics), plus the partitions of the topic that the record names.
    ///
    /// # Errors
    /// [`ApplyError`]: the record contradicts the image, which then is as it was.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::Cluster { cluster_id } => self.cluster_id = cluster_id.as_str().into(),
            MetadataRecord::BrokerRegistered(broker) => self.register_broker(broker),
            MetadataRecord::TopicCreated { id, name, internal, partitions, overrides } => {
                let topic = Topic {
                    id: TopicId(*id),
                    name: name.as_str().into(),
                    internal: *internal,
                    partitions: partitions.iter().map(Partition::from).collect(),
                    overrides: Arc::new(overrides.iter().cloned().collect()),
                };
                self.create_topic(topic)?;
            }
            MetadataRecord::TopicDeleted { id } => self.delete_topic(TopicId(*id))?,
            MetadataRecord::PartitionsAdded { topic_id, partitions } => {
                let mut topic = self.topic_to_change(TopicId(*topic_id))?;
                topic.partitions.extend(partitions.iter().map(Partition::from));
                self.partitions_count += partitions.len();
                self.insert_topic(Arc::new(topic));
            }
            MetadataRecord::PartitionChanged { topic_id, partition, state } => {
                self.change_partition(TopicId(*topic_id), *partition, state)?;
            }
            MetadataRecord::TopicSettingChanged { topic_id, name, value } => {
                let mut topic = self.topic_to_change(TopicId(*topic_id))?;
                change_override(&mut topic.overrides, name, value.as_deref());
                self.insert_topic(Arc::new(topic));
            }
            MetadataRecord::BrokerSettingChanged { node_id, name, value } => {
                self.change_broker_setting(node_id.map(NodeId), name, value.as_deref());
            }
            MetadataRecord::ProducerIdsAllocated { next } => {
                let known = self.producer_id_next;
                if *next <= known {
                    return Err(ApplyError::ProducerIdsTwice { known, next: *next });
                }
                self.producer_id_next = *next;
            }
            MetadataRecord::NamedSettingChanged { kind, resource, name, value } => {
                let key = (*kind, resource.as_str().into());
                self.change_named_setting(key, name, value.as_deref());
            }
        }
        self.version += 1;
        Ok(())
    }

    /// The records that build this image from an empty one: its snapshot.
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = vec![MetadataRecord::Cluster { cluster_id: self.cluster_id.to_string() }];
        records.extend(self.brokers().map(|broker| {
            MetadataRecord::BrokerRegistered(BrokerRecord {
                id: broker.id.0,
                host: broker.host.clone(),
                port: broker.port,
                rack: broker.rack.clone(),
            })
        }));
        records.extend(self.topics().map(|topic| MetadataRecord::TopicCreated {
            id: topic.id.0,
            name: topic.name.to_string(),
            internal: topic.internal,
            partitions: topic.partitions.iter().map(PartitionRecord::from).collect(),
            overrides: topic.overrides.as_ref().clone().into_iter().collect(),
        }));
        let of_all = std::iter::once((None, &self.default_broker_overrides));
        let of_each = self.broker_overrides.iter().map(|(id, overrides)| (Some(id.0), overrides));
        for (node_id, overrides) in of_all.chain(of_each) {
            records.extend(overrides.iter().map(|(name, value)| {
                let (name, value) = (name.clone(), Some(value.clone()));
                MetadataRecord::BrokerSettingChanged { node_id, name, value }
            }));
        }
        for ((kind, resource), overrides) in &self.named_overrides {
            records.extend(overrides.iter().map(|(name, value)| {
                let (name, value) = (name.clone(), Some(value.clone()));
                let resource = resource.to_string();
                MetadataRecord::NamedSettingChanged { kind: *kind, resource, name, value }
            }));
        }
        if self.producer_id_next > 0 {
            records.push(MetadataRecord::ProducerIdsAllocated { next: self.producer_id_next });
        }
        records
    }

    /// The image that `records` build, starting from nothing; its version continues from `version`.
    ///
    /// # Errors
    /// [`ApplyError`]: a record contradicts those before it.
    pub fn from_records(records: &[MetadataRecord], version: u64) -> Result<Image, ApplyError> {
        let mut image = Image::default();
        for record in records {
            image.apply(record)?;
        }
        image.version = version.max(image.version);
        Ok(image)
    }

    fn register_broker(&mut self, record: &BrokerRecord) {
        let broker = Broker {
            id: NodeId(record.id),
            host: record.host.clone(),
            port: record.port,
            rack: record.rack.clone(),
        };
        self.brokers.insert_mut(broker.id, Arc::new(broker));
    }

    fn create_topic(&mut self, topic: Topic) -> Result<(), ApplyError> {
        if self.by_name.contains_key(&topic.name) || self.by_id.contains_key(&topic.id) {
            return Err(ApplyError::TopicExists { name: topic.name.to_string(), id: topic.id });
        }
        if let Some(folded) = folded_name(&topic.name) {
            self.by_folded_name.insert_mut(folded, topic.name.clone());
        }
        self.partitions_count += topic.partitions.len();
        self.insert_topic(Arc::new(topic));
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.by_id.get(&id).cloned().ok_or(ApplyError::NoTopic { id })?;
        self.by_id.remove_mut(&id);
        self.by_name.remove_mut(&topic.name);
        if let Some(folded) = folded_name(&topic.name) {
            self.by_folded_name.remove_mut(&folded);
        }
        self.partitions_count -= topic.partitions.len();
        self.check();
        Ok(())
    }

    fn change_partition(
        &mut self,
        topic_id: TopicId,
        partition: i32,
        state: &PartitionRecord,
    ) -> Result<(), ApplyError> {
        let mut topic = self.topic_to_change(topic_id)?;
        let slot = usize::try_from(partition).ok().and_then(|i| topic.partitions.get_mut(i));
        *slot.ok_or(ApplyError::NoPartition { id: topic_id, partition })? = state.into();
        self.insert_topic(Arc::new(topic));
        Ok(())
    }

    fn change_broker_setting(&mut self, node_id: Option<NodeId>, name: &str, value: Option<&str>) {
        let Some(id) = node_id else {
            change_override(&mut self.default_broker_overrides, name, value);
            return;
        };
        let mut overrides = self.broker_overrides.get(&id).cloned().unwrap_or_default();
        change_override(&mut overrides, name, value);
        if overrides.is_empty() {
            self.broker_overrides.remove_mut(&id);
        } else {
            self.broker_overrides.insert_mut(id, overrides);
        }
    }

    fn change_named_setting(
        &mut self,
        key: (NamedResource, Arc<str>),
        name: &str,
        value: Option<&str>,
    ) {
        let mut overrides = self.named_overrides.get(&key).cloned().unwrap_or_default();
        change_override(&mut overrides, name, value);
        if overrides.is_empty() {
            self.named_overrides.remove_mut(&key);
        } else {
            self.named_overrides.insert_mut(key, overrides);
        }
    }

    fn topic_to_change(&self, id: TopicId) -> Result<Topic, ApplyError> {
        self.by_id.get(&id).map(|topic| topic.as_ref().clone()).ok_or(ApplyError::NoTopic { id })
    }

    fn insert_topic(&mut self, topic: Arc<Topic>) {
        self.by_name.insert_mut(topic.name.clone(), topic.clone());
        self.by_id.insert_mut(topic.id, topic);
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.by_name.size(), self.by_id.size());
        debug_assert_eq!(
            self.partitions_count,
            self.topics().map(|topic| topic.partitions.len()).sum::<usize>()
        );
    }
}

/// `name` with each '.' as '_', where it has one of the two.
fn folded_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

fn change_override(overrides: &mut Arc<Overrides>, name: &str, value: Option<&str>) {
    let overrides = Arc::make_mut(overrides);
    match value {
        Some(value) => overrides.insert(name.to_owned(), value.to_owned()),
        None => overrides.remove(name),
    };
}

impl From<&PartitionRecord> for Partition {
    fn from(record: &PartitionRecord) -> Partition {
        Partition {
            leader: NodeId(record.leader),
            leader_epoch: LeaderEpoch(record.leader_epoch),
            replicas: record.replicas.iter().copied().map(NodeId).collect(),
            isr: record.isr.iter().copied().map(NodeId).collect(),
            partition_epoch: record.partition_epoch,
        }
    }
}

impl From<&Partition> for PartitionRecord {
    fn from(partition: &Partition) -> PartitionRecord {
        PartitionRecord {
            leader: partition.leader.0,
            leader_epoch: partition.leader_epoch.0,
            replicas: partition.replicas.iter().map(|id| id.0).collect(),
            isr: partition.isr.iter().map(|id| id.0).collect(),
            partition_epoch: partition.partition_epoch,
        }
    }
}

/// A committed record that does not fit the image: the metadata log is not what this node wrote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("topic {name} ({id}) is created a second time")]
    TopicExists { name: String, id: TopicId },
    #[error("there is no topic {id}")]
    NoTopic { id: TopicId },
    #[error("producer ids up to {known} are given out, and again from {next}")]
    ProducerIdsTwice { known: i64, next: i64 },
    #[error("topic {id} has no partition {partition}")]
    NoPartition { id: TopicId, partition: i32 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition_record(leader: i32) -> PartitionRecord {
        PartitionRecord {
            leader,
            leader_epoch: 0,
            replicas: vec![leader],
            isr: vec![leader],
            partition_epoch: 0,
        }
    }

    fn topic_record(id: u128, name: &str, partitions: usize) -> MetadataRecord {
        MetadataRecord::TopicCreated {
            id,
            name: name.to_owned(),
            internal: false,
            partitions: vec![partition_record(1); partitions],
            overrides: vec![("retention.ms".to_owned(), "5".to_owned())],
        }
    }

    /// Goal: old readers see no change. Method: clone, change every kind of thing, compare the
    /// clone.
    #[test]
    fn an_image_that_was_shared_does_not_change() {
        let mut image = Image::default();
        image.apply(&topic_record(1, "words", 2)).unwrap();
        let before = image.clone();
        image.apply(&topic_record(2, "other", 1)).unwrap();
        let (topic_id, name) = (1, "retention.ms".to_owned());
        image.apply(&MetadataRecord::TopicSettingChanged { topic_id, name, value: None }).unwrap();
        let partitions = vec![partition_record(1)];
        image.apply(&MetadataRecord::PartitionsAdded { topic_id, partitions }).unwrap();
        assert_eq!(before.topics_count(), 1);
        assert_eq!(before.topic("words").unwrap().partitions.len(), 2);
        assert_eq!(before.topic("words").unwrap().overrides.len(), 1);
        assert_eq!(image.topic("words").unwrap().partitions.len(), 3);
        assert!(image.topic("words").unwrap().overrides.is_empty());
        assert_eq!(image.partitions_count(), 4);
        assert!(image.version() > before.version());
    }

    /// Goal: a snapshot loses nothing. Method: fill all parts, rebuild from the records, compare
    /// both.
    #[test]
    fn the_records_of_an_image_build_it_again() {
        let mut image = Image::default();
        let broker = BrokerRecord { id: 1, host: "h".into(), port: 9092, rack: Some("r".into()) };
        let set = |node_id, name: &str| MetadataRecord::BrokerSettingChanged {
            node_id,
            name: name.to_owned(),
            value: Some("7".to_owned()),
        };
        let named = |kind, resource: &str, name: &str| MetadataRecord::NamedSettingChanged {
            kind,
            resource: resource.to_owned(),
            name: name.to_owned(),
            value: Some("9".to_owned()),
        };
        for record in [
            MetadataRecord::Cluster { cluster_id: "abc".to_owned() },
            MetadataRecord::BrokerRegistered(broker),
            topic_record(1, "a.b", 3),
            topic_record(2, "c", 1),
            set(None, "num.partitions"),
            set(Some(1), "max.connections"),
            MetadataRecord::ProducerIdsAllocated { next: 3_000 },
            named(NamedResource::Group, "readers", "consumer.session.timeout.ms"),
            named(NamedResource::ClientMetrics, "readers", "interval.ms"),
        ] {
            image.apply(&record).unwrap();
        }
        let again = Image::from_records(&image.to_records(), image.version()).unwrap();
        assert_eq!(again.to_records(), image.to_records());
        assert_eq!(again.version(), image.version());
        assert_eq!(again.producer_id_next(), 3_000);
        assert_eq!(again.colliding_topic("a_b"), Some("a.b"));
        assert_eq!(again.broker(NodeId(1)).unwrap().rack.as_deref(), Some("r"));
        assert_eq!(again.configured(NamedResource::Group).collect::<Vec<_>>(), ["readers"]);
        assert_eq!(again.configured_count(), 2);
    }

    /// Goal: a record that contradicts is refused whole. Method: duplicates and unknown ids.
    #[test]
    fn a_record_that_contradicts_the_image_changes_nothing() {
        let mut image = Image::default();
        image.apply(&topic_record(1, "words", 1)).unwrap();
        let version = image.version();
        assert!(image.apply(&topic_record(2, "words", 1)).is_err());
        assert!(image.apply(&topic_record(1, "other", 1)).is_err());
        assert_eq!(
            image.apply(&MetadataRecord::TopicDeleted { id: 9 }),
            Err(ApplyError::NoTopic { id: TopicId(9) })
        );
        let state = partition_record(2);
        let change = MetadataRecord::PartitionChanged { topic_id: 1, partition: 1, state };
        assert!(matches!(image.apply(&change), Err(ApplyError::NoPartition { .. })));
        assert_eq!((image.version(), image.topics_count()), (version, 1));
    }

    /// Goal: a deleted name is free again. Method: delete, look for it in every map, create again.
    #[test]
    fn a_deleted_topic_is_gone_from_every_map() {
        let mut image = Image::default();
        image.apply(&topic_record(1, "a.b", 2)).unwrap();
        image.apply(&MetadataRecord::TopicDeleted { id: 1 }).unwrap();
        assert!(image.topic("a.b").is_none());
        assert!(image.topic_by_id(TopicId(1)).is_none());
        assert_eq!(image.colliding_topic("a_b"), None);
        assert_eq!(image.partitions_count(), 0);
        image.apply(&topic_record(2, "a.b", 1)).unwrap();
    }
}
