//! Pipelined group commit: how the dirty bytes of all logs of a shard reach stable storage.
//!
//! A log with dirty bytes and no write in flight gets one, over everything that is dirty. Logs that
//! were written wait for a flush; when none is in flight, one begins for all that wait, and then
//! all of them are acknowledged. Where much is dirty, writes and flushes overlap. Where little is,
//! they take turns: all dirty logs are written, one flush follows, and what was appended meanwhile
//! makes up the next round. Small operations cost the processor more than the disk, and fewer,
//! fuller rounds need fewer of them (8 connections with 4 requests of 100 B in flight: 47 to 58
//! thousand requests/s; of 16 KiB: 410 to 490 MB/s). Where it is little of several logs, a round
//! goes to the journal (see [`rounds`](super::rounds)). A log whose write changed metadata, as one
//! to a new file does, is written again only after its flush: such a flush is for that file alone
//! and writes blocks of its own, so larger writes and fewer flushes are cheaper.
//! **Invariant:** a flush covers only writes that completed before it began; after a failed write
//! or flush its logs are fenced, and no flush is ever repeated.

use super::log::{FlushPolicy, LogCell};
use super::prepare;
use super::read::ReadCache;
use super::rounds::{RoundDone, Rounds};
use super::segment::Segment;
use super::tail_cache::CHUNK_BYTES_MIN;
use super::wake::{Turns, Wakers};
use super::write::{Take, WriteFailure, write_next};
use crate::base::ids::Offset;
use crate::base::limits::{DIRECT_ALIGN_BYTES, KIB, MIB};
use crate::base::metrics::ShardMetrics;
use crate::io::{Buffer, File, Io};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A lone write up to this size is sent with its flush: one wake-up instead of two. Larger ones
/// would keep others waiting for the flush.
const FLUSHED_WRITE_BYTES_MAX: u64 = 256 * KIB as u64;

/// With less than this waiting for the disk, writes and flushes take turns.
const ROUND_BYTES_MAX: u64 = MIB as u64;

/// How often quiet logs are looked for.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

/// Closed segments of a shard whose files and indexes stay open; an index takes up to 80 KiB.
const WARM_SEGMENTS_COUNT_MAX: usize = 256;

/// How long a log whose disk is full waits before it tries again by itself.
pub(super) const SPACE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Shares of a shard's memory that its logs may take, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budgets {
    /// The newest bytes of all logs.
    pub tail_bytes_max: usize,
    /// Pieces of files that readers share.
    pub read_cache_bytes_max: usize,
    /// Bytes that no write has taken yet: past it, `has_room` says no.
    pub dirty_bytes_max: u64,
}

impl Budgets {
    /// Shares of a shard that has `memory_bytes` in all: half for the tails, a quarter for cold
    /// reads.
    pub fn of(memory_bytes: usize) -> Budgets {
        Budgets {
            tail_bytes_max: memory_bytes / 2,
            read_cache_bytes_max: (memory_bytes / 4).clamp(4 * MIB, 256 * MIB),
            dirty_bytes_max: (memory_bytes as u64 / 4).min(256 * MIB as u64),
        }
    }
}

/// Brings the dirty bytes of a shard's logs to the disk; one a shard, clones are the same.
#[derive(Clone)]
pub struct Committer(Rc<Shared>);

struct Shared {
    io: Io,
    metrics: Rc<ShardMetrics>,
    budgets: Budgets,
    ready: RefCell<VecDeque<Rc<LogCell>>>,
    awaits_flush: RefCell<Vec<Pending>>,
    waker: RefCell<Option<Waker>>,
    dirty_bytes: Cell<u64>,
    /// Writes that the device has, not those that still wait for their space.
    submitted_count: Cell<usize>,
    room_wakers: Wakers,
    tail_bytes: Cell<usize>,
    /// One entry a chunk, oldest first.
    chunk_ages: RefCell<VecDeque<Weak<LogCell>>>,
    read_cache: ReadCache,
    warm_segments: RefCell<VecDeque<Weak<Segment>>>,
    segment_id_next: Cell<u64>,
    logs: RefCell<Vec<Weak<LogCell>>>,
    flush_file: RefCell<Option<Rc<File>>>,
    /// Producers that the shard's logs remember.
    producers_count: Rc<Cell<usize>>,
    rounds: Rounds,
    /// Whose zeroes, or their flush, are at the disk.
    zeroing: Turns,
    /// Logs give up old segments when they roll.
    retains: Cell<bool>,
}

