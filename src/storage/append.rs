//! Batches at the end of a log: checked, given their offsets, copied into the tail.
//!
//! Synchronous: one copy, no I/O. Where the active segment is full the log rolls first. The bytes
//! are dirty then, and the committer's.
//! **Invariant:** a refused append leaves the log as it was; memory is reserved before anything
//! changes.

use super::frame::{HEAD_BYTES, Head, patched_start};
use super::log::{AppendError, Appended, FlushPolicy, LOG_DIRTY_BYTES_MAX, Log, LogState};
use super::producers::{ProducerError, Sent};
use super::tail_cache::Tail;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::{DIRECT_ALIGN_BYTES, SEGMENT_BYTES_MAX};
use crate::io::Buffer;
use std::collections::VecDeque;

/// Why a log refuses appends for the moment.
const HELD: &str = "it is being cut, closed or deleted";

impl Log {
    /// Appends whole batches, giving them the next offsets and `epoch`. Not durable: await
    /// [`Log::wait_flushed`], and call it before anything else is awaited.
    ///
    /// One copy, no I/O. `batches` were validated by `protocol::batch`; `now_ms` decides on rolling
    /// and on which producers are forgotten. A batch with a sequence comes alone; it is appended
    /// only if it is the next one of its producer, and found again if it is a repeated one.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was appended.
    pub fn append(
        &self,
        batches: &[u8],
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let (offsets_count, alone) = look_over(batches)?;
        let mut state = self.0.state.borrow_mut();
        if let Some(reason) = &state.fenced {
            return Err(AppendError::Fenced(reason.clone()));
        }
        if self.0.held.get() {
            return Err(AppendError::Fenced(HELD.to_owned()));
        }
        let sent = alone.and_then(|head| Some((head.sent?, head.max_timestamp)));
        if let Some((sent, _)) = &sent
            && let Some(repeated) = state.repeated(sent, now_ms)?
        {
            return Ok(repeated);
        }
        if state.no_space && state.config.flush != FlushPolicy::Always {
            return Err(AppendError::NoSpace);
        }
        let dirty_bytes = state.dirty_bytes();
        if dirty_bytes > 0 && dirty_bytes + batches.len() as u64 > LOG_DIRTY_BYTES_MAX {
            return Err(AppendError::NoRoom { dirty_bytes });
        }
        let rolls = roll_is_due(&state, batches.len() as u64, offsets_count, now_ms);
        let segment_base = if rolls { state.end_offset } else { state.active().base_offset };
        drop(state);
        let buffers = self.reserve(segment_base, batches.len());
        let mut buffers = buffers.ok_or(AppendError::NoRoom { dirty_bytes })?;
        if rolls {
            self.0.roll(now_ms);
        }
        state = self.0.state.borrow_mut();
        let appended = copy_batches(&mut state, batches, epoch, &mut buffers);
        if let Some((sent, timestamp)) = &sent {
            let (base_offset, flushed_offset) = (appended.base_offset.0, state.flushed_offset.0);
            state.producers.append(sent, base_offset, *timestamp, now_ms, flushed_offset);
        }
        state.last_append = self.0.io.clock().monotonic();
        state.tail_quiet = false;
        state.changed_since_open = true;
        let relaxed = state.config.flush != FlushPolicy::Always;
        if relaxed {
            state.flushed_offset = state.end_offset;
        }
        drop(state);
        if relaxed {
            self.0.flush_wakers.wake_upto(appended.last_offset.0 + 1);
        }
        self.0.committer.dirtied(&self.0, batches.len() as u64);
        Ok(appended)
    }

    /// Buffers for `bytes` more at the tail; `None`: memory is short.
    fn reserve(&self, segment_base: Offset, bytes: usize) -> Option<VecDeque<Buffer>> {
        let mut buffers = VecDeque::new();
        let mut reserved = self.0.state.borrow().tail.room(segment_base);
        while reserved < bytes {
            let wanted = self.0.state.borrow().tail.chunk_fitting(bytes - reserved);
            let buffer = self.0.committer.tail_buffer(&self.0, wanted)?;
            // A partial block carried over takes up to a block of the first buffer.
            reserved += buffer.len() - DIRECT_ALIGN_BYTES;
            buffers.push_back(buffer);
        }
        Some(buffers)
    }
}

