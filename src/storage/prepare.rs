//! Files made ready ahead of the writes: created or recycled, allocated, written with zeroes.
//!
//! A durable small write into space that was written before costs less than half of one into space
//! that is only allocated, and one flush then serves all files. So logs with small writes get
//! zeroes written ahead, in growing steps; logs with large ones only get their space allocated, as
//! zeroes would halve the disk.
//! **Invariant:** zeroes go only behind everything that was appended, and a write waits while they
//! do; `prepared_bytes` moves only after a flush.

use super::log::{Log, LogCell};
use super::recovery::{rebuild_index, save_checkpoint};
use super::segment::{LOG_SUFFIX, SPARE_NAME, Segment, path_of};
use super::snapshot::SNAPSHOT_SUFFIX;
use super::wake::Raised;
use crate::base::limits::{DIRECT_ALIGN_BYTES, KIB, MIB, SEGMENT_BYTES_MAX};
use crate::io::{File, OpenMode, is_full};
use std::io;
use std::path::Path;
use std::rc::Rc;

const ALIGN: u64 = DIRECT_ALIGN_BYTES as u64;

/// Writes of this size and more, on average, get no zeroes ahead.
const LARGE_WRITE_BYTES: u64 = 256 * KIB as u64;

/// First step of preparing a quiet log: it may never be written again.
const STEP_BYTES_MIN: u64 = 64 * KIB as u64;
/// Largest step of zeroes: 10 ms of the disk's time.
const ZERO_STEP_BYTES_MAX: u64 = 16 * MIB as u64;
/// Largest step of mere allocation.
const ALLOCATE_STEP_BYTES_MAX: u64 = 64 * MIB as u64;

/// Zeroes in one write: a write of records that catches up waits for one of these, about 0.2 ms.
const ZERO_PIECE_BYTES: u64 = 256 * KIB as u64;

/// Writes after which a log is no longer taken for one that is written once.
const WRITES_COUNT_BUSY: u64 = 2;

/// Bytes after which a restart's scan is cut short by another checkpoint: 0.2 s of reading.
const CHECKPOINT_BYTES: u64 = 256 * MIB as u64;

/// The segment's file, open for writing: opened, recycled or created, and durable under its name.
pub(super) async fn ready_file(log: &Rc<LogCell>, segment: &Rc<Segment>) -> io::Result<Rc<File>> {
    if let Some(file) = segment.opened() {
        return Ok(file);
    }
    if segment.exists.get() {
        let file = segment.open(&log.io).await?;
        segment.allocated_bytes.set(file.bytes());
        return Ok(file);
    }
    let path = segment.path(LOG_SUFFIX);
    let spare_bytes = log.state.borrow_mut().spare_bytes.take();
    let file = if spare_bytes.is_some() {
        log.io.rename(&log.dir.join(SPARE_NAME), &path).await?;
        log.io.open(&path, OpenMode::ReadWrite).await?
    } else {
        create(log, &path).await?
    };
    log.io.sync_dir(&log.dir).await?;
    // Everything in a recycled file was written, but its cut end may share a block with nothing.
    segment.prepared_bytes.set(file.bytes() / ALIGN * ALIGN);
    Ok(segment.adopt(file))
}

/// Creates the file anew; an empty one that a stop left under that name is taken.
async fn create(log: &LogCell, path: &Path) -> io::Result<File> {
    match log.io.open(path, OpenMode::CreateNew).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = log.io.open(path, OpenMode::ReadWrite).await?;
            file.truncate(0).await?;
            Ok(file)
        }
        created => created,
    }
}

/// Makes the file large enough for everything appended, and for some of what follows.
pub(super) async fn allocate(
    log: &Rc<LogCell>,
    segment: &Rc<Segment>,
    file: &File,
) -> io::Result<()> {
    let need = segment.end_bytes.get().next_multiple_of(ALIGN);
    let step = next_step(log, segment, ALLOCATE_STEP_BYTES_MAX);
    let target = ahead(log, need, step);
    let allocated = match file.allocate(target).await {
        Err(error) if is_full(&error) && target > need => file.allocate(need).await.map(|()| need),
        result => result.map(|()| target),
    }?;
    segment.allocated_bytes.set(allocated);
    Ok(())
}

/// Whether zeroes are being written below `need` of the segment's file.
pub(super) fn zeroing_reaches(segment: &Segment, need: u64) -> bool {
    segment.zeroing_from.get().is_some_and(|from| need > from)
}

/// Starts what the active segment lacks: zeroes ahead, a checkpoint. Called after every flush.
pub(super) fn consider(log: &Rc<LogCell>, segment: &Rc<Segment>) {
    if log.state.borrow().bytes_since_checkpoint > CHECKPOINT_BYTES && !log.checkpointing.get() {
        checkpoint_later(log);
    }
    let state = log.state.borrow();
    let small =
        state.write_bytes_mean < LARGE_WRITE_BYTES && state.writes_count >= WRITES_COUNT_BUSY;
    let margin = state.prepare_step_bytes / 2;
    // What only the journal holds keeps zeroes behind it from counting as prepared: they are there.
    let ready_bytes = segment.prepared_bytes.get().max(segment.zeroed.get().1);
    let short = ready_bytes < segment.end_bytes.get() + margin.max(ALIGN);
    let full = ready_bytes >= state.config.segment_bytes.min(SEGMENT_BYTES_MAX);
    let busy = log.preparing.get() || log.held.get() || segment.sealed.get();
    if !small || !short || full || busy {
        return;
    }
    drop(state);
    log.preparing.set(true);
    let (log, segment) = (log.clone(), segment.clone());
    log.io.clone().spawn(async move {
        let _raised = Raised::adopt(&log.preparing, &log.quiet_wakers);
        if let Err(error) = zero_ahead(&log, &segment).await {
            let log = log.dir.display();
            tracing::warn!(%log, %error, "space could not be prepared: writes there are slower");
        }
    });
}

