//! The simulated disk: files in memory, an explicit model of what is durable, faults on request.
//!
//! Data is kept in 4 KiB blocks. What was written but not flushed is a list of block changes beside
//! the durable image, so that a crash can keep all, none, a prefix cut anywhere, or a random
//! subset. A flush covers the writes that had completed when it began; as on ext4 and XFS it also
//! covers those of other files if they changed no metadata (block written before, size unchanged).
//! A flush that fails dooms what it should have covered: no later flush makes it durable. Names are
//! durable after `sync_dir` only.
//! **Invariant:** `current` is always the durable image with all pending changes on top.

use super::{World, mix};
use crate::base::limits::DIRECT_ALIGN_BYTES;
use crate::io::file::OpenMode;
use crate::io::fs::{DirEntry, parent_of, temporary_of, too_large};
use crate::io::memory::{Buffer, Slice};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const BLOCK_BYTES: usize = DIRECT_ALIGN_BYTES;
/// Longest read or write, ns.
const TRANSFER_NS_MAX: u64 = 200_000;
/// Longest flush, ns.
const SYNC_NS_MAX: u64 = 1_000_000;

/// What a power failure leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All that was written, also unsynced: a kill of the process.
    KeepAll,
    /// Only what was synced, names included.
    LoseUnsynced,
    /// The first `bytes` of the unsynced writes in the order of their submission; all names.
    TornAt { bytes: u64 },
    /// A random subset of the unsynced blocks, and a prefix of the unsynced names.
    RandomSubset { seed: u64 },
}

type Block = Rc<[u8; BLOCK_BYTES]>;

/// Contents of a file at one moment.
#[derive(Clone, Default)]
struct Image {
    bytes: u64,
    allocated_bytes: u64,
    blocks: BTreeMap<u64, Block>, // a block that is not there is zeroes, not yet written
}

#[derive(Clone)]
enum Change {
    Block { index: u64, block: Block },
    Truncate { bytes: u64 },
    Allocate { bytes: u64 },
}

struct Pending {
    order: u64,
    complete_ns: u64, // when the device reports it done
    doomed: bool,     // a flush failed over it
    change: Change,
}

#[derive(Default)]
struct Inode {
    current: Image,
    durable: Image,
    pending: Vec<Pending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

type Names = BTreeMap<PathBuf, Node>;

enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// The disk's state.
pub struct Disk {
    inodes: HashMap<u64, Inode>,
    inode_next: u64,
    order_next: u64,
    names: Names,
    durable_names: Names,
    pending_names: Vec<NameChange>,
    epoch: u64, // crashes so far
    fail_next_write: bool,
    fail_next_sync: bool,
    out_of_space: bool,
    one_flush_for_all: bool,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk {
            inodes: HashMap::new(),
            inode_next: 0,
            order_next: 0,
            names: Names::new(),
            durable_names: Names::new(),
            pending_names: Vec::new(),
            epoch: 0,
            fail_next_write: false,
            fail_next_sync: false,
            out_of_space: false,
            one_flush_for_all: true,
        }
    }
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Block { index, block } => {
                self.blocks.insert(*index, block.clone());
                self.bytes = self.bytes.max((index + 1) * BLOCK_BYTES as u64);
            }
            Change::Truncate { bytes } => self.truncate(*bytes),
            Change::Allocate { bytes } => {
                self.allocated_bytes = self.allocated_bytes.max(*bytes);
                self.bytes = self.bytes.max(*bytes);
            }
        }
    }

    fn truncate(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.allocated_bytes = self.allocated_bytes.min(bytes);
        let last = bytes / BLOCK_BYTES as u64;
        let keep_bytes = block_offset(bytes);
        let beyond = self.blocks.split_off(&last);
        if keep_bytes > 0
            && let Some(block) = beyond.get(&last)
        {
            let mut block = **block;
            block[keep_bytes..].fill(0);
            self.blocks.insert(last, Rc::new(block));
        }
    }

    fn read(&self, position: u64, target: &mut [u8]) -> usize {
        let there_bytes =
            usize::try_from(self.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = target.len().min(there_bytes);
        let mut done = 0;
        while done < count {
            let at = position + done as u64;
            let from = block_offset(at);
            let part = (BLOCK_BYTES - from).min(count - done);
            let target = &mut target[done..done + part];
            match self.blocks.get(&(at / BLOCK_BYTES as u64)) {
                Some(block) => target.copy_from_slice(&block[from..from + part]),
                None => target.fill(0),
            }
            done += part;
        }
        count
    }

    /// Whether writing that block leaves the file's metadata as it is.
    fn has_written(&self, index: u64) -> bool {
        self.blocks.contains_key(&index) && (index + 1) * BLOCK_BYTES as u64 <= self.bytes
    }

    fn has_room(&self, index: u64) -> bool {
        let end = (index + 1) * BLOCK_BYTES as u64;
        self.blocks.contains_key(&index) || end <= self.allocated_bytes
    }
}

