//! The controller: takes changes of the cluster's metadata, has them agreed on, publishes the
//! image.
//!
//! Lives on shard 0. The changes of one call are one entry of the metadata log. Checks run against
//! the image with everything proposed so far, so calls need not wait for each other's flush.

use super::changes::{
    ChangeError, GivenSettings, MorePartitions, NewTopic, Plan, Resource, SettingChange, TopicRef,
};
use super::metadata::{Broker, Image, Overrides, Topic};
pub use super::quorum::QuorumState;
use super::quorum::{Quorum, QuorumError};
use crate::base::ids::{NodeId, TopicId};
use crate::io::Io;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// Directory of the metadata log in the data directory.
const DIR_NAME: &str = "metadata";

/// What the controller of one node is told.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    pub data_dir: PathBuf,
    pub node_id: NodeId,
    /// What the node was started with: the layer below the settings that change at run time.
    pub fixed: Arc<Overrides>,
}

/// The controller of one node; all clones are one.
#[derive(Clone)]
pub struct Controller(Rc<Inner>);

struct Inner {
    quorum: Quorum,
    node_id: NodeId,
    fixed: Arc<Overrides>,
    /// The image with all that is proposed, as long as something is.
    tip: RefCell<Image>,
}

impl Controller {
    /// Opens the metadata log under the data directory and leads its group of one.
    ///
    /// `publish` is called on this shard with every new image, the first time before this returns.
    ///
    /// # Errors
    /// [`QuorumError`]: the log cannot be read or written, or belongs to another node.
    pub async fn open(
        io: &Io,
        config: ControllerConfig,
        publish: impl Fn(Arc<Image>) + 'static,
    ) -> Result<Controller, QuorumError> {
        let dir = config.data_dir.join(DIR_NAME);
        let member = u64::try_from(config.node_id.0).expect("node ids are 0 and up") + 1;
        let quorum = Quorum::open(io, &dir, member, Box::new(publish)).await?;
        let ControllerConfig { node_id, fixed, .. } = config;
        let tip = RefCell::default();
        Ok(Controller(Rc::new(Inner { quorum, node_id, fixed, tip })))
    }

    /// The image as it is published.
    pub fn image(&self) -> Arc<Image> {
        self.0.quorum.image()
    }

    /// Where the metadata group stands.
    pub fn quorum_state(&self) -> QuorumState {
        self.0.quorum.state()
    }

    /// Gives out a block of producer ids that nobody was given before; agreed on when it returns.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`].
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, ChangeError> {
        self.change(false, |plan: &mut Plan| plan.allocate_producer_ids()).await?
    }

    /// Names the cluster if it has no name yet, and makes this broker's address known.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`].
    pub async fn register_broker(
        &self,
        cluster_id: &str,
        broker: &Broker,
    ) -> Result<(), ChangeError> {
        let register = |plan: &mut Plan| {
            plan.name_cluster(cluster_id);
            plan.register_broker(broker);
        };
        self.change(false, register).await
    }

