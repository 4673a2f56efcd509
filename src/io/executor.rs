//! Shards: one pinned thread each, with its own loop, ring, timers, memory pool and bell.
//!
//! A turn of the loop runs what is runnable, then enters the kernel once: what the tasks queued is
//! submitted, what completed is taken, and if nothing can run the same call waits, until the next
//! timer at most. (An executor with rings of its own beside ours took 5 to 7 calls a turn and twice
//! the CPU time a request.)
//!
//! A panic in a task ends that task alone. When a shard ends, `Shard::end` drops the tasks, lets
//! file operations and sends complete, cancels the rest and only then returns.
//! **Invariant:** when a shard's thread ends no operation of it is in flight.

use super::clock::Clock;
use super::memory::Memory;
use super::mesh::{Inboxes, Mesh};
use super::notify::{Bell, BellWatch};
use super::pool::{Pool, Pools};
use super::ring::{OnDrop, Ring};
use super::tasks::{TaskId, Tasks};
use super::timers::Timers;
use super::{Io, Runtime};
use crate::base::ids::ShardId;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads a shard for calls that block.
const BLOCKING_THREADS_COUNT: usize = 2;
/// How often a shard looks for memory that it can hand back.
const TRIM_INTERVAL: Duration = Duration::from_millis(500);
/// A write and its flush: with no more than that in flight a shard polls before it sleeps.
const POLLED_OPERATIONS_MAX: usize = 2;
/// How long it polls: a little more than a write and a flush of a fast disk take.
const POLL_TIME_MAX: Duration = Duration::from_micros(200);
/// How soon after an answer the next request of a client that waits for each comes.
const FOLLOW_TIME_MAX: Duration = Duration::from_micros(100);
/// Looks, of some nanoseconds each, between two offers of the core to others.
const POLLS_BETWEEN_YIELDS_COUNT: usize = 8;
/// How long sends may go on when a shard ends.
const SEND_GRACE: Duration = Duration::from_secs(1);
/// How often an ending shard looks whether all is over.
const END_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Buffer memory of `run_one`, bytes.
const RUN_ONE_MEMORY_BYTES: usize = 512 * 1024 * 1024;

type Panic = Box<dyn Any + Send>;

/// One shard's runtime.
pub(super) struct Shard {
    pub ring: Rc<Ring>,
    pub memory: Memory,
    pub watch: Rc<BellWatch>,
    pub clock: Clock,
    pub timers: Timers,
    pub panics_count: Cell<u64>,
    tasks: Tasks,
    pools: Pools,
    blocking_count: Arc<AtomicUsize>,
    stopping: Cell<bool>,
    polled_file: Cell<bool>, // since the last sleep
    was_crowded: Cell<bool>, // more operations than those of one answer, since the last sleep
    is_followed: Cell<bool>, // the last answer, soon, by a request
}

/// Takes a task out of the shard's list when it ends, in whatever way.
struct TaskGuard {
    shard: Rc<Shard>,
    task: TaskId,
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.shard.tasks.forget(self.task);
    }
}

