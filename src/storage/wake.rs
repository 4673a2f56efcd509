//! Tasks of one shard that wait for a log: woken by what they wait for, not by polling.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

/// Tasks that wait until something holds; whoever makes it hold calls [`Wakers::wake_all`].
#[derive(Default)]
pub struct Wakers {
    waiting: RefCell<Vec<Waker>>,
}

impl Wakers {
    /// Resolves with what `check` finds; it is asked at once and after every [`Wakers::wake_all`].
    pub fn until<'a, T>(
        &'a self,
        mut check: impl FnMut() -> Option<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        poll_fn(move |context| match check() {
            Some(found) => Poll::Ready(found),
            None => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
    }

    /// Lets everybody look again.
    pub fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }
}

/// Tasks that wait for a log to be acknowledged up to an offset; those that must still wait sleep
/// on.
#[derive(Default)]
pub struct OffsetWakers {
    waiting: RefCell<Vec<(i64, Waker)>>,
}

impl OffsetWakers {
    /// Wakes `waker` once the log is acknowledged up to `upto` (exclusive).
    pub fn add(&self, upto: i64, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        let known = waiting.iter().any(|entry| entry.0 == upto && entry.1.will_wake(waker));
        if !known {
            waiting.push((upto, waker.clone()));
        }
    }

    /// Wakes those who wait for `reached` or less.
    pub fn wake_upto(&self, reached: i64) {
        let mut waiting = self.waiting.borrow_mut();
        let mut at = 0;
        while at < waiting.len() {
            if waiting[at].0 <= reached {
                waiting.swap_remove(at).1.wake();
            } else {
                at += 1;
            }
        }
    }
}
