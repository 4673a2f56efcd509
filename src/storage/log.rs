//! One partition's log: the public face of storage.
//!
//! A log is a row of segments, a tail in memory and the counts of what is appended, written and
//! flushed. [`append`](super::append) puts batches at its end; the shard's [`Committer`] brings the
//! bytes to the disk and moves `flushed_offset` on. Knows no leaders, requests or Kafka
//! error codes.
//! **Invariant:** `start_offset <= flushed_offset <= end_offset`; only the last segment takes
//! appends.

use super::StorageError;
use super::checkpoint::{CleanLog, CorruptRange};
use super::commit::{Committer, Pending};
use super::epochs::EpochCache;
use super::producers::{KnownProducer, ProducerError, Producers};
use super::segment::Segment;
use super::snapshot;
use super::tail_cache::Tail;
use super::wake::{Cuts, OffsetWakers, Wakers};
use crate::base::ids::{LeaderEpoch, Offset, TopicId};
use crate::base::limits::MIB;
use crate::io::{Io, Slice};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Most bytes of one log that no write has taken yet: past it, appends are refused until a write is
/// done.
pub const LOG_DIRTY_BYTES_MAX: u64 = 32 * MIB as u64;

/// When an append counts as safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Only on stable storage: every acknowledged record survives a power cut.
    Always,
    /// At once, as in Kafka; flushed after so many records or so long, whichever comes first.
    Relaxed { messages: u64, ms: u64 },
}

/// A topic's settings as far as a log acts on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// Records older than this go; -1: never.
    pub retention_ms: i64,
    /// Segments go while the log is larger; -1: never.
    pub retention_bytes: i64,
    pub index_interval_bytes: u64,
    pub message_max_bytes: usize,
    pub flush: FlushPolicy,
    /// Who numbers its batches is forgotten when it was silent for so long.
    pub producer_expiration_ms: i64,
}

impl Default for LogConfig {
    /// Kafka's defaults, but for the flush.
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            index_interval_bytes: 4096,
            message_max_bytes: crate::base::limits::MESSAGE_BYTES_MAX,
            flush: FlushPolicy::Always,
            producer_expiration_ms: 24 * 3_600_000,
        }
    }
}

/// What [`Log::open`] needs to know.
#[derive(Debug, Clone)]
pub struct OpenLog {
    /// The partition's directory; created if it is not there.
    pub dir: PathBuf,
    /// Kept in `partition.metadata` and compared with it; [`TopicId::ZERO`]: not a topic's log.
    pub topic_id: TopicId,
    pub config: LogConfig,
    /// What a clean stop left, if this log was part of one: nothing is read then.
    pub clean: Option<CleanLog>,
}

/// What opening a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    pub corrupt: Vec<CorruptRange>,
}

/// Where an append landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub log_start: Offset,
    /// Nothing was appended: the batch has been at these offsets since an earlier append, with this
    /// as its largest timestamp.
    pub repeats: Option<i64>,
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the log is fenced: {0}")]
    Fenced(String),
    #[error("{dirty_bytes} bytes wait for the disk or memory is short; wait for room and retry")]
    NoRoom { dirty_bytes: u64 },
    #[error("no space is left on the disk")]
    NoSpace,
    #[error("the bytes are not whole batches: {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Producer(#[from] ProducerError),
}

/// Why appended records will not be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    #[error("the log is fenced: {0}")]
    Fenced(String),
    /// The records are gone again; produce them anew once there is space.
    #[error("no space is left on the disk")]
    NoSpace,
    #[error("the log was cut below these records")]
    Truncated,
}

/// Whole batches, in order, as slices of the log's own buffers.
#[derive(Debug, Default)]
pub struct ReadBatches {
    pub slices: Vec<Slice>,
    pub bytes: usize,
    /// Read on from here; the offset that was asked for if nothing was there.
    pub next_offset: Offset,
}

/// Why nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is not in {start} to {end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    #[error("offsets {start} to {end} (exclusive) are damaged on disk")]
    Corrupt { start: Offset, end: Offset },
    #[error("reading {segment} at {position}: {reason}")]
    Io { segment: Offset, position: u64, reason: String },
    #[error("batch at offset {offset}: {reason}")]
    Undecodable { offset: Offset, reason: String },
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub epoch: LeaderEpoch,
}

/// A log on this shard; clones are the same log.
#[derive(Clone)]
pub struct Log(pub(super) Rc<LogCell>);

