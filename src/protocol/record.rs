//! The records inside a batch: variable-length numbers, keys, values and headers.
//!
//! Everything borrows from the batch. A record is read strictly: its declared length holds exactly
//! its parts.

use std::io::{self, Read};

/// Buffer of a [`Scanner`], bytes: a few snappy or LZ4 blocks' worth of calls less.
const SCAN_BYTES: usize = 16 * 1024;

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record {index}: cut off")]
    Truncated { index: u32 },
    #[error("record {index}: a variable-length number does not end")]
    VarintTooLong { index: u32 },
    #[error("record {index}: a length of {length} bytes")]
    BadLength { index: u32, length: i64 },
    #[error("record {index}: its parts do not fill its length")]
    LengthMismatch { index: u32 },
    #[error("{count_bytes} bytes are left after the last record")]
    TrailingBytes { count_bytes: usize },
}

/// One record, as it lies in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers_count: u32,
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// The headers in order, key and value; keys are text by custom only. They were checked when
    /// the record was read.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor { bytes: self.headers, index: 0 };
        (0..self.headers_count).map_while(move |_| cursor.header().ok())
    }

    /// How many headers there are.
    pub fn headers_count(&self) -> usize {
        self.headers_count as usize
    }
}

/// Walks over the uncompressed records of a batch.
#[derive(Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    count: u32,
}

impl<'a> Records<'a> {
    /// The `count` records that fill `bytes`.
    pub fn new(bytes: &'a [u8], count: u32) -> Records<'a> {
        Records { cursor: Cursor { bytes, index: 0 }, count }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.index == self.count {
            let count_bytes = std::mem::take(&mut self.cursor.bytes).len();
            return (count_bytes > 0).then_some(Err(RecordError::TrailingBytes { count_bytes }));
        }
        let record = self.cursor.record();
        match record {
            Ok(_) => self.cursor.index += 1,
            Err(_) => *self = Records::new(&[], 0), // what follows has no beginning
        }
        Some(record)
    }
}

/// Reads from the front of bytes; `index` is the record's, for the error.
#[derive(Debug, Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    index: u32,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let split = self.bytes.split_at_checked(count);
        let (head, tail) = split.ok_or(RecordError::Truncated { index: self.index })?;
        self.bytes = tail;
        Ok(head)
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordError> {
        match self.bytes {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.bytes = rest;
                Ok(unzigzag(u64::from(*byte)))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.bytes = rest;
                Ok(unzigzag(u64::from(*low & 0x7f) | u64::from(*high) << 7))
            }
            _ => self.varlong_of_many_bytes(),
        }
    }

    fn varlong_of_many_bytes(&mut self) -> Result<i64, RecordError> {
        let (value, count) = match varlong(self.bytes) {
            Varlong::Whole { value, bytes } => (value, bytes),
            Varlong::Truncated => return Err(RecordError::Truncated { index: self.index }),
            Varlong::TooLong => return Err(RecordError::VarintTooLong { index: self.index }),
        };
        self.bytes = &self.bytes[count..];
        Ok(value)
    }

    /// A number that Kafka holds in 32 bits.
    #[inline]
    fn varint(&mut self) -> Result<i32, RecordError> {
        let value = self.varlong()?;
        i32::try_from(value).map_err(|_| RecordError::VarintTooLong { index: self.index })
    }

    #[inline]
    fn blob(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length @ 0.. => self.take(length as usize).map(Some),
            length => Err(RecordError::BadLength { index: self.index, length: length.into() }),
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
        let index = self.index;
        let key = self.blob()?.ok_or(RecordError::BadLength { index, length: -1 })?;
        Ok((key, self.blob()?))
    }

    #[inline]
    fn record(&mut self) -> Result<Record<'a>, RecordError> {
        let index = self.index;
        let length = self.varint()?;
        let length = usize::try_from(length)
            .map_err(|_| RecordError::BadLength { index, length: length.into() })?;
        Cursor { bytes: self.take(length)?, index }.record_body()
    }

    #[inline]
    fn record_body(mut self) -> Result<Record<'a>, RecordError> {
        let index = self.index;
        self.take(1)?; // attributes: none are defined
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let key = self.blob()?;
        let value = self.blob()?;
        let headers_count = self.varint()?;
        let headers_count = u32::try_from(headers_count)
            .map_err(|_| RecordError::BadLength { index, length: headers_count.into() })?;
        let headers = self.bytes;
        for _ in 0..headers_count {
            self.header()?;
        }
        if !self.bytes.is_empty() {
            return Err(RecordError::LengthMismatch { index });
        }
        Ok(Record { timestamp_delta, offset_delta, key, value, headers_count, headers })
    }
}

/// The outcome of reading a number from the front of bytes.
enum Varlong {
    Whole { value: i64, bytes: usize },
    Truncated,
    TooLong,
}

