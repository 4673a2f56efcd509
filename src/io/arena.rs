//! Arenas: address space in huge pages, and a bitmap that finds runs of pages in it.
//!
//! An arena is 64 MiB, aligned and advised to 2 MiB pages, touched only as it is used: an idle
//! shard costs nothing, and a run that is used again costs no system call and no page fault. A
//! bitmap with one bit a page finds runs first-fit, so a frame of 1 MiB and 200 bytes takes 257
//! pages and neighbours melt together when they are freed.
//! **Invariant:** a page of an arena is free in the bitmap or in exactly one run.

use crate::base::limits::{DIRECT_ALIGN_BYTES, KIB, MIB};
use std::ptr::NonNull;

/// Bytes of a page, the unit of a run.
pub const PAGE_BYTES: usize = DIRECT_ALIGN_BYTES;
/// Bytes of a huge page: x86-64's and aarch64's with 4 KiB base pages.
pub const HUGE_BYTES: usize = 2 * MIB;
/// Address space of an arena, bytes: 32 huge pages, so that a bitmap is 2 KiB and scans in well
/// below a microsecond.
pub const ARENA_BYTES: usize = 64 * MIB;
pub const ARENA_PAGES: usize = ARENA_BYTES / PAGE_BYTES;
const ARENA_WORDS: usize = ARENA_PAGES / 64;
/// Largest run out of an arena, bytes; a larger one is a mapping of its own.
pub const ARENA_RUN_BYTES_MAX: usize = 16 * MIB;
/// Largest run that goes to the arenas of small ones, bytes.
pub const SMALL_RUN_BYTES_MAX: usize = 64 * KIB;

const _: () = assert!(ARENA_BYTES / HUGE_BYTES <= 32, "touched is a u32");
const _: () = assert!(ARENA_BYTES.is_multiple_of(HUGE_BYTES));

/// A run of pages, as plain numbers: `arena` is `DIRECT` for a mapping of its own.
#[derive(Clone, Copy)]
pub struct Run {
    pub start: NonNull<u8>,
    pub pages_count: u32,
    pub arena: u32,
}

/// The arena of a run that is a mapping of its own.
pub const DIRECT: u32 = u32::MAX;

// SAFETY: a run is an exclusive claim on its bytes; nothing about it is tied to a thread.
unsafe impl Send for Run {}

impl Run {
    /// Bytes of it, whole pages.
    pub fn bytes(&self) -> usize {
        self.pages_count as usize * PAGE_BYTES
    }
}

/// One arena.
pub struct Arena {
    pub start: NonNull<u8>,
    /// For small runs.
    pub small: bool,
    pub free_pages: usize,
    hint_word: usize, // no free bit below it
    free: Box<[u64; ARENA_WORDS]>,
    /// Huge pages that were given out since they were mapped or handed back.
    pub touched: u32,
}

impl Arena {
    /// A new one; none if the system refuses.
    pub fn new(small: bool) -> Option<Arena> {
        Some(Arena {
            start: map(ARENA_BYTES)?,
            small,
            free_pages: ARENA_PAGES,
            hint_word: 0,
            free: Box::new([u64::MAX; ARENA_WORDS]),
            touched: 0,
        })
    }

    /// The first page of a free run of `pages_count`, now taken.
    pub fn take(&mut self, pages_count: usize) -> Option<usize> {
        if self.free_pages < pages_count {
            return None;
        }
        while self.hint_word < ARENA_WORDS && self.free[self.hint_word] == 0 {
            self.hint_word += 1;
        }
        let page = self.find(pages_count)?;
        self.mark(page, pages_count, false);
        self.free_pages -= pages_count;
        let last = (page + pages_count - 1) * PAGE_BYTES / HUGE_BYTES;
        for huge in page * PAGE_BYTES / HUGE_BYTES..=last {
            self.touched |= 1 << huge;
        }
        Some(page)
    }

