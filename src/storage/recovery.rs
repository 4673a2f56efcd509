//! Opening a log: from what a clean stop left, else by a scan from the last checkpoint; and that
//! checkpoint.
//!
//! A bad batch with nothing valid behind it, or with a block that was never written before the next
//! valid one, is a torn tail: nobody was told that it is safe, so it is cut. Any other bad batch
//! with a valid one behind it is damage: its bytes stay, its offsets are fenced. (In a recycled
//! file blocks are never empty: there a power cut that kept later blocks and lost earlier ones
//! fences offsets that nobody was told of.) A head of zeroes ends the scan, as does a batch with an
//! offset that this log has given out before (a recycled file's old content).
//! **Invariant:** when a log is open, everything below its end is on stable storage.

use super::StorageError;
use super::checkpoint::{
    CHECKPOINT_NAME, Checkpoint, CleanLog, CorruptRange, PARTITION_METADATA_NAME, RecoveryPoint,
    encode_partition_metadata,
};
use super::commit::Committer;
use super::epochs::{EPOCHS_NAME, EpochCache};
use super::index::SparseIndex;
use super::log::{Log, LogCell, LogState, OpenLog, Recovery};
use super::owner::{DirOwner, owner_of, undecodable_owner};
use super::producers::Producers;
use super::replay::{self, Source};
use super::scan::{BatchEnd, Scan};
use super::segment::{
    DELETED_SUFFIX, LOG_SUFFIX, SPARE_NAME, Segment, SegmentFacts, base_offset_of,
};
use super::tail_cache::Tail;
use super::wake::{Cuts, Raised, Wakers};
use crate::base::ids::{Offset, TopicId};
use crate::io::{Io, OpenMode, is_full};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// Largest checkpoint or epoch file that is read, bytes.
const SMALL_FILE_BYTES_MAX: usize = 16 << 20;

/// See [`Log::open`].
pub(super) async fn open(
    io: &Io,
    committer: &Committer,
    open: OpenLog,
) -> Result<(Log, Recovery), StorageError> {
    let dir: Rc<Path> = Rc::from(open.dir.as_path());
    if let Some(clean) = &open.clean {
        if clean.topic_id != open.topic_id {
            let (found, expected) = (clean.topic_id, open.topic_id);
            return Err(StorageError::ForeignTopic { path: open.dir, found, expected });
        }
        if let Some(producers) = clean_producers(io, committer, &dir, clean).await {
            let log = open_clean(io, committer, &open, dir, clean, producers);
            return Ok((log, Recovery { corrupt: clean.corrupt.clone(), ..Recovery::default() }));
        }
    }
    if let Some(journal) = committer.journal() {
        journal.redo_for(&dir).await?;
    }
    let recovery = Recovery::default();
    let known_upto = Offset(i64::MAX);
    let mut opening = Opening { io, committer, open: &open, dir, recovery, known_upto };
    let log = opening.scan_disk().await?;
    match save_checkpoint(&log.0).await {
        // What is there can be read all the same, and deleted: that makes room.
        Err(error) if is_full(&error) => {
            let log = open.dir.display();
            tracing::warn!(%log, "no space left for a checkpoint: the next start scans as much");
        }
        saved => {
            saved.map_err(failed("write checkpoint of", &open.dir))?;
            let removed = log.0.remove_stray_snapshots().await;
            removed.map_err(failed("remove snapshots of", &open.dir))?;
        }
    }
    Ok((log, opening.recovery))
}

/// What a clean stop left of the producers; `None`: it cannot be read, the log is to be scanned.
async fn clean_producers(
    io: &Io,
    committer: &Committer,
    dir: &Path,
    clean: &CleanLog,
) -> Option<Producers> {
    let shard_count = committer.producers_count();
    match clean.producers {
        None => Some(Producers::new(shard_count)),
        Some(offset) => replay::load(io, dir, offset, shard_count).await,
    }
}

