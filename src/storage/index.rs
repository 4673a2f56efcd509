//! The sparse index of one segment: from an offset or a timestamp to a position in the file.
//!
//! In memory while the segment is open, in Kafka's own file formats once it is closed: `.index` has
//! 8-byte entries (offset relative to the segment's base, position), `.timeindex` 12-byte ones
//! (timestamp, relative offset), all big-endian. Knows no files.
//! **Invariant:** entries grow strictly in offset, position and (time index) timestamp, and there
//! are at most [`ENTRIES_COUNT_MAX`]: a full index forgets every second entry and notes half as
//! often.

use crate::base::ids::Offset;

/// Most entries in memory, each index: 32 KiB, so that 1,000 open segments stay small. In a segment
/// of 1 GiB a look-up then walks at most 512 KiB of heads, which is one read of the disk.
pub const ENTRIES_COUNT_MAX: usize = 4096;

/// Bytes of an entry of the offset index.
const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of an entry of the time index.
const TIME_ENTRY_BYTES: usize = 12;

/// A batch that the index remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffsetEntry {
    /// Last offset of the batch, less the segment's base.
    relative_offset: u32,
    /// Where the batch starts in the file.
    position: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeEntry {
    /// Largest timestamp of the segment up to and with the batch.
    timestamp: i64,
    /// Last offset of the batch that holds it, less the segment's base.
    relative_offset: u32,
}

/// Offset and time index of one segment.
#[derive(Debug, Clone)]
pub struct SparseIndex {
    base_offset: i64,
    interval_bytes: u64,
    bytes_since_entry: u64,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    max_timestamp: i64,
    max_timestamp_offset: i64,
}

/// Bytes that are no index, with the reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("index of segment {base_offset}: {reason}")]
pub struct IndexError {
    base_offset: i64,
    reason: &'static str,
}

impl SparseIndex {
    /// An index without entries that notes a batch every `interval_bytes`.
    pub fn new(base_offset: Offset, interval_bytes: u64) -> SparseIndex {
        SparseIndex {
            base_offset: base_offset.0,
            interval_bytes: interval_bytes.max(1),
            bytes_since_entry: 0,
            offsets: Vec::new(),
            times: Vec::new(),
            max_timestamp: -1,
            max_timestamp_offset: -1,
        }
    }

