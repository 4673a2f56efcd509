//! Reading whole batches: from the tail without a copy, else from the disk through a cache that
//! readers share.
//!
//! Cold reads go in large pieces, each loaded once however many wait for it, with the next ones
//! already under way for whoever reads in order. A batch from the disk is checked before it is
//! served: what the disk damaged is fenced, named and never handed out.
//! **Invariant:** only written bytes are loaded; a slice of a piece stays valid after the piece
//! left the cache.

use super::StorageError;
use super::checkpoint::CorruptRange;
use super::frame::{HEAD_BYTES, Head, crc_holds};
use super::log::{Log, LogCell, ReadBatches, ReadError};
use super::recovery::{rebuild_index, report, save_checkpoint};
use super::scan::Scan;
use super::segment::Segment;
use super::wake::{Turns, Wakers};
use crate::base::ids::Offset;
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use crate::io::{Io, Slice};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Bytes of one cold read.
const PIECE_BYTES: u64 = MIB as u64;
/// Pieces under way in front of a reader that reads in order.
const READ_AHEAD_COUNT: u64 = 3;
/// Pieces that a shard has the disk read at once, for all readers: enough to keep it busy. What is
/// written meanwhile, and its flush, wait at the disk for no more than these.
const LOADS_COUNT_MAX: usize = 4;
/// Places that a log remembers for readers that come back.
const CURSORS_COUNT_MAX: usize = 64;

/// Where a reader that stopped at `offset` goes on.
#[derive(Clone)]
pub(super) struct Cursor {
    offset: Offset,
    segment: Rc<Segment>,
    position: u64,
}

/// Pieces of files that were read, shared by all readers of a shard.
pub(super) struct ReadCache {
    pieces: RefCell<HashMap<(u64, u64), Rc<Piece>>>,
    bytes: Cell<usize>,
    bytes_max: usize,
    clock: Cell<u64>,
    turns: Rc<Turns>,
}

/// One piece, loaded or being loaded.
struct Piece {
    load: RefCell<Load>,
    wakers: Wakers,
    bytes: usize,
    used: Cell<u64>,
}

enum Load {
    Running,
    /// What was in the file, up to what was written then.
    Ready(Slice),
    Failed(String),
}

impl ReadCache {
    /// A cache of at most about `bytes_max`.
    pub fn new(bytes_max: usize) -> ReadCache {
        let (pieces, bytes, clock) = (RefCell::default(), Cell::new(0), Cell::new(0));
        let turns = Rc::new(Turns::new(LOADS_COUNT_MAX));
        ReadCache { pieces, bytes, bytes_max, clock, turns }
    }

    #[cfg(test)]
    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Lets about `bytes` of the longest unused pieces go; returns how many went.
    pub fn evict(&self, bytes: usize) -> usize {
        let mut released_bytes = 0;
        while released_bytes < bytes {
            let oldest = {
                let pieces = self.pieces.borrow();
                let idle = pieces.iter().filter(|(_, piece)| !piece.is_running());
                idle.min_by_key(|(_, piece)| piece.used.get()).map(|(key, _)| *key)
            };
            let Some(key) = oldest else { break };
            released_bytes += self.remove(key);
        }
        released_bytes
    }

    /// Forgets everything of a segment: its file is cut or given up.
    pub fn forget(&self, segment_id: u64) {
        let keys: Vec<_> = self.pieces.borrow().keys().copied().collect();
        for key in keys.into_iter().filter(|key| key.0 == segment_id) {
            self.remove(key);
        }
    }

    fn remove(&self, key: (u64, u64)) -> usize {
        let removed = self.pieces.borrow_mut().remove(&key).map_or(0, |piece| piece.bytes);
        self.bytes.set(self.bytes.get() - removed);
        removed
    }

