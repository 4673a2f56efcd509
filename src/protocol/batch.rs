//! Record batches of format 2: the unit that producers send, logs hold and consumers get.
//!
//! The header is a view of the bytes; nothing is copied to look at it. A broker patches the base
//! offset and the leader epoch in place, since the checksum covers neither.

use super::compression::{self, Codec, CompressionError};
use super::record::{NewRecord, RecordError, Records};
use crate::base::ids::{LeaderEpoch, Offset};
use std::borrow::Cow;
use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use super::produce::{ProduceError, ProduceLimits, ProducedBatches, validate_produce};

/// The format that is written and read here.
pub const MAGIC: i8 = 2;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = size_of::<BatchHeader>();

/// Bytes in front that a batch's own length does not count: base offset and the length itself.
pub const PREFIX_BYTES: usize = 12;

/// Where the checksum's cover begins: behind the checksum.
pub const CRC_FROM: usize = 21;

/// What Kafka writes for "no timestamp".
pub const NO_TIMESTAMP: i64 = -1;
/// What Kafka writes for "no producer id".
pub const NO_PRODUCER_ID: i64 = -1;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The first bytes of a batch.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    pub base_offset: I64,
    /// Bytes of the batch behind this field.
    pub length: I32,
    pub leader_epoch: I32,
    pub magic: i8,
    /// CRC-32C of all that follows it.
    pub crc: U32,
    pub attributes: I16,
    pub last_offset_delta: I32,
    pub base_timestamp: I64,
    pub max_timestamp: I64,
    pub producer_id: I64,
    pub producer_epoch: I16,
    pub base_sequence: I32,
    pub records_count: I32,
}

const _: () = assert!(HEADER_BYTES == 61, "the header is what Kafka's format says");

/// Bytes that are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The end of a fetch answer or of a log may be in the middle of a batch.
    #[error("a batch of {need_bytes} bytes or more is cut off after {have_bytes}")]
    Incomplete { need_bytes: usize, have_bytes: usize },
    #[error("a batch of length {length}; the least is {}", HEADER_BYTES - PREFIX_BYTES)]
    BadLength { length: i32 },
    #[error("a batch of magic {magic}; {MAGIC} is served")]
    BadMagic { magic: i8 },
    #[error("a batch has checksum {computed:#010x}, {stored:#010x} is stored")]
    BadCrc { stored: u32, computed: u32 },
}

/// One batch, whole, in somebody's memory.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes`, which may go on behind it. The checksum is not looked at.
    ///
    /// # Errors
    /// [`BatchError`], all but `BadCrc`.
    pub fn first(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let have_bytes = bytes.len();
        let Ok((header, _)) = BatchHeader::ref_from_prefix(bytes) else {
            return Err(BatchError::Incomplete { need_bytes: HEADER_BYTES, have_bytes });
        };
        if header.magic != MAGIC {
            return Err(BatchError::BadMagic { magic: header.magic });
        }
        let length = header.length.get();
        if length < (HEADER_BYTES - PREFIX_BYTES) as i32 {
            return Err(BatchError::BadLength { length });
        }
        let need_bytes = PREFIX_BYTES + length as usize;
        let Some(bytes) = bytes.get(..need_bytes) else {
            return Err(BatchError::Incomplete { need_bytes, have_bytes });
        };
        Ok(BatchView { header, bytes })
    }

    /// The fields in front.
    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.header.base_offset.get())
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        let delta = i64::from(self.header.last_offset_delta.get());
        Offset(self.header.base_offset.get().saturating_add(delta))
    }

    /// Offset that follows the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Epoch of the leader that took the batch.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.header.leader_epoch.get())
    }

    /// Largest timestamp of a record, as the header says.
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp.get()
    }

    /// How many records there are, as the header says; 0 if it says less.
    pub fn records_count(&self) -> u32 {
        self.header.records_count.get().max(0) as u32
    }

    /// How the records are compressed; `None` for a number without codec.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_number((self.header.attributes.get() & CODEC_MASK) as u8)
    }

    /// Whether the broker's time replaces the records' own.
    pub fn has_log_append_time(&self) -> bool {
        self.header.attributes.get() & LOG_APPEND_TIME != 0
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.header.attributes.get() & TRANSACTIONAL != 0
    }

    /// Whether the record is a marker that no consumer hands on.
    pub fn is_control(&self) -> bool {
        self.header.attributes.get() & CONTROL != 0
    }

    /// The timestamp of a record whose delta this is.
    pub fn timestamp(&self, timestamp_delta: i64) -> i64 {
        if self.has_log_append_time() {
            return self.max_timestamp();
        }
        self.header.base_timestamp.get().wrapping_add(timestamp_delta)
    }

    /// Compares the stored checksum with the bytes'.
    ///
    /// # Errors
    /// [`BatchError::BadCrc`]: they differ.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let stored = self.header.crc.get();
        let computed = crc32c::crc32c(&self.bytes[CRC_FROM..]);
        if stored == computed { Ok(()) } else { Err(BatchError::BadCrc { stored, computed }) }
    }

    /// The records as they lie in the batch: compressed, if it is.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The uncompressed records' bytes; borrowed where the batch is not compressed. Walk them with
    /// [`BatchView::records_in`].
    ///
    /// # Errors
    /// The codec is unknown, or the records do not decompress within `bytes_max`.
    pub fn decompressed(&self, bytes_max: usize) -> Result<Cow<'a, [u8]>, RecordsError> {
        match self.codec() {
            None => Err(RecordsError::UnknownCodec { attributes: self.header.attributes.get() }),
            Some(Codec::None) => Ok(Cow::Borrowed(self.payload())),
            Some(codec) => {
                Ok(Cow::Owned(compression::decompress(codec, self.payload(), bytes_max)?))
            }
        }
    }

    /// The records in `decompressed`, which came from this batch.
    pub fn records_in<'b>(&self, decompressed: &'b [u8]) -> Records<'b> {
        Records::new(decompressed, self.records_count())
    }
}

