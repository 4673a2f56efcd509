//! Cutting, closing and deleting a log: what needs its writes to stand still.
//!
//! **Invariant:** after a cut nothing of what was cut can be read again, in memory, from caches or
//! after a crash: the files end where the log ends before the next append is written.

use super::StorageError;
use super::checkpoint::CleanLog;
use super::log::{FlushError, Log, LogCell};
use super::prepare::close_segment;
use super::recovery::{failed, rebuild_index, save_checkpoint};
use super::replay::Source;
use super::scan::Scan;
use super::segment::{INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX};
use super::snapshot::SNAPSHOT_SUFFIX;
use super::wake::Raised;
use super::write::rewind;
use crate::base::ids::Offset;
use std::path::PathBuf;
use std::rc::Rc;

/// Added to the name of a partition's directory that is being removed, as in Kafka.
pub const DIR_DELETED_SUFFIX: &str = "-delete";

/// Why a closed log refuses appends.
const CLOSED: &str = "the log is closed";

impl Log {
    /// Cuts the log to end at `offset` or, where that is inside a batch, before that batch; durable
    /// on return. Who waits for a flush of what is cut gets an error. Append nothing meanwhile.
    ///
    /// # Errors
    /// [`StorageError::Fenced`], or the disk refused: the log is fenced then.
    pub async fn truncate_to(&self, offset: Offset) -> Result<Offset, StorageError> {
        let held = self.still().await?;
        let unfinished = Unfinished(&self.0);
        // Nothing that the journal holds of this log may come back.
        let cut = match self.0.committer.retire_journal().await {
            Ok(()) => self.cut_with_producers(offset).await,
            Err(error) => Err(failed("give up the journal of", &self.0.dir)(error)),
        };
        std::mem::forget(unfinished);
        if let Err(error) = &cut {
            self.0.fence(&format!("cutting the log failed: {error}"));
        }
        drop(held);
        cut?;
        save_checkpoint(&self.0).await.map_err(failed("write checkpoint of", &self.0.dir))?;
        let removed = self.0.remove_stray_snapshots().await;
        removed.map_err(failed("remove snapshots of", &self.0.dir))?;
        Ok(self.end_offset())
    }

    /// Flushes and closes everything so that the next start need read nothing. The log is of no use
    /// after.
    ///
    /// # Errors
    /// [`StorageError`]: the next start scans.
    pub async fn close_clean(&self) -> Result<CleanLog, StorageError> {
        let held = self.still().await?;
        self.0
            .quiet_wakers
            .until(|| (self.0.state.borrow().retired_count == 0).then_some(()))
            .await;
        let open: Vec<Rc<Segment>> = {
            let state = self.0.state.borrow();
            state.segments.iter().filter(|segment| !segment.closed.get()).cloned().collect()
        };
        let changed = self.0.state.borrow().changed_since_open;
        for segment in open.iter().filter(|_| changed) {
            let path = segment.path(LOG_SUFFIX);
            close_segment(&self.0, segment).await.map_err(failed("close", &path))?;
        }
        if changed {
            save_checkpoint(&self.0).await.map_err(failed("write checkpoint of", &self.0.dir))?;
        }
        let mut state = self.0.state.borrow_mut();
        state.fenced = Some(CLOSED.to_owned());
        std::mem::forget(held); // closed for good
        let dir_name = self.0.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(CleanLog {
            dir_name,
            topic_id: self.0.topic_id,
            start_offset: state.start_offset,
            segments: state.segments.iter().map(|segment| segment.facts()).collect(),
            epochs: state.epochs.clone(),
            producers: state.snapshot,
            corrupt: state.corrupt.clone(),
        })
    }

