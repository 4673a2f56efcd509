//! Waiting between the tasks of one thread: a gate for many, a slot for one answer.
//!
//! Nothing here is `Send`; a wake-up is a flag and a poll, with no lock and no system call.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Tasks that wait until something about their shared state has changed.
#[derive(Default)]
pub struct Gate {
    waiting: RefCell<Vec<(u64, Waker)>>, // by ticket
    ticket_next: Cell<u64>,
}

impl Gate {
    /// Ends when `ready` gives a value; asks it now and after each [`Gate::open`].
    pub async fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        let mine = self.ticket_next.get();
        self.ticket_next.set(mine + 1);
        poll_fn(|context| match ready() {
            Some(value) => Poll::Ready(value),
            None => {
                let waker = context.waker().clone();
                let mut waiting = self.waiting.borrow_mut();
                match waiting.iter_mut().find(|(ticket, _)| *ticket == mine) {
                    Some(entry) => entry.1 = waker,
                    None => waiting.push((mine, waker)),
                }
                Poll::Pending
            }
        })
        .await
    }

    /// Lets everyone who waits look again.
    pub fn open(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        for (_, waker) in self.waiting.take() {
            waker.wake();
        }
    }
}

/// One value that one task waits for.
struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

/// The side that answers.
pub struct Reply<T>(Rc<Slot<T>>);

/// The side that waits: a future of the value.
pub struct Answer<T>(Rc<Slot<T>>);

/// A slot's two sides.
pub fn slot<T>() -> (Reply<T>, Answer<T>) {
    let slot = Rc::new(Slot { value: Cell::new(None), waker: Cell::new(None) });
    (Reply(Rc::clone(&slot)), Answer(slot))
}

impl<T> Reply<T> {
    /// Hands over the value; a waiter that is gone does not mind.
    pub fn send(self, value: T) {
        self.0.value.set(Some(value));
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.0.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.0.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// Goal: an answer arrives whenever it is sent. Method: poll before and after, and drop.
    #[test]
    fn a_slot_hands_over_its_value_once() {
        let (reply, answer) = slot();
        let mut answer = pin!(answer);
        let mut context = Context::from_waker(Waker::noop());
        assert!(answer.as_mut().poll(&mut context).is_pending());
        reply.send(7);
        assert_eq!(answer.as_mut().poll(&mut context), Poll::Ready(7));
        let (reply, answer) = slot();
        drop(answer);
        reply.send(8);
    }

    /// Goal: a gate re-asks only when opened, and registers a task once. Method: poll by hand.
    #[test]
    fn a_gate_lets_a_task_look_again() {
        let gate = Gate::default();
        let value = Cell::new(None);
        let mut wait = pin!(gate.wait(|| value.take()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        assert_eq!(gate.waiting.borrow().len(), 1);
        value.set(Some("open"));
        gate.open();
        assert_eq!(wait.as_mut().poll(&mut context), Poll::Ready("open"));
    }
}