/// Writes down where a scan may begin, where the log starts, what is damaged. Durable on return.
pub(super) async fn save_checkpoint(log: &Rc<LogCell>) -> io::Result<()> {
    let wakers = &log.quiet_wakers;
    let _alone = wakers.until(|| Raised::try_raise(&log.checkpointing, wakers)).await;
    save_checkpoint_alone(log).await
}

async fn save_checkpoint_alone(log: &Rc<LogCell>) -> io::Result<()> {
    let (snapshot, producers) = log.next_snapshot();
    let (checkpoint, scanned, epochs) = {
        let mut state = log.state.borrow_mut();
        let open = state.segments.iter().find(|segment| !segment.closed.get());
        let segment = open.unwrap_or(state.active()).clone();
        let point = RecoveryPoint {
            offset: segment.flushed_offset.get(),
            segment: segment.base_offset,
            position: segment.flushed_bytes.get(),
            max_timestamp: segment.max_timestamp.get(),
            max_timestamp_offset: segment.max_timestamp_offset.get(),
        };
        let checkpoint = Checkpoint {
            start_offset: state.start_offset,
            recovery_point: Some(point),
            producers: snapshot,
            corrupt: state.corrupt.clone(),
        };
        let epochs = state.epochs_dirty.then(|| state.epochs.encode());
        state.epochs_dirty = false;
        (checkpoint, segment, epochs)
    };
    if let Some(epochs) = epochs {
        let replaced = log.io.replace_file(&log.dir.join(EPOCHS_NAME), epochs.into_bytes()).await;
        if replaced.is_err() {
            log.state.borrow_mut().epochs_dirty = true;
        }
        replaced?;
    }
    if scanned.flushed_bytes.get() > 0 {
        scanned.write_index(&log.io).await?;
    }
    if let (Some(upto), Some(known)) = (snapshot, producers) {
        log.write_snapshot(upto, &known).await?;
    }
    let contents = checkpoint.encode().into_bytes();
    log.io.replace_file(&log.dir.join(CHECKPOINT_NAME), contents).await?;
    log.use_snapshot(checkpoint.producers).await;
    Ok(())
}

fn open_clean(
    io: &Io,
    committer: &Committer,
    open: &OpenLog,
    dir: Rc<Path>,
    clean: &CleanLog,
    producers: Producers,
) -> Log {
    let mut segments: VecDeque<Rc<Segment>> = VecDeque::new();
    for (at, facts) in clean.segments.iter().enumerate() {
        let segment = Segment::found(dir.clone(), *facts, committer.next_segment_id());
        let is_last = at + 1 == clean.segments.len();
        segment.sealed.set(!is_last);
        segment.closed.set(!is_last);
        segment.exists.set(facts.bytes > 0);
        segments.push_back(Rc::new(segment));
    }
    let parts = Parts {
        start_offset: clean.start_offset,
        epochs: clean.epochs.clone(),
        producers,
        snapshot: clean.producers,
        corrupt: clean.corrupt.clone(),
        segments,
        spare_bytes: None,
    };
    build(io, committer, open, dir, parts)
}

/// What a log is put together from.
struct Parts {
    start_offset: Offset,
    epochs: EpochCache,
    producers: Producers,
    snapshot: Option<Offset>,
    corrupt: Vec<CorruptRange>,
    segments: VecDeque<Rc<Segment>>,
    spare_bytes: Option<u64>,
}