/// Records that can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("a batch with attributes {attributes:#x} has no codec that is known")]
    UnknownCodec { attributes: i16 },
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Walks over batches that lie one behind the other; ends after the first error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The batches that fill `bytes`.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { rest: bytes }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::first(self.rest);
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.bytes.len()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// Gives the batch at the front of `bytes` its place in the log.
///
/// # Panics
/// There is no header there: callers patch what was validated.
pub fn patch_base_offset_and_epoch(bytes: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    let header = header_mut(bytes);
    header.base_offset = I64::new(base_offset.0);
    header.leader_epoch = I32::new(epoch.0);
}

/// Marks the batch as stamped by the broker at `now_ms`. The checksum is made anew: reads it all.
///
/// # Panics
/// There is no whole batch there: callers patch what was validated.
pub fn patch_log_append_time(bytes: &mut [u8], now_ms: i64) {
    let header = header_mut(bytes);
    header.attributes = I16::new(header.attributes.get() | LOG_APPEND_TIME);
    header.max_timestamp = I64::new(now_ms);
    write_crc(bytes);
}

/// Corrects the header's largest timestamp. The checksum is made anew: reads it all.
///
/// # Panics
/// There is no whole batch there: callers patch what was validated.
pub fn patch_max_timestamp(bytes: &mut [u8], max_timestamp: i64) {
    header_mut(bytes).max_timestamp = I64::new(max_timestamp);
    write_crc(bytes);
}

/// Makes the header true for other bytes of the same records behind it, which fill `bytes` and are
/// in `codec`: length, codec and checksum.
///
/// # Panics
/// There is no header, or the batch is 2 GiB or more: callers bound what they build.
pub fn patch_payload(bytes: &mut [u8], codec: Codec) {
    let length = i32::try_from(bytes.len() - PREFIX_BYTES).expect("a batch is below 2 GiB");
    let header = header_mut(bytes);
    header.length = I32::new(length);
    header.attributes = I16::new(header.attributes.get() & !CODEC_MASK | codec as i16);
    write_crc(bytes);
}

fn header_mut(bytes: &mut [u8]) -> &mut BatchHeader {
    let (header, _) = BatchHeader::mut_from_prefix(bytes).expect("a validated batch has a header");
    header
}

fn write_crc(bytes: &mut [u8]) {
    let length = header_mut(bytes).length.get() as usize;
    let crc = crc32c::crc32c(&bytes[CRC_FROM..PREFIX_BYTES + length]);
    header_mut(bytes).crc = U32::new(crc);
}

/// Who made a batch, for idempotence and transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchProducer {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
}

