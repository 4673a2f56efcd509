//! Tasks of one shard that wait: woken by what they wait for, not by polling.
//!
//! **Invariant:** a waker is kept no longer than the wait that left it.

use super::log::FlushError;
use crate::base::ids::Offset;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Tasks that wait until something holds; whoever makes it hold calls [`Wakers::wake_all`].
#[derive(Default)]
pub struct Wakers {
    waiting: RefCell<BTreeMap<u64, Waker>>,
    key_next: Cell<u64>,
}

impl Wakers {
    /// Resolves with what `check` finds; it is asked at once and after every [`Wakers::wake_all`].
    pub fn until<'a, T>(
        &'a self,
        mut check: impl FnMut() -> Option<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        let key = self.key_next.get();
        self.key_next.set(key + 1);
        let wait = Wait { wakers: self, key };
        poll_fn(move |context| match check() {
            Some(found) => Poll::Ready(found),
            None => {
                wait.register(context.waker());
                Poll::Pending
            }
        })
    }

    /// Lets everybody look again.
    pub fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Lets the one look again that has waited longest.
    fn wake_first(&self) {
        let first = self.waiting.borrow_mut().pop_first();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }

    /// How many wait now.
    #[cfg(test)]
    pub fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }
}

/// One wait; takes its waker away when dropped.
struct Wait<'a> {
    wakers: &'a Wakers,
    key: u64,
}

impl Wait<'_> {
    fn register(&self, waker: &Waker) {
        let older = self.wakers.waiting.borrow_mut().insert(self.key, waker.clone());
        drop(older);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // Dropped after the borrow: a waker may own its task, and that another wait.
        let waker = self.wakers.waiting.borrow_mut().remove(&self.key);
        drop(waker);
    }
}

/// Set as long as it lives, and on its end whoever waits looks again: also where the future that
/// holds it is dropped, or panics.
pub(super) struct Raised<'a> {
    flag: &'a Cell<bool>,
    wakers: &'a Wakers,
}

impl<'a> Raised<'a> {
    /// Lowers `flag`, which the caller raised, when the result is dropped.
    pub fn adopt(flag: &'a Cell<bool>, wakers: &'a Wakers) -> Raised<'a> {
        assert!(flag.get(), "whoever raised it gives it away");
        Raised { flag, wakers }
    }

    /// Raises `flag`, if nobody else has.
    pub fn try_raise(flag: &'a Cell<bool>, wakers: &'a Wakers) -> Option<Raised<'a>> {
        (!flag.replace(true)).then_some(Raised { flag, wakers })
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.flag.set(false);
        self.wakers.wake_all();
    }
}

/// How many of something may be under way at once; whoever waits longest is woken first, but who
/// asks before it runs goes ahead of it.
///
/// A wait must go on to its end once it began: the wake-up of one that is dropped is lost.
pub(super) struct Turns {
    free_count: Cell<usize>,
    wakers: Wakers,
}

/// One of [`Turns`], given back when dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    pub fn new(count: usize) -> Turns {
        Turns { free_count: Cell::new(count), wakers: Wakers::default() }
    }

    /// Resolves when fewer than that many are under way.
    pub async fn take(&self) -> Turn<'_> {
        let has_free = || (self.free_count.get() > 0).then_some(());
        self.wakers.until(has_free).await;
        self.free_count.set(self.free_count.get() - 1);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free_count.set(self.0.free_count.get() + 1);
        self.0.wakers.wake_first();
    }
}

/// Cuts that are told apart: of more, who waits may be told of a cut that spared its records.
const CUTS_COUNT_MAX: usize = 16;

/// Where a log was cut, for those who wait for records to be flushed.
#[derive(Default)]
pub(super) struct Cuts {
    count: u64,
    /// The last ones: their number, where the log ended then, why. Both numbers grow: a cut stands
    /// for older ones that left more.
    recent: VecDeque<(u64, Offset, FlushError)>,
}

impl Cuts {
    /// How many there were: what a wait begins with.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes note that the log ends at `end` now, and why.
    pub fn note(&mut self, end: Offset, why: FlushError) {
        self.count += 1;
        while self.recent.back().is_some_and(|cut| cut.1 >= end) {
            self.recent.pop_back();
        }
        self.recent.push_back((self.count, end, why));
        if self.recent.len() > CUTS_COUNT_MAX {
            let oldest = self.recent.pop_front().expect("there are many");
            self.recent[0].1 = oldest.1;
        }
    }

    /// Why records below `upto` are gone of which some were appended after cut number `count`.
    pub fn since(&self, count: u64, upto: Offset) -> Option<FlushError> {
        let lowest = self.recent.iter().find(|cut| cut.0 > count)?;
        (lowest.1 < upto).then(|| lowest.2.clone())
    }
}

/// Tasks that wait for a log to be acknowledged up to an offset; those that must still wait sleep
/// on.
#[derive(Default)]
pub struct OffsetWakers {
    waiting: RefCell<BTreeMap<(i64, u64), Waker>>,
    key_next: Cell<u64>,
}

