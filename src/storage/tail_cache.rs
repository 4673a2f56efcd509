//! A log's newest bytes in memory: the append buffers themselves, from which fetches are served.
//!
//! A tail is a queue of chunks. A batch is copied in once, at the end of the last chunk, and then
//! read from there by the disk and by every consumer, by reference count. Positions inside a tail
//! are *stream bytes*: bytes appended since the log was opened, over all segments. Knows no I/O and
//! no budgets of others.
//! **Invariant:** `start.stream <= end.stream`; marks lie in the chunks, in order; a chunk's buffer
//! starts at a multiple of [`DIRECT_ALIGN_BYTES`] of its file, so that whole blocks go to the disk
//! as they are.

use crate::base::ids::Offset;
use crate::base::limits::{DIRECT_ALIGN_BYTES, KIB, MIB};
use crate::io::{Buffer, Slice, TailBuffer};
use std::collections::VecDeque;
use std::ops::Range;

/// First chunk of a quiet log, bytes: small, since there may be thousands of quiet logs.
pub const CHUNK_BYTES_MIN: usize = 16 * KIB;
/// Largest chunk of a busy log, bytes: one gather entry of a large write or answer.
pub const CHUNK_BYTES_MAX: usize = MIB;

/// Where one batch ends. It starts where the one before it ends.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end_offset: i64,
    end_stream: u64,
}

/// One buffer of the tail.
struct Chunk {
    buffer: TailBuffer,
    /// Base offset of the segment that these bytes belong to.
    segment_base: Offset,
    /// Where `buffer[0]` lies in that segment's file.
    file_position: u64,
    /// Bytes at the front that repeat what the file holds already: the start of a partial block.
    carried_bytes: usize,
    /// The front is zeroes in place of the carried bytes, which are on the disk only.
    carry_on_disk: bool,
    start_stream: u64,
    /// Bytes of ours; less than the buffer holds only after a cut.
    own_bytes: usize,
    sealed: bool,
}

impl Chunk {
    fn end_stream(&self) -> u64 {
        self.start_stream + self.own_bytes as u64
    }

    fn file_end(&self) -> u64 {
        self.file_position + (self.carried_bytes + self.own_bytes) as u64
    }

    fn room_bytes(&self) -> usize {
        if self.sealed { 0 } else { self.buffer.capacity() - self.buffer.len() }
    }

    /// Bytes of ours from `from` to `to`, stream bytes.
    fn slice(&self, from: u64, to: u64) -> Slice {
        let base = self.carried_bytes as u64;
        let start = usize::try_from(from - self.start_stream + base).expect("inside a chunk");
        let end = usize::try_from(to - self.start_stream + base).expect("inside a chunk");
        self.buffer.slice(start..end)
    }
}

/// What the first block of a new chunk starts with, when the log does not end at a block's end.
pub enum Carry {
    /// These bytes, fewer than a block.
    Bytes(Vec<u8>),
    /// So many bytes, which only the file holds.
    OnDisk(usize),
}

/// A run of whole batches in memory.
#[derive(Debug, Default)]
pub struct TailRead {
    pub slices: Vec<Slice>,
    pub bytes: usize,
    /// The offset after the last batch.
    pub next_offset: i64,
}

/// What a write of a segment's dirty bytes takes from memory; see [`Tail::plan_write`].
#[derive(Debug, Default)]
pub struct WritePlan {
    /// The first block needs this many bytes from the file in front, where memory has zeroes.
    pub carry_from_disk: Option<usize>,
    /// Whole blocks.
    pub blocks: Vec<Slice>,
    /// The filled part of the block after those.
    pub last_block: Option<Slice>,
}

/// The newest part of one log.
pub struct Tail {
    chunks: VecDeque<Chunk>,
    marks: VecDeque<Mark>,
    start: Mark,
    end: Mark,
    chunk_bytes_next: usize,
}

impl Tail {
    /// Nothing in memory; the next batch gets `end_offset`.
    pub fn new(end_offset: Offset) -> Tail {
        let at = Mark { end_offset: end_offset.0, end_stream: 0 };
        Tail {
            chunks: VecDeque::new(),
            marks: VecDeque::new(),
            start: at,
            end: at,
            chunk_bytes_next: CHUNK_BYTES_MIN,
        }
    }

