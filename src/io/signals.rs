//! The signals that stop a program: blocked everywhere, awaited by one thread.
//!
//! `block` comes first in `main`, before any thread starts, as threads inherit the mask; a shard is
//! then never interrupted, and a stop is an ordinary message.

use std::io;

/// Asked to stop: by Ctrl-C or by the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

/// Blocks SIGINT and SIGTERM in this thread and all that it starts from now on.
///
/// # Errors
/// Never in practice.
pub fn block() -> io::Result<()> {
    let set = stop_set();
    // SAFETY: the set is initialised; the old mask is not asked for.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Blocks the calling thread until one of the signals comes. `block` was called before.
///
/// # Errors
/// Never in practice.
pub fn wait() -> io::Result<StopSignal> {
    let set = stop_set();
    let mut signal = 0;
    // SAFETY: the set is initialised and the pointer is to a live int.
    let result = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
    match (result, signal) {
        (0, libc::SIGINT) => Ok(StopSignal::Interrupt),
        (0, _) => Ok(StopSignal::Terminate),
        (error, _) => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Runs `on_stop` on a thread of its own at each of the signals.
///
/// # Errors
/// The system has no room for a thread.
pub fn on_stop(mut on_stop: impl FnMut(StopSignal) + Send + 'static) -> io::Result<()> {
    let watch = move || {
        while let Ok(signal) = wait() {
            on_stop(signal);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(|_| ())
}

fn stop_set() -> libc::sigset_t {
    // SAFETY: all-zero is storage for a set, which sigemptyset then initialises.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live set and the signals exist.
    unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
    }
    set
}
