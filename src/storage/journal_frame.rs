//! The bytes of a journal: a first block that names it, then rounds.
//!
//! A round is a head, the heads of its parts, and the parts' bytes as they came off the wire,
//! filled up to whole blocks. All numbers are little-endian. Pure: reads and writes no files.
//! **Invariant:** nothing in a file is taken for a round that does not carry the journal's id, 128
//! random bits: clients write what they like into the parts.

use crate::base::ids::{Offset, TopicId};
use crate::base::limits::DIRECT_ALIGN_BYTES;

/// Bytes of the first block.
pub const FIRST_BLOCK_BYTES: usize = DIRECT_ALIGN_BYTES;

const JOURNAL_MAGIC: &[u8; 8] = b"rm-jrnl1";
const ROUND_MAGIC: &[u8; 8] = b"rm-round";

/// Magic, checksum of what follows it, bytes in all, id, number, oldest number needed, parts.
const ROUND_HEAD_BYTES: usize = 8 + 4 + 4 + 16 + 8 + 8 + 4;
/// Where the checksum is, behind the magic; it covers everything behind itself.
const CRC_AT: usize = 8;
const COVERED_AT: usize = CRC_AT + 4;
/// Topic id, segment, position, bytes, bytes of the directory's name; the name follows.
const PART_HEAD_BYTES: usize = 16 + 8 + 8 + 4 + 2;

/// A journal's name for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalId(pub u128);

/// Where a part's bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The partition's directory inside the data directory.
    pub dir_name: &'a str,
    pub topic_id: TopicId,
    /// Base offset of the segment.
    pub segment: Offset,
    /// In the segment's file.
    pub position: u64,
}

impl Place<'_> {
    /// What a part of `bytes` takes in a round.
    pub fn bytes_with(&self, bytes: usize) -> usize {
        PART_HEAD_BYTES + self.dir_name.len() + bytes
    }
}

/// One part of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    pub place: Place<'a>,
    pub bytes: &'a [u8],
}

/// A round, read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Round<'a> {
    pub number: u64,
    /// The number of the oldest round that was needed when this one was written.
    pub needed_from: u64,
    pub parts: Vec<Part<'a>>,
    /// Whole blocks.
    pub bytes: usize,
}

/// Bytes of a round whose parts take `parts_bytes`: whole blocks.
pub fn round_bytes(parts_bytes: usize) -> usize {
    (ROUND_HEAD_BYTES + parts_bytes).next_multiple_of(DIRECT_ALIGN_BYTES)
}

/// The first block of the journal `id`.
pub fn encode_first_block(id: JournalId) -> [u8; FIRST_BLOCK_BYTES] {
    let mut block = [0; FIRST_BLOCK_BYTES];
    block[..8].copy_from_slice(JOURNAL_MAGIC);
    block[COVERED_AT..COVERED_AT + 16].copy_from_slice(&id.0.to_le_bytes());
    seal(&mut block);
    block
}

/// The id in a first block; `None`: it is none.
pub fn decode_first_block(block: &[u8]) -> Option<JournalId> {
    let block = block.get(..FIRST_BLOCK_BYTES)?;
    let fits = block.starts_with(JOURNAL_MAGIC) && is_sealed(block);
    fits.then(|| JournalId(u128::from_le_bytes(array(block, COVERED_AT))))
}

/// Puts a round together in a buffer of [`round_bytes`].
pub struct RoundWriter<'a> {
    round: &'a mut [u8],
    heads_at: usize,
    bytes_at: usize,
}

impl<'a> RoundWriter<'a> {
    /// Begins the round of the parts that stand at `places`.
    pub fn new<'p>(
        round: &'a mut [u8],
        id: JournalId,
        (number, needed_from): (u64, u64),
        places: impl Iterator<Item = (Place<'p>, usize)>,
    ) -> RoundWriter<'a> {
        let bytes = u32::try_from(round.len()).expect("a round is bounded");
        round[..8].copy_from_slice(ROUND_MAGIC);
        let mut writer = RoundWriter { round, heads_at: COVERED_AT, bytes_at: 0 };
        writer.head(&bytes.to_le_bytes());
        writer.head(&id.0.to_le_bytes());
        writer.head(&number.to_le_bytes());
        writer.head(&needed_from.to_le_bytes());
        let count_at = writer.heads_at;
        writer.heads_at += 4;
        let mut parts_count: u32 = 0;
        for (place, bytes) in places {
            let bytes = u32::try_from(bytes).expect("a part is bounded");
            let name_bytes = u16::try_from(place.dir_name.len()).expect("a name of a directory");
            writer.head(&place.topic_id.0.to_le_bytes());
            writer.head(&place.segment.0.to_le_bytes());
            writer.head(&place.position.to_le_bytes());
            writer.head(&bytes.to_le_bytes());
            writer.head(&name_bytes.to_le_bytes());
            writer.head(place.dir_name.as_bytes());
            parts_count += 1;
        }
        writer.round[count_at..count_at + 4].copy_from_slice(&parts_count.to_le_bytes());
        writer.bytes_at = writer.heads_at;
        writer
    }

    fn head(&mut self, field: &[u8]) {
        self.round[self.heads_at..self.heads_at + field.len()].copy_from_slice(field);
        self.heads_at += field.len();
    }

    /// Adds bytes of the parts, which follow each other in the order of their places.
    pub fn append(&mut self, bytes: &[u8]) {
        self.round[self.bytes_at..self.bytes_at + bytes.len()].copy_from_slice(bytes);
        self.bytes_at += bytes.len();
    }

    /// Fills up and seals the round.
    pub fn finish(self) {
        self.round[self.bytes_at..].fill(0);
        seal(self.round);
    }
}