    /// Creates topics: one result each, in order. With `validate_only` only says what would be.
    ///
    /// A name that comes twice is refused both times.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Vec<Result<Arc<Topic>, ChangeError>> {
        let twice = twice(topics.iter().map(|topic| topic.name.as_str()));
        let create = |plan: &mut Plan| {
            let one = |topic: &NewTopic| {
                refuse_twice(&twice, &topic.name)?;
                plan.create_topic(topic, TopicId::random())
            };
            topics.iter().map(one).collect::<Vec<_>>()
        };
        unless_unavailable(self.change(validate_only, create).await, topics.len())
    }

    /// Deletes topics: what each was, in order.
    pub async fn delete_topics(&self, topics: &[TopicRef]) -> Vec<Result<Arc<Topic>, ChangeError>> {
        let delete = |plan: &mut Plan| {
            topics.iter().map(|topic| plan.delete_topic(topic)).collect::<Vec<_>>()
        };
        unless_unavailable(self.change(false, delete).await, topics.len())
    }

    /// Adds partitions to topics: one result each, in order.
    pub async fn create_partitions(
        &self,
        topics: &[MorePartitions],
        validate_only: bool,
    ) -> Vec<Result<(), ChangeError>> {
        let twice = twice(topics.iter().map(|more| more.topic.as_str()));
        let create = |plan: &mut Plan| {
            let one = |more: &MorePartitions| {
                refuse_twice(&twice, &more.topic)?;
                plan.create_partitions(more)
            };
            topics.iter().map(one).collect::<Vec<_>>()
        };
        unless_unavailable(self.change(validate_only, create).await, topics.len())
    }

    /// Changes settings of resources, each resource's all or none: one result each, in order.
    pub async fn alter_configs(
        &self,
        resources: &[(Resource, Vec<SettingChange>)],
        validate_only: bool,
    ) -> Vec<Result<(), ChangeError>> {
        let alter = |plan: &mut Plan| {
            let one = |(resource, changes): &(Resource, Vec<SettingChange>)| {
                plan.alter_settings(resource, changes)
            };
            resources.iter().map(one).collect::<Vec<_>>()
        };
        unless_unavailable(self.change(validate_only, alter).await, resources.len())
    }

    /// Makes the given settings of each resource the only ones it has: Kafka's older AlterConfigs.
    pub async fn replace_configs(
        &self,
        resources: &[(Resource, GivenSettings)],
        validate_only: bool,
    ) -> Vec<Result<(), ChangeError>> {
        let replace = |plan: &mut Plan| {
            let one = |(resource, wanted): &(Resource, GivenSettings)| {
                plan.replace_settings(resource, wanted)
            };
            resources.iter().map(one).collect::<Vec<_>>()
        };
        unless_unavailable(self.change(validate_only, replace).await, resources.len())
    }

    /// Whether something that was proposed waits, be it that nobody waits for it any more.
    pub fn has_proposals(&self) -> bool {
        self.0.quorum.has_proposals()
    }

    /// Resolves when nothing that was proposed waits any more; on a full disk only once there is
    /// room.
    pub async fn quiet(&self) {
        self.0.quorum.quiet().await;
    }

    /// Finishes what is proposed and closes the log's files.
    pub async fn close(&self) {
        self.0.quorum.close().await;
    }

    /// Lets `changes` plan against all that is proposed, and has its records agreed on.
    async fn change<T>(
        &self,
        validate_only: bool,
        changes: impl FnOnce(&mut Plan) -> T,
    ) -> Result<T, ChangeError> {
        let start = if self.0.quorum.has_proposals() {
            self.0.tip.borrow().clone()
        } else {
            self.image().as_ref().clone()
        };
        let mut plan = Plan::new(start, self.0.node_id, &self.0.fixed);
        let outcome = changes(&mut plan);
        let (image, records) = plan.finish();
        if validate_only || records.is_empty() {
            // A refusal may rest on what is not agreed on yet: it is told once that is.
            self.0.quorum.settled().await?;
            return Ok(outcome);
        }
        let proposal = self.0.quorum.propose(&records)?;
        *self.0.tip.borrow_mut() = image;
        proposal.agreed().await?;
        Ok(outcome)
    }
}

/// Names that come more than once, in order.
fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name.to_owned()).collect()
}

fn refuse_twice(twice: &[String], name: &str) -> Result<(), ChangeError> {
    if twice.binary_search_by(|known| known.as_str().cmp(name)).is_ok() {
        return Err(ChangeError::InvalidRequest("Duplicate topic name.".to_owned()));
    }
    Ok(())
}

/// The results, or for each of `count` asked the reason why nothing could be changed.
fn unless_unavailable<T>(
    outcome: Result<Vec<Result<T, ChangeError>>, ChangeError>,
    count: usize,
) -> Vec<Result<T, ChangeError>> {
    outcome.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
}

#[cfg(test)]
mod tests;
