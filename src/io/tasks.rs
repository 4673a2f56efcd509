//! The tasks of a shard: those that can run, in the order in which they were woken.
//!
//! A wake-up puts a task at the end of the queue, from whichever thread it comes; one from another
//! thread also wakes a shard that sleeps. A turn runs the tasks that were runnable when it began,
//! and some times more those that were woken meanwhile, so a task that yields lets all others go
//! first, and the ring soon. The main future is no task: it has
//! a flag instead of a place in the queue, and may borrow.
//! **Invariant:** a task is polled and dropped on its shard's thread only.

use super::notify::Bell;
use async_task::{Runnable, Task};
use crossbeam_queue::SegQueue;
use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Wake, Waker};

/// Tasks that a turn runs at most before the ring is looked at again.
const TURN_TASKS_COUNT_MAX: usize = 128;

/// A request wakes the committer, that wakes who waits, and so on: so often such a chain goes on
/// before the ring is looked at again, which costs a system call.
const TURN_ROUNDS_COUNT_MAX: usize = 4;

/// What wakers reach from any thread.
struct Queue {
    runnable: SegQueue<Runnable>,
    main: AtomicBool,
    bell: Arc<Bell>,
}

impl Queue {
    fn push(&self, runnable: Runnable) {
        self.runnable.push(runnable);
        // Pairs with the shard's look at the queue after it said that it sleeps.
        fence(Ordering::SeqCst);
        self.bell.wake_if_asleep();
    }
}

impl Wake for Queue {
    fn wake(self: Arc<Queue>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Queue>) {
        self.main.store(true, Ordering::SeqCst);
        self.bell.wake_if_asleep();
    }
}

/// A task's place in the list of all that live.
#[derive(Clone, Copy)]
pub(super) struct TaskId(usize);

#[derive(Default)]
struct Places {
    all: Vec<Option<Task<()>>>,
    free: Vec<usize>,
}

/// All tasks of one shard.
pub(super) struct Tasks {
    queue: Arc<Queue>,
    places: RefCell<Places>,
}

impl Tasks {
    /// None yet; the main future is due. `bell` is the shard's.
    pub fn new(bell: Arc<Bell>) -> Tasks {
        let queue = Queue { runnable: SegQueue::new(), main: AtomicBool::new(true), bell };
        Tasks { queue: Arc::new(queue), places: RefCell::default() }
    }

    /// Spawns what `future` makes of the task's number and polls it once. It ends when the future
    /// does, which calls [`Tasks::forget`], or at [`Tasks::cancel_all`].
    pub fn spawn<F: Future<Output = ()> + 'static>(&self, future: impl FnOnce(TaskId) -> F) {
        let id = {
            let mut places = self.places.borrow_mut();
            places.free.pop().unwrap_or_else(|| {
                places.all.push(None);
                places.all.len() - 1
            })
        };
        let queue = self.queue.clone();
        let schedule = move |runnable| queue.push(runnable);
        let (runnable, task) = async_task::spawn_local(future(TaskId(id)), schedule);
        self.places.borrow_mut().all[id] = Some(task);
        runnable.run();
    }

    /// Says that a task is over: called once, from within it.
    pub fn forget(&self, id: TaskId) {
        let mut places = self.places.borrow_mut();
        let task = places.all[id.0].take();
        places.free.push(id.0);
        drop(places);
        if let Some(task) = task {
            task.detach();
        }
    }

    /// Has every task dropped; those that are runnable by then end in the next turns.
    pub fn cancel_all(&self) {
        let mut places = self.places.borrow_mut();
        let tasks: Vec<_> = places.all.iter_mut().filter_map(Option::take).collect();
        drop(places);
        drop(tasks);
    }

    /// Tasks that are not over.
    pub fn live_count(&self) -> usize {
        let places = self.places.borrow();
        places.all.len() - places.free.len()
    }

    /// Runs the tasks that are runnable now, and those that they wake, up to a bound; returns
    /// whether there were any.
    pub fn run_turn(&self) -> bool {
        for ran_count in 0..TURN_ROUNDS_COUNT_MAX {
            let count = self.queue.runnable.len().min(TURN_TASKS_COUNT_MAX);
            if count == 0 {
                return ran_count > 0;
            }
            for _ in 0..count {
                let Some(runnable) = self.queue.runnable.pop() else { break };
                runnable.run();
            }
        }
        true
    }

    /// Whether something can run: a task, or the main future.
    pub fn is_due(&self) -> bool {
        self.queue.main.load(Ordering::SeqCst) || !self.queue.runnable.is_empty()
    }

    /// Whether the main future was woken since the last call.
    pub fn take_main(&self) -> bool {
        self.queue.main.load(Ordering::Relaxed) && self.queue.main.swap(false, Ordering::SeqCst)
    }

    /// Wakes the main future.
    pub fn main_waker(&self) -> Waker {
        self.queue.clone().into()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.cancel_all();
        while let Some(runnable) = self.queue.runnable.pop() {
            drop(runnable);
        }
    }
}
