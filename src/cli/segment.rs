//! Walks a segment file from front to back and says what each stretch of it is.
//!
//! Reads with plain file calls, as no broker needs to run. The file may be closed or open: behind
//! the data of an open one lie zeroes or, where the file was recycled, blocks of older data.
//! **Invariant:** every byte of the file belongs to exactly one finding.

use crate::base::ids::Offset;
use crate::base::limits::DIRECT_ALIGN_BYTES;
use crate::protocol::batch::{BatchHeader, BatchView, HEADER_BYTES, MAGIC, PREFIX_BYTES};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use zerocopy::FromBytes as _;

/// Bytes that are read at once when looking for a batch or for an end of zeroes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The magic byte's place, in every version of the format.
const MAGIC_AT: usize = 16;

/// What a stretch of the file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// A batch whose CRC is right.
    Batch { position: u64, bytes: &'a [u8] },
    /// A batch's place, but its content is damaged: valid batches follow.
    Damage { range: Range<u64>, reason: String },
    /// The last write was cut off: no valid batch follows.
    Torn { range: Range<u64>, reason: String },
    /// The file begins like no segment does, and holds no valid batch.
    Foreign { range: Range<u64>, reason: String },
    /// Zeroes up to the end: space that is prepared for what will be written.
    Zeroes { range: Range<u64> },
    /// Blocks of older data up to the end, in a recycled file.
    Recycled { range: Range<u64> },
}

/// A segment file that is being walked.
pub struct SegmentFile {
    file: File,
    bytes: u64,
    expected: Offset, // no later batch begins before this
    buffer: Vec<u8>,
}

