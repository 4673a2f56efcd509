//! The bytes of the metadata log's files: a head block, then frames; and the snapshot's file.
//!
//! A frame is what one flush made durable: it holds all of it or, torn, none. Frames follow each
//! other at multiples of 8 bytes, numbered from 0, sealed by a CRC-32C and marked with the file's
//! salt, so that neither stale bytes nor a client's can pass for one. Pure: bytes in, values out.

use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use crate::consensus::{Entry, HardState, Snapshot};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// Version of the files' format.
const FORMAT_VERSION: u32 = 1;

const LOG_MAGIC: &[u8; 8] = b"RINGMLOG";
const SNAPSHOT_MAGIC: &[u8; 8] = b"RINGMSNP";
const FRAME_MAGIC: u32 = 0x4652_4d52; // "RMRF"

/// Head of a frame: magic, body length, number, salt, CRC of all but itself and the magic, zeroes.
const FRAME_HEAD_BYTES: usize = 32;
const FRAME_CRC_START: usize = 24;
const FRAME_ALIGN_BYTES: usize = 8;

/// Largest body of a frame: all the proposals that may wait at a time, twice.
const FRAME_BODY_BYTES_MAX: usize = 128 * MIB;

/// Bytes in front of the first frame: a block, so that no frame's write touches the head.
pub(super) const LOG_HEAD_BYTES: usize = DIRECT_ALIGN_BYTES;

/// Kind of an entry that carries a proposal. Other numbers are free for changes of membership.
const KIND_COMMAND: u8 = 0;

#[derive(Archive, Serialize, Deserialize)]
struct EntryBody {
    index: u64,
    term: u64,
    kind: u8,
    data: Vec<u8>,
}

#[derive(Archive, Serialize, Deserialize)]
struct FrameBody {
    hard_state: Option<(u64, u64, u64)>, // term, vote, commit
    entries: Vec<EntryBody>,
}

#[derive(Archive, Serialize, Deserialize)]
struct SnapshotBody {
    index: u64,
    term: u64,
    voters: Vec<u64>,
    data: Vec<u8>,
}

/// What one flush made durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub hard_state: Option<HardState>,
    pub entries: Vec<Entry>,
}

/// Head of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogHead {
    /// Random, other for each file.
    pub salt: u64,
    /// The snapshot that this file continues.
    pub base_index: u64,
    pub base_term: u64,
}

/// Why a file's bytes are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("it does not begin as a file of the metadata log does")]
    Magic,
    #[error("it has format version {version}, this program knows {FORMAT_VERSION}")]
    Version { version: u32 },
    #[error("its head is damaged")]
    Head,
    #[error("its contents are damaged: {reason}")]
    Contents { reason: String },
    #[error(
        "frame {sequence} at byte {position} is damaged but a later one is whole: this is no torn \
         end of a write but damage to the disk; restore the file from a copy"
    )]
    Corrupt { sequence: u64, position: usize },
}

impl LogHead {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LOG_HEAD_BYTES);
        bytes.extend_from_slice(LOG_MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for number in [self.salt, self.base_index, self.base_term] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(LOG_HEAD_BYTES, 0);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<LogHead, FormatError> {
        check_magic(bytes, LOG_MAGIC)?;
        let crc = u32_at(bytes, 40).ok_or(FormatError::Head)?;
        if bytes.len() < LOG_HEAD_BYTES || crc != crc32c::crc32c(&bytes[..40]) {
            return Err(FormatError::Head);
        }
        let number = |position| u64_at(bytes, position).ok_or(FormatError::Head);
        Ok(LogHead { salt: number(16)?, base_index: number(24)?, base_term: number(32)? })
    }
}

fn check_magic(bytes: &[u8], magic: &[u8; 8]) -> Result<(), FormatError> {
    if !bytes.starts_with(magic) {
        return Err(FormatError::Magic);
    }
    match u32_at(bytes, 8) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(version) => Err(FormatError::Version { version }),
        None => Err(FormatError::Head),
    }
}