/// A zigzag number of 7 bits a byte, 10 bytes at most.
fn varlong(bytes: &[u8]) -> Varlong {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate() {
        if index == 9 && *byte > 1 {
            return Varlong::TooLong;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Varlong::Whole { value: unzigzag(value), bytes: index + 1 };
        }
    }
    Varlong::Truncated
}

/// What a broker has to know of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    pub timestamp_delta: i64,
    pub offset_delta: i64,
    pub has_key: bool,
}

/// Walks over records that come from a reader, skipping keys, values and headers: holds
/// [`SCAN_BYTES`] whatever the records' sizes.
pub struct Scanner<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    index: u32,
    left_bytes: u64, // of the record that is being read
}

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Source(#[from] io::Error),
}

impl<R: Read> Scanner<R> {
    /// Over all that `source` gives.
    pub fn new(source: R) -> Scanner<R> {
        let buffer = vec![0; SCAN_BYTES].into_boxed_slice();
        Scanner { source, buffer, start: 0, end: 0, index: 0, left_bytes: 0 }
    }

    /// The reader that was given.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The next record.
    ///
    /// # Errors
    /// The bytes are no record, end before it does, or can't be read.
    pub fn next_record(&mut self) -> Result<RecordFacts, ScanError> {
        let index = self.index;
        self.left_bytes = u64::MAX;
        let length = self.varlong()?;
        let in_32_bits = i32::try_from(length).ok().and_then(|length| u64::try_from(length).ok());
        self.left_bytes = in_32_bits.ok_or(RecordError::BadLength { index, length })?;
        self.skip(1)?; // attributes: none are defined
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varlong()?;
        let has_key = self.skip_blob(-1)?;
        self.skip_blob(-1)?;
        let headers_count = self.varlong()?;
        if !(0..=i64::from(i32::MAX)).contains(&headers_count) {
            return Err(RecordError::BadLength { index, length: headers_count }.into());
        }
        for _ in 0..headers_count {
            self.skip_blob(0)?;
            self.skip_blob(-1)?;
        }
        if self.left_bytes != 0 {
            return Err(RecordError::LengthMismatch { index }.into());
        }
        self.index += 1;
        Ok(RecordFacts { timestamp_delta, offset_delta, has_key })
    }

    /// Nothing follows.
    ///
    /// # Errors
    /// Something does, or it can't be read.
    pub fn finish(&mut self) -> Result<(), ScanError> {
        if self.start == self.end {
            self.refill()?;
        }
        match self.end - self.start {
            0 => Ok(()),
            count_bytes => Err(RecordError::TrailingBytes { count_bytes }.into()),
        }
    }

    /// Reads more into the empty buffer; leaves it empty at the end.
    fn refill(&mut self) -> Result<(), io::Error> {
        self.start = 0;
        self.end = self.source.read(&mut self.buffer)?;
        Ok(())
    }

    /// Takes up to `count_max` bytes that are there; at least one.
    #[inline]
    fn take(&mut self, count_max: u64) -> Result<&[u8], ScanError> {
        if self.left_bytes == 0 {
            return Err(RecordError::LengthMismatch { index: self.index }.into());
        }
        if self.start == self.end {
            self.refill()?;
            if self.end == 0 {
                return Err(RecordError::Truncated { index: self.index }.into());
            }
        }
        let count = count_max.min(self.left_bytes).min((self.end - self.start) as u64);
        let start = self.start;
        self.start += count as usize;
        self.left_bytes -= count;
        Ok(&self.buffer[start..self.start])
    }

    fn skip(&mut self, mut count: u64) -> Result<(), ScanError> {
        while count > 0 {
            count -= self.take(count)?.len() as u64;
        }
        Ok(())
    }