impl SegmentFile {
    /// `base` is the least offset that the file may hold, if its name tells.
    ///
    /// # Errors
    /// The file's size cannot be had.
    pub fn new(file: File, base: Option<Offset>) -> io::Result<SegmentFile> {
        let bytes = file.metadata()?.len();
        Ok(SegmentFile { file, bytes, expected: base.unwrap_or_default(), buffer: Vec::new() })
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Calls `found` for every stretch, in order.
    ///
    /// # Errors
    /// Those of reading, and those of `found`.
    pub fn walk<E: From<io::Error>>(
        &mut self,
        mut found: impl FnMut(Finding<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut position = 0;
        while position < self.bytes {
            match self.load_batch(position)? {
                Ok(bytes) => {
                    found(Finding::Batch { position, bytes: &self.buffer })?;
                    position += bytes;
                }
                Err(reason) => {
                    let next = self.find_batch(position + 1)?;
                    let range = position..next.unwrap_or(self.bytes);
                    found(match next {
                        Some(_) => Finding::Damage { range: range.clone(), reason },
                        None => self.tail(range.clone(), reason)?,
                    })?;
                    position = range.end;
                }
            }
        }
        Ok(())
    }

    /// Loads the batch at `position` into the buffer and gives its size; or why there is none.
    fn load_batch(&mut self, position: u64) -> io::Result<Result<u64, String>> {
        let left_bytes = self.bytes - position;
        if left_bytes < HEADER_BYTES as u64 {
            return Ok(Err(format!("{left_bytes} bytes are left, fewer than a header has")));
        }
        self.buffer.resize(HEADER_BYTES, 0);
        self.file.read_exact_at(&mut self.buffer, position)?;
        let bytes = match batch_bytes(&self.buffer, self.expected, left_bytes) {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(Err(reason)),
        };
        self.buffer.resize(bytes as usize, 0);
        self.file.read_exact_at(&mut self.buffer, position)?;
        let view = match BatchView::first(&self.buffer) {
            Ok(view) => view,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Err(error) = view.check_crc() {
            return Ok(Err(format!("offset {}: {error}", view.base_offset())));
        }
        self.expected = view.next_offset();
        Ok(Ok(bytes))
    }

    /// The place of the first whole batch at or after `from` whose CRC is right.
    fn find_batch(&mut self, from: u64) -> io::Result<Option<u64>> {
        let expected = self.expected;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut start = from;
        while start + HEADER_BYTES as u64 <= self.bytes {
            let count = read_up_to(&self.file, &mut chunk, start)?;
            let last = count.saturating_sub(HEADER_BYTES - 1);
            for at in 0..last {
                let header = &chunk[at..at + HEADER_BYTES];
                let position = start + at as u64;
                if header[MAGIC_AT] == MAGIC as u8
                    && batch_bytes(header, expected, self.bytes - position).is_ok()
                    && self.load_batch(position)?.is_ok()
                {
                    self.expected = expected; // loading was only a look
                    return Ok(Some(position));
                }
            }
            start += last.max(1) as u64;
        }
        Ok(None)
    }

    /// What `range`, which no valid batch follows, is.
    fn tail(&self, range: Range<u64>, reason: String) -> io::Result<Finding<'static>> {
        let zeroes_end = self.end_of_zeroes(range.start)?;
        let align = DIRECT_ALIGN_BYTES as u64;
        if zeroes_end == range.end {
            return Ok(Finding::Zeroes { range });
        }
        if range.start == 0 && self.is_foreign()? {
            return Ok(Finding::Foreign { range, reason });
        }
        // The last block of data is padded with zeroes; what was in a recycled file before begins
        // with the block after it.
        if zeroes_end >= range.start.next_multiple_of(align) && !self.is_cut_batch(range.start)? {
            return Ok(Finding::Recycled { range });
        }
        Ok(Finding::Torn { range, reason })
    }

    /// Whether the file begins with neither a batch, be it old or cut off, nor zeroes.
    fn is_foreign(&self) -> io::Result<bool> {
        let mut header = [0; HEADER_BYTES];
        let count = read_up_to(&self.file, &mut header, 0)?;
        let is_zeroes = header.iter().all(|byte| *byte == 0);
        Ok(!is_zeroes && count > MAGIC_AT && header[MAGIC_AT] != MAGIC as u8)
    }

    /// Whether the next batch that was due begins at `position`.
    fn is_cut_batch(&self, position: u64) -> io::Result<bool> {
        let mut header = [0; HEADER_BYTES];
        let count = read_up_to(&self.file, &mut header, position)?;
        if count < HEADER_BYTES {
            return Ok(header[..count].iter().any(|byte| *byte != 0));
        }
        let base = i64::from_be_bytes(header[..8].try_into().expect("8 bytes are 8 bytes"));
        Ok(header[MAGIC_AT] == MAGIC as u8 && Offset(base) >= self.expected)
    }

    /// Where the zeroes that begin at `from` end.
    fn end_of_zeroes(&self, from: u64) -> io::Result<u64> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut start = from;
        while start < self.bytes {
            let count = read_up_to(&self.file, &mut chunk, start)?;
            if let Some(at) = chunk[..count].iter().position(|byte| *byte != 0) {
                return Ok(start + at as u64);
            }
            if count == 0 {
                break;
            }
            start += count as u64;
        }
        Ok(self.bytes)
    }
}

/// Size of the batch that `header` declares, if it can be one at this place; or why not.
fn batch_bytes(header: &[u8], expected: Offset, left_bytes: u64) -> Result<u64, String> {
    if header.iter().all(|byte| *byte == 0) {
        return Err("zeroes where a batch was expected".to_owned());
    }
    if header[MAGIC_AT] != MAGIC as u8 {
        return Err(format!("magic {} where {MAGIC} was expected", header[MAGIC_AT]));
    }
    let header = BatchHeader::read_from_bytes(header).expect("callers hand over a whole header");
    let length = header.length.get();
    if length < (HEADER_BYTES - PREFIX_BYTES) as i32 {
        return Err(format!("a batch of length {length}"));
    }
    let bytes = PREFIX_BYTES as u64 + length as u64;
    if bytes > left_bytes {
        return Err(format!("a batch of {bytes} bytes where {left_bytes} are left"));
    }
    let base = Offset(header.base_offset.get());
    if base < expected {
        return Err(format!("offset {base} where {expected} or more was expected"));
    }
    Ok(bytes)
}

/// Fills `buffer` from `position` on, as far as the file goes.
fn read_up_to(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], position + count as u64) {
            Ok(0) => break,
            Ok(read_bytes) => count += read_bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::ids::LeaderEpoch;
    use crate::protocol::batch::{BatchBuilder, patch_base_offset_and_epoch};
    use crate::protocol::compression::Codec;
    use crate::protocol::record::NewRecord;
    use std::io::Write as _;

    /// A batch of `count` records from `base` on.
    pub(in crate::cli) fn batch(base: i64, count: usize, codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for index in 0..count {
            let value = format!("value {} {}", base + index as i64, "x".repeat(40));
            let headers = [("trace", Some(&b"1"[..]))];
            builder.append(&NewRecord {
                timestamp: 1_700_000_000_000 + base + index as i64,
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                headers: &headers,
            });
        }
        let mut bytes = builder.finish();
        patch_base_offset_and_epoch(&mut bytes, Offset(base), LeaderEpoch(3));
        bytes
    }

    /// What a walk over `bytes` finds, as kind, first byte and last byte.
    fn walk(bytes: &[u8], base: i64) -> Vec<(&'static str, u64, u64)> {
        let mut file = tempfile::tempfile().expect("a temporary file can be made");
        file.write_all(bytes).expect("it can be written");
        let segment = SegmentFile::new(file, Some(Offset(base)));
        let mut findings = Vec::new();
        let outcome: io::Result<()> = segment.expect("it has a size").walk(|finding| {
            findings.push(match &finding {
                Finding::Batch { position, bytes } => {
                    ("batch", *position, position + bytes.len() as u64)
                }
                Finding::Damage { range, .. } => ("damage", range.start, range.end),
                Finding::Torn { range, .. } => ("torn", range.start, range.end),
                Finding::Foreign { range, .. } => ("foreign", range.start, range.end),
                Finding::Zeroes { range } => ("zeroes", range.start, range.end),
                Finding::Recycled { range } => ("recycled", range.start, range.end),
            });
            Ok(())
        });
        outcome.expect("nothing fails to be read");
        let ends = findings.iter().scan(0, |at, (_, start, end)| {
            let follows = *start == *at;
            *at = *end;
            Some(follows)
        });
        assert!(ends.into_iter().all(|follows| follows), "stretches touch: {findings:?}");
        findings
    }

    fn kinds(bytes: &[u8], base: i64) -> Vec<&'static str> {
        walk(bytes, base).into_iter().map(|(kind, _, _)| kind).collect()
    }

    /// Goal: whole files, closed and open, are whole. Method: batches, alone and before zeroes.
    #[test]
    fn batches_and_the_zeroes_behind_them_are_told_apart() {
        let data = [batch(5, 3, Codec::None), batch(8, 1, Codec::Zstd)].concat();
        assert_eq!(kinds(&data, 5), ["batch", "batch"]);
        assert!(walk(&[], 0).is_empty());
        for zeroes_count in [1, 60, 61, 4096, 3 * CHUNK_BYTES] {
            let file = [data.clone(), vec![0; zeroes_count]].concat();
            assert_eq!(kinds(&file, 0), ["batch", "batch", "zeroes"]);
        }
    }

    /// Goal: damage is named where it is, and what follows is still read. Method: flip each kind
    /// of byte of the first and the second of three batches.
    #[test]
    fn a_damaged_batch_before_valid_ones_is_damage() {
        let (one, two) = (batch(0, 3, Codec::None), batch(3, 2, Codec::None));
        let three = batch(5, 1, Codec::None);
        let data = [one.clone(), two.clone(), three].concat();
        for at in [10, 16, 18, 70, one.len() - 1] {
            let mut bent = data.clone();
            bent[at] ^= 0x55;
            assert_eq!(kinds(&bent, 0), ["damage", "batch", "batch"], "byte {at}");
            let mut bent = data.clone();
            bent[one.len() + at.min(two.len() - 1)] ^= 0x55;
            let found = walk(&bent, 0);
            let (start, end) = (one.len() as u64, (one.len() + two.len()) as u64);
            assert_eq!(found[1], ("damage", start, end), "byte {at}");
            assert_eq!(found.len(), 3);
        }
    }

    /// Goal: a write that was cut off is torn, not damage. Method: cut the last batch everywhere,
    /// with and without prepared space behind it.
    #[test]
    fn a_last_batch_that_was_cut_off_is_torn() {
        let (one, two) = (batch(0, 3, Codec::None), batch(3, 2, Codec::None));
        for cut in 1..two.len() {
            let file = [&one[..], &two[..cut]].concat();
            let zeroes = two[..cut].iter().all(|byte| *byte == 0);
            let kind = if zeroes { "zeroes" } else { "torn" };
            assert_eq!(kinds(&file, 0), ["batch", kind], "cut at {cut}");
            let padded = [&file[..], &vec![0; 9000]].concat();
            assert_eq!(kinds(&padded, 0), ["batch", kind], "cut at {cut}, then zeroes");
        }
    }

    /// Goal: what a recycled file held before is no fault. Method: older batches from the next
    /// block on, cut anywhere.
    #[test]
    fn older_batches_in_a_recycled_file_are_not_taken_for_new_ones() {
        let data = batch(1_000, 3, Codec::None);
        let block = data.len().next_multiple_of(DIRECT_ALIGN_BYTES);
        let older: Vec<u8> = (0..40).flat_map(|index| batch(index * 10, 10, Codec::None)).collect();
        for cut in [0, 1, 30, 61, 500, 4096] {
            let mut file = data.clone();
            file.resize(block, 0);
            file.extend_from_slice(&older[cut..]);
            assert_eq!(kinds(&file, 1_000), ["batch", "recycled"], "cut at {cut}");
        }
        assert_eq!(kinds(&older, 1_000), ["recycled"], "nothing was written yet");
    }
}