/// Where a blocking call leaves its result, and who waits for it.
type Reply<T> = Mutex<(Option<Result<T, Panic>>, Option<Waker>)>;

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn start(bell: Arc<Bell>, memory_bytes: usize, pools: Pools) -> io::Result<Rc<Shard>> {
        let watch = BellWatch::new(bell.clone());
        let shard = Rc::new(Shard {
            ring: Ring::new(watch.clone()).map_err(explain_ring_error)?,
            memory: Memory::new(memory_bytes, watch.clone()),
            watch,
            clock: Clock::real(),
            timers: Timers::default(),
            panics_count: Cell::new(0),
            tasks: Tasks::new(bell),
            pools,
            blocking_count: Arc::default(),
            stopping: Cell::new(false),
            polled_file: Cell::new(false),
            was_crowded: Cell::new(false),
            is_followed: Cell::new(false),
        });
        shard.spawn(shard.clone().keep_memory_small());
        Ok(shard)
    }

    /// Runs the shard on this thread until `main` is ready.
    fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let waker = self.tasks.main_waker();
        let mut context = Context::from_waker(&waker);
        loop {
            self.watch.wake_if_rung();
            if self.timers.next_deadline().is_some() {
                self.timers.fire(self.clock.monotonic());
            }
            if self.tasks.take_main()
                && let Poll::Ready(value) = main.as_mut().poll(&mut context)
            {
                return value;
            }
            self.tasks.run_turn();
            if self.tasks.is_due() {
                self.ring.turn();
            } else {
                self.park();
            }
        }
    }

    /// Submits, and sleeps until a completion, a ring of the bell or a timer.
    fn park(&self) {
        let began = self.clock.monotonic();
        let answered = match self.ring.live_count(OnDrop::Finish) {
            0 if self.polled_file.get() => {
                self.ring.turn(); // the answer's own completion is no request
                if self.tasks.is_due() {
                    return;
                }
                self.polled_file.set(false);
                !self.was_crowded.replace(false)
            }
            1..=POLLED_OPERATIONS_MAX => {
                self.polled_file.set(true);
                if self.poll_until(began + POLL_TIME_MAX) {
                    return;
                }
                false
            }
            0 => {
                self.was_crowded.set(false);
                false
            }
            _ => {
                self.was_crowded.set(true);
                false
            }
        };
        if answered && self.is_followed.get() && self.poll_until(began + FOLLOW_TIME_MAX) {
            return self.polled_file.set(true);
        }
        let bell = &self.watch.bell;
        bell.fall_asleep();
        // Whoever made something due before it saw that we sleep does not wake us.
        if self.tasks.is_due() || bell.is_rung() {
            return bell.wake_up();
        }
        let deadline = self.timers.next_deadline();
        let time = deadline.map(|deadline| deadline.saturating_sub(self.clock.monotonic()));
        self.ring.wait(time, || bell.wake_up());
        if answered {
            self.is_followed.set(self.clock.monotonic() - began < FOLLOW_TIME_MAX);
        }
    }

    /// Stays awake for what comes sooner than a thread falls asleep and wakes: the end of a
    /// lone file operation, and the next request of a client that waits for each answer (it does if
    /// it did the last time). Returns whether there is something to do. Whoever else wants the core
    /// gets it, the kernel's own workers first of all.
    fn poll_until(&self, until: Duration) -> bool {
        self.ring.turn();
        loop {
            for _ in 0..POLLS_BETWEEN_YIELDS_COUNT {
                if self.ring.has_completions() {
                    self.ring.turn();
                    return true;
                }
                if self.tasks.is_due() || self.watch.bell.is_rung() {
                    return true;
                }
                std::hint::spin_loop();
            }
            rustix::thread::sched_yield();
            if self.clock.monotonic() > until {
                return false;
            }
        }
    }

    /// Resolves after `time`, not before.
    pub async fn sleep(&self, time: Duration) {
        let now = self.clock.monotonic();
        self.timers.sleep_until(now.saturating_add(time)).await;
    }

    /// Runs `future` beside the others; a panic ends it alone.
    pub fn spawn(self: &Rc<Shard>, future: impl Future<Output = ()> + 'static) {
        if self.stopping.get() {
            return;
        }
        self.tasks.spawn(|task| {
            let guard = TaskGuard { shard: self.clone(), task };
            async move {
                let caught = CatchPanic(Box::pin(future)).await;
                if let Err(panic) = caught {
                    guard.shard.report(&panic);
                }
            }
        });
    }

    fn report(&self, panic: &Panic) {
        self.panics_count.set(self.panics_count.get() + 1);
        tracing::error!(panic = panic_text(panic), "a task panicked and was ended");
    }

    /// Runs `work` on a thread that may block. It runs to its end even if the caller goes away.
    pub async fn blocking<T, F>(self: &Rc<Shard>, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.elsewhere(&self.pools.blocking, work).await
    }

    /// As `blocking`, on a thread that no file operation waits for.
    pub async fn computing<T, F>(self: &Rc<Shard>, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.elsewhere(&self.pools.computing, work).await
    }

    async fn elsewhere<T, F>(&self, pool: &Pool, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let reply: Arc<Reply<T>> = Arc::new(Mutex::new((None, None)));
        self.blocking_count.fetch_add(1, Ordering::SeqCst);
        let (count, target) = (self.blocking_count.clone(), reply.clone());
        pool.give(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let waker = {
                let mut target = locked(&target);
                target.0 = Some(result);
                target.1.take()
            };
            drop(target);
            count.fetch_sub(1, Ordering::SeqCst);
            if let Some(waker) = waker {
                waker.wake();
            }
        }));
        let result = poll_fn(|context| {
            let mut reply = locked(&reply);
            if let Some(result) = reply.0.take() {
                return Poll::Ready(result);
            }
            reply.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    async fn keep_memory_small(self: Rc<Shard>) {
        loop {
            self.sleep(TRIM_INTERVAL).await;
            if self.memory.trim(self.clock.monotonic()) {
                tracing::trace!("handed free memory back");
            }
        }
    }

    /// Ends all tasks and waits until nothing is in flight.
    async fn end(&self) {
        self.stopping.set(true);
        while self.tasks.live_count() > 0 {
            self.tasks.cancel_all();
            self.sleep(END_POLL_INTERVAL).await;
        }
        let start = self.clock.monotonic();
        let ring = &self.ring;
        ring.cancel_all(OnDrop::Cancel);
        let mut sends_cancelled = false;
        loop {
            let kinds = [OnDrop::Cancel, OnDrop::Finish, OnDrop::Send];
            let live_count: usize = kinds.iter().map(|kind| ring.live_count(*kind)).sum();
            if live_count == 0 && self.blocking_count.load(Ordering::SeqCst) == 0 {
                break;
            }
            if !sends_cancelled && self.clock.monotonic() - start > SEND_GRACE {
                sends_cancelled = true;
                ring.cancel_all(OnDrop::Send);
            }
            self.sleep(END_POLL_INTERVAL).await;
        }
    }
}

fn explain_ring_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => io::Error::new(
            error.kind(),
            "io_uring is forbidden here: set the sysctl kernel.io_uring_disabled to 0, \
             or in a container allow io_uring in its seccomp profile",
        ),
        Some(libc::ENOSYS) => io::Error::new(
            error.kind(),
            "this kernel has no io_uring, or a seccomp profile hides it: allow it there, \
             or use Linux 6.1 or newer",
        ),
        Some(libc::EINVAL) => io::Error::new(
            error.kind(),
            "this kernel's io_uring is too old (deferred task work is missing): \
             use Linux 6.1 or newer",
        ),
        _ => error,
    }
}