/// Bytes of a log that are written and wait for a flush.
pub(super) struct Pending {
    pub log: Rc<LogCell>,
    pub segment: Rc<Segment>,
    pub file: Rc<File>,
    pub end_bytes: u64,
    pub end_offset: Offset,
    /// As many cuts as the segment had when it was written.
    pub cuts_count: u64,
    /// The write changed no metadata: a flush of another file's covers it too.
    pub prepared: bool,
}

/// Ends the process when the task that holds it panics: a shard without its committer would take
/// appends and acknowledge none, and a node is never half alive.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the committer failed: the node stops, its logs are recovered at start"
            );
            std::process::abort();
        }
    }
}

/// A write at the device; see [`Committer::submitting`].
pub(super) struct Submitted<'a>(&'a Cell<usize>);

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// How a write of one log ended.
pub(super) struct Written {
    pub log: Rc<LogCell>,
    pub bytes: u64,
    pub flushed: bool,
    pub outcome: Result<Option<Pending>, WriteFailure>,
}

/// What ended.
pub(super) enum Done {
    /// A write to a segment, of bytes that somebody waits for.
    Direct(Written),
    /// One of bytes that the journal has.
    Behind(Written),
    /// A write to the journal.
    Round(RoundDone),
}

/// A write under way.
pub(super) type Write = Pin<Box<dyn Future<Output = Done>>>;

/// How a flush ended, for each log of its group.
type Flushed = Vec<(Pending, Result<(), String>)>;

/// A flush under way.
type Flush = Pin<Box<dyn Future<Output = Flushed>>>;

impl Committer {
    /// Starts the committer of the shard that `io` belongs to, with shares of its whole memory.
    pub fn new(io: &Io, metrics: &Rc<ShardMetrics>) -> Committer {
        Committer::with_budgets(io, metrics, Budgets::of(io.memory().budget_bytes()))
    }

    /// Starts the committer of the shard that `io` belongs to.
    pub fn with_budgets(io: &Io, metrics: &Rc<ShardMetrics>, budgets: Budgets) -> Committer {
        let committer = Committer(Rc::new(Shared {
            io: io.clone(),
            metrics: metrics.clone(),
            budgets,
            ready: RefCell::default(),
            awaits_flush: RefCell::default(),
            waker: RefCell::default(),
            dirty_bytes: Cell::new(0),
            submitted_count: Cell::new(0),
            room_wakers: Wakers::default(),
            tail_bytes: Cell::new(0),
            chunk_ages: RefCell::default(),
            read_cache: ReadCache::new(budgets.read_cache_bytes_max),
            warm_segments: RefCell::default(),
            segment_id_next: Cell::new(0),
            logs: RefCell::default(),
            flush_file: RefCell::default(),
            producers_count: Rc::default(),
            rounds: Rounds::default(),
            zeroing: Turns::new(1),
            retains: Cell::new(false),
        }));
        io.spawn(committer.clone().run());
        io.spawn(committer.clone().keep_house());
        committer
    }

    /// Flushes the device through `file` from now on where one flush serves all logs.
    ///
    /// It lies on the logs' file system and is never written: a log's own inode carries a new
    /// modification time at nearly every flush, which costs a block's write before the flush.
    pub fn flush_through(&self, file: File) {
        *self.0.flush_file.borrow_mut() = Some(Rc::new(file));
    }

    pub(super) fn flush_file(&self) -> Option<Rc<File>> {
        self.0.flush_file.borrow().clone()
    }

    /// Whether the shard's logs take a large request now.
    pub fn has_room(&self) -> bool {
        self.0.dirty_bytes.get() < self.0.budgets.dirty_bytes_max
    }

    /// Resolves when [`Committer::has_room`] holds.
    pub async fn wait_room(&self) {
        self.0.room_wakers.until(|| self.has_room().then_some(())).await;
    }

    /// Bytes of all tails in memory.
    pub fn tail_bytes(&self) -> usize {
        self.0.tail_bytes.get()
    }

    pub(super) fn rounds(&self) -> &Rounds {
        &self.0.rounds
    }

    pub(super) fn io(&self) -> &Io {
        &self.0.io
    }

    pub(super) fn metrics(&self) -> &ShardMetrics {
        &self.0.metrics
    }

