//! The shard's own io_uring: sockets and file data, submitted in batches, buffers owned by slots.
//!
//! An operation has a slot, found by its completion's `user_data` (slot and generation). The slot
//! owns the descriptor and all memory that the kernel may touch, until the last completion:
//! dropping a future abandons its slot and frees nothing early. Descriptors close when the last
//! slot and owner are gone, so a number cannot be reused below a submission that is still queued.
//!
//! Tasks queue submissions; the shard's loop hands all of them to the kernel once a turn, and in
//! the same call takes completions or waits for one. The kernel defers its work on completions to
//! that call (`DEFER_TASKRUN`), so nothing interrupts a task. The shard's bell is an eventfd under
//! a multishot poll: it is never read, each write to it is one completion.
//!
//! Traps that shape this file: `IOSQE_IO_DRAIN` deadlocks with deferred task work, so nothing
//! drains; an eventfd may not be registered on a ring that polls another eventfd (the kernel then
//! signals it milliseconds late, through an RCU callback), so none is; no `RefCell` is borrowed
//! while a waker, a buffer or a descriptor is dropped or woken.
//! **Invariant:** a slot is freed at its last completion and nowhere else.

use super::memory::{Buffer, Slice};
use super::notify::BellWatch;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Submission entries a shard: a batch is what tasks queue in one turn; more wait in a backlog.
const ENTRIES: u32 = 1024;
/// Completion entries: room for idle connections' operations; beyond it the kernel keeps a list.
const COMPLETION_ENTRIES: u32 = 4 * ENTRIES;
/// `user_data` of a cancellation: its own completion says nothing of interest.
const CANCEL: u64 = u64::MAX;
/// `user_data` of the poll of the shard's bell.
const BELL: u64 = u64::MAX - 1;
/// Generations have 31 bits: the top bit of `user_data` stays clear, so nothing looks like
/// `CANCEL` or `BELL`.
const GENERATION_MASK: u32 = u32::MAX >> 1;
/// Set in the result of a zero-copy notification when the kernel copied after all.
const ZERO_COPY_COPIED: u32 = 1 << 31;
/// `IORING_ENTER_GETEVENTS`: runs deferred task work, which posts the completions.
const ENTER_GETEVENTS: u32 = 1;

/// What becomes of an operation whose future is dropped, or that is in flight at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnDrop {
    /// May never complete by itself (receive, accept, connect): cancelled.
    Cancel,
    /// Completes soon and its effect is wanted (files): left alone, waited for at the end.
    Finish,
    /// A send: left alone, but a peer may never read: cancelled at the end after a grace period.
    Send,
}

/// Memory that the kernel may touch while an operation is in flight.
pub(super) enum Keep {
    Nothing,
    Buffer(Buffer),
    Gather(Box<Gather>),
    Address(#[expect(dead_code, reason = "only the kernel reads it")] Box<libc::sockaddr_storage>),
}

/// A gather list in the kernel's form, with the slices that it points into.
pub(super) struct Gather {
    slices: Vec<Slice>,
    pub vectors: Vec<libc::iovec>,
    pub header: libc::msghdr,
}

impl Gather {
    /// The list of `slices`; neighbours in memory become one entry.
    pub fn new(slices: Vec<Slice>) -> Box<Gather> {
        let mut vectors: Vec<libc::iovec> = Vec::with_capacity(slices.len());
        for (index, slice) in slices.iter().enumerate() {
            if slice.is_empty() {
                continue;
            }
            if index > 0
                && let Some(last) = vectors.last_mut()
                && slices[index - 1].is_followed_by(slice)
            {
                last.iov_len += slice.len();
                continue;
            }
            let start = slice.as_ptr().cast_mut().cast();
            vectors.push(libc::iovec { iov_base: start, iov_len: slice.len() });
        }
        // SAFETY: all-zero is a valid msghdr: null pointers and zero lengths.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        Box::new(Gather { slices, vectors, header })
    }

    /// The same list once more: for what follows a send that keeps its own.
    pub fn duplicate(&self) -> Box<Gather> {
        let (slices, vectors) = (self.slices.clone(), self.vectors.clone());
        Box::new(Gather { slices, vectors, header: self.header })
    }

    pub fn bytes(&self) -> usize {
        self.vectors.iter().map(|vector| vector.iov_len).sum()
    }

    /// Points the message header at the vectors from `skip` on, `count` of them.
    pub fn aim(&mut self, skip: usize, count: usize) -> *const libc::msghdr {
        let vectors = &mut self.vectors[skip..skip + count];
        self.header.msg_iov = vectors.as_mut_ptr();
        self.header.msg_iovlen = count as _;
        &raw const self.header
    }

