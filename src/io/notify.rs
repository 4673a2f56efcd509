//! Waking a shard from another thread: one bell a shard, rung by a mailbox, a freed buffer or a
//! signal.
//!
//! A bell is an eventfd that a shard's ring watches, and two flags: a shard that is awake looks at
//! `rung` every turn, so only one that said it sleeps costs the ringer a system call.
//! Whoever waits keeps its condition in memory of its own (a queue, a counter) and only learns
//! "look again" here.
//! **Invariant:** a condition that was made true before `ring` is seen by every watcher after it.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// What other threads hold of a shard: enough to make it look.
pub(super) struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    kind: BellKind,
}

enum BellKind {
    Eventfd(OwnedFd),
    /// In the simulation everything is one thread: a plain waker does.
    Waker(Mutex<Option<Waker>>),
}

impl Bell {
    /// A bell that a shard's ring can share.
    pub fn eventfd() -> io::Result<Arc<Bell>> {
        Ok(Bell::new(BellKind::Eventfd(new_eventfd()?)))
    }

    /// A bell of the simulation.
    pub fn simulated() -> Arc<Bell> {
        Bell::new(BellKind::Waker(Mutex::new(None)))
    }

    fn new(kind: BellKind) -> Arc<Bell> {
        let (rung, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Bell { rung, asleep, kind })
    }

    /// Makes the shard look again; from any thread, never blocks.
    pub fn ring(&self) {
        if self.rung.swap(true, Ordering::SeqCst) {
            return;
        }
        match &self.kind {
            BellKind::Eventfd(_) => self.wake_if_asleep(),
            BellKind::Waker(waker) => {
                if let Some(waker) = waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    waker.wake();
                }
            }
        }
    }

    /// Ends the sleep of a shard that said so; a full barrier came between the condition and this
    /// call.
    pub fn wake_if_asleep(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            signal_eventfd(self.eventfd_of_shard().as_raw_fd());
        }
    }

    /// Says that the shard is about to sleep; it looks at all conditions after this call.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Says that the shard is awake and will look by itself.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether the bell was rung since the shard last looked.
    pub fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst)
    }

    /// What the shard waits on.
    ///
    /// # Panics
    /// In the simulation, where there is none.
    pub fn eventfd_of_shard(&self) -> &OwnedFd {
        match &self.kind {
            BellKind::Eventfd(fd) => fd,
            BellKind::Waker(_) => unreachable!("a simulated bell is a waker"),
        }
    }

    /// Resolves when a simulated bell was rung; clears it.
    pub async fn rung(&self) {
        let BellKind::Waker(slot) = &self.kind else {
            unreachable!("a real bell is read through the ring")
        };
        std::future::poll_fn(|context| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if self.rung.swap(false, Ordering::SeqCst) {
                return Poll::Ready(());
            }
            *slot = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A shard's own end of its bell: the tasks that want to look when it rings.
pub(super) struct BellWatch {
    pub bell: Arc<Bell>,
    watchers: RefCell<Vec<Waker>>,
}

impl BellWatch {
    pub fn new(bell: Arc<Bell>) -> Rc<BellWatch> {
        Rc::new(BellWatch { bell, watchers: RefCell::new(Vec::new()) })
    }

    /// Wakes `waker` at the next ring, once. The caller looks at its condition *after* this call.
    pub fn watch(&self, waker: &Waker) {
        let mut watchers = self.watchers.borrow_mut();
        if !watchers.iter().any(|known| known.will_wake(waker)) {
            watchers.push(waker.clone());
        }
    }

    /// Allows the next ring and wakes every watcher, if the bell was rung; returns whether it was.
    pub fn wake_if_rung(&self) -> bool {
        // The flag goes first: a ring from now on is a new one.
        let rung = self.bell.is_rung() && self.bell.rung.swap(false, Ordering::SeqCst);
        if rung {
            self.wake_all();
        }
        rung
    }

    /// Wakes every watcher: called by the shard after the bell was cleared.
    pub fn wake_all(&self) {
        let watchers = std::mem::take(&mut *self.watchers.borrow_mut());
        for waker in watchers {
            waker.wake();
        }
    }
}

/// Wakes a shard's task from any thread: signals, the control thread.
///
/// `notify` is remembered when nobody waits, and then ends the next wait at once; several calls
/// before a wait count as one. Every task that waits at the time of a call is woken.
#[derive(Clone, Default)]
pub struct Notifier(Arc<NotifierState>);

#[derive(Default)]
struct NotifierState {
    notified_count: AtomicU64,
    taken_count: AtomicU64,
    bells: Mutex<Vec<Arc<Bell>>>,
}

impl Notifier {
    pub fn new() -> Notifier {
        Notifier::default()
    }

    /// Ends the waits of now, or else the next one; from any thread, never blocks for long.
    pub fn notify(&self) {
        self.0.notified_count.fetch_add(1, Ordering::SeqCst);
        let bells = std::mem::take(&mut *self.bells());
        for bell in bells {
            bell.ring();
        }
    }

    fn bells(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Bell>>> {
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn wait(&self, watch: &BellWatch) {
        let state = &self.0;
        let mut seen_count = state.taken_count.load(Ordering::SeqCst);
        std::future::poll_fn(|context| {
            watch.watch(context.waker());
            let mut bells = self.bells();
            if !bells.iter().any(|bell| Arc::ptr_eq(bell, &watch.bell)) {
                bells.push(watch.bell.clone());
            }
            drop(bells);
            let notified_count = state.notified_count.load(Ordering::SeqCst);
            if notified_count == seen_count {
                return Poll::Pending;
            }
            seen_count = notified_count;
            state.taken_count.fetch_max(notified_count, Ordering::SeqCst);
            Poll::Ready(())
        })
        .await;
    }
}

pub(super) fn new_eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn signal_eventfd(fd: RawFd) {
    let one: u64 = 1;
    // SAFETY: the pointer is to 8 live bytes, as an eventfd wants.
    let written = unsafe { libc::write(fd, (&raw const one).cast(), 8) };
    assert!(written == 8, "an eventfd's counter cannot be full: {}", io::Error::last_os_error());
}
