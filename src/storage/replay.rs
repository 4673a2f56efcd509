//! Producers after a stop, a crash or a cut: from a snapshot, and from the batches behind it.
//!
//! A checkpoint names the snapshot that tells of all that was flushed then. Should that one be
//! unreadable, or tell of batches that the log lost, the newest one that fits serves, in the worst
//! case none, and the heads of all later batches are read.
//! **Invariant:** a snapshot that reaches behind the log's end is never believed.

use super::StorageError;
use super::checkpoint::CorruptRange;
use super::log::LogCell;
use super::producers::{KnownProducer, Producers};
use super::recovery::{failed, rebuild_index};
use super::scan::Scan;
use super::segment::{LOG_SUFFIX, Segment, base_offset_of, path_of};
use super::snapshot::{self, SNAPSHOT_SUFFIX};
use crate::base::ids::Offset;
use crate::base::limits::PRODUCER_SNAPSHOT_BYTES_MAX;
use crate::io::{Io, OpenMode};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// The log that producers are looked for in.
pub(super) struct Source<'a> {
    pub io: &'a Io,
    pub dir: &'a Path,
    pub segments: &'a VecDeque<Rc<Segment>>,
    pub corrupt: &'a [CorruptRange],
    pub index_interval_bytes: u64,
    /// See [`Producers::new`].
    pub shard_count: Rc<Cell<usize>>,
}

/// The producers of the snapshot at `offset`; nothing: it is not there or damaged.
pub(super) async fn load(
    io: &Io,
    dir: &Path,
    offset: Offset,
    shard_count: Rc<Cell<usize>>,
) -> Option<Producers> {
    let path = path_of(dir, offset, SNAPSHOT_SUFFIX);
    if !io.exists(&path).await {
        return None;
    }
    let mut producers = Producers::new(shard_count);
    let whole = match io.read_file(&path, PRODUCER_SNAPSHOT_BYTES_MAX).await {
        Ok(bytes) => snapshot::decode_into(&mut producers, &bytes, io.clock().now_ms()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "snapshot of producers not read");
            return None;
        }
    };
    if !whole {
        tracing::warn!(path = %path.display(), "snapshot of producers is damaged");
    }
    whole.then_some(producers)
}

impl Source<'_> {
    /// The producers at the log's end, from the newest snapshot that fits and the batches behind
    /// it.
    pub async fn rebuild(&self) -> Result<Producers, StorageError> {
        let first = self.segments.front().map_or(Offset(0), |first| first.base_offset);
        let end = self.segments.back().map_or(first, |last| last.end_offset.get());
        let listed = snapshots(self.io, self.dir).await.map_err(failed("list", self.dir))?;
        for offset in listed.into_iter().rev().filter(|offset| (first..=end).contains(offset)) {
            let found = load(self.io, self.dir, offset, self.shard_count.clone()).await;
            if let Some(producers) = found {
                return self.replay(producers, offset).await;
            }
        }
        self.replay(Producers::new(self.shard_count.clone()), first).await
    }

    async fn replay(
        &self,
        mut producers: Producers,
        from: Offset,
    ) -> Result<Producers, StorageError> {
        for segment in self.segments {
            if segment.end_offset.get() > from && segment.end_bytes.get() > 0 {
                self.replay_segment(&mut producers, segment, from).await?;
                segment.cool();
            }
        }
        Ok(producers)
    }

    async fn replay_segment(
        &self,
        producers: &mut Producers,
        segment: &Segment,
        from: Offset,
    ) -> Result<(), StorageError> {
        if segment.load_index(self.io, self.index_interval_bytes).await.is_err() {
            rebuild_index(self.io, segment, self.index_interval_bytes).await?;
        }
        let start = segment.index.borrow().as_ref().map(|index| index.position_before(from));
        let mut position = start.unwrap_or(0);
        let path = segment.path(LOG_SUFFIX);
        let file = self.io.open(&path, OpenMode::Read).await.map_err(failed("open", &path))?;
        let mut scan = Scan::new(self.io, &file, segment.written_bytes.get());
        let now_ms = self.io.clock().now_ms();
        loop {
            let damage = self.corrupt.iter().find(|range| {
                range.segment == segment.base_offset
                    && (range.position..range.position_end).contains(&position)
            });
            if let Some(damage) = damage {
                position = damage.position_end;
                continue;
            }
            let head = scan.head_at(position).await.map_err(failed("read", &path))?;
            let Some(head) = head else { return Ok(()) };
            if let Some(sent) = head.sent.filter(|_| head.base_offset >= from.0) {
                producers.replay(&sent, head.base_offset, head.max_timestamp, now_ms);
            }
            position += head.bytes;
        }
    }
}

impl LogCell {
    /// The snapshot that a checkpoint is to name, and its producers where it must be written first.
    ///
    /// It tells of all that is flushed; with nobody to tell of there is none.
    pub fn next_snapshot(&self) -> (Option<Offset>, Option<Vec<KnownProducer>>) {
        let state = self.state.borrow();
        let upto = state.flushed_offset;
        if state.snapshot == Some(upto) {
            return (Some(upto), None);
        }
        let known = state.producers.all_at(upto.0);
        if known.is_empty() { (None, None) } else { (Some(upto), Some(known)) }
    }

    /// Writes a snapshot under its name; durable on return.
    pub async fn write_snapshot(&self, upto: Offset, known: &[KnownProducer]) -> io::Result<()> {
        let path = path_of(&self.dir, upto, SNAPSHOT_SUFFIX);
        self.io.replace_file(&path, snapshot::encode(known)).await
    }

    /// Takes note of the snapshot that the checkpoint names now, and removes the one before.
    pub async fn use_snapshot(&self, named: Option<Offset>) {
        let before = std::mem::replace(&mut self.state.borrow_mut().snapshot, named);
        if let Some(before) = before.filter(|before| Some(*before) != named)
            && !self.begins_segment(before)
        {
            let path = path_of(&self.dir, before, SNAPSHOT_SUFFIX);
            if let Err(error) = self.io.remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "old snapshot not removed");
            }
        }
    }

    fn begins_segment(&self, offset: Offset) -> bool {
        let state = self.state.borrow();
        state.segments.iter().any(|segment| segment.base_offset == offset)
    }

    /// Removes the snapshots that no start needs: all but those at a segment's begin, which serve
    /// after a cut, and the one that the checkpoint names.
    pub async fn remove_stray_snapshots(&self) -> io::Result<()> {
        for offset in snapshots(&self.io, &self.dir).await? {
            let named = self.state.borrow().snapshot == Some(offset);
            if !named && !self.begins_segment(offset) {
                self.io.remove_file(&path_of(&self.dir, offset, SNAPSHOT_SUFFIX)).await?;
            }
        }
        Ok(())
    }
}

/// Offsets of the snapshots in `dir`, rising.
async fn snapshots(io: &Io, dir: &Path) -> io::Result<Vec<Offset>> {
    let entries = io.list_dir(dir).await?;
    let offsets = entries.iter().filter_map(|entry| base_offset_of(&entry.name, SNAPSHOT_SUFFIX));
    let mut offsets: Vec<Offset> = offsets.collect();
    offsets.sort();
    Ok(offsets)
}