/// Makes one batch of records.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>, // room for the header, then uncompressed records
    codec: Codec,
    producer: Option<BatchProducer>,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            bytes: vec![0; HEADER_BYTES],
            codec,
            producer: None,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            count: 0,
        }
    }

    /// Says who made it.
    #[must_use]
    pub fn with_producer(mut self, producer: BatchProducer) -> BatchBuilder {
        self.producer = Some(producer);
        self
    }

    /// Appends a record; its offset delta is the number of records before it.
    pub fn append(&mut self, record: &NewRecord<'_>) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        record.write(&mut self.bytes, self.base_timestamp, self.count);
        self.count += 1;
    }

    /// How many records there are.
    pub fn records_count(&self) -> usize {
        self.count as usize
    }

    /// Size before compression, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch, with base offset 0 and leader epoch -1, as a producer sends it.
    ///
    /// # Panics
    /// No record was appended: a batch has at least one.
    pub fn finish(self) -> Vec<u8> {
        assert!(self.count > 0, "a batch has at least one record");
        let BatchBuilder { mut bytes, codec, producer, .. } = self;
        if codec != Codec::None {
            let compressed = compression::compress(codec, &bytes[HEADER_BYTES..]);
            bytes.truncate(HEADER_BYTES);
            bytes.extend_from_slice(&compressed);
        }
        let transactional = producer.is_some_and(|producer| producer.transactional);
        let length = i32::try_from(bytes.len() - PREFIX_BYTES).expect("a batch is below 2 GiB");
        let header = BatchHeader {
            base_offset: I64::new(0),
            length: I32::new(length),
            leader_epoch: I32::new(LeaderEpoch::UNKNOWN.0),
            magic: MAGIC,
            crc: U32::new(0),
            attributes: I16::new(codec as i16 | if transactional { TRANSACTIONAL } else { 0 }),
            last_offset_delta: I32::new(self.count - 1),
            base_timestamp: I64::new(self.base_timestamp),
            max_timestamp: I64::new(self.max_timestamp),
            producer_id: I64::new(producer.map_or(NO_PRODUCER_ID, |producer| producer.id)),
            producer_epoch: I16::new(producer.map_or(-1, |producer| producer.epoch)),
            base_sequence: I32::new(producer.map_or(-1, |producer| producer.base_sequence)),
            records_count: I32::new(self.count),
        };
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        write_crc(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three records with timestamps 1000, 1005 and 1002.
    fn batch(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for (timestamp, value) in [(1_000, "first"), (1_005, "second"), (1_002, "third")] {
            let value = Some(value.as_bytes());
            builder.append(&NewRecord { timestamp, value, ..NewRecord::default() });
        }
        builder.finish()
    }

    /// Goal: what was built reads back. Method: each codec, header and records.
    #[test]
    fn a_built_batch_reads_back() {
        for codec in Codec::ALL {
            let bytes = batch(codec);
            let view = BatchView::first(&bytes).expect("it is whole");
            view.check_crc().expect("it was just made");
            assert_eq!(view.codec(), Some(codec));
            assert_eq!((view.records_count(), view.max_timestamp()), (3, 1_005));
            assert_eq!((view.base_offset(), view.last_offset()), (Offset(0), Offset(2)));
            let decompressed = view.decompressed(1 << 20).expect("it is valid");
            let records: Result<Vec<_>, _> = view.records_in(&decompressed).collect();
            let records = records.expect("it is valid");
            let values: Vec<_> = records.iter().map(|record| record.value).collect();
            assert_eq!(values, [Some(&b"first"[..]), Some(b"second"), Some(b"third")]);
            assert_eq!(view.timestamp(records[2].timestamp_delta), 1_002);
        }
    }

    /// Goal: a log's place leaves the checksum true; the broker's time makes it anew. Method:
    /// patch.
    #[test]
    fn patches_keep_the_checksum_true() {
        let mut bytes = batch(Codec::Lz4);
        bytes.extend_from_slice(&batch(Codec::None));
        patch_base_offset_and_epoch(&mut bytes, Offset(70), LeaderEpoch(4));
        patch_log_append_time(&mut bytes, 9_999);
        let batches: Result<Vec<_>, _> = Batches::new(&bytes).collect();
        let batches = batches.expect("both are whole");
        assert!(batches.iter().all(|batch| batch.check_crc().is_ok()));
        assert_eq!(batches[0].leader_epoch(), LeaderEpoch(4));
        assert_eq!(batches[0].next_offset(), Offset(73));
        assert_eq!((batches[0].timestamp(0), batches[1].timestamp(5)), (9_999, 1_005));
    }

    /// Goal: every way to be no batch is told apart. Method: cut everywhere; bend magic, length,
    /// body.
    #[test]
    fn bytes_that_are_no_batch_say_why() {
        let bytes = batch(Codec::None);
        for cut in 1..bytes.len() {
            let mut batches = Batches::new(&bytes[..cut]);
            let error = batches.next().expect("there is something").expect_err("it is cut");
            assert!(matches!(error, BatchError::Incomplete { .. }), "{cut}");
            assert!(batches.next().is_none());
        }
        let bent = |position: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[position] = value;
            BatchView::first(&bytes).and_then(|batch| batch.check_crc()).expect_err("it is bent")
        };
        assert_eq!(bent(16, 1), BatchError::BadMagic { magic: 1 });
        assert!(matches!(bent(8, 0xff), BatchError::BadLength { .. }));
        assert!(matches!(bent(8, 0x7f), BatchError::Incomplete { .. }));
        assert!(matches!(bent(70, 0xaa), BatchError::BadCrc { .. }));
    }
}