/// The shared insides of a log.
pub(super) struct LogCell {
    pub io: Io,
    pub dir: Rc<Path>,
    pub topic_id: TopicId,
    pub committer: Committer,
    pub state: RefCell<LogState>,
    /// The next acknowledgement, fence or cut.
    pub flush_wakers: Rc<OffsetWakers>,
    /// A write ended, zeroing ended, a reader let go: whoever needs quiet looks again.
    pub quiet_wakers: Wakers,
    /// Waits in the committer's queue.
    pub queued: Cell<bool>,
    /// A write is in flight: there is never a second.
    pub writing: Cell<bool>,
    /// Its last write changed metadata and is not flushed: the next one waits for that.
    pub owes_flush: Cell<bool>,
    /// No write may start: the log is being cut, closed or deleted.
    pub held: Cell<bool>,
    /// Background preparation runs on the active segment.
    pub preparing: Cell<bool>,
    pub checkpointing: Cell<bool>,
    /// Waits among those whose segment should get what the journal has.
    pub behind_due: Cell<bool>,
    /// It was its turn while another write was on its way.
    pub behind_missed: Cell<bool>,
    /// Somebody waits until all of it is in its files: nothing waits for a round's flush.
    pub drains: Cell<bool>,
    /// Whatever rounds of the journal hold of it is in its files, or wanted no more.
    pub in_files: Rc<Cell<bool>>,
}

/// The parts of a log that change.
pub(super) struct LogState {
    pub config: LogConfig,
    /// Oldest first, never empty; the last one takes appends.
    pub segments: VecDeque<Rc<Segment>>,
    pub tail: Tail,
    pub start_offset: Offset,
    pub end_offset: Offset,
    pub flushed_offset: Offset,
    pub epochs: EpochCache,
    pub producers: Producers,
    /// The snapshot of producers that the checkpoint names.
    pub snapshot: Option<Offset>,
    pub corrupt: Vec<CorruptRange>,
    pub fenced: Option<String>,
    /// Cuts of unacknowledged records: who waits for one of those waits for nothing.
    pub cuts: Cuts,
    /// The last write found the disk full, under a relaxed policy.
    pub no_space: bool,
    /// Counts such writes.
    pub no_space_count: u64,
    /// Average size of a write, bytes, over the last few.
    pub write_bytes_mean: u64,
    pub writes_count: u64,
    pub prepare_step_bytes: u64,
    pub bytes_since_checkpoint: u64,
    pub records_unflushed: u64,
    /// Written under a relaxed policy and not due for a flush yet.
    pub lazy_flush: Option<Pending>,
    pub lazy_timer: bool,
    /// An old segment's file waits to be written over; its size.
    pub spare_bytes: Option<u64>,
    pub cursors: VecDeque<super::read::Cursor>,
    pub last_append: Duration,
    pub tail_quiet: bool,
    pub changed_since_open: bool,
    pub epochs_dirty: bool,
    pub retired_count: usize,
}

impl LogState {
    pub fn active(&self) -> &Rc<Segment> {
        self.segments.back().expect("a log always has a segment")
    }

    /// The oldest segment with bytes that no write holds.
    pub fn first_dirty(&self) -> Option<Rc<Segment>> {
        // Dirty segments are the last ones; few rolls ever wait at once.
        let mut found = None;
        for segment in self.segments.iter().rev() {
            if segment.end_bytes.get() == 0 {
                continue;
            }
            if segment.dirty_bytes() == 0 {
                break;
            }
            found = Some(segment.clone());
        }
        found
    }

    pub fn dirty_bytes(&self) -> u64 {
        // A segment that was just begun says nothing of those before it.
        let filled = self.segments.iter().rev().filter(|segment| segment.end_bytes.get() > 0);
        filled.map(|segment| segment.dirty_bytes()).take_while(|&bytes| bytes > 0).sum()
    }

    /// Bytes that neither a file nor the journal has: somebody waits for them.
    pub fn urgent_bytes(&self) -> u64 {
        let filled = self.segments.iter().rev().filter(|segment| segment.end_bytes.get() > 0);
        filled.map(|segment| segment.urgent_bytes()).take_while(|&bytes| bytes > 0).sum()
    }

    /// Bytes that only the journal has.
    pub fn behind_bytes(&self) -> u64 {
        self.first_dirty().map_or(0, |segment| segment.behind_bytes())
    }

