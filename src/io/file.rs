//! Files with direct I/O: data through the shard's ring, everything else on the blocking pool.
//!
//! Positions, lengths and memory are multiples of [`DIRECT_ALIGN_BYTES`]; a caller that breaks this
//! has a fault, so it is asserted.

use super::executor::Shard;
use super::memory::{Buffer, Slice};
use super::ring::{Gather, Keep, OnDrop, Submission, checked};
use super::sim::disk::SimFile;
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use io_uring::{opcode, squeue, types};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most pieces of one gathered write, after neighbours in memory were joined: the kernel's IOV_MAX.
pub const GATHER_COUNT_MAX: usize = 1024;
/// Most bytes of one write: the kernel stops just below 2 GiB.
pub const WRITE_BYTES_MAX: usize = 1024 * MIB;
/// Bytes of one write of zeroes where the device has no command for it.
const ZEROES_BYTES: usize = MIB;
/// `FALLOC_FL_WRITE_ZEROES`, Linux 6.17: extents that count as written, by the device itself.
const FALLOC_WRITE_ZEROES: i32 = 0x80;
/// statfs magic of file systems whose fdatasync of any file ends in a flush of the whole device.
const EXT4_MAGIC: i64 = 0xEF53;
const XFS_MAGIC: i64 = 0x5846_5342;
/// `_IOR('X', 31, struct fsxattr)` of linux/fs.h, that struct's size, and a flag in its first word.
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801C_581F;
const FSXATTR_WORDS: usize = 7;
const FS_XFLAG_REALTIME: u32 = 1;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    Read,
    ReadWrite,
    /// To read and write; an error if it exists.
    CreateNew,
}

/// An open file. Clones are the same open file; it closes with the last one.
#[derive(Clone)]
pub struct File(pub(super) FileKind);

/// What follows a write.
#[derive(Clone, Copy)]
enum Then<'a> {
    Nothing,
    /// fdatasync of a file, linked to it.
    Sync(&'a RealFile),
    /// It is durable when it ends.
    Through,
}

#[derive(Clone)]
pub(super) enum FileKind {
    Real(RealFile),
    Sim(SimFile),
}

impl File {
    /// Reads at `position` up to the buffer's length; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// The device's; the buffer's contents are then undefined.
    pub async fn read_at(&self, position: u64, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        assert_aligned(position);
        match &self.0 {
            FileKind::Real(file) => file.read_at(position, buffer).await,
            FileKind::Sim(file) => file.read_at(position, buffer).await,
        }
    }

    /// Writes all of `gather` at `position`: one operation. *Not* durable.
    ///
    /// The kernel may stop a direct write early at a block boundary, out of space mostly. The rest
    /// is then asked for once more, which either completes or says why; nothing is repeated after
    /// an error. `gather` has at most [`GATHER_COUNT_MAX`] pieces and [`WRITE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// Any part of the range may then have been written.
    pub async fn write_at(&self, position: u64, gather: Vec<Slice>) -> io::Result<()> {
        assert_gather(position, &gather);
        match &self.0 {
            FileKind::Real(file) => file.write(position, gather, Then::Nothing).await,
            FileKind::Sim(file) => file.write(position, &gather, None).await,
        }
    }

    /// As `write_at`, then fdatasync: linked in the kernel, one wake-up. Durable on success.
    ///
    /// # Errors
    /// Of either; nothing is known of what is on disk.
    pub async fn write_and_sync(&self, position: u64, gather: Vec<Slice>) -> io::Result<()> {
        assert_gather(position, &gather);
        match &self.0 {
            FileKind::Real(file) => file.write(position, gather, Then::Sync(file)).await,
            FileKind::Sim(file) => file.write(position, &gather, Some(file)).await,
        }
    }

    /// As `write_at`, then fdatasync of `through`, another file of this file system: linked in the
    /// kernel, one wake-up. Durable on success only where `one_flush_for_all` holds and the write
    /// changed no metadata; a file that is never written saves the inode's write.
    ///
    /// # Errors
    /// Of either; nothing is known of what is on disk.
    pub async fn write_and_sync_through(
        &self,
        position: u64,
        gather: Vec<Slice>,
        through: &File,
    ) -> io::Result<()> {
        assert_gather(position, &gather);
        match (&self.0, &through.0) {
            (FileKind::Real(file), FileKind::Real(through)) => {
                file.write(position, gather, Then::Sync(through)).await
            }
            (FileKind::Sim(file), FileKind::Sim(through)) => {
                file.write(position, &gather, Some(through)).await
            }
            _ => unreachable!("files of one shard are of one kind"),
        }
    }

