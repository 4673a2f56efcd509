//! Answers on their way out: encoded heads and the slices of records between them, gathered so that
//! several answers leave with one send.

use crate::base::limits::{KIB, MIB};
use crate::io::Slice;
use crate::protocol::wire::Encoded;
use crate::shard::signal::Permit;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Answers are gathered up to here, bytes: a larger send gains nothing.
const GATHER_BYTES: usize = MIB;
/// Pieces of one send: the kernel takes 1,024.
const PIECES_COUNT_MAX: usize = 512;
/// First allocation for the heads of a gather.
const HEAD_BYTES: usize = KIB / 2;

/// One answer: the encoder's bytes, and what goes into its cuts, in order.
#[derive(Debug, Default)]
pub struct Answer {
    pub encoded: Encoded,
    pub slices: Vec<Slice>,
    /// For the bytes of `slices`, until they are sent.
    pub permit: Option<Permit>,
}

impl From<Encoded> for Answer {
    fn from(encoded: Encoded) -> Answer {
        Answer { encoded, slices: Vec::new(), permit: None }
    }
}

/// What a request comes to.
#[derive(Debug)]
pub enum Outcome {
    Answer(Answer),
    /// Nothing is sent: a produce with acks=0.
    Silent,
    /// The connection ends, for this reason.
    Close(String),
}

/// A request's outcome, now or later.
pub enum Pending {
    Now(Outcome),
    Later(Pin<Box<dyn Future<Output = Outcome>>>),
}

impl Pending {
    /// The outcome, once it is there; not to be polled after that.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        match self {
            Pending::Now(outcome) => Poll::Ready(std::mem::replace(outcome, Outcome::Silent)),
            Pending::Later(future) => future.as_mut().poll(context),
        }
    }
}

/// Several answers as one list of slices.
#[derive(Default)]
pub struct Gather {
    pieces: Vec<Slice>,
    head: Vec<u8>,
    bytes: usize,
    permits: Vec<Permit>,
}

impl Gather {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether it is time to send.
    pub fn is_full(&self) -> bool {
        self.bytes >= GATHER_BYTES || self.pieces.len() >= PIECES_COUNT_MAX
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an answer. Heads are joined; slices go in as they are.
    pub fn add(&mut self, answer: Answer) {
        let Answer { encoded, slices, permit } = answer;
        self.permits.extend(permit);
        self.bytes += encoded.bytes();
        if encoded.cuts.is_empty() && self.head.is_empty() {
            self.head = encoded.head;
            return;
        }
        self.head.reserve(encoded.head.len().max(HEAD_BYTES));
        let mut slices = slices.into_iter();
        let mut start = 0;
        for cut in &encoded.cuts {
            self.head.extend_from_slice(&encoded.head[start..cut.position]);
            start = cut.position;
            self.end_head();
            let mut missing_bytes = cut.bytes;
            while missing_bytes > 0 {
                let slice = slices.next().expect("there are slices for every cut");
                assert!(slice.len() <= missing_bytes, "slices end where their cut does");
                missing_bytes -= slice.len();
                self.pieces.push(slice);
            }
        }
        self.head.extend_from_slice(&encoded.head[start..]);
        debug_assert!(slices.next().is_none(), "there is a cut for every slice");
    }

    /// The lists to send, one after the other, and what to keep until they are sent.
    pub fn into_sends(mut self) -> (impl Iterator<Item = Vec<Slice>>, Vec<Permit>) {
        self.end_head();
        let mut pieces = self.pieces.into_iter();
        let sends = std::iter::from_fn(move || {
            let send: Vec<Slice> = pieces.by_ref().take(PIECES_COUNT_MAX).collect();
            (!send.is_empty()).then_some(send)
        });
        (sends, self.permits)
    }

    fn end_head(&mut self) {
        if !self.head.is_empty() {
            self.pieces.push(Slice::from(std::mem::take(&mut self.head)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::Cut;

    fn answer(head: &[u8], cuts: &[(usize, &[&[u8]])]) -> Answer {
        let slices = cuts.iter().flat_map(|(_, parts)| parts.iter());
        let slices = slices.map(|part| Slice::from(part.to_vec())).collect();
        let cuts = cuts.iter().map(|(position, parts)| {
            let bytes = parts.iter().map(|part| part.len()).sum();
            Cut { position: *position, bytes }
        });
        let encoded = Encoded { head: head.to_vec(), cuts: cuts.collect() };
        Answer { encoded, slices, permit: None }
    }

    /// Goal: bytes leave in order and records are not copied. Method: heads and cuts, then join.
    #[test]
    fn a_gather_keeps_the_order_of_heads_and_records() {
        let mut gather = Gather::default();
        assert!(gather.is_empty());
        gather.add(answer(b"ab", &[]));
        gather.add(answer(b"cdgj", &[(2, &[b"e", b"f"]), (3, &[b"hi"])]));
        gather.add(answer(b"k", &[]));
        assert_eq!(gather.bytes(), 11);
        let sends: Vec<Vec<Slice>> = gather.into_sends().0.collect();
        assert_eq!(sends.len(), 1);
        let pieces: Vec<&[u8]> = sends[0].iter().map(|slice| &slice[..]).collect();
        assert_eq!(pieces, [&b"abcd"[..], b"e", b"f", b"g", b"hi", b"jk"]);
    }

    /// Goal: no send has more pieces than the kernel takes. Method: an answer of many slices.
    #[test]
    fn many_pieces_leave_in_several_sends() {
        let parts = vec![&b"x"[..]; 2 * PIECES_COUNT_MAX];
        let mut gather = Gather::default();
        gather.add(answer(b"ab", &[(1, &parts)]));
        assert!(gather.is_full());
        let counts: Vec<usize> = gather.into_sends().0.map(|send| send.len()).collect();
        assert_eq!(counts, [PIECES_COUNT_MAX, PIECES_COUNT_MAX, 2]);
    }
}
