//! Changes that clients ask for: each is checked against an image and becomes records, or a
//! refusal.
//!
//! Pure: an image goes in, records and a changed image come out. The texts of refusals are Kafka's.
//! What one request asks for goes into one [`Plan`], so that it is agreed on as one entry.

use super::metadata::{Broker, Image, NamedResource, OFFSETS_TOPIC, Overrides, Topic};
use super::records::{BrokerRecord, MetadataRecord, PartitionRecord};
use super::settings::{BrokerSettings, Layers, SettingsError, check_topic_overrides};
use crate::base::ids::{NodeId, TopicId};
use crate::base::limits::{
    PARTITIONS_COUNT_MAX, PARTITIONS_PER_CHANGE_MAX, PRODUCER_IDS_PER_BLOCK,
    SETTING_VALUE_BYTES_MAX, TOPIC_NAME_BYTES_MAX,
};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

mod settings;
#[cfg(test)]
mod tests;

/// Kafka's name of the log that holds the cluster's metadata: no topic can have it.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// A partition's replicas as a client laid them down, preferred leader first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub partition: i32,
    pub replicas: Vec<NodeId>,
}

/// A topic to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// -1: the broker's default.
    pub partitions_count: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    /// Empty: the controller places the replicas. Else both counts above are -1.
    pub assignments: Vec<Assignment>,
    pub overrides: GivenSettings,
    pub internal: bool,
}

impl NewTopic {
    /// A topic with the broker's defaults, as created on first use.
    pub fn with_defaults(name: &str) -> NewTopic {
        let name = name.to_owned();
        NewTopic { name, partitions_count: -1, replication_factor: -1, ..NewTopic::default() }
    }
}

/// A topic by either of its handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

/// A topic to get more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MorePartitions {
    pub topic: String,
    /// How many there shall be in all.
    pub partitions_count: i32,
    /// The replicas of each added one; nothing: the controller places them.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// What has settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    Topic(String),
    Broker(NodeId),
    AllBrokers,
    Named(NamedResource, String),
}

/// How a setting changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingVerb {
    Set,
    Delete,
    /// Adds items to a list.
    Append,
    /// Takes items out of a list.
    Subtract,
}

/// One setting to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    pub name: String,
    pub verb: SettingVerb,
    pub value: Option<String>,
}

/// Settings as a client gives them: names, each with a value or the wish for the default.
pub type GivenSettings = Vec<(String, Option<String>)>;

/// Why a change is refused. A variant stands for a code of Kafka's, its text is the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("{0}")]
    InvalidTopic(String),
    #[error("Topic '{name}' already exists.")]
    TopicExists { name: String },
    #[error("{0}")]
    UnknownTopic(String),
    #[error("This server does not host this topic ID.")]
    UnknownTopicId { id: TopicId },
    #[error("Topic deletion is disabled.")]
    TopicDeletionDisabled,
    #[error("{0}")]
    InvalidPartitions(String),
    #[error("{0}")]
    InvalidReplicationFactor(String),
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    #[error("{0}")]
    InvalidConfig(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    PolicyViolation(String),
    #[error("no space is left on the disk of the cluster's metadata")]
    NoSpace,
    /// The metadata log takes no entry: its disk failed, or another node leads.
    #[error("the cluster's metadata cannot be changed here: {0}")]
    Unavailable(String),
}

impl From<SettingsError> for ChangeError {
    fn from(error: SettingsError) -> ChangeError {
        let text = error.to_string();
        match error {
            SettingsError::UnknownClientMetricsSetting { .. }
            | SettingsError::PushInterval { .. } => ChangeError::InvalidRequest(text),
            _ => ChangeError::InvalidConfig(text),
        }
    }
}

/// Why a name is none that a topic can have, in Kafka's words.
pub fn topic_name_fault(name: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > TOPIC_NAME_BYTES_MAX => format!(
            "the length of '{name}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
        ),
        _ if !name.bytes().all(legal) => format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and \
             '-'"
        ),
        _ => return None,
    };
    Some(format!("Topic name is invalid: {reason}"))
}

/// The changes of one request, collected; what was refused leaves no trace.
pub struct Plan<'a> {
    image: Image,
    records: Vec<MetadataRecord>,
    node_id: NodeId,
    fixed: &'a Overrides,
    partitions_added: usize,
}