    /// From now on logs look for segments to give up when one of theirs closes. Whoever runs
    /// [`Log::apply_retention`](super::log::Log::apply_retention) says when that may begin.
    pub fn begin_retention(&self) {
        self.0.retains.set(true);
    }

    pub(super) fn has_begun_retention(&self) -> bool {
        self.0.retains.get()
    }

    pub(super) fn zeroing(&self) -> &Turns {
        &self.0.zeroing
    }

    pub(super) fn room_wakers(&self) -> &Wakers {
        &self.0.room_wakers
    }

    pub(super) fn read_cache(&self) -> &ReadCache {
        &self.0.read_cache
    }

    pub(super) fn next_segment_id(&self) -> u64 {
        let id = self.0.segment_id_next.get();
        self.0.segment_id_next.set(id + 1);
        id
    }

    /// How many producers the shard's logs remember, as they count it.
    pub(super) fn producers_count(&self) -> Rc<Cell<usize>> {
        self.0.producers_count.clone()
    }

    pub(super) fn register(&self, log: &Rc<LogCell>) {
        self.0.logs.borrow_mut().push(Rc::downgrade(log));
    }

    /// Says that `log` has `bytes` more to write.
    pub(super) fn dirtied(&self, log: &Rc<LogCell>, bytes: u64) {
        let before_bytes = self.0.dirty_bytes.get();
        self.0.dirty_bytes.set(before_bytes + bytes);
        if before_bytes < ROUND_BYTES_MAX && before_bytes + bytes >= ROUND_BYTES_MAX {
            self.wake(); // nothing waits for its turn any more
        }
        self.0.metrics.append_bytes.add(bytes);
        self.kick(log);
    }

    /// Says that `bytes` need no write any more.
    pub(super) fn undirtied(&self, bytes: u64) {
        self.0.dirty_bytes.set(self.0.dirty_bytes.get() - bytes);
        self.0.room_wakers.wake_all();
    }

    /// Has `log` looked at: it may have something to write or to flush.
    pub(super) fn kick(&self, log: &Rc<LogCell>) {
        if log.queued.get() || log.writing.get() || log.held.get() {
            return;
        }
        log.queued.set(true);
        self.0.ready.borrow_mut().push_back(log.clone());
        self.wake();
    }