fn block_offset(position: u64) -> usize {
    usize::try_from(position % BLOCK_BYTES as u64).expect("below a block")
}

impl Inode {
    /// Makes durable what the flush of `orders` covers.
    fn settle(&mut self, covered: impl Fn(&Pending, &Image) -> bool) {
        let mut rest = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            if !covered(&pending, &self.durable) {
                rest.push(pending);
                continue;
            }
            self.durable.apply(&pending.change);
            // An older change of the same block that a failed flush left behind is overtaken.
            if let Change::Block { index, .. } = pending.change {
                rest.retain(|older: &Pending| {
                    !matches!(older.change, Change::Block { index: other, .. } if other == index)
                });
            }
        }
        self.pending = rest;
    }
}

impl Disk {
    fn next_order(&mut self) -> u64 {
        self.order_next += 1;
        self.order_next
    }

    fn change(&mut self, inode: u64, change: Change, complete_ns: u64) {
        let order = self.next_order();
        let inode = self.inodes.get_mut(&inode).expect("an open file has an inode");
        inode.current.apply(&change);
        inode.pending.push(Pending { order, complete_ns, doomed: false, change });
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.pending_names.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("/") || path == Path::new(".") || self.names.get(path) == Some(&Node::Dir)
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        if !self.is_dir(parent_of(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(inode, Inode::default());
        self.change_name(NameChange::Set(path.to_owned(), Node::File(inode)));
        Ok(inode)
    }

    fn sync_dir(&mut self, path: &Path) {
        for change in std::mem::take(&mut self.pending_names) {
            let here = match &change {
                NameChange::Set(name, _) | NameChange::Remove(name) => parent_of(name) == path,
                NameChange::Rename(from, to) => parent_of(from) == path || parent_of(to) == path,
            };
            if here {
                apply_name(&mut self.durable_names, &change);
            } else {
                self.pending_names.push(change);
            }
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.epoch += 1;
        let names_count = match crash {
            Crash::KeepAll | Crash::TornAt { .. } => self.pending_names.len(),
            Crash::LoseUnsynced => 0,
            Crash::RandomSubset { seed } => {
                let count = mix(seed) % (self.pending_names.len() as u64 + 1);
                usize::try_from(count).expect("at most a length")
            }
        };
        for change in self.pending_names.drain(..).take(names_count) {
            apply_name(&mut self.durable_names, &change);
        }
        prune(&mut self.durable_names);
        self.names = self.durable_names.clone();
        let mut changes = Vec::new();
        for (number, inode) in &mut self.inodes {
            changes
                .extend(inode.pending.drain(..).map(|pending| (pending.order, *number, pending)));
        }
        changes.sort_by_key(|(order, ..)| *order);
        let mut left_bytes = match crash {
            Crash::TornAt { bytes } => bytes,
            _ => u64::MAX,
        };
        for (order, number, pending) in changes {
            let keep = match crash {
                Crash::KeepAll => true,
                Crash::LoseUnsynced => false,
                Crash::TornAt { .. } => left_bytes > 0,
                Crash::RandomSubset { seed } => mix(seed ^ order).is_multiple_of(2),
            };
            if keep {
                let image = &mut self.inodes.get_mut(&number).expect("iterated above").durable;
                apply_torn(image, &pending.change, &mut left_bytes);
            }
        }
        for inode in self.inodes.values_mut() {
            inode.current = inode.durable.clone();
        }
    }
}

/// Applies a change of which only the first `left_bytes` reached the disk.
fn apply_torn(image: &mut Image, change: &Change, left_bytes: &mut u64) {
    let Change::Block { index, block } = change else {
        image.apply(change);
        return;
    };
    if *left_bytes >= BLOCK_BYTES as u64 {
        *left_bytes -= BLOCK_BYTES as u64;
        image.apply(change);
        return;
    }
    let kept = usize::try_from(*left_bytes).expect("below a block");
    *left_bytes = 0;
    let mut torn = image.blocks.get(index).map_or([0; BLOCK_BYTES], |old| **old);
    torn[..kept].copy_from_slice(&block[..kept]);
    image.apply(&Change::Block { index: *index, block: Rc::new(torn) });
}

fn apply_name(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        NameChange::Rename(from, to) => {
            let moved: Vec<_> =
                names.keys().filter(|name| name.starts_with(from)).cloned().collect();
            if !moved.is_empty() {
                names.retain(|name, _| !name.starts_with(to));
            }
            for name in moved {
                let node = names.remove(&name).expect("listed above");
                let rest = name.strip_prefix(from).expect("filtered by it");
                let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(target, node);
            }
        }
    }
}

/// Removes names whose directory did not survive.
fn prune(names: &mut Names) {
    let known = names.clone();
    names.retain(|path, _| {
        path.ancestors().skip(1).all(|parent| {
            parent.as_os_str().is_empty()
                || parent == Path::new("/")
                || parent == Path::new(".")
                || known.get(parent) == Some(&Node::Dir)
        })
    });
}

fn device_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// The disk of a simulation, to break it.
#[derive(Clone)]
pub struct SimDisk(std::rc::Weak<World>);

impl SimDisk {
    pub(super) fn new(world: &Rc<World>) -> SimDisk {
        SimDisk(Rc::downgrade(world))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        let world = self.0.upgrade().expect("the simulation runs while its disk is used");
        let mut disk = world.disk.borrow_mut();
        change(&mut disk)
    }

    /// The power fails and returns: open files are dead, what is durable is there.
    pub fn crash(&self, crash: Crash) {
        self.with(|disk| disk.crash(crash));
    }

    /// Takes the disk out of this simulation, to run another one on it; the last thing that `main`
    /// does.
    pub fn take(&self) -> Disk {
        self.with(std::mem::take)
    }

    /// The next write returns EIO and leaves the first half of its blocks.
    pub fn fail_next_write(&self) {
        self.with(|disk| disk.fail_next_write = true);
    }

    /// The next flush returns EIO; what it covered may be lost for good.
    pub fn fail_next_sync(&self) {
        self.with(|disk| disk.fail_next_sync = true);
    }

    /// While true, only space that is already allocated can be written.
    pub fn out_of_space(&self, is_so: bool) {
        self.with(|disk| disk.out_of_space = is_so);
    }

    /// Whether the file system flushes all files with one (true at first).
    pub fn set_one_flush_for_all(&self, is_so: bool) {
        self.with(|disk| disk.one_flush_for_all = is_so);
    }

    /// Turns over every bit of a range of a file, durably.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn corrupt(&self, path: &Path, range: Range<u64>) {
        self.with(|disk| {
            let number = disk.file(path).expect("a test corrupts a file that is there");
            let inode = disk.inodes.get_mut(&number).expect("a name has an inode");
            for image in [&mut inode.durable, &mut inode.current] {
                for position in range.clone() {
                    let index = position / BLOCK_BYTES as u64;
                    let block =
                        image.blocks.entry(index).or_insert_with(|| Rc::new([0; BLOCK_BYTES]));
                    Rc::make_mut(block)[block_offset(position)] ^= 0xff;
                }
            }
        });
    }

    /// Bytes of writes that no flush has covered yet.
    pub fn unsynced_bytes(&self) -> u64 {
        self.with(|disk| {
            let pending = disk.inodes.values().flat_map(|inode| &inode.pending);
            let blocks = pending.filter(|one| matches!(one.change, Change::Block { .. }));
            (blocks.count() * BLOCK_BYTES) as u64
        })
    }

    /// A file's contents as they are now; none if there is no such file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.with(|disk| {
            let image = &disk.inodes[&disk.file(path).ok()?].current;
            let mut bytes = vec![0; usize::try_from(image.bytes).ok()?];
            image.read(0, &mut bytes);
            Some(bytes)
        })
    }
}

