//! A shard's buffers: 4 KiB-aligned runs of pages out of huge-page arenas, under a budget.
//!
//! Small and large runs live in different arenas: long-lived small ones would otherwise cut up the
//! room for large ones.
//!
//! Only the shard allocates. Freeing is pushing onto a lock-free queue from any thread; the shard
//! drains it when it next allocates. [`Memory::trim`] hands huge pages back to the system that
//! nobody has needed for a minute: to get one again costs 0.1 ms, and on a virtual machine whose
//! host takes free memory 4 ms, in which the shard stands still.
//!
//! The memory is *not* registered with the ring (`WriteFixed`): that pins all of it at start, which
//! makes an idle node large and runs into the memlock limit of everybody but root; with 2 MiB pages
//! the unregistered path measured nearly the same.
//! **Invariant:** a run is in exactly one place: free in the bitmap, queued as returned, or in a
//! `Buffer` or the last `Slice` of one.

use super::arena::{ARENA_BYTES, ARENA_RUN_BYTES_MAX, Arena, DIRECT, HUGE_BYTES, PAGE_BYTES, Run};
use super::arena::{SMALL_RUN_BYTES_MAX, map, mapping_bytes, unmap};
use super::notify::BellWatch;
use crossbeam_queue::SegQueue;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Free huge pages that `trim` leaves in place a shard, beyond what was needed lately: the next
/// burst starts without page faults.
const RESERVE_HUGE_COUNT: usize = 8;
/// What was needed in the last period of this length, and in the one before, was needed lately.
const PEAK_PERIOD: Duration = Duration::from_secs(60);
/// Huge pages that one `trim` hands back at most: bounds the time of the system calls.
const TRIM_HUGE_COUNT_MAX: usize = 4;

/// What buffers keep of their pool, on whatever thread they are.
struct Shared {
    returned: SegQueue<Run>,
    used_bytes: AtomicUsize,
    waiters_count: AtomicUsize,
    bell: Arc<super::notify::Bell>,
    /// Starts of the arenas: unmapped when the pool and the last buffer are gone.
    mappings: Mutex<Vec<Mapping>>,
}

struct Mapping(NonNull<u8>);
// SAFETY: only an address; what is behind it is reached through runs and slices.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Shared {
    fn drop(&mut self) {
        while let Some(run) = self.returned.pop() {
            if run.arena == DIRECT {
                unmap(run.start, mapping_bytes(run.bytes()));
            }
        }
        let mappings = self.mappings.get_mut().unwrap_or_else(PoisonError::into_inner);
        for mapping in mappings.drain(..) {
            unmap(mapping.0, ARENA_BYTES);
        }
    }
}

struct Pool {
    shared: Arc<Shared>,
    budget_bytes: usize,
    arenas: RefCell<Vec<Arena>>,
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    ticket_next: std::cell::Cell<u64>,
    peaks: RefCell<Peaks>,
    watch: Rc<BellWatch>,
}

/// The most bytes that were out at once.
#[derive(Default)]
struct Peaks {
    /// Since when the period goes on.
    since: Duration,
    bytes: usize,
    /// In the period before.
    last_bytes: usize,
}

impl Peaks {
    fn note(&mut self, used_bytes: usize) {
        self.bytes = self.bytes.max(used_bytes);
    }

    /// The most of this period and the one before.
    fn recent_bytes(&mut self, now: Duration, used_bytes: usize) -> usize {
        let recent_bytes = self.bytes.max(self.last_bytes).max(used_bytes);
        if now.saturating_sub(self.since) >= PEAK_PERIOD {
            *self = Peaks { since: now, bytes: used_bytes, last_bytes: self.bytes };
        }
        recent_bytes
    }
}

/// The shard's buffer memory. Clones are the same pool.
#[derive(Clone)]
pub struct Memory(Rc<Pool>);