fn u32_at(bytes: &[u8], position: usize) -> Option<u32> {
    let field = bytes.get(position..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], position: usize) -> Option<u64> {
    let field = bytes.get(position..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

/// The bytes of frame number `sequence`, padded to where the next one begins.
pub(super) fn encode_frame(frame: &Frame, sequence: u64, salt: u64) -> Vec<u8> {
    let entry_body = |entry: &Entry| EntryBody {
        index: entry.index,
        term: entry.term,
        kind: KIND_COMMAND,
        data: entry.data.clone(),
    };
    let body = FrameBody {
        hard_state: frame.hard_state.map(|state| (state.term, state.vote, state.commit)),
        entries: frame.entries.iter().map(entry_body).collect(),
    };
    let body = rkyv::to_bytes::<rancor::Error>(&body).expect("a frame holds only plain values");
    assert!(body.len() <= FRAME_BODY_BYTES_MAX, "proposals are bounded well below a frame");
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + body.len() + FRAME_ALIGN_BYTES);
    let body_bytes = u32::try_from(body.len()).expect("bounded just above");
    bytes.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&body_bytes.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..]), &body);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(FRAME_HEAD_BYTES, 0);
    bytes.extend_from_slice(&body);
    bytes.resize(bytes.len().next_multiple_of(FRAME_ALIGN_BYTES), 0);
    bytes
}

/// The sequence number and body of a whole frame at the start of `bytes`.
fn whole_frame(bytes: &[u8], salt: u64) -> Option<(u64, &[u8])> {
    let (magic, body_bytes) = (u32_at(bytes, 0)?, u32_at(bytes, 4)? as usize);
    let (sequence, found_salt, crc) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?, u32_at(bytes, 24)?);
    if magic != FRAME_MAGIC || found_salt != salt || body_bytes > FRAME_BODY_BYTES_MAX {
        return None;
    }
    let body = bytes.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + body_bytes)?;
    let head_crc = crc32c::crc32c(&bytes[4..FRAME_CRC_START]);
    (crc32c::crc32c_append(head_crc, body) == crc).then_some((sequence, body))
}

fn decode_body(body: &[u8]) -> Result<Frame, FormatError> {
    let contents = |reason: String| FormatError::Contents { reason };
    let body = rkyv::from_bytes::<FrameBody, rancor::Error>(&aligned(body))
        .map_err(|error| contents(error.to_string()))?;
    if let Some(entry) = body.entries.iter().find(|entry| entry.kind != KIND_COMMAND) {
        return Err(contents(format!("entry {} is of unknown kind {}", entry.index, entry.kind)));
    }
    let entry = |entry: EntryBody| Entry { index: entry.index, term: entry.term, data: entry.data };
    Ok(Frame {
        hard_state: body.hard_state.map(|(term, vote, commit)| HardState { term, vote, commit }),
        entries: body.entries.into_iter().map(entry).collect(),
    })
}

fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut aligned = AlignedVec::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes); // rkyv reads only aligned memory
    aligned
}

/// What a log file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub head: LogHead,
    pub frames: Vec<Frame>,
    /// Where the next frame goes.
    pub end: usize,
    /// Whether bytes that are no frame and not zero follow: a torn write, to be wiped.
    pub torn: bool,
}

/// Reads a whole log file.
///
/// # Errors
/// [`FormatError`]: another program's or version's file, or damage before its last frame.
pub(super) fn scan(bytes: &[u8]) -> Result<Scanned, FormatError> {
    let head = LogHead::decode(bytes)?;
    let (mut frames, mut end) = (Vec::new(), LOG_HEAD_BYTES);
    while let Some((sequence, body)) =
        bytes.get(end..).and_then(|rest| whole_frame(rest, head.salt))
    {
        if sequence != frames.len() as u64 {
            return Err(FormatError::Corrupt { sequence: frames.len() as u64, position: end });
        }
        frames.push(decode_body(body)?);
        end += (FRAME_HEAD_BYTES + body.len()).next_multiple_of(FRAME_ALIGN_BYTES);
    }
    let rest = bytes.get(end..).unwrap_or_default();
    let torn = rest.iter().any(|byte| *byte != 0);
    if torn && has_later_frame(rest, head.salt, frames.len() as u64) {
        return Err(FormatError::Corrupt { sequence: frames.len() as u64, position: end });
    }
    Ok(Scanned { head, frames, end, torn })
}

fn has_later_frame(bytes: &[u8], salt: u64, sequence: u64) -> bool {
    let starts = (0..bytes.len()).step_by(FRAME_ALIGN_BYTES);
    starts
        .filter(|start| u32_at(bytes, *start) == Some(FRAME_MAGIC))
        .any(|start| whole_frame(&bytes[start..], salt).is_some_and(|(found, _)| found > sequence))
}

/// The file of a snapshot.
pub(super) fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let Snapshot { index, term, voters, data } = snapshot.clone();
    let body = rkyv::to_bytes::<rancor::Error>(&SnapshotBody { index, term, voters, data })
        .expect("a snapshot holds only plain values");
    let mut bytes = SNAPSHOT_MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a snapshot's file.
