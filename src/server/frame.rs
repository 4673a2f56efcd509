//! From a socket's bytes to request frames: reads ahead, so that many small requests cost one
//! receive.
//!
//! A frame is a slice of what was received, without its 4-byte size. What is allocated for a frame
//! that has not arrived is a fixed multiple of what has, or of the largest frame that this
//! connection sent before: a declared length alone costs nothing.

use crate::base::limits::{KIB, MIB};
use crate::io::{Buffer, Memory, Slice, Socket};
use crate::shard::signal::{Budget, Permit};
use std::rc::Rc;

/// Bytes of the size in front of each frame.
const SIZE_BYTES: usize = 4;
/// Least bytes of a request: key, version, correlation id.
const REQUEST_BYTES_MIN: usize = 8;
/// Read-ahead of a connection that says little: all that an idle connection holds.
const AHEAD_BYTES_MIN: usize = 4 * KIB;
/// Read-ahead of a busy connection: some hundred small requests a receive.
const AHEAD_BYTES_MAX: usize = 64 * KIB;
/// A frame may be given so many times what of it has arrived.
const GROWTH_FACTOR: usize = 16;
/// Most that a connection's earlier frames earn it: a declared length alone never costs more.
const PROVEN_BYTES_MAX: usize = 4 * MIB;

/// One request, and what it holds of the shard's budget.
pub struct Frame {
    pub bytes: Slice,
    pub permit: Permit,
}

/// Why a connection is closed by this side.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {size} bytes is declared; {REQUEST_BYTES_MIN} to {bytes_max} are taken")]
    Size { size: i32, bytes_max: usize },
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

/// What has been received and not yet handed on.
///
/// **Invariant:** `position` is the start of a frame's size, and never beyond the end of `ahead`.
pub struct Frames {
    bytes_max: usize,
    memory: Memory,
    budget: Rc<Budget>,
    ahead: Slice,
    position: usize,
    permit: Option<Permit>, // of a frame too large for the read-ahead, taken before its memory
    ahead_bytes: usize,     // size of the next receive
    proven_bytes: usize,    // largest frame that arrived whole
}

/// The begin of a frame whose end has not come, at the front of a buffer.
struct Partial {
    buffer: Buffer,
    filled: usize,
}

impl Frames {
    /// Nothing received yet; frames of more than `bytes_max` are refused.
    pub fn new(bytes_max: usize, memory: Memory, budget: Rc<Budget>) -> Frames {
        Frames {
            bytes_max: bytes_max.min(memory.budget_bytes() / 2),
            memory,
            budget,
            ahead: Slice::empty(),
            position: 0,
            permit: None,
            ahead_bytes: AHEAD_BYTES_MIN,
            proven_bytes: 0,
        }
    }

