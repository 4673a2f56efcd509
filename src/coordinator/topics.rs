//! What a coordinator must know of the cluster: its topics, and what groups set for themselves.

use super::settings::OwnSettings;
use crate::base::ids::TopicId;

/// A topic as a coordinator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicView {
    pub id: TopicId,
    pub partitions_count: i32,
}

/// The cluster's topics, and the settings of groups, at one moment.
pub trait TopicsView {
    /// The topic of that name, if there is one.
    fn topic(&self, name: &str) -> Option<TopicView>;

    /// The name of the topic with that id.
    fn name(&self, id: TopicId) -> Option<&str>;

    /// Every topic's name, in an order that does not change while the topics do not.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// A number that grows with every change of the topics: what was computed from an older one is
    /// computed anew.
    fn version(&self) -> i64;

    /// What the group sets for itself.
    fn own_settings(&self, group_id: &str) -> OwnSettings;
}