impl LogState {
    /// Where the batch of `sent` has been since an earlier append; nothing: it may be appended.
    fn repeated(&mut self, sent: &Sent, now_ms: i64) -> Result<Option<Appended>, ProducerError> {
        self.producers.expire(now_ms, self.config.producer_expiration_ms);
        let known = self.producers.check(sent)?;
        Ok(known.map(|known| Appended {
            base_offset: Offset(known.base_offset()),
            last_offset: Offset(known.last_offset),
            log_start: self.start_offset,
            repeats: Some(known.timestamp),
        }))
    }
}

/// Checks that heads tile `bytes`; returns how many offsets they need, and the head of a batch that
/// comes alone.
fn look_over(mut bytes: &[u8]) -> Result<(i64, Option<Head>), AppendError> {
    if bytes.is_empty() {
        return Err(AppendError::Malformed("no batch"));
    }
    let first = head_to_append(bytes)?;
    if first.bytes == bytes.len() as u64 {
        return Ok((i64::from(first.last_offset_delta) + 1, Some(first)));
    }
    let mut needed: i64 = 0;
    while !bytes.is_empty() {
        let head = head_to_append(bytes)?;
        if head.sent.is_some() {
            return Err(AppendError::Malformed("a batch with a sequence, and others"));
        }
        needed += i64::from(head.last_offset_delta) + 1;
        bytes = &bytes[head.bytes as usize..];
    }
    Ok((needed, None))
}

/// The head of the first batch, whatever base offset the producer wrote.
fn head_to_append(bytes: &[u8]) -> Result<Head, AppendError> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Err(AppendError::Malformed("shorter than a batch's head"));
    };
    let mut head = *head;
    head[..8].fill(0);
    let head = Head::parse(&head).map_err(|_| AppendError::Malformed("no batch's head"))?;
    if head.bytes > bytes.len() as u64 {
        return Err(AppendError::Malformed("shorter than the batch says"));
    }
    Ok(head)
}

fn roll_is_due(state: &LogState, bytes: u64, offsets_count: i64, now_ms: i64) -> bool {
    let active = state.active();
    let end_bytes = active.end_bytes.get();
    if end_bytes == 0 {
        return false;
    }
    let segment_bytes = state.config.segment_bytes.min(SEGMENT_BYTES_MAX);
    let relative_end = state.end_offset.0 + offsets_count - active.base_offset.0;
    end_bytes + bytes > segment_bytes
        || now_ms.saturating_sub(active.created_ms) > state.config.segment_ms
        || relative_end > i64::from(i32::MAX)
}

fn copy_batches(
    state: &mut LogState,
    mut bytes: &[u8],
    epoch: LeaderEpoch,
    buffers: &mut VecDeque<Buffer>,
) -> Appended {
    let segment = state.active().clone();
    let base_offset = state.end_offset;
    let interval_bytes = state.config.index_interval_bytes;
    while !bytes.is_empty() {
        let head = head_to_append(bytes).expect("checked before anything was appended");
        let (batch, rest) = bytes.split_at(head.bytes as usize);
        let first_offset = state.end_offset;
        let start = patched_start(batch, first_offset.0, epoch.0);
        let position = segment.end_bytes.get();
        put(&mut state.tail, segment.base_offset, position, &start, buffers);
        put(&mut state.tail, segment.base_offset, position + 16, &batch[16..], buffers);
        let last_offset = first_offset.0 + i64::from(head.last_offset_delta);
        state.tail.finish_batch(last_offset + 1);
        segment.note_batch(last_offset, head.bytes, head.max_timestamp, interval_bytes);
        state.epochs_dirty |= state.epochs.note(epoch, first_offset);
        state.records_unflushed += (last_offset - first_offset.0 + 1).cast_unsigned();
        state.end_offset = Offset(last_offset + 1);
        state.bytes_since_checkpoint += head.bytes;
        bytes = rest;
    }
    segment.check();
    Appended {
        base_offset,
        last_offset: Offset(state.end_offset.0 - 1),
        log_start: state.start_offset,
        repeats: None,
    }
}

/// Copies `bytes` to the tail; the first one belongs at `position` of the segment's file.
fn put(
    tail: &mut Tail,
    segment_base: Offset,
    mut position: u64,
    mut bytes: &[u8],
    buffers: &mut VecDeque<Buffer>,
) {
    loop {
        if tail.is_open_for(segment_base) {
            let taken = tail.append(bytes);
            position += taken as u64;
            bytes = &bytes[taken..];
        }
        if bytes.is_empty() {
            return;
        }
        let carry = tail.carry(segment_base, position);
        let buffer = buffers.pop_front().expect("the whole append was reserved");
        tail.push_chunk(buffer, segment_base, position, &carry);
    }
}
