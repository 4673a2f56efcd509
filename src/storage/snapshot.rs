//! What a partition remembers of its producers, as bytes: Kafka's snapshot file, version 1.
//!
//! `00000000000000000000.snapshot`, named by the offset up to which it tells. Kafka's entries hold
//! a producer's last batch only; behind them, where Kafka's tools do not look, follow the batches
//! before that one, so that a restart forgets none. Pure: reads and writes no files.
//! **Invariant:** the checksum covers all that follows it.

use super::producers::{KnownBatch, KnownProducer, Producers, WINDOW_BATCHES, Window};

/// Suffix of the file.
pub const SNAPSHOT_SUFFIX: &str = ".snapshot";

const VERSION: i16 = 1;
/// Bytes in front of the entries: version, checksum, count.
const HEAD_BYTES: usize = 10;
/// Where the checksum's cover begins.
const CRC_FROM: usize = 6;
const ENTRY_BYTES: usize = 46;
/// Begins what is ours.
const OLDER_MARK: &[u8; 8] = b"rm-older";
const BATCH_BYTES: usize = 24;

/// What Kafka writes where there is no transaction: no coordinator, no first offset.
const NO_COORDINATOR: i32 = -1;
const NO_OFFSET: i64 = -1;

/// The file's contents for `known`, longest silent first.
pub fn encode(known: &[KnownProducer]) -> Vec<u8> {
    let count = i32::try_from(known.len()).expect("their count is bounded");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + known.len() * (ENTRY_BYTES + 9 + BATCH_BYTES));
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(count.to_be_bytes());
    for KnownProducer { producer_id, window, .. } in known {
        let nothing = KnownBatch { last_sequence: -1, last_offset: -1, ..KnownBatch::default() };
        let newest = window.newest().copied().unwrap_or(nothing);
        bytes.extend(producer_id.to_be_bytes());
        bytes.extend(window.epoch.to_be_bytes());
        put_batch(&mut bytes, &newest);
        bytes.extend(NO_COORDINATOR.to_be_bytes());
        bytes.extend(NO_OFFSET.to_be_bytes());
    }
    bytes.extend(OLDER_MARK);
    for KnownProducer { seen_ms, window, .. } in known {
        let (_, older) = window.batches().split_last().unwrap_or((&NO_BATCH, &[]));
        bytes.extend(seen_ms.to_be_bytes());
        bytes.push(older.len() as u8); // four at most
        older.iter().for_each(|batch| put_batch(&mut bytes, batch));
    }
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[2..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    bytes
}

const NO_BATCH: KnownBatch =
    KnownBatch { last_sequence: 0, offset_delta: 0, last_offset: 0, timestamp: 0 };

/// Adds the file's producers to `producers`, which knows none; `now_ms` is when those of a file
/// that Kafka wrote count as seen. Returns whether it is a whole snapshot: else nobody is added.
pub fn decode_into(producers: &mut Producers, bytes: &[u8], now_ms: i64) -> bool {
    let known = decode(bytes, now_ms);
    for one in known.iter().flatten() {
        if !producers.knows(one.producer_id) {
            producers.insert(*one);
        }
    }
    known.is_some()
}

fn decode(bytes: &[u8], now_ms: i64) -> Option<Vec<KnownProducer>> {
    let mut reader = Reader(bytes);
    let version = i16::from_be_bytes(reader.take()?);
    let crc = u32::from_be_bytes(reader.take()?);
    if version != VERSION || crc != crc32c::crc32c(&bytes[CRC_FROM..]) {
        return None;
    }
    let count = usize::try_from(i32::from_be_bytes(reader.take()?)).ok()?;
    let (entries, rest) = reader.0.split_at_checked(count.checked_mul(ENTRY_BYTES)?)?;
    let mut ours = Reader(rest);
    let has_older = ours.take() == Some(*OLDER_MARK);
    let mut known = Vec::with_capacity(count);
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let mut entry = Reader(entry);
        let producer_id = i64::from_be_bytes(entry.take()?);
        let mut window = Window::new(i16::from_be_bytes(entry.take()?));
        let newest = take_batch(&mut entry)?;
        let mut seen_ms = now_ms;
        if has_older {
            seen_ms = i64::from_be_bytes(ours.take()?).min(now_ms);
            let [older_count] = ours.take()?;
            if usize::from(older_count) >= WINDOW_BATCHES {
                return None;
            }
            for _ in 0..older_count {
                window.push(take_batch(&mut ours)?);
            }
        }
        if newest.last_offset >= 0 {
            window.push(newest);
        }
        known.push(KnownProducer { producer_id, seen_ms, window });
    }
    Some(known)
}

