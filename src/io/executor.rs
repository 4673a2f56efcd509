//! Shards: one pinned glommio executor each, with a ring, a memory pool, a bell and a heartbeat.
//!
//! What glommio 0.9.0 gets wrong is dealt with here: it can park with runnable tasks when its
//! preempt timer fires early (`heartbeat` bounds that sleep); its default preempt timer of 100 ms
//! makes I/O wait 200 ms behind a busy task (1 ms here); a panic in a task kills the executor
//! (every task is caught); returning from the main future drops what is queued (`Shard::end` ends
//! the tasks, lets file operations and sends complete, cancels the rest and only then returns).
//! **Invariant:** when a shard's thread ends no operation of it is in flight.

use super::clock::Clock;
use super::heartbeat::{self, Heartbeat};
use super::memory::Memory;
use super::mesh::{Inboxes, Mesh};
use super::notify::{Bell, BellWatch};
use super::ring::{OnDrop, Ring};
use super::{Io, Runtime};
use crate::base::ids::ShardId;
use glommio::task::JoinHandle;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a busy task can keep the executor from looking at its I/O.
const PREEMPT_TIME: Duration = Duration::from_millis(1);
/// glommio's own registered buffers, bytes: its least, three times a shard against memlock; none of
/// our data goes through them.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
/// Threads a shard for calls that block (open, rename, fallocate).
const BLOCKING_THREADS_COUNT: usize = 2;
/// Idle beats before memory is handed back: half a second.
const TRIM_AFTER_BEATS_COUNT: u32 = 10;
/// How long sends may go on when a shard ends.
const SEND_GRACE: Duration = Duration::from_secs(1);
/// Buffer memory of `run_one`, bytes.
const RUN_ONE_MEMORY_BYTES: usize = 512 * 1024 * 1024;

type Panic = Box<dyn Any + Send>;

/// One shard's runtime.
pub(super) struct Shard {
    pub ring: Rc<Ring>,
    pub memory: Memory,
    pub watch: Rc<BellWatch>,
    pub clock: Clock,
    pub panics_count: Cell<u64>,
    tasks: RefCell<HashMap<u64, Option<JoinHandle<()>>>>,
    task_next: Cell<u64>,
    blocking_count: Cell<usize>,
    stopping: Cell<bool>,
}

/// Takes a task out of the shard's list when it ends, in whatever way.
struct TaskGuard {
    shard: Rc<Shard>,
    task: u64,
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let handle = self.shard.tasks.borrow_mut().remove(&self.task);
        drop(handle);
    }
}

impl Shard {
    fn start(bell: Arc<Bell>, memory_bytes: usize) -> io::Result<(Rc<Shard>, [JoinHandle<()>; 3])> {
        let watch = BellWatch::new(bell);
        let ring = Ring::new(watch.clone()).map_err(explain_ring_error)?;
        let shard = Rc::new(Shard {
            ring: ring.clone(),
            memory: Memory::new(memory_bytes, watch.clone()),
            watch,
            clock: Clock::real(),
            panics_count: Cell::new(0),
            tasks: RefCell::default(),
            task_next: Cell::new(0),
            blocking_count: Cell::new(0),
            stopping: Cell::new(false),
        });
        let own_tasks = [
            glommio::spawn_local(ring.clone().run_flusher()).detach(),
            glommio::spawn_local(ring.run_reaper()).detach(),
            glommio::spawn_local(shard.clone().run_heartbeat()).detach(),
        ];
        Ok((shard, own_tasks))
    }

