//! Produce requests that are built once and sent again and again.
//!
//! A request is a short head, cut where batches go, and the batches, which all requests share. Only
//! the correlation id changes from one sending to the next: brokers patch offsets into their own
//! copy.
//! A producer that numbers or stamps its batches puts a front of its own before each batch's rest.
//! **Invariant:** a request holds at most one batch a partition, as the protocol demands.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use ringmain::base::ids::TopicId;
use ringmain::base::limits::REQUEST_BYTES_MAX;
use ringmain::protocol::batch::{BatchBuilder, BatchHeader, BatchView, CRC_FROM, HEADER_BYTES};
use ringmain::protocol::compression::Codec;
use ringmain::protocol::header::encode_request;
use ringmain::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ringmain::protocol::record::NewRecord;
use ringmain::protocol::wire::{Cut, Records};

use crate::CLIENT_ID;
use crate::arguments::LoadArgs;
use crate::crc::Shift;
use crate::payload::Payload;
use crate::stamp::{STAMP_BYTES, STAMP_MARK};

/// Where a request's correlation id stands, from the start of its size field.
const CORRELATION_RANGE: std::ops::Range<usize> = 8..12;

/// Where a batch's checksum stands.
const CRC_RANGE: std::ops::Range<usize> = CRC_FROM - 4..CRC_FROM;

/// A stamp begins before this place: behind the head, what frames a record, and its key.
const STAMP_FROM_MAX: usize = HEADER_BYTES + 64;

/// Bytes of batches in a request where nobody said how many.
const REQUEST_BYTES_DEFAULT: u64 = 1 << 20;

/// How long a broker may wait for the in-sync set, ms: Kafka's clients' default.
const ACK_TIMEOUT_MS: i32 = 30_000;

/// One record batch as it goes over the wire.
pub struct Batch {
    pub bytes: Vec<u8>,
    pub records_count: u64,
    /// Bytes at the front that may be others in each sending: the head, and all until behind the
    /// stamp where there is one.
    front_bytes: usize,
    is_stamped: bool,
    /// CRC-32C of the rest, so that a new front costs no look at it.
    rest_crc: u32,
    /// Moves a front's checksum over the rest.
    shift: Arc<Shift>,
}

/// What is new in each sending of a batch.
#[derive(Default, Clone, Copy)]
struct Front {
    /// Producer id and sequence number.
    number: Option<(i64, i32)>,
    stamp: Option<[u8; STAMP_BYTES]>,
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
        let stamp_at =
            bytes.windows(STAMP_BYTES).take(STAMP_FROM_MAX).position(|w| w == STAMP_MARK);
        let front_bytes = stamp_at.map_or(HEADER_BYTES, |position| position + STAMP_BYTES);
        let rest = &bytes[front_bytes..];
        let rest_crc = crc32c::crc32c(rest);
        let shift = shifts.entry(rest.len()).or_insert_with_key(|len| Arc::new(Shift::new(*len)));
        let (shift, is_stamped) = (shift.clone(), stamp_at.is_some());
        Batch { bytes, records_count, front_bytes, is_stamped, rest_crc, shift }
    }

    /// Appends the batch's front with what is new in it, and the checksum that goes with that.
    fn put_front(&self, front: Front, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(&self.bytes[..self.front_bytes]);
        let bytes = &mut to[start..];
        if let Some(stamp) = front.stamp.filter(|_| self.is_stamped) {
            bytes[self.front_bytes - STAMP_BYTES..].copy_from_slice(&stamp);
        }
        let (head, _) = bytes.split_first_chunk_mut::<HEADER_BYTES>().expect("a batch has a head");
        let header: &mut BatchHeader = zerocopy::transmute_mut!(head);
        if let Some((producer_id, base_sequence)) = front.number {
            header.producer_id.set(producer_id);
            header.producer_epoch.set(0);
            header.base_sequence.set(base_sequence);
        }
        let front_crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        let crc = self.shift.combine(front_crc, self.rest_crc);
        bytes[CRC_RANGE].copy_from_slice(&crc.to_be_bytes());
    }
}