impl<'a> Plan<'a> {
    /// Starts from `image`; `fixed` is what `node_id`, the controller, was started with.
    pub fn new(image: Image, node_id: NodeId, fixed: &'a Overrides) -> Plan<'a> {
        Plan { image, records: Vec::new(), node_id, fixed, partitions_added: 0 }
    }

    /// The records of all that was accepted, and the image with them.
    pub fn finish(self) -> (Image, Vec<MetadataRecord>) {
        (self.image, self.records)
    }

    fn layers(&self) -> Layers<'_> {
        Layers::of_image(&self.image, self.node_id, self.fixed)
    }

    fn broker_settings(&self) -> BrokerSettings {
        BrokerSettings::resolve(&self.layers())
    }

    fn accept(&mut self, record: MetadataRecord) {
        self.image.apply(&record).expect("a plan proposes only what fits its own image");
        self.records.push(record);
    }

    /// Gives out the next block of producer ids.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`]: all 2^63 are in use.
    pub fn allocate_producer_ids(&mut self) -> Result<Range<i64>, ChangeError> {
        let first = self.image.producer_id_next();
        let Some(next) = first.checked_add(PRODUCER_IDS_PER_BLOCK) else {
            return Err(ChangeError::Unavailable("no producer ids are left".to_owned()));
        };
        self.accept(MetadataRecord::ProducerIdsAllocated { next });
        Ok(first..next)
    }

    /// Names the cluster, once.
    pub fn name_cluster(&mut self, cluster_id: &str) {
        if self.image.cluster_id().is_empty() {
            self.accept(MetadataRecord::Cluster { cluster_id: cluster_id.to_owned() });
        }
    }

    /// Makes the broker known under its address; nothing happens where it already is.
    pub fn register_broker(&mut self, broker: &Broker) {
        if self.image.broker(broker.id) != Some(broker) {
            self.accept(MetadataRecord::BrokerRegistered(BrokerRecord {
                id: broker.id.0,
                host: broker.host.clone(),
                port: broker.port,
                rack: broker.rack.clone(),
            }));
        }
    }

    /// Creates a topic under the new id `id`.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was created.
    pub fn create_topic(&mut self, new: &NewTopic, id: TopicId) -> Result<Arc<Topic>, ChangeError> {
        if let Some(fault) = topic_name_fault(&new.name) {
            return Err(ChangeError::InvalidTopic(fault));
        }
        if self.image.topic(&new.name).is_some() {
            return Err(ChangeError::TopicExists { name: new.name.clone() });
        }
        if let Some(existing) = self.image.colliding_topic(&new.name) {
            let name = &new.name;
            return Err(ChangeError::InvalidTopic(format!(
                "Topic '{name}' collides with existing topic: {existing}"
            )));
        }
        if new.name == METADATA_TOPIC {
            let text = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
            return Err(ChangeError::InvalidRequest(text));
        }
        let overrides = self.checked_overrides(&new.overrides)?;
        let partitions = if new.assignments.is_empty() {
            self.placed_partitions(new, id)?
        } else {
            self.assigned_partitions(new)?
        };
        self.check_partitions_count(partitions.len())?;
        self.partitions_added += partitions.len();
        self.accept(MetadataRecord::TopicCreated {
            id: id.0,
            name: new.name.clone(),
            internal: new.internal,
            partitions,
            overrides: overrides.into_iter().collect(),
        });
        Ok(self.image.topic_by_id(id).expect("it was created just now").clone())
    }