    /// Leaves out the first `bytes` of the vectors from `skip` on; returns the new `skip`.
    pub fn consume(&mut self, mut skip: usize, mut bytes: usize) -> usize {
        while bytes > 0 {
            let vector = &mut self.vectors[skip];
            if bytes < vector.iov_len {
                vector.iov_base = vector.iov_base.wrapping_byte_add(bytes);
                vector.iov_len -= bytes;
                return skip;
            }
            bytes -= vector.iov_len;
            skip += 1;
        }
        skip
    }
}

/// What a connection learns from zero-copy notifications.
#[derive(Default)]
pub(super) struct ZeroCopyNotes {
    pub copied_in_row_count: Cell<u32>,
}

/// One operation's place.
#[derive(Default)]
struct Slot {
    generation: u32,
    on_drop: Option<OnDrop>, // none: the slot is free
    abandoned: bool,         // nobody waits for a result any more
    ended: bool,             // the last completion came
    multi: bool,
    accepts: bool, // results are descriptors that somebody has to close
    results: VecDeque<i32>,
    waker: Option<Waker>,
    keep: Option<Keep>,
    descriptor: Option<Rc<OwnedFd>>,
    notes: Option<Rc<ZeroCopyNotes>>,
}

/// How an operation is submitted.
pub(super) struct Submission {
    pub entry: squeue::Entry,
    pub keep: Keep,
    pub descriptor: Option<Rc<OwnedFd>>,
    pub on_drop: OnDrop,
    pub notes: Option<Rc<ZeroCopyNotes>>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
}

/// One shard's ring.
pub(super) struct Ring {
    ring: RefCell<IoUring>,
    slots: RefCell<Slots>,
    backlog: RefCell<VecDeque<(squeue::Entry, Option<squeue::Entry>)>>,
    watch: Rc<BellWatch>,
    live: [Cell<usize>; 3],
    completions_count: Cell<u64>,
    enters_count: Cell<u64>,
}

impl Ring {
    /// A ring of the calling thread, which alone may use it. A wait ends when `watch`'s bell is
    /// signalled.
    ///
    /// # Errors
    /// What the kernel says: ENOSYS or EPERM where io_uring is switched off.
    pub fn new(watch: Rc<BellWatch>) -> io::Result<Rc<Ring>> {
        let mut builder = IoUring::builder();
        builder
            .setup_cqsize(COMPLETION_ENTRIES)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag();
        let ring = builder.build(ENTRIES)?;
        let ring = Rc::new(Ring {
            ring: RefCell::new(ring),
            slots: RefCell::default(),
            backlog: RefCell::default(),
            watch,
            live: Default::default(),
            completions_count: Cell::new(0),
            enters_count: Cell::new(0),
        });
        ring.poll_bell();
        Ok(ring)
    }

    fn poll_bell(&self) {
        let fd = types::Fd(self.watch.bell.eventfd_of_shard().as_raw_fd());
        let events = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(fd, events).multi(true).build();
        self.push(entry.user_data(BELL), None);
    }

    /// Queues one operation; it reaches the kernel at the end of the turn.
    ///
    /// # Safety
    /// All memory that the entry points to is owned by `keep` and does not move with it, and its
    /// descriptor is `descriptor` (or outlives the ring).
    pub unsafe fn submit(self: &Rc<Ring>, submission: Submission) -> Op {
        let (op, entry) = self.claim(submission, false, false);
        self.push(entry, None);
        op
    }

    /// Queues two operations, the second to start when the first succeeded in full.
    ///
    /// # Safety
    /// As for `submit`, for both.
    pub unsafe fn submit_linked(self: &Rc<Ring>, first: Submission, then: Submission) -> (Op, Op) {
        let (first, first_entry) = self.claim(first, false, false);
        let (then, then_entry) = self.claim(then, false, false);
        self.push(first_entry.flags(squeue::Flags::IO_LINK), Some(then_entry));
        (first, then)
    }

    /// Accepts connections of `listener` until dropped or failed.
    pub fn accept(self: &Rc<Ring>, listener: &Rc<OwnedFd>) -> Op {
        let fd = types::Fd(listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        let submission = Submission {
            entry,
            keep: Keep::Nothing,
            descriptor: Some(listener.clone()),
            on_drop: OnDrop::Cancel,
            notes: None,
        };
        let (op, entry) = self.claim(submission, true, true);
        self.push(entry, None);
        op
    }

    fn claim(
        self: &Rc<Ring>,
        submission: Submission,
        multi: bool,
        accepts: bool,
    ) -> (Op, squeue::Entry) {
        let Submission { entry, keep, descriptor, on_drop, notes } = submission;
        let mut slots = self.slots.borrow_mut();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.all.push(Slot::default());
            u32::try_from(slots.all.len() - 1).expect("fewer operations than memory")
        });
        let slot = &mut slots.all[index as usize];
        assert!(slot.on_drop.is_none(), "a free slot has no operation");
        slot.on_drop = Some(on_drop);
        slot.multi = multi;
        slot.accepts = accepts;
        slot.keep = Some(keep);
        slot.descriptor = descriptor;
        slot.notes = notes;
        let live = &self.live[on_drop as usize];
        live.set(live.get() + 1);
        let entry = entry.user_data(user_data(index, slot.generation));
        (Op { ring: self.clone(), index, done: false }, entry)
    }

