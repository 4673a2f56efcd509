//! Rounds: the small appends of several logs go to the journal in one write with one flush, and
//! behind that, in larger pieces, to their segments.
//!
//! With one write a log, 16 logs of small appends cost a shard more than half of its time (100 B a
//! request, 8 connections x 4: 65 thousand requests/s, with one log 101 thousand). What a round
//! holds is acknowledged when it is flushed. Its bytes stay in the tail until their segment has
//! them; where that write changed no metadata the next round's flush covers it, else it gets one of
//! its own, which no round waits for.
//! A log that is alone for a while gets rounds of its own, written through: they cover nothing
//! else, so what is behind them is flushed now and then.
//! **Invariant:** a log has one write on its way, to the journal or to a segment; a round begins
//! only when no write waits for its flush, so that all before it is safe.

use super::commit::{Committer, Done, Pending, SPACE_RETRY_INTERVAL, Write, Written};
use super::journal::{Journal, JournalPlace, LivePart, Reserved};
use super::journal_frame::{Place, round_bytes};
use super::log::{FlushPolicy, LogCell};
use super::prepare;
use super::segment::Segment;
use super::write::{Take, WriteFailure, earlier_are_flushed, write_next};
use crate::base::ids::{Offset, TopicId};
use crate::base::limits::{DIRECT_ALIGN_BYTES, KIB, MIB};
use crate::io::{Io, Slice};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Most bytes of one log in a round: more is a write of its own. Batches of 16 KiB gain nothing by
/// rounds (16 logs, 8 connections x 4: 513 MB/s with and 527 without), and would be written twice.
const PART_BYTES_MAX: u64 = 8 * KIB as u64;

/// A log that was ready alone so often, one time after the other, gets rounds of its own, written
/// through: its clients wait for each of them, and that ends sooner than a write to a segment and a
/// flush. Among others it would keep them waiting.
const LONE_COUNT: u32 = if cfg!(test) { 1 } else { 4 };

/// Most bytes of all parts of a round.
const ROUND_BYTES_MAX: usize = MIB;

/// A segment gets what the journal has of it when it is so much.
///
/// So large that zeroes ahead do not pay: the disk takes what is appended twice, not three times.
const BEHIND_BYTES: u64 = if cfg!(test) { 16 * KIB as u64 } else { MIB as u64 };

/// Writes of that kind at once: the next round waits for none of them.
const BEHIND_COUNT_MAX: usize = 4;

/// Logs that are looked at for such writes when the journal fills up.
const PRESSING_COUNT: usize = 16;

/// A log that nobody appended to for so long gets its bytes in its file, for whoever reads it.
const QUIET_TIME: Duration = Duration::from_millis(100);
/// Most such logs in that time: a thousand partitions with a record a second each are no reason for
/// a thousand writes.
const QUIET_COUNT_MAX: usize = 64;

/// How often a journal that is given up is looked at.
const RETIRING_INTERVAL: Duration = Duration::from_millis(2);

/// By then a log whose disk fails it has been opened anew, or will not be.
const RETIRING_TIME_MAX: Duration = Duration::from_secs(30);

const ALIGN: u64 = DIRECT_ALIGN_BYTES as u64;

/// What a committer knows of rounds.
#[derive(Default)]
pub(super) struct Rounds {
    journal: RefCell<Option<Rc<Journal>>>,
    /// Logs whose segment should get what the journal has.
    due: RefCell<VecDeque<Rc<LogCell>>>,
    behind_count: Cell<usize>,
    /// Written to segments behind the journal: the next round's flush covers it.
    unflushed: RefCell<Vec<Pending>>,
    /// The same, but a flush of its own is due.
    flush_due: RefCell<Vec<Pending>>,
    /// How often one log alone was ready since several were.
    lone_count: Cell<u32>,
    /// Somebody looks for quiet logs.
    attended: Cell<bool>,
}

/// What a round takes of one log.
struct Taken {
    log: Rc<LogCell>,
    segment: Rc<Segment>,
    from: u64,
    end_bytes: u64,
    end_offset: Offset,
}