    /// As `write_at`, durable on return (`RWF_DSYNC`): one operation where the device writes
    /// through (FUA), else a flush follows in the kernel. Nothing that was written before becomes
    /// durable.
    ///
    /// It takes the file's own metadata along: for a file that was only overwritten the time of
    /// its modification, which is new every few milliseconds. So let one file take such writes,
    /// not many.
    ///
    /// # Errors
    /// The device's; nothing is known of what is on disk.
    pub async fn write_through(&self, position: u64, gather: Vec<Slice>) -> io::Result<()> {
        assert_gather(position, &gather);
        match &self.0 {
            FileKind::Real(file) => file.write(position, gather, Then::Through).await,
            FileKind::Sim(file) => file.write_through(position, &gather).await,
        }
    }

    /// fdatasync: makes durable what was written before the call.
    ///
    /// # Errors
    /// Never call it again then and believe the answer: what was written may be lost.
    pub async fn sync(&self) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) => file.sync().await,
            FileKind::Sim(file) => file.sync().await,
        }
    }

    /// Reserves space for `bytes` from the start; a smaller file grows to that size. Reads as
    /// zeroes.
    ///
    /// # Errors
    /// Out of space, mostly.
    pub async fn allocate(&self, bytes: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) => file.allocate(bytes).await,
            FileKind::Sim(file) => file.allocate(bytes).await,
        }
    }

    /// Makes a range zeroes that count as written, so that later writes change no metadata. By the
    /// device where it can, else by direct writes. Durable after `sync`.
    ///
    /// # Errors
    /// The device's; the range may be half done.
    pub async fn write_zeroes(&self, position: u64, bytes: u64) -> io::Result<()> {
        assert_aligned(position);
        assert_aligned(bytes);
        match &self.0 {
            FileKind::Real(file) => file.write_zeroes(position, bytes).await,
            FileKind::Sim(file) => file.write_zeroes(position, bytes).await,
        }
    }

    /// Makes the size `bytes`, any number.
    ///
    /// # Errors
    /// The file system's.
    pub async fn truncate(&self, bytes: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) => file.truncate(bytes).await,
            FileKind::Sim(file) => file.truncate(bytes).await,
        }
    }

    /// Size, bytes, as far as these handles changed it.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            FileKind::Real(file) => file.bytes.get(),
            FileKind::Sim(file) => file.bytes(),
        }
    }

    /// Closes this handle, the last one off the shard's thread: freeing the extents of a removed
    /// file takes a while.
    pub async fn close(self) {
        match self.0 {
            FileKind::Real(file) => {
                let RealFile { shard, descriptor, .. } = file;
                if let Ok(descriptor) = Rc::try_unwrap(descriptor) {
                    shard.blocking(move || drop(descriptor)).await;
                }
            }
            FileKind::Sim(_) => {}
        }
    }

    /// Whether fdatasync of `other` flushes this file's completed writes too, provided that those
    /// changed no metadata: both lie on one device, whose file system works so.
    pub fn is_flushed_by(&self, other: &File) -> bool {
        match (&self.0, &other.0) {
            (FileKind::Real(file), FileKind::Real(other)) => {
                file.place.one_flush_for_all && file.place == other.place
            }
            (FileKind::Sim(file), FileKind::Sim(_)) => file.one_flush_for_all(),
            _ => unreachable!("files of one shard are of one kind"),
        }
    }

    /// Whether fdatasync of one such file of this file system flushes the completed writes of all
    /// of them, provided that those changed no metadata.
    pub fn one_flush_for_all(&self) -> bool {
        match &self.0 {
            FileKind::Real(file) => file.place.one_flush_for_all,
            FileKind::Sim(file) => file.one_flush_for_all(),
        }
    }
}

fn assert_aligned(number: u64) {
    assert!(number.is_multiple_of(DIRECT_ALIGN_BYTES as u64), "direct I/O works in whole blocks");
}

fn assert_gather(position: u64, gather: &[Slice]) {
    assert_aligned(position);
    for slice in gather {
        assert_aligned(slice.len() as u64);
        assert!(slice.is_empty() || (slice.as_ptr() as usize).is_multiple_of(DIRECT_ALIGN_BYTES));
    }
}

/// A file of the machine.
#[derive(Clone)]
pub(super) struct RealFile {
    shard: Rc<Shard>,
    descriptor: Rc<OwnedFd>,
    bytes: Rc<Cell<u64>>,
    place: Place,
    zeroes_by_writing: Rc<Cell<bool>>,
}

/// Set when a device turned out to have no command for zeroes: asked once a process.
static ZEROES_REFUSED: AtomicBool = AtomicBool::new(false);