fn build(io: &Io, committer: &Committer, open: &OpenLog, dir: Rc<Path>, mut parts: Parts) -> Log {
    if parts.segments.is_empty() {
        let id = committer.next_segment_id();
        let interval_bytes = open.config.index_interval_bytes;
        let now_ms = io.clock().now_ms();
        let first = Segment::new(dir.clone(), parts.start_offset, id, now_ms, interval_bytes);
        parts.segments.push_back(Rc::new(first));
    }
    let end_offset = parts.segments.back().map_or(parts.start_offset, |last| last.end_offset.get());
    let first_offset = parts.segments.front().map_or(end_offset, |first| first.base_offset);
    let state = LogState {
        config: open.config.clone(),
        segments: parts.segments,
        tail: Tail::new(end_offset),
        start_offset: parts.start_offset.max(first_offset).min(end_offset),
        end_offset,
        flushed_offset: end_offset,
        epochs: parts.epochs,
        producers: parts.producers,
        snapshot: parts.snapshot,
        corrupt: parts.corrupt,
        fenced: None,
        cuts: Cuts::default(),
        no_space: false,
        no_space_count: 0,
        write_bytes_mean: 0,
        writes_count: 0,
        prepare_step_bytes: 0,
        bytes_since_checkpoint: 0,
        records_unflushed: 0,
        lazy_flush: None,
        lazy_timer: false,
        spare_bytes: parts.spare_bytes,
        cursors: VecDeque::new(),
        last_append: io.clock().monotonic(),
        tail_quiet: true,
        changed_since_open: false,
        epochs_dirty: false,
        retired_count: 0,
    };
    let cell = Rc::new(LogCell {
        io: io.clone(),
        dir,
        topic_id: open.topic_id,
        committer: committer.clone(),
        state: RefCell::new(state),
        flush_wakers: Rc::default(),
        quiet_wakers: Wakers::default(),
        queued: Cell::new(false),
        writing: Cell::new(false),
        owes_flush: Cell::new(false),
        held: Cell::new(false),
        preparing: Cell::new(false),
        checkpointing: Cell::new(false),
        behind_due: Cell::new(false),
        behind_missed: Cell::new(false),
        drains: Cell::new(false),
        in_files: Rc::default(),
    });
    committer.register(&cell);
    Log(cell)
}

/// A log being opened from what a crash, or nothing, left.
struct Opening<'a> {
    io: &'a Io,
    committer: &'a Committer,
    open: &'a OpenLog,
    dir: Rc<Path>,
    recovery: Recovery,
    /// The producers that the scan began with are those at this offset; no log ends at the largest.
    known_upto: Offset,
}

