//! One shard's journal: a ring of rounds, each the small appends of many logs in one write.
//!
//! Segments get the same bytes later, in larger pieces, and then the ring's oldest rounds are given
//! up. After a crash [`redo`](super::redo) writes what segments lack. The file is made, zeroed and
//! flushed once, in the background, so that a round never changes metadata.
//! **Invariant:** a round's place is used again only when all its parts are flushed in their
//! segments or wanted no more; after a failed round none follows.

use super::StorageError;
use super::journal_frame::{
    FIRST_BLOCK_BYTES, JournalId, Place, RoundWriter, encode_first_block, round_bytes,
};
use super::log::LogCell;
use super::recovery::failed;
use super::redo::{JOURNAL_SUFFIX, redo_dir};
use super::wake::Wakers;
use crate::base::ids::TopicId;
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use crate::io::{Buffer, File, Io, OpenMode};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Bytes of a journal where there is room: half of it is a second of what small appends write.
const RING_BYTES_MAX: u64 = 64 * MIB as u64;

/// A smaller journal would be full most of the time.
const RING_BYTES_MIN: u64 = 4 * MIB as u64;

/// All journals take at most the `1 / DISK_SHARE`th part of what is free on the disk.
const DISK_SHARE: u64 = 64;

/// Rounds within [`WANTED_TIME`] that would have used a journal before one is made: a quiet shard
/// needs none.
const WANTED_COUNT: u32 = if cfg!(test) { 2 } else { 32 };
const WANTED_TIME: Duration = Duration::from_secs(1);

/// Rounds that are looked at for logs that went quiet: a busy ring has thousands.
const LOOKED_AT_COUNT: usize = 256;

/// Why a log stays closed.
const POISONED: &str = "a round failed: only a restart tells what it left";

/// Zeroes in one write while the file is made.
const ZERO_PIECE_BYTES: u64 = MIB as u64;

/// Where a journal is to be.
#[derive(Debug, Clone)]
pub struct JournalPlace {
    /// The data directory, which holds the partitions' directories.
    pub data_dir: PathBuf,
    pub name: String,
    /// Size of the ring, whole blocks.
    pub bytes: u64,
}

impl JournalPlace {
    /// The place of shard number `shard` of `shards_count`, where the disk has `usable_bytes`;
    /// `None`: that is too little for journals.
    pub fn of(
        data_dir: &Path,
        shard: u16,
        shards_count: usize,
        usable_bytes: u64,
    ) -> Option<JournalPlace> {
        let share = usable_bytes / DISK_SHARE / shards_count as u64;
        let bytes = share.min(RING_BYTES_MAX) / MIB as u64 * MIB as u64;
        (bytes >= RING_BYTES_MIN).then(|| JournalPlace {
            data_dir: data_dir.to_path_buf(),
            name: format!("shard-{shard}{JOURNAL_SUFFIX}"),
            bytes,
        })
    }

    fn path(&self) -> PathBuf {
        self.data_dir.join(&self.name)
    }
}

/// What a live round has of one log.
pub(super) struct LivePart {
    pub log: Weak<LogCell>,
    /// The partition's directory.
    pub dir: Rc<Path>,
    /// How far its segment is flushed. Not the segment, which retention waits for.
    pub flushed_bytes: Rc<Cell<u64>>,
    pub end_bytes: u64,
    /// See [`LogCell::in_files`].
    pub in_files: Rc<Cell<bool>>,
}

impl LivePart {
    fn is_done(&self) -> bool {
        self.in_files.get() || self.flushed_bytes.get() >= self.end_bytes
    }
}

struct LiveRound {
    number: u64,
    /// Counted from the journal's making, without end; its place is this modulo the ring's size.
    start: u64,
    parts: Vec<LivePart>,
}

struct Ring {
    file: Rc<File>,
    id: JournalId,
    bytes: u64,
    head: u64,
    number_next: u64,
    live: VecDeque<LiveRound>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unmade,
    Making,
    Ready,
    /// It is given up: see [`Journal::begin_retiring`].
    Retiring,
    /// No round follows; the segments get what the ring has.
    Ended,
}

/// Room for a round that was taken.
pub(super) struct Reserved {
    pub file: Rc<File>,
    pub position: u64,
    id: JournalId,
    number: u64,
    needed_from: u64,
}