    /// Runs `future` beside the others; a panic ends it alone.
    pub fn spawn(self: &Rc<Shard>, future: impl Future<Output = ()> + 'static) {
        if self.stopping.get() {
            return;
        }
        let task = self.task_next.get();
        self.task_next.set(task + 1);
        self.tasks.borrow_mut().insert(task, None);
        let guard = TaskGuard { shard: self.clone(), task };
        // The executor polls inline: no borrow is held, and the task may be over after this line.
        let handle = glommio::spawn_local(async move {
            let caught = CatchPanic(Box::pin(future)).await;
            if let Err(panic) = caught {
                guard.shard.report(&panic);
            }
        })
        .detach();
        if let Some(place) = self.tasks.borrow_mut().get_mut(&task) {
            *place = Some(handle);
        }
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
        type Reply<T> = (Option<Result<T, Panic>>, Option<Waker>);
        let reply: Rc<RefCell<Reply<T>>> = Rc::new(RefCell::new((None, None)));
        self.blocking_count.set(self.blocking_count.get() + 1);
        let (shard, target) = (self.clone(), reply.clone());
        glommio::spawn_local(async move {
            let caught = move || catch_unwind(AssertUnwindSafe(work));
            let result = glommio::executor().spawn_blocking(caught).await;
            shard.blocking_count.set(shard.blocking_count.get() - 1);
            let waker = {
                let mut target = target.borrow_mut();
                target.0 = Some(result);
                target.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        })
        .detach();
        let result = poll_fn(|context| {
            let mut reply = reply.borrow_mut();
            if let Some(result) = reply.0.take() {
                return Poll::Ready(result);
            }
            reply.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    async fn run_heartbeat(self: Rc<Shard>) {
        let heartbeat = Heartbeat::new();
        let mut seen_count = 0;
        let mut idle_beats_count = 0;
        while !self.stopping.get() {
            let now_count = self.ring.completions_count();
            let busy = now_count != seen_count;
            seen_count = now_count;
            if busy {
                idle_beats_count = 0;
            } else {
                idle_beats_count += 1;
                if idle_beats_count > TRIM_AFTER_BEATS_COUNT && self.memory.trim() {
                    tracing::trace!("handed free memory back");
                }
            }
            heartbeat.next(busy).await;
            if self.ring.has_completions() {
                self.ring.flush();
            }
        }
    }

    /// Ends all tasks, waits until nothing is in flight, ends the runtime's own tasks.
    async fn end(self: Rc<Shard>, own_tasks: [JoinHandle<()>; 3]) {
        self.stopping.set(true);
        loop {
            let handles: Vec<_> =
                self.tasks.borrow_mut().values_mut().filter_map(Option::take).collect();
            handles.iter().for_each(JoinHandle::cancel);
            drop(handles);
            if self.tasks.borrow().is_empty() {
                break;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let start = self.clock.monotonic();
        let ring = &self.ring;
        ring.cancel_all(OnDrop::Cancel);
        let mut sends_cancelled = false;
        loop {
            let kinds = [OnDrop::Cancel, OnDrop::Finish, OnDrop::Send];
            let live_count: usize = kinds.iter().map(|kind| ring.live_count(*kind)).sum();
            if live_count == 0 && self.blocking_count.get() == 0 {
                break;
            }
            if !sends_cancelled && self.clock.monotonic() - start > SEND_GRACE {
                sends_cancelled = true;
                ring.cancel_all(OnDrop::Send);
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
            if ring.has_completions() {
                ring.flush();
            }
        }
        ring.stop();
        for task in own_tasks {
            task.await;
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

fn builder(placement: Placement) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .preempt_timer(PREEMPT_TIME)
        .io_memory(EXECUTOR_IO_BYTES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS_COUNT))
}

async fn run_main<T, F, G>(
    bell: Arc<Bell>,
    memory_bytes: usize,
    fleet: &Fleet,
    main: G,
) -> Outcome<T>
where
    F: Future<Output = T>,
    G: FnOnce(Io, &Rc<BellWatch>) -> F,
{
    let (shard, own_tasks) = match Shard::start(bell, memory_bytes) {
        Ok(started) => started,
        Err(error) => return Outcome::Failed(error),
    };
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
    shard.end(own_tasks).await;
    outcome
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
    heartbeat::start()?;
    let main = Arc::new(main);
    let mut handles = Vec::new();
    for (index, (cpu, bell)) in config.cpus.iter().zip(bells).enumerate() {
        let shard = ShardId(u16::try_from(index).expect("shards are bounded"));
        let (main, inboxes, fleet) = (main.clone(), inboxes.clone(), fleet.clone());
        let memory_bytes = config.memory_bytes_per_shard;
        let mut guard = AbortGuard { fleet: fleet.clone(), fine: false };
        let spawned = builder(Placement::Fixed(*cpu)).name(&format!("shard-{shard}")).spawn(
            move || async move {
                let outcome = run_main(bell, memory_bytes, &fleet, |io, watch| {
                    main(io, Mesh::new(shard, inboxes, watch.clone()))
                })
                .await;
                guard.fine = matches!(outcome, Outcome::Value(_) | Outcome::Aborted);
                drop(guard);
                outcome
            },
        );
        handles.push((cpu, spawned));
    }
    let mut values = Vec::new();
    let mut error = None;
    let mut panic = None;
    for (cpu, handle) in handles {
        let joined = handle.and_then(|handle| handle.join());
        match joined {
            Ok(Outcome::Value(value)) => values.push(value),
            Ok(Outcome::Aborted) => {}
            Ok(Outcome::Failed(cause)) => error = Some(cause),
            Ok(Outcome::Panicked(payload)) => panic = Some(payload),
            Err(cause) => {
                let text = format!("the shard of CPU {cpu} could not run: {cause}");
                error = Some(io::Error::other(text));
            }
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
    heartbeat::start()?;
    let bell = Bell::eventfd()?;
    let fleet = Fleet { aborted: AtomicBool::new(false), bells: Vec::new() };
    let executor = builder(Placement::Unbound).make().map_err(io::Error::from)?;
    let outcome = executor
        .run(async { run_main(bell, RUN_ONE_MEMORY_BYTES, &fleet, |io, _| main(io)).await });
    match outcome {
        Outcome::Value(value) => Ok(value),
        Outcome::Failed(error) => Err(error),
        Outcome::Panicked(panic) => resume_unwind(panic),
        Outcome::Aborted => unreachable!("nobody aborts a single shard"),
    }
}