    fn push(&self, first: squeue::Entry, then: Option<squeue::Entry>) {
        self.backlog.borrow_mut().push_back((first, then));
        self.refill();
    }

    /// Moves the backlog into the submission queue; a linked pair only when both fit, as a link
    /// that is cut by a submission is no link.
    fn refill(&self) {
        let mut backlog = self.backlog.borrow_mut();
        let mut ring = self.ring.borrow_mut();
        let mut queue = ring.submission();
        while let Some((first, then)) = backlog.front() {
            if queue.capacity() - queue.len() < 1 + usize::from(then.is_some()) {
                break;
            }
            // SAFETY: `claim` put all that the entries point to into slots, which live until the
            // last completion.
            unsafe {
                queue.push(first).expect("there is room");
                if let Some(then) = then {
                    queue.push(then).expect("there is room for both");
                }
            }
            backlog.pop_front();
        }
    }

    /// Hands queued operations to the kernel, lets it post completions, and wakes whose results
    /// came. One system call, or none where there is nothing to do.
    pub fn turn(&self) {
        self.refill();
        let has_work = {
            let mut ring = self.ring.borrow_mut();
            let queue = ring.submission();
            !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
        };
        if has_work {
            self.enter(0, None);
        }
        self.dispatch();
    }

    /// As `turn`, but waits for a completion, for `time` at most; calls `awake` when that is over.
    pub fn wait(&self, time: Option<Duration>, awake: impl FnOnce()) {
        self.refill();
        let want = u32::from(self.backlog.borrow().is_empty());
        self.enter(want, time);
        awake();
        self.dispatch();
    }

    /// One `io_uring_enter`. What the kernel was too busy to take stays queued for the next turn.
    fn enter(&self, want: u32, time: Option<Duration>) {
        self.enters_count.set(self.enters_count.get() + 1);
        let mut ring = self.ring.borrow_mut();
        let queued = u32::try_from(ring.submission().len()).expect("the queue is small");
        let submitter = ring.submitter();
        let entered = if let Some(time) = time {
            let time = types::Timespec::from(time);
            let arguments = types::SubmitArgs::new().timespec(&time);
            submitter.submit_with_args(want as usize, &arguments)
        } else {
            // SAFETY: no argument is passed; the flag only asks for completions.
            unsafe { submitter.enter::<libc::sigset_t>(queued, want, ENTER_GETEVENTS, None) }
        };
        drop(ring);
        let errno = entered.err().and_then(|error| error.raw_os_error());
        if let Some(errno) = errno
            && !matches!(errno, libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
        {
            let error = io::Error::from_raw_os_error(errno);
            panic!("the kernel refused a shard's ring: {error}");
        }
    }

    /// Whether `turn` would find a completion; no system call.
    pub fn has_completions(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        let queue = ring.submission();
        let is_told = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        is_told || !ring.completion().is_empty()
    }

    /// Completions since the start: what tells an idle shard from a busy one.
    pub fn completions_count(&self) -> u64 {
        self.completions_count.get()
    }

    /// Calls of `io_uring_enter` since the start.
    pub fn enters_count(&self) -> u64 {
        self.enters_count.get()
    }

    /// Operations in flight that end with `on_drop`.
    pub fn live_count(&self, on_drop: OnDrop) -> usize {
        self.live[on_drop as usize].get()
    }

    /// Asks the kernel to end every operation of that kind.
    pub fn cancel_all(&self, on_drop: OnDrop) {
        let slots = self.slots.borrow();
        let targets: Vec<u64> = slots
            .all
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.on_drop == Some(on_drop) && !slot.ended)
            .map(|(index, slot)| user_data(index as u32, slot.generation))
            .collect();
        drop(slots);
        for target in targets {
            self.push(opcode::AsyncCancel::new(target).build().user_data(CANCEL), None);
        }
    }

    fn dispatch(&self) {
        loop {
            let completion = self.ring.borrow_mut().completion().next();
            let Some(completion) = completion else { break };
            self.completions_count.set(self.completions_count.get() + 1);
            match completion.user_data() {
                CANCEL => {}
                BELL if cqueue::more(completion.flags()) => {}
                BELL => self.poll_bell(),
                _ => self.complete(&completion),
            }
        }
    }

