//! Batches straight from a file, believed only after their checksum: what recovery reads with.
//!
//! Reads front to back in large pieces and never writes.
//! **Invariant:** no position and no length from the file is used before it is checked against the
//! file's size.

use super::frame::{HEAD_BYTES, Head, NoHead, crc_holds};
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB, REQUEST_BYTES_MAX};
use crate::io::{File, Io, Slice};
use std::io;
use std::ops::Range;

/// Bytes of one read.
const PIECE_BYTES: u64 = MIB as u64;

/// Bytes of the base offset, which is a head's first field.
const BASE_OFFSET_BYTES: usize = 8;

const ALIGN: u64 = DIRECT_ALIGN_BYTES as u64;

/// Why there is no good batch at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchEnd {
    /// Nothing was ever written here, or only by the file's former life.
    NeverWritten,
    /// Bytes that are no batch.
    Bad,
    /// As `Bad`, and nothing valid follows in the file.
    Torn,
}

/// Batches that continue each other's offsets.
struct Chain {
    position_end: u64,
    end_offset: i64,
    /// Nothing was ever written behind them, or they are more than a value can hold.
    is_closed: bool,
}

/// A reader over one file.
pub(super) struct Scan<'a> {
    io: &'a Io,
    file: &'a File,
    bytes: u64,
    /// The two pieces read last, by position.
    pieces: Vec<(u64, Slice)>,
}