    /// The first page of a free run of `pages_count`.
    pub fn find(&self, pages_count: usize) -> Option<usize> {
        let mut run_start = 0;
        let mut run_count = 0;
        for index in self.hint_word..ARENA_WORDS {
            let word = self.free[index];
            let mut bit = 0;
            while bit < 64 {
                let rest = word >> bit;
                let ones = ((!rest).trailing_zeros() as usize).min(64 - bit);
                if ones > 0 {
                    if run_count == 0 {
                        run_start = index * 64 + bit;
                    }
                    run_count += ones;
                    if run_count >= pages_count {
                        return Some(run_start);
                    }
                    bit += ones;
                } else {
                    run_count = 0;
                    bit += (rest.trailing_zeros() as usize).min(64 - bit);
                }
            }
        }
        None
    }

    /// Takes a run of this arena back.
    pub fn put(&mut self, run: Run) {
        let offset_bytes = run.start.as_ptr() as usize - self.start.as_ptr() as usize;
        let page = offset_bytes / PAGE_BYTES;
        assert!(offset_bytes < ARENA_BYTES, "a run comes back to its own arena");
        self.mark(page, run.pages_count as usize, true);
        self.free_pages += run.pages_count as usize;
        self.hint_word = self.hint_word.min(page / 64);
    }

    fn mark(&mut self, page: usize, pages_count: usize, free: bool) {
        let mut page = page;
        let end = page + pages_count;
        while page < end {
            let bit = page % 64;
            let count = (64 - bit).min(end - page);
            let mask = (u64::MAX >> (64 - count)) << bit;
            let word = &mut self.free[page / 64];
            assert!(*word & mask == if free { 0 } else { mask }, "a page has one owner");
            *word ^= mask;
            page += count;
        }
    }

    /// The run of `pages_count` from `page` on, which `take` gave; `index` is this arena's number.
    pub fn run(&self, index: usize, page: usize, pages_count: usize) -> Run {
        // SAFETY: `take` found the page inside the arena's mapping.
        let start = unsafe { self.start.add(page * PAGE_BYTES) };
        let arena = u32::try_from(index).expect("arenas are bounded by the budget");
        let pages_count = u32::try_from(pages_count).expect("a run is smaller than its arena");
        Run { start, pages_count, arena }
    }

    /// Whether no run of the huge page is out.
    pub fn is_free(&self, huge: usize) -> bool {
        let words = HUGE_BYTES / PAGE_BYTES / 64;
        self.free[huge * words..(huge + 1) * words].iter().all(|word| *word == u64::MAX)
    }

    /// Gives the memory of a free huge page back to the system.
    pub fn hand_back(&mut self, huge: usize) {
        // SAFETY: the huge page lies in this arena's mapping and no run of it is out (`is_free`).
        let result = unsafe {
            let start = self.start.add(huge * HUGE_BYTES);
            libc::madvise(start.as_ptr().cast(), HUGE_BYTES, libc::MADV_DONTNEED)
        };
        assert!(result == 0, "the range is a mapping of ours");
        self.touched &= !(1 << huge);
    }
}

/// Bytes of the mapping that holds `bytes`.
pub fn mapping_bytes(bytes: usize) -> usize {
    bytes.next_multiple_of(HUGE_BYTES)
}

/// Maps `bytes` (whole huge pages) of zeroes, aligned to a huge page; none if the system refuses.
pub fn map(bytes: usize) -> Option<NonNull<u8>> {
    let wide_bytes = bytes + HUGE_BYTES;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping, placed by the kernel.
    let wide = unsafe { libc::mmap(std::ptr::null_mut(), wide_bytes, protection, flags, -1, 0) };
    if wide == libc::MAP_FAILED {
        return None;
    }
    let address = wide as usize;
    let head_bytes = address.next_multiple_of(HUGE_BYTES) - address;
    // SAFETY: all three ranges lie in the mapping just made, which nobody else knows.
    unsafe {
        let start = wide.cast::<u8>().add(head_bytes);
        if head_bytes > 0 {
            libc::munmap(wide, head_bytes);
        }
        if head_bytes < HUGE_BYTES {
            libc::munmap(start.add(bytes).cast(), HUGE_BYTES - head_bytes);
        }
        // A kernel without huge pages refuses: small ones work as well, only slower.
        libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
        NonNull::new(start)
    }
}

/// Takes back what [`map`] gave.
pub fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: callers pass a mapping of ours of that length, which nobody uses any more.
    let result = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    assert!(result == 0, "the range is a mapping of ours");
}
