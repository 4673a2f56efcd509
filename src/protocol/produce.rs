//! What a broker checks of a batch before it appends it: Kafka's rules, in Kafka's order.
//!
//! A batch that passed can be appended, indexed and read by every consumer: its checksum, its
//! counts and each record's frame are true. Compressed records are decompressed for that, as Kafka
//! does, through a small buffer.

use super::batch::{
    BatchError, BatchHeader, BatchProducer, BatchView, NO_PRODUCER_ID, NO_TIMESTAMP,
};
use super::compression::{Codec, CompressionError, Decompressor};
use super::error::ErrorCode;
use super::record::{RecordError, RecordFacts, Records, ScanError, Scanner};
use crate::base::limits::REQUEST_BYTES_MAX;

/// Most records of a batch that are named as being at fault: an answer stays below 1 MB.
pub const FAULTS_MAX: usize = 10_000;

/// The first version of Produce that may carry zstd.
const ZSTD_FROM_VERSION: i16 = 7;

/// Most bytes that a batch's records may decompress to: as much as an uncompressed request.
const DECOMPRESSED_BYTES_MAX: usize = REQUEST_BYTES_MAX;

/// What the topic and the request allow.
#[derive(Debug, Clone, Copy)]
pub struct ProduceLimits {
    /// Version of the Produce request that carried the batch.
    pub version: i16,
    /// `max.message.bytes`.
    pub batch_bytes_max: usize,
    pub now_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_ms_max: i64,
    /// `message.timestamp.type` is `LogAppendTime`: the records' own times do not matter.
    pub log_append_time: bool,
    /// The topic is compacted: every record needs a key.
    pub keys_required: bool,
}

impl ProduceLimits {
    /// Kafka's defaults, at `now_ms`, for the newest version.
    pub fn defaults(now_ms: i64) -> ProduceLimits {
        const HOUR_MS: i64 = 3_600_000;
        ProduceLimits {
            version: i16::MAX,
            batch_bytes_max: crate::base::limits::MESSAGE_BYTES_MAX,
            now_ms,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: HOUR_MS,
            log_append_time: false,
            keys_required: false,
        }
    }
}

/// What is known of a batch that may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducedBatches {
    pub records_count: u32,
    pub codec: Codec,
    /// Bytes of the records without compression.
    pub uncompressed_bytes: usize,
    /// Largest timestamp of a record.
    pub max_timestamp: i64,
    /// The header says another: correct it with `batch::patch_max_timestamp` where it is copied
    /// to.
    pub max_timestamp_differs: bool,
    /// Who sent it, if that producer numbers what it sends.
    pub producer: Option<BatchProducer>,
    /// It is part of a transaction.
    pub transactional: bool,
}

/// Why a batch may not be appended.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("there is no whole batch: {0}")]
    NoBatch(BatchError),
    #[error("more than one batch")]
    ManyBatches,
    #[error(transparent)]
    Corrupt(BatchError),
    #[error("a batch of magic {magic}; only 2 is taken")]
    Magic { magic: i8 },
    #[error("a batch of {batch_bytes} bytes; the topic allows {batch_bytes_max}")]
    TooLarge { batch_bytes: usize, batch_bytes_max: usize },
    #[error("in {codec} the batch has more than the {batch_bytes_max} bytes that the topic allows")]
    TooLargeRecompressed { codec: Codec, batch_bytes_max: usize },
    #[error("codec {number} is not known")]
    UnknownCodec { number: i16 },
    #[error("zstd needs version {ZSTD_FROM_VERSION} of the request")]
    ZstdTooEarly,
    #[error("base offset {0}; producers send 0")]
    BaseOffset(i64),
    #[error("{records_count} records with last offset delta {last_offset_delta}")]
    Count { records_count: i32, last_offset_delta: i32 },
    #[error("clients may not write control batches")]
    Control,
    #[error("sequence number {0} from a producer with an id")]
    Sequence(i32),
    #[error("record {index} has offset delta {offset_delta}")]
    OffsetDelta { index: u32, offset_delta: i64 },
    #[error("record {} has no key, and the topic is compacted; so it is with {} in all",
        indexes[0], indexes.len())]
    NoKey { indexes: Vec<u32> },
    #[error("a record has timestamp {timestamp}, which the topic does not allow now; record {} is \
        the first of {} at fault", indexes[0], indexes.len())]
    Timestamp { indexes: Vec<u32>, timestamp: i64 },
    #[error("the batch claims to bear the broker's time")]
    TimestampType,
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