impl Memory {
    pub(super) fn new(budget_bytes: usize, watch: Rc<BellWatch>) -> Memory {
        let shared = Shared {
            returned: SegQueue::new(),
            used_bytes: AtomicUsize::new(0),
            waiters_count: AtomicUsize::new(0),
            bell: watch.bell.clone(),
            mappings: Mutex::new(Vec::new()),
        };
        Memory(Rc::new(Pool {
            shared: Arc::new(shared),
            budget_bytes,
            arenas: RefCell::new(Vec::new()),
            waiting: RefCell::new(VecDeque::new()),
            ticket_next: std::cell::Cell::new(0),
            peaks: RefCell::default(),
            watch,
        }))
    }

    /// A buffer of `bytes` (1 or more), or none when that would exceed the shard's budget.
    ///
    /// Its contents are whatever was there before. The budget is charged with whole pages. Costs no
    /// system call unless the pool has to grow.
    pub fn allocate(&self, bytes: usize) -> Option<Buffer> {
        assert!(bytes > 0, "a buffer holds something");
        let pool = &*self.0;
        if bytes > pool.budget_bytes {
            return None;
        }
        let pages_count = bytes.div_ceil(PAGE_BYTES);
        let charge_bytes = pages_count * PAGE_BYTES;
        let used_bytes = pool.shared.used_bytes.load(Ordering::SeqCst);
        if used_bytes + charge_bytes > pool.budget_bytes {
            return None;
        }
        let run = pool.take(pages_count)?;
        pool.shared.used_bytes.fetch_add(charge_bytes, Ordering::SeqCst);
        pool.peaks.borrow_mut().note(used_bytes + charge_bytes);
        let region = Region { run, shared: pool.shared.clone() };
        Some(Buffer { region, bytes })
    }