/// Polls a future and turns its panic into a result.
struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// The message of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "(no message)"
    }
}

/// Lets the other runnable tasks go first.
pub(super) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Which shards to run.
#[derive(Debug, Clone)]
pub struct ShardsConfig {
    /// The CPU of each shard; shard 0 is the first.
    pub cpus: Vec<usize>,
    /// Budget of buffer memory a shard, bytes.
    pub memory_bytes_per_shard: usize,
}

/// What the shards of one `run_shards` know of each other's end.
struct Fleet {
    aborted: AtomicBool,
    bells: Vec<Arc<Bell>>,
}

/// Ends the other shards when this one could not start or panicked.
struct AbortGuard {
    fleet: Arc<Fleet>,
    fine: bool,
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        if !self.fine {
            self.fleet.aborted.store(true, Ordering::SeqCst);
            self.fleet.bells.iter().for_each(|bell| bell.ring());
        }
    }
}

enum Outcome<T> {
    Value(T),
    Failed(io::Error),
    Panicked(Panic),
    Aborted,
}

/// Runs one shard on this thread, from its start to its end.
fn run_main<T, F, G>(
    bell: Arc<Bell>,
    memory_bytes: usize,
    pools: Pools,
    fleet: &Fleet,
    main: G,
) -> Outcome<T>
where
    F: Future<Output = T>,
    G: FnOnce(Io, &Rc<BellWatch>) -> F,
{
    let shard = match Shard::start(bell, memory_bytes, pools) {
        Ok(shard) => shard,
        Err(error) => return Outcome::Failed(error),
    };
    shard.run(async {
        let outcome = {
            let io = Io(Runtime::Real(shard.clone()));
            let main = async { main(io, &shard.watch).await };
            let mut main = pin!(CatchPanic(Box::pin(main)));
            poll_fn(|context| {
                shard.watch.watch(context.waker());
                if fleet.aborted.load(Ordering::SeqCst) {
                    return Poll::Ready(Outcome::Aborted);
                }
                main.as_mut().poll(context).map(|result| match result {
                    Ok(value) => Outcome::Value(value),
                    Err(panic) => Outcome::Panicked(panic),
                })
            })
            .await
        };
        shard.end().await;
        outcome
    })
}