/// An open simulated file.
#[derive(Clone)]
pub struct SimFile {
    world: Rc<World>,
    inode: u64,
    epoch: u64,
    writable: bool,
}

impl SimFile {
    fn check_alive(&self) -> io::Result<()> {
        if self.world.disk.borrow().epoch == self.epoch {
            return Ok(());
        }
        Err(io::Error::other("the simulated disk crashed after this file was opened"))
    }

    fn check_writable(&self) -> io::Result<()> {
        self.check_alive()?;
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }

    pub async fn read_at(&self, position: u64, mut buffer: Buffer) -> (io::Result<usize>, Buffer) {
        self.world.pause_up_to(TRANSFER_NS_MAX).await;
        if let Err(error) = self.check_alive() {
            return (Err(error), buffer);
        }
        let count =
            self.world.disk.borrow().inodes[&self.inode].current.read(position, &mut buffer);
        (Ok(count), buffer)
    }

    pub async fn write(
        &self,
        position: u64,
        gather: &[Slice],
        sync: Option<&SimFile>,
    ) -> io::Result<()> {
        let mut blocks = Vec::new();
        for slice in gather {
            for bytes in slice.chunks_exact(BLOCK_BYTES) {
                let mut block = [0; BLOCK_BYTES];
                block.copy_from_slice(bytes);
                blocks.push(Rc::new(block));
            }
        }
        self.write_blocks(position, blocks).await?;
        match sync {
            Some(file) => file.sync().await,
            None => Ok(()),
        }
    }