    /// Bytes of buffers that this tail holds.
    pub fn buffers_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.buffer.capacity()).sum()
    }

    /// Bytes that the last chunk still takes for the segment.
    pub fn room(&self, segment_base: Offset) -> usize {
        match self.chunks.back() {
            Some(chunk) if chunk.segment_base == segment_base => chunk.room_bytes(),
            _ => 0,
        }
    }

    /// Whether the last chunk takes bytes for the segment.
    pub fn is_open_for(&self, segment_base: Offset) -> bool {
        self.chunks.back().is_some_and(|chunk| chunk.segment_base == segment_base && !chunk.sealed)
    }

    /// How large the next chunk should be for `need_bytes`: as large as they are, and larger the
    /// more chunks came before.
    pub fn chunk_fitting(&self, need_bytes: usize) -> usize {
        let fitting = (need_bytes + DIRECT_ALIGN_BYTES).next_power_of_two();
        self.chunk_bytes_next.max(fitting).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
    }

    /// Adds an empty chunk whose first own byte belongs at `file_end` of the segment.
    ///
    /// `carry` must make up the distance of `file_end` from its block's start.
    pub fn push_chunk(
        &mut self,
        buffer: Buffer,
        segment_base: Offset,
        file_end: u64,
        carry: &Carry,
    ) {
        let capacity_bytes = buffer.len();
        let mut buffer = TailBuffer::new(buffer);
        let phase = (file_end % DIRECT_ALIGN_BYTES as u64) as usize;
        let carry_on_disk = match carry {
            Carry::Bytes(bytes) => {
                assert_eq!(bytes.len(), phase, "a carry fills its block up to the file's end");
                buffer.append(bytes);
                false
            }
            Carry::OnDisk(bytes) => {
                assert_eq!(*bytes, phase, "a carry fills its block up to the file's end");
                buffer.append(&[0; DIRECT_ALIGN_BYTES][..phase]);
                phase > 0
            }
        };
        if let Some(last) = self.chunks.back_mut() {
            last.sealed = true;
        }
        self.chunks.push_back(Chunk {
            buffer,
            segment_base,
            file_position: file_end - phase as u64,
            carried_bytes: phase,
            carry_on_disk,
            start_stream: self.end.end_stream,
            own_bytes: 0,
            sealed: false,
        });
        self.chunk_bytes_next = (capacity_bytes * 2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
    }

    /// The bytes of the partial block before `file_end`, where the last chunk has them.
    pub fn carry(&self, segment_base: Offset, file_end: u64) -> Carry {
        let phase = (file_end % DIRECT_ALIGN_BYTES as u64) as usize;
        match self.chunks.back() {
            Some(last)
                if last.segment_base == segment_base
                    && last.file_end() == file_end
                    && last.carried_bytes + last.own_bytes >= phase
                    && !(last.carry_on_disk
                        && file_end - (phase as u64)
                            < last.file_position + DIRECT_ALIGN_BYTES as u64) =>
            {
                let end = last.carried_bytes + last.own_bytes;
                Carry::Bytes(last.buffer.slice(end - phase..end).to_vec())
            }
            _ => Carry::OnDisk(phase),
        }
    }

    /// Copies as much of `bytes` as the last chunk takes; returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(chunk) = self.chunks.back_mut() else { return 0 };
        let taken = chunk.room_bytes().min(bytes.len());
        chunk.buffer.append(&bytes[..taken]);
        chunk.own_bytes += taken;
        self.end.end_stream += taken as u64;
        taken
    }

    /// Says that a batch is complete, and which offset follows it.
    pub fn finish_batch(&mut self, end_offset: i64) {
        assert!(end_offset > self.end.end_offset, "offsets grow");
        self.end.end_offset = end_offset;
        self.marks.push_back(self.end);
    }

    /// Whole batches from the one that holds `from`, up to `upto` (exclusive); `None`: not in
    /// memory.
    ///
    /// At most `bytes_max` bytes, yet one batch of any size if `at_least_one`. O(log batches) and
    /// one reference count a chunk; copies nothing and reads no bytes of the batches.
    pub fn read(
        &self,
        from: i64,
        bytes_max: usize,
        upto: i64,
        at_least_one: bool,
    ) -> Option<TailRead> {
        if from < self.start.end_offset {
            return None;
        }
        let first = self.marks.partition_point(|mark| mark.end_offset <= from);
        let start = match first.checked_sub(1) {
            Some(before) => self.marks[before].end_stream,
            None => self.start.end_stream,
        };
        let mut end = self.marks.partition_point(|mark| {
            mark.end_offset <= upto && mark.end_stream <= start + bytes_max as u64
        });
        let one_fits = self.marks.get(first).is_some_and(|mark| mark.end_offset <= upto);
        if end <= first && at_least_one && one_fits {
            end = first + 1;
        }
        if end <= first {
            return Some(TailRead { next_offset: from, ..TailRead::default() });
        }
        let last = self.marks[end - 1];
        Some(TailRead {
            slices: self.slices(start, last.end_stream),
            bytes: (last.end_stream - start) as usize,
            next_offset: last.end_offset,
        })
    }

    /// What to write so that the file of `segment_base` holds everything from `from_file` to its
    /// end.
    ///
    /// `from_file` is a multiple of the block size; the bytes from there on are all in memory.
    pub fn plan_write(&self, segment_base: Offset, from_file: u64, end_file: u64) -> WritePlan {
        let align = DIRECT_ALIGN_BYTES as u64;
        assert_eq!(from_file % align, 0, "writes start at a block");
        let whole_end = end_file - end_file % align;
        let mut plan = WritePlan::default();
        let mut at = from_file;
        let mut chunks =
            self.chunks.iter().filter(|chunk| chunk.segment_base == segment_base).peekable();
        while let Some(chunk) = chunks.next() {
            // A sealed chunk's partial last block is repeated at the front of the next chunk.
            let chunk_end = chunks.peek().map_or(chunk.file_end(), |next| next.file_position);
            if chunk_end <= at {
                continue;
            }
            if at == end_file {
                break;
            }
            assert!(chunk.file_position <= at, "dirty bytes stay in memory until they are written");
            if chunk.carry_on_disk && at == chunk.file_position {
                plan.carry_from_disk = Some(chunk.carried_bytes);
            }
            let part = |from: u64, to: u64| {
                let start = (from - chunk.file_position) as usize;
                chunk.buffer.slice(start..(to - chunk.file_position) as usize)
            };
            let whole_to = chunk_end.min(whole_end);
            if whole_to > at {
                plan.blocks.push(part(at, whole_to));
                at = whole_to;
            }
            if at == whole_end && chunk_end >= end_file && end_file > whole_end {
                plan.last_block = Some(part(at, end_file));
                at = end_file;
            }
        }
        assert_eq!(at, end_file, "dirty bytes are in memory");
        plan
    }

    /// Shows the bytes of `range` of the segment's file, which are all in memory, in order.
    pub fn visit(&self, segment_base: Offset, range: Range<u64>, mut see: impl FnMut(&[u8])) {
        let starts_before = |chunk: &Chunk| {
            let own_start = chunk.file_position + chunk.carried_bytes as u64;
            chunk.segment_base == segment_base && own_start <= range.start
        };
        // What is looked for lies near the end.
        let first = self.chunks.iter().rposition(starts_before).expect("bytes are in memory");
        let mut at = range.start;
        for chunk in self.chunks.range(first..) {
            let to = chunk.file_end().min(range.end);
            let part = (at - chunk.file_position) as usize..(to - chunk.file_position) as usize;
            see(&chunk.buffer.slice(part));
            at = to;
            if at == range.end {
                return;
            }
        }
        panic!("dirty bytes are in memory");
    }

    /// Lets go of the oldest chunk, unless it still takes appends, when it ends at or before
    /// `file_end` of its segment, or is of an older segment than `segment_base`; returns its
    /// buffer's bytes, 0 if it has to stay.
    pub fn drop_oldest(&mut self, segment_base: Offset, file_end: u64) -> usize {
        let Some(oldest) = self.chunks.front() else { return 0 };
        let clean = oldest.segment_base < segment_base
            || (oldest.segment_base == segment_base && oldest.file_end() <= file_end);
        if !clean || !oldest.sealed {
            return 0;
        }
        let chunk = self.chunks.pop_front().expect("looked at above");
        let kept_from = self.chunks.front().map_or(self.end.end_stream, |next| next.start_stream);
        while let Some(&mark) = self.marks.front() {
            // A batch that starts in the dropped chunk goes with it, even where it ends later.
            if self.start.end_stream >= kept_from {
                break;
            }
            self.start = mark;
            self.marks.pop_front();
        }
        chunk.buffer.capacity()
    }

    /// Forgets all batches from `end_offset` (a batch's start) on, as if they had never been
    /// appended.
    ///
    /// Returns the buffer bytes let go. Slices that readers hold stay as they are.
    pub fn cut_back(&mut self, end_offset: i64) -> usize {
        if end_offset < self.start.end_offset {
            return self.clear(end_offset);
        }
        while self.marks.back().is_some_and(|mark| mark.end_offset > end_offset) {
            self.marks.pop_back();
        }
        self.end = self.marks.back().copied().unwrap_or(self.start);
        self.end.end_offset = end_offset;
        let end_stream = self.end.end_stream;
        let mut released_bytes = 0;
        while let Some(last) = self.chunks.back_mut() {
            if last.start_stream >= end_stream {
                released_bytes += last.buffer.capacity();
                self.chunks.pop_back();
                continue;
            }
            last.own_bytes = (end_stream - last.start_stream) as usize;
            last.sealed = true;
            break;
        }
        released_bytes
    }

    /// Ends the last chunk, so that the next batch gets a small new one; for a log that went quiet.
    pub fn seal(&mut self) {
        if let Some(last) = self.chunks.back_mut() {
            last.sealed = true;
        }
        self.chunk_bytes_next = CHUNK_BYTES_MIN;
    }

    /// Lets every chunk go; returns their bytes. Nothing can be read from memory then.
    pub fn release_all(&mut self) -> usize {
        self.clear(self.end.end_offset)
    }

    fn clear(&mut self, end_offset: i64) -> usize {
        let released_bytes = self.buffers_bytes();
        let at = Mark { end_offset, end_stream: self.end.end_stream };
        self.chunks.clear();
        self.marks.clear();
        (self.start, self.end) = (at, at);
        released_bytes
    }

    fn slices(&self, start: u64, end: u64) -> Vec<Slice> {
        let first = self.chunks.partition_point(|chunk| chunk.end_stream() <= start);
        let mut slices = Vec::with_capacity(2);
        for chunk in self.chunks.range(first..) {
            if chunk.start_stream >= end {
                break;
            }
            let from = start.max(chunk.start_stream);
            let to = end.min(chunk.end_stream());
            if from < to {
                slices.push(chunk.slice(from, to));
            }
        }
        slices
    }
}
