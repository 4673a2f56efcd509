//! One segment file: a run of record batches, written front to back and then only read.
//!
//! Holds the counts of its bytes, its index and, once needed, its open file. Knows no other
//! segment.
//! **Invariant:** `flushed_bytes <= written_bytes <= end_bytes` and `journaled_bytes <= end_bytes`;
//! only flushed or journaled bytes are ever acknowledged (unless the log's flush policy trades that
//! away), and only written bytes are read from the file.

use super::StorageError;
use super::index::SparseIndex;
use crate::base::ids::Offset;
use crate::io::{File, Io, OpenMode};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Suffix of a segment's file.
pub const LOG_SUFFIX: &str = ".log";
/// Suffix of its offset index.
pub const INDEX_SUFFIX: &str = ".index";
/// Suffix of its time index.
pub const TIME_INDEX_SUFFIX: &str = ".timeindex";
/// Added to the name of a file that is about to be removed, as in Kafka.
pub const DELETED_SUFFIX: &str = ".deleted";
/// An old segment of this partition that waits to be written over.
pub const SPARE_NAME: &str = "spare.recycled";

/// Largest index file that is read, bytes: what a Kafka of default settings would write.
const INDEX_FILE_BYTES_MAX: usize = 16 << 20;

/// What is known of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    pub base_offset: Offset,
    pub bytes: u64,
    pub end_offset: Offset,
    pub max_timestamp: i64,
    /// Last offset of the batch with the largest timestamp.
    pub max_timestamp_offset: i64,
    pub created_ms: i64,
}

/// A segment, shared by its log, by readers and by the writes under way.
pub struct Segment {
    pub base_offset: Offset,
    /// Unlike any other segment's on this shard, also over time: the key in caches.
    pub id: u64,
    pub created_ms: i64,
    dir: Rc<Path>,
    file: RefCell<Option<Rc<File>>>,
    /// The file is there under its name.
    pub exists: Cell<bool>,
    /// No more appends; set by the roll.
    pub sealed: Cell<bool>,
    /// Sealed, flushed, cut to its size, its indexes on disk.
    pub closed: Cell<bool>,
    pub end_bytes: Cell<u64>,
    pub written_bytes: Cell<u64>,
    /// Shared with the journal, which gives up what it holds of the segment.
    pub flushed_bytes: Rc<Cell<u64>>,
    /// Grows when the segment is cut: flushes that began before tell nothing then.
    pub cuts_count: Cell<u64>,
    /// Size of the file.
    pub allocated_bytes: Cell<u64>,
    /// Up to here the file was written before and its metadata is durable.
    pub prepared_bytes: Cell<u64>,
    /// Up to here the journal has what the file may lack.
    pub journaled_bytes: Cell<u64>,
    pub journaled_offset: Cell<Offset>,
    pub end_offset: Cell<Offset>,
    pub written_offset: Cell<Offset>,
    pub flushed_offset: Cell<Offset>,
    /// Zeroes are being written from here on: no other write may reach it meanwhile.
    pub zeroing_from: Cell<Option<u64>>,
    /// Durable zeroes from the first to the second: prepared once everything before them is
    /// flushed.
    pub zeroed: Cell<(u64, u64)>,
    pub closing: Cell<bool>,
    pub max_timestamp: Cell<i64>,
    pub max_timestamp_offset: Cell<i64>,
    pub index: RefCell<Option<SparseIndex>>,
    /// The index in memory lacks what was appended before this process: that part is in the index
    /// files.
    index_partial: Cell<bool>,
    /// What is known of producers at the segment's end: written when it closes.
    pub snapshot: RefCell<Option<Vec<u8>>>,
    /// Start of the block that holds the write position, kept when only the file had it.
    pub carried_block: RefCell<Option<(u64, Vec<u8>)>>,
}

impl Segment {
    /// A segment without a file yet: the first write creates it.
    pub fn new(
        dir: Rc<Path>,
        base_offset: Offset,
        id: u64,
        now_ms: i64,
        interval_bytes: u64,
    ) -> Segment {
        let facts = SegmentFacts {
            base_offset,
            bytes: 0,
            end_offset: base_offset,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            created_ms: now_ms,
        };
        let segment = Segment::found(dir, facts, id);
        segment.exists.set(false);
        *segment.index.borrow_mut() = Some(SparseIndex::new(base_offset, interval_bytes));
        segment
    }