impl OffsetWakers {
    /// A wait until the log is acknowledged up to `upto` (exclusive).
    pub fn wait(self: &Rc<Self>, upto: i64) -> OffsetWait {
        let key = self.key_next.get();
        self.key_next.set(key + 1);
        OffsetWait { wakers: self.clone(), key: (upto, key) }
    }

    /// Wakes those who wait for `reached` or less.
    pub fn wake_upto(&self, reached: i64) {
        let due = {
            let mut waiting = self.waiting.borrow_mut();
            let later = match reached.checked_add(1) {
                Some(next) => waiting.split_off(&(next, 0)),
                None => BTreeMap::new(),
            };
            std::mem::replace(&mut *waiting, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// How many wait now.
    #[cfg(test)]
    pub fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }
}

/// One wait for an offset; takes its waker away when dropped.
pub struct OffsetWait {
    wakers: Rc<OffsetWakers>,
    key: (i64, u64),
}

impl OffsetWait {
    /// Wakes `waker` once the offset is reached.
    pub fn register(&self, waker: &Waker) {
        let older = self.wakers.waiting.borrow_mut().insert(self.key, waker.clone());
        drop(older);
    }
}

impl Drop for OffsetWait {
    fn drop(&mut self) {
        let waker = self.wakers.waiting.borrow_mut().remove(&self.key);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Context;

    /// Goal: waits that are given up leave nothing. Method: poll and drop 1,000 of each kind.
    #[test]
    fn dropped_waits_leave_no_wakers() {
        let wakers = Wakers::default();
        for _ in 0..1_000 {
            assert!(wakers.until(|| None::<()>).now_or_never().is_none());
        }
        assert_eq!(wakers.waiting_count(), 0);
        let mut kept = std::pin::pin!(wakers.until(|| None::<()>));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(kept.as_mut().poll(&mut context).is_pending());
            assert_eq!(wakers.waiting_count(), 1);
        }
    }

    /// Goal: as many go on at once as there are turns, and whoever waits longest is woken first.
    /// Method: one turn that is taken, two that wait for it.
    #[test]
    fn turns_wake_in_order() {
        let turns = Turns::new(1);
        let first = turns.take().now_or_never().expect("nobody has it");
        let woken = [const { AtomicBool::new(false) }; 2].map(|flag| Arc::new(Flag(flag)));
        let mut waits = [Box::pin(turns.take()), Box::pin(turns.take())];
        let mut poll = |at: usize| {
            let waker = Waker::from(woken[at].clone());
            waits[at].as_mut().poll(&mut Context::from_waker(&waker)).map(std::mem::forget)
        };
        assert!(poll(0).is_pending() && poll(1).is_pending());
        drop(first);
        let are_woken = || woken.each_ref().map(|flag| flag.0.load(Ordering::Relaxed));
        assert_eq!(are_woken(), [true, false]);
        assert!(poll(0).is_ready() && poll(1).is_pending());
        drop(Turn(&turns));
        assert_eq!(are_woken(), [true, true]);
        assert!(poll(1).is_ready());
    }

    struct Flag(AtomicBool);

    impl std::task::Wake for Flag {
        fn wake(self: Arc<Flag>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Goal: a cut is told to those whose records it took, and to no others. Method: three cuts,
    /// one below another; then more than are kept.
    #[test]
    fn only_records_behind_a_cut_are_gone() {
        let mut cuts = Cuts::default();
        cuts.note(Offset(10), FlushError::NoSpace);
        cuts.note(Offset(20), FlushError::NoSpace);
        cuts.note(Offset(15), FlushError::Truncated);
        let gone = |since, upto| cuts.since(since, Offset(upto));
        assert_eq!((gone(0, 10), gone(0, 11)), (None, Some(FlushError::NoSpace)));
        assert_eq!((gone(1, 15), gone(1, 16)), (None, Some(FlushError::Truncated)));
        assert_eq!((gone(2, 15), gone(2, 20)), (None, Some(FlushError::Truncated)));
        assert_eq!(gone(3, 1_000), None);
        for end in 100..200 {
            cuts.note(Offset(end), FlushError::NoSpace);
        }
        assert_eq!(cuts.recent.len(), CUTS_COUNT_MAX);
        assert_eq!(cuts.since(0, Offset(10)), None);
        assert_eq!(cuts.since(0, Offset(11)), Some(FlushError::NoSpace));
        assert_eq!(cuts.since(cuts.count(), Offset(1_000)), None);
    }

    /// Goal: only who is due is woken. Method: three offsets, woken in two steps.
    #[test]
    fn offsets_wake_in_order() {
        let wakers = Rc::new(OffsetWakers::default());
        let waits = [5, 7, i64::MAX].map(|upto| wakers.wait(upto));
        waits.iter().for_each(|wait| wait.register(Waker::noop()));
        wakers.wake_upto(4);
        assert_eq!(wakers.waiting_count(), 3);
        wakers.wake_upto(5);
        assert_eq!(wakers.waiting_count(), 2);
        waits[1].register(Waker::noop());
        drop(waits);
        assert_eq!(wakers.waiting_count(), 0);
        let last = wakers.wait(i64::MAX);
        last.register(Waker::noop());
        wakers.wake_upto(i64::MAX);
        assert_eq!(wakers.waiting_count(), 0);
    }
}