    /// The next frame; `None` when the peer closed. Waits while the shard is over its budget.
    ///
    /// # Errors
    /// [`FrameError`]: the connection cannot go on.
    pub async fn next(&mut self, socket: &Socket) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.take().await? {
                return Ok(Some(frame));
            }
            if !self.receive(socket).await? {
                return Ok(None);
            }
        }
    }

    /// Takes a frame that has arrived whole.
    async fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.ahead[self.position..];
        let Some(size) = declared(rest) else { return Ok(None) };
        let frame_bytes = self.checked(size)?;
        let start = self.position + SIZE_BYTES;
        if self.ahead.len() - start < frame_bytes {
            return Ok(None);
        }
        let permit = match self.permit.take().or_else(|| self.budget.try_take(frame_bytes)) {
            Some(permit) => permit,
            None => self.budget.take(frame_bytes).await,
        };
        self.position = start + frame_bytes;
        self.proven_bytes = self.proven_bytes.max(frame_bytes);
        let bytes = self.ahead.slice(start..self.position);
        if self.position == self.ahead.len() {
            self.ahead = Slice::empty();
            self.position = 0;
        }
        Ok(Some(Frame { bytes, permit }))
    }

    fn checked(&self, size: i32) -> Result<usize, FrameError> {
        let frame_bytes = usize::try_from(size).ok();
        let taken =
            frame_bytes.filter(|bytes| (REQUEST_BYTES_MIN..=self.bytes_max).contains(bytes));
        taken.ok_or(FrameError::Size { size, bytes_max: self.bytes_max })
    }

    /// Receives until a frame is whole or the read-ahead got something; false at the end.
    async fn receive(&mut self, socket: &Socket) -> Result<bool, FrameError> {
        let mut partial = self.begin().await?;
        loop {
            let whole = match declared(&partial.buffer[..partial.filled]) {
                Some(size) => Some(self.checked(size)? + SIZE_BYTES),
                None => None,
            };
            if let Some(whole) = whole
                && partial.filled < whole
                && partial.filled == partial.buffer.len()
            {
                partial = self.grow(partial, whole).await;
            }
            let Partial { buffer, filled } = partial;
            let capacity = buffer.len();
            let (received, buffer) = match whole {
                Some(whole) if whole > AHEAD_BYTES_MAX && filled < whole => {
                    let upto = whole.min(capacity);
                    let (result, buffer) = socket.recv_exact(buffer, filled, upto).await;
                    match result {
                        Ok(()) => (upto - filled, buffer),
                        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                            return Ok(false);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                _ => {
                    let (result, buffer) = socket.recv(buffer, filled).await;
                    (result?, buffer)
                }
            };
            if received == 0 {
                return Ok(false);
            }
            partial = Partial { buffer, filled: filled + received };
            let have = declared(&partial.buffer[..partial.filled]);
            let is_whole = match have {
                Some(size) => partial.filled >= self.checked(size)? + SIZE_BYTES,
                None => false,
            };
            if is_whole {
                self.finish(partial, received);
                return Ok(true);
            }
        }
    }

    /// A buffer with what is left of the read-ahead at its front.
    async fn begin(&mut self) -> Result<Partial, FrameError> {
        let rest = self.ahead.slice(self.position..self.ahead.len());
        (self.ahead, self.position) = (Slice::empty(), 0);
        let mut wanted = self.ahead_bytes.max(rest.len() + SIZE_BYTES);
        if let Some(size) = declared(&rest) {
            let whole = self.checked(size)? + SIZE_BYTES;
            if whole > AHEAD_BYTES_MAX {
                wanted = wanted.max(self.room_for(whole, rest.len()));
                self.permit = Some(self.budget.take(wanted).await);
            }
        }
        let mut buffer = self.memory.allocate_wait(wanted).await;
        buffer[..rest.len()].copy_from_slice(&rest);
        Ok(Partial { buffer, filled: rest.len() })
    }

    /// A larger buffer for a frame of `whole` bytes with its size.
    async fn grow(&mut self, partial: Partial, whole: usize) -> Partial {
        let room_bytes = self.room_for(whole, partial.filled);
        if whole > AHEAD_BYTES_MAX {
            // What is held counts, not what is declared: a peer that stalls holds back nobody else.
            match &mut self.permit {
                Some(permit) => permit.enlarge(room_bytes),
                None => self.permit = Some(self.budget.take(room_bytes).await),
            }
        }
        let mut buffer = self.memory.allocate_wait(room_bytes).await;
        buffer[..partial.filled].copy_from_slice(&partial.buffer[..partial.filled]);
        Partial { buffer, filled: partial.filled }
    }

    /// How many bytes a frame of `whole` bytes may occupy when `filled` have arrived.
    fn room_for(&self, whole: usize, filled: usize) -> usize {
        let earned = filled.saturating_mul(GROWTH_FACTOR).max(AHEAD_BYTES_MAX);
        whole.min(earned.max(self.proven_bytes.min(PROVEN_BYTES_MAX) + SIZE_BYTES))
    }

    /// Hands the received bytes on to `take`, and fits the next receive to how much came.
    fn finish(&mut self, partial: Partial, received: usize) {
        let Partial { mut buffer, filled } = partial;
        if self.permit.is_some() {
            self.ahead_bytes = AHEAD_BYTES_MIN; // large frames are received each for itself
        } else if filled == buffer.len() {
            self.ahead_bytes = (self.ahead_bytes * 4).min(AHEAD_BYTES_MAX);
        } else if received < self.ahead_bytes / 8 {
            self.ahead_bytes = (self.ahead_bytes / 2).max(AHEAD_BYTES_MIN);
        }
        buffer.truncate(filled);
        self.ahead = buffer.freeze();
        self.position = 0;
    }
}

/// The size in front of a frame, once its 4 bytes are here.
fn declared(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|size| i32::from_be_bytes(*size))
}