    fn complete(&self, completion: &cqueue::Entry) {
        let (index, generation) = slot_of(completion.user_data());
        let (result, flags) = (completion.result(), completion.flags());
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots.all[index as usize];
        assert!(slot.generation == generation, "a completion finds its own operation");
        assert!(slot.on_drop.is_some() && !slot.ended, "nothing comes after the last one");
        slot.ended = !cqueue::more(flags);
        let mut stray = None;
        if cqueue::notif(flags) {
            if let Some(notes) = &slot.notes {
                let copied = result.cast_unsigned() & ZERO_COPY_COPIED != 0;
                let count = notes.copied_in_row_count.get();
                notes.copied_in_row_count.set(if copied { count.saturating_add(1) } else { 0 });
            }
        } else if !slot.abandoned {
            slot.results.push_back(result);
        } else if slot.accepts && result >= 0 {
            stray = Some(result);
        }
        let waker = slot.waker.take();
        let freed = (slot.ended && slot.abandoned).then(|| self.release(&mut slots, index));
        drop(slots);
        if let Some(fd) = stray {
            close_stray(fd);
        }
        drop(freed);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Frees a slot; what it owned is returned so that it is dropped outside of the borrow.
    fn release(&self, slots: &mut Slots, index: u32) -> Slot {
        let slot = &mut slots.all[index as usize];
        assert!(slot.ended, "the kernel is done with it");
        let on_drop = slot.on_drop.expect("it had an operation");
        let live = &self.live[on_drop as usize];
        live.set(live.get() - 1);
        let generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        let freed = std::mem::replace(slot, Slot { generation, ..Slot::default() });
        slots.free.push(index);
        freed
    }
}

fn user_data(index: u32, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(index)
}

fn slot_of(user_data: u64) -> (u32, u32) {
    ((user_data & 0xffff_ffff) as u32, (user_data >> 32) as u32)
}

fn close_stray(fd: i32) {
    // SAFETY: the kernel just made this descriptor for an accept that nobody waits for.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// An operation in flight. As a future it resolves at the first completion with the kernel's result
/// and what was kept, if the kernel is done with it (a zero-copy send keeps its slices longer).
pub(super) struct Op {
    ring: Rc<Ring>,
    index: u32,
    done: bool,
}

impl Op {
    /// The next result of a multishot operation; none after its last.
    pub async fn next(&mut self) -> Option<i32> {
        poll_fn(|context| {
            let mut slots = self.ring.slots.borrow_mut();
            let slot = &mut slots.all[self.index as usize];
            if let Some(result) = slot.results.pop_front() {
                return Poll::Ready(Some(result));
            }
            if slot.ended {
                return Poll::Ready(None);
            }
            let last = slot.waker.replace(context.waker().clone());
            drop(slots);
            drop(last);
            Poll::Pending
        })
        .await
    }
}

impl Future for Op {
    type Output = (i32, Keep);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(i32, Keep)> {
        let this = &mut *self;
        assert!(!this.done, "polled after it was ready");
        let mut slots = this.ring.slots.borrow_mut();
        let slot = &mut slots.all[this.index as usize];
        let Some(result) = slot.results.pop_front() else {
            let known = slot.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if !known {
                let last = slot.waker.replace(context.waker().clone());
                drop(slots);
                drop(last);
            }
            return Poll::Pending;
        };
        this.done = true;
        slot.abandoned = true;
        if !slot.ended {
            return Poll::Ready((result, Keep::Nothing));
        }
        let mut freed = this.ring.release(&mut slots, this.index);
        drop(slots);
        let keep = freed.keep.take().unwrap_or(Keep::Nothing);
        Poll::Ready((result, keep))
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut slots = self.ring.slots.borrow_mut();
        let slot = &mut slots.all[self.index as usize];
        slot.abandoned = true;
        let waker = slot.waker.take();
        let results = std::mem::take(&mut slot.results);
        let strays = if slot.accepts { results } else { VecDeque::new() };
        let target = user_data(self.index, slot.generation);
        let cancel = !slot.ended && slot.on_drop == Some(OnDrop::Cancel);
        let freed = slot.ended.then(|| self.ring.release(&mut slots, self.index));
        drop(slots);
        drop(waker);
        drop(freed);
        strays.into_iter().filter(|result| *result >= 0).for_each(close_stray);
        if cancel {
            self.ring.push(opcode::AsyncCancel::new(target).build().user_data(CANCEL), None);
        }
    }
}

/// The kernel's result as a number of bytes or an error.
pub(super) fn checked(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
