//! The head of a stored batch: the few fields by which a log finds its way, read from raw bytes.
//!
//! Only storage's own view: it must take apart bytes that a crash or a bad disk left behind, at any
//! position, without believing any of them. **Invariant:** `bytes >= HEAD_BYTES` in a parsed head.

use super::producers::Sent;
use crate::base::limits::REQUEST_BYTES_MAX;
use crate::protocol::batch::NO_PRODUCER_ID;

/// Bytes of a batch before its first record.
pub const HEAD_BYTES: usize = 61;

/// Bytes before the batch length counts: base offset and the length itself.
const LENGTH_END_BYTES: usize = 12;

/// From here to the batch's end its CRC-32C is taken.
const CRC_START_BYTES: usize = 21;

/// The bit of the attributes that marks a batch of Kafka's own, which has no sequence.
const CONTROL: i16 = 0x20;

/// What the first [`HEAD_BYTES`] of a batch say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub base_offset: i64,
    /// The whole batch, head included.
    pub bytes: u64,
    pub leader_epoch: i32,
    pub crc: u32,
    pub last_offset_delta: i32,
    pub max_timestamp: i64,
    /// Who sent the batch, if that producer numbers what it sends.
    pub sent: Option<Sent>,
}

/// Why bytes are not the head of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHead {
    /// Space that was never written: every byte is 0.
    Zeroes,
    /// A length, magic or offset that no batch has.
    Garbage,
}

impl Head {
    /// Reads a head; anything that no appended batch could have is refused.
    pub fn parse(head: &[u8; HEAD_BYTES]) -> Result<Head, NoHead> {
        if head.iter().all(|&byte| byte == 0) {
            return Err(NoHead::Zeroes);
        }
        let length = int(head, 8);
        let parsed = Head {
            base_offset: long(head, 0),
            bytes: u64::try_from(length).map_err(|_| NoHead::Garbage)? + LENGTH_END_BYTES as u64,
            leader_epoch: int(head, 12),
            crc: int(head, 17).cast_unsigned(),
            last_offset_delta: int(head, 23),
            max_timestamp: long(head, 35),
            sent: sent(head),
        };
        let sane = head[16] == 2
            && parsed.base_offset >= 0
            && parsed.last_offset_delta >= 0
            && parsed.bytes >= HEAD_BYTES as u64
            && parsed.bytes <= REQUEST_BYTES_MAX as u64
            && parsed.base_offset.checked_add(i64::from(parsed.last_offset_delta) + 1).is_some();
        if sane { Ok(parsed) } else { Err(NoHead::Garbage) }
    }

    /// [`Head::parse`] on the start of `bytes`; fewer than a head are [`NoHead::Garbage`].
    pub fn parse_slice(bytes: &[u8]) -> Result<Head, NoHead> {
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(NoHead::Garbage)?;
        Head::parse(head)
    }

    /// The offset of the batch's last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the batch.
    pub fn end_offset(&self) -> i64 {
        self.last_offset() + 1
    }
}

/// Checks a batch's CRC over parts that lie apart in memory but follow each other in the file.
pub fn crc_holds<'a>(head: &Head, parts: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut skip_bytes = CRC_START_BYTES;
    let mut crc = 0;
    for part in parts {
        let skipped = skip_bytes.min(part.len());
        skip_bytes -= skipped;
        crc = crc32c::crc32c_append(crc, &part[skipped..]);
    }
    crc == head.crc
}

/// The first 16 bytes of a batch as they are stored: with the offset and epoch that the log gives
/// it.
pub fn patched_start(batch: &[u8], base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut start = [0; 16];
    start[..8].copy_from_slice(&base_offset.to_be_bytes());
    start[8..12].copy_from_slice(&batch[8..12]);
    start[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    start
}

fn sent(head: &[u8; HEAD_BYTES]) -> Option<Sent> {
    let producer_id = long(head, 43);
    if producer_id <= NO_PRODUCER_ID || short(head, 21) & CONTROL != 0 {
        return None;
    }
    Some(Sent {
        producer_id,
        epoch: short(head, 51),
        sequence: int(head, 53),
        offset_delta: int(head, 23),
    })
}

fn short(bytes: &[u8; HEAD_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn int(bytes: &[u8; HEAD_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8; HEAD_BYTES], at: usize) -> i64 {
    i64::from(int(bytes, at)) << 32 | i64::from(int(bytes, at + 4).cast_unsigned())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// One valid batch of `records_count` offsets, `bytes` long in all, filled from `seed`.
    pub fn batch(bytes: usize, records_count: i32, max_timestamp: i64, seed: u8) -> Vec<u8> {
        assert!(bytes >= HEAD_BYTES);
        let mut batch = vec![0; bytes];
        for (at, byte) in batch.iter_mut().enumerate().skip(HEAD_BYTES) {
            *byte = (at as u8).wrapping_mul(31).wrapping_add(seed) | 1;
        }
        batch[8..12].copy_from_slice(&((bytes - 12) as i32).to_be_bytes());
        batch[16] = 2;
        batch[23..27].copy_from_slice(&(records_count - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&max_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        batch[43..57].fill(0xff);
        batch[57..61].copy_from_slice(&records_count.to_be_bytes());
        let crc = crc32c::crc32c(&batch[CRC_START_BYTES..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    /// [`batch`] by a producer that numbers what it sends.
    pub fn numbered(bytes: usize, sent: Sent, max_timestamp: i64) -> Vec<u8> {
        let seed = sent.sequence as u8;
        let mut batch = batch(bytes, sent.offset_delta + 1, max_timestamp, seed);
        batch[21..23].fill(0);
        batch[43..51].copy_from_slice(&sent.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&sent.epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&sent.sequence.to_be_bytes());
        let crc = crc32c::crc32c(&batch[CRC_START_BYTES..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    /// Goal: a head reads back what was written, and damage is seen. Method: flip bytes of each
    /// class.
    #[test]
    fn a_head_is_read_and_damage_is_seen() {
        let mut bytes = batch(200, 3, 77, 1);
        let start = patched_start(&bytes, 40, 5);
        bytes[..16].copy_from_slice(&start);
        let head = Head::parse_slice(&bytes).unwrap();
        assert_eq!((head.base_offset, head.end_offset(), head.leader_epoch), (40, 43, 5));
        assert_eq!((head.bytes, head.max_timestamp, head.sent), (200, 77, None));
        let sent = Sent { producer_id: 1 << 40, epoch: 3, sequence: i32::MAX, offset_delta: 6 };
        let mut other = numbered(100, sent, 9);
        assert_eq!(Head::parse_slice(&other).unwrap().sent, Some(sent));
        other[22] = 0x20;
        assert_eq!(Head::parse_slice(&other).unwrap().sent, None);
        assert!(crc_holds(&head, [&bytes[..10], &bytes[10..100], &bytes[100..]]));
        bytes[150] ^= 1;
        assert!(!crc_holds(&head, [&bytes[..]]));
        bytes[16] = 1;
        assert_eq!(Head::parse_slice(&bytes), Err(NoHead::Garbage));
        assert_eq!(Head::parse(&[0; HEAD_BYTES]), Err(NoHead::Zeroes));
    }
}
