//! Loading: the records of the partition, oldest first, back into groups.

use super::classic::Classic;
use super::consumer::Consumer;
use super::groups::{Group, Kind};
use super::records::{self, Loaded, RecordError};
use super::{Coordinator, Effects, Moment, TopicsView};
use std::sync::Arc;

impl Coordinator {
    /// Takes one record of the log, in the order of the log; `None` deletes. Kinds that belong to
    /// newer protocols are passed over.
    ///
    /// # Errors
    /// [`RecordError`]: the partition cannot be loaded; drop this coordinator.
    pub fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        match records::decode(key, value)? {
            Loaded::Offset(key, Some(value)) => {
                self.loaded_group(key.group).offsets.load(&key, &value);
            }
            Loaded::Offset(key, None) => {
                if let Some(group) = self.groups.get_mut(key.group) {
                    group.offsets.remove(key.topic, key.partition);
                }
            }
            Loaded::Group(key, Some(value)) => {
                let group = self.loaded_group(key.group);
                let classic = Classic::from_record(group.id.clone(), &value);
                group.kind = Kind::Classic(Box::new(classic));
            }
            Loaded::Group(key, None) => {
                let group = self.loaded_group(key.group);
                if matches!(group.kind, Kind::Classic(_)) {
                    group.kind = Group::new(group.id.clone(), -1).kind;
                }
            }
            Loaded::ConsumerGroup(key, Some(value)) => {
                self.loaded_consumer(key.group).load_epoch(&value);
            }
            Loaded::ConsumerGroup(key, None) => {
                let group = self.loaded_group(key.group);
                if matches!(group.kind, Kind::Consumer(_)) {
                    group.kind = Group::new(group.id.clone(), -1).kind;
                }
            }
            other => self.load_of_consumer(other),
        }
        Ok(())
    }

    /// What belongs to a group of the consumer protocol. A tombstone makes no group.
    fn load_of_consumer(&mut self, loaded: Loaded<'_>) {
        match loaded {
            Loaded::ConsumerMember(key, value) => {
                if let Some(group) = self.consumer_for(key.group, value.is_some()) {
                    group.load_member(key.member, value.as_ref());
                }
            }
            Loaded::Target(key, value) => {
                if let Some(group) = self.consumer_for(key.group, value.is_some()) {
                    group.load_target_epoch(value.as_ref());
                }
            }
            Loaded::TargetMember(key, value) => {
                if let Some(group) = self.consumer_for(key.group, value.is_some()) {
                    group.load_target(key.member, value.as_ref());
                }
            }
            Loaded::CurrentMember(key, value) => {
                if let Some(group) = self.consumer_for(key.group, value.is_some()) {
                    group.load_current(key.member, value.as_ref());
                }
            }
            Loaded::RegularExpression(key, value) => {
                if let Some(group) = self.consumer_for(key.group, value.is_some()) {
                    group.load_regex(key.regular_expression, value.as_ref());
                }
            }
            _ => {} // a kind of a newer broker
        }
    }

    fn consumer_for(&mut self, group_id: &str, create: bool) -> Option<&mut Consumer> {
        if create {
            return Some(self.loaded_consumer(group_id));
        }
        match &mut self.groups.get_mut(group_id)?.kind {
            Kind::Consumer(group) => Some(group),
            Kind::Classic(_) => None,
        }
    }

    /// The group as one of the consumer protocol: records of a classic one before it are history.
    fn loaded_consumer(&mut self, group_id: &str) -> &mut Consumer {
        let group = self.loaded_group(group_id);
        if matches!(group.kind, Kind::Classic(_)) {
            group.kind = Kind::Consumer(Box::new(Consumer::new(group.id.clone())));
        }
        match &mut group.kind {
            Kind::Consumer(group) => group,
            Kind::Classic(_) => unreachable!("made one of the consumer protocol above"),
        }
    }

    /// The log has ended: sessions begin, what is nothing goes. Effects are as of any call.
    pub fn finish_load(&mut self, now: Moment, topics: &dyn TopicsView) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.on_group(&id, now, topics, &mut effects, |group, turn| group.resume(turn));
        }
        self.sweep_ms = now.steady_ms + self.settings.offsets_check_interval_ms;
        effects
    }

    /// The group of a record. Loading knows no bound: what was acknowledged is kept.
    fn loaded_group(&mut self, group_id: &str) -> &mut Group {
        let id: Arc<str> = group_id.into();
        self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, -1))
    }
}
