//! One write of one log: everything dirty of its oldest dirty segment, in one gather.
//!
//! Whole blocks go to the disk straight from the tail; the last, partly filled block is copied and
//! padded with zeroes, so that no memory under write ever changes. A full disk takes back what was
//! not acknowledged.
//! **Invariant:** a write starts at the block that holds the written end, never behind it, and lies
//! within the file's allocated size; a segment is written to only once all before it are on stable
//! storage.

use super::commit::Pending;
use super::log::{FlushError, FlushPolicy, LogCell, LogState};
use super::prepare;
use super::segment::Segment;
use super::tail_cache::WritePlan;
use super::wake::Raised;
use crate::base::ids::Offset;
use crate::base::limits::DIRECT_ALIGN_BYTES;
use crate::io::{File, Slice, is_full};
use std::io;
use std::rc::Rc;

const ALIGN: u64 = DIRECT_ALIGN_BYTES as u64;

/// Why a write did not reach the disk.
pub(super) enum WriteFailure {
    /// The disk is full; what was not acknowledged was taken back.
    NoSpace,
    /// Nobody knows what is on the disk now.
    Io(String),
}

/// Which bytes a write takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// All that are dirty.
    Dirty,
    /// The same, durable when it ends.
    DirtyFlushed,
    /// Those that the journal has, which nobody waits for.
    Behind,
}

/// One write of the oldest dirty segment. Returns the bytes written and how it went.
pub(super) async fn write_next(
    log: &Rc<LogCell>,
    take: Take,
) -> (u64, Result<Option<Pending>, WriteFailure>) {
    let Some(segment) = log.state.borrow().first_dirty() else { return (0, Ok(None)) };
    match write_segment(log, &segment, take).await {
        Ok((bytes, pending)) => (bytes, Ok(Some(pending))),
        // Nothing of the log is to be taken back for what the journal has.
        Err(error) if is_full(&error) && take == Take::Behind => (0, Err(WriteFailure::NoSpace)),
        Err(error) if is_full(&error) => (0, Err(take_back(log, &segment).await)),
        Err(error) => {
            let reason = format!("write to segment {} failed: {error}", segment.base_offset);
            (0, Err(WriteFailure::Io(reason)))
        }
    }
}

async fn write_segment(
    log: &Rc<LogCell>,
    segment: &Rc<Segment>,
    take: Take,
) -> io::Result<(u64, Pending)> {
    let file = prepare::ready_file(log, segment).await?;
    await_earlier(log, segment).await?;
    let from = segment.written_bytes.get() / ALIGN * ALIGN;
    let (plan, end_bytes, end_offset) = loop {
        let (end_bytes, end_offset) = match take {
            Take::Behind => (segment.journaled_bytes.get(), segment.journaled_offset.get()),
            _ => (segment.end_bytes.get(), segment.end_offset.get()),
        };
        let need = end_bytes.next_multiple_of(ALIGN);
        if need > segment.allocated_bytes.get() {
            prepare::allocate(log, segment, &file).await?;
        } else if prepare::zeroing_reaches(segment, need) {
            log.quiet_wakers
                .until(|| (!prepare::zeroing_reaches(segment, need)).then_some(()))
                .await;
        } else {
            let state = log.state.borrow();
            let plan = state.tail.plan_write(segment.base_offset, from, end_bytes);
            break (plan, end_bytes, end_offset);
        }
    };
    let gather = complete(log, segment, &file, from, plan).await?;
    let bytes: u64 = gather.iter().map(|slice| slice.len() as u64).sum();
    assert_eq!(from + bytes, end_bytes.next_multiple_of(ALIGN), "the gather is the plan");
    let prepared = from + bytes <= segment.prepared_bytes.get();
    let submitted = (take != Take::Behind).then(|| log.committer.submitting());
    let (through, flushes) = (log.committer.flush_file(), take == Take::DirtyFlushed);
    match through.filter(|through| prepared && file.is_flushed_by(through)) {
        Some(through) if flushes => file.write_and_sync_through(from, gather, &through).await?,
        _ if flushes => file.write_and_sync(from, gather).await?,
        _ => file.write_at(from, gather).await?,
    }
    drop(submitted);
    let pending = Pending {
        log: log.clone(),
        segment: segment.clone(),
        file,
        end_bytes,
        end_offset,
        cuts_count: segment.cuts_count.get(),
        prepared,
    };
    Ok((bytes, pending))
}

