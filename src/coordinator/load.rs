//! Loading: the records of the partition, oldest first, back into groups.

use super::classic::Classic;
use super::groups::{Group, Kind};
use super::records::{self, Loaded, RecordError};
use super::{Coordinator, Effects, TopicsView};
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
                group.kind = Kind::Classic(Classic::from_record(group.id.clone(), &value));
            }
            Loaded::Group(key, None) => {
                let group = self.loaded_group(key.group);
                group.kind = Kind::Classic(Classic::new(group.id.clone(), -1));
            }
            _ => {}
        }
        Ok(())
    }

    /// The log has ended: sessions begin, what is nothing goes. Effects are as of any call.
    pub fn finish_load(&mut self, now_ms: i64, topics: &dyn TopicsView) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.on_group(&id, now_ms, topics, &mut effects, |group, turn| group.resume(turn));
        }
        self.sweep_ms = now_ms + self.settings.offsets_check_interval_ms;
        effects
    }

    /// The group of a record. Loading knows no bound: what was acknowledged is kept.
    fn loaded_group(&mut self, group_id: &str) -> &mut Group {
        let id: Arc<str> = group_id.into();
        self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, -1))
    }
}