impl Taken {
    /// What is dirty of `log`, if a round can take it.
    fn of(log: &Rc<LogCell>, journal: &Journal) -> Option<Taken> {
        if log.writing.get() || log.held.get() || log.topic_id == TopicId::ZERO {
            return None;
        }
        let state = log.state.borrow();
        let segment = state.active();
        let from = segment.safe_bytes();
        let end_bytes = segment.end_bytes.get();
        let is_small = end_bytes > from && end_bytes - from <= PART_BYTES_MAX;
        // Then to write it behind takes no space and cannot fail for lack of it.
        let has_place = segment.opened().is_some_and(|file| journal.flushes(&file))
            && end_bytes.next_multiple_of(ALIGN) <= segment.allocated_bytes.get();
        let fits = is_small
            && has_place
            && state.config.flush == FlushPolicy::Always
            && state.fenced.is_none()
            && log.dir_name().is_some()
            && earlier_are_flushed(&state, segment);
        let (segment, end_offset) = (segment.clone(), segment.end_offset.get());
        fits.then(|| Taken { log: log.clone(), segment, from, end_bytes, end_offset })
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.end_bytes - self.from).expect("bounded")
    }

    fn place(&self) -> Place<'_> {
        Place {
            dir_name: self.log.dir_name().expect("looked at when it was taken"),
            topic_id: self.log.topic_id,
            segment: self.segment.base_offset,
            position: self.from,
        }
    }

    fn live(&self) -> LivePart {
        LivePart {
            log: Rc::downgrade(&self.log),
            dir: self.log.dir.clone(),
            flushed_bytes: self.segment.flushed_bytes.clone(),
            end_bytes: self.end_bytes,
            in_files: self.log.in_files.clone(),
        }
    }
}

/// How a round ended.
pub(super) struct RoundDone {
    taken: Vec<Taken>,
    covered: Vec<Pending>,
    result: Result<(), String>,
}

impl Committer {
    /// Writes small appends of several logs to a journal from now on; nothing happens where a flush
    /// of one file does not serve all. [`redo`](super::redo::redo) is to be done before the first
    /// log is opened.
    pub fn journal_in(&self, io: &Io, place: JournalPlace) {
        *self.rounds().journal.borrow_mut() = Some(Rc::new(Journal::new(io, place)));
    }

    /// Removes the journal; to be called when all logs are closed.
    ///
    /// # Errors
    /// The disk's: the next start finds the journal and has nothing to do.
    pub async fn end_journal(&self) -> std::io::Result<()> {
        let journal = self.rounds().journal.borrow().clone();
        match journal {
            Some(journal) => journal.remove().await,
            None => Ok(()),
        }
    }

    /// Has nothing come back that the journal holds now: segments get all of it, and the file goes.
    /// The next rounds go to a new one.
    ///
    /// # Errors
    /// The disk's.
    pub(super) async fn retire_journal(&self) -> std::io::Result<()> {
        let Some(journal) = self.journal() else { return Ok(()) };
        if !journal.begin_retiring().await? {
            return Ok(());
        }
        let until = self.io().clock().monotonic() + RETIRING_TIME_MAX;
        while !journal.is_done() {
            if self.io().clock().monotonic() > until {
                return journal.give_up_retiring();
            }
            for log in journal.waiting(usize::MAX, |_| true) {
                self.write_behind_soon(&log);
            }
            self.flush_behind();
            self.io().sleep(RETIRING_INTERVAL).await;
        }
        journal.end_retiring().await
    }

    pub(super) fn journal(&self) -> Option<Rc<Journal>> {
        self.rounds().journal.borrow().clone()
    }

