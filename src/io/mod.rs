//! The fence around the operating system: files, sockets, memory, time and tasks of a shard.
//!
//! Everything above sees [`Io`] and what it gives out, and nothing of io_uring. Each
//! part is the real thing or its simulated twin ([`sim`]), told apart by one predictable branch; so
//! the whole program above runs unchanged in a simulation with virtual time and a faulty disk.
//!
//! One shard is one thread pinned to one core: a loop (`executor`) over its tasks, its timers and
//! its ring, through which all file data and sockets go. What blocks (open, rename, fallocate) goes
//! to a small thread pool. Nothing here is `Send` unless it says so: `Buffer`, `Slice`,
//! `SocketHandle`, `Notifier` and `MeshSender` are.
//!
//! Rules for callers: dropping any future is safe at any time (memory stays with the kernel until
//! it lets go; a write that was begun goes on). `spawn` polls at once, so hold no `RefCell` borrow
//! across it. Work that takes long yields every millisecond.
//! **Invariant:** `unsafe` is in this folder only.

mod arena;
mod clock;
mod executor;
mod file;
mod fs;
mod memory;
mod mesh;
mod notify;
mod pool;
pub mod probe;
mod ring;
pub mod signals;
pub mod sim;
mod socket;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;

pub use clock::Clock;
pub use executor::{ShardsConfig, run_one, run_shards};
pub use file::{File, GATHER_COUNT_MAX, OpenMode, WRITE_BYTES_MAX};
pub use fs::{DirEntry, DiskSpace, disk_space, is_full};
pub use memory::{Buffer, Memory, Slice, TailBuffer};
pub use mesh::{Mesh, MeshSender};
pub use notify::Notifier;
pub use socket::{Listener, Socket, SocketHandle};

use executor::Shard;
use file::{FileKind, RealFile};
use sim::World;
use socket::{HandleKind, ListenerKind, RealListener, RealSocket, SocketKind};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A shard's runtime. Clones are the same one.
#[derive(Clone)]
pub struct Io(Runtime);

#[derive(Clone)]
enum Runtime {
    Real(Rc<Shard>),
    Sim(Rc<World>),
}

