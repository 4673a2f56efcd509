//! Calls that await their reply: a slot for each call in flight, found again by its number.
//!
//! **Invariant:** a slot is reused only after its reply came and was taken or dropped, so a late
//! reply never reaches another call.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Number of a call in flight of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(u32);

enum Slot<R> {
    Free { next: Option<u32> },
    Waiting(Option<Waker>),
    Replied(R),
    Abandoned,
}

struct Slots<R> {
    slots: Vec<Slot<R>>,
    free: Option<u32>,
}

/// The calls of one shard that wait for a reply of type `R`.
pub struct Calls<R>(Rc<RefCell<Slots<R>>>);

impl<R> Default for Calls<R> {
    fn default() -> Calls<R> {
        Calls(Rc::new(RefCell::new(Slots { slots: Vec::new(), free: None })))
    }
}

impl<R> Calls<R> {
    /// Opens a call; the future resolves when `finish` is called with its id.
    pub fn open(&self) -> Call<R> {
        let mut slots = self.0.borrow_mut();
        let index = match slots.free {
            Some(index) => {
                let Slot::Free { next } = slots.slots[index as usize] else {
                    unreachable!("the free list holds free slots");
                };
                slots.free = next;
                slots.slots[index as usize] = Slot::Waiting(None);
                index
            }
            None => {
                slots.slots.push(Slot::Waiting(None));
                u32::try_from(slots.slots.len() - 1).expect("memory ends long before 2^32 calls")
            }
        };
        Call { calls: self.0.clone(), index }
    }

    /// Hands `reply` to the call `id`; drops it if the caller no longer waits.
    pub fn finish(&self, id: CallId, reply: R) {
        let mut slots = self.0.borrow_mut();
        let slot = &mut slots.slots[id.0 as usize];
        match std::mem::replace(slot, Slot::Abandoned) {
            Slot::Waiting(waker) => {
                *slot = Slot::Replied(reply);
                drop(slots);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Slot::Abandoned => slots.release(id.0),
            Slot::Free { .. } | Slot::Replied(_) => unreachable!("a call is answered once"),
        }
    }

    /// Calls whose reply has not been taken.
    #[cfg(test)]
    fn open_count(&self) -> usize {
        let slots = self.0.borrow();
        slots.slots.iter().filter(|slot| !matches!(slot, Slot::Free { .. })).count()
    }
}

impl<R> Slots<R> {
    fn release(&mut self, index: u32) {
        self.slots[index as usize] = Slot::Free { next: self.free };
        self.free = Some(index);
    }
}

/// A call in flight: resolves to its reply. Dropping it drops the reply when it comes.
pub struct Call<R> {
    calls: Rc<RefCell<Slots<R>>>,
    index: u32,
}

impl<R> Call<R> {
    /// The number to answer to.
    pub fn id(&self) -> CallId {
        CallId(self.index)
    }
}

impl<R> Future for Call<R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let mut slots = self.calls.borrow_mut();
        let slot = &mut slots.slots[self.index as usize];
        match slot {
            Slot::Waiting(waker) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Slot::Replied(_) => {
                // Dropping the future frees the slot; till then it holds nothing.
                let Slot::Replied(reply) = std::mem::replace(slot, Slot::Free { next: None })
                else {
                    unreachable!("just seen");
                };
                Poll::Ready(reply)
            }
            Slot::Free { .. } | Slot::Abandoned => panic!("a call is not polled after its reply"),
        }
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        let mut slots = self.calls.borrow_mut();
        let slot = &mut slots.slots[self.index as usize];
        match slot {
            Slot::Waiting(_) => *slot = Slot::Abandoned,
            Slot::Free { .. } => slots.release(self.index),
            Slot::Replied(_) => {
                let reply = std::mem::replace(slot, Slot::Free { next: None });
                slots.release(self.index);
                drop(slots);
                drop(reply);
            }
            Slot::Abandoned => unreachable!("only a drop abandons"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// Goal: replies reach their own call, slots are reused. Method: finish out of order, drop
    /// some.
    #[test]
    fn a_reply_reaches_its_call_and_no_other() {
        let calls = Calls::<u32>::default();
        let (first, second, dropped) = (calls.open(), calls.open(), calls.open());
        let (first_id, second_id, dropped_id) = (first.id(), second.id(), dropped.id());
        drop(dropped);
        calls.finish(second_id, 2);
        assert_eq!(second.now_or_never(), Some(2));
        let third = calls.open();
        assert_ne!(third.id(), dropped_id, "an abandoned slot waits for its reply");
        calls.finish(dropped_id, 3);
        calls.finish(first_id, 1);
        assert_eq!(first.now_or_never(), Some(1));
        calls.finish(third.id(), 4);
        drop(third);
        assert_eq!(calls.open_count(), 0);
    }
}