    /// Begins a round of what is ready, if a round can take it and the journal has room.
    pub(super) fn start_round(&self, ready: &RefCell<VecDeque<Rc<LogCell>>>) -> Option<Write> {
        let is_lone = self.is_lone(ready.borrow().len());
        let journal = self.journal().filter(|journal| journal.has_future())?;
        let (mut taken, mut payload_bytes, mut parts_bytes) = (Vec::new(), 0, 0);
        for log in ready.borrow().iter() {
            let Some(one) = Taken::of(log, &journal) else { continue };
            if payload_bytes + one.bytes() <= ROUND_BYTES_MAX {
                payload_bytes += one.bytes();
                parts_bytes += one.place().bytes_with(one.bytes());
                taken.push(one);
            }
        }
        let is_worth_it = taken.len() > 1 || (is_lone && !taken.is_empty());
        if !is_worth_it || !journal.is_ready() {
            return None;
        }
        self.press(&journal);
        let mut buffer = self.io().memory().allocate(round_bytes(parts_bytes))?;
        let reserved = journal.reserve(parts_bytes, taken.iter().map(Taken::live).collect())?;
        let places = taken.iter().map(|one| (one.place(), one.bytes()));
        let mut writer = reserved.writer(&mut buffer, places);
        for one in &taken {
            let state = one.log.state.borrow();
            let range = one.from..one.end_bytes;
            state.tail.visit(one.segment.base_offset, range, |bytes| writer.append(bytes));
            drop(state);
            one.log.queued.set(false);
            one.log.writing.set(true);
        }
        writer.finish();
        ready.borrow_mut().retain(|log| log.queued.get());
        journal.writing.set(true);
        let covered = if is_lone { Vec::new() } else { self.take_unflushed() };
        Some(Box::pin(self.clone().write_round(journal, reserved, buffer.freeze(), taken, covered)))
    }

    /// Whether `ready_count` logs are one, as they mostly were of late.
    fn is_lone(&self, ready_count: usize) -> bool {
        let lone_count = &self.rounds().lone_count;
        match ready_count {
            0 => {}
            1 => lone_count.set(lone_count.get().saturating_add(1)),
            _ => lone_count.set(0),
        }
        ready_count == 1 && lone_count.get() >= LONE_COUNT
    }

    async fn write_round(
        self,
        journal: Rc<Journal>,
        reserved: Reserved,
        round: Slice,
        taken: Vec<Taken>,
        covered: Vec<Pending>,
    ) -> Done {
        let started = self.io().clock().monotonic();
        let submitted = self.submitting();
        let (file, position) = (&reserved.file, reserved.position);
        let write = if taken.len() == 1 {
            file.write_through(position, vec![round]).await
        } else {
            let through = self.flush_file().unwrap_or_else(|| file.clone());
            file.write_and_sync_through(position, vec![round], &through).await
        };
        drop(submitted);
        if write.is_err() {
            journal.fail(&reserved).await;
        }
        journal.writing.set(false);
        journal.wakers.wake_all();
        let metrics = self.metrics();
        metrics.write_time.record(self.io().clock().monotonic().saturating_sub(started));
        metrics.writes.add(1);
        metrics.flushes.add(1);
        let result = write.map_err(|error| format!("write to the journal failed: {error}"));
        Done::Round(RoundDone { taken, covered, result })
    }

    /// Acknowledges what a round holds, or fences its logs.
    pub(super) fn finish_round(&self, done: RoundDone) {
        let RoundDone { taken, covered, result } = done;
        for one in taken {
            one.log.writing.set(false);
            match &result {
                Ok(()) if one.log.state.borrow().fenced.is_none() => self.note_journaled(&one),
                Ok(()) => {}
                Err(reason) => one.log.fence(reason),
            }
            one.log.quiet_wakers.wake_all();
            let more = one.log.state.borrow().urgent_bytes() > 0;
            if more {
                self.kick(&one.log);
            }
            self.look_behind(&one.log);
        }
        self.attend_quiet_logs();
        for pending in covered {
            match &result {
                Ok(()) => self.acknowledge(&pending),
                Err(reason) => pending.log.fence(reason),
            }
        }
    }

    fn note_journaled(&self, one: &Taken) {
        let Taken { log, segment, end_bytes, end_offset, .. } = one;
        segment.journaled_bytes.set(*end_bytes);
        segment.journaled_offset.set(*end_offset);
        segment.check();
        let mut state = log.state.borrow_mut();
        state.writes_count += 1;
        state.flushed_offset = state.flushed_offset.max(*end_offset);
        let flushed_offset = state.flushed_offset;
        drop(state);
        self.undirtied(one.bytes() as u64);
        log.flush_wakers.wake_upto(flushed_offset.0);
        if segment.behind_bytes() >= BEHIND_BYTES || log.drains.get() {
            self.write_behind_soon(log);
        }
        prepare::consider(log, segment);
    }

    /// Has the segment of `log` get what only the journal has.
    pub(super) fn write_behind_soon(&self, log: &Rc<LogCell>) {
        if !log.behind_due.replace(true) {
            self.rounds().due.borrow_mut().push_back(log.clone());
            self.wake();
        }
    }