impl ProduceError {
    /// The code to answer with: Kafka's, but for codecs, where Kafka knows no better than
    /// UNKNOWN_SERVER_ERROR.
    pub fn code(&self) -> ErrorCode {
        match self {
            ProduceError::Corrupt(_) => ErrorCode::CorruptMessage,
            ProduceError::TooLarge { .. } | ProduceError::TooLargeRecompressed { .. } => {
                ErrorCode::MessageTooLarge
            }
            ProduceError::UnknownCodec { .. } | ProduceError::ZstdTooEarly => {
                ErrorCode::UnsupportedCompressionType
            }
            ProduceError::Timestamp { .. } | ProduceError::TimestampType => {
                ErrorCode::InvalidTimestamp
            }
            // Records that do not decompress under a true checksum never will: CORRUPT_MESSAGE
            // would have the producer send them again and again.
            _ => ErrorCode::InvalidRecord,
        }
    }

    /// Indexes of the records that are at fault, ascending, where single ones are (KIP-467). At
    /// most [`FAULTS_MAX`].
    pub fn record_indexes(&self) -> &[u32] {
        match self {
            ProduceError::OffsetDelta { index, .. } => std::slice::from_ref(index),
            ProduceError::NoKey { indexes } | ProduceError::Timestamp { indexes, .. } => indexes,
            _ => &[],
        }
    }
}

/// Checks the records of one partition in a Produce request: exactly one batch, true in all it
/// says.
///
/// Reads every byte once for the checksum and walks the records; allocates for compressed ones
/// only.
///
/// # Errors
/// See [`ProduceError`]; nothing of the batch may be appended.
pub fn validate_produce(
    bytes: &[u8],
    limits: &ProduceLimits,
) -> Result<ProducedBatches, ProduceError> {
    let batch = BatchView::first(bytes).map_err(|error| match error {
        BatchError::BadMagic { magic: magic @ 0..=1 } => ProduceError::Magic { magic },
        BatchError::Incomplete { .. } => ProduceError::NoBatch(error),
        _ => ProduceError::Corrupt(error),
    })?;
    let batch_bytes = batch.bytes().len();
    if batch_bytes != bytes.len() {
        return Err(ProduceError::ManyBatches);
    }
    let attributes = batch.header().attributes.get();
    let number = attributes & 0x07;
    let codec = batch.codec().ok_or(ProduceError::UnknownCodec { number })?;
    if codec == Codec::Zstd && limits.version < ZSTD_FROM_VERSION {
        return Err(ProduceError::ZstdTooEarly);
    }
    let batch_bytes_max = limits.batch_bytes_max;
    if batch_bytes > batch_bytes_max {
        return Err(ProduceError::TooLarge { batch_bytes, batch_bytes_max });
    }
    batch.check_crc().map_err(ProduceError::Corrupt)?;
    let producer = check_header(&batch)?;
    let mut walk = Walk::new(batch.header(), limits);
    let uncompressed_bytes = match codec {
        Codec::None => walk.over_slice(batch.payload())?,
        _ => walk.over_compressed(codec, batch.payload())?,
    };
    walk.faults()?;
    Ok(ProducedBatches {
        records_count: walk.records_count,
        codec,
        uncompressed_bytes,
        max_timestamp: walk.max_timestamp,
        max_timestamp_differs: walk.max_timestamp != batch.max_timestamp(),
        producer,
        transactional: batch.is_transactional(),
    })
}