    /// A segment whose file is there and whose bytes are all durable. Opens nothing.
    pub fn found(dir: Rc<Path>, facts: SegmentFacts, id: u64) -> Segment {
        Segment {
            base_offset: facts.base_offset,
            id,
            created_ms: facts.created_ms,
            dir,
            file: RefCell::new(None),
            exists: Cell::new(true),
            sealed: Cell::new(false),
            closed: Cell::new(false),
            end_bytes: Cell::new(facts.bytes),
            written_bytes: Cell::new(facts.bytes),
            flushed_bytes: Rc::new(Cell::new(facts.bytes)),
            cuts_count: Cell::new(0),
            allocated_bytes: Cell::new(facts.bytes),
            prepared_bytes: Cell::new(facts.bytes),
            journaled_bytes: Cell::new(0),
            journaled_offset: Cell::new(facts.base_offset),
            end_offset: Cell::new(facts.end_offset),
            written_offset: Cell::new(facts.end_offset),
            flushed_offset: Cell::new(facts.end_offset),
            zeroing_from: Cell::new(None),
            zeroed: Cell::new((0, 0)),
            closing: Cell::new(false),
            max_timestamp: Cell::new(facts.max_timestamp),
            max_timestamp_offset: Cell::new(facts.max_timestamp_offset),
            index: RefCell::new(None),
            index_partial: Cell::new(false),
            snapshot: RefCell::new(None),
            carried_block: RefCell::new(None),
        }
    }