impl RealFile {
    pub async fn open(shard: &Rc<Shard>, path: &Path, how: OpenMode) -> io::Result<RealFile> {
        let path = path.to_owned();
        let opened = shard
            .blocking(move || -> io::Result<(OwnedFd, u64, Place)> {
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .write(how != OpenMode::Read)
                    .create_new(how == OpenMode::CreateNew)
                    .custom_flags(libc::O_DIRECT)
                    .open(path)?;
                let bytes = file.metadata()?.len();
                let place = Place::of(&file)?;
                Ok((file.into(), bytes, place))
            })
            .await;
        let (descriptor, bytes, place) = opened?;
        Ok(RealFile {
            shard: shard.clone(),
            descriptor: Rc::new(descriptor),
            bytes: Rc::new(Cell::new(bytes)),
            place,
            zeroes_by_writing: Rc::new(Cell::new(ZEROES_REFUSED.load(Ordering::Relaxed))),
        })
    }

    fn submission(&self, entry: squeue::Entry, keep: Keep) -> Submission {
        let descriptor = Some(self.descriptor.clone());
        Submission { entry, keep, descriptor, on_drop: OnDrop::Finish, notes: None }
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.descriptor.as_raw_fd())
    }

    async fn read_at(&self, position: u64, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        let want_bytes = buffer.len();
        let mut buffer = buffer;
        let mut done_bytes = 0;
        while done_bytes < want_bytes {
            // Whole blocks: the run behind the buffer has room for them.
            let ask_bytes = (want_bytes - done_bytes).next_multiple_of(DIRECT_ALIGN_BYTES);
            assert!(done_bytes + ask_bytes <= buffer.capacity());
            let start = buffer.start().wrapping_add(done_bytes);
            let ask = u32::try_from(ask_bytes.min(WRITE_BYTES_MAX)).expect("bounded");
            let offset = position + done_bytes as u64;
            let entry = opcode::Read::new(self.fd(), start, ask).offset(offset).build();
            // SAFETY: the range lies in the buffer's run (asserted), and the buffer is kept.
            let op =
                unsafe { self.shard.ring.submit(self.submission(entry, Keep::Buffer(buffer))) };
            let (result, Keep::Buffer(kept)) = op.await else {
                unreachable!("a read ends with one completion and gives back what was kept")
            };
            buffer = kept;
            match checked(result) {
                Ok(0) => break,
                Ok(read_bytes) => done_bytes += read_bytes,
                Err(error) => return (Err(error), buffer),
            }
            if !done_bytes.is_multiple_of(DIRECT_ALIGN_BYTES) {
                break; // only the end of a file is no block boundary
            }
        }
        (Ok(done_bytes.min(want_bytes)), buffer)
    }

    /// Writes all of `slices`, and then what `then` says.
    async fn write(&self, position: u64, slices: Vec<Slice>, then: Then<'_>) -> io::Result<()> {
        let mut gather = Gather::new(slices);
        let total_bytes = gather.bytes();
        assert!(gather.vectors.len() <= GATHER_COUNT_MAX && total_bytes <= WRITE_BYTES_MAX);
        if total_bytes == 0 {
            return match then {
                Then::Sync(file) => file.sync().await,
                Then::Nothing | Then::Through => Ok(()),
            };
        }
        let mut done_bytes = 0;
        let mut skip = 0;
        loop {
            let vectors = &gather.vectors[skip..];
            let count = u32::try_from(vectors.len()).expect("bounded");
            let offset = position + done_bytes as u64;
            let flags = if matches!(then, Then::Through) { libc::RWF_DSYNC } else { 0 };
            let entry = opcode::Writev::new(self.fd(), vectors.as_ptr(), count)
                .offset(offset)
                .rw_flags(flags)
                .build();
            let write = self.submission(entry, Keep::Gather(gather));
            // SAFETY: the vectors are on the heap in the kept gather list, which holds the slices.
            let (result, kept, synced) = unsafe {
                if let Then::Sync(file) = then {
                    let then = file.submission(file.sync_entry(), Keep::Nothing);
                    let (write, then) = self.shard.ring.submit_linked(write, then);
                    let (synced, _) = then.await;
                    let (result, kept) = write.await;
                    (result, kept, synced)
                } else {
                    let (result, kept) = self.shard.ring.submit(write).await;
                    (result, kept, 0)
                }
            };
            let Keep::Gather(kept) = kept else {
                unreachable!("a write ends with one completion and gives back what was kept")
            };
            gather = kept;
            let written_bytes = checked(result)?;
            done_bytes += written_bytes;
            self.grow(position + done_bytes as u64);
            if done_bytes == total_bytes {
                return checked(synced).map(|_| ());
            }
            if written_bytes == 0 || !written_bytes.is_multiple_of(DIRECT_ALIGN_BYTES) {
                let text = format!("{done_bytes} of {total_bytes} bytes were written");
                return Err(io::Error::new(io::ErrorKind::WriteZero, text));
            }
            skip = gather.consume(skip, written_bytes);
        }
    }

    fn grow(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().max(bytes));
    }

    fn sync_entry(&self) -> squeue::Entry {
        opcode::Fsync::new(self.fd()).flags(types::FsyncFlags::DATASYNC).build()
    }

    async fn sync(&self) -> io::Result<()> {
        // SAFETY: no memory is involved; the descriptor is kept.
        let op =
            unsafe { self.shard.ring.submit(self.submission(self.sync_entry(), Keep::Nothing)) };
        checked(op.await.0).map(|_| ())
    }

    async fn fallocate(&self, mode: i32, position: u64, bytes: u64) -> io::Result<()> {
        let descriptor = self.descriptor.try_clone()?;
        self.shard
            .blocking(move || {
                let (position, bytes) = (position.cast_signed(), bytes.cast_signed());
                loop {
                    // SAFETY: no pointers; the descriptor is open.
                    let result =
                        unsafe { libc::fallocate(descriptor.as_raw_fd(), mode, position, bytes) };
                    if result == 0 {
                        return Ok(());
                    }
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            })
            .await
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        if bytes > 0 {
            self.fallocate(0, 0, bytes).await?;
            self.grow(bytes);
        }
        Ok(())
    }

    async fn write_zeroes(&self, position: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if !self.zeroes_by_writing.get() {
            match self.fallocate(FALLOC_WRITE_ZEROES, position, bytes).await {
                Ok(()) => {
                    self.grow(position + bytes);
                    return Ok(());
                }
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS)
                    ) =>
                {
                    self.zeroes_by_writing.set(true);
                    ZEROES_REFUSED.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        let mut done_bytes = 0;
        while done_bytes < bytes {
            let piece_bytes = (bytes - done_bytes).min(ZEROES_BYTES as u64);
            let piece = zeroes().slice(0..usize::try_from(piece_bytes).expect("bounded"));
            self.write(position + done_bytes, vec![piece], Then::Nothing).await?;
            done_bytes += piece_bytes;
        }
        Ok(())
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        let file = std::fs::File::from(self.descriptor.try_clone()?);
        self.shard.blocking(move || file.set_len(bytes)).await?;
        self.bytes.set(bytes);
        Ok(())
    }
}

/// Zeroes to write, shared by all: the kernel's zero page many times over, no memory of its own.
fn zeroes() -> Slice {
    static ZEROES: std::sync::OnceLock<Slice> = std::sync::OnceLock::new();
    ZEROES.get_or_init(|| Slice::mapped_zeroes(ZEROES_BYTES)).clone()
}

/// Where a file's data is, and what a flush there is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Major and minor number.
    device: (u32, u32),
    pub one_flush_for_all: bool,
}

