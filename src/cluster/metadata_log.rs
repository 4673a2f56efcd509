//! The metadata log on disk: makes raft's state durable under `metadata/` of the data directory.
//!
//! Two files: `snapshot`, replaced whole, and `log-N`, appended to by direct writes and flushed
//! once a group. A snapshot starts log N+1, which restates what follows it; only then log N goes. A
//! write or flush that fails fences the log: nothing more is taken until a restart reads what the
//! disk has. A full disk does not: room is asked for before anything is written.
//! **Invariant:** `tail` is what the file holds from `tail_position`, a whole block's start, to its
//! end.

use super::frames::{self, FormatError, Frame, LOG_HEAD_BYTES, LogHead};
use crate::base::limits::{DIRECT_ALIGN_BYTES, MIB};
use crate::consensus::{Entry, HardState, Restored, Snapshot};
use crate::io::{File, Io, OpenMode, Slice, is_full};
use std::io;
use std::path::{Path, PathBuf};

/// The log's file grows by this many bytes at a time, so that most writes change no metadata.
const GROWTH_BYTES: u64 = MIB as u64;

/// Largest piece of one write; keeps the buffer that it needs small.
const WRITE_BYTES_MAX: usize = MIB;

/// Bytes of log after which a snapshot is due, at least: what a start reads in some milliseconds.
const COMPACT_BYTES_MIN: u64 = 4 * MIB as u64;

/// Largest file that a start reads: far above the snapshot of all the partitions there may be.
const FILE_BYTES_MAX: usize = 1024 * MIB;

const SNAPSHOT_NAME: &str = "snapshot";
const LOG_PREFIX: &str = "log-";

/// The files that hold the metadata log of this node.
pub struct MetadataLog {
    io: Io,
    dir: PathBuf,
    generation: u64,
    salt: u64,
    file: File,
    frames_count: u64,
    tail: Vec<u8>,
    tail_position: u64,
    snapshot_index: u64,
    snapshot_bytes: u64,
    fenced: bool,
}

/// Why the metadata log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    #[error("cannot {verb} {}: {error}", path.display())]
    Io { verb: &'static str, path: PathBuf, error: io::Error },
    #[error("the metadata file {} cannot be used: {error}", path.display())]
    Format { path: PathBuf, error: FormatError },
    #[error(
        "{} is missing though the metadata log was in use; restore it from a copy",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("no space is left for {}", path.display())]
    NoSpace { path: PathBuf },
    #[error("the metadata log is closed after an earlier disk error; restart the node")]
    Fenced,
}

impl MetadataLogError {
    /// Whether there was no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            MetadataLogError::NoSpace { .. } => true,
            MetadataLogError::Io { error, .. } => is_full(error),
            _ => false,
        }
    }
}

impl MetadataLog {
    /// Opens the log in `dir`, or starts one of a group of `voters` where there is none.
    ///
    /// Cuts the torn end of a write that a crash interrupted.
    ///
    /// # Errors
    /// [`MetadataLogError`]: disk errors, files of another format, damage before the last write.
    pub async fn open(
        io: &Io,
        dir: &Path,
        voters: Vec<u64>,
    ) -> Result<(MetadataLog, Restored), MetadataLogError> {
        let failed = |verb, path: &Path| {
            let path = path.to_path_buf();
            move |error| MetadataLogError::Io { verb, path, error }
        };
        io.create_dir_all(dir).await.map_err(failed("create", dir))?;
        let entries = io.list_dir(dir).await.map_err(failed("list", dir))?;
        let mut generations: Vec<u64> =
            entries.iter().filter_map(|entry| generation_of(&entry.name)).collect();
        generations.sort_unstable();
        let snapshot_path = dir.join(SNAPSHOT_NAME);
        if !entries.iter().any(|entry| entry.name == SNAPSHOT_NAME) {
            if let Some(generation) = generations.last() {
                let path = log_path(dir, *generation);
                if !read_log(io, &path).await?.frames.iter().all(|frame| frame.entries.is_empty()) {
                    return Err(MetadataLogError::Missing { path: snapshot_path });
                }
            }
            return MetadataLog::start(io, dir, Restored::bootstrap(voters)).await;
        }
        let bytes = io.read_file(&snapshot_path, FILE_BYTES_MAX).await;
        let bytes = bytes.map_err(failed("read", &snapshot_path))?;
        let snapshot = frames::decode_snapshot(&bytes)
            .map_err(|error| MetadataLogError::Format { path: snapshot_path, error })?;
        let Some(generation) = generations.pop() else {
            return Err(MetadataLogError::Missing { path: log_path(dir, 1) });
        };
        io.sync_dir(dir).await.map_err(failed("flush", dir))?; // as above, for names
        for older in generations {
            let path = log_path(dir, older);
            io.remove_file(&path).await.map_err(failed("remove", &path))?;
        }
        MetadataLog::resume(io, dir, generation, snapshot, bytes.len() as u64).await
    }