    /// The damage that `position` of the segment's file lies in.
    pub fn damage_at(&self, segment: &Segment, position: u64) -> Option<CorruptRange> {
        let known = self.corrupt.iter().find(|range| {
            range.segment == segment.base_offset
                && (range.position..range.position_end).contains(&position)
        });
        known.copied()
    }

    /// The segment that holds or would hold `offset`.
    pub fn segment_of(&self, offset: Offset) -> usize {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        after.saturating_sub(1)
    }
}

impl Log {
    /// Opens or creates the log in `open.dir`.
    ///
    /// After a clean stop nothing is read. Otherwise everything behind the last checkpoint is
    /// scanned: a torn tail is cut, damage before valid batches is kept and fenced (see
    /// [`Recovery`]).
    ///
    /// # Errors
    /// [`StorageError`]: the disk refused, or the directory is another topic's.
    pub async fn open(
        io: &Io,
        committer: &Committer,
        open: OpenLog,
    ) -> Result<(Log, Recovery), StorageError> {
        super::recovery::open(io, committer, open).await
    }

    /// Resolves when everything below `upto` (exclusive) is acknowledged as the flush policy has
    /// it.
    ///
    /// Call it right after the append, before other tasks run: a cut that comes in between goes
    /// unseen.
    ///
    /// # Errors
    /// [`FlushError`]: it will not be; the records may or may not be in the log later.
    pub fn wait_flushed(
        &self,
        upto: Offset,
    ) -> impl Future<Output = Result<(), FlushError>> + 'static {
        let cell = self.0.clone();
        let cuts_count = cell.state.borrow().cuts.count();
        let wait = cell.flush_wakers.wait(upto.0);
        poll_fn(move |context| {
            let state = cell.state.borrow();
            if let Some(error) = state.cuts.since(cuts_count, upto) {
                return Poll::Ready(Err(error));
            }
            if state.flushed_offset >= upto {
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = &state.fenced {
                return Poll::Ready(Err(FlushError::Fenced(reason.clone())));
            }
            wait.register(context.waker());
            Poll::Pending
        })
    }

    /// A handle that waits for acknowledgements.
    pub fn subscribe(&self) -> Watch {
        Watch { log: self.clone() }
    }

    /// Up to here (exclusive) records are acknowledged and may be served.
    pub fn flushed_offset(&self) -> Offset {
        self.0.state.borrow().flushed_offset
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> Offset {
        self.0.state.borrow().end_offset
    }

    /// The first offset that is kept.
    pub fn start_offset(&self) -> Offset {
        self.0.state.borrow().start_offset
    }

    /// Whether writes or other work on its files are under way: a fenced log is not reopened
    /// before they have ended, as they would land in the files of the new one.
    pub fn is_busy(&self) -> bool {
        self.0.is_busy()
    }

    /// Why the log takes no more appends, if it does not: reopen it from disk.
    pub fn fenced(&self) -> Option<String> {
        self.0.state.borrow().fenced.clone()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.0.state.borrow().segments.iter().map(|segment| segment.end_bytes.get()).sum()
    }

    /// How many segments there are.
    pub fn segments_count(&self) -> usize {
        self.0.state.borrow().segments.len()
    }

    /// Largest timestamp of the log; -1 without records.
    pub fn max_timestamp(&self) -> i64 {
        let state = self.0.state.borrow();
        state.segments.iter().map(|segment| segment.max_timestamp.get()).max().unwrap_or(-1)
    }

    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The topic that the log belongs to.
    pub fn topic_id(&self) -> TopicId {
        self.0.topic_id
    }

    /// Ranges that the disk damaged.
    pub fn corrupt_ranges(&self) -> Vec<CorruptRange> {
        self.0.state.borrow().corrupt.clone()
    }

    /// The newest leader epoch with records.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.0.state.borrow().epochs.latest()
    }

    /// The epoch in which the record at `offset` was appended.
    pub fn epoch_of(&self, offset: Offset) -> LeaderEpoch {
        self.0.state.borrow().epochs.epoch_of(offset)
    }