/// Whether `block` looks like the beginning of some journal's round.
pub fn begins_round(block: &[u8]) -> bool {
    block.starts_with(ROUND_MAGIC)
}

/// The round of journal `id` at the start of `bytes`, if a whole one is there.
pub fn decode_round(bytes: &[u8], id: JournalId) -> Option<Round<'_>> {
    if bytes.len() < ROUND_HEAD_BYTES || !begins_round(bytes) {
        return None;
    }
    let mut reader = Reader { bytes, at: COVERED_AT };
    let round_bytes = u32::from_le_bytes(reader.take()?) as usize;
    let round = bytes.get(..round_bytes)?;
    let is_ours = u128::from_le_bytes(reader.take()?) == id.0;
    if round_bytes < ROUND_HEAD_BYTES || !is_ours || !is_sealed(round) {
        return None;
    }
    let number = u64::from_le_bytes(reader.take()?);
    let needed_from = u64::from_le_bytes(reader.take()?);
    let parts_count = u32::from_le_bytes(reader.take()?) as usize;
    if parts_count > round_bytes / PART_HEAD_BYTES {
        return None;
    }
    let mut reader = Reader { bytes: round, at: reader.at };
    let mut places = Vec::with_capacity(parts_count);
    for _ in 0..parts_count {
        let topic_id = TopicId(u128::from_le_bytes(reader.take()?));
        let segment = Offset(i64::from_le_bytes(reader.take()?));
        let position = u64::from_le_bytes(reader.take()?);
        let bytes = u32::from_le_bytes(reader.take()?) as usize;
        let name_bytes = usize::from(u16::from_le_bytes(reader.take()?));
        let dir_name = std::str::from_utf8(reader.run(name_bytes)?).ok()?;
        places.push((Place { dir_name, topic_id, segment, position }, bytes));
    }
    let mut parts = Vec::with_capacity(parts_count);
    for (place, bytes) in places {
        parts.push(Part { place, bytes: reader.run(bytes)? });
    }
    Some(Round { number, needed_from, parts, bytes: round_bytes })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.run(N)?.try_into().ok()
    }

    fn run(&mut self, count: usize) -> Option<&'a [u8]> {
        let run = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(run)
    }
}

fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[COVERED_AT..]);
    bytes[CRC_AT..COVERED_AT].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(bytes: &[u8]) -> bool {
    u32::from_le_bytes(array(bytes, CRC_AT)) == crc32c::crc32c(&bytes[COVERED_AT..])
}

/// The `N` bytes at `at`, which are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of that length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir_name: &str, position: u64) -> Place<'_> {
        Place { dir_name, topic_id: TopicId(7), segment: Offset(40), position }
    }

    fn encoded(id: JournalId, parts: &[Part<'_>]) -> Vec<u8> {
        let parts_bytes = parts.iter().map(|part| part.place.bytes_with(part.bytes.len())).sum();
        let mut bytes = vec![0xaa; round_bytes(parts_bytes)];
        let places = parts.iter().map(|part| (part.place, part.bytes.len()));
        let mut writer = RoundWriter::new(&mut bytes, id, (9, 4), places);
        parts.iter().for_each(|part| writer.append(part.bytes));
        writer.finish();
        bytes
    }

    /// Goal: a round comes back as it was; any turned bit, another journal's id or a cut end makes
    /// it none. Method: each byte in turn, each length.
    #[test]
    fn a_round_is_whole_or_none() {
        let id = JournalId(1 << 90);
        let parts = [
            Part { place: place("words-0", 4_096), bytes: &[7; 100] },
            Part { place: place("words-1", 0), bytes: &[] },
            Part { place: place("other.words-12", 31), bytes: &[9; 4_000] },
        ];
        let bytes = encoded(id, &parts);
        assert_eq!(bytes.len(), 2 * DIRECT_ALIGN_BYTES);
        let round = decode_round(&bytes, id).expect("it is whole");
        assert_eq!((round.number, round.needed_from, round.bytes), (9, 4, bytes.len()));
        assert_eq!(round.parts, parts);
        assert_eq!(decode_round(&bytes, JournalId(2)), None);
        for at in 0..bytes.len() {
            let mut turned = bytes.clone();
            turned[at] ^= 0x10;
            assert_eq!(decode_round(&turned, id), None, "byte {at}");
            assert_eq!(decode_round(&bytes[..at], id), None, "cut at {at}");
        }
    }

    /// Goal: a first block names its journal, and nothing else does. Method: turn each byte.
    #[test]
    fn a_first_block_names_its_journal() {
        let id = JournalId(u128::MAX / 3);
        let block = encode_first_block(id);
        assert_eq!(decode_first_block(&block), Some(id));
        assert_eq!(decode_first_block(&block[1..]), None);
        for at in 0..block.len() {
            let mut turned = block;
            turned[at] ^= 1;
            assert_eq!(decode_first_block(&turned), None, "byte {at}");
        }
    }
}