///
/// # Errors
/// [`FormatError`]: another program's or version's file, or damage.
pub(super) fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, FormatError> {
    check_magic(bytes, SNAPSHOT_MAGIC)?;
    let crc = u32_at(bytes, 12).ok_or(FormatError::Head)?;
    let body_bytes = u64_at(bytes, 16).ok_or(FormatError::Head)?;
    let body = &bytes[24..];
    if body.len() as u64 != body_bytes || crc32c::crc32c(body) != crc {
        return Err(FormatError::Contents { reason: "its checksum does not match".to_owned() });
    }
    let body = rkyv::from_bytes::<SnapshotBody, rancor::Error>(&aligned(body))
        .map_err(|error| FormatError::Contents { reason: error.to_string() })?;
    let SnapshotBody { index, term, voters, data } = body;
    Ok(Snapshot { index, term, voters, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: LogHead = LogHead { salt: 77, base_index: 3, base_term: 2 };

    fn frame(index: u64, bytes: usize) -> Frame {
        let hard_state = Some(HardState { term: 2, vote: 1, commit: index });
        Frame { hard_state, entries: vec![Entry { index, term: 2, data: vec![7; bytes] }] }
    }

    fn file(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = HEAD.encode();
        for (sequence, frame) in (0..).zip(frames) {
            bytes.extend(encode_frame(frame, sequence, HEAD.salt));
        }
        bytes
    }

    #[test]
    fn frames_read_back_and_zeroes_behind_them_are_the_end() {
        let frames = [frame(4, 1), frame(5, 0), frame(6, 9_000)];
        let mut bytes = file(&frames);
        let end = bytes.len();
        bytes.resize(end + 8192, 0);
        let scanned = scan(&bytes).unwrap();
        assert_eq!((scanned.head, scanned.end, scanned.torn), (HEAD, end, false));
        assert_eq!(scanned.frames, frames);
    }

    /// Goal: a torn last frame is cut, whatever was left of it. Method: keep its first and last
    /// parts at every 512 bytes, zero or stale between.
    #[test]
    fn a_torn_last_frame_is_cut_at_every_sector() {
        let whole = [frame(4, 100), frame(5, 100)];
        let before = file(&whole);
        let with_last = file(&[whole[0].clone(), whole[1].clone(), frame(6, 5_000)]);
        for cut in (before.len()..with_last.len()).step_by(512) {
            let mut bytes = with_last.clone();
            bytes[cut..].fill(0);
            let scanned = scan(&bytes).unwrap();
            assert_eq!((scanned.frames.len(), scanned.end), (2, before.len()), "cut at {cut}");
            let mut bytes = with_last.clone();
            bytes[before.len()..=cut].fill(0); // the end arrived, the start did not
            let scanned = scan(&bytes).unwrap();
            assert_eq!((scanned.frames.len(), scanned.torn), (2, true), "start lost up to {cut}");
        }
    }

    #[test]
    fn damage_before_a_whole_frame_is_corruption_not_a_torn_end() {
        let bytes = file(&[frame(4, 100), frame(5, 100), frame(6, 100)]);
        let first_bytes = encode_frame(&frame(4, 100), 0, HEAD.salt).len();
        for position in LOG_HEAD_BYTES..LOG_HEAD_BYTES + first_bytes - FRAME_ALIGN_BYTES {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            if damaged[position] == bytes[position] {
                continue;
            }
            let found = scan(&damaged);
            let padded = (28..32).contains(&(position - LOG_HEAD_BYTES)); // zeroes of the head
            assert!(
                padded || matches!(found, Err(FormatError::Corrupt { sequence: 0, .. })),
                "byte {position}: {found:?}"
            );
        }
    }

    #[test]
    fn foreign_and_damaged_files_are_refused() {
        assert_eq!(scan(b"something else"), Err(FormatError::Magic));
        let mut newer = file(&[]);
        newer[8] = 9;
        assert_eq!(scan(&newer), Err(FormatError::Version { version: 9 }));
        let mut damaged = file(&[]);
        damaged[17] ^= 1;
        assert_eq!(scan(&damaged), Err(FormatError::Head));
        for cut in 0..LOG_HEAD_BYTES {
            assert!(scan(&file(&[])[..cut]).is_err());
        }
    }

    #[test]
    fn a_snapshot_reads_back_and_any_flipped_byte_is_seen() {
        let snapshot = Snapshot { index: 9, term: 2, voters: vec![1, 2], data: vec![5; 100] };
        let bytes = encode_snapshot(&snapshot);
        assert_eq!(decode_snapshot(&bytes), Ok(snapshot));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert!(decode_snapshot(&damaged).is_err(), "byte {position}");
            assert!(decode_snapshot(&bytes[..position]).is_err(), "cut at {position}");
        }
    }
}