    /// Where `epoch`, or the newest one before it, ended here; see OffsetForLeaderEpoch.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.0.state.borrow();
        state.epochs.end_offset(epoch, state.end_offset)
    }

    /// The producers that number their batches and are known at `now_ms`, longest silent first.
    pub fn producers(&self, now_ms: i64) -> Vec<KnownProducer> {
        let mut state = self.0.state.borrow_mut();
        let expiration_ms = state.config.producer_expiration_ms;
        state.producers.expire(now_ms, expiration_ms);
        state.producers.all().copied().collect()
    }

    /// The settings in force.
    pub fn config(&self) -> LogConfig {
        self.0.state.borrow().config.clone()
    }

    /// Other settings from now on; segments are rolled and kept by them at the next occasion.
    pub fn set_config(&self, config: LogConfig) {
        let mut state = self.0.state.borrow_mut();
        state.config = config;
        // Nobody waits for it any more, and what comes now is not to be safe before it.
        let is_always = state.config.flush == FlushPolicy::Always;
        let lazy = state.lazy_flush.take_if(|_| is_always);
        drop(state);
        if let Some(pending) = lazy {
            self.0.committer.flush_soon(pending);
        }
        self.0.committer.kick(&self.0);
    }

    /// Whether [`Log::append`] has room for a large request now.
    pub fn has_room(&self) -> bool {
        self.0.committer.has_room() && self.0.state.borrow().dirty_bytes() < LOG_DIRTY_BYTES_MAX / 2
    }

    /// Resolves when [`Log::has_room`] holds or the log is fenced.
    pub async fn wait_room(&self) {
        let ready = || (self.has_room() || self.0.state.borrow().fenced.is_some()).then_some(());
        self.0.committer.room_wakers().until(ready).await;
    }
}

impl LogCell {
    /// Ends the active segment and begins the next; synchronous, the file follows with the first
    /// write.
    pub fn roll(self: &Rc<Self>, now_ms: i64) {
        let mut state = self.state.borrow_mut();
        let sealed = state.active().clone();
        sealed.sealed.set(true);
        let interval_bytes = state.config.index_interval_bytes;
        let base_offset = state.end_offset;
        let id = self.committer.next_segment_id();
        let segment = Segment::new(self.dir.clone(), base_offset, id, now_ms, interval_bytes);
        state.segments.push_back(Rc::new(segment));
        if state.producers.count() > 0 {
            let known: Vec<KnownProducer> = state.producers.all().copied().collect();
            *sealed.snapshot.borrow_mut() = Some(snapshot::encode(&known));
        }
        drop(state);
        if sealed.flushed_bytes.get() == sealed.end_bytes.get() {
            super::prepare::close_later(self, &sealed);
        }
    }

    /// Takes no more appends: a write or a flush failed, so nobody knows what the disk holds.
    pub fn fence(self: &Rc<Self>, reason: &str) {
        if self.state.borrow().fenced.is_none() {
            tracing::error!(log = %self.dir.display(), reason, "log fenced: reopen it from disk");
            self.end(reason);
        }
    }

    /// Ends appends and waits for good: they fail with `reason` from now on.
    pub fn end(self: &Rc<Self>, reason: &str) {
        let mut state = self.state.borrow_mut();
        if state.fenced.is_some() {
            return;
        }
        state.fenced = Some(reason.to_owned());
        let urgent_bytes = state.urgent_bytes();
        drop(state);
        self.committer.undirtied(urgent_bytes);
        self.flush_wakers.wake_upto(i64::MAX);
        self.quiet_wakers.wake_all();
        self.committer.room_wakers().wake_all();
    }

    /// The name of its directory, if it is one that the journal can hold.
    pub fn dir_name(&self) -> Option<&str> {
        self.dir.file_name()?.to_str()
    }

    /// Whether some task works on the files so that cutting or closing must wait.
    pub fn is_busy(&self) -> bool {
        self.writing.get() || self.preparing.get() || self.checkpointing.get()
    }
}

/// Waits for a log's acknowledgements; see [`Log::subscribe`].
#[derive(Clone)]
pub struct Watch {
    log: Log,
}

impl Watch {
    /// Resolves with the flushed offset once it is beyond `offset`.
    ///
    /// # Errors
    /// [`FlushError::Fenced`]: it will not move any more.
    pub async fn past(&self, offset: Offset) -> Result<Offset, FlushError> {
        let cell = self.log.0.clone();
        let wait = cell.flush_wakers.wait(offset.0 + 1);
        poll_fn(move |context| {
            let state = cell.state.borrow();
            if state.flushed_offset > offset {
                return Poll::Ready(Ok(state.flushed_offset));
            }
            if let Some(reason) = &state.fenced {
                return Poll::Ready(Err(FlushError::Fenced(reason.clone())));
            }
            wait.register(context.waker());
            Poll::Pending
        })
        .await
    }
}
