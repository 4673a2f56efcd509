//! Giving up old segments: whole ones, from the front, never the one that takes appends.
//!
//! Whoever owns the logs has them looked through now and then; once that has begun, a log looks by
//! itself whenever a segment closes, so that the next one is written over an old one. The new
//! start is durable before a file goes, and a file goes only when no reader holds its segment. One
//! file of the right size is kept to be written over: space that was written before is the fastest.
//! **Invariant:** a recycled file stays in its partition, so that its old offsets are all below new
//! ones.

use super::StorageError;
use super::log::{Log, LogCell, LogState};
use super::prepare::close_segment;
use super::recovery::{failed, save_checkpoint};
use super::segment::{INDEX_SUFFIX, LOG_SUFFIX, SPARE_NAME, Segment, TIME_INDEX_SUFFIX};
use super::snapshot::SNAPSHOT_SUFFIX;
use super::wake::Raised;
use crate::base::ids::Offset;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// How often a removed segment's readers are counted.
const READERS_POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Log {
    /// Removes the segments that the settings no longer keep; returns how many. Run it now and
    /// then.
    ///
    /// An active segment whose records are all past their time is rolled, so that it goes the next
    /// time. Producers whose time is up are forgotten. A log that is being closed, cut or deleted
    /// keeps what it has.
    ///
    /// # Errors
    /// The checkpoint could not be written: nothing is removed from the disk. The next call tries
    /// the same segments again.
    pub async fn apply_retention(&self, now_ms: i64) -> Result<usize, StorageError> {
        if self.active_expired(now_ms) {
            self.0.roll(now_ms);
        }
        self.reclose().await;
        if self.0.held.get() {
            return Ok(0); // whoever holds it knows its segments and waits for those that go already
        }
        let removed = {
            let mut state = self.0.state.borrow_mut();
            let expiration_ms = state.config.producer_expiration_ms;
            state.producers.expire(now_ms, expiration_ms);
            let mut removed = Vec::new();
            let mut bytes: u64 = state.segments.iter().map(|segment| segment.end_bytes.get()).sum();
            while goes(&state, bytes, now_ms) {
                let segment = state.segments.pop_front().expect("one is looked at");
                bytes -= segment.end_bytes.get();
                removed.push(segment);
            }
            if removed.is_empty() {
                return Ok(0);
            }
            let start_offset = state.segments[0].base_offset.max(state.start_offset);
            move_start(&mut state, start_offset);
            state.retired_count += removed.len();
            removed
        };
        let count = removed.len();
        for segment in &removed {
            self.0.committer.read_cache().forget(segment.id);
        }
        if let Err(error) = save_checkpoint(&self.0).await {
            // A start after a crash would begin with them.
            let mut state = self.0.state.borrow_mut();
            state.retired_count -= count;
            for segment in removed.into_iter().rev() {
                state.segments.push_front(segment);
            }
            drop(state);
            self.0.quiet_wakers.wake_all();
            return Err(failed("write checkpoint of", &self.0.dir)(error));
        }
        for segment in removed {
            let cell = self.0.clone();
            self.0.io.spawn(async move {
                if let Err(error) = dispose(&cell, segment).await {
                    tracing::warn!(log = %cell.dir.display(), %error, "old segment not removed");
                }
                cell.state.borrow_mut().retired_count -= 1;
                cell.quiet_wakers.wake_all();
            });
        }
        Ok(count)
    }

    /// Makes `offset` the first one that is kept, as DeleteRecords asks; durable on return.
    ///
    /// Beyond the flushed offset it moves only up to that; backwards never. Segments that lie
    /// wholly below go with the next [`Log::apply_retention`].
    ///
    /// # Errors
    /// The checkpoint could not be written.
    pub async fn advance_start_offset(&self, offset: Offset) -> Result<Offset, StorageError> {
        let start_offset = {
            let mut state = self.0.state.borrow_mut();
            let offset = offset.min(state.flushed_offset);
            if offset <= state.start_offset {
                return Ok(state.start_offset);
            }
            move_start(&mut state, offset);
            offset
        };
        save_checkpoint(&self.0).await.map_err(failed("write checkpoint of", &self.0.dir))?;
        Ok(start_offset)
    }

    /// Whether the active segment may be rolled for its age; not before all of it is written.
    fn active_expired(&self, now_ms: i64) -> bool {
        let state = self.0.state.borrow();
        let active = state.active();
        state.fenced.is_none()
            && !self.0.held.get()
            && active.end_bytes.get() > 0
            && active.dirty_bytes() == 0
            && expired(&state, active, now_ms)
    }

    /// Tries again to close segments whose closing failed.
    async fn reclose(&self) {
        let open: Vec<Rc<Segment>> = {
            let state = self.0.state.borrow();
            let waiting = state.segments.iter().filter(|segment| {
                segment.sealed.get()
                    && !segment.closed.get()
                    && segment.flushed_bytes.get() == segment.end_bytes.get()
            });
            waiting.cloned().collect()
        };
        for segment in open {
            let raised = Raised::try_raise(&segment.closing, &self.0.quiet_wakers);
            let Some(_raised) = raised else { continue };
            if let Err(error) = close_segment(&self.0, &segment).await {
                tracing::warn!(log = %self.0.dir.display(), %error, "segment not closed");
            }
        }
    }
}

