//! Produce requests that are built once and sent again and again.
//!
//! A request is a short head, cut where batches go, and the batches, which all requests share. Only
//! the correlation id changes from one sending to the next: brokers patch offsets into their own
//! copy.
//! A producer that numbers its batches puts a head of its own before each batch's records.
//! **Invariant:** a request holds at most one batch a partition, as the protocol demands.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use zerocopy::IntoBytes as _;

use ringmain::base::ids::TopicId;
use ringmain::base::limits::REQUEST_BYTES_MAX;
use ringmain::protocol::batch::{BatchBuilder, BatchHeader, BatchView, CRC_FROM, HEADER_BYTES};
use ringmain::protocol::header::encode_request;
use ringmain::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ringmain::protocol::record::NewRecord;
use ringmain::protocol::wire::{Cut, Records};

use crate::CLIENT_ID;
use crate::arguments::ProduceArgs;
use crate::crc::Shift;

/// Where a request's correlation id stands, from the start of its size field.
const CORRELATION_RANGE: std::ops::Range<usize> = 8..12;

/// How long a broker may wait for the in-sync set, ms: Kafka's clients' default.
const ACK_TIMEOUT_MS: i32 = 30_000;

/// One record batch as it goes over the wire.
pub struct Batch {
    pub bytes: Vec<u8>,
    pub records_count: u64,
    /// CRC-32C of the records, so that a new head costs no look at them.
    records_crc: u32,
    /// Moves a head's checksum over the records.
    shift: Arc<Shift>,
}

/// Numbers of a producer's batches: what comes next in each partition.
pub struct Numbering {
    producer_id: i64,
    next: Vec<i32>,
}

impl Numbering {
    /// Begins at 0 in each of `partitions_count` partitions.
    pub fn new(producer_id: i64, partitions_count: usize) -> Numbering {
        Numbering { producer_id, next: vec![0; partitions_count] }
    }
}

/// What is produced where: all that the requests of one connection have in common.
pub struct Shape<'a> {
    pub topic: &'a str,
    pub topic_id: TopicId,
    /// Version of the produce request.
    pub version: i16,
    /// -1, 0 or 1.
    pub acks: i16,
    /// Partitions that the connection's broker leads.
    pub partitions: &'a [i32],
    /// What one request carries, each to another partition.
    pub batches: &'a [Arc<Batch>],
}

impl Batch {
    /// Of a whole batch's bytes; `shifts` are those of the batches before it, by their length.
    fn new(bytes: Vec<u8>, shifts: &mut BTreeMap<usize, Arc<Shift>>) -> Batch {
        let view = BatchView::first(&bytes).expect("the builder's own");
        let records_count = u64::from(view.records_count());
        let records = &bytes[HEADER_BYTES..];
        let records_crc = crc32c::crc32c(records);
        let shift =
            shifts.entry(records.len()).or_insert_with_key(|len| Arc::new(Shift::new(*len)));
        let shift = shift.clone();
        Batch { bytes, records_count, records_crc, shift }
    }

    /// The batch's head with a producer's number in it, and the checksum that goes with it.
    fn head(&self, producer_id: i64, base_sequence: i32) -> [u8; HEADER_BYTES] {
        let first = self.bytes.first_chunk::<HEADER_BYTES>().expect("a batch has a head");
        let mut header: BatchHeader = zerocopy::transmute!(*first);
        header.producer_id.set(producer_id);
        header.producer_epoch.set(0);
        header.base_sequence.set(base_sequence);
        let head_crc = crc32c::crc32c(&header.as_bytes()[CRC_FROM..]);
        header.crc.set(self.shift.combine(head_crc, self.records_crc));
        zerocopy::transmute!(header)
    }
}

/// A whole produce request.
pub struct PreparedRequest {
    head: Vec<u8>,
    cuts: Vec<Cut>,
    batches: Vec<Arc<Batch>>,
    /// Which of the shape's partitions the first batch is for.
    first: usize,
    /// The batches' heads where they are numbered.
    heads: Vec<[u8; HEADER_BYTES]>,
}

impl PreparedRequest {
    /// The request that begins with the partition at `first` of the shape's, and goes round.
    fn new(shape: &Shape<'_>, first: usize) -> PreparedRequest {
        let partition_data = shape.batches.iter().enumerate().map(|(index, batch)| {
            let index = shape.partitions[(first + index) % shape.partitions.len()];
            let records = Records::Elsewhere { bytes: batch.bytes.len() };
            PartitionProduceData { index, records }
        });
        let topic = TopicProduceData {
            topic_id: shape.topic_id,
            name: shape.topic,
            partition_data: partition_data.collect(),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: shape.acks,
            timeout_ms: ACK_TIMEOUT_MS,
            topic_data: vec![topic],
        };
        let encoded = encode_request(shape.version, 0, Some(CLIENT_ID), &request);
        let batches = shape.batches.to_vec();
        PreparedRequest {
            head: encoded.head,
            cuts: encoded.cuts,
            batches,
            first,
            heads: Vec::new(),
        }
    }