    /// Takes note of a batch that was appended at `position`; O(1) amortised.
    pub fn note(&mut self, last_offset: i64, position: u64, bytes: u64, max_timestamp: i64) {
        if max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.max_timestamp_offset = last_offset;
        }
        if self.bytes_since_entry > self.interval_bytes {
            self.bytes_since_entry = 0;
            let relative_offset = self.relative(last_offset);
            let position = u32::try_from(position).expect("a segment is at most 2 GiB");
            self.offsets.push(OffsetEntry { relative_offset, position });
            self.note_time();
            self.thin();
        }
        self.bytes_since_entry += bytes;
    }

    /// Largest timestamp and the last offset of its batch; -1 and -1 without batches.
    #[cfg(test)]
    pub fn max_timestamp(&self) -> (i64, i64) {
        (self.max_timestamp, self.max_timestamp_offset)
    }

    /// A position at or before the batch that holds `offset`: walk heads from there.
    pub fn position_before(&self, offset: Offset) -> u64 {
        self.batch_before_offset(offset).map_or(0, |batch| batch.0)
    }

    /// Position and last offset of the nearest batch known before `offset`; `None`: the segment's
    /// start.
    pub fn batch_before_offset(&self, offset: Offset) -> Option<(u64, i64)> {
        let before = |entry: &OffsetEntry| self.absolute(entry.relative_offset) <= offset.0;
        let entry = self.offsets[..self.offsets.partition_point(before)].last()?;
        Some((u64::from(entry.position), self.absolute(entry.relative_offset)))
    }

    /// The position of a batch at or before `position`.
    pub fn batch_before(&self, position: u64) -> u64 {
        let after = self.offsets.partition_point(|entry| u64::from(entry.position) <= position);
        after.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].position))
    }

    /// An offset at or before the first batch that may hold `timestamp` or a later one.
    pub fn offset_before_timestamp(&self, timestamp: i64) -> Offset {
        let after = self.times.partition_point(|entry| entry.timestamp < timestamp);
        match after.checked_sub(1) {
            Some(at) => Offset(self.absolute(self.times[at].relative_offset)),
            None => Offset(self.base_offset),
        }
    }

    /// Forgets what lies at `position_end` and behind it. What the index knew of the largest
    /// timestamp becomes `max_timestamp`, which the caller takes from the batches that stay.
    pub fn truncate(&mut self, position_end: u64, end_offset: i64, max_timestamp: (i64, i64)) {
        self.offsets.retain(|entry| u64::from(entry.position) < position_end);
        let base_offset = self.base_offset;
        self.times.retain(|entry| base_offset + i64::from(entry.relative_offset) < end_offset);
        let last_position = self.offsets.last().map_or(0, |entry| u64::from(entry.position));
        self.bytes_since_entry = position_end.saturating_sub(last_position);
        (self.max_timestamp, self.max_timestamp_offset) = max_timestamp;
    }

    /// The last entry of the time index: a lower bound of the largest timestamp.
    pub fn last_time_entry(&self) -> (i64, i64) {
        match self.times.last() {
            Some(entry) => (entry.timestamp, self.absolute(entry.relative_offset)),
            None => (-1, -1),
        }
    }

    /// Takes over the entries of `newer` that lie behind its own.
    pub fn extend(&mut self, newer: &SparseIndex) {
        let last = self.offsets.last().copied();
        let behind = |entry: &&OffsetEntry| {
            last.is_none_or(|last| {
                entry.position > last.position && entry.relative_offset > last.relative_offset
            })
        };
        self.offsets.extend(newer.offsets.iter().filter(behind));
        let last = self.times.last().map_or(i64::MIN, |last| last.timestamp);
        self.times.extend(newer.times.iter().filter(|entry| entry.timestamp > last));
        if newer.max_timestamp > self.max_timestamp {
            self.max_timestamp = newer.max_timestamp;
            self.max_timestamp_offset = newer.max_timestamp_offset;
        }
        self.bytes_since_entry = newer.bytes_since_entry;
        self.interval_bytes = self.interval_bytes.max(newer.interval_bytes);
        while self.offsets.len() > ENTRIES_COUNT_MAX || self.times.len() > ENTRIES_COUNT_MAX {
            self.halve();
        }
    }

    /// The contents of `.index`.
    pub fn encode_offsets(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.offsets.len() * OFFSET_ENTRY_BYTES);
        for entry in &self.offsets {
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
        }
        bytes
    }

    /// The contents of `.timeindex`; ends with the largest timestamp, as Kafka expects of a closed
    /// segment.
    pub fn encode_times(&self) -> Vec<u8> {
        let mut closed = self.clone();
        closed.note_time();
        let mut bytes = Vec::with_capacity(closed.times.len() * TIME_ENTRY_BYTES);
        for entry in &closed.times {
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
        }
        bytes
    }

    /// Reads both files back.
    ///
    /// # Errors
    /// [`IndexError`]: a torn or foreign file; rebuild the index from the segment.
    pub fn decode(
        base_offset: Offset,
        interval_bytes: u64,
        offsets: &[u8],
        times: &[u8],
    ) -> Result<SparseIndex, IndexError> {
        let refused = |reason| IndexError { base_offset: base_offset.0, reason };
        if !offsets.len().is_multiple_of(OFFSET_ENTRY_BYTES)
            || !times.len().is_multiple_of(TIME_ENTRY_BYTES)
        {
            return Err(refused("the size is not a whole number of entries"));
        }
        let mut index = SparseIndex::new(base_offset, interval_bytes);
        for entry in offsets.chunks_exact(OFFSET_ENTRY_BYTES) {
            let entry =
                OffsetEntry { relative_offset: uint(&entry[..4]), position: uint(&entry[4..]) };
            let grows = index.offsets.last().is_none_or(|last| {
                entry.relative_offset > last.relative_offset && entry.position > last.position
            });
            if !grows {
                return Err(refused("offsets do not grow"));
            }
            index.offsets.push(entry);
        }
        for entry in times.chunks_exact(TIME_ENTRY_BYTES) {
            let timestamp = i64::from(uint(&entry[..4])) << 32 | i64::from(uint(&entry[4..8]));
            let entry = TimeEntry { timestamp, relative_offset: uint(&entry[8..]) };
            if index.times.last().is_some_and(|last| entry.timestamp <= last.timestamp) {
                return Err(refused("timestamps do not grow"));
            }
            index.times.push(entry);
        }
        (index.max_timestamp, index.max_timestamp_offset) = index.last_time_entry();
        while index.offsets.len() > ENTRIES_COUNT_MAX || index.times.len() > ENTRIES_COUNT_MAX {
            index.halve();
        }
        Ok(index)
    }

    fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset - self.base_offset)
            .expect("a log rolls before offsets outgrow 31 bits")
    }

    fn absolute(&self, relative_offset: u32) -> i64 {
        self.base_offset + i64::from(relative_offset)
    }

    fn note_time(&mut self) {
        let newer = self.times.last().is_none_or(|last| last.timestamp < self.max_timestamp);
        if newer && self.max_timestamp_offset >= self.base_offset {
            let relative_offset = self.relative(self.max_timestamp_offset);
            self.times.push(TimeEntry { timestamp: self.max_timestamp, relative_offset });
        }
    }

    fn thin(&mut self) {
        if self.offsets.len() >= ENTRIES_COUNT_MAX || self.times.len() >= ENTRIES_COUNT_MAX {
            self.halve();
            self.interval_bytes *= 2;
        }
    }

    fn halve(&mut self) {
        let mut at = 0;
        self.offsets.retain(|_| {
            at += 1;
            at % 2 == 1
        });
        at = 0;
        self.times.retain(|_| {
            at += 1;
            at % 2 == 1
        });
    }
}

