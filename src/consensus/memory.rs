//! The log as the raft crate reads it: entries in memory, in front of them the snapshot.
//!
//! **Invariant:** entries follow each other without a gap, the first one right after `cut`.

use super::{Entry, HardState, Restored, Snapshot};
use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

/// Entries kept behind a snapshot, for followers that are a little late.
const TRAILING_ENTRIES_COUNT: u64 = 1_000;

pub(super) struct MemoryLog {
    hard_state: eraftpb::HardState,
    snapshot: eraftpb::Snapshot,
    cut_index: u64, // the last entry that is gone
    cut_term: u64,
    entries: Vec<eraftpb::Entry>,
}

impl MemoryLog {
    /// Takes what was kept; the caller has checked it for gaps.
    pub(super) fn new(restored: Restored) -> MemoryLog {
        let Restored { hard_state, snapshot, entries } = restored;
        let (cut_index, cut_term) = (snapshot.index, snapshot.term);
        let behind = |entry: &Entry| entry.index > cut_index;
        let log = MemoryLog {
            hard_state: eraftpb::HardState {
                term: hard_state.term.max(entries.last().map_or(cut_term, |entry| entry.term)),
                vote: hard_state.vote,
                commit: hard_state.commit.max(cut_index),
                ..Default::default()
            },
            snapshot: foreign_snapshot(snapshot),
            cut_index,
            cut_term,
            entries: entries.into_iter().filter(behind).map(foreign_entry).collect(),
        };
        log.check();
        log
    }

    pub(super) fn voters(&self) -> &[u64] {
        &self.snapshot.get_metadata().get_conf_state().voters
    }

    pub(super) fn set_hard_state(&mut self, hard_state: eraftpb::HardState) {
        self.hard_state = hard_state;
    }

    /// Appends, replacing what stands at the first one's index and beyond.
    pub(super) fn append(&mut self, entries: Vec<eraftpb::Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.cut_index, "an agreed entry cannot be replaced");
        let keep = usize::try_from(first.index - self.cut_index - 1).expect("it is in memory");
        assert!(keep <= self.entries.len(), "the log would have a gap");
        self.entries.truncate(keep);
        self.entries.extend(entries);
        self.check();
    }

    /// Takes a leader's snapshot in place of everything.
    pub(super) fn install(&mut self, snapshot: eraftpb::Snapshot) {
        self.cut_index = snapshot.get_metadata().index;
        self.cut_term = snapshot.get_metadata().term;
        self.hard_state.commit = self.hard_state.commit.max(self.cut_index);
        self.snapshot = snapshot;
        self.entries.clear();
        self.check();
    }

    /// Makes `data` the snapshot after entry `index`, and drops entries well before it.
    pub(super) fn compact(&mut self, index: u64, data: Vec<u8>) {
        let voters = self.voters().to_vec();
        let term = self.term(index).expect("an applied entry is in memory or the cut itself");
        self.snapshot = foreign_snapshot(Snapshot { index, term, voters, data });
        let cut_index = index.saturating_sub(TRAILING_ENTRIES_COUNT);
        if cut_index > self.cut_index {
            self.cut_term = self.term(cut_index).expect("it lies between the cut and an entry");
            let gone = usize::try_from(cut_index - self.cut_index).expect("it is in memory");
            self.entries.drain(..gone);
            self.cut_index = cut_index;
        }
        self.check();
    }

    pub(super) fn snapshot_now(&self) -> &eraftpb::Snapshot {
        &self.snapshot
    }

    pub(super) fn to_restored(&self) -> Restored {
        let snapshot = Snapshot::from(&self.snapshot);
        let behind = self.entries.iter().filter(|entry| entry.index > snapshot.index);
        let entries = behind.map(Entry::from).collect();
        Restored { hard_state: HardState::from(&self.hard_state), snapshot, entries }
    }

    fn last_entry_index(&self) -> u64 {
        self.entries.last().map_or(self.cut_index, |entry| entry.index)
    }

    /// Place in `entries` of the entry `index`.
    fn place(&self, index: u64) -> raft::Result<usize> {
        if index <= self.cut_index {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last_entry_index() {
            return Err(StorageError::Unavailable.into());
        }
        Ok(usize::try_from(index - self.cut_index - 1).expect("it is in memory"))
    }

    fn check(&self) {
        assert!(self.entries.first().is_none_or(|entry| entry.index == self.cut_index + 1));
        assert_eq!(self.last_entry_index(), self.cut_index + self.entries.len() as u64);
        assert!(self.snapshot.get_metadata().index >= self.cut_index);
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let members = self.snapshot.get_metadata().get_conf_state().clone();
        Ok(RaftState::new(self.hard_state.clone(), members))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let first = self.place(low)?;
        let count = usize::try_from(high.saturating_sub(low)).expect("it is in memory");
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let found = self.entries.iter().skip(first).take(count);
        let fits = found.enumerate().take_while(|(place, entry)| {
            bytes += entry.data.len() as u64;
            *place == 0 || bytes <= bytes_max
        });
        Ok(fits.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.cut_index {
            return Ok(self.cut_term);
        }
        self.place(index).map(|place| self.entries[place].term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.cut_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_entry_index())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot.get_metadata().index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.snapshot.clone())
    }
}

fn foreign_entry(entry: Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        index: entry.index,
        term: entry.term,
        data: entry.data.into(),
        ..Default::default()
    }
}

fn foreign_snapshot(snapshot: Snapshot) -> eraftpb::Snapshot {
    let mut foreign = eraftpb::Snapshot::default();
    foreign.set_data(snapshot.data.into());
    let metadata = foreign.mut_metadata();
    metadata.index = snapshot.index;
    metadata.term = snapshot.term;
    metadata.mut_conf_state().set_voters(snapshot.voters);
    foreign
}
