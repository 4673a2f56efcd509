//! The simulated twin: one thread, virtual time, in-memory files and sockets, all from one seed.
//!
//! The next task to run is drawn at random, every file operation takes a random while, and time
//! jumps to the next timer when nothing is runnable: a seed is one interleaving, and the same seed
//! is the same one. Above the fence nothing can tell it from a machine, except that it is quick.
//! **Invariant:** nothing in here reads a clock, a thread or a random number of the machine.

pub mod disk;
pub(super) mod net;
#[cfg(test)]
mod tests;

pub use disk::{Crash, Disk, SimDisk};

use super::clock::Clock;
use super::executor::panic_text;
use super::memory::Memory;
use super::mesh::{Inboxes, Mesh};
use super::notify::{Bell, BellWatch};
use super::{Io, Runtime};
use crate::base::ids::ShardId;
use crate::base::limits::MIB;
use net::Net;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Buffer memory of a simulation, bytes.
const MEMORY_BYTES: usize = 256 * MIB;
/// Longest pause that stands for a thread pool or a short wait, ns.
const PAUSE_NS_MAX: u64 = 100_000;
/// The task that is `main`.
const MAIN: u64 = 0;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs `main` in a world of its own until it returns; all other tasks are dropped then.
///
/// # Panics
/// With `main`'s panic, and when every task waits for something that cannot come.
pub fn run<T, F, G>(seed: u64, main: G) -> T
where
    F: Future<Output = T>,
    G: FnOnce(Io, SimDisk) -> F,
{
    run_on(seed, Disk::default(), main)
}

/// As [`run`], in a world that begins with the disk that an earlier one left: see
/// [`SimDisk::take`]. Nothing else of the earlier world lives on, as after a crash of a machine.
///
/// # Panics
/// As [`run`].
pub fn run_on<T, F, G>(seed: u64, disk: Disk, main: G) -> T
where
    F: Future<Output = T>,
    G: FnOnce(Io, SimDisk) -> F,
{
    let world = World::new(seed);
    world.disk.replace(disk);
    let _end = EndGuard(world.clone());
    let bell_world = world.clone();
    world.spawn(async move {
        loop {
            bell_world.watch.bell.rung().await;
            bell_world.watch.wake_all();
        }
    });
    let disk = SimDisk::new(&world);
    let mut main = pin!(main(Io(Runtime::Sim(world.clone())), disk));
    let waker = world.waker(MAIN);
    waker.wake_by_ref();
    loop {
        let Some(task) = world.next_ready() else {
            world.advance();
            continue;
        };
        if task != MAIN {
            world.run_task(task);
        } else if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
    }
}

/// The ends of a mesh of `shards_count` shards, all in this simulation.
///
/// # Panics
/// When `io` is a real shard's.
pub fn meshes<M: Send>(io: &Io, shards_count: usize) -> Vec<Mesh<M>> {
    let Runtime::Sim(world) = &io.0 else { panic!("a real shard has a real mesh") };
    let bells = (0..shards_count).map(|_| world.watch.bell.clone()).collect();
    let inboxes = Inboxes::new(bells);
    let shards = 0..u16::try_from(shards_count).expect("shards are bounded");
    shards.map(|shard| Mesh::new(ShardId(shard), inboxes.clone(), world.watch.clone())).collect()
}

/// Breaks the circle of tasks that hold the world that holds them.
struct EndGuard(Rc<World>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        let timers = std::mem::take(&mut *self.0.timers.borrow_mut());
        drop(timers);
        self.0.net.borrow_mut().clear();
    }
}

/// Everything there is in a simulation.
pub(super) struct World {
    nanoseconds: Rc<Cell<u64>>,
    random: Cell<u64>,
    tasks: RefCell<HashMap<u64, Option<Task>>>,
    task_next: Cell<u64>,
    ready: Arc<Mutex<Vec<u64>>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    timer_next: Cell<u64>,
    panics_count: Cell<u64>,
    memory: Memory,
    watch: Rc<BellWatch>,
    pub disk: RefCell<Disk>,
    pub net: RefCell<Net>,
}

struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

impl World {
    fn new(seed: u64) -> Rc<World> {
        let watch = BellWatch::new(Bell::simulated());
        Rc::new(World {
            nanoseconds: Rc::default(),
            random: Cell::new(seed),
            tasks: RefCell::default(),
            task_next: Cell::new(MAIN + 1),
            ready: Arc::default(),
            timers: RefCell::default(),
            timer_next: Cell::new(0),
            panics_count: Cell::new(0),
            memory: Memory::new(MEMORY_BYTES, watch.clone()),
            watch,
            disk: RefCell::default(),
            net: RefCell::default(),
        })
    }

    /// A random number (SplitMix64): all chance in a simulation comes from here.
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        mix(state)
    }

    pub fn now_ns(&self) -> u64 {
        self.nanoseconds.get()
    }

    pub fn clock(&self) -> Clock {
        Clock::simulated(self.nanoseconds.clone())
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn watch(&self) -> &BellWatch {
        &self.watch
    }

    pub fn panics_count(&self) -> u64 {
        self.panics_count.get()
    }

    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let task = self.task_next.get();
        self.task_next.set(task + 1);
        self.tasks.borrow_mut().insert(task, Some(Box::pin(future)));
        self.run_task(task);
    }

    /// Resolves when virtual time has moved on by `time`.
    pub async fn sleep(&self, time: Duration) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = self.now_ns().saturating_add(time_ns);
        let number = self.timer_next.get();
        self.timer_next.set(number + 1);
        let _timer = TimerGuard { world: self, key: (deadline_ns, number) };
        poll_fn(|context| {
            if self.now_ns() >= deadline_ns {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            let last = self.timers.borrow_mut().insert((deadline_ns, number), waker);
            drop(last);
            Poll::Pending
        })
        .await;
    }

    /// Sleeps a random while of at most `ns_max`.
    pub async fn pause_up_to(&self, ns_max: u64) {
        let ns = 1 + self.random() % ns_max;
        self.sleep(Duration::from_nanos(ns)).await;
    }

    /// Sleeps a short random while.
    pub async fn pause(&self) {
        self.pause_up_to(PAUSE_NS_MAX).await;
    }

    fn waker(&self, task: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, ready: self.ready.clone() }))
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            return None;
        }
        let index = self.random() % ready.len() as u64;
        Some(ready.swap_remove(usize::try_from(index).expect("below a length")))
    }

    /// Moves time to the next timer and wakes its task.
    fn advance(&self) {
        let first = self.timers.borrow_mut().pop_first();
        let Some(((deadline_ns, _), waker)) = first else {
            panic!("the simulation stands still: every task waits for another");
        };
        self.nanoseconds.set(self.now_ns().max(deadline_ns));
        waker.wake();
    }

    fn run_task(&self, task: u64) {
        let taken = self.tasks.borrow_mut().get_mut(&task).and_then(Option::take);
        let Some(mut future) = taken else { return };
        let waker = self.waker(task);
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(place) = self.tasks.borrow_mut().get_mut(&task) {
                    *place = Some(future);
                }
                return;
            }
            Ok(Poll::Ready(())) => {}
            Err(panic) => {
                self.panics_count.set(self.panics_count.get() + 1);
                tracing::error!(panic = panic_text(&*panic), "a task panicked and was ended");
            }
        }
        drop(future);
        self.tasks.borrow_mut().remove(&task);
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Removes a timer whose sleep was dropped or is over.
struct TimerGuard<'a> {
    world: &'a World,
    key: (u64, u64),
}

impl Drop for TimerGuard<'_> {
    fn drop(&mut self) {
        let removed = self.world.timers.borrow_mut().remove(&self.key);
        drop(removed);
    }
}
