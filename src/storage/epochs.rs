//! Which leader epoch began at which offset, in Kafka's `leader-epoch-checkpoint` text format.
//!
//! Followers ask by it where their log parted from the leader's. Pure: reads and writes no files.
//! **Invariant:** epochs and start offsets both grow strictly from entry to entry.

use crate::base::ids::{LeaderEpoch, Offset};

/// Name of the file in the partition's directory.
pub const EPOCHS_NAME: &str = "leader-epoch-checkpoint";

/// Version that the file's first line gives.
const FORMAT_VERSION: &str = "0";

/// Start offsets of leader epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochCache {
    /// Notes that a batch of `epoch` was appended at `start`; returns whether that epoch is new.
    pub fn note(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        let newest = self.entries.last().map_or(LeaderEpoch::UNKNOWN, |entry| entry.0);
        if epoch <= newest {
            return false;
        }
        // An epoch in which nothing was appended has no records to its name.
        while self.entries.last().is_some_and(|entry| entry.1 >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// The newest epoch with records; [`LeaderEpoch::UNKNOWN`] without any.
    pub fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::UNKNOWN, |entry| entry.0)
    }

    /// The epoch in which the record at `offset` was appended.
    pub fn epoch_of(&self, offset: Offset) -> LeaderEpoch {
        let after = self.entries.partition_point(|entry| entry.1 <= offset);
        after.checked_sub(1).map_or(LeaderEpoch::UNKNOWN, |at| self.entries[at].0)
    }

    /// The largest epoch not above `epoch`, and the offset where it ended, as OffsetForLeaderEpoch
    /// has it.
    ///
    /// `log_end` ends the newest epoch. `None`: `epoch` is unknown here or older than all that is
    /// kept.
    pub fn end_offset(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch > self.latest() || epoch == LeaderEpoch::UNKNOWN {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.0 <= epoch);
        let at = after.checked_sub(1)?;
        let end = self.entries.get(after).map_or(log_end, |entry| entry.1);
        Some((self.entries[at].0, end))
    }

    /// Forgets epochs that began at or after `end`: the log was cut there.
    pub fn truncate(&mut self, end: Offset) {
        self.entries.retain(|entry| entry.1 < end);
    }

    /// Forgets epochs that ended at or before `start`; the one that holds `start` now begins there.
    pub fn advance_start(&mut self, start: Offset) {
        let after = self.entries.partition_point(|entry| entry.1 <= start);
        if after > 1 {
            self.entries.drain(..after - 1);
        }
        if let Some(first) = self.entries.first_mut() {
            first.1 = first.1.max(start);
        }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The file's contents.
    pub fn encode(&self) -> String {
        let mut text = format!("{FORMAT_VERSION}\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text
    }

    /// Reads the file's contents; `None`: they are not what [`EpochCache::encode`] writes.
    pub fn decode(text: &str) -> Option<EpochCache> {
        let mut lines = text.lines();
        if lines.next()? != FORMAT_VERSION {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut cache = EpochCache::default();
        for line in lines.filter(|line| !line.is_empty()) {
            let (epoch, start) = line.split_once(' ')?;
            let entry = (LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?));
            if cache.entries.last().is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1) {
                return None;
            }
            cache.entries.push(entry);
        }
        (cache.entries.len() == count).then_some(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in [(0, 0), (0, 5), (2, 10), (5, 10), (7, 20)] {
            cache.note(LeaderEpoch(epoch), Offset(start));
        }
        cache
    }

    /// Goal: answers are Kafka's. Method: an epoch without records, unknown ones, one in between.
    #[test]
    fn an_epoch_ends_where_the_next_one_with_records_begins() {
        let end = |epoch| cache().end_offset(LeaderEpoch(epoch), Offset(30));
        assert_eq!(end(0), Some((LeaderEpoch(0), Offset(10))));
        assert_eq!(end(3), Some((LeaderEpoch(0), Offset(10))));
        assert_eq!(end(6), Some((LeaderEpoch(5), Offset(20))));
        assert_eq!(end(7), Some((LeaderEpoch(7), Offset(30))));
        assert_eq!(end(8), None);
        assert_eq!(end(-1), None);
        assert_eq!(cache().epoch_of(Offset(19)), LeaderEpoch(5));
    }

    /// Goal: the file reads back; damage is refused. Method: encode, decode, cut, truncate.
    #[test]
    fn epochs_survive_the_file_and_follow_cuts() {
        let mut cache = cache();
        assert_eq!(EpochCache::decode(&cache.encode()), Some(cache.clone()));
        assert_eq!(EpochCache::decode("0\n2\n1 1\n"), None);
        assert_eq!(EpochCache::decode("0\n2\n1 1\n1 2\n"), None);
        cache.truncate(Offset(20));
        assert_eq!(cache.latest(), LeaderEpoch(5));
        cache.advance_start(Offset(12));
        assert_eq!(cache.entries(), [(LeaderEpoch(5), Offset(12))]);
    }
}