    /// The piece with number `number`, holding the file at least up to `need`; starts its load.
    fn piece(&self, io: &Io, segment: &Rc<Segment>, number: u64, need: u64) -> Rc<Piece> {
        let key = (segment.id, number);
        let start = number * PIECE_BYTES;
        self.clock.set(self.clock.get() + 1);
        let known = self.pieces.borrow().get(&key).cloned();
        if let Some(piece) = known {
            let usable = match &*piece.load.borrow() {
                Load::Running => true,
                Load::Ready(slice) => start + slice.len() as u64 >= need,
                Load::Failed(_) => false,
            };
            if usable {
                piece.used.set(self.clock.get());
                return piece;
            }
            self.remove(key);
        }
        let end = segment.written_bytes.get().min(start + PIECE_BYTES);
        let bytes = (end - start).next_multiple_of(DIRECT_ALIGN_BYTES as u64) as usize;
        if self.bytes.get() + bytes > self.bytes_max {
            self.evict(self.bytes.get() + bytes - self.bytes_max);
        }
        let piece = Rc::new(Piece {
            load: RefCell::new(Load::Running),
            wakers: Wakers::default(),
            bytes,
            used: Cell::new(self.clock.get()),
        });
        self.bytes.set(self.bytes.get() + bytes);
        self.pieces.borrow_mut().insert(key, piece.clone());
        let (io, segment, turns) = (io.clone(), segment.clone(), self.turns.clone());
        let loading = piece.clone();
        io.clone().spawn(async move { load(io, segment, loading, start..end, &turns).await });
        piece
    }
}

impl Piece {
    fn is_running(&self) -> bool {
        matches!(*self.load.borrow(), Load::Running)
    }

    async fn loaded(&self) -> Result<Slice, String> {
        let ready = || match &*self.load.borrow() {
            Load::Running => None,
            Load::Ready(slice) => Some(Ok(slice.clone())),
            Load::Failed(reason) => Some(Err(reason.clone())),
        };
        self.wakers.until(ready).await
    }
}

async fn load(io: Io, segment: Rc<Segment>, piece: Rc<Piece>, range: Range<u64>, turns: &Turns) {
    let loaded = async {
        let file = segment.open(&io).await?;
        // Given back before the reader is woken: else its next pieces came before other readers'.
        let _turn = turns.take().await;
        let buffer = io.memory().allocate_wait(piece.bytes).await;
        let (result, buffer) = file.read_at(range.start, buffer).await;
        let bytes = (result? as u64).min(range.end - range.start) as usize;
        Ok::<Slice, std::io::Error>(buffer.freeze().slice(0..bytes))
    };
    let outcome = match loaded.await {
        Ok(slice) => Load::Ready(slice),
        Err(error) => Load::Failed(error.to_string()),
    };
    *piece.load.borrow_mut() = outcome;
    piece.wakers.wake_all();
}

impl Log {
    /// Whole batches from the one that holds `from`, up to `upto` (exclusive) and about `bytes_max`
    /// bytes.
    ///
    /// With `at_least_one` the first batch comes whatever its size. Nothing is copied. Answers may
    /// end early (before damage); an empty answer means that `from` is at the end of what may be
    /// read.
    ///
    /// # Errors
    /// [`ReadError`]: out of range, damaged, or the disk refused.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        upto: Offset,
        at_least_one: bool,
    ) -> Result<ReadBatches, ReadError> {
        {
            let state = self.0.state.borrow();
            let (start, end) = (state.start_offset, state.end_offset);
            if from < start || from > end {
                return Err(ReadError::OutOfRange { offset: from, start, end });
            }
            let upto = upto.min(end);
            if from >= upto {
                return Ok(ReadBatches { next_offset: from, ..ReadBatches::default() });
            }
            if let Some(read) = state.tail.read(from.0, bytes_max, upto.0, at_least_one) {
                let next_offset = Offset(read.next_offset);
                return Ok(ReadBatches { slices: read.slices, bytes: read.bytes, next_offset });
            }
        }
        let reader = ColdReader { cell: &self.0, held: Vec::new(), ahead: false, expected: None };
        reader.read(from, bytes_max, upto, at_least_one).await
    }
}

/// What a walk over heads finds at a position.
enum Step {
    Batch(Head),
    /// The segment ends here.
    End,
    /// Damage up to this position and offset.
    Damage(CorruptRange),
}

/// One read of the disk.
struct ColdReader<'a> {
    cell: &'a Rc<LogCell>,
    /// Pieces of the segment being read, which this read has looked at.
    held: Vec<(u64, Slice)>,
    /// The reader came back where it had stopped.
    ahead: bool,
    /// What the next head must say: offsets are not under the checksum.
    expected: Option<Expected>,
}

/// What is known of a batch before its head is read.
#[derive(Clone, Copy)]
enum Expected {
    Base(i64),
    Last(i64),
}