    /// A buffer of `bytes`, when the budget has room for it; waiters are served in order.
    ///
    /// # Panics
    /// When `bytes` exceed the whole budget: check against [`Memory::budget_bytes`] what a peer
    /// asks.
    pub async fn allocate_wait(&self, bytes: usize) -> Buffer {
        assert!(bytes.next_multiple_of(PAGE_BYTES) <= self.budget_bytes(), "it would never fit");
        if self.0.waiting.borrow().is_empty()
            && let Some(buffer) = self.allocate(bytes)
        {
            return buffer;
        }
        let waiter = Waiter::new(&self.0);
        poll_fn(|context| {
            self.0.watch.watch(context.waker());
            if !waiter.is_first(context.waker()) {
                return Poll::Pending;
            }
            self.allocate(bytes).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Bytes of the budget that buffers and slices hold now.
    pub fn used_bytes(&self) -> usize {
        self.0.shared.used_bytes.load(Ordering::SeqCst)
    }

    /// Bytes that may be held at once.
    pub fn budget_bytes(&self) -> usize {
        self.0.budget_bytes
    }

    /// Hands some free huge pages back to the system, beyond the reserve and what was needed
    /// lately; true if it handed back any. `now` is the shard's time.
    pub(super) fn trim(&self, now: Duration) -> bool {
        self.0.drain();
        let used_bytes = self.used_bytes();
        let lately_bytes = self.0.peaks.borrow_mut().recent_bytes(now, used_bytes) - used_bytes;
        let mut arenas = self.0.arenas.borrow_mut();
        let mut keep_count = RESERVE_HUGE_COUNT + lately_bytes.div_ceil(HUGE_BYTES);
        let mut trimmed_count = 0;
        for arena in arenas.iter_mut() {
            for huge in 0..ARENA_BYTES / HUGE_BYTES {
                if arena.touched & (1 << huge) == 0 || !arena.is_free(huge) {
                    continue;
                }
                if keep_count > 0 {
                    keep_count -= 1;
                } else if trimmed_count < TRIM_HUGE_COUNT_MAX {
                    arena.hand_back(huge);
                    trimmed_count += 1;
                }
            }
        }
        trimmed_count > 0
    }
}

/// A place in the line of `allocate_wait`, given up when dropped.
struct Waiter<'a> {
    pool: &'a Pool,
    ticket: u64,
}

impl<'a> Waiter<'a> {
    fn new(pool: &'a Pool) -> Waiter<'a> {
        let ticket = pool.ticket_next.get();
        pool.ticket_next.set(ticket + 1);
        pool.waiting.borrow_mut().push_back((ticket, None));
        pool.shared.waiters_count.fetch_add(1, Ordering::SeqCst);
        Waiter { pool, ticket }
    }

    fn is_first(&self, waker: &Waker) -> bool {
        let mut waiting = self.pool.waiting.borrow_mut();
        let position = waiting.iter().position(|(ticket, _)| *ticket == self.ticket);
        let position = position.expect("a waiter is in line until it is dropped");
        waiting[position].1 = Some(waker.clone());
        position == 0
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.pool.waiting.borrow_mut();
        waiting.retain(|(ticket, _)| *ticket != self.ticket);
        let next = waiting.front_mut().and_then(|(_, waker)| waker.take());
        drop(waiting);
        self.pool.shared.waiters_count.fetch_sub(1, Ordering::SeqCst);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

impl Pool {
    fn take(&self, pages_count: usize) -> Option<Run> {
        self.drain();
        let bytes = pages_count * PAGE_BYTES;
        if bytes > ARENA_RUN_BYTES_MAX {
            let start = map(mapping_bytes(bytes))?;
            let pages_count = u32::try_from(pages_count).ok()?;
            return Some(Run { start, pages_count, arena: DIRECT });
        }
        let small = bytes <= SMALL_RUN_BYTES_MAX;
        let mut arenas = self.arenas.borrow_mut();
        for (index, arena) in arenas.iter_mut().enumerate() {
            if arena.small == small
                && let Some(page) = arena.take(pages_count)
            {
                return Some(arena.run(index, page, pages_count));
            }
        }
        let mut arena = Arena::new(small)?;
        let mut mappings = self.shared.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        mappings.push(Mapping(arena.start));
        drop(mappings);
        let page = arena.take(pages_count).expect("a fresh arena has room for its largest run");
        let run = arena.run(arenas.len(), page, pages_count);
        arenas.push(arena);
        Some(run)
    }

    /// Takes back what other owners freed.
    fn drain(&self) {
        if self.shared.returned.is_empty() {
            return;
        }
        let mut arenas = self.arenas.borrow_mut();
        while let Some(run) = self.shared.returned.pop() {
            if run.arena == DIRECT {
                unmap(run.start, mapping_bytes(run.bytes()));
            } else {
                arenas[run.arena as usize].put(run);
            }
        }
    }
}

/// An owned run: goes back to its pool when dropped, on any thread.
struct Region {
    run: Run,
    shared: Arc<Shared>,
}

// SAFETY: the bytes are only read through shared references (`Slice`), and written only by the
// unique `Buffer` or beyond every slice by the unique `TailBuffer`.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        self.shared.returned.push(self.run);
        self.shared.used_bytes.fetch_sub(self.run.bytes(), Ordering::SeqCst);
        if self.shared.waiters_count.load(Ordering::SeqCst) > 0 {
            self.shared.bell.ring();
        }
    }
}

/// Bytes with one owner, 4 KiB-aligned; [`Buffer::freeze`] makes them shareable.
pub struct Buffer {
    region: Region,
    bytes: usize,
}

impl Buffer {
    /// Bytes that the run really has: the length rounded up to whole pages.
    pub fn capacity(&self) -> usize {
        self.region.run.bytes()
    }

    /// Shortens to `bytes` (at most the length); the run stays whole.
    pub fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "truncate does not lengthen");
        self.bytes = bytes;
    }

    /// Makes the bytes immutable and shareable without copying them.
    pub fn freeze(self) -> Slice {
        let start = self.region.run.start;
        let bytes = self.bytes;
        Slice { owner: Some(Arc::new(Owner::Region(self.region))), start, bytes }
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.region.run.start.as_ptr()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the run is mapped (so initialised: zeroes or old bytes) and ours alone.
        unsafe { std::slice::from_raw_parts(self.region.run.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` proves that nobody reads.
        unsafe { std::slice::from_raw_parts_mut(self.region.run.start.as_ptr(), self.bytes) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes)
    }
}

enum Owner {
    Region(#[expect(dead_code, reason = "held for its drop")] Region),
    Heap(#[expect(dead_code, reason = "held for its drop")] Vec<u8>),
    Mapped(Mapping, usize),
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Owner::Mapped(mapping, bytes) = self {
            unmap(mapping.0, *bytes);
        }
    }
}

/// Immutable bytes with counted owners; cloning and cutting copies nothing. Any thread.
#[derive(Clone)]
pub struct Slice {
    owner: Option<Arc<Owner>>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the bytes are immutable as long as a slice lives, and the owner is Send + Sync.
unsafe impl Send for Slice {}
// SAFETY: as above.
unsafe impl Sync for Slice {}

impl Slice {
    /// No bytes.
    pub fn empty() -> Slice {
        Slice { owner: None, start: NonNull::dangling(), bytes: 0 }
    }

    /// `bytes` of zeroes that are never written, so that they cost address space only.
    pub(super) fn mapped_zeroes(bytes: usize) -> Slice {
        let mapped_bytes = mapping_bytes(bytes);
        let start = map(mapped_bytes).expect("the system gives address space for a few zeroes");
        let owner = Owner::Mapped(Mapping(start), mapped_bytes);
        Slice { owner: Some(Arc::new(owner)), start, bytes }
    }

    /// The part `range` of this one, sharing the memory.
    ///
    /// # Panics
    /// When the range does not lie inside.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.bytes, "the range lies inside");
        // SAFETY: the start stays within the bytes of this slice (or one past them).
        let start = unsafe { self.start.add(range.start) };
        Slice { owner: self.owner.clone(), start, bytes: range.end - range.start }
    }

    /// Whether the bytes came out of a `Vec`: somebody put them together, they are no buffer's.
    pub fn is_on_heap(&self) -> bool {
        matches!(self.owner.as_deref(), Some(Owner::Heap(_)))
    }

    /// Whether `next` begins in memory where this one ends, in the same buffer.
    pub(super) fn is_followed_by(&self, next: &Slice) -> bool {
        let same = match (&self.owner, &next.owner) {
            (Some(owner), Some(other)) => Arc::ptr_eq(owner, other),
            _ => false,
        };
        same && self.start.as_ptr().wrapping_add(self.bytes) == next.start.as_ptr()
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the owner keeps the bytes alive and nobody writes to them (module doc).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl From<Vec<u8>> for Slice {
    fn from(mut vector: Vec<u8>) -> Slice {
        let bytes = vector.len();
        let start = NonNull::new(vector.as_mut_ptr()).expect("a vector's pointer is never null");
        Slice { owner: Some(Arc::new(Owner::Heap(vector))), start, bytes }
    }
}

impl Default for Slice {
    fn default() -> Slice {
        Slice::empty()
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} bytes)", self.bytes)
    }
}

/// A buffer that grows at its end while what was written before is already shared.
///
/// Appending writes beyond every slice that was handed out, so those stay immutable.
pub struct TailBuffer {
    owner: Arc<Owner>,
    start: NonNull<u8>,
    bytes: usize,
    capacity_bytes: usize,
}

// SAFETY: the unique appender of its memory; slices of it only read below `bytes`.
unsafe impl Send for TailBuffer {}

impl TailBuffer {
    /// An empty tail over the whole of `buffer`'s length.
    pub fn new(buffer: Buffer) -> TailBuffer {
        let start = buffer.region.run.start;
        let capacity_bytes = buffer.bytes;
        TailBuffer {
            owner: Arc::new(Owner::Region(buffer.region)),
            start,
            bytes: 0,
            capacity_bytes,
        }
    }

    /// Copies `source` to the end.
    ///
    /// # Panics
    /// When it does not fit: the caller looks at `free_bytes` first.
    pub fn append(&mut self, source: &[u8]) {
        assert!(source.len() <= self.free_bytes(), "the caller appends what fits");
        // SAFETY: the target lies inside the region, beyond all slices, and `&mut self` is the only
        // appender; `source` cannot overlap it as no safe reference to those bytes exists.
        unsafe {
            let target = self.start.as_ptr().add(self.bytes);
            std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len());
        }
        self.bytes += source.len();
    }

    /// The bytes `range` of those appended so far; they never change again.
    ///
    /// # Panics
    /// When the range reaches beyond them.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.bytes, "only appended bytes");
        // SAFETY: the start lies within the region.
        let start = unsafe { self.start.add(range.start) };
        Slice { owner: Some(self.owner.clone()), start, bytes: range.end - range.start }
    }

    /// Bytes appended so far.
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that fit in all.
    pub fn capacity(&self) -> usize {
        self.capacity_bytes
    }

    /// Bytes that still fit.
    pub fn free_bytes(&self) -> usize {
        self.capacity_bytes - self.bytes
    }
}

impl std::fmt::Debug for TailBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TailBuffer({} of {} bytes)", self.bytes, self.capacity_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::ARENA_PAGES;
    use super::*;
    use crate::base::limits::MIB;
    use crate::io::notify::Bell;

    fn memory(budget_bytes: usize) -> Memory {
        Memory::new(budget_bytes, BellWatch::new(Bell::simulated()))
    }

    /// Goal: the budget is a bound in whole pages and all of it can be used. Method: fill it, free
    /// one, fill again.
    #[test]
    fn the_budget_bounds_what_is_out() {
        let memory = memory(4 * PAGE_BYTES);
        let mut buffers: Vec<_> = (0..4).filter_map(|_| memory.allocate(1)).collect();
        assert_eq!((buffers.len(), memory.used_bytes()), (4, 4 * PAGE_BYTES));
        assert!(memory.allocate(1).is_none());
        buffers.pop();
        assert_eq!(memory.allocate(PAGE_BYTES).map(|buffer| buffer.len()), Some(PAGE_BYTES));
        assert!(memory.allocate(usize::MAX).is_none());
    }

    /// Goal: a frame a little over 1 MiB takes a page more, not 2 MiB. Method: count what it
    /// charges.
    #[test]
    fn a_large_buffer_is_charged_by_the_page() {
        let memory = memory(64 * MIB);
        let buffer = memory.allocate(MIB + 200).expect("in the budget");
        assert_eq!(memory.used_bytes(), MIB + PAGE_BYTES);
        assert_eq!((buffer.len(), buffer.capacity()), (MIB + 200, MIB + PAGE_BYTES));
        assert!((buffer.as_ptr() as usize).is_multiple_of(PAGE_BYTES));
    }

    /// Goal: runs never overlap and freed ones melt together again. Method: random sizes and frees
    /// by a printed seed; each buffer is filled with a number of its own and checked when freed; at
    /// the end the largest run fits again where all the others were.
    #[test]
    fn random_allocations_never_overlap_and_leave_no_fragments() {
        let seed: u64 = std::process::id().into();
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let memory = memory(256 * MIB);
        let mut live: Vec<(Buffer, u8)> = Vec::new();
        for _ in 0..5_000 {
            if random.u8(..) < 128 && !live.is_empty() {
                let (buffer, value) = live.swap_remove(random.usize(..live.len()));
                assert!(buffer.iter().step_by(511).all(|byte| *byte == value));
            }
            let bound = 1 << random.u32(1..=20);
            let bytes = 1 + random.usize(..bound);
            if let Some(mut buffer) = memory.allocate(bytes) {
                let value = random.u8(..);
                buffer.fill(value);
                live.push((buffer, value));
            }
        }
        drop(live);
        memory.0.drain();
        for arena in memory.0.arenas.borrow().iter() {
            assert_eq!(arena.free_pages, ARENA_PAGES);
            assert_eq!(arena.find(ARENA_PAGES), Some(0));
        }
    }

    /// Goal: what is used again costs nothing new, and what was needed lately stays. Method: the
    /// same place comes back; trim with the clock put on.
    #[test]
    fn freed_memory_is_used_again_and_handed_back_when_nobody_needs_it() {
        let memory = memory(128 * MIB);
        let first = memory.allocate(4 * MIB).map(|buffer| buffer.as_ptr() as usize);
        let again = memory.allocate(4 * MIB).map(|buffer| buffer.as_ptr() as usize);
        assert_eq!(first, again);
        let mut buffers: Vec<_> = (0..10).filter_map(|_| memory.allocate(4 * MIB)).collect();
        buffers.iter_mut().for_each(|buffer| buffer.fill(1));
        assert!(!memory.trim(Duration::ZERO), "nothing is free");
        drop(buffers);
        assert!(!memory.trim(PEAK_PERIOD / 2), "it was needed just now");
        assert!(!memory.trim(PEAK_PERIOD), "it was needed in the period that ends");
        assert!(!memory.trim(PEAK_PERIOD * 2), "it was needed in the period before that");
        let (now, mut trims_count) = (PEAK_PERIOD * 5 / 2, 0);
        while memory.trim(now) {
            trims_count += 1;
        }
        assert_eq!(trims_count, (20 - RESERVE_HUGE_COUNT) / TRIM_HUGE_COUNT_MAX);
        let touched_count: u32 =
            memory.0.arenas.borrow().iter().map(|arena| arena.touched.count_ones()).sum();
        assert_eq!(touched_count as usize, RESERVE_HUGE_COUNT);
    }

    /// Goal: a run larger than an arena's share works and comes back. Method: the largest request.
    #[test]
    fn a_run_too_large_for_an_arena_is_a_mapping_of_its_own() {
        let memory = memory(128 * MIB);
        let mut buffer = memory.allocate(100 * MIB).expect("in the budget");
        buffer[100 * MIB - 1] = 7;
        assert!(memory.allocate(100 * MIB).is_none());
        drop(buffer);
        assert_eq!(memory.used_bytes(), 0);
        assert!(memory.allocate(100 * MIB).is_some());
    }

    /// Goal: slices outlive their pool, on other threads. Method: drop the pool first.
    #[test]
    fn a_slice_outlives_its_pool_on_another_thread() {
        let memory = memory(64 * MIB);
        let mut buffer = memory.allocate(3 * PAGE_BYTES).expect("in the budget");
        buffer.fill(9);
        let slice = buffer.freeze().slice(PAGE_BYTES..2 * PAGE_BYTES);
        drop(memory);
        let thread = std::thread::spawn(move || {
            assert!(slice.iter().all(|byte| *byte == 9));
            drop(slice);
        });
        thread.join().expect("the other thread's checks hold");
    }

    /// Goal: slices of a tail stay as they were while it grows. Method: append, cut, append.
    #[test]
    fn a_tail_grows_behind_its_slices() {
        let memory = memory(64 * MIB);
        let mut tail = TailBuffer::new(memory.allocate(10).expect("in the budget"));
        tail.append(b"first");
        let first = tail.slice(0..5);
        tail.append(b"next!");
        assert_eq!((&first[..], tail.len(), tail.free_bytes()), (&b"first"[..], 10, 0));
        let both = tail.slice(3..8);
        drop(tail);
        assert_eq!(&both[..], b"stnex");
        assert!(first.is_followed_by(&both.slice(2..5)) && !both.is_followed_by(&first));
        drop((first, both));
        assert_eq!(memory.used_bytes(), 0);
    }
}