    /// Writes the first files; the snapshot last, as it is what says that there is a log.
    async fn start(
        io: &Io,
        dir: &Path,
        restored: Restored,
    ) -> Result<(MetadataLog, Restored), MetadataLogError> {
        let mut log = MetadataLog::create_file(io, dir, 1, &restored).await?;
        log.write_snapshot(&restored.snapshot).await?;
        Ok((log, restored))
    }

    async fn resume(
        io: &Io,
        dir: &Path,
        generation: u64,
        snapshot: Snapshot,
        snapshot_bytes: u64,
    ) -> Result<(MetadataLog, Restored), MetadataLogError> {
        let path = log_path(dir, generation);
        let scanned = read_log(io, &path).await?;
        let file = io.open(&path, OpenMode::ReadWrite).await;
        let file =
            file.map_err(|error| MetadataLogError::Io { verb: "open", path: path.clone(), error })?;
        let mut log = MetadataLog {
            io: io.clone(),
            dir: dir.to_path_buf(),
            generation,
            salt: scanned.head.salt,
            file,
            frames_count: scanned.frames.len() as u64,
            tail: scanned.tail,
            tail_position: round_down(scanned.end),
            snapshot_index: snapshot.index,
            snapshot_bytes,
            fenced: false,
        };
        // A killed process may have left bytes that only the device's cache holds: they are taken
        // for durable from here on, so they have to be.
        log.file.sync().await.map_err(|error| log.failed("flush", error))?;
        if scanned.torn {
            tracing::info!(path = %path.display(), "cut the torn end of the metadata log");
            log.cut_torn_end().await.map_err(|error| log.failed("cut", error))?;
        }
        let restored = merged(snapshot, &scanned.head, scanned.frames);
        Ok((log, restored))
    }

    /// Makes a log file that restates `restored`, durable under its name before this returns.
    async fn create_file(
        io: &Io,
        dir: &Path,
        generation: u64,
        restored: &Restored,
    ) -> Result<MetadataLog, MetadataLogError> {
        let path = log_path(dir, generation);
        let failed = |verb| {
            let path = path.clone();
            move |error| MetadataLogError::Io { verb, path, error }
        };
        let salt = crate::base::ids::TopicId::random().0 as u64;
        let Snapshot { index: base_index, term: base_term, .. } = restored.snapshot;
        let mut bytes = LogHead { salt, base_index, base_term }.encode();
        let hard_state = Some(restored.hard_state);
        let first = Frame { hard_state, entries: restored.entries.clone() };
        bytes.extend(frames::encode_frame(&first, 0, salt));
        let end = bytes.len() as u64;
        let tail_position = round_down(end);
        let tail = bytes[usize::try_from(tail_position).expect("it is in memory")..].to_vec();
        bytes.resize(bytes.len().next_multiple_of(DIRECT_ALIGN_BYTES), 0);
        io.replace_file(&path, bytes).await.map_err(failed("write"))?;
        let file = io.open(&path, OpenMode::ReadWrite).await.map_err(failed("open"))?;
        Ok(MetadataLog {
            io: io.clone(),
            dir: dir.to_path_buf(),
            generation,
            salt,
            file,
            frames_count: 1,
            tail,
            tail_position,
            snapshot_index: base_index,
            snapshot_bytes: 0,
            fenced: false,
        })
    }