fn move_start(state: &mut LogState, start_offset: Offset) {
    state.start_offset = start_offset;
    state.epochs.advance_start(start_offset);
    state.epochs_dirty = true;
    state.changed_since_open = true;
    state.corrupt.retain(|range| range.end > start_offset);
    state.cursors.clear();
}

fn expired(state: &LogState, segment: &Segment, now_ms: i64) -> bool {
    let retention_ms = state.config.retention_ms;
    // Without timestamps the time of creation counts, as Kafka takes the file's.
    let newest = match segment.max_timestamp.get() {
        timestamp if timestamp < 0 => segment.created_ms,
        timestamp => timestamp,
    };
    retention_ms >= 0 && now_ms.saturating_sub(newest) > retention_ms
}

/// Whether the oldest segment is to go, `bytes` being the log's size.
fn goes(state: &LogState, bytes: u64, now_ms: i64) -> bool {
    let Some(oldest) = state.segments.front() else { return false };
    if state.segments.len() < 2 || !oldest.closed.get() || oldest.closing.get() {
        return false;
    }
    let retention_bytes = u64::try_from(state.config.retention_bytes).ok();
    let too_many = retention_bytes.is_some_and(|most| bytes - oldest.end_bytes.get() >= most);
    let unreachable = oldest.end_offset.get() <= state.start_offset;
    too_many || unreachable || expired(state, oldest, now_ms)
}

/// Removes a segment's files once its last reader is gone, or keeps the log file to write over.
async fn dispose(log: &Rc<LogCell>, segment: Rc<Segment>) -> io::Result<()> {
    while Rc::strong_count(&segment) > 1 {
        log.io.sleep(READERS_POLL_INTERVAL).await;
    }
    let bytes = segment.end_bytes.get();
    segment.cool();
    let named = log.state.borrow().snapshot == Some(segment.base_offset);
    let snapshot = (!named).then_some(SNAPSHOT_SUFFIX);
    for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX].into_iter().chain(snapshot) {
        let path = segment.path(suffix);
        if log.io.exists(&path).await {
            log.io.remove_file(&path).await?;
        }
    }
    let path = segment.path(LOG_SUFFIX);
    let segment_bytes = log.state.borrow().config.segment_bytes;
    let fits = bytes >= segment_bytes / 2 && bytes <= segment_bytes;
    let wanted = fits && log.state.borrow().spare_bytes.is_none() && !log.held.get();
    if wanted {
        log.io.rename(&path, &log.dir.join(SPARE_NAME)).await?;
        log.state.borrow_mut().spare_bytes = Some(bytes);
    } else {
        log.io.remove_file(&path).await?;
    }
    log.io.sync_dir(&log.dir).await
}