/// Keeps the calling thread on one core.
fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

fn not_run(cpu: usize, cause: &io::Error) -> io::Error {
    io::Error::other(format!("the shard of CPU {cpu} could not run: {cause}"))
}

/// Runs `main` on one shard for each CPU and blocks until all have returned.
///
/// When a shard's `main` returns, its other tasks are dropped, file operations and sends in flight
/// complete, and only then its thread ends. If one shard panics or cannot start, the others' mains
/// are dropped in the same way.
///
/// # Errors
/// A shard could not start: io_uring is not usable, or the CPU does not exist.
///
/// # Panics
/// With the panic of a shard's `main`.
pub fn run_shards<M, T, F, G>(config: ShardsConfig, main: G) -> io::Result<Vec<T>>
where
    M: Send + 'static,
    T: Send + 'static,
    F: Future<Output = T> + 'static,
    G: Fn(Io, Mesh<M>) -> F + Send + Sync + 'static,
{
    assert!(!config.cpus.is_empty(), "there is at least one shard");
    let bells = config.cpus.iter().map(|_| Bell::eventfd()).collect::<io::Result<Vec<_>>>()?;
    let fleet = Arc::new(Fleet { aborted: AtomicBool::new(false), bells: bells.clone() });
    let inboxes = Inboxes::new(bells.clone());
    let shards_count = config.cpus.len();
    let pools = Pools::start(BLOCKING_THREADS_COUNT * shards_count, shards_count)?;
    let main = Arc::new(main);
    let mut handles = Vec::new();
    for (index, (cpu, bell)) in config.cpus.iter().zip(bells).enumerate() {
        let shard = ShardId(u16::try_from(index).expect("shards are bounded"));
        let (main, inboxes, fleet) = (main.clone(), inboxes.clone(), fleet.clone());
        let (cpu, pools) = (*cpu, pools.clone());
        let memory_bytes = config.memory_bytes_per_shard;
        let mut guard = AbortGuard { fleet: fleet.clone(), fine: false };
        let run = move || {
            let outcome = match pin_to(cpu) {
                Ok(()) => run_main(bell, memory_bytes, pools, &fleet, |io, watch| {
                    main(io, Mesh::new(shard, inboxes, watch.clone()))
                }),
                Err(error) => Outcome::Failed(not_run(cpu, &error)),
            };
            guard.fine = matches!(outcome, Outcome::Value(_) | Outcome::Aborted);
            drop(guard);
            outcome
        };
        let spawned = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(run);
        handles.push((cpu, spawned));
    }
    let mut values = Vec::new();
    let mut error = None;
    let mut panic = None;
    for (cpu, handle) in handles {
        match handle.map(JoinHandle::join) {
            Ok(Ok(Outcome::Value(value))) => values.push(value),
            Ok(Ok(Outcome::Aborted)) => {}
            Ok(Ok(Outcome::Failed(cause))) => error = Some(cause),
            Ok(Ok(Outcome::Panicked(payload)) | Err(payload)) => panic = Some(payload),
            Err(cause) => error = Some(not_run(cpu, &cause)),
        }
    }
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
    error.map_or(Ok(values), Err)
}

/// Runs `main` on the calling thread with a runtime of its own: for command-line programs and
/// tests.
///
/// Ends as a shard does: see [`run_shards`].
///
/// # Errors
/// io_uring is not usable.
///
/// # Panics
/// With the panic of `main`.
pub fn run_one<T, F, G>(main: G) -> io::Result<T>
where
    F: Future<Output = T>,
    G: FnOnce(Io) -> F,
{
    let bell = Bell::eventfd()?;
    let fleet = Fleet { aborted: AtomicBool::new(false), bells: Vec::new() };
    let pools = Pools::start(BLOCKING_THREADS_COUNT, 1)?;
    let outcome = run_main(bell, RUN_ONE_MEMORY_BYTES, pools, &fleet, |io, _| main(io));
    match outcome {
        Outcome::Value(value) => Ok(value),
        Outcome::Failed(error) => Err(error),
        Outcome::Panicked(panic) => resume_unwind(panic),
        Outcome::Aborted => unreachable!("nobody aborts a single shard"),
    }
}