    /// Makes this durable as one: after a crash all of it is there, or none.
    ///
    /// # Errors
    /// [`MetadataLogError::NoSpace`]: nothing was written, try again. Any other: the log is fenced,
    /// this and all later calls fail.
    pub async fn persist(
        &mut self,
        hard_state: Option<HardState>,
        entries: Vec<Entry>,
    ) -> Result<(), MetadataLogError> {
        if self.fenced {
            return Err(MetadataLogError::Fenced);
        }
        let frame = Frame { hard_state, entries };
        let bytes = frames::encode_frame(&frame, self.frames_count, self.salt);
        self.reserve(self.tail_position + (self.tail.len() + bytes.len()) as u64).await?;
        self.fenced = true; // until it is known to be durable, also if this future is dropped
        self.append(bytes).await.map_err(|error| self.failed("write", error))?;
        self.frames_count += 1;
        self.fenced = false;
        Ok(())
    }

    /// Makes the file large enough to end at `end`, and for some of what follows if there is room.
    async fn reserve(&mut self, end: u64) -> Result<(), MetadataLogError> {
        if end <= self.file.bytes() {
            return Ok(());
        }
        let least = end.next_multiple_of(DIRECT_ALIGN_BYTES as u64);
        let grown = match self.file.allocate(end.next_multiple_of(GROWTH_BYTES)).await {
            Err(error) if is_full(&error) => self.file.allocate(least).await,
            result => result,
        };
        grown.map_err(|error| match is_full(&error) {
            true => MetadataLogError::NoSpace { path: log_path(&self.dir, self.generation) },
            false => {
                self.fenced = true;
                self.failed("enlarge", error)
            }
        })
    }

    async fn append(&mut self, frame: Vec<u8>) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend(frame);
        let end = self.tail_position + bytes.len() as u64;
        self.write_blocks(self.tail_position, &bytes).await?;
        let kept = usize::try_from(round_down(end) - self.tail_position).expect("it is in memory");
        self.tail = bytes.split_off(kept);
        self.tail_position = round_down(end);
        self.check();
        Ok(())
    }

    /// Writes `bytes`, filled up with zeroes to whole blocks, and flushes.
    async fn write_blocks(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut position = position;
        for piece in bytes.chunks(WRITE_BYTES_MAX) {
            let padded_bytes = piece.len().next_multiple_of(DIRECT_ALIGN_BYTES);
            let mut buffer = self.io.memory().allocate_wait(padded_bytes).await;
            buffer[..piece.len()].copy_from_slice(piece);
            buffer[piece.len()..].fill(0);
            let gather: Vec<Slice> = vec![buffer.freeze()];
            if bytes.len() <= WRITE_BYTES_MAX {
                return self.file.write_and_sync(position, gather).await;
            }
            self.file.write_at(position, gather).await?;
            position += padded_bytes as u64;
        }
        self.file.sync().await
    }

    /// Drops everything behind the tail's block and zeroes the rest of that block.
    async fn cut_torn_end(&mut self) -> io::Result<()> {
        let tail = self.tail.clone();
        if tail.is_empty() {
            self.file.truncate(self.tail_position).await?;
            return self.file.sync().await;
        }
        self.file.truncate(self.tail_position + DIRECT_ALIGN_BYTES as u64).await?;
        self.write_blocks(self.tail_position, &tail).await
    }

    /// Whether enough was written for a snapshot to be worth its while.
    pub fn wants_snapshot(&self) -> bool {
        self.tail_position > COMPACT_BYTES_MIN.max(2 * self.snapshot_bytes)
    }

    /// Makes `restored` all that the log holds: its snapshot, then what follows it.
    ///
    /// The snapshot is no older than the one before: a crash on the way leaves the old log behind
    /// it.
    ///
    /// # Errors
    /// [`MetadataLogError::NoSpace`]: the old log goes on, be it with the new snapshot. Any other:
    /// the log is fenced; the disk has the old contents or the new.
    pub async fn restart_from(&mut self, restored: &Restored) -> Result<(), MetadataLogError> {
        if self.fenced {
            return Err(MetadataLogError::Fenced);
        }
        assert!(restored.snapshot.index >= self.snapshot_index, "snapshots only move forward");
        self.fenced = true;
        let next = self.generation + 1;
        let created = match self.write_snapshot(&restored.snapshot).await {
            Ok(()) => MetadataLog::create_file(&self.io, &self.dir, next, restored).await,
            Err(error) => Err(error),
        };
        let mut log = created.map_err(|error| match error {
            // Files are replaced whole: what could not be written is not there under its name.
            MetadataLogError::Io { path, error, .. } if is_full(&error) => {
                self.fenced = false;
                MetadataLogError::NoSpace { path }
            }
            error => error,
        })?;
        log.snapshot_bytes = self.snapshot_bytes;
        let old = std::mem::replace(self, log);
        old.file.close().await;
        let path = log_path(&old.dir, old.generation);
        let removed = self.io.remove_file(&path).await;
        removed.map_err(|error| MetadataLogError::Io { verb: "remove", path, error })
    }

    async fn write_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), MetadataLogError> {
        let bytes = frames::encode_snapshot(snapshot);
        self.snapshot_bytes = bytes.len() as u64;
        let path = self.dir.join(SNAPSHOT_NAME);
        let written = self.io.replace_file(&path, bytes).await;
        written.map_err(|error| MetadataLogError::Io { verb: "write", path, error })
    }

    /// Lets go of the file.
    pub async fn close(self) {
        self.file.close().await;
    }

    fn failed(&self, verb: &'static str, error: io::Error) -> MetadataLogError {
        MetadataLogError::Io { verb, path: log_path(&self.dir, self.generation), error }
    }

    fn check(&self) {
        assert!(self.tail.len() < DIRECT_ALIGN_BYTES);
        assert!(self.tail_position.is_multiple_of(DIRECT_ALIGN_BYTES as u64));
        assert!(self.tail_position >= LOG_HEAD_BYTES as u64);
    }
}