/// The rules that need no look at the records.
fn check_header(batch: &BatchView<'_>) -> Result<Option<BatchProducer>, ProduceError> {
    let header = batch.header();
    let (base_offset, records_count, last_offset_delta) =
        (header.base_offset.get(), header.records_count.get(), header.last_offset_delta.get());
    if base_offset != 0 {
        return Err(ProduceError::BaseOffset(base_offset));
    }
    if records_count <= 0 || last_offset_delta != records_count - 1 {
        return Err(ProduceError::Count { records_count, last_offset_delta });
    }
    if batch.is_control() {
        return Err(ProduceError::Control);
    }
    if batch.has_log_append_time() {
        return Err(ProduceError::TimestampType);
    }
    let id = header.producer_id.get();
    if id <= NO_PRODUCER_ID {
        return Ok(None);
    }
    let base_sequence = header.base_sequence.get();
    if base_sequence < 0 {
        return Err(ProduceError::Sequence(base_sequence));
    }
    let epoch = header.producer_epoch.get();
    Ok(Some(BatchProducer { id, epoch, base_sequence, transactional: batch.is_transactional() }))
}

/// One pass over the records of a batch.
struct Walk<'l> {
    limits: &'l ProduceLimits,
    records_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    fault_indexes: Vec<u32>, // of records that the topic does not allow; the walk goes on
    first_bad_timestamp: Option<i64>,
}

