//! What a log writes down so that a start need not read it: two small text formats.
//!
//! `log.checkpoint` in each partition's directory: where the log starts (DeleteRecords), up to
//! where it is known to be whole, which ranges are corrupt. `clean-shutdown` in the data directory:
//! all of that for every log after a clean stop, so that a start opens 1,000 of them without a
//! system call each. Also `partition.metadata`, Kafka's own. Pure: reads and writes no files.

use super::epochs::EpochCache;
use super::segment::SegmentFacts;
use crate::base::ids::{LeaderEpoch, Offset, TopicId};
use std::fmt::Write as _;
use std::str::FromStr;

/// Name of the checkpoint in a partition's directory.
pub const CHECKPOINT_NAME: &str = "log.checkpoint";
/// Name of Kafka's file with the topic's id in a partition's directory.
pub const PARTITION_METADATA_NAME: &str = "partition.metadata";

/// First line of both formats; their last one is a checksum of all before it.
const FORMAT_LINE: &str = "ringmain-log 2";
/// First line of files that earlier versions wrote, without a checksum.
const UNSEALED_FORMAT_LINE: &str = "ringmain-log 1";
/// Begins the line of the checksum.
const SEAL_WORD: &str = "crc32c ";

/// A place in a log up to which everything is durable and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPoint {
    pub offset: Offset,
    pub segment: Offset,
    /// In the segment's file: a batch starts here, or will.
    pub position: u64,
    pub max_timestamp: i64,
    pub max_timestamp_offset: i64,
}

/// Offsets from `start` to `end` (exclusive) that cannot be read: the disk damaged them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorruptRange {
    pub start: Offset,
    pub end: Offset,
    /// The segment whose file holds them, and the bytes there.
    pub segment: Offset,
    pub position: u64,
    pub position_end: u64,
}

/// The contents of `log.checkpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub start_offset: Offset,
    pub recovery_point: Option<RecoveryPoint>,
    /// The snapshot of producers to begin with, not before the recovery point; `None`: nobody was
    /// known.
    pub producers: Option<Offset>,
    pub corrupt: Vec<CorruptRange>,
}

/// A log as a clean stop left it. `Send`: starts read it on one thread and deal it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanLog {
    /// Name of the partition's directory.
    pub dir_name: String,
    pub topic_id: TopicId,
    pub start_offset: Offset,
    pub segments: Vec<SegmentFacts>,
    pub epochs: EpochCache,
    /// The snapshot of producers at the log's end; `None`: nobody was known.
    pub producers: Option<Offset>,
    pub corrupt: Vec<CorruptRange>,
}

impl Checkpoint {
    /// The file's contents.
    pub fn encode(&self) -> String {
        let mut text = format!("{FORMAT_LINE}\nstart {}\n", self.start_offset);
        if let Some(point) = &self.recovery_point {
            let _ = writeln!(
                text,
                "recovery {} {} {} {} {}",
                point.offset,
                point.segment,
                point.position,
                point.max_timestamp,
                point.max_timestamp_offset
            );
        }
        write_producers(&mut text, self.producers);
        write_corrupt(&mut text, &self.corrupt);
        sealed(text)
    }

    /// Reads the file; `None`: it is not what [`Checkpoint::encode`] writes.
    pub fn decode(text: &str) -> Option<Checkpoint> {
        let mut checkpoint = Checkpoint::default();
        for line in unsealed(text)?.lines() {
            let mut words = line.split(' ');
            match words.next()? {
                "start" => checkpoint.start_offset = Offset(number(&mut words)?),
                "recovery" => {
                    checkpoint.recovery_point = Some(RecoveryPoint {
                        offset: Offset(number(&mut words)?),
                        segment: Offset(number(&mut words)?),
                        position: number(&mut words)?,
                        max_timestamp: number(&mut words)?,
                        max_timestamp_offset: number(&mut words)?,
                    });
                }
                "producers" => checkpoint.producers = Some(Offset(number(&mut words)?)),
                "corrupt" => checkpoint.corrupt.push(read_corrupt(&mut words)?),
                _ => return None,
            }
        }
        Some(checkpoint)
    }
}

/// The contents of `clean-shutdown`.
pub fn encode_clean(logs: &[CleanLog]) -> String {
    let mut text = format!("{FORMAT_LINE}\n");
    for log in logs {
        let _ = writeln!(text, "log {} {} {}", log.dir_name, log.topic_id, log.start_offset);
        for facts in &log.segments {
            let _ = writeln!(
                text,
                "segment {} {} {} {} {} {}",
                facts.base_offset,
                facts.bytes,
                facts.end_offset,
                facts.max_timestamp,
                facts.max_timestamp_offset,
                facts.created_ms
            );
        }
        for (epoch, start) in log.epochs.entries() {
            let _ = writeln!(text, "epoch {epoch} {start}");
        }
        write_producers(&mut text, log.producers);
        write_corrupt(&mut text, &log.corrupt);
    }
    let _ = writeln!(text, "end {}", logs.len());
    sealed(text)
}