impl Reserved {
    /// Begins the round of what stands at `places`, in a buffer of the size that was reserved.
    pub fn writer<'a, 'p>(
        &self,
        buffer: &'a mut Buffer,
        places: impl Iterator<Item = (Place<'p>, usize)>,
    ) -> RoundWriter<'a> {
        RoundWriter::new(&mut buffer[..], self.id, (self.number, self.needed_from), places)
    }
}

/// The journal of a shard; see the module.
pub(super) struct Journal {
    io: Io,
    place: JournalPlace,
    phase: Cell<Phase>,
    /// Rounds that would have used it since when.
    wanted: Cell<(u32, Duration)>,
    ring: RefCell<Option<Ring>>,
    /// A round is on its way to the disk: there is never a second.
    pub writing: Cell<bool>,
    pub wakers: Wakers,
    /// A failed round may be read after a crash: its logs must not be opened anew.
    poisoned: Cell<bool>,
    /// A round failed: there is no other journal until a restart.
    failed: Cell<bool>,
}

impl Journal {
    pub fn new(io: &Io, place: JournalPlace) -> Journal {
        assert!(place.bytes.is_multiple_of(DIRECT_ALIGN_BYTES as u64), "a ring of whole blocks");
        Journal {
            io: io.clone(),
            place,
            phase: Cell::new(Phase::Unmade),
            wanted: Cell::new((0, Duration::ZERO)),
            ring: RefCell::new(None),
            writing: Cell::new(false),
            wakers: Wakers::default(),
            poisoned: Cell::new(false),
            failed: Cell::new(false),
        }
    }

    /// Whether rounds can be written, now or later.
    pub fn has_future(&self) -> bool {
        self.phase.get() != Phase::Ended
    }

    /// Whether a round can be written now. One that often could be makes the journal.
    pub fn is_ready(self: &Rc<Self>) -> bool {
        match self.phase.get() {
            Phase::Ready => !self.writing.get(),
            Phase::Unmade => {
                if self.is_wanted() {
                    self.phase.set(Phase::Making);
                    self.io.spawn(self.clone().make_or_end());
                }
                false
            }
            Phase::Making | Phase::Retiring | Phase::Ended => false,
        }
    }

    /// Takes note of a round that would have used it.
    fn is_wanted(&self) -> bool {
        let now = self.io.clock().monotonic();
        let (mut count, mut since) = self.wanted.get();
        if now.saturating_sub(since) > WANTED_TIME {
            (count, since) = (0, now);
        }
        self.wanted.set((count + 1, since));
        count + 1 >= WANTED_COUNT
    }

    async fn make_or_end(self: Rc<Self>) {
        let path = self.place.path();
        let made = self.make(&path).await;
        let is_made = matches!(made, Ok(true));
        self.phase.set(if is_made { Phase::Ready } else { Phase::Ended });
        self.wakers.wake_all();
        if is_made {
            return;
        }
        let mut is_ours = true;
        if let Err(error) = made {
            is_ours = error.kind() != io::ErrorKind::AlreadyExists;
            let path = path.display();
            tracing::warn!(%path, %error, "no journal: each log is written by itself");
        }
        if is_ours {
            // What is there of it has no round.
            let _ = self.io.remove_file(&path).await;
        }
    }

    /// Makes the file; false where one flush does not serve all files.
    async fn make(&self, path: &Path) -> io::Result<bool> {
        let file = self.io.open(path, OpenMode::CreateNew).await?;
        if !file.one_flush_for_all() {
            return Ok(false);
        }
        let total_bytes = FIRST_BLOCK_BYTES as u64 + self.place.bytes;
        file.allocate(total_bytes).await?;
        let mut at = 0;
        while at < total_bytes {
            let bytes = ZERO_PIECE_BYTES.min(total_bytes - at);
            file.write_zeroes(at, bytes).await?;
            at += bytes;
        }
        let id = JournalId(TopicId::random().0);
        let mut block = self.io.memory().allocate_wait(FIRST_BLOCK_BYTES).await;
        block.copy_from_slice(&encode_first_block(id));
        file.write_and_sync(0, vec![block.freeze()]).await?;
        self.io.sync_dir(&self.place.data_dir).await?;
        let (bytes, file) = (self.place.bytes, Rc::new(file));
        let live = VecDeque::new();
        *self.ring.borrow_mut() = Some(Ring { file, id, bytes, head: 0, number_next: 1, live });
        Ok(true)
    }