/// A whole produce request.
pub struct PreparedRequest {
    head: Vec<u8>,
    cuts: Vec<Cut>,
    batches: Vec<Arc<Batch>>,
    /// Which of the shape's partitions the first batch is for.
    first: usize,
    /// The batches' fronts, one behind the other, where they are new in each sending.
    fronts: Vec<u8>,
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
            fronts: Vec::new(),
        }
    }

    /// Gives each batch its number for the next sending, and its stamp, where they have such.
    pub fn renew(&mut self, numbering: Option<&mut Numbering>, stamp: Option<[u8; STAMP_BYTES]>) {
        self.fronts.clear();
        let mut numbering = numbering;
        for (index, batch) in self.batches.iter().enumerate() {
            let number = numbering.as_mut().map(|numbering| {
                let partition = (self.first + index) % numbering.next.len();
                let next = &mut numbering.next[partition];
                let sequence = *next;
                *next = next.wrapping_add(batch.records_count as i32) & i32::MAX;
                (numbering.producer_id, sequence)
            });
            batch.put_front(Front { number, stamp }, &mut self.fronts);
        }
    }

    /// Numbers the next sending.
    pub fn set_correlation_id(&mut self, correlation_id: i32) {
        self.head[CORRELATION_RANGE].copy_from_slice(&correlation_id.to_be_bytes());
    }

    /// Appends the request's pieces to `gather`.
    pub fn gather<'a>(&'a self, gather: &mut Vec<IoSlice<'a>>) {
        let (mut from, mut front_from) = (0, 0);
        for (cut, batch) in self.cuts.iter().zip(&self.batches) {
            gather.push(IoSlice::new(&self.head[from..cut.position]));
            if self.fronts.is_empty() {
                gather.push(IoSlice::new(&batch.bytes));
            } else {
                let front_end = front_from + batch.front_bytes;
                gather.push(IoSlice::new(&self.fronts[front_from..front_end]));
                gather.push(IoSlice::new(&batch.bytes[batch.front_bytes..]));
                front_from = front_end;
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

/// How the batches of one request are made.
pub struct Recipe<'a> {
    pub args: &'a LoadArgs,
    /// Records of a batch, at most.
    pub records_max: u64,
    /// Whether the first record of each batch has room for a stamp.
    pub is_stamped: bool,
}

/// The batches of one request, each with other records.
///
/// # Errors
/// A request would be larger than brokers take, or records have no room for a stamp.
pub fn build_batches(recipe: &Recipe<'_>) -> anyhow::Result<Vec<Arc<Batch>>> {
    let args = recipe.args;
    let payload = Payload::new(args)?;
    ensure!(
        !recipe.is_stamped || args.compression == Codec::None,
        "batches that carry the time of their sending cannot be built before with --compression"
    );
    let request_bytes = match args.linger {
        Some(_) => args.batch_bytes,
        None => args.request_bytes.unwrap_or(REQUEST_BYTES_DEFAULT),
    };
    let batches_count = (request_bytes / args.batch_bytes).max(1);
    let value_bytes_max = payload.value_bytes_max() as u64;
    let largest = args.batch_bytes.max(value_bytes_max).saturating_mul(batches_count);
    ensure!(
        largest <= REQUEST_BYTES_MAX as u64,
        "a request of {largest} bytes is more than the {REQUEST_BYTES_MAX} that brokers take"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now_ms = now.as_millis() as i64;
    let mut shifts = BTreeMap::new();
    let mut first = 0; // numbers go on from batch to batch, so that samples come in turn
    (0..batches_count)
        .map(|_| {
            let bytes = batch_bytes(recipe, &payload, first, now_ms);
            let batch = Batch::new(bytes, &mut shifts);
            ensure!(
                batch.is_stamped || !recipe.is_stamped,
                "a record needs {STAMP_BYTES} bytes at least to carry the time of its sending"
            );
            first += batch.records_count;
            Ok(Arc::new(batch))
        })
        .collect()
}

/// As many records as fit into `--batch-bytes`, one at least. Seeds go on from `first`.
fn batch_bytes(recipe: &Recipe<'_>, payload: &Payload, first: u64, now_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(recipe.args.compression);
    let mut record_bytes = 0; // in the batch, with what surrounds a value
    let mut records_count = 0;
    let batch_bytes_max = recipe.args.batch_bytes;
    while records_count == 0
        || records_count < recipe.records_max
            && builder.bytes() as u64 + record_bytes <= batch_bytes_max
    {
        let bytes_before = builder.bytes() as u64;
        let seed = first + records_count;
        let mut value = payload.value(seed);
        if recipe.is_stamped && records_count == 0 && value.len() >= STAMP_BYTES {
            value.to_mut()[..STAMP_BYTES].copy_from_slice(&STAMP_MARK);
        }
        let key = payload.key(seed);
        let (key, value) = (key.as_deref(), Some(&*value));
        builder.append(&NewRecord { timestamp: now_ms, key, value, ..Default::default() });
        record_bytes = builder.bytes() as u64 - bytes_before + 2; // later deltas are longer numbers
        records_count += 1;
    }
    builder.finish()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use clap::Parser;

    use ringmain::protocol::batch::Batches;
    use ringmain::protocol::header::{decode_request, decode_request_header};

    use crate::arguments::{Cli, Command};

    pub fn load_args(flags: &[&str]) -> LoadArgs {
        let line = ["ringmain-bench", "produce"].iter().chain(flags);
        let Command::Produce(args) = Cli::parse_from(line).command else { unreachable!() };
        args.load
    }

    fn batches_of(flags: &[&str]) -> Vec<Arc<Batch>> {
        let args = load_args(flags);
        let recipe = Recipe { args: &args, records_max: u64::MAX, is_stamped: false };
        build_batches(&recipe).expect("sizes are sound")
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
                request.renew(Some(&mut numbering), None);
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

    /// Goal: a stamp is where the consumer looks for it, under a true checksum, beside a number
    /// and behind a key. Method: send twice, read back.
    #[test]
    fn stamped_batches_carry_the_time_of_each_sending() {
        let args = load_args(&["--record-bytes=100", "--batch-bytes=1K", "--keys=5"]);
        let recipe = Recipe { args: &args, records_max: 3, is_stamped: true };
        let batches = build_batches(&recipe).expect("100 bytes are enough");
        let mut request = PreparedRequest::new(&shape(&[4], &batches[..1]), 0);
        let mut numbering = Numbering::new(77, 1);
        for (stamp, sequence) in [([7; STAMP_BYTES], 0), ([9; STAMP_BYTES], 3)] {
            request.renew(Some(&mut numbering), Some(stamp));
            let mut gather = Vec::new();
            request.gather(&mut gather);
            let frame: Vec<u8> = gather.iter().flat_map(|slice| slice.to_vec()).collect();
            let (_, body) = decode_request_header(&frame[4..]).expect("a header");
            let decoded: ProduceRequest<'_> = decode_request(body, 9).expect("a request");
            let records = decoded.topic_data[0].partition_data[0].records.bytes();
            let batch = Batches::new(records).next().expect("one").expect("sound");
            batch.check_crc().expect("made anew");
            assert_eq!(batch.header().base_sequence.get(), sequence);
            assert_eq!(batch.records_count(), 3, "no more than asked for");
            let mut records = batch.records_in(batch.payload());
            let first = records.next().expect("one").expect("sound");
            assert!(first.value.expect("a value").starts_with(&stamp));
            let second = records.next().expect("another").expect("sound");
            assert!(!second.value.expect("a value").starts_with(&stamp));
        }
    }

    #[test]
    fn records_without_room_for_a_stamp_are_refused() {
        for (flag, reason) in
            [("--record-bytes=15", "16 bytes at least"), ("--compression=lz4", "--compression")]
        {
            let args = load_args(&[flag]);
            let recipe = Recipe { args: &args, records_max: 9, is_stamped: true };
            let refused = build_batches(&recipe).err().expect("no stamp");
            assert!(refused.to_string().contains(reason), "{refused}");
        }
    }
}