    /// Durable on return, with the file's size and space; no other block becomes so.
    pub async fn write_through(&self, position: u64, gather: &[Slice]) -> io::Result<()> {
        self.write(position, gather, None).await?;
        let bytes: u64 = gather.iter().map(|slice| slice.len() as u64).sum();
        let blocks = position / BLOCK_BYTES as u64..(position + bytes) / BLOCK_BYTES as u64;
        let last_order = self.world.disk.borrow().order_next;
        self.world.pause_up_to(SYNC_NS_MAX).await;
        self.check_alive()?;
        let disk = &mut *self.world.disk.borrow_mut();
        let covered = |pending: &Pending| {
            let is_own = match pending.change {
                Change::Block { index, .. } => blocks.contains(&index),
                _ => true,
            };
            is_own && pending.order <= last_order && !pending.doomed
        };
        let fails = std::mem::take(&mut disk.fail_next_sync);
        let inode = disk.inodes.get_mut(&self.inode).expect("it is open");
        if fails {
            inode.pending.iter_mut().filter(|it| covered(it)).for_each(|it| it.doomed = true);
            return Err(device_error());
        }
        inode.settle(|pending, _| covered(pending));
        Ok(())
    }

    async fn write_blocks(&self, position: u64, blocks: Vec<Block>) -> io::Result<()> {
        self.check_writable()?;
        let took_ns = 1 + self.world.random() % TRANSFER_NS_MAX;
        let complete_ns = self.world.now_ns() + took_ns;
        let first = position / BLOCK_BYTES as u64;
        let mut outcome = Ok(());
        {
            let disk = &mut *self.world.disk.borrow_mut();
            let mut blocks_count = blocks.len();
            if std::mem::take(&mut disk.fail_next_write) {
                outcome = Err(device_error());
                blocks_count /= 2;
            }
            for (index, block) in (first..).zip(blocks).take(blocks_count) {
                let has_room = disk.inodes[&self.inode].current.has_room(index);
                if disk.out_of_space && !has_room {
                    outcome = Err(io::Error::from_raw_os_error(libc::ENOSPC));
                    break;
                }
                disk.change(self.inode, Change::Block { index, block }, complete_ns);
            }
        }
        self.world.sleep(std::time::Duration::from_nanos(took_ns)).await;
        self.check_alive()?;
        outcome
    }

    pub async fn sync(&self) -> io::Result<()> {
        self.check_alive()?;
        let begin_ns = self.world.now_ns();
        let last_order = self.world.disk.borrow().order_next;
        self.world.pause_up_to(SYNC_NS_MAX).await;
        self.check_alive()?;
        let disk = &mut *self.world.disk.borrow_mut();
        let complete = |pending: &Pending| {
            pending.order <= last_order && pending.complete_ns <= begin_ns && !pending.doomed
        };
        if std::mem::take(&mut disk.fail_next_sync) {
            let inodes = disk.inodes.values_mut();
            let covered = inodes.flat_map(|inode| &mut inode.pending);
            covered.filter(|pending| complete(pending)).for_each(|pending| pending.doomed = true);
            return Err(device_error());
        }
        for (number, inode) in &mut disk.inodes {
            if *number == self.inode {
                inode.settle(|pending, _| complete(pending));
            } else if disk.one_flush_for_all {
                inode.settle(|pending, durable| {
                    let Change::Block { index, .. } = pending.change else { return false };
                    complete(pending) && durable.has_written(index)
                });
            }
        }
        Ok(())
    }