fn uint(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("callers pass 4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(batches_count: u64) -> SparseIndex {
        let mut index = SparseIndex::new(Offset(1000), 100);
        for at in 0..batches_count {
            index.note(1000 + at as i64 * 2 + 1, at * 80, 80, at as i64 * 10);
        }
        index
    }

    /// Goal: a look-up never lands behind its batch. Method: every offset of a filled index.
    #[test]
    fn a_position_is_at_or_before_the_batch_of_the_offset() {
        for batches_count in [0, 1, 7, 500, 40_000] {
            let index = filled(batches_count);
            assert!(index.offsets.len() < ENTRIES_COUNT_MAX);
            for at in (0..batches_count).step_by(1 + batches_count as usize / 300) {
                let position = index.position_before(Offset(1000 + at as i64 * 2));
                assert!(position <= at * 80 && position.is_multiple_of(80));
                let distance = at * 80 - position;
                assert!(distance <= 160 * (index.interval_bytes / 100) * 2, "{distance}");
                assert!(index.offset_before_timestamp(at as i64 * 10).0 <= 1000 + at as i64 * 2);
            }
        }
    }

    /// Goal: Kafka's formats survive the way to disk and back. Method: encode, decode, compare;
    /// damage.
    #[test]
    fn an_index_reads_back_what_it_wrote() {
        let index = filled(300);
        let (offsets, times) = (index.encode_offsets(), index.encode_times());
        let back = SparseIndex::decode(Offset(1000), 100, &offsets, &times).unwrap();
        assert_eq!(back.offsets, index.offsets);
        assert_eq!(back.max_timestamp(), (2990, 1599));
        assert!(SparseIndex::decode(Offset(1000), 100, &offsets[1..], &times).is_err());
        assert!(SparseIndex::decode(Offset(1000), 100, &[0; 24], &times).is_err());
    }

    /// Goal: a cut forgets exactly the rest. Method: truncate and look up what was cut.
    #[test]
    fn a_truncated_index_knows_nothing_behind_the_cut() {
        let mut index = filled(300);
        index.truncate(80 * 100, 1200, (990, 1199));
        assert!(index.position_before(Offset(5000)) < 80 * 100);
        assert_eq!(index.max_timestamp(), (990, 1199));
        index.note(1201, 8000, 80, 1000);
        assert_eq!(index.max_timestamp(), (1000, 1201));
    }
}