impl<'a> Scan<'a> {
    /// Reads `file` up to `bytes`.
    pub fn new(io: &'a Io, file: &'a File, bytes: u64) -> Scan<'a> {
        Scan { io, file, bytes, pieces: Vec::new() }
    }

    /// The batch at `position`, if it is whole and begins with offset `expected`.
    pub async fn batch_at(
        &mut self,
        position: u64,
        expected: i64,
    ) -> io::Result<Result<Head, BatchEnd>> {
        if position + HEAD_BYTES as u64 > self.bytes {
            let rest = self.parts(position, self.bytes).await?;
            let zeroes = rest.iter().all(|part| part.iter().all(|&byte| byte == 0));
            return Ok(Err(if zeroes { BatchEnd::NeverWritten } else { BatchEnd::Bad }));
        }
        let head = match self.parse_at(position).await? {
            Ok(head) if head.base_offset < expected => {
                // The file's former life, unless a batch of this life follows: the base offset is
                // outside of the checksum.
                let is_damaged = self.is_followed(&head, position, expected).await?;
                let end = if is_damaged { BatchEnd::Bad } else { BatchEnd::NeverWritten };
                return Ok(Err(end));
            }
            Ok(head) => head,
            Err(NoHead::Zeroes) => return Ok(Err(BatchEnd::NeverWritten)),
            Err(NoHead::Garbage) => return Ok(Err(BatchEnd::Bad)),
        };
        let end = position + head.bytes;
        if end > self.bytes || head.base_offset != expected {
            return Ok(Err(BatchEnd::Bad));
        }
        if self.is_whole(&head, position).await? {
            return Ok(Ok(head));
        }
        Ok(Err(BatchEnd::Bad))
    }

    /// The head at `position`, its checksum not looked at; `None` where there is none.
    pub async fn head_at(&mut self, position: u64) -> io::Result<Option<Head>> {
        if position + HEAD_BYTES as u64 > self.bytes {
            return Ok(None);
        }
        let head = self.parse_at(position).await?.ok();
        Ok(head.filter(|head| position + head.bytes <= self.bytes))
    }

    /// The first batch of this log behind the bad one at `bad`, with offsets in `offsets`.
    ///
    /// A record's value may hold what is a whole batch by itself. So the place where the bad batch
    /// ends, as it says, comes first; then a batch that others continue up to the end of what was
    /// written, or that is at least followed by later ones.
    pub async fn find_next(
        &mut self,
        bad: u64,
        offsets: Range<i64>,
    ) -> io::Result<Option<(u64, Head)>> {
        if let Some(head) = self.head_at(bad).await? {
            let position = bad + head.bytes;
            if let Some(next) = self.whole_at(position, &offsets).await? {
                return Ok(Some((position, next)));
            }
        }
        let mut doubtful: Option<(u64, Head, i64)> = None;
        let mut from = bad + 1;
        while let Some((position, head)) = self.find_valid(from, &offsets).await? {
            if let Some((position, first, end_offset)) = doubtful
                && end_offset <= head.base_offset
            {
                return Ok(Some((position, first)));
            }
            let chain = self.chain_of(position, &head).await?;
            if chain.is_closed {
                return Ok(Some((position, head)));
            }
            doubtful = Some((position, head, chain.end_offset));
            from = chain.position_end;
        }
        Ok(doubtful.map(|(position, head, _)| (position, head)))
    }

    /// The batches that continue the one at `position`.
    async fn chain_of(&mut self, position: u64, head: &Head) -> io::Result<Chain> {
        let (mut position_end, mut end_offset) = (position + head.bytes, head.end_offset());
        loop {
            let is_closed = match self.batch_at(position_end, end_offset).await? {
                // No value is that long.
                Ok(_) if position_end - position > REQUEST_BYTES_MAX as u64 => true,
                Ok(next) => {
                    (position_end, end_offset) = (position_end + next.bytes, next.end_offset());
                    continue;
                }
                Err(end) => end == BatchEnd::NeverWritten,
            };
            return Ok(Chain { position_end, end_offset, is_closed });
        }
    }

    /// The batch at `position`, if it is whole and its offsets lie in `offsets`.
    async fn whole_at(&mut self, position: u64, offsets: &Range<i64>) -> io::Result<Option<Head>> {
        let Some(head) = self.head_at(position).await? else { return Ok(None) };
        let fits = head.base_offset >= offsets.start && head.last_offset() < offsets.end;
        Ok((fits && self.is_whole(&head, position).await?).then_some(head))
    }

    /// Whether the batch at `position` is whole and the next one as if it began with `expected`.
    async fn is_followed(&mut self, head: &Head, position: u64, expected: i64) -> io::Result<bool> {
        let end = position + head.bytes;
        let next_base = expected.saturating_add(i64::from(head.last_offset_delta) + 1);
        let next = self.whole_at(end, &(next_base..i64::MAX)).await?;
        let follows = next.is_some_and(|next| next.base_offset == next_base);
        Ok(follows && self.is_whole(head, position).await?)
    }

    /// The first whole batch at `from` or behind it with offsets in `offsets`, be it in a value.
    pub async fn find_valid(
        &mut self,
        from: u64,
        offsets: &Range<i64>,
    ) -> io::Result<Option<(u64, Head)>> {
        let mut at = from;
        while at + HEAD_BYTES as u64 <= self.bytes {
            let window_end = (at / PIECE_BYTES + 1) * PIECE_BYTES;
            let window = self.window(at, window_end.min(self.bytes)).await?;
            for candidate in candidates(&window, offsets.start) {
                let position = at + candidate as u64;
                if position >= window_end {
                    break;
                }
                let Ok(head) = Head::parse_slice(&window[candidate..]) else { continue };
                let fits = position + head.bytes <= self.bytes;
                if fits
                    && head.last_offset() < offsets.end
                    && self.is_whole(&head, position).await?
                {
                    return Ok(Some((position, head)));
                }
            }
            at = window_end;
        }
        Ok(None)
    }

    /// Bytes from `position` on that are not zero, up to the last of them in the same piece.
    pub async fn dirty_bytes_at(&mut self, position: u64) -> u64 {
        let end = ((position / PIECE_BYTES + 1) * PIECE_BYTES).min(self.bytes);
        let Ok(window) = self.window(position, end).await else { return 0 };
        let used = window[..(end.saturating_sub(position) as usize).min(window.len())]
            .iter()
            .rposition(|&byte| byte != 0);
        used.map_or(0, |last| last as u64 + 1)
    }

    async fn is_whole(&mut self, head: &Head, position: u64) -> io::Result<bool> {
        let parts = self.parts(position, position + head.bytes).await?;
        Ok(crc_holds(head, parts.iter().map(|part| &part[..])))
    }

    /// Whether a whole block between `from` and `to` is zeroes: prepared, and never written since.
    pub async fn has_hole(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from.next_multiple_of(ALIGN);
        while at + ALIGN <= to.min(self.bytes) {
            let parts = self.parts(at, at + ALIGN).await?;
            if parts.iter().all(|part| part.iter().all(|&byte| byte == 0)) {
                return Ok(true);
            }
            at += ALIGN;
        }
        Ok(false)
    }

    /// Whether a block that the batch at `position` should reach into is zeroes, its first one
    /// aside.
    pub async fn reaches_into_hole(&mut self, position: u64) -> io::Result<bool> {
        let head = self.head_at(position).await?;
        let end = position + head.map_or(HEAD_BYTES as u64, |head| head.bytes);
        self.has_hole(position, end.next_multiple_of(ALIGN)).await
    }

    async fn parse_at(&mut self, position: u64) -> io::Result<Result<Head, NoHead>> {
        let mut head = [0; HEAD_BYTES];
        let mut filled = 0;
        for part in self.parts(position, position + HEAD_BYTES as u64).await? {
            head[filled..filled + part.len()].copy_from_slice(&part);
            filled += part.len();
        }
        // A head on the border of two blocks of which a crash kept only the later one: no batch
        // behind the first has base offset 0.
        let first_bytes = (ALIGN - position % ALIGN) as usize;
        let in_first = head.get(..first_bytes).filter(|part| part.len() >= BASE_OFFSET_BYTES);
        if in_first.is_some_and(|part| part.iter().all(|&byte| byte == 0)) {
            return Ok(Err(NoHead::Zeroes));
        }
        Ok(Head::parse(&head))
    }

    /// Bytes from `from` to `to` and a head's worth more, in one run.
    async fn window(&mut self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let to = (to + HEAD_BYTES as u64).min(self.bytes);
        let parts = self.parts(from, to).await?;
        Ok(parts.iter().map(|part| &part[..]).collect::<Vec<_>>().concat())
    }

    /// The bytes from `from` to `to` as they lie in the pieces.
    async fn parts(&mut self, from: u64, to: u64) -> io::Result<Vec<Slice>> {
        let to = to.min(self.bytes);
        let mut parts = Vec::new();
        let mut at = from;
        while at < to {
            let piece_start = at / PIECE_BYTES * PIECE_BYTES;
            let piece = self.piece(piece_start).await?;
            let part_end = (to - piece_start).min(piece.len() as u64);
            let part_start = at - piece_start;
            if part_start >= part_end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            parts.push(piece.slice(part_start as usize..part_end as usize));
            at = piece_start + part_end;
        }
        Ok(parts)
    }

    async fn piece(&mut self, start: u64) -> io::Result<Slice> {
        if let Some((_, piece)) = self.pieces.iter().find(|piece| piece.0 == start) {
            return Ok(piece.clone());
        }
        if self.pieces.len() > 1 {
            self.pieces.remove(0);
        }
        let bytes = PIECE_BYTES.min((self.bytes - start).next_multiple_of(ALIGN));
        let buffer = self.io.memory().allocate_wait(bytes as usize).await;
        let (result, buffer) = self.file.read_at(start, buffer).await;
        let read = (result? as u64).min(self.bytes - start);
        let piece = buffer.freeze().slice(0..read as usize);
        self.pieces.push((start, piece.clone()));
        Ok(piece)
    }
}

/// Positions in `window` where a batch of this log may begin; a cheap look at a few bytes each.
fn candidates(window: &[u8], offset_min: i64) -> impl Iterator<Item = usize> + '_ {
    let last = window.len().saturating_sub(HEAD_BYTES - 1);
    (0..last).filter(move |&at| {
        window[at + 16] == 2
            && window[at] == 0
            && window[at + 8] < 8
            && window[at..]
                .first_chunk::<8>()
                .is_some_and(|bytes| i64::from_be_bytes(*bytes) >= offset_min)
    })
}