    /// Removes the log and its directory. The log is of no use after; slices that readers hold
    /// stay.
    ///
    /// # Errors
    /// The directory could not be removed; under its new name it is removed at the next start.
    pub async fn delete(&self) -> Result<(), StorageError> {
        self.0.held.set(true);
        self.0.end("the log is deleted");
        self.0.quiet_wakers.until(|| (!self.0.is_busy()).then_some(())).await;
        let segments: Vec<Rc<Segment>> = {
            let mut state = self.0.state.borrow_mut();
            let released_bytes = state.tail.release_all();
            self.0.committer.release_tail(released_bytes);
            state.cursors.clear();
            state.segments.iter().cloned().collect()
        };
        self.0.in_files.set(true); // nobody wants them any more
        for segment in segments {
            segment.forget_file();
            self.0.committer.read_cache().forget(segment.id);
        }
        let mut doomed = self.0.dir.as_os_str().to_owned();
        doomed.push(DIR_DELETED_SUFFIX);
        let doomed = PathBuf::from(doomed);
        let io = &self.0.io;
        if io.exists(&doomed).await {
            io.remove_dir_all(&doomed).await.map_err(failed("remove", &doomed))?;
        }
        io.rename(&self.0.dir, &doomed).await.map_err(failed("rename", &self.0.dir))?;
        if let Some(parent) = self.0.dir.parent() {
            io.sync_dir(parent).await.map_err(failed("sync", parent))?;
        }
        io.remove_dir_all(&doomed).await.map_err(failed("remove", &doomed))
    }