fn checkpoint_later(log: &Rc<LogCell>) {
    log.state.borrow_mut().bytes_since_checkpoint = 0;
    let log = log.clone();
    log.io.clone().spawn(async move {
        if let Err(error) = save_checkpoint(&log).await {
            tracing::warn!(log = %log.dir.display(), %error, "checkpoint not written");
        }
    });
}

async fn zero_ahead(log: &Rc<LogCell>, segment: &Rc<Segment>) -> io::Result<()> {
    let Some(file) = segment.opened() else { return Ok(()) };
    // Logs that get as much each come here at the same time, and what all of them write ahead would
    // keep their records waiting for milliseconds.
    let _turn = log.committer.zeroing().take().await;
    let end = segment.end_bytes.get().next_multiple_of(ALIGN);
    let target = ahead(log, end, next_step(log, segment, ZERO_STEP_BYTES_MAX));
    if target > segment.allocated_bytes.get() {
        file.allocate(target).await?;
        segment.allocated_bytes.set(target.max(segment.allocated_bytes.get()));
    }
    let prepared_bytes = segment.prepared_bytes.get();
    let (zeroed_start, zeroed_end) = segment.zeroed.get();
    let (mut start, mut at) = (prepared_bytes, prepared_bytes);
    if zeroed_end > prepared_bytes {
        (start, at) = (zeroed_start, zeroed_end);
    }
    while at < target {
        let appended = segment.end_bytes.get().next_multiple_of(ALIGN);
        if appended > at {
            (start, at) = (appended, appended);
        }
        if segment.sealed.get() || log.held.get() || log.state.borrow().fenced.is_some() {
            return Ok(()); // somebody may wait; zeroes without their flush count for nothing
        }
        if at >= target {
            break;
        }
        // What is appended from now on waits in `write_segment` while zeroes go where it belongs.
        let bytes = ZERO_PIECE_BYTES.min(target - at);
        segment.zeroing_from.set(Some(at));
        let result = file.write_zeroes(at, bytes).await;
        segment.zeroing_from.set(None);
        log.quiet_wakers.wake_all();
        result?;
        at += bytes;
    }
    if let Err(error) = file.sync().await {
        // The failure may have been that of records under way; it is told only once.
        log.fence(&format!("flush failed: {error}"));
        return Err(error);
    }
    segment.zeroed.set((start, at));
    segment.extend_prepared(0);
    Ok(())
}

/// How far ahead to prepare: as much again as the segment holds, so that preparing costs at most
/// what was written; some writes' worth at least.
fn next_step(log: &LogCell, segment: &Segment, bytes_max: u64) -> u64 {
    let mut state = log.state.borrow_mut();
    let least = (state.write_bytes_mean * 4).max(STEP_BYTES_MIN).next_power_of_two();
    let step = segment.end_bytes.get().max(least).min(bytes_max).next_multiple_of(ALIGN);
    state.prepare_step_bytes = step;
    step
}

/// `step` beyond `need`, but not beyond the segment's final size.
fn ahead(log: &LogCell, need: u64, step: u64) -> u64 {
    let segment_bytes = log.state.borrow().config.segment_bytes.min(SEGMENT_BYTES_MAX);
    (need + step).min(segment_bytes.next_multiple_of(ALIGN)).max(need)
}

/// Finishes a sealed and flushed segment in the background.
pub(super) fn close_later(log: &Rc<LogCell>, segment: &Rc<Segment>) {
    if segment.closing.replace(true) {
        return;
    }
    let (log, segment) = (log.clone(), segment.clone());
    log.io.clone().spawn(async move {
        let raised = Raised::adopt(&segment.closing, &log.quiet_wakers);
        log.quiet_wakers.until(|| (!log.preparing.get()).then_some(())).await;
        let result = async {
            close_segment(&log, &segment).await?;
            save_checkpoint(&log).await
        };
        if let Err(error) = result.await {
            let base_offset = segment.base_offset.0;
            let log = log.dir.display();
            tracing::warn!(%log, base_offset, %error, "segment not closed: a restart will scan it");
            return;
        }
        drop(raised);
        if !log.committer.has_begun_retention() {
            return;
        }
        // What goes now is written over by the next segment. Left to its interval, retention would
        // find more at once than is kept for that.
        let now_ms = log.io.clock().now_ms();
        if let Err(error) = Log(log).apply_retention(now_ms).await {
            tracing::warn!(%error, "retention failed");
        }
    });
}

/// Cuts the file to its true end and writes its indexes, so that Kafka's tools can read it.
pub(super) async fn close_segment(log: &Rc<LogCell>, segment: &Rc<Segment>) -> io::Result<()> {
    if !segment.exists.get() || segment.closed.get() {
        return Ok(());
    }
    let file = segment.open(&log.io).await?;
    let end_bytes = segment.end_bytes.get();
    if file.bytes() != end_bytes {
        file.truncate(end_bytes).await?;
        segment.allocated_bytes.set(end_bytes);
    }
    file.sync().await?;
    let interval_bytes = log.state.borrow().config.index_interval_bytes;
    if segment.load_index(&log.io, interval_bytes).await.is_err() {
        rebuild_index(&log.io, segment, interval_bytes).await.map_err(io::Error::other)?;
    }
    segment.write_index(&log.io).await?;
    let snapshot = segment.snapshot.take();
    if let Some(snapshot) = snapshot {
        let path = path_of(&log.dir, segment.end_offset.get(), SNAPSHOT_SUFFIX);
        log.io.replace_file(&path, snapshot).await?;
    }
    segment.closed.set(true);
    log.committer.warm(segment);
    Ok(())
}