    /// What the next start may know without reading the segment.
    pub fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            base_offset: self.base_offset,
            bytes: self.end_bytes.get(),
            end_offset: self.end_offset.get(),
            max_timestamp: self.max_timestamp.get(),
            max_timestamp_offset: self.max_timestamp_offset.get(),
            created_ms: self.created_ms,
        }
    }

    /// Where a file of this segment is; `suffix` is one of this module's.
    pub fn path(&self, suffix: &str) -> PathBuf {
        path_of(&self.dir, self.base_offset, suffix)
    }

    /// The open file, if it is open.
    pub fn opened(&self) -> Option<Rc<File>> {
        self.file.borrow().clone()
    }

    /// The open file; opens it if need be. The file must exist.
    pub async fn open(&self, io: &Io) -> std::io::Result<Rc<File>> {
        if let Some(file) = self.opened() {
            return Ok(file);
        }
        let mode = if self.closed.get() { OpenMode::Read } else { OpenMode::ReadWrite };
        let file = Rc::new(io.open(&self.path(LOG_SUFFIX), mode).await?);
        // Somebody else may have opened it meanwhile; one handle knows the file's size.
        Ok(self.file.borrow_mut().get_or_insert(file).clone())
    }

    /// Takes a file that was just created under this segment's name.
    pub fn adopt(&self, file: File) -> Rc<File> {
        self.allocated_bytes.set(file.bytes());
        self.exists.set(true);
        let file = Rc::new(file);
        *self.file.borrow_mut() = Some(file.clone());
        file
    }

    /// Lets the file and the index of a closed segment go; readers that use them keep theirs.
    pub fn cool(&self) {
        if self.closed.get() {
            *self.file.borrow_mut() = None;
            *self.index.borrow_mut() = None;
        }
    }

    /// Lets the file go, so that it is opened again in another mode or under another name.
    pub fn forget_file(&self) -> Option<Rc<File>> {
        self.file.borrow_mut().take()
    }

    /// Takes note of one batch at the end of the segment; returns its position.
    pub fn note_batch(
        &self,
        last_offset: i64,
        bytes: u64,
        max_timestamp: i64,
        interval_bytes: u64,
    ) -> u64 {
        let position = self.end_bytes.get();
        self.end_bytes.set(position + bytes);
        self.end_offset.set(Offset(last_offset + 1));
        if max_timestamp > self.max_timestamp.get() {
            self.max_timestamp.set(max_timestamp);
            self.max_timestamp_offset.set(last_offset);
        }
        let mut index = self.index.borrow_mut();
        let index = index.get_or_insert_with(|| {
            self.index_partial.set(true);
            SparseIndex::new(self.base_offset, interval_bytes)
        });
        index.note(last_offset, position, bytes, max_timestamp);
        position
    }

    /// Bytes that no completed write holds yet.
    pub fn dirty_bytes(&self) -> u64 {
        self.end_bytes.get() - self.written_bytes.get()
    }

    /// Up to here the file or the journal has the bytes.
    pub fn safe_bytes(&self) -> u64 {
        self.written_bytes.get().max(self.journaled_bytes.get())
    }

    /// The offset at [`Segment::safe_bytes`].
    pub fn safe_offset(&self) -> Offset {
        self.written_offset.get().max(self.journaled_offset.get())
    }

    /// Bytes that neither has yet: somebody waits for them.
    pub fn urgent_bytes(&self) -> u64 {
        self.end_bytes.get() - self.safe_bytes()
    }

    /// Bytes that only the journal has.
    pub fn behind_bytes(&self) -> u64 {
        self.journaled_bytes.get().saturating_sub(self.written_bytes.get())
    }

    /// Whether the index in memory knows the whole segment.
    pub fn has_index(&self) -> bool {
        self.index.borrow().is_some() && !self.index_partial.get()
    }

    /// Makes the whole index present: reads its files where need be.
    ///
    /// # Errors
    /// [`StorageError::Index`]: absent, torn or foreign; rebuild it from the segment.
    pub async fn load_index(&self, io: &Io, interval_bytes: u64) -> Result<(), StorageError> {
        if self.has_index() {
            return Ok(());
        }
        let failed = |error: &dyn std::error::Error| StorageError::Index {
            segment: self.base_offset,
            reason: error.to_string(),
        };
        let path = self.path(INDEX_SUFFIX);
        let offsets = io.read_file(&path, INDEX_FILE_BYTES_MAX).await.map_err(|e| failed(&e))?;
        let path = self.path(TIME_INDEX_SUFFIX);
        let times = io.read_file(&path, INDEX_FILE_BYTES_MAX).await.map_err(|e| failed(&e))?;
        let index = SparseIndex::decode(self.base_offset, interval_bytes, &offsets, &times);
        let mut index = index.map_err(|error| failed(&error))?;
        let max_timestamp = (self.max_timestamp.get(), self.max_timestamp_offset.get());
        index.truncate(self.end_bytes.get(), self.end_offset.get().0, max_timestamp);
        self.set_index(index);
        Ok(())
    }

    /// Takes `older` for the index, and behind it what was noted since.
    pub fn set_index(&self, mut older: SparseIndex) {
        let mut index = self.index.borrow_mut();
        if let Some(newer) = index.take() {
            older.extend(&newer);
        }
        *index = Some(older);
        self.index_partial.set(false);
    }

    /// Writes both index files durably.
    pub async fn write_index(&self, io: &Io) -> std::io::Result<()> {
        let encoded = {
            let index = self.index.borrow();
            let Some(index) = index.as_ref().filter(|_| !self.index_partial.get()) else {
                return Ok(());
            };
            (index.encode_offsets(), index.encode_times())
        };
        io.replace_file(&self.path(INDEX_SUFFIX), encoded.0).await?;
        io.replace_file(&self.path(TIME_INDEX_SUFFIX), encoded.1).await
    }

    /// Says that the file is written and flushed, with its metadata, up to `end`.
    pub fn extend_prepared(&self, end: u64) {
        let mut prepared_bytes = self.prepared_bytes.get().max(end);
        let (start, zeroed_end) = self.zeroed.get();
        if start <= prepared_bytes {
            prepared_bytes = prepared_bytes.max(zeroed_end);
        }
        self.prepared_bytes.set(prepared_bytes);
    }

    /// Asserts the order of the counts; ends every change of them.
    pub fn check(&self) {
        assert!(self.flushed_bytes.get() <= self.written_bytes.get());
        assert!(self.safe_bytes() <= self.end_bytes.get());
    }
}

/// Path of a segment's file in `dir`: 20 digits of the base offset and `suffix`, as in Kafka.
pub fn path_of(dir: &Path, base_offset: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}{suffix}", base_offset.0))
}

/// The base offset in a segment's file name, if it is one with `suffix`.
pub fn base_offset_of(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Offset)
}
