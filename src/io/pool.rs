//! Threads for calls that block (open, rename, fallocate), shared by the shards of a process.
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

/// The threads; they end, after the jobs that are there, when this is dropped.
pub(super) struct Pool(Arc<Shared>);

impl Pool {
    /// Starts `threads_count` threads.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(threads_count: usize) -> io::Result<Arc<Pool>> {
        let pool = Pool(Arc::default());
        for _ in 0..threads_count {
            let shared = pool.0.clone();
            std::thread::Builder::new().name("blocking".to_owned()).spawn(move || shared.work())?;
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
