//! A wake-up between tasks of one shard, and a budget of bytes built on it.
//!
//! Nothing here crosses threads; a waiter checks its own condition, so a spurious wake costs a
//! look.

use crate::storage::wake::Wakers;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Wakes all who wait on it; keeps no state of its own.
#[derive(Default)]
pub struct Signal {
    waits: Wakers,
    /// Registered by hand, each task once.
    tasks: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Wakes every waiter once.
    pub fn notify(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        tasks.into_iter().for_each(Waker::wake);
        self.waits.wake_all();
    }

    /// Registers the task of `context` for the next `notify`; it stays until then.
    pub fn register(&self, context: &Context<'_>) {
        let mut tasks = self.tasks.borrow_mut();
        if !tasks.iter().any(|waker| waker.will_wake(context.waker())) {
            tasks.push(context.waker().clone());
        }
    }

    /// Resolves once `ready` answers with a value; asks now and after each `notify`.
    ///
    /// A wait that is dropped leaves nothing behind.
    pub async fn until<T>(&self, ready: impl FnMut() -> Option<T>) -> T {
        self.waits.until(ready).await
    }
}

/// A flag that is raised once; waiting on a raised flag returns at once.
#[derive(Default)]
pub struct Flag {
    raised: Cell<bool>,
    signal: Signal,
}

impl Flag {
    /// Raises the flag and wakes who waits.
    pub fn raise(&self) {
        self.raised.set(true);
        self.signal.notify();
    }

    /// Whether it was raised.
    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Resolves once it is raised.
    pub async fn wait(&self) {
        self.signal.until(|| self.raised.get().then_some(())).await;
    }
}

/// Bytes that may be in use at a time.
///
/// **Invariant:** the permits' bytes sum up to `used_bytes`; more than `bytes_max` only when one
/// permit alone is larger, since a request that never fits would wait for ever.
pub struct Budget {
    bytes_max: usize,
    used_bytes: Cell<usize>,
    waiting_count: Cell<usize>,
    freed: Signal,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Rc<Budget> {
        let (used_bytes, waiting_count) = (Cell::new(0), Cell::new(0));
        Rc::new(Budget { bytes_max, used_bytes, waiting_count, freed: Signal::default() })
    }

    /// Takes `bytes` if they fit now, or if nothing at all is taken.
    pub fn try_take(self: &Rc<Self>, bytes: usize) -> Option<Permit> {
        let used_bytes = self.used_bytes.get();
        if used_bytes > 0 && used_bytes.saturating_add(bytes) > self.bytes_max {
            return None;
        }
        self.used_bytes.set(used_bytes.saturating_add(bytes));
        Some(Permit { budget: self.clone(), bytes })
    }

    /// Takes `bytes` as soon as they fit.
    pub async fn take(self: &Rc<Self>, bytes: usize) -> Permit {
        let _waiting = Waiting::in_line(&self.waiting_count);
        self.freed.until(|| self.try_take(bytes)).await
    }

    /// Whether somebody waits for bytes that others hold.
    pub fn is_short(&self) -> bool {
        self.waiting_count.get() > 0
    }

    /// Bytes taken now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }
}

/// Counted as long as it lives.
struct Waiting<'a>(&'a Cell<usize>);

impl Waiting<'_> {
    fn in_line(count: &Cell<usize>) -> Waiting<'_> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Bytes of a [`Budget`] in use; gives them back when dropped.
pub struct Permit {
    budget: Rc<Budget>,
    bytes: usize,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Permit({} bytes)", self.bytes)
    }
}

impl Permit {
    /// Makes the permit one of at least `bytes`, also where they do not fit: its holder is ahead of
    /// those who wait, and what it asks for grows only with what has arrived.
    pub fn enlarge(&mut self, bytes: usize) {
        let more_bytes = bytes.saturating_sub(self.bytes);
        self.bytes += more_bytes;
        self.budget.used_bytes.set(self.budget.used_bytes.get().saturating_add(more_bytes));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let used_bytes = self.budget.used_bytes.get();
        assert!(used_bytes >= self.bytes, "a permit gives back what it took, once");
        self.budget.used_bytes.set(used_bytes - self.bytes);
        self.budget.freed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// Goal: a budget is never exceeded but by one lone request. Method: take, refuse, give back.
    #[test]
    fn a_budget_refuses_what_does_not_fit_and_takes_it_back() {
        let budget = Budget::new(100);
        let first = budget.try_take(60).expect("fits");
        assert!(budget.try_take(50).is_none());
        let waiting = budget.take(50);
        let mut waiting = std::pin::pin!(waiting);
        assert!(!budget.is_short());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(budget.is_short());
        drop(first);
        let second = waiting.now_or_never().expect("there is room now");
        assert!(!budget.is_short());
        drop(second);
        let lone = budget.try_take(1_000).expect("alone, a large one is admitted");
        assert!(budget.try_take(1).is_none());
        drop(lone);
        assert_eq!(budget.used_bytes(), 0);
    }

    /// Goal: waits that are given up leave nothing. Method: poll and drop 1,000.
    #[test]
    fn dropped_waits_leave_nothing() {
        let flag = Flag::default();
        for _ in 0..1_000 {
            assert!(flag.wait().now_or_never().is_none());
        }
        assert_eq!(flag.signal.waits.waiting_count(), 0);
        assert!(flag.signal.tasks.borrow().is_empty());
    }

    /// Goal: a flag stays raised. Method: wait before and after it is raised.
    #[test]
    fn a_raised_flag_lets_everybody_pass() {
        let flag = Flag::default();
        assert!(flag.wait().now_or_never().is_none());
        flag.raise();
        assert!(flag.wait().now_or_never().is_some());
        assert!(flag.is_raised());
    }
}