    /// Gives each batch its number for the next sending.
    pub fn number(&mut self, numbering: &mut Numbering) {
        self.heads.clear();
        for (index, batch) in self.batches.iter().enumerate() {
            let partition = (self.first + index) % numbering.next.len();
            let next = &mut numbering.next[partition];
            self.heads.push(batch.head(numbering.producer_id, *next));
            *next = next.wrapping_add(batch.records_count as i32) & i32::MAX;
        }
    }

    /// Numbers the next sending.
    pub fn set_correlation_id(&mut self, correlation_id: i32) {
        self.head[CORRELATION_RANGE].copy_from_slice(&correlation_id.to_be_bytes());
    }

    /// Appends the request's pieces to `gather`.
    pub fn gather<'a>(&'a self, gather: &mut Vec<IoSlice<'a>>) {
        let mut from = 0;
        for (index, (cut, batch)) in self.cuts.iter().zip(&self.batches).enumerate() {
            gather.push(IoSlice::new(&self.head[from..cut.position]));
            match self.heads.get(index) {
                Some(head) => {
                    gather.push(IoSlice::new(head));
                    gather.push(IoSlice::new(&batch.bytes[HEADER_BYTES..]));
                }
                None => gather.push(IoSlice::new(&batch.bytes)),
            }
            from = cut.position;
        }
        if from < self.head.len() {
            gather.push(IoSlice::new(&self.head[from..]));
        }
    }
}

/// The requests of one connection, to be sent one after the other and round again.
///
/// They reach every partition equally often, beginning at the `start`th, and are `in_flight` at
/// least, so that no request is sent a second time while its first answer is awaited.
///
/// # Errors
/// More batches than partitions.
pub fn prepare(
    shape: &Shape<'_>,
    start: usize,
    in_flight: usize,
) -> anyhow::Result<Vec<PreparedRequest>> {
    let (partitions_count, batches_count) = (shape.partitions.len(), shape.batches.len());
    ensure!(
        batches_count <= partitions_count,
        "--request-bytes makes {batches_count} batches a request, but a request may hold one batch \
         a partition and the broker leads {partitions_count}: raise --batch-bytes or --partitions"
    );
    let period = partitions_count / greatest_common_divisor(batches_count, partitions_count);
    let requests_count = period * in_flight.div_ceil(period);
    let first_of = |index: usize| (start + index * batches_count) % partitions_count;
    Ok((0..requests_count).map(|index| PreparedRequest::new(shape, first_of(index))).collect())
}