impl<'l> Walk<'l> {
    fn new(header: &BatchHeader, limits: &'l ProduceLimits) -> Walk<'l> {
        Walk {
            limits,
            records_count: header.records_count.get() as u32, // positive: checked before
            base_timestamp: header.base_timestamp.get(),
            max_timestamp: NO_TIMESTAMP,
            fault_indexes: Vec::new(),
            first_bad_timestamp: None,
        }
    }

    /// What the walk has found out about single records: a timestamp gives the code, as in Kafka.
    fn faults(&mut self) -> Result<(), ProduceError> {
        let indexes = std::mem::take(&mut self.fault_indexes);
        match self.first_bad_timestamp {
            _ if indexes.is_empty() => Ok(()),
            Some(timestamp) => Err(ProduceError::Timestamp { indexes, timestamp }),
            None => Err(ProduceError::NoKey { indexes }),
        }
    }

    /// Both walks return how many bytes the records have without compression.
    fn over_slice(&mut self, payload: &[u8]) -> Result<usize, ProduceError> {
        for (index, record) in (0..).zip(Records::new(payload, self.records_count)) {
            let record = record?;
            let facts = RecordFacts {
                timestamp_delta: record.timestamp_delta,
                offset_delta: record.offset_delta.into(),
                has_key: record.key.is_some(),
            };
            self.check(index, facts)?;
        }
        Ok(payload.len())
    }

    fn over_compressed(&mut self, codec: Codec, payload: &[u8]) -> Result<usize, ProduceError> {
        let mut scanner = Scanner::new(Decompressor::new(codec, payload, DECOMPRESSED_BYTES_MAX)?);
        let mut result = Ok(());
        for index in 0..self.records_count {
            match scanner.next_record() {
                Ok(facts) => self.check(index, facts)?,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        match result.and_then(|()| scanner.finish()) {
            Ok(()) => Ok(scanner.source().taken_bytes()),
            Err(ScanError::Record(error)) => Err(error.into()),
            Err(ScanError::Source(error)) => Err(scanner.source().error(error).into()),
        }
    }

    #[inline]
    fn check(&mut self, index: u32, facts: RecordFacts) -> Result<(), ProduceError> {
        let RecordFacts { timestamp_delta, offset_delta, has_key } = facts;
        if offset_delta != i64::from(index) {
            return Err(ProduceError::OffsetDelta { index, offset_delta });
        }
        let timestamp = self.base_timestamp.wrapping_add(timestamp_delta);
        if self.limits.keys_required && !has_key {
            return self.add_fault(index, None);
        }
        if !self.limits.log_append_time && !self.timestamp_allowed(timestamp) {
            return self.add_fault(index, Some(timestamp));
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Remembers the record; the batch is refused at its end, with all such records, or at once
    /// when they are too many.
    #[cold]
    fn add_fault(&mut self, index: u32, timestamp: Option<i64>) -> Result<(), ProduceError> {
        self.first_bad_timestamp = self.first_bad_timestamp.or(timestamp);
        self.fault_indexes.push(index);
        if self.fault_indexes.len() < FAULTS_MAX { Ok(()) } else { self.faults() }
    }

    #[inline]
    fn timestamp_allowed(&self, timestamp: i64) -> bool {
        let age_ms = self.limits.now_ms.saturating_sub(timestamp);
        let in_range = age_ms <= self.limits.timestamp_before_ms_max
            && age_ms.saturating_neg() <= self.limits.timestamp_after_ms_max;
        in_range || timestamp == NO_TIMESTAMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::{self, BatchBuilder};
    use crate::protocol::record::NewRecord;

    const NOW_MS: i64 = 1_000_000_000;

    fn batch_of(codec: Codec, count: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for index in 0..count {
            let value = format!("value {index}");
            let value = Some(value.as_bytes());
            builder.append(&NewRecord { timestamp: NOW_MS + index, value, ..Default::default() });
        }
        builder.finish()
    }

    fn code(bytes: &[u8], limits: &ProduceLimits) -> ErrorCode {
        validate_produce(bytes, limits).map_or_else(|error| error.code(), |_| ErrorCode::None)
    }

    /// Writes `value` at `position` and makes the checksum true again.
    fn bent(bytes: &[u8], position: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[position..position + value.len()].copy_from_slice(value);
        let max_timestamp = BatchView::first(&bytes).expect("it is whole").max_timestamp();
        batch::patch_max_timestamp(&mut bytes, max_timestamp);
        bytes
    }

    /// Goal: honest batches pass with what they hold. Method: each codec; a producer; a wrong
    /// maximum.
    #[test]
    fn an_honest_batch_passes() {
        let limits = ProduceLimits::defaults(NOW_MS);
        for codec in Codec::ALL {
            let bytes = batch_of(codec, 1_000);
            let produced = validate_produce(&bytes, &limits).expect("it is honest");
            assert_eq!((produced.records_count, produced.codec), (1_000, codec));
            assert_eq!(produced.max_timestamp, NOW_MS + 999);
            assert!(!produced.max_timestamp_differs && produced.producer.is_none());
            let mut bytes = bytes;
            batch::patch_max_timestamp(&mut bytes, NOW_MS);
            let produced = validate_produce(&bytes, &limits).expect("Kafka corrects this");
            assert!(produced.max_timestamp_differs);
        }
    }

    /// Goal: Kafka's code for each lie. Method: bend one field at a time, with a true checksum.
    #[test]
    fn each_lie_gets_its_code() {
        let limits = ProduceLimits::defaults(NOW_MS);
        for codec in Codec::ALL {
            let good = batch_of(codec, 5);
            let count = |count: i32| {
                let bytes = bent(&good, 57, &count.to_be_bytes());
                bent(&bytes, 23, &(count - 1).to_be_bytes())
            };
            let cases = [
                (count(4), ErrorCode::InvalidRecord),
                (count(6), ErrorCode::InvalidRecord),
                (count(0), ErrorCode::InvalidRecord),
                (count(i32::MAX), ErrorCode::InvalidRecord),
                (bent(&good, 57, &4i32.to_be_bytes()), ErrorCode::InvalidRecord),
                (bent(&good, 0, &7i64.to_be_bytes()), ErrorCode::InvalidRecord),
                (bent(&good, 21, &[0, 0x20 | codec as u8]), ErrorCode::InvalidRecord),
                (bent(&good, 21, &[0, 0x08 | codec as u8]), ErrorCode::InvalidTimestamp),
                (bent(&good, 21, &[0, 7]), ErrorCode::UnsupportedCompressionType),
                (bent(&good, 43, &9i64.to_be_bytes()), ErrorCode::InvalidRecord),
                ([&good[..], &good[..]].concat(), ErrorCode::InvalidRecord),
                (good[..good.len() - 1].to_vec(), ErrorCode::InvalidRecord),
                (Vec::new(), ErrorCode::InvalidRecord),
            ];
            for (number, (bytes, expected)) in cases.into_iter().enumerate() {
                assert_eq!(code(&bytes, &limits), expected, "{codec}, case {number}");
            }
            let mut damaged = good.clone();
            *damaged.last_mut().expect("it is not empty") ^= 1;
            assert_eq!(code(&damaged, &limits), ErrorCode::CorruptMessage);
            let small = ProduceLimits { batch_bytes_max: good.len() - 1, ..limits };
            assert_eq!(code(&good, &small), ErrorCode::MessageTooLarge);
            let compacted = ProduceLimits { keys_required: true, ..limits };
            assert_eq!(code(&good, &compacted), ErrorCode::InvalidRecord);
            let early = ProduceLimits { timestamp_after_ms_max: 2, ..limits };
            assert_eq!(code(&good, &early), ErrorCode::InvalidTimestamp);
            let stamped = ProduceLimits { log_append_time: true, ..early };
            assert_eq!(code(&good, &stamped), ErrorCode::None);
        }
        let zstd = batch_of(Codec::Zstd, 1);
        let old = ProduceLimits { version: 6, ..limits };
        assert_eq!(code(&zstd, &old), ErrorCode::UnsupportedCompressionType);
    }

    /// Goal: every record that its topic does not allow is named (KIP-467), up to the most that an
    /// answer may name. Method: batches of every codec, some records without key, one early.
    #[test]
    fn every_record_at_fault_is_named() {
        let compacted = ProduceLimits { keys_required: true, ..ProduceLimits::defaults(NOW_MS) };
        let early = ProduceLimits { timestamp_after_ms_max: 1_000, ..compacted };
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec);
            for index in 0..6 {
                let key = (index % 3 != 1).then_some(&b"key"[..]);
                let timestamp = NOW_MS + if index == 3 { 5_000 } else { 0 };
                builder.append(&NewRecord { timestamp, key, ..Default::default() });
            }
            let bytes = builder.finish();
            let refused = validate_produce(&bytes, &compacted).expect_err("two have no key");
            assert_eq!(refused.code(), ErrorCode::InvalidRecord);
            assert_eq!(refused.record_indexes(), [1, 4]);
            let refused = validate_produce(&bytes, &early).expect_err("one more is early");
            assert_eq!(refused.code(), ErrorCode::InvalidTimestamp);
            assert_eq!(refused.record_indexes(), [1, 3, 4]);
        }
        let many = batch_of(Codec::None, FAULTS_MAX as i64 + 10);
        let refused = validate_produce(&many, &compacted).expect_err("none has a key");
        assert_eq!(refused.record_indexes().len(), FAULTS_MAX);
    }

    /// Goal: no byte is trusted. Method: every byte of every codec's batch bent under a true
    /// checksum; none may panic, and what passes must be readable.
    #[test]
    fn a_bent_batch_is_refused_or_readable() {
        let limits = ProduceLimits::defaults(NOW_MS);
        for codec in Codec::ALL {
            let good = batch_of(codec, 3);
            for position in 21..good.len() {
                let bytes = bent(&good, position, &[good[position] ^ 0x55]);
                let Ok(produced) = validate_produce(&bytes, &limits) else { continue };
                let view = BatchView::first(&bytes).expect("it passed");
                let records = view.decompressed(1 << 20).expect("it passed");
                let records: Result<Vec<_>, _> = view.records_in(&records).collect();
                let count = records.expect("it passed").len();
                assert_eq!(count, produced.records_count as usize, "{codec}, {position}");
            }
        }
    }
}