/// Resolves when all segments before this one are on stable storage.
///
/// Else a crash could keep the beginning of this one and tear the end of the one before, which
/// looks like damage to records that were acknowledged. It costs one flush at each roll.
///
/// # Errors
/// The log was fenced: they may never be.
async fn await_earlier(log: &Rc<LogCell>, segment: &Rc<Segment>) -> io::Result<()> {
    let is_due = || {
        let state = log.state.borrow();
        state.fenced.is_some() || earlier_are_flushed(&state, segment)
    };
    if is_due() {
        return refuse_fenced(log);
    }
    // Under a relaxed policy nobody else may be in a hurry.
    let lazy = log.state.borrow_mut().lazy_flush.take();
    if let Some(pending) = lazy {
        log.committer.flush_soon(pending);
    }
    log.committer.flush_behind();
    log.quiet_wakers.until(|| is_due().then_some(())).await;
    refuse_fenced(log)
}

/// Whether all segments before this one are on stable storage.
pub(super) fn earlier_are_flushed(state: &LogState, segment: &Rc<Segment>) -> bool {
    let earlier = state.segments.iter().rev().skip_while(|it| !Rc::ptr_eq(it, segment)).skip(1);
    let mut open = earlier.take_while(|it| !it.closed.get());
    open.all(|it| it.flushed_bytes.get() == it.end_bytes.get())
}

fn refuse_fenced(log: &LogCell) -> io::Result<()> {
    match &log.state.borrow().fenced {
        Some(reason) => Err(io::Error::other(reason.clone())),
        None => Ok(()),
    }
}

/// Turns a plan into whole blocks: pads the last one, and fills the first one's front from the
/// file.
async fn complete(
    log: &Rc<LogCell>,
    segment: &Segment,
    file: &File,
    from: u64,
    plan: WritePlan,
) -> io::Result<Vec<Slice>> {
    let WritePlan { carry_from_disk, mut blocks, last_block } = plan;
    let mut last = None;
    if let Some(part) = last_block {
        last = Some(padded_block(log, &[&part]).await);
    }
    let Some(carried_bytes) = carry_from_disk else {
        blocks.extend(last);
        return Ok(blocks);
    };
    let carried = carried_block(log, segment, file, from, carried_bytes).await?;
    match blocks.first_mut() {
        Some(first) => {
            let rest = first.slice(DIRECT_ALIGN_BYTES..first.len());
            let own = first.slice(carried_bytes..DIRECT_ALIGN_BYTES);
            let head = padded_block(log, &[&carried, &own]).await;
            *first = rest;
            blocks.insert(0, head);
            blocks.retain(|slice| !slice.is_empty());
        }
        None => {
            let part = last.take().expect("a plan has a block");
            let own = part.slice(carried_bytes..DIRECT_ALIGN_BYTES);
            last = Some(padded_block(log, &[&carried, &own]).await);
        }
    }
    blocks.extend(last);
    Ok(blocks)
}