fn greatest_common_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// The batches of one request, each with other records.
///
/// # Errors
/// A request would be larger than brokers take.
pub fn build_batches(args: &ProduceArgs) -> anyhow::Result<Vec<Arc<Batch>>> {
    let batches_count = (args.request_bytes / args.batch_bytes).max(1);
    let largest = args.batch_bytes.max(args.record_bytes).saturating_mul(batches_count);
    ensure!(
        largest <= REQUEST_BYTES_MAX as u64,
        "a request of {largest} bytes is more than the {REQUEST_BYTES_MAX} that brokers take"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now_ms = now.as_millis() as i64;
    let mut shifts = BTreeMap::new();
    let batches = (0..batches_count).map(|seed| {
        let bytes = batch_bytes(args, seed, now_ms);
        Arc::new(Batch::new(bytes, &mut shifts))
    });
    Ok(batches.collect())
}

/// As many records as fit into `--batch-bytes`, one at least.
fn batch_bytes(args: &ProduceArgs, seed: u64, now_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(args.compression);
    let mut record_bytes = 0; // in the batch, with what surrounds a value
    let mut records_count = 0;
    while records_count == 0 || builder.bytes() as u64 + record_bytes <= args.batch_bytes {
        let bytes_before = builder.bytes() as u64;
        let value = record_value(seed << 32 | records_count, args.record_bytes as usize);
        builder.append(&NewRecord { timestamp: now_ms, value: Some(&value), ..Default::default() });
        record_bytes = builder.bytes() as u64 - bytes_before + 2; // later deltas are longer numbers
        records_count += 1;
    }
    builder.finish()
}

/// Printable bytes with 4 bits of entropy each: codecs find something to do, about a half.
///
/// The same seed gives the same bytes.
pub fn record_value(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13; // xorshift: quick, and good enough to look at
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut value = Vec::with_capacity(bytes + 16);
    while value.len() < bytes {
        let word = next();
        value.extend((0..16).map(|nibble| b'a' + (word >> (4 * nibble) & 0xf) as u8));
    }
    value.truncate(bytes);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use ringmain::protocol::batch::Batches;
    use ringmain::protocol::header::{decode_request, decode_request_header};

    use crate::arguments::{Cli, Command};

    fn batches_of(flags: &[&str]) -> Vec<Arc<Batch>> {
        let line = ["ringmain-bench", "produce"].iter().chain(flags);
        let Command::Produce(args) = Cli::parse_from(line).command else { unreachable!() };
        build_batches(&args).expect("sizes are sound")
    }

    fn shape<'a>(partitions: &'a [i32], batches: &'a [Arc<Batch>]) -> Shape<'a> {
        let (topic, topic_id) = ("bench", TopicId(7));
        Shape { topic, topic_id, version: 9, acks: -1, partitions, batches }
    }

    /// Goal: batches are as large as asked and count their records. Method: read them back.
    #[test]
    fn batches_fill_what_they_may_and_hold_a_record_at_least() {
        let batches = batches_of(&["--record-bytes", "1K"]);
        assert_eq!(batches.len(), 16);
        for batch in &batches {
            assert!((63 << 10..=64 << 10).contains(&batch.bytes.len()), "{}", batch.bytes.len());
            let view = Batches::new(&batch.bytes).next().expect("one").expect("sound");
            view.check_crc().expect("the builder's own");
            assert_eq!(u64::from(view.records_count()), batch.records_count);
        }
        assert_ne!(batches[0].bytes, batches[1].bytes);
        let small = batches_of(&["--record-bytes=100", "--batch-bytes=1", "--request-bytes=1"]);
        assert_eq!((small.len(), small[0].records_count), (1, 1));
    }

    /// Goal: every request is well formed, carries its number, and partitions get equally many.
    /// Method: decode each one as a broker would.
    #[test]
    fn requests_go_round_all_partitions() {
        let batches = batches_of(&["--batch-bytes=4K", "--request-bytes=16K"]);
        let partitions = [0, 2, 4, 5, 6, 9];
        let mut requests = prepare(&shape(&partitions, &batches), 1, 4).expect("4 of 6");
        assert_eq!(requests.len(), 6, "a period of 3, twice, for 4 in flight");
        let mut seen = std::collections::BTreeMap::new();
        for (number, request) in requests.iter_mut().enumerate() {
            request.set_correlation_id(number as i32 + 40);
            let mut gather = Vec::new();
            request.gather(&mut gather);
            let frame: Vec<u8> = gather.iter().flat_map(|slice| slice.to_vec()).collect();
            let size = u32::from_be_bytes(*frame.first_chunk().expect("a size")) as usize;
            assert_eq!(size + 4, frame.len());
            let (header, body) = decode_request_header(&frame[4..]).expect("a header");
            assert_eq!(header.correlation_id, number as i32 + 40);
            let decoded: ProduceRequest<'_> = decode_request(body, 9).expect("a request");
            for partition in &decoded.topic_data[0].partition_data {
                *seen.entry(partition.index).or_insert(0) += 1;
                assert!(batches.iter().any(|batch| batch.bytes == partition.records.bytes()));
            }
        }
        assert_eq!(seen, partitions.iter().map(|index| (*index, 4)).collect());
    }

    /// Goal: numbers run on by partition under a true checksum. Method: send every request thrice;
    /// read the batches back.
    #[test]
    fn numbered_batches_follow_each_other_in_each_partition() {
        let batches = batches_of(&["--batch-bytes=4K", "--request-bytes=16K"]);
        let partitions = [0, 2, 4, 5, 6, 9];
        let mut requests = prepare(&shape(&partitions, &batches), 1, 4).expect("4 of 6");
        let mut numbering = Numbering::new(77, partitions.len());
        let mut next = std::collections::BTreeMap::new();
        for _ in 0..3 {
            for request in &mut requests {
                request.number(&mut numbering);
                let mut gather = Vec::new();
                request.gather(&mut gather);
                let frame: Vec<u8> = gather.iter().flat_map(|slice| slice.to_vec()).collect();
                let (_, body) = decode_request_header(&frame[4..]).expect("a header");
                let decoded: ProduceRequest<'_> = decode_request(body, 9).expect("a request");
                for partition in &decoded.topic_data[0].partition_data {
                    let batch = Batches::new(partition.records.bytes()).next().expect("one");
                    let batch = batch.expect("sound");
                    batch.check_crc().expect("made anew");
                    assert_eq!(batch.header().producer_id.get(), 77);
                    let next = next.entry(partition.index).or_insert(0);
                    assert_eq!(batch.header().base_sequence.get(), *next);
                    *next += batch.records_count() as i32;
                }
            }
        }
    }

    #[test]
    fn more_batches_than_partitions_are_refused() {
        let batches = batches_of(&[]);
        let refused = prepare(&shape(&[0, 1], &batches), 0, 1).err().expect("16 of 2");
        assert!(refused.to_string().contains("--batch-bytes"));
    }

    #[test]
    fn values_are_printable_and_follow_their_seed() {
        let value = record_value(3, 1001);
        assert_eq!(value, record_value(3, 1001));
        assert_ne!(value, record_value(4, 1001));
        assert_eq!(value.len(), 1001);
        assert!(value.iter().all(u8::is_ascii_lowercase));
    }
}