    fn checked_overrides(
        &self,
        asked: &[(String, Option<String>)],
    ) -> Result<Overrides, ChangeError> {
        let nulls: Vec<&str> =
            asked.iter().filter(|(_, v)| v.is_none()).map(|(name, _)| name.as_str()).collect();
        if !nulls.is_empty() {
            return Err(ChangeError::InvalidConfig(format!(
                "Null value not supported for topic configs: {}",
                nulls.join(",")
            )));
        }
        let overrides: Overrides = asked
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), trimmed(value)?)))
            .collect();
        check_value_lengths(&overrides)?;
        check_topic_overrides(&overrides, &self.layers())?;
        Ok(overrides)
    }

    fn check_partitions_count(&self, added: usize) -> Result<(), ChangeError> {
        if self.partitions_added + added > PARTITIONS_PER_CHANGE_MAX {
            let text = "Excessively large number of partitions per request.";
            return Err(ChangeError::PolicyViolation(text.to_owned()));
        }
        if self.image.partitions_count() + added > PARTITIONS_COUNT_MAX {
            return Err(ChangeError::PolicyViolation(format!(
                "The cluster may have {PARTITIONS_COUNT_MAX} partitions, {} are there already.",
                self.image.partitions_count()
            )));
        }
        Ok(())
    }

    fn placed_partitions(
        &self,
        new: &NewTopic,
        id: TopicId,
    ) -> Result<Vec<PartitionRecord>, ChangeError> {
        let defaults = self.broker_settings();
        let factor = match new.replication_factor {
            -1 => defaults.default_replication_factor,
            factor if factor > 0 => i32::from(factor),
            _ => {
                let text =
                    "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err(ChangeError::InvalidReplicationFactor(text.to_owned()));
            }
        };
        let count = match new.partitions_count {
            -1 => defaults.num_partitions,
            count if count > 0 => count,
            _ => {
                let text = "Number of partitions was set to an invalid non-positive value.";
                return Err(ChangeError::InvalidPartitions(text.to_owned()));
            }
        };
        let count = usize::try_from(count).expect("it is positive");
        self.check_partitions_count(count)?; // before anything of that size is built
        self.place(0, count, usize::try_from(factor).expect("it is positive"), id)
    }

    /// Spreads `count` partitions from number `first` on: partition after partition moves one
    /// broker on.
    fn place(
        &self,
        first: usize,
        count: usize,
        factor: usize,
        id: TopicId,
    ) -> Result<Vec<PartitionRecord>, ChangeError> {
        let brokers: Vec<i32> = self.image.brokers().map(|broker| broker.id.0).collect();
        if brokers.len() < factor {
            return Err(ChangeError::InvalidReplicationFactor(format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor \
                 of {factor} cannot be reached because only {} broker(s) are registered.",
                brokers.len()
            )));
        }
        let start = (id.0 % brokers.len() as u128) as usize; // topics start at different brokers
        let replicas_of = |partition: usize| -> Vec<i32> {
            (0..factor).map(|rank| brokers[(start + partition + rank) % brokers.len()]).collect()
        };
        Ok((first..first + count)
            .map(|partition| fresh_partition(replicas_of(partition)))
            .collect())
    }

    fn assigned_partitions(&self, new: &NewTopic) -> Result<Vec<PartitionRecord>, ChangeError> {
        let refused = |what: &str| {
            Err(ChangeError::InvalidRequest(format!(
                "A manual partition assignment was specified, but {what} was not set to -1."
            )))
        };
        if new.replication_factor != -1 {
            return refused("replication factor");
        }
        if new.partitions_count != -1 {
            return refused("numPartitions");
        }
        let mut sorted: Vec<&Assignment> = new.assignments.iter().collect();
        sorted.sort_by_key(|assignment| assignment.partition);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].partition == pair[1].partition) {
            return Err(ChangeError::InvalidReplicaAssignment(format!(
                "Found multiple manual partition assignments for partition {}",
                pair[0].partition
            )));
        }
        if (0..).zip(&sorted).any(|(number, assignment)| assignment.partition != number) {
            let text = "partitions should be a consecutive 0-based integer sequence";
            return Err(ChangeError::InvalidReplicaAssignment(text.to_owned()));
        }
        let factor = sorted[0].replicas.len();
        for assignment in &sorted {
            self.check_assignment(&assignment.replicas, factor)?;
        }
        let replicas =
            |assignment: &&Assignment| assignment.replicas.iter().map(|id| id.0).collect();
        Ok(sorted.iter().map(replicas).map(fresh_partition).collect())
    }

    fn check_assignment(&self, replicas: &[NodeId], factor: usize) -> Result<(), ChangeError> {
        check_replicas(&self.image, replicas)?;
        if replicas.len() != factor {
            return refused_assignment(format!(
                "a partition with {} replica(s), but this is not consistent with previous \
                 partitions, which have {factor} replica(s).",
                replicas.len()
            ));
        }
        Ok(())
    }

    /// Deletes a topic; returns what it was.
    ///
    /// # Errors
    /// [`ChangeError`]: there is no such topic, or topics cannot be deleted.
    pub fn delete_topic(&mut self, topic: &TopicRef) -> Result<Arc<Topic>, ChangeError> {
        if !self.broker_settings().delete_topic_enable {
            return Err(ChangeError::TopicDeletionDisabled);
        }
        let found = match topic {
            TopicRef::Name(name) => self.named_topic(name)?,
            TopicRef::Id(id) => {
                let found = self.image.topic_by_id(*id);
                found.ok_or(ChangeError::UnknownTopicId { id: *id })?.clone()
            }
        };
        self.accept(MetadataRecord::TopicDeleted { id: found.id.0 });
        Ok(found)
    }

    fn named_topic(&self, name: &str) -> Result<Arc<Topic>, ChangeError> {
        let text = || "This server does not host this topic-partition.".to_owned();
        self.image.topic(name).cloned().ok_or_else(|| ChangeError::UnknownTopic(text()))
    }

    /// Adds partitions to a topic.
    ///
    /// # Errors
    /// [`ChangeError`]: the topic is as it was.
    pub fn create_partitions(&mut self, more: &MorePartitions) -> Result<(), ChangeError> {
        let topic = self.named_topic(&more.topic)?;
        let present = topic.partitions.len();
        if *topic.name == *OFFSETS_TOPIC {
            // Kafka takes this, and groups then look for their offsets in other partitions.
            return Err(ChangeError::InvalidPartitions(format!(
                "The topic {OFFSETS_TOPIC} keeps its {present} partition(s): their number decides \
                 where the offsets of a group are."
            )));
        }
        let wanted = usize::try_from(more.partitions_count).unwrap_or(0);
        if wanted == present {
            let text = format!("Topic already has {present} partition(s).");
            return Err(ChangeError::InvalidPartitions(text));
        }
        if wanted < present {
            return Err(ChangeError::InvalidPartitions(format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                more.topic, more.partitions_count
            )));
        }
        let added = wanted - present;
        self.check_partitions_count(added)?;
        let factor = topic.replication_factor();
        let partitions = match &more.assignments {
            None => self.place(present, added, factor, topic.id)?,
            Some(assignments) => {
                if assignments.len() != added {
                    return Err(ChangeError::InvalidReplicaAssignment(format!(
                        "Attempted to add {added} additional partition(s), but only {} \
                         assignment(s) were specified.",
                        assignments.len()
                    )));
                }
                for replicas in assignments {
                    self.check_assignment(replicas, factor)?;
                }
                let ids = |replicas: &Vec<NodeId>| replicas.iter().map(|id| id.0).collect();
                assignments.iter().map(ids).map(fresh_partition).collect()
            }
        };
        self.partitions_added += added;
        self.accept(MetadataRecord::PartitionsAdded { topic_id: topic.id.0, partitions });
        Ok(())
    }
}