impl Io {
    /// Runs `future` beside the caller until it ends or the shard does.
    ///
    /// It is polled once before this returns. A panic ends that task only: logged and counted.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        match &self.0 {
            Runtime::Real(shard) => shard.spawn(future),
            Runtime::Sim(world) => world.spawn(future),
        }
    }

    /// Tasks that were ended by a panic.
    pub fn panics(&self) -> u64 {
        match &self.0 {
            Runtime::Real(shard) => shard.panics_count.get(),
            Runtime::Sim(world) => world.panics_count(),
        }
    }

    /// Resolves after `time`, not before; a busy shard may be some milliseconds late.
    pub async fn sleep(&self, time: Duration) {
        match &self.0 {
            Runtime::Real(shard) => shard.sleep(time).await,
            Runtime::Sim(world) => world.sleep(time).await,
        }
    }

    /// What `future` gives, or none when `time` was up first: it is dropped then.
    pub async fn timeout<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep(time));
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Lets other tasks run, and completions in.
    pub async fn yield_now(&self) {
        executor::yield_once().await;
    }

    /// Where to read the time.
    pub fn clock(&self) -> Clock {
        match &self.0 {
            Runtime::Real(shard) => shard.clock.clone(),
            Runtime::Sim(world) => world.clock(),
        }
    }

    /// The shard's buffers.
    pub fn memory(&self) -> &Memory {
        match &self.0 {
            Runtime::Real(shard) => &shard.memory,
            Runtime::Sim(world) => world.memory(),
        }
    }

    /// Runs `work`, which may block, on another thread. It goes on if the caller is dropped; a
    /// panic in it comes out here.
    pub async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match &self.0 {
            Runtime::Real(shard) => shard.blocking(work).await,
            Runtime::Sim(world) => {
                world.pause().await;
                work()
            }
        }
    }

    /// As `blocking`, for work that takes a processor long: no file operation waits behind it.
    pub async fn computing<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match &self.0 {
            Runtime::Real(shard) => shard.computing(work).await,
            Runtime::Sim(world) => {
                world.pause().await;
                work()
            }
        }
    }

    /// Resolves when `notifier` is notified; at once if it was since the last wait.
    pub async fn wait(&self, notifier: &Notifier) {
        match &self.0 {
            Runtime::Real(shard) => notifier.wait(&shard.watch).await,
            Runtime::Sim(world) => notifier.wait(world.watch()).await,
        }
    }

    /// Opens a file for direct I/O.
    ///
    /// # Errors
    /// The file system's; `InvalidInput` mostly means one without direct I/O.
    pub async fn open(&self, path: &Path, how: OpenMode) -> io::Result<File> {
        Ok(File(match &self.0 {
            Runtime::Real(shard) => FileKind::Real(RealFile::open(shard, path, how).await?),
            Runtime::Sim(world) => FileKind::Sim(world.open(path, how).await?),
        }))
    }

    /// Creates `path` and what is missing above it, durably; nothing if it is there.
    ///
    /// # Errors
    /// The file system's.
    pub async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || fs::create_dir_all(&path)).await
            }
            Runtime::Sim(world) => world.create_dir_all(path).await,
        }
    }

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// The file system's.
    pub async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || fs::list(&path)).await
            }
            Runtime::Sim(world) => world.list_dir(path).await,
        }
    }

    /// Room on the file system that holds `path`.
    ///
    /// # Errors
    /// The file system's; `Unsupported` in a simulation, whose disk has no size.
    pub async fn disk_space(&self, path: &Path) -> io::Result<DiskSpace> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || fs::disk_space(&path)).await
            }
            Runtime::Sim(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Renames a file or directory, over a file that is there. Durable after `sync_dir`.
    ///
    /// # Errors
    /// The file system's.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            Runtime::Real(shard) => {
                let (from, to) = (from.to_owned(), to.to_owned());
                shard.blocking(move || std::fs::rename(from, to)).await
            }
            Runtime::Sim(world) => world.rename(from, to).await,
        }
    }

    /// Removes a file. Durable after `sync_dir`.
    ///
    /// # Errors
    /// The file system's.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || std::fs::remove_file(path)).await
            }
            Runtime::Sim(world) => world.remove_file(path).await,
        }
    }

    /// Removes a directory and all that is in it. Durable after `sync_dir` of its parent.
    ///
    /// # Errors
    /// The file system's; some of it may be gone then.
    pub async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || std::fs::remove_dir_all(path)).await
            }
            Runtime::Sim(world) => world.remove_dir_all(path).await,
        }
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The file system's.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || fs::sync_dir(&path)).await
            }
            Runtime::Sim(world) => world.sync_dir(path).await,
        }
    }

    /// Whether there is a file or directory of that name.
    pub async fn exists(&self, path: &Path) -> bool {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || path.exists()).await
            }
            Runtime::Sim(world) => world.exists(path).await,
        }
    }

    /// A whole small file (index, checkpoint), through the page cache.
    ///
    /// # Errors
    /// The file system's; `InvalidData` when it has more than `bytes_max`.
    pub async fn read_file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || fs::read_file(&path, bytes_max)).await
            }
            Runtime::Sim(world) => world.read_file(path, bytes_max).await,
        }
    }

    /// Replaces a small file whole, atomically and durably: after a crash it is the old or the new.
    ///
    /// # Errors
    /// The file system's; the old contents are then still there.
    pub async fn replace_file(&self, path: &Path, contents: Vec<u8>) -> io::Result<()> {
        match &self.0 {
            Runtime::Real(shard) => {
                let path = path.to_owned();
                shard.blocking(move || fs::replace_file(&path, &contents)).await
            }
            Runtime::Sim(world) => world.replace_file(path, contents).await,
        }
    }

    /// Listens for connections; port 0 takes a free one.
    ///
    /// # Errors
    /// One sentence that says what to do: the port is in use, the address is not ours.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        Ok(Listener(match &self.0 {
            Runtime::Real(shard) => ListenerKind::Real(RealListener::listen(shard, address)?),
            Runtime::Sim(world) => ListenerKind::Sim(world.listen(address)?),
        }))
    }

    /// Connects to `address`; wrap it in `timeout`, as the system's own is minutes.
    ///
    /// # Errors
    /// Nobody listens there, or it cannot be reached.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        Ok(Socket(match &self.0 {
            Runtime::Real(shard) => SocketKind::Real(RealSocket::connect(shard, address).await?),
            Runtime::Sim(world) => SocketKind::Sim(world.connect(address).await?),
        }))
    }

    /// Takes over a socket that another shard let go with `into_handle`.
    ///
    /// # Panics
    /// When a real handle comes to a simulation or the other way round.
    pub fn adopt(&self, handle: SocketHandle) -> Socket {
        Socket(match (&self.0, handle.0) {
            (Runtime::Real(shard), HandleKind::Real { descriptor, peer }) => {
                SocketKind::Real(RealSocket::adopt(shard, descriptor, peer))
            }
            (Runtime::Sim(world), HandleKind::Sim { id, .. }) => SocketKind::Sim(world.adopt(id)),
            _ => unreachable!("handles stay in their world"),
        })
    }

    /// Calls of `io_uring_enter` and completions since the start: what an operation costs.
    pub fn ring_counts(&self) -> (u64, u64) {
        match &self.0 {
            Runtime::Real(shard) => (shard.ring.enters_count(), shard.ring.completions_count()),
            Runtime::Sim(_) => (0, 0),
        }
    }
}