/// Reads `clean-shutdown`; `None`: it is not whole, start as after a crash.
pub fn decode_clean(text: &str) -> Option<Vec<CleanLog>> {
    let mut logs: Vec<CleanLog> = Vec::new();
    for line in unsealed(text)?.lines() {
        let mut words = line.split(' ');
        match words.next()? {
            "log" => logs.push(CleanLog {
                dir_name: words.next()?.to_owned(),
                topic_id: words.next()?.parse().ok()?,
                start_offset: Offset(number(&mut words)?),
                segments: Vec::new(),
                epochs: EpochCache::default(),
                producers: None,
                corrupt: Vec::new(),
            }),
            "segment" => logs.last_mut()?.segments.push(SegmentFacts {
                base_offset: Offset(number(&mut words)?),
                bytes: number(&mut words)?,
                end_offset: Offset(number(&mut words)?),
                max_timestamp: number(&mut words)?,
                max_timestamp_offset: number(&mut words)?,
                created_ms: number(&mut words)?,
            }),
            "epoch" => {
                let entry = (LeaderEpoch(number(&mut words)?), Offset(number(&mut words)?));
                logs.last_mut()?.epochs.note(entry.0, entry.1);
            }
            "producers" => logs.last_mut()?.producers = Some(Offset(number(&mut words)?)),
            "corrupt" => logs.last_mut()?.corrupt.push(read_corrupt(&mut words)?),
            "end" => {
                let count: usize = number(&mut words)?;
                return (count == logs.len()).then_some(logs);
            }
            _ => return None,
        }
    }
    None
}

/// The contents of Kafka's `partition.metadata`.
pub fn encode_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// The topic id in a `partition.metadata`; `None`: it is not one.
pub fn decode_partition_metadata(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "version: 0" {
        return None;
    }
    lines.next()?.strip_prefix("topic_id:")?.trim().parse().ok()
}

/// `text` with its checksum in a line more.
fn sealed(mut text: String) -> String {
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "{SEAL_WORD}{crc:08x}");
    text
}

/// The lines between the first and the checksum's; `None`: another format, or damage.
fn unsealed(text: &str) -> Option<&str> {
    let (format, rest) = text.split_once('\n')?;
    if format == UNSEALED_FORMAT_LINE {
        return Some(rest);
    }
    let seal_start = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let crc = text[seal_start..].trim_end().strip_prefix(SEAL_WORD)?;
    let holds = u32::from_str_radix(crc, 16) == Ok(crc32c::crc32c(&text.as_bytes()[..seal_start]));
    (format == FORMAT_LINE && holds).then(|| &text[format.len() + 1..seal_start])
}

fn write_producers(text: &mut String, snapshot: Option<Offset>) {
    if let Some(offset) = snapshot {
        let _ = writeln!(text, "producers {offset}");
    }
}

fn write_corrupt(text: &mut String, ranges: &[CorruptRange]) {
    for range in ranges {
        let _ = writeln!(
            text,
            "corrupt {} {} {} {} {}",
            range.start, range.end, range.segment, range.position, range.position_end
        );
    }
}

fn read_corrupt<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<CorruptRange> {
    Some(CorruptRange {
        start: Offset(number(words)?),
        end: Offset(number(words)?),
        segment: Offset(number(words)?),
        position: number(words)?,
        position_end: number(words)?,
    })
}

fn number<'a, N: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<N> {
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrupt() -> CorruptRange {
        CorruptRange {
            start: Offset(7),
            end: Offset(9),
            segment: Offset(0),
            position: 100,
            position_end: 300,
        }
    }

    /// What a version without checksums wrote.
    fn as_before(text: &str) -> String {
        let end = text.rfind(SEAL_WORD).expect("it is sealed");
        text[..end].replacen(FORMAT_LINE, UNSEALED_FORMAT_LINE, 1)
    }

    fn flip_every_bit(text: &str, check: impl Fn(&str)) {
        for at in 0..text.len() * 8 {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            check(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Goal: a checkpoint reads back, also one without a checksum; a torn or damaged one is not
    /// believed. Method: encode, decode, cut, flip every bit.
    #[test]
    fn a_checkpoint_reads_back() {
        let point = RecoveryPoint {
            offset: Offset(10),
            segment: Offset(4),
            position: 700,
            max_timestamp: -1,
            max_timestamp_offset: 9,
        };
        let checkpoint = Checkpoint {
            start_offset: Offset(3),
            recovery_point: Some(point),
            producers: Some(Offset(12)),
            corrupt: vec![corrupt()],
        };
        let text = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&text), Some(checkpoint.clone()));
        assert_eq!(Checkpoint::decode(&as_before(&text)), Some(checkpoint.clone()));
        flip_every_bit(&text, |text| {
            let found = Checkpoint::decode(text);
            assert!(found.is_none_or(|found| found == checkpoint), "{text}");
        });
        assert_eq!(Checkpoint::decode("ringmain-log 1\nrecovery 1 2"), None);
        assert_eq!(Checkpoint::decode("other"), None);
    }

    /// Goal: the whole node's state reads back, a cut or damaged one never does. Method: cut at
    /// every line, flip every bit.
    #[test]
    fn a_clean_stop_reads_back_whole_or_not_at_all() {
        let mut epochs = EpochCache::default();
        epochs.note(LeaderEpoch(3), Offset(0));
        let facts = SegmentFacts {
            base_offset: Offset(0),
            bytes: 900,
            end_offset: Offset(10),
            max_timestamp: 5,
            max_timestamp_offset: 9,
            created_ms: 1,
        };
        let log = CleanLog {
            dir_name: "words-0".to_owned(),
            topic_id: TopicId(77),
            start_offset: Offset(0),
            segments: vec![facts],
            epochs,
            producers: Some(Offset(10)),
            corrupt: vec![corrupt()],
        };
        let logs = vec![log.clone(), log];
        let text = encode_clean(&logs);
        assert_eq!(decode_clean(&text), Some(logs.clone()));
        assert_eq!(decode_clean(&as_before(&text)), Some(logs.clone()));
        flip_every_bit(&text, |text| {
            assert!(decode_clean(text).is_none_or(|found| found == logs), "{text}");
        });
        for (at, _) in text.match_indices('\n').filter(|&(at, _)| at + 1 < text.len()) {
            assert_eq!(decode_clean(&text[..=at]), None);
        }
        let id = TopicId(12);
        assert_eq!(decode_partition_metadata(&encode_partition_metadata(id)), Some(id));
    }
}
