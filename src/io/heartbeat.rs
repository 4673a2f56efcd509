//! The heartbeat: a thread that wakes every shard now and then, whatever glommio believes.
//!
//! glommio 0.9.0 takes "the preempt timer fired before the first task ran" for "there was nothing
//! to run" and parks, with runnable tasks and without a timer, as the timer's task is among them. A
//! timer of its own therefore cannot cure it (a run of 2,000 wake-ups on a loaded machine hung one
//! time in nine). A wake-up from another thread does: it ends the park through glommio's own
//! eventfd. While a shard has traffic it is woken every 5 ms, which bounds what a lost wake-up
//! costs; without, every 50 ms, which costs an idle node next to nothing.
//! **Invariant:** a shard is registered exactly while its executor runs.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Longest sleep with runnable tasks while there is traffic.
const BUSY_TIME: Duration = Duration::from_millis(5);
/// Idle beats are this many times rarer.
const IDLE_BEATS_COUNT: u32 = 10;
/// Most beats between two attempts on a shard that does not answer (its thread is blocked): each
/// attempt holds a count of glommio's 15-bit ones until it is answered.
const UNANSWERED_BEATS_COUNT_MAX: u32 = 256;

/// What the thread knows of a shard.
pub(super) struct Pulse {
    waker: Mutex<Option<Waker>>,
    answered: AtomicBool,
    busy: AtomicBool,
    wait_beats_count: AtomicU32, // between attempts on one that does not answer
    left_beats_count: AtomicU32, // until the next attempt
}

/// A shard's registration; ends when dropped, on the shard's thread.
pub(super) struct Heartbeat(Arc<Pulse>);

#[derive(Default)]
struct Registry {
    pulses: Mutex<Vec<Arc<Pulse>>>,
    changed: Condvar,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();
static THREAD_STARTED: Mutex<bool> = Mutex::new(false);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn registry() -> &'static Registry {
    REGISTRY.get_or_init(Registry::default)
}

/// Starts the thread, once a process; by a thread that is not pinned, as it inherits that.
pub(super) fn start() -> io::Result<()> {
    let mut started = locked(&THREAD_STARTED);
    if !*started {
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(run)?;
        *started = true;
    }
    Ok(())
}

fn run() {
    let registry = registry();
    loop {
        let mut pulses = locked(&registry.pulses);
        while pulses.is_empty() {
            pulses = registry.changed.wait(pulses).unwrap_or_else(PoisonError::into_inner);
        }
        let mut busy = false;
        for pulse in pulses.iter() {
            pulse.beat();
            busy |= pulse.busy.load(Ordering::Relaxed);
        }
        drop(pulses);
        std::thread::sleep(if busy { BUSY_TIME } else { BUSY_TIME * IDLE_BEATS_COUNT });
    }
}

impl Pulse {
    fn beat(&self) {
        if self.answered.swap(false, Ordering::SeqCst) {
            self.wait_beats_count.store(1, Ordering::Relaxed);
        } else {
            let left_count = self.left_beats_count.load(Ordering::Relaxed);
            if left_count > 0 {
                self.left_beats_count.store(left_count - 1, Ordering::Relaxed);
                return;
            }
            let wait_count = self.wait_beats_count.load(Ordering::Relaxed);
            self.left_beats_count.store(wait_count, Ordering::Relaxed);
            let next_count = (wait_count * 2).min(UNANSWERED_BEATS_COUNT_MAX);
            self.wait_beats_count.store(next_count, Ordering::Relaxed);
        }
        // The lock keeps the shard from ending meanwhile: the task behind the waker is alive.
        if let Some(waker) = &*locked(&self.waker) {
            waker.wake_by_ref();
        }
    }
}

impl Heartbeat {
    /// Registers the calling shard.
    pub fn new() -> Heartbeat {
        let pulse = Arc::new(Pulse {
            waker: Mutex::new(None),
            answered: AtomicBool::new(true),
            busy: AtomicBool::new(true),
            wait_beats_count: AtomicU32::new(1),
            left_beats_count: AtomicU32::new(0),
        });
        let registry = registry();
        locked(&registry.pulses).push(pulse.clone());
        registry.changed.notify_one();
        Heartbeat(pulse)
    }

    /// Resolves at the next beat. `busy` says how soon that should be.
    pub async fn next(&self, busy: bool) {
        self.0.busy.store(busy, Ordering::Relaxed);
        self.0.answered.store(true, Ordering::SeqCst);
        let mut asked = false;
        poll_fn(|context| {
            if asked && !self.0.answered.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            asked = true;
            let mut waker = locked(&self.0.waker);
            if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        locked(&registry().pulses).retain(|pulse| !Arc::ptr_eq(pulse, &self.0));
        let waker = locked(&self.0.waker).take();
        drop(waker);
    }
}