/// One block that starts with `parts` and ends in zeroes.
async fn padded_block(log: &LogCell, parts: &[&[u8]]) -> Slice {
    let memory = log.io.memory();
    let buffer = match memory.allocate(DIRECT_ALIGN_BYTES) {
        Some(buffer) => buffer,
        None => {
            log.committer.evict(DIRECT_ALIGN_BYTES);
            log.committer.read_cache().evict(DIRECT_ALIGN_BYTES);
            memory.allocate_wait(DIRECT_ALIGN_BYTES).await
        }
    };
    let mut buffer = buffer;
    let mut at = 0;
    for part in parts {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    buffer[at..].fill(0);
    buffer.freeze()
}

/// The first `bytes` of the block at `from`, which only the file holds; read once.
async fn carried_block(
    log: &LogCell,
    segment: &Segment,
    file: &File,
    from: u64,
    bytes: usize,
) -> io::Result<Vec<u8>> {
    if let Some((at, known)) = segment.carried_block.borrow().as_ref()
        && *at == from
        && known.len() == bytes
    {
        return Ok(known.clone());
    }
    let buffer = log.io.memory().allocate_wait(DIRECT_ALIGN_BYTES).await;
    let (result, buffer) = file.read_at(from, buffer).await;
    if result? < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let carried = buffer[..bytes].to_vec();
    *segment.carried_block.borrow_mut() = Some((from, carried.clone()));
    Ok(carried)
}

/// A full disk: takes back every record that neither a write nor the journal holds, so that appends
/// may go on with what fits.
///
/// Under a relaxed policy the records were acknowledged already: they stay, and the write is tried
/// again.
async fn take_back(log: &Rc<LogCell>, segment: &Rc<Segment>) -> WriteFailure {
    let relaxed = log.state.borrow().config.flush != FlushPolicy::Always;
    if relaxed {
        let mut state = log.state.borrow_mut();
        if !state.no_space {
            let log = log.dir.display();
            tracing::warn!(%log, "no space left: appends are refused until there is");
        }
        state.no_space = true;
        state.no_space_count += 1;
        return WriteFailure::NoSpace;
    }
    // Zeroing ahead allocates and moves `prepared_bytes` in the very space that is given back; it
    // waits for no write, so it ends.
    let wakers = &log.quiet_wakers;
    let _alone = wakers.until(|| Raised::try_raise(&log.preparing, wakers)).await;
    take_back_alone(log, segment).await
}

/// Nothing is being prepared and nothing begins to be.
async fn take_back_alone(log: &Rc<LogCell>, segment: &Rc<Segment>) -> WriteFailure {
    if log.state.borrow().fenced.is_some() {
        return WriteFailure::NoSpace;
    }
    cut_unwritten(log, segment);
    log.flush_wakers.wake_upto(i64::MAX);
    // Nothing behind the end may ever look like a batch again.
    let end = segment.safe_bytes().next_multiple_of(ALIGN);
    if let Some(file) = segment.opened()
        && segment.allocated_bytes.get() > end
    {
        if let Err(error) = file.truncate(end).await {
            return WriteFailure::Io(format!("giving back unwritten space failed: {error}"));
        }
        segment.allocated_bytes.set(end);
        segment.prepared_bytes.set(segment.prepared_bytes.get().min(end));
    }
    segment.zeroed.set((0, 0));
    WriteFailure::NoSpace
}

fn cut_unwritten(log: &Rc<LogCell>, segment: &Rc<Segment>) {
    let mut state = log.state.borrow_mut();
    let dropped_bytes = state.urgent_bytes();
    let end_offset = segment.safe_offset();
    tracing::warn!(
        log = %log.dir.display(),
        from = end_offset.0,
        upto = state.end_offset.0,
        "no space left: records that were not acknowledged are taken back"
    );
    while !Rc::ptr_eq(state.active(), segment) {
        state.segments.pop_back();
    }
    rewind(segment, end_offset);
    let released_bytes = state.tail.cut_back(end_offset.0);
    state.end_offset = end_offset;
    state.epochs.truncate(end_offset);
    state.epochs_dirty = true;
    state.producers.take_back(end_offset.0);
    state.cuts.note(end_offset, FlushError::NoSpace);
    drop(state);
    log.committer.release_tail(released_bytes);
    // Here and not when the write ends: the log may be fenced by then.
    log.committer.undirtied(dropped_bytes);
}

/// Sets an unsealed segment's end back to what is written or journaled.
pub(super) fn rewind(segment: &Segment, end_offset: Offset) {
    segment.sealed.set(false);
    segment.snapshot.take();
    segment.end_bytes.set(segment.safe_bytes());
    segment.end_offset.set(end_offset);
    // The largest timestamp may have been taken back: as an upper bound it makes look-ups slower,
    // not wrong.
    let newest_offset = segment.max_timestamp_offset.get().min(end_offset.0 - 1);
    segment.max_timestamp_offset.set(newest_offset);
    if let Some(index) = segment.index.borrow_mut().as_mut() {
        let newest = (segment.max_timestamp.get(), newest_offset);
        index.truncate(segment.end_bytes.get(), end_offset.0, newest);
    }
    segment.check();
}