    /// Has what was written behind the journal flushed, although no round may follow.
    pub(super) fn flush_behind(&self) {
        let unflushed = self.take_unflushed();
        if !unflushed.is_empty() {
            self.rounds().flush_due.borrow_mut().extend(unflushed);
            self.wake();
        }
    }

    /// What was written behind the journal and needs a flush of its own.
    pub(super) fn take_flush_due(&self) -> Option<Vec<Pending>> {
        let group = std::mem::take(&mut *self.rounds().flush_due.borrow_mut());
        (!group.is_empty()).then_some(group)
    }

    /// What was written behind the journal, without that which another flush covered since.
    fn take_unflushed(&self) -> Vec<Pending> {
        let mut unflushed = std::mem::take(&mut *self.rounds().unflushed.borrow_mut());
        unflushed.retain(|pending| pending.end_bytes > pending.segment.flushed_bytes.get());
        unflushed
    }

    /// Brings logs that went quiet to their files until the journal holds nothing that they lack.
    fn attend_quiet_logs(&self) {
        let Some(journal) = self.journal() else { return };
        if self.rounds().attended.replace(true) {
            return;
        }
        let (committer, io) = (self.clone(), self.io().clone());
        self.io().spawn(async move {
            loop {
                io.sleep(QUIET_TIME).await;
                let now = io.clock().monotonic();
                let is_quiet = |log: &LogCell| {
                    now.saturating_sub(log.state.borrow().last_append) >= QUIET_TIME
                };
                for log in journal.waiting(QUIET_COUNT_MAX, is_quiet) {
                    committer.write_behind_soon(&log);
                }
                committer.flush_behind();
                if journal.is_done() {
                    break;
                }
            }
            committer.rounds().attended.set(false);
        });
    }

    fn press(&self, journal: &Journal) {
        for log in journal.pressing(PRESSING_COUNT) {
            self.write_behind_soon(&log);
        }
    }

    /// Begins a write behind the journal; `None`: none is due, or enough are on their way.
    pub(super) fn start_behind(&self) -> Option<Write> {
        while self.rounds().behind_count.get() < BEHIND_COUNT_MAX {
            let log = self.rounds().due.borrow_mut().pop_front()?;
            log.behind_due.set(false);
            if log.writing.get() {
                // Its end looks at it again.
                log.behind_missed.set(true);
                continue;
            }
            let state = log.state.borrow();
            if state.fenced.is_some() || state.behind_bytes() == 0 {
                continue;
            }
            drop(state);
            log.writing.set(true);
            self.rounds().behind_count.set(self.rounds().behind_count.get() + 1);
            let committer = self.clone();
            return Some(Box::pin(async move {
                let (bytes, outcome) = write_next(&log, Take::Behind).await;
                let rounds = committer.rounds();
                rounds.behind_count.set(rounds.behind_count.get() - 1);
                Done::Behind(Written { log, bytes, flushed: false, outcome })
            }));
        }
        None
    }

    pub(super) fn finish_behind(&self, written: Written) {
        let Written { log, bytes, outcome, .. } = written;
        log.writing.set(false);
        match outcome {
            _ if log.state.borrow().fenced.is_some() => {}
            Ok(None) => {}
            Ok(Some(pending)) => {
                self.metrics().writes.add(1);
                self.note_written(&log, &pending, bytes);
                if pending.prepared && !log.drains.get() {
                    let mut unflushed = self.rounds().unflushed.borrow_mut();
                    unflushed.retain(|older| !Rc::ptr_eq(&older.segment, &pending.segment));
                    unflushed.push(pending);
                } else {
                    self.rounds().flush_due.borrow_mut().push(pending);
                }
            }
            Err(WriteFailure::NoSpace) => {
                self.later(&log, SPACE_RETRY_INTERVAL, Committer::write_behind_soon);
            }
            Err(WriteFailure::Io(reason)) => log.fence(&reason),
        }
        log.quiet_wakers.wake_all();
        if log.state.borrow().urgent_bytes() > 0 {
            self.kick(&log);
        }
        self.look_behind(&log);
    }

    /// After any write of `log`: one behind the journal that came upon it is due again.
    pub(super) fn look_behind(&self, log: &Rc<LogCell>) {
        if log.behind_missed.replace(false) {
            self.write_behind_soon(log);
        }
    }
}