impl ColdReader<'_> {
    async fn read(
        mut self,
        from: Offset,
        bytes_max: usize,
        upto: Offset,
        at_least_one: bool,
    ) -> Result<ReadBatches, ReadError> {
        let mut cursor = self.locate(from).await?;
        let mut batches = ReadBatches { next_offset: from, ..ReadBatches::default() };
        let mut run_start = cursor.position;
        loop {
            let head = match self.step(&cursor).await? {
                Step::Batch(head) => head,
                Step::Damage(range) if from >= range.end => {
                    cursor.position = range.position_end;
                    self.expected = Some(Expected::Base(range.end.0));
                    run_start = cursor.position;
                    continue;
                }
                Step::Damage(range) => {
                    if batches.bytes > 0 || run_start < cursor.position {
                        break;
                    }
                    return Err(ReadError::Corrupt { start: range.start, end: range.end });
                }
                Step::End => {
                    self.collect(&mut batches, &cursor.segment, run_start, cursor.position).await?;
                    run_start = cursor.position;
                    let Some(next) = self.segment_after(&cursor.segment) else { break };
                    self.held.clear();
                    self.expected = Some(Expected::Base(next.base_offset.0));
                    cursor = Cursor { offset: cursor.offset, segment: next, position: 0 };
                    run_start = 0;
                    continue;
                }
            };
            if head.end_offset() <= from.0 {
                self.pass(&mut cursor, &head);
                run_start = cursor.position;
                continue;
            }
            let taken = batches.bytes as u64 + cursor.position - run_start;
            let first = taken == 0 && at_least_one;
            let fits = first || taken + head.bytes <= bytes_max as u64;
            if head.end_offset() > upto.0 || !fits {
                break;
            }
            if !self.is_whole(&cursor, &head).await? {
                self.fence_from(&cursor).await?;
                continue;
            }
            self.pass(&mut cursor, &head);
            batches.next_offset = Offset(head.end_offset());
        }
        self.collect(&mut batches, &cursor.segment, run_start, cursor.position).await?;
        if batches.bytes > 0 {
            self.remember(Cursor { offset: batches.next_offset, ..cursor });
        }
        Ok(batches)
    }

    fn pass(&mut self, cursor: &mut Cursor, head: &Head) {
        cursor.position += head.bytes;
        self.expected = Some(Expected::Base(head.end_offset()));
    }

    /// The segment and a position at or before the batch that holds `from`.
    async fn locate(&mut self, from: Offset) -> Result<Cursor, ReadError> {
        let segment = {
            let mut state = self.cell.state.borrow_mut();
            let known = state.cursors.iter().position(|cursor| cursor.offset == from);
            if let Some(cursor) = known.and_then(|at| state.cursors.remove(at)) {
                self.ahead = true;
                self.expected = Some(Expected::Base(from.0));
                return Ok(cursor);
            }
            state.segments[state.segment_of(from)].clone()
        };
        self.load_index(&segment).await?;
        let near =
            segment.index.borrow().as_ref().and_then(|index| index.batch_before_offset(from));
        let (position, expected) = match near {
            Some((position, last_offset)) => (position, Expected::Last(last_offset)),
            None => (0, Expected::Base(segment.base_offset.0)),
        };
        self.expected = Some(expected);
        Ok(Cursor { offset: from, segment, position })
    }

    async fn load_index(&self, segment: &Rc<Segment>) -> Result<(), ReadError> {
        if segment.has_index() {
            return Ok(());
        }
        let interval_bytes = self.cell.state.borrow().config.index_interval_bytes;
        if segment.load_index(&self.cell.io, interval_bytes).await.is_err() {
            let rebuilt = rebuild_index(&self.cell.io, segment, interval_bytes).await;
            rebuilt.map_err(|error| failed_read(segment, 0, &error))?;
        }
        if segment.closed.get() {
            self.cell.committer.warm(segment);
        }
        Ok(())
    }

    fn remember(&self, cursor: Cursor) {
        let mut state = self.cell.state.borrow_mut();
        // A segment that was cut or removed meanwhile must not be kept alive or trusted.
        let known = state.segments[state.segment_of(cursor.segment.base_offset)].id;
        if known != cursor.segment.id {
            return;
        }
        if state.cursors.len() >= CURSORS_COUNT_MAX {
            state.cursors.pop_front();
        }
        state.cursors.push_back(cursor);
    }

    fn segment_after(&self, segment: &Segment) -> Option<Rc<Segment>> {
        let state = self.cell.state.borrow();
        let at = state.segments.partition_point(|known| known.base_offset <= segment.base_offset);
        state.segments.get(at).filter(|next| next.written_bytes.get() > 0).cloned()
    }

    async fn step(&mut self, cursor: &Cursor) -> Result<Step, ReadError> {
        let known = self.cell.state.borrow().damage_at(&cursor.segment, cursor.position);
        if let Some(range) = known {
            return Ok(Step::Damage(range));
        }
        let (position, end) = (cursor.position, cursor.segment.written_bytes.get());
        if position >= end {
            return Ok(Step::End);
        }
        if let Some(head) = self.head_in_held(position)
            && self.is_expected(&cursor.segment, &head)
        {
            return Ok(Step::Batch(head));
        }
        let head_end = position + HEAD_BYTES as u64;
        let mut bytes = [0; HEAD_BYTES];
        let mut filled = 0;
        for part in self.parts(&cursor.segment, position, head_end.min(end)).await? {
            bytes[filled..filled + part.len()].copy_from_slice(&part);
            filled += part.len();
        }
        match Head::parse(&bytes) {
            Ok(head)
                if position + head.bytes <= end && self.is_expected(&cursor.segment, &head) =>
            {
                Ok(Step::Batch(head))
            }
            _ => Ok(Step::Damage(self.fence_from(cursor).await?)),
        }
    }

    /// The usual case: the whole head lies in the piece looked at last.
    fn head_in_held(&self, position: u64) -> Option<Head> {
        let (number, piece) = self.held.last()?;
        let at = position.checked_sub(number * PIECE_BYTES)? as usize;
        let head = Head::parse_slice(piece.get(at..)?).ok()?;
        (at as u64 + head.bytes <= piece.len() as u64).then_some(head)
    }

    async fn is_whole(&mut self, cursor: &Cursor, head: &Head) -> Result<bool, ReadError> {
        let end = cursor.position + head.bytes;
        let parts = self.parts(&cursor.segment, cursor.position, end).await?;
        Ok(crc_holds(head, parts.iter().map(|part| &part[..])))
    }

    fn is_expected(&self, segment: &Segment, head: &Head) -> bool {
        let follows = match self.expected {
            Some(Expected::Base(offset)) => head.base_offset == offset,
            Some(Expected::Last(offset)) => head.last_offset() == offset,
            None => true,
        };
        follows && head.end_offset() <= segment.written_offset.get().0
    }

    /// Fences the batch at the cursor: up to the next valid one, or the segment's end.
    async fn fence_from(&mut self, cursor: &Cursor) -> Result<CorruptRange, ReadError> {
        let segment = &cursor.segment;
        let failed = |error: std::io::Error| failed_read(segment, cursor.position, &error);
        let file = segment.open(&self.cell.io).await.map_err(failed)?;
        let mut scan = Scan::new(&self.cell.io, &file, segment.written_bytes.get());
        let start = match self.expected {
            Some(Expected::Base(offset)) => offset,
            _ => self.offset_at(cursor).await?,
        };
        let offsets = start + 1..segment.written_offset.get().0;
        let next = scan.find_next(cursor.position, offsets).await.map_err(failed)?;
        let (position_end, end) = match next {
            Some((position, next)) => (position, next.base_offset),
            None => (segment.written_bytes.get(), segment.written_offset.get().0),
        };
        let range = CorruptRange {
            start: Offset(start),
            end: Offset(end),
            segment: segment.base_offset,
            position: cursor.position,
            position_end,
        };
        self.keep_damage(range);
        Ok(range)
    }

    /// Takes note of damage, for good.
    fn keep_damage(&self, range: CorruptRange) {
        let mut state = self.cell.state.borrow_mut();
        if state.corrupt.contains(&range) {
            return;
        }
        report(&self.cell.dir, &range);
        state.corrupt.push(range);
        state.changed_since_open = true;
        drop(state);
        let cell = self.cell.clone();
        self.cell.io.spawn(async move {
            if let Err(error) = save_checkpoint(&cell).await {
                tracing::warn!(log = %cell.dir.display(), %error, "checkpoint not written");
            }
        });
    }

    /// The offset that follows the good batches before the cursor.
    async fn offset_at(&mut self, cursor: &Cursor) -> Result<i64, ReadError> {
        let segment = &cursor.segment;
        self.load_index(segment).await?;
        let before =
            segment.index.borrow().as_ref().map(|index| index.batch_before(cursor.position));
        let (mut position, mut offset) = (before.unwrap_or(0), segment.base_offset.0);
        let failed = |error: std::io::Error| failed_read(segment, cursor.position, &error);
        let file = segment.open(&self.cell.io).await.map_err(failed)?;
        let mut scan = Scan::new(&self.cell.io, &file, segment.written_bytes.get());
        while position < cursor.position {
            let Some(head) = scan.head_at(position).await.map_err(failed)? else { break };
            offset = head.end_offset();
            position += head.bytes;
        }
        Ok(offset)
    }

    /// Adds the bytes from `start` to `end` of the segment to the answer.
    async fn collect(
        &mut self,
        batches: &mut ReadBatches,
        segment: &Rc<Segment>,
        start: u64,
        end: u64,
    ) -> Result<(), ReadError> {
        if start < end {
            let parts = self.parts(segment, start, end).await?;
            batches.bytes += (end - start) as usize;
            batches.slices.extend(parts);
        }
        Ok(())
    }

    /// The bytes from `start` to `end`, at most what was written, as they lie in the pieces.
    async fn parts(
        &mut self,
        segment: &Rc<Segment>,
        start: u64,
        end: u64,
    ) -> Result<Vec<Slice>, ReadError> {
        let mut parts = Vec::with_capacity(2);
        let mut at = start;
        while at < end {
            let number = at / PIECE_BYTES;
            let piece_start = number * PIECE_BYTES;
            let part_end = end.min(piece_start + PIECE_BYTES);
            let piece = self.piece(segment, number, part_end).await?;
            let range = (at - piece_start) as usize..(part_end - piece_start) as usize;
            if range.end > piece.len() {
                let reason = "the file is shorter than what was written".to_owned();
                return Err(ReadError::Io { segment: segment.base_offset, position: at, reason });
            }
            parts.push(piece.slice(range));
            at = part_end;
        }
        Ok(parts)
    }

    async fn piece(
        &mut self,
        segment: &Rc<Segment>,
        number: u64,
        need: u64,
    ) -> Result<Slice, ReadError> {
        let start = number * PIECE_BYTES;
        let held = self.held.iter().rev().find(|piece| piece.0 == number);
        if let Some((_, piece)) = held
            && start + piece.len() as u64 >= need
        {
            return Ok(piece.clone());
        }
        let cache = self.cell.committer.read_cache();
        let piece = cache.piece(&self.cell.io, segment, number, need);
        self.read_ahead(segment, number);
        let loaded = piece.loaded().await.map_err(|reason| ReadError::Io {
            segment: segment.base_offset,
            position: start,
            reason,
        })?;
        self.held.retain(|held| held.0 != number);
        self.held.push((number, loaded.clone()));
        Ok(loaded)
    }

    /// Starts the loads that this reader will ask for next.
    fn read_ahead(&mut self, segment: &Rc<Segment>, number: u64) {
        // Within one read, the second piece shows that the reader goes on.
        if !std::mem::replace(&mut self.ahead, true) {
            return;
        }
        let cache = self.cell.committer.read_cache();
        let mut ahead = READ_AHEAD_COUNT;
        let mut segment = segment.clone();
        let mut next = number + 1;
        while ahead > 0 {
            if next * PIECE_BYTES >= segment.written_bytes.get() {
                let Some(after) = self.segment_after(&segment) else { return };
                segment = after;
                next = 0;
            }
            cache.piece(&self.cell.io, &segment, next, 0);
            next += 1;
            ahead -= 1;
        }
    }
}

fn failed_read(segment: &Segment, position: u64, error: &dyn std::error::Error) -> ReadError {
    ReadError::Io { segment: segment.base_offset, position, reason: error.to_string() }
}

impl From<ReadError> for StorageError {
    fn from(error: ReadError) -> StorageError {
        StorageError::Unreadable(error)
    }
}