fn round_down(position: u64) -> u64 {
    position - position % DIRECT_ALIGN_BYTES as u64
}

fn log_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{LOG_PREFIX}{generation:020}"))
}

fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix(LOG_PREFIX)?.parse().ok()
}

/// A log file as it was read.
struct ReadLog {
    head: LogHead,
    frames: Vec<Frame>,
    end: u64,
    tail: Vec<u8>,
    torn: bool,
}

async fn read_log(io: &Io, path: &Path) -> Result<ReadLog, MetadataLogError> {
    let bytes = io.read_file(path, FILE_BYTES_MAX).await.map_err(|error| MetadataLogError::Io {
        verb: "read",
        path: path.to_path_buf(),
        error,
    })?;
    let scanned = frames::scan(&bytes)
        .map_err(|error| MetadataLogError::Format { path: path.to_path_buf(), error })?;
    let end = scanned.end as u64;
    let block = usize::try_from(round_down(end)).expect("it is in memory");
    let tail = bytes[block..scanned.end].to_vec();
    Ok(ReadLog { head: scanned.head, frames: scanned.frames, end, tail, torn: scanned.torn })
}

/// What the frames, one after the other, leave behind the snapshot.
fn merged(snapshot: Snapshot, head: &LogHead, frames: Vec<Frame>) -> Restored {
    let mut hard_state = HardState::default();
    let mut entries: Vec<Entry> = Vec::new();
    for frame in frames {
        hard_state = frame.hard_state.unwrap_or(hard_state);
        if let Some(first) = frame.entries.first() {
            let keep = entries.partition_point(|entry| entry.index < first.index);
            entries.truncate(keep);
        }
        entries.extend(frame.entries);
    }
    // A crash between snapshot and new log leaves the old log, which goes on only if it leads
    // there.
    let base = (head.base_index, head.base_term);
    let is_snapshot = |index, term| (index, term) == (snapshot.index, snapshot.term);
    let continues = is_snapshot(base.0, base.1)
        || entries.iter().any(|entry| is_snapshot(entry.index, entry.term));
    if !continues {
        entries.clear();
        hard_state.commit = snapshot.index;
    }
    entries.retain(|entry| entry.index > snapshot.index);
    hard_state.commit = hard_state.commit.max(snapshot.index);
    Restored { hard_state, snapshot, entries }
}

#[cfg(test)]
mod tests;