    pub async fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.world.pause().await;
        self.check_writable()?;
        let disk = &mut *self.world.disk.borrow_mut();
        if disk.out_of_space && disk.inodes[&self.inode].current.allocated_bytes < bytes {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        disk.change(self.inode, Change::Allocate { bytes }, self.world.now_ns());
        Ok(())
    }

    pub async fn write_zeroes(&self, position: u64, bytes: u64) -> io::Result<()> {
        let count = usize::try_from(bytes / BLOCK_BYTES as u64).expect("a simulated file is small");
        let zero: Block = Rc::new([0; BLOCK_BYTES]);
        self.write_blocks(position, vec![zero; count]).await
    }

    pub async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.world.pause().await;
        self.check_writable()?;
        let now_ns = self.world.now_ns();
        self.world.disk.borrow_mut().change(self.inode, Change::Truncate { bytes }, now_ns);
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.world.disk.borrow().inodes[&self.inode].current.bytes
    }

    pub fn one_flush_for_all(&self) -> bool {
        self.world.disk.borrow().one_flush_for_all
    }
}

impl World {
    pub async fn open(self: &Rc<World>, path: &Path, how: OpenMode) -> io::Result<SimFile> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        let inode = if how == OpenMode::CreateNew {
            if disk.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.create(path)?
        } else {
            disk.file(path)?
        };
        let writable = how != OpenMode::Read;
        Ok(SimFile { world: self.clone(), inode, epoch: disk.epoch, writable })
    }

    pub async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        let parents: Vec<_> = path.ancestors().filter(|one| !one.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            if disk.is_dir(parent) {
                continue;
            }
            if disk.names.contains_key(parent) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.change_name(NameChange::Set(parent.to_owned(), Node::Dir));
            disk.sync_dir(parent_of(parent));
        }
        Ok(())
    }

    pub async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.pause().await;
        let disk = self.disk.borrow();
        if !disk.is_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let here = disk.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let entries = here.filter_map(|(name, node)| {
            let (is_dir, bytes) = match node {
                Node::Dir => (true, 0),
                Node::File(inode) => (false, disk.inodes[inode].current.bytes),
            };
            let name = name.file_name()?.to_str()?.to_owned();
            Some(DirEntry { name, is_dir, bytes })
        });
        Ok(entries.collect())
    }

    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        if !disk.names.contains_key(from) || !disk.is_dir(parent_of(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        disk.file(path)?;
        disk.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        if !disk.is_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        if !disk.is_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.sync_dir(path);
        Ok(())
    }

    pub async fn exists(&self, path: &Path) -> bool {
        self.pause().await;
        let disk = self.disk.borrow();
        disk.is_dir(path) || disk.names.contains_key(path)
    }

    pub async fn read_file(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.pause().await;
        let disk = self.disk.borrow();
        let image = &disk.inodes[&disk.file(path)?].current;
        if image.bytes > bytes_max as u64 {
            return Err(too_large(path, bytes_max));
        }
        let mut contents = vec![0; usize::try_from(image.bytes).expect("bounded above")];
        image.read(0, &mut contents);
        Ok(contents)
    }

    /// As the real one: a new file, flushed, renamed over the old, the name flushed.
    pub async fn replace_file(&self, path: &Path, contents: Vec<u8>) -> io::Result<()> {
        self.pause().await;
        let mut disk = self.disk.borrow_mut();
        if std::mem::take(&mut disk.fail_next_write) {
            return Err(device_error());
        }
        if disk.out_of_space {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let temporary = temporary_of(path);
        let inode = disk.create(&temporary)?;
        for (index, bytes) in (0..).zip(contents.chunks(BLOCK_BYTES)) {
            let mut block = [0; BLOCK_BYTES];
            block[..bytes.len()].copy_from_slice(bytes);
            disk.change(inode, Change::Block { index, block: Rc::new(block) }, 0);
        }
        disk.change(inode, Change::Truncate { bytes: contents.len() as u64 }, 0);
        if std::mem::take(&mut disk.fail_next_sync) {
            return Err(device_error());
        }
        disk.inodes.get_mut(&inode).expect("just made").settle(|_, _| true);
        disk.change_name(NameChange::Rename(temporary, path.to_owned()));
        disk.sync_dir(parent_of(path));
        Ok(())
    }
}