    /// Whether a flush of the journal's serves `file`, too; true before there is one.
    pub fn flushes(&self, file: &File) -> bool {
        self.ring.borrow().as_ref().is_none_or(|ring| file.is_flushed_by(&ring.file))
    }

    /// Takes room for a round whose parts take `parts_bytes`; `None`: there is none now.
    pub fn reserve(&self, parts_bytes: usize, parts: Vec<LivePart>) -> Option<Reserved> {
        let mut ring = self.ring.borrow_mut();
        let ring = ring.as_mut()?;
        ring.give_up_done();
        let bytes = round_bytes(parts_bytes) as u64;
        let place = ring.head % ring.bytes;
        let skipped = if place + bytes > ring.bytes { ring.bytes - place } else { 0 };
        let start = ring.head + skipped;
        if bytes > ring.bytes || start + bytes - ring.tail() > ring.bytes {
            return None;
        }
        let number = ring.number_next;
        ring.number_next += 1;
        ring.head = start + bytes;
        ring.live.push_back(LiveRound { number, start, parts });
        Some(Reserved {
            file: ring.file.clone(),
            position: FIRST_BLOCK_BYTES as u64 + start % ring.bytes,
            id: ring.id,
            number,
            needed_from: ring.live.front().map_or(number, |oldest| oldest.number),
        })
    }

    /// Where more than half of the ring is needed: logs whose segments should get what its oldest
    /// rounds have.
    pub fn pressing(&self, count_max: usize) -> Vec<Rc<LogCell>> {
        let ring = self.ring.borrow();
        let Some(ring) = ring.as_ref().filter(|it| it.head - it.tail() > it.bytes / 2) else {
            return Vec::new();
        };
        let parts = ring.live.iter().take(count_max).flat_map(|round| &round.parts);
        let waiting = parts.filter(|part| !part.is_done()).take(count_max);
        waiting.filter_map(|part| part.log.upgrade()).collect()
    }

    /// At most `count_max` logs that `is_wanted` and whose segments lack what the oldest rounds
    /// have.
    pub fn waiting(
        &self,
        count_max: usize,
        is_wanted: impl Fn(&LogCell) -> bool,
    ) -> Vec<Rc<LogCell>> {
        let mut found: Vec<Rc<LogCell>> = Vec::new();
        let ring = self.ring.borrow();
        let rounds = ring.iter().flat_map(|ring| ring.live.iter().take(LOOKED_AT_COUNT));
        for part in rounds.flat_map(|round| &round.parts).filter(|part| !part.is_done()) {
            let Some(log) = part.log.upgrade().filter(|log| !log.behind_due.get()) else {
                continue;
            };
            if is_wanted(&log) && !found.iter().any(|known| Rc::ptr_eq(known, &log)) {
                found.push(log);
            }
            if found.len() == count_max {
                break;
            }
        }
        found
    }

    /// How many rounds there were.
    #[cfg(test)]
    pub fn rounds_count(&self) -> u64 {
        self.ring.borrow().as_ref().map_or(0, |ring| ring.number_next - 1)
    }

    /// Whether segments lack nothing that rounds have.
    pub fn is_done(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        ring.as_mut().is_none_or(|ring| {
            ring.give_up_done();
            ring.live.is_empty()
        })
    }

    /// A round failed: none follows, and what is there of it is made unreadable.
    pub async fn fail(&self, failed: &Reserved) {
        self.phase.set(Phase::Ended);
        self.failed.set(true);
        let mut block = self.io.memory().allocate_wait(DIRECT_ALIGN_BYTES).await;
        block.fill(0);
        let wiped = failed.file.write_and_sync(failed.position, vec![block.freeze()]).await;
        if let Err(error) = wiped {
            self.poisoned.set(true);
            let path = self.place.path();
            tracing::error!(path = %path.display(), %error, "a failed round cannot be wiped");
        }
    }