fn put_batch(bytes: &mut Vec<u8>, batch: &KnownBatch) {
    bytes.extend(batch.last_sequence.to_be_bytes());
    bytes.extend(batch.last_offset.to_be_bytes());
    bytes.extend(batch.offset_delta.to_be_bytes());
    bytes.extend(batch.timestamp.to_be_bytes());
}

fn take_batch(reader: &mut Reader<'_>) -> Option<KnownBatch> {
    Some(KnownBatch {
        last_sequence: i32::from_be_bytes(reader.take()?),
        last_offset: i64::from_be_bytes(reader.take()?),
        offset_delta: i32::from_be_bytes(reader.take()?),
        timestamp: i64::from_be_bytes(reader.take()?),
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::producers::Sent;
    use super::*;
    use std::rc::Rc;

    fn some_producers() -> Producers {
        let mut producers = Producers::new(Rc::default());
        for at in 0..40_i64 {
            let sequence = (at / 4 * 3) as i32;
            let sent = Sent { producer_id: at % 4, epoch: 2, sequence, offset_delta: 2 };
            producers.append(&sent, at * 3, 1_000 + at, 500 + at, 0);
        }
        producers
    }

    fn all(producers: &Producers) -> Vec<KnownProducer> {
        producers.all().copied().collect()
    }

    /// Goal: everything comes back, in order; of Kafka's own file the last batches do. Method:
    /// encode, decode; cut off what is ours under a true checksum.
    #[test]
    fn a_snapshot_reads_back() {
        let known = all(&some_producers());
        assert_eq!(known[0].window.batches().len(), WINDOW_BATCHES);
        let bytes = encode(&known);
        let mut again = Producers::new(Rc::default());
        assert!(decode_into(&mut again, &bytes, 9_999));
        assert_eq!(all(&again), known);
        let mut kafkas = bytes[..HEAD_BYTES + 4 * ENTRY_BYTES].to_vec();
        let crc = crc32c::crc32c(&kafkas[CRC_FROM..]);
        kafkas[2..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        let mut again = Producers::new(Rc::default());
        assert!(decode_into(&mut again, &kafkas, 9_999));
        for (ours, theirs) in known.iter().zip(again.all()) {
            assert_eq!(theirs.window.batches(), &ours.window.batches()[4..]);
            assert_eq!((theirs.producer_id, theirs.seen_ms), (ours.producer_id, 9_999));
        }
        assert!(decode_into(&mut Producers::new(Rc::default()), &encode(&[]), 0));
    }

    /// Goal: damage is seen, a lie under a true checksum harms nobody. Method: cut at every length,
    /// flip every byte, with the checksum as it was and made true.
    #[test]
    fn a_damaged_snapshot_adds_nobody() {
        let bytes = encode(&all(&some_producers()));
        let adds = |bytes: &[u8]| {
            let mut producers = Producers::new(Rc::default());
            let whole = decode_into(&mut producers, bytes, 0);
            assert!(whole || producers.count() == 0);
            whole
        };
        assert!((0..bytes.len()).all(|end| !adds(&bytes[..end])));
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 0x81;
            assert!(!adds(&bent), "byte {at}");
            let crc = crc32c::crc32c(&bent[CRC_FROM..]);
            bent[2..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
            adds(&bent);
        }
    }
}