impl Opening<'_> {
    async fn scan_disk(&mut self) -> Result<Log, StorageError> {
        let dir = self.dir.clone();
        self.claim_dir().await?;
        let entries = self.io.list_dir(&dir).await.map_err(failed("list", &dir))?;
        let mut spare_bytes = None;
        let mut found: Vec<(Offset, u64)> = Vec::new();
        for entry in entries {
            if entry.name == SPARE_NAME {
                spare_bytes = Some(entry.bytes);
            } else if entry.name.ends_with(DELETED_SUFFIX) {
                let path = dir.join(&entry.name);
                self.io.remove_file(&path).await.map_err(failed("remove", &path))?;
            } else if let Some(base_offset) = base_offset_of(&entry.name, LOG_SUFFIX) {
                found.push((base_offset, entry.bytes));
            }
        }
        found.sort();
        let checkpoint = self.read_checkpoint().await?;
        let mut epochs = self.read_epochs().await?;
        let point = checkpoint.recovery_point;
        let first = found.first().map_or(Offset(0), |first| first.0);
        let producers = self.first_producers(&checkpoint, first).await;
        if let Some(point) = &point {
            epochs.truncate(point.offset);
        }
        let mut parts = Parts {
            start_offset: checkpoint.start_offset,
            epochs,
            producers,
            snapshot: checkpoint.producers,
            corrupt: checkpoint.corrupt,
            segments: VecDeque::new(),
            spare_bytes,
        };
        self.find_segments(&mut parts, &found, point).await?;
        self.check_producers(&mut parts).await?;
        self.recovery.corrupt.clone_from(&parts.corrupt);
        let log = build(self.io, self.committer, self.open, dir, parts);
        log.0.state.borrow_mut().epochs_dirty = true;
        Ok(log)
    }

    /// The producers to begin the scan with, as of `known_upto`.
    async fn first_producers(&mut self, checkpoint: &Checkpoint, first: Offset) -> Producers {
        let shard_count = self.committer.producers_count();
        let named = match &checkpoint.recovery_point {
            Some(point) => checkpoint.producers.ok_or(point.offset),
            None => Ok(first),
        };
        match named {
            Err(nobody_upto) => self.known_upto = nobody_upto,
            Ok(named) => {
                let loaded = replay::load(self.io, &self.dir, named, shard_count.clone()).await;
                if let Some(producers) = loaded {
                    self.known_upto = named;
                    return producers;
                }
                if checkpoint.recovery_point.is_none() {
                    self.known_upto = first;
                }
            }
        }
        Producers::new(shard_count)
    }

    /// Looks for producers anew where those that the scan began with were not to be trusted.
    async fn check_producers(&self, parts: &mut Parts) -> Result<(), StorageError> {
        let end = parts.segments.back().map_or(parts.start_offset, |last| last.end_offset.get());
        if self.known_upto <= end {
            return Ok(());
        }
        tracing::warn!(log = %self.dir.display(), "producers are looked for in all segments");
        let source = Source {
            io: self.io,
            dir: &self.dir,
            segments: &parts.segments,
            corrupt: &parts.corrupt,
            index_interval_bytes: self.open.config.index_interval_bytes,
            shard_count: self.committer.producers_count(),
        };
        parts.producers = source.rebuild().await?;
        parts.snapshot = None;
        Ok(())
    }

    /// Creates the directory, or makes sure that it is this topic's.
    async fn claim_dir(&self) -> Result<(), StorageError> {
        let (dir, topic_id) = (&self.dir, self.open.topic_id);
        let metadata = dir.join(PARTITION_METADATA_NAME);
        if !self.io.exists(dir).await {
            self.io.create_dir_all(dir).await.map_err(failed("create", dir))?;
            if let Some(parent) = dir.parent() {
                self.io.sync_dir(parent).await.map_err(failed("sync", parent))?;
            }
        }
        if topic_id == TopicId::ZERO {
            return Ok(());
        }
        match owner_of(self.io, dir).await.map_err(failed("read", &metadata))? {
            DirOwner::Nobody => {
                let contents = encode_partition_metadata(topic_id).into_bytes();
                let written = self.io.replace_file(&metadata, contents).await;
                written.map_err(failed("write", &metadata))
            }
            DirOwner::Topic(found) if found == topic_id => Ok(()),
            DirOwner::Topic(found) => {
                let path = dir.to_path_buf();
                Err(StorageError::ForeignTopic { path, found, expected: topic_id })
            }
            DirOwner::Undecodable => Err(undecodable_owner(dir)),
        }
    }

    async fn read_checkpoint(&self) -> Result<Checkpoint, StorageError> {
        let path = self.dir.join(CHECKPOINT_NAME);
        if !self.io.exists(&path).await {
            return Ok(Checkpoint::default());
        }
        let text = self.read_text(&path).await?;
        // A checkpoint that cannot be read costs a longer scan, and the start that DeleteRecords
        // set.
        Ok(Checkpoint::decode(&text).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "not a checkpoint: the whole log is scanned");
            Checkpoint::default()
        }))
    }

    async fn read_epochs(&self) -> Result<EpochCache, StorageError> {
        let path = self.dir.join(EPOCHS_NAME);
        if !self.io.exists(&path).await {
            return Ok(EpochCache::default());
        }
        let text = self.read_text(&path).await?;
        let damaged = StorageError::Damaged { path, reason: "not a leader epoch checkpoint" };
        EpochCache::decode(&text).ok_or(damaged)
    }

    async fn read_text(&self, path: &Path) -> Result<String, StorageError> {
        let bytes = self.io.read_file(path, SMALL_FILE_BYTES_MAX).await;
        let bytes = bytes.map_err(failed("read", path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Takes segments below the recovery point as they are and scans the others.
    async fn find_segments(
        &mut self,
        parts: &mut Parts,
        found: &[(Offset, u64)],
        point: Option<RecoveryPoint>,
    ) -> Result<(), StorageError> {
        let mut torn = false;
        for (at, &(base_offset, bytes)) in found.iter().enumerate() {
            let next_base = found.get(at + 1).map(|next| next.0);
            if torn {
                self.retire(base_offset).await?;
                continue;
            }
            let end_offset = parts.segments.back().map(|last| last.end_offset.get());
            let known = point.filter(|point| base_offset <= point.segment);
            if let (Some(point), Some(next_base)) = (known, next_base)
                && base_offset < point.segment
            {
                let segment = self.trust(base_offset, bytes, next_base).await?;
                parts.segments.push_back(Rc::new(segment));
                continue;
            }
            let point = known.filter(|point| point.segment == base_offset);
            if let Some(end_offset) = end_offset
                && base_offset != end_offset
            {
                if base_offset < end_offset || !self.holds_batches(base_offset, bytes).await? {
                    self.retire(base_offset).await?;
                    continue;
                }
                let last = parts.segments.back().expect("it has an end").clone();
                self.fence_gap(parts, &last, base_offset);
            }
            let (segment, end) = self.scan_segment(parts, base_offset, bytes, point).await?;
            // Later segments hold only what was appended behind a hole: none of it was
            // acknowledged.
            let follows = next_base == Some(segment.end_offset.get());
            torn = next_base.is_some() && !follows && end != BatchEnd::Torn;
            parts.segments.push_back(segment);
        }
        let last = parts.segments.len().saturating_sub(1);
        for (at, segment) in parts.segments.iter().enumerate() {
            segment.sealed.set(at < last || segment.closed.get());
        }
        self.settle(parts).await
    }

    /// Whether the file of the segment at `base_offset` has a whole batch of that segment: one that
    /// was only made ready, before a crash tore the tail of the segment before it, has none.
    async fn holds_batches(&self, base_offset: Offset, bytes: u64) -> Result<bool, StorageError> {
        let path = super::segment::path_of(&self.dir, base_offset, LOG_SUFFIX);
        let file = self.io.open(&path, OpenMode::Read).await.map_err(failed("open", &path))?;
        let offsets = base_offset.0..i64::MAX;
        let found = Scan::new(self.io, &file, bytes).find_valid(0, &offsets).await;
        Ok(found.map_err(failed("read", &path))?.is_some())
    }

    /// A segment that was closed before the recovery point.
    async fn trust(
        &self,
        base_offset: Offset,
        bytes: u64,
        end_offset: Offset,
    ) -> Result<Segment, StorageError> {
        let facts = SegmentFacts {
            base_offset,
            bytes,
            end_offset,
            max_timestamp: i64::MAX,
            max_timestamp_offset: end_offset.0 - 1,
            created_ms: self.io.clock().now_ms(),
        };
        let id = self.committer.next_segment_id();
        let segment = Segment::found(self.dir.clone(), facts, id);
        segment.sealed.set(true);
        segment.closed.set(true);
        let interval_bytes = self.open.config.index_interval_bytes;
        if segment.load_index(self.io, interval_bytes).await.is_err() {
            rebuild_index(self.io, &segment, interval_bytes).await?;
        }
        let newest =
            segment.index.borrow().as_ref().map_or((-1, -1), |index| index.last_time_entry());
        segment.max_timestamp.set(newest.0);
        segment.max_timestamp_offset.set(newest.1);
        segment.cool();
        Ok(segment)
    }

    async fn scan_segment(
        &mut self,
        parts: &mut Parts,
        base_offset: Offset,
        bytes: u64,
        point: Option<RecoveryPoint>,
    ) -> Result<(Rc<Segment>, BatchEnd), StorageError> {
        let start = point.filter(|point| point.position <= bytes).unwrap_or(RecoveryPoint {
            offset: base_offset,
            segment: base_offset,
            position: 0,
            max_timestamp: -1,
            max_timestamp_offset: -1,
        });
        // After a crash between a cut and its checkpoint these tell of what is gone.
        parts.epochs.truncate(start.offset);
        parts
            .corrupt
            .retain(|range| (range.segment, range.position_end) <= (base_offset, start.position));
        let facts = SegmentFacts {
            base_offset,
            bytes: start.position,
            end_offset: start.offset,
            max_timestamp: start.max_timestamp,
            max_timestamp_offset: start.max_timestamp_offset,
            created_ms: self.io.clock().now_ms(),
        };
        let id = self.committer.next_segment_id();
        let segment = Rc::new(Segment::found(self.dir.clone(), facts, id));
        let interval_bytes = self.open.config.index_interval_bytes;
        if start.position > 0 && segment.load_index(self.io, interval_bytes).await.is_err() {
            rebuild_index(self.io, &segment, interval_bytes).await?;
        }
        let empty = SparseIndex::new(base_offset, interval_bytes);
        segment.index.borrow_mut().get_or_insert(empty);
        let path = segment.path(LOG_SUFFIX);
        let file = segment.open(self.io).await.map_err(failed("open", &path))?;
        let mut scan = Scan::new(self.io, &file, bytes);
        let end = self.scan_batches(parts, &segment, &mut scan).await;
        let end = end.map_err(failed("read", &path))?;
        self.recovery.scanned_bytes += segment.end_bytes.get() - start.position;
        if end != BatchEnd::Torn {
            return Ok((segment, end));
        }
        let position = segment.end_bytes.get();
        self.recovery.cut_bytes += scan.dirty_bytes_at(position).await;
        let hole = scan.reaches_into_hole(position).await.map_err(failed("read", &path))?;
        Ok((segment, if hole { BatchEnd::NeverWritten } else { end }))
    }

    async fn scan_batches(
        &mut self,
        parts: &mut Parts,
        segment: &Rc<Segment>,
        scan: &mut Scan<'_>,
    ) -> io::Result<BatchEnd> {
        let now_ms = self.io.clock().now_ms();
        loop {
            let (position, expected) = (segment.end_bytes.get(), segment.end_offset.get().0);
            let end = match scan.batch_at(position, expected).await? {
                Ok(head) => {
                    let interval_bytes = self.open.config.index_interval_bytes;
                    let last_offset = head.last_offset();
                    segment.note_batch(last_offset, head.bytes, head.max_timestamp, interval_bytes);
                    let epoch = crate::base::ids::LeaderEpoch(head.leader_epoch);
                    parts.epochs.note(epoch, Offset(head.base_offset));
                    if let Some(sent) = head.sent.filter(|_| head.base_offset >= self.known_upto.0)
                    {
                        let (base_offset, timestamp) = (head.base_offset, head.max_timestamp);
                        parts.producers.replay(&sent, base_offset, timestamp, now_ms);
                    }
                    continue;
                }
                Err(end) => end,
            };
            if end != BatchEnd::Bad {
                return Ok(end);
            }
            // A segment rolls before its offsets outgrow 31 bits.
            let offsets = expected + 1..segment.base_offset.0 + i64::from(i32::MAX);
            let Some((position_end, next)) = scan.find_next(position, offsets).await? else {
                return Ok(BatchEnd::Torn);
            };
            if scan.has_hole(position, position_end).await? {
                return Ok(BatchEnd::NeverWritten);
            }
            let range = CorruptRange {
                start: Offset(expected),
                end: Offset(next.base_offset),
                segment: segment.base_offset,
                position,
                position_end,
            };
            report(&self.dir, &range);
            parts.corrupt.push(range);
            segment.end_bytes.set(position_end);
            segment.end_offset.set(range.end);
        }
    }

    /// Offsets are missing between `last` and the next segment: damage at the end of `last`'s file.
    fn fence_gap(&mut self, parts: &mut Parts, last: &Rc<Segment>, next_base: Offset) {
        let position = last.end_bytes.get();
        let range = CorruptRange {
            start: last.end_offset.get(),
            end: next_base,
            segment: last.base_offset,
            position,
            position_end: last.opened().map_or(position, |file| file.bytes()).max(position),
        };
        report(&self.dir, &range);
        parts.corrupt.push(range);
        last.end_bytes.set(range.position_end);
        last.end_offset.set(next_base);
    }

    /// Cuts what is torn, closes what is full, and makes all of it durable.
    async fn settle(&mut self, parts: &Parts) -> Result<(), StorageError> {
        for segment in parts.segments.iter().filter(|segment| !segment.closed.get()) {
            let end_bytes = segment.end_bytes.get();
            segment.written_bytes.set(end_bytes);
            segment.flushed_bytes.set(end_bytes);
            segment.prepared_bytes.set(end_bytes);
            segment.allocated_bytes.set(end_bytes);
            segment.written_offset.set(segment.end_offset.get());
            segment.flushed_offset.set(segment.end_offset.get());
            let path = segment.path(LOG_SUFFIX);
            let file = segment.open(self.io).await.map_err(failed("open", &path))?;
            if file.bytes() != end_bytes {
                file.truncate(end_bytes).await.map_err(failed("truncate", &path))?;
            }
            file.sync().await.map_err(failed("flush", &path))?;
            if segment.sealed.get() {
                match segment.write_index(self.io).await {
                    // It is made anew from the batches when it is asked for.
                    Err(error) if is_full(&error) => {}
                    written => written.map_err(failed("index", &path))?,
                }
                segment.closed.set(true);
                segment.forget_file();
                segment.cool();
            }
        }
        Ok(())
    }

    async fn retire(&self, base_offset: Offset) -> Result<(), StorageError> {
        let path = super::segment::path_of(&self.dir, base_offset, LOG_SUFFIX);
        tracing::warn!(path = %path.display(), "segment behind a torn tail removed");
        self.io.remove_file(&path).await.map_err(failed("remove", &path))?;
        self.io.sync_dir(&self.dir).await.map_err(failed("sync", &self.dir))
    }
}

/// Builds a closed segment's index anew from its batches.
pub(super) async fn rebuild_index(
    io: &Io,
    segment: &Segment,
    interval_bytes: u64,
) -> Result<(), StorageError> {
    let path = segment.path(LOG_SUFFIX);
    let file = io.open(&path, OpenMode::Read).await.map_err(failed("open", &path))?;
    let mut index = SparseIndex::new(segment.base_offset, interval_bytes);
    let mut scan = Scan::new(io, &file, segment.end_bytes.get());
    let mut position = 0;
    // Heads only: whether a batch is whole is found when it is read.
    while let Some(head) = scan.head_at(position).await.map_err(failed("read", &path))? {
        if head.end_offset() > segment.end_offset.get().0 {
            break;
        }
        index.note(head.last_offset(), position, head.bytes, head.max_timestamp);
        position += head.bytes;
    }
    segment.set_index(index);
    Ok(())
}

/// The one line that names a damaged range.
pub(super) fn report(dir: &Path, range: &CorruptRange) {
    tracing::error!(
        log = %dir.display(),
        first_offset = range.start.0,
        last_offset = range.end.0 - 1,
        segment = range.segment.0,
        position = range.position,
        position_end = range.position_end,
        "records are damaged on disk: kept, not served"
    );
}

/// Turns an I/O error into a [`StorageError`] that says what was being done.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_path_buf();
    move |source| StorageError::Io { doing, path, source }
}