    /// Writes what live rounds hold of the partition directory `dir` into its segments. To be
    /// called before its log is opened anew.
    ///
    /// # Errors
    /// The disk's: the log must stay closed.
    pub async fn redo_for(&self, dir: &Path) -> Result<(), StorageError> {
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(()) };
        let mut flags: Vec<Rc<Cell<bool>>> = Vec::new();
        let (file, needed_from) = {
            let mut ring = self.ring.borrow_mut();
            let Some(ring) = ring.as_mut() else { return Ok(()) };
            ring.give_up_done();
            for part in ring.live.iter().flat_map(|round| &round.parts) {
                if *part.dir == *dir && !part.is_done() {
                    flags.push(part.in_files.clone());
                }
            }
            let Some(oldest) = ring.live.front().filter(|_| !flags.is_empty()) else {
                return Ok(());
            };
            (ring.file.clone(), oldest.number)
        };
        if self.poisoned.get() {
            let error = io::Error::other(POISONED);
            return Err(failed("trust the journal", &self.place.path())(error));
        }
        let name = name.to_string_lossy();
        redo_dir(&self.io, &file, parent, (&name, needed_from)).await?;
        flags.iter().for_each(|in_files| in_files.set(true));
        Ok(())
    }

    /// Begins to give the journal up: no round follows. False: there is nothing to give up.
    ///
    /// # Errors
    /// Whether what it holds will come back cannot be told.
    pub async fn begin_retiring(&self) -> io::Result<bool> {
        let is_idle = || {
            let changes = matches!(self.phase.get(), Phase::Making | Phase::Retiring);
            (!changes && !self.writing.get()).then_some(())
        };
        self.wakers.until(is_idle).await;
        if self.poisoned.get() {
            return Err(io::Error::other(POISONED));
        }
        if self.ring.borrow().is_none() {
            return Ok(false);
        }
        self.phase.set(Phase::Retiring);
        Ok(true)
    }

    /// Removes the file, durably; a new one is made when it is wanted.
    ///
    /// # Errors
    /// The disk's.
    pub async fn end_retiring(&self) -> io::Result<()> {
        let removed = self.remove_file().await;
        let again = removed.is_ok() && !self.failed.get();
        let next = if again { Phase::Unmade } else { Phase::Ended };
        self.phase.set(next);
        self.wanted.set((0, Duration::ZERO));
        self.wakers.wake_all();
        removed
    }

    /// Leaves the file: a log that cannot be opened anew has records there only.
    pub fn give_up_retiring(&self) -> io::Result<()> {
        self.phase.set(Phase::Ended);
        self.wakers.wake_all();
        Err(io::Error::new(io::ErrorKind::TimedOut, "a log has records in the journal only"))
    }

    async fn remove_file(&self) -> io::Result<()> {
        self.ring.borrow_mut().take();
        self.io.remove_file(&self.place.path()).await?;
        self.io.sync_dir(&self.place.data_dir).await
    }

    /// Removes the file, once every log is closed; it stays where segments lack something.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove(&self) -> io::Result<()> {
        self.phase.set(Phase::Ended);
        let needed = match self.ring.borrow_mut().as_mut() {
            None => return Ok(()),
            Some(ring) => {
                ring.give_up_done();
                !ring.live.is_empty()
            }
        };
        if needed {
            return Ok(());
        }
        self.remove_file().await
    }
}

impl Ring {
    fn tail(&self) -> u64 {
        self.live.front().map_or(self.head, |oldest| oldest.start)
    }

    fn give_up_done(&mut self) {
        while let Some(oldest) = self.live.front_mut() {
            while oldest.parts.last().is_some_and(LivePart::is_done) {
                oldest.parts.pop();
            }
            if !oldest.parts.is_empty() {
                return;
            }
            self.live.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: journals leave a small disk alone, and take no more of a large one than they need.
    /// Method: free bytes at the bounds, one shard and many.
    #[test]
    fn a_journal_takes_a_small_share_of_the_disk() {
        let bytes = |shards_count, usable_bytes| {
            let place = JournalPlace::of(Path::new("/data"), 3, shards_count, usable_bytes);
            place.map(|place| place.bytes)
        };
        const GIB: u64 = 1 << 30;
        assert_eq!(bytes(1, GIB / 4 - 1), None);
        assert_eq!(bytes(1, GIB / 4), Some(RING_BYTES_MIN));
        assert_eq!(bytes(2, GIB / 4), None);
        assert_eq!(bytes(1, 4 * GIB), Some(RING_BYTES_MAX));
        assert_eq!(bytes(64, 1024 * GIB), Some(RING_BYTES_MAX));
        let place = JournalPlace::of(Path::new("/data"), 3, 4, 100 * GIB).unwrap();
        assert_eq!(place.path(), Path::new("/data/shard-3.journal"));
    }
}
