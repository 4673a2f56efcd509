//! The timers of a shard, by deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A deadline on the shard's clock and a number of its own: equal deadlines fire in order.
type Key = (Duration, u64);

/// The sleeps that wait. Times are on the shard's monotonic clock.
#[derive(Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    fired: Cell<Duration>,
    next: Cell<u64>,
}

impl Timers {
    /// Resolves when [`Timers::fire`] was called with `deadline` or later.
    pub fn sleep_until(&self, deadline: Duration) -> Sleep<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        Sleep { timers: self, key: (deadline, number), waits: false }
    }

    /// Wakes all whose deadline is not after `now`.
    pub fn fire(&self, now: Duration) {
        self.fired.set(now);
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let due = waiting.first_entry().filter(|first| first.key().0 <= now);
            let Some(waker) = due.map(|due| due.remove()) else { return };
            drop(waiting);
            waker.wake();
        }
    }

    /// The first deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.borrow().first_key_value().map(|(key, _)| key.0)
    }
}

/// See [`Timers::sleep_until`].
pub(super) struct Sleep<'a> {
    timers: &'a Timers,
    key: Key,
    waits: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.fired.get() >= self.key.0 {
            return Poll::Ready(());
        }
        let last = self.timers.waiting.borrow_mut().insert(self.key, context.waker().clone());
        drop(last);
        self.waits = true;
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if self.waits {
            let waker = self.timers.waiting.borrow_mut().remove(&self.key);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Goal: a sleep ends at its deadline and not before, and leaves nothing behind when dropped.
    /// Method: three deadlines, fired by hand.
    #[test]
    fn sleeps_end_in_order_of_their_deadlines() {
        let timers = Timers::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut late = pin!(timers.sleep_until(ms(20)));
        let mut early = pin!(timers.sleep_until(ms(10)));
        let mut dropped = Box::pin(timers.sleep_until(ms(5)));
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert!(early.as_mut().poll(&mut context).is_pending());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
        assert_eq!(timers.next_deadline(), Some(ms(5)));
        drop(dropped);
        assert_eq!(timers.next_deadline(), Some(ms(10)));
        timers.fire(ms(9));
        assert!(early.as_mut().poll(&mut context).is_pending());
        timers.fire(ms(10));
        assert!(early.as_mut().poll(&mut context).is_ready());
        assert!(late.as_mut().poll(&mut context).is_pending());
        timers.fire(ms(30));
        assert!(late.as_mut().poll(&mut context).is_ready());
        assert_eq!(timers.next_deadline(), None);
        assert!(pin!(timers.sleep_until(ms(30))).poll(&mut context).is_ready());
    }
}