    /// Skips a key or value; says whether it was not null.
    fn skip_blob(&mut self, length_min: i64) -> Result<bool, ScanError> {
        let length = self.varlong()?;
        if length < length_min || length > i64::from(i32::MAX) {
            return Err(RecordError::BadLength { index: self.index, length }.into());
        }
        self.skip(length.max(0) as u64)?;
        Ok(length >= 0)
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, ScanError> {
        let mut value = 0u64;
        for index in 0..10 {
            let byte = self.take(1)?[0];
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(unzigzag(value));
            }
        }
        Err(RecordError::VarintTooLong { index: self.index }.into())
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varlong_bytes(value: i64) -> usize {
    let value = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn blob_bytes(blob: Option<&[u8]>) -> usize {
    let length = blob.map_or(-1, |blob| blob.len() as i64);
    varlong_bytes(length) + blob.map_or(0, <[u8]>::len)
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    put_varlong(out, blob.map_or(-1, |blob| blob.len() as i64));
    out.extend_from_slice(blob.unwrap_or_default());
}

/// A record to be put into a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Unix time, ms.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl NewRecord<'_> {
    /// Appends it to `out` as record `offset_delta` of a batch that begins at `base_timestamp`.
    pub(super) fn write(&self, out: &mut Vec<u8>, base_timestamp: i64, offset_delta: i32) {
        let timestamp_delta = self.timestamp - base_timestamp;
        let headers = self.headers.iter();
        let headers_bytes: usize =
            headers.map(|(key, value)| blob_bytes(Some(key.as_bytes())) + blob_bytes(*value)).sum();
        let length = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(offset_delta.into())
            + blob_bytes(self.key)
            + blob_bytes(self.value)
            + varlong_bytes(self.headers.len() as i64)
            + headers_bytes;
        put_varlong(out, length as i64);
        let start = out.len();
        out.push(0); // attributes
        put_varlong(out, timestamp_delta);
        put_varlong(out, offset_delta.into());
        put_blob(out, self.key);
        put_blob(out, self.value);
        put_varlong(out, self.headers.len() as i64);
        for (key, value) in self.headers {
            put_blob(out, Some(key.as_bytes()));
            put_blob(out, *value);
        }
        assert_eq!(out.len() - start, length, "the length was computed from the same parts");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: numbers of every length survive. Method: around each power of two, both signs.
    #[test]
    fn variable_length_numbers_read_back() {
        for shift in 0..64 {
            for value in [1i64 << shift, (1i64 << shift).wrapping_sub(1), -(1i64 << (shift / 2))] {
                let mut bytes = Vec::new();
                put_varlong(&mut bytes, value);
                assert_eq!(bytes.len(), varlong_bytes(value));
                let mut cursor = Cursor { bytes: &bytes, index: 0 };
                assert_eq!(cursor.varlong(), Ok(value));
                assert!(cursor.bytes.is_empty());
            }
        }
        let endless = [0xff; 11];
        let mut cursor = Cursor { bytes: &endless, index: 3 };
        assert_eq!(cursor.varlong(), Err(RecordError::VarintTooLong { index: 3 }));
    }

    /// Goal: a record comes back with all its parts, and no part of it alone does. Method: with and
    /// without key, value and headers; every truncation.
    #[test]
    fn a_record_reads_back_and_its_pieces_do_not() {
        let headers = [("trace", Some(&b"abc"[..])), ("empty", None)];
        for (key, value) in [(None, None), (Some(&b"k"[..]), Some(&b"value"[..]))] {
            let new = NewRecord { timestamp: 1_007, key, value, headers: &headers };
            let mut bytes = Vec::new();
            new.write(&mut bytes, 1_000, 0);
            let records: Result<Vec<_>, _> = Records::new(&bytes, 1).collect();
            let record = records.expect("it is whole")[0];
            assert_eq!((record.timestamp_delta, record.offset_delta), (7, 0));
            assert_eq!((record.key, record.value), (key, value));
            assert!(
                record.headers().eq(headers.iter().map(|(key, value)| (key.as_bytes(), *value)))
            );
            for cut in 0..bytes.len() {
                assert!(Records::new(&bytes[..cut], 1).any(|record| record.is_err()), "{cut}");
            }
            let mut few = Records::new(&bytes, 0);
            assert!(matches!(few.next(), Some(Err(RecordError::TrailingBytes { .. }))));
            assert_eq!(few.next(), None);
        }
    }

    /// Goal: the scanner sees what the iterator sees, and refuses what it refuses. Method: records
    /// larger than the buffer; every truncation of short ones.
    #[test]
    fn a_scan_agrees_with_the_iterator() {
        let large = vec![7; 3 * SCAN_BYTES];
        let headers = [("trace", Some(&b"abc"[..])), ("empty", None)];
        let mut bytes = Vec::new();
        for (index, value) in [&large[..], b"", b"short"].into_iter().enumerate() {
            let key = (index == 1).then_some(&b"key"[..]);
            let new = NewRecord { timestamp: 5, key, value: Some(value), headers: &headers };
            new.write(&mut bytes, 0, index as i32);
        }
        let mut scanner = Scanner::new(&bytes[..]);
        for record in Records::new(&bytes, 3) {
            let record = record.expect("it is whole");
            let facts = scanner.next_record().expect("it is whole");
            assert_eq!(facts.offset_delta, i64::from(record.offset_delta));
            assert_eq!((facts.timestamp_delta, facts.has_key), (5, record.key.is_some()));
        }
        scanner.finish().expect("there were three");
        let short = &bytes[bytes.len() - 30..];
        let start = (0..30).find(|start| Records::new(&short[*start..], 1).all(|r| r.is_ok()));
        let short = &short[start.expect("the last record is short")..];
        for cut in 0..short.len() {
            assert!(Scanner::new(&short[..cut]).next_record().is_err(), "{cut}");
        }
    }
}