impl Place {
    /// Looks at an open regular file; blocks.
    ///
    /// One flush serves all where the file system is known to end fdatasync with a flush of the
    /// device and where direct writes go to that device at once. That they do is what statx says
    /// with an alignment for them (Linux 6.1): it has none for data that goes through ext4's
    /// journal, by `data=journal` or `chattr +j`. XFS may keep a file on its realtime device. Not
    /// seen is a copy by reflink that is made of the file while it is open.
    pub fn of(file: &std::fs::File) -> io::Result<Place> {
        let magic = file_system_magic(file)?;
        // SAFETY: all-zero is a valid statx, which the call fills.
        let mut stat: libc::statx = unsafe { std::mem::zeroed() };
        let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
        let mask = libc::STATX_BASIC_STATS | libc::STATX_DIOALIGN;
        // SAFETY: the descriptor is open, the name is empty and ends in a zero byte, the pointer is
        // to a live statx.
        if unsafe { libc::statx(fd, c"".as_ptr(), flags, mask, &raw mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let direct = stat.stx_mask & libc::STATX_DIOALIGN != 0 && stat.stx_dio_offset_align > 0;
        let one_flush_for_all = match magic {
            EXT4_MAGIC => direct,
            XFS_MAGIC => direct && !is_realtime(file),
            _ => false,
        };
        Ok(Place { device: (stat.stx_dev_major, stat.stx_dev_minor), one_flush_for_all })
    }
}

/// Whether XFS keeps the file's data on its realtime device; true as well if it does not say.
fn is_realtime(file: &std::fs::File) -> bool {
    let mut attributes = [0u32; FSXATTR_WORDS];
    // SAFETY: the descriptor is open and the pointer is to as many bytes as the number encodes.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, attributes.as_mut_ptr()) };
    result != 0 || attributes[0] & FS_XFLAG_REALTIME != 0
}

/// The kind of file system a file is on.
pub(super) fn file_system_magic(file: &std::fs::File) -> io::Result<i64> {
    // SAFETY: all-zero is a valid statfs, which the call fills.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and the pointer is to a live statfs.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between platforms")]
    Ok(stat.f_type as i64)
}