    /// Waits until everything is flushed and nothing is under way; it stays so until the result is
    /// dropped (`held`).
    ///
    /// # Errors
    /// [`StorageError::Fenced`]; [`StorageError::NoSpace`] where the disk has none for what was
    /// acknowledged under a relaxed policy, tried once more.
    async fn still(&self) -> Result<Raised<'_>, StorageError> {
        let cell = &self.0;
        let tries_count = cell.state.borrow().no_space_count;
        let _drains = Raised::try_raise(&cell.drains, &cell.quiet_wakers);
        loop {
            cell.committer.flush_behind();
            cell.committer.write_behind_soon(cell);
            let lazy = cell.state.borrow_mut().lazy_flush.take();
            if let Some(pending) = lazy {
                cell.committer.flush_soon(pending);
            }
            cell.committer.kick(cell);
            let is_full = || cell.state.borrow().no_space_count > tries_count;
            let is_due = || is_flushed(cell) || is_lazy(cell) || is_full();
            cell.quiet_wakers.until(|| is_due().then_some(())).await;
            if let Some(reason) = cell.state.borrow().fenced.clone() {
                return Err(StorageError::Fenced(reason));
            }
            if is_flushed(cell) {
                break;
            }
            if is_full() {
                return Err(StorageError::NoSpace { path: cell.dir.to_path_buf() });
            }
        }
        let wakers = &cell.quiet_wakers;
        let held = wakers.until(|| Raised::try_raise(&cell.held, wakers)).await;
        wakers.until(|| (!cell.is_busy() && !is_closing(cell)).then_some(())).await;
        Ok(held)
    }

    /// Cuts, and goes back to what was known of producers at the new end.
    async fn cut_with_producers(&self, offset: Offset) -> Result<(), StorageError> {
        let end_offset = self.end_offset();
        self.cut(offset).await?;
        if self.end_offset() == end_offset {
            return Ok(());
        }
        let (segments, corrupt, index_interval_bytes) = {
            let state = self.0.state.borrow();
            (state.segments.clone(), state.corrupt.clone(), state.config.index_interval_bytes)
        };
        let source = Source {
            io: &self.0.io,
            dir: &self.0.dir,
            segments: &segments,
            corrupt: &corrupt,
            index_interval_bytes,
            shard_count: self.0.committer.producers_count(),
        };
        let producers = source.rebuild().await?;
        self.0.state.borrow_mut().producers = producers;
        Ok(())
    }

    async fn cut(&self, offset: Offset) -> Result<(), StorageError> {
        if offset >= self.end_offset() {
            return Ok(());
        }
        let (segment, later) = {
            let state = self.0.state.borrow();
            let at = state.segment_of(offset);
            let later: Vec<_> = state.segments.range(at + 1..).cloned().collect();
            (state.segments[at].clone(), later)
        };
        let (position, end_offset) = self.find_cut(&segment, offset).await?;
        for segment in later.iter().rev() {
            self.remove(segment).await?;
        }
        self.forget(&segment, position, end_offset);
        if !segment.exists.get() {
            return Ok(());
        }
        let path = segment.path(LOG_SUFFIX);
        let file = segment.open(&self.0.io).await.map_err(failed("open", &path))?;
        file.truncate(position).await.map_err(failed("truncate", &path))?;
        file.sync().await.map_err(failed("flush", &path))
    }

    /// The position and base offset of the batch that holds `offset`.
    async fn find_cut(
        &self,
        segment: &Rc<Segment>,
        offset: Offset,
    ) -> Result<(u64, Offset), StorageError> {
        if offset <= segment.base_offset {
            return Ok((0, segment.base_offset));
        }
        let interval_bytes = self.0.state.borrow().config.index_interval_bytes;
        if segment.load_index(&self.0.io, interval_bytes).await.is_err() {
            rebuild_index(&self.0.io, segment, interval_bytes).await?;
        }
        let index = segment.index.borrow().as_ref().map(|index| index.position_before(offset));
        let mut position = index.unwrap_or(0);
        let path = segment.path(LOG_SUFFIX);
        let file = segment.open(&self.0.io).await.map_err(failed("open", &path))?;
        let mut scan = Scan::new(&self.0.io, &file, segment.written_bytes.get());
        loop {
            if let Some(range) = self.0.state.borrow().damage_at(segment, position) {
                if range.end > offset {
                    return Ok((range.position, range.start));
                }
                position = range.position_end;
                continue;
            }
            let head = scan.head_at(position).await.map_err(failed("read", &path))?;
            let Some(head) = head else { break };
            if head.end_offset() > offset.0 {
                return Ok((position, Offset(head.base_offset)));
            }
            position += head.bytes;
        }
        let reason = "no batch where the log is to be cut";
        Err(StorageError::Damaged { path, reason })
    }

    async fn remove(&self, segment: &Segment) -> Result<(), StorageError> {
        segment.forget_file();
        self.0.committer.read_cache().forget(segment.id);
        for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, SNAPSHOT_SUFFIX] {
            let path = segment.path(suffix);
            if self.0.io.exists(&path).await {
                self.0.io.remove_file(&path).await.map_err(failed("remove", &path))?;
            }
        }
        self.0.io.sync_dir(&self.0.dir).await.map_err(failed("sync", &self.0.dir))
    }

    /// Makes `segment` the last one and its first `position` bytes all that there is.
    fn forget(&self, segment: &Rc<Segment>, position: u64, end_offset: Offset) {
        let mut state = self.0.state.borrow_mut();
        while !Rc::ptr_eq(state.active(), segment) {
            state.segments.pop_back();
        }
        // Closed files are open for reading only.
        segment.forget_file();
        segment.closed.set(false);
        segment.cuts_count.set(segment.cuts_count.get() + 1);
        segment.flushed_bytes.set(position);
        segment.written_bytes.set(position);
        segment.written_offset.set(end_offset);
        segment.journaled_bytes.set(0);
        segment.journaled_offset.set(segment.base_offset);
        segment.flushed_offset.set(end_offset);
        segment.allocated_bytes.set(position);
        segment.prepared_bytes.set(position);
        segment.zeroed.set((0, 0));
        *segment.carried_block.borrow_mut() = None;
        rewind(segment, end_offset);
        let released_bytes = state.tail.cut_back(end_offset.0);
        state.end_offset = end_offset;
        state.flushed_offset = end_offset;
        state.start_offset = state.start_offset.min(end_offset);
        state.epochs.truncate(end_offset);
        state.epochs_dirty = true;
        state.corrupt.retain(|range| range.end <= end_offset);
        state.cursors.clear();
        state.cuts.note(end_offset, FlushError::Truncated);
        state.changed_since_open = true;
        drop(state);
        self.0.committer.release_tail(released_bytes);
        self.0.committer.read_cache().forget(segment.id);
        self.0.flush_wakers.wake_upto(i64::MAX);
    }
}

/// Fences a log whose cut was given up halfway: files and memory tell different tales then.
struct Unfinished<'a>(&'a Rc<LogCell>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.fence("cutting the log was given up");
    }
}

fn is_flushed(cell: &LogCell) -> bool {
    let state = cell.state.borrow();
    state.fenced.is_some()
        || state
            .segments
            .iter()
            .rev()
            .take(3)
            .all(|segment| segment.flushed_bytes.get() == segment.end_bytes.get())
}

fn is_lazy(cell: &LogCell) -> bool {
    cell.state.borrow().lazy_flush.is_some()
}

fn is_closing(cell: &LogCell) -> bool {
    cell.state.borrow().segments.iter().any(|segment| segment.closing.get())
}
