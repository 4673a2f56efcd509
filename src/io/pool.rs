//! Threads for calls that block (open, rename, fallocate) and, apart from those, for work that
//! takes a processor long; shared by the shards of a process.
//!
//! They are started before any shard is pinned, as a thread inherits its starter's core, and end
//! with the last shard. Jobs begin in the order in which they were given.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Threads that wait for the kernel, and threads that compute: a codec at its highest level must
/// not hold up the allocation that a log waits for.
#[derive(Clone)]
pub(super) struct Pools {
    pub blocking: Arc<Pool>,
    pub computing: Arc<Pool>,
}

impl Pools {
    /// Starts `blocking_count` threads of the one kind and `computing_count` of the other.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(blocking_count: usize, computing_count: usize) -> io::Result<Pools> {
        let blocking = Pool::start("blocking", blocking_count)?;
        Ok(Pools { blocking, computing: Pool::start("computing", computing_count)? })
    }
}

/// Some threads; they end, after the jobs that are there, when this is dropped.
pub(super) struct Pool(Arc<Shared>);

impl Pool {
    fn start(name: &str, threads_count: usize) -> io::Result<Arc<Pool>> {
        let pool = Pool(Arc::default());
        for _ in 0..threads_count {
            let shared = pool.0.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || shared.work())?;
        }
        Ok(Arc::new(pool))
    }

    /// Has `job` run on one of the threads. It must not panic.
    pub fn give(&self, job: Job) {
        self.0.lock().jobs.push_back(job);
        self.0.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