/// Whether a partition can have these replicas.
///
/// # Errors
/// [`ChangeError::InvalidReplicaAssignment`]: there are none, or one is no broker or comes twice.
pub fn check_replicas(image: &Image, replicas: &[NodeId]) -> Result<(), ChangeError> {
    if replicas.is_empty() {
        return refused_assignment("an empty replica list.".to_owned());
    }
    let mut seen = BTreeSet::new();
    for id in replicas {
        if image.broker(*id).is_none() {
            return refused_assignment(format!("broker {id}, but no such broker is registered."));
        }
        if !seen.insert(*id) {
            return refused_assignment(format!("the broker {id} more than once."));
        }
    }
    Ok(())
}

fn refused_assignment(includes: String) -> Result<(), ChangeError> {
    let text = format!("The manual partition assignment includes {includes}");
    Err(ChangeError::InvalidReplicaAssignment(text))
}

/// A value as Kafka reads and shows it: without the spaces around it.
fn trimmed(value: &Option<String>) -> Option<String> {
    value.as_ref().map(|value| value.trim().to_owned())
}

fn fresh_partition(replicas: Vec<i32>) -> PartitionRecord {
    let leader = *replicas.first().expect("a partition has a replica");
    PartitionRecord { leader, leader_epoch: 0, isr: replicas.clone(), replicas, partition_epoch: 0 }
}

fn check_value_lengths(overrides: &Overrides) -> Result<(), ChangeError> {
    let long = overrides.iter().find(|(_, value)| value.len() > SETTING_VALUE_BYTES_MAX);
    long.map_or(Ok(()), |(name, value)| {
        Err(ChangeError::InvalidConfig(format!(
            "The configuration value of {name} is {} bytes, at most {SETTING_VALUE_BYTES_MAX} are \
             taken.",
            value.len()
        )))
    })
}