    /// Has bytes flushed that nobody waited for so far.
    pub(super) fn flush_soon(&self, pending: Pending) {
        self.await_flush(pending);
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// A buffer for `log`'s tail of `bytes` or, where memory is short, less; `None`: not even the
    /// least.
    pub(super) fn tail_buffer(&self, log: &Rc<LogCell>, bytes: usize) -> Option<Buffer> {
        let shared = &self.0;
        if shared.tail_bytes.get() + bytes > shared.budgets.tail_bytes_max {
            self.evict(shared.tail_bytes.get() + bytes - shared.budgets.tail_bytes_max);
        }
        let mut wanted = bytes;
        let buffer = loop {
            if let Some(buffer) = shared.io.memory().allocate(wanted) {
                break buffer;
            }
            if self.evict(wanted) == 0 && shared.read_cache.evict(wanted) == 0 {
                if wanted <= CHUNK_BYTES_MIN {
                    return None;
                }
                wanted /= 2;
            }
        };
        shared.tail_bytes.set(shared.tail_bytes.get() + buffer.len());
        shared.chunk_ages.borrow_mut().push_back(Rc::downgrade(log));
        Some(buffer)
    }

    /// Lets about `bytes` of the oldest written chunks go; returns how many went.
    pub(super) fn evict(&self, bytes: usize) -> usize {
        let mut released_bytes = 0;
        let looks_count_max = self.0.chunk_ages.borrow().len();
        for _ in 0..looks_count_max {
            if released_bytes >= bytes {
                break;
            }
            let Some(oldest) = self.0.chunk_ages.borrow_mut().pop_front() else { break };
            let Some(log) = oldest.upgrade() else { continue };
            let Ok(mut state) = log.state.try_borrow_mut() else { continue };
            let writes_at = state.first_dirty().unwrap_or_else(|| state.active().clone());
            let end = writes_at.written_bytes.get();
            let released = state.tail.drop_oldest(writes_at.base_offset, end);
            let still_there = state.tail.buffers_bytes() > 0;
            drop(state);
            released_bytes += released;
            self.release_tail(released);
            if released == 0 && still_there {
                self.0.chunk_ages.borrow_mut().push_back(oldest);
            }
        }
        released_bytes
    }

    /// Says that `bytes` of chunks left a tail.
    pub(super) fn release_tail(&self, bytes: usize) {
        self.0.tail_bytes.set(self.0.tail_bytes.get().saturating_sub(bytes));
    }

    /// Keeps a closed segment's file and index open, and lets the longest unused of them go.
    pub(super) fn warm(&self, segment: &Rc<Segment>) {
        let mut warm = self.0.warm_segments.borrow_mut();
        warm.retain(|known| known.strong_count() > 0 && known.as_ptr() != Rc::as_ptr(segment));
        warm.push_back(Rc::downgrade(segment));
        while warm.len() > WARM_SEGMENTS_COUNT_MAX {
            if let Some(cold) = warm.pop_front().and_then(|cold| cold.upgrade()) {
                cold.cool();
            }
        }
    }

    async fn run(self) {
        let _vital = Vital;
        let mut writes = FuturesUnordered::new();
        let mut behind = FuturesUnordered::new();
        let mut flush: Option<Flush> = None;
        let mut behind_flush: Option<Flush> = None;
        poll_fn::<(), _>(move |context| {
            *self.0.waker.borrow_mut() = Some(context.waker().clone());
            loop {
                let mut moved = false;
                // First: a log that is in every round would never be written.
                while let Some(write) = self.start_behind() {
                    behind.push(write);
                    moved = true;
                }
                moved |= self.start_writes(&mut writes, flush.is_some());
                for under_way in [&mut writes, &mut behind] {
                    while let Poll::Ready(Some(done)) = under_way.poll_next_unpin(context) {
                        self.finish(done);
                        moved = true;
                    }
                }
                moved |= self.poll_flush(&mut flush, context);
                moved |= self.poll_behind_flush(&mut behind_flush, context);
                if !moved {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Whether what is under way at the device is to end before something else begins there.
    fn takes_turns(&self) -> bool {
        self.0.dirty_bytes.get() < ROUND_BYTES_MAX && self.0.submitted_count.get() > 0
    }

    /// Counts a write that the device gets, until the result is dropped.
    pub(super) fn submitting(&self) -> Submitted<'_> {
        self.0.submitted_count.set(self.0.submitted_count.get() + 1);
        Submitted(&self.0.submitted_count)
    }

    fn finish(&self, done: Done) {
        match done {
            Done::Direct(written) => self.finish_write(written),
            Done::Behind(written) => self.finish_behind(written),
            Done::Round(round) => self.finish_round(round),
        }
    }

    fn start_writes(&self, writes: &mut FuturesUnordered<Write>, flushing: bool) -> bool {
        let mut moved = false;
        if self.takes_turns() || (flushing && self.0.dirty_bytes.get() < ROUND_BYTES_MAX) {
            return false; // the end of the write or flush comes back here
        }
        let is_quiet = writes.is_empty() && !flushing && self.0.awaits_flush.borrow().is_empty();
        if is_quiet && let Some(round) = self.start_round(&self.0.ready) {
            writes.push(round);
            moved = true;
        }
        loop {
            let Some(log) = self.0.ready.borrow_mut().pop_front() else { return moved };
            log.queued.set(false);
            if log.writing.get() || log.held.get() || log.owes_flush.get() {
                continue;
            }
            let bytes = {
                let state = log.state.borrow();
                if state.fenced.is_some() { 0 } else { state.urgent_bytes() }
            };
            if bytes == 0 {
                continue;
            }
            let alone = writes.is_empty()
                && !flushing
                && self.0.ready.borrow().is_empty()
                && self.0.awaits_flush.borrow().is_empty();
            let always = log.state.borrow().config.flush == FlushPolicy::Always;
            log.writing.set(true);
            let flushed = alone && always && bytes <= FLUSHED_WRITE_BYTES_MAX;
            writes.push(Box::pin(self.clone().write(log, flushed)));
            moved = true;
        }
    }

    async fn write(self, log: Rc<LogCell>, flushed: bool) -> Done {
        let started = self.0.io.clock().monotonic();
        let take = if flushed { Take::DirtyFlushed } else { Take::Dirty };
        let (bytes, outcome) = write_next(&log, take).await;
        self.0.metrics.write_time.record(self.0.io.clock().monotonic().saturating_sub(started));
        Done::Direct(Written { log, bytes, flushed, outcome })
    }

    fn finish_write(&self, written: Written) {
        let Written { log, bytes, flushed, outcome } = written;
        log.writing.set(false);
        match outcome {
            _ if log.state.borrow().fenced.is_some() => {}
            Ok(None) => {}
            Ok(Some(pending)) => {
                self.0.metrics.writes.add(1);
                self.note_written(&log, &pending, bytes);
                if flushed {
                    self.0.metrics.flushes.add(1);
                    self.acknowledge(&pending);
                } else {
                    self.flush_or_wait(pending);
                }
            }
            Err(WriteFailure::NoSpace) => {
                if log.state.borrow().urgent_bytes() > 0 {
                    self.later(&log, SPACE_RETRY_INTERVAL, Committer::kick);
                }
            }
            Err(WriteFailure::Io(reason)) => log.fence(&reason),
        }
        log.quiet_wakers.wake_all();
        let more = {
            let state = log.state.borrow();
            state.urgent_bytes() > 0 && !state.no_space && state.fenced.is_none()
        };
        if more {
            self.kick(&log);
        }
        self.look_behind(&log);
    }

    pub(super) fn note_written(&self, log: &Rc<LogCell>, pending: &Pending, bytes: u64) {
        let segment = &pending.segment;
        let awaited_bytes = pending.end_bytes.saturating_sub(segment.safe_bytes());
        segment.written_bytes.set(pending.end_bytes);
        segment.written_offset.set(pending.end_offset);
        segment.check();
        let mut state = log.state.borrow_mut();
        state.no_space = false;
        state.writes_count += 1;
        state.write_bytes_mean = (state.write_bytes_mean * 7 + bytes) / 8;
        drop(state);
        self.undirtied(awaited_bytes);
    }

    /// Under a relaxed policy a flush waits until it is due; otherwise the next flush takes the log
    /// along.
    fn flush_or_wait(&self, pending: Pending) {
        let log = pending.log.clone();
        let mut state = log.state.borrow_mut();
        let FlushPolicy::Relaxed { messages, ms } = state.config.flush else {
            drop(state);
            log.owes_flush.set(!pending.prepared);
            return self.await_flush(pending);
        };
        let older = state.lazy_flush.take();
        let crosses = older.as_ref().is_some_and(|old| !Rc::ptr_eq(&old.segment, &pending.segment));
        if state.records_unflushed >= messages || crosses || pending.segment.sealed.get() {
            state.records_unflushed = 0;
            drop(state);
            older.into_iter().for_each(|old| self.await_flush(old));
            return self.await_flush(pending);
        }
        let prepared = pending.prepared && older.is_none_or(|old| old.prepared);
        state.lazy_flush = Some(Pending { prepared, ..pending });
        if !state.lazy_timer {
            state.lazy_timer = true;
            drop(state);
            self.later(&log, Duration::from_millis(ms), Committer::flush_lazy);
        }
    }

    fn flush_lazy(&self, log: &Rc<LogCell>) {
        let mut state = log.state.borrow_mut();
        state.lazy_timer = false;
        state.records_unflushed = 0;
        let pending = state.lazy_flush.take();
        drop(state);
        if let Some(pending) = pending {
            self.flush_soon(pending);
        }
    }

    /// Does `what` to `log` after `delay`, if it is there then.
    pub(super) fn later(
        &self,
        log: &Rc<LogCell>,
        delay: Duration,
        what: impl FnOnce(&Committer, &Rc<LogCell>) + 'static,
    ) {
        let (committer, weak) = (self.clone(), Rc::downgrade(log));
        self.0.io.spawn(async move {
            committer.0.io.sleep(delay).await;
            if let Some(log) = weak.upgrade() {
                what(&committer, &log);
            }
        });
    }

    fn await_flush(&self, pending: Pending) {
        let mut waiting = self.0.awaits_flush.borrow_mut();
        let known = waiting.iter_mut().find(|known| Rc::ptr_eq(&known.segment, &pending.segment));
        match known {
            Some(known) => {
                known.end_bytes = pending.end_bytes;
                known.end_offset = pending.end_offset;
                known.prepared &= pending.prepared;
            }
            None => waiting.push(pending),
        }
    }

    fn poll_flush(&self, flush: &mut Option<Flush>, context: &mut Context<'_>) -> bool {
        if flush.is_none() {
            if self.takes_turns() {
                return false;
            }
            let group = std::mem::take(&mut *self.0.awaits_flush.borrow_mut());
            if group.is_empty() {
                return false;
            }
            *flush = Some(Box::pin(self.clone().flush_group(group)));
        }
        self.finish_flush(flush, context)
    }

    /// Rounds wait for no flush of what was written behind the journal.
    fn poll_behind_flush(&self, flush: &mut Option<Flush>, context: &mut Context<'_>) -> bool {
        if flush.is_none()
            && let Some(group) = self.take_flush_due()
        {
            *flush = Some(Box::pin(self.clone().flush_group(group)));
        }
        self.finish_flush(flush, context)
    }

    fn finish_flush(&self, flush: &mut Option<Flush>, context: &mut Context<'_>) -> bool {
        let Some(running) = flush else { return false };
        let Poll::Ready(flushed) = running.as_mut().poll(context) else { return false };
        *flush = None;
        for (pending, result) in flushed {
            if pending.log.owes_flush.replace(false) {
                self.kick(&pending.log);
            }
            match result {
                Ok(()) => self.acknowledge(&pending),
                Err(reason) => pending.log.fence(&reason),
            }
        }
        true
    }

    /// One flush for all files that were only overwritten, one more for each whose metadata
    /// changed.
    async fn flush_group(self, group: Vec<Pending>) -> Flushed {
        let started = self.0.io.clock().monotonic();
        let through = self.flush_file().unwrap_or_else(|| group[0].file.clone());
        let shared = group.iter().all(|pending| pending.file.is_flushed_by(&through));
        let mut own: Vec<Rc<File>> = Vec::new();
        for pending in group.iter().filter(|pending| !shared || !pending.prepared) {
            own.push(pending.file.clone());
        }
        if own.is_empty() {
            own.push(through);
        }
        self.0.metrics.flushes.add(own.len() as u64);
        let results: Vec<std::io::Result<()>> = match &own[..] {
            [one] => vec![one.sync().await],
            many => join_all(many.iter().map(|file| file.sync())).await,
        };
        self.0.metrics.flush_time.record(self.0.io.clock().monotonic().saturating_sub(started));
        let text = |error: &std::io::Error| format!("flush failed: {error}");
        if shared {
            // The device said no once: nothing of this group is known to be safe.
            let failed = results.iter().find_map(|result| result.as_ref().err().map(text));
            let result = failed.map_or(Ok(()), Err);
            return group.into_iter().map(|pending| (pending, result.clone())).collect();
        }
        let results = results.iter().map(|result| result.as_ref().map(|_| ()).map_err(text));
        group.into_iter().zip(results).collect()
    }

    /// Everything up to `pending`'s end is on stable storage.
    pub(super) fn acknowledge(&self, pending: &Pending) {
        let (log, segment) = (&pending.log, &pending.segment);
        let mut state = log.state.borrow_mut();
        if state.fenced.is_some() || segment.cuts_count.get() != pending.cuts_count {
            return;
        }
        segment.flushed_bytes.set(segment.flushed_bytes.get().max(pending.end_bytes));
        segment.flushed_offset.set(segment.flushed_offset.get().max(pending.end_offset));
        let block_end = pending.end_bytes.next_multiple_of(DIRECT_ALIGN_BYTES as u64);
        segment.extend_prepared(block_end);
        segment.check();
        state.flushed_offset = state.flushed_offset.max(pending.end_offset);
        let flushed_offset = state.flushed_offset;
        drop(state);
        log.flush_wakers.wake_upto(flushed_offset.0);
        log.quiet_wakers.wake_all();
        if segment.sealed.get() && segment.flushed_bytes.get() == segment.end_bytes.get() {
            prepare::close_later(log, segment);
        } else {
            prepare::consider(log, segment);
        }
    }

    /// Every few seconds: logs that nobody appends to get small again.
    async fn keep_house(self) {
        let weak = Rc::downgrade(&self.0);
        let io = self.0.io.clone();
        drop(self);
        loop {
            io.sleep(HOUSEKEEPING_INTERVAL).await;
            let Some(shared) = weak.upgrade() else { return };
            let now = io.clock().monotonic();
            shared.logs.borrow_mut().retain(|log| log.strong_count() > 0);
            for log in shared.logs.borrow().iter().filter_map(Weak::upgrade) {
                let mut state = log.state.borrow_mut();
                let quiet = now.saturating_sub(state.last_append) > HOUSEKEEPING_INTERVAL;
                if quiet && !state.tail_quiet && state.dirty_bytes() == 0 {
                    state.tail_quiet = true;
                    state.tail.seal();
                }
            }
        }
    }
}
