//! The directory around all logs: whose it is, that only one node uses it, how it was left.
//!
//! Opened before the shards run and on their thread of control only, so its few small files go
//! through the standard library. **Invariant:** the clean-shutdown file is gone before any log can
//! be appended to.

use super::checkpoint::{CleanLog, decode_clean, encode_clean};
use super::truncate::DIR_DELETED_SUFFIX;
use crate::base::ids::{NodeId, TopicId};
use crate::base::limits::{MIB, NEW_DATA_DIR_BYTES_MIN};
use crate::io::{disk_space, is_full};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Kafka's file with the ids of cluster, node and directory.
const META_NAME: &str = "meta.properties";
/// Locked while a node runs.
const LOCK_NAME: &str = ".lock";
/// Holds the version of the layout.
const FORMAT_NAME: &str = "ringmain-format";
/// What a clean stop leaves.
const CLEAN_NAME: &str = "clean-shutdown";
/// Layout of the files of this version.
const FORMAT_VERSION: &str = "1";

/// The locked data directory of a running node.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    cluster_id: String,
    node_id: NodeId,
    directory_id: TopicId,
    /// Dropping it lets another node in.
    _lock: File,
}

/// Why a directory cannot be this node's; each is a sentence for whoever started the node.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "no space is left on the file system of the data directory {path}: free some there or \
         choose another --data-dir"
    )]
    Full { path: PathBuf },
    #[error(
        "the file system of the new data directory {path} has {free_bytes} bytes left and a node \
         begins with {} MiB: free some there or choose another --data-dir",
        NEW_DATA_DIR_BYTES_MIN / MIB as u64
    )]
    NoRoom { path: PathBuf, free_bytes: u64 },
    #[error("{path} is a file; choose a directory for --data-dir")]
    NotADirectory { path: PathBuf },
    #[error("{path} is in use by another node; stop that one or choose another --data-dir")]
    Locked { path: PathBuf },
    #[error("{path} is not a ringmain data directory: it holds {entry:?}; choose an empty one")]
    Foreign { path: PathBuf, entry: String },
    #[error(
        "{path} has format {found:?} and this version reads {FORMAT_VERSION:?}; use the newer one"
    )]
    Format { path: PathBuf, found: String },
    #[error("{path} belongs to node {found}, not to node {expected}")]
    OtherNode { path: PathBuf, found: NodeId, expected: NodeId },
    #[error("{path} cannot be understood: {reason}")]
    Damaged { path: PathBuf, reason: String },
}

impl DataDir {
    /// Opens or creates the directory for `node_id` and locks it.
    ///
    /// Also returns what a clean stop left of each log, and forgets it on disk: logs that are not
    /// in there are recovered. A new directory gets a new cluster id.
    ///
    /// # Errors
    /// [`DataDirError`]: nothing was changed in a directory that is not this node's.
    pub fn open(path: &Path, node_id: NodeId) -> Result<(DataDir, Vec<CleanLog>), DataDirError> {
        let failed = |doing| {
            let path = path.to_path_buf();
            move |source| match is_full(&source) {
                true => DataDirError::Full { path },
                false => DataDirError::Io { doing, path, source },
            }
        };
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotADirectory { path: path.to_path_buf() });
        }
        if path.exists() {
            refuse_foreign(path)?;
        }
        refuse_small(path)?;
        fs::create_dir_all(path).map_err(failed("create"))?;
        let lock = File::create(path.join(LOCK_NAME)).map_err(failed("write to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(DataDirError::Locked { path: path.to_path_buf() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let format = path.join(FORMAT_NAME);
        if !format.exists() {
            let ids = format!(
                "version=1\ncluster.id={}\nnode.id={node_id}\ndirectory.id={}\n",
                TopicId::random(),
                TopicId::random()
            );
            replace(path, META_NAME, &ids).map_err(failed("write to"))?;
            replace(path, FORMAT_NAME, FORMAT_VERSION).map_err(failed("write to"))?;
        }
        let found = fs::read_to_string(&format).map_err(failed("read"))?;
        if found.trim() != FORMAT_VERSION {
            let found = found.trim().to_owned();
            return Err(DataDirError::Format { path: path.to_path_buf(), found });
        }
        let (cluster_id, directory_id) = read_meta(&path.join(META_NAME), node_id)?;
        let clean = take_clean(path).map_err(failed("read"))?;
        remove_doomed(path).map_err(failed("clean up"))?;
        let path = path.to_path_buf();
        Ok((DataDir { path, cluster_id, node_id, directory_id, _lock: lock }, clean))
    }

    /// A file of the directory at `path` that no start but the first writes: see
    /// [`Committer::flush_through`](super::Committer::flush_through).
    pub fn unwritten_file(path: &Path) -> PathBuf {
        path.join(FORMAT_NAME)
    }

    /// Writes down how the logs were left; the last thing before the process ends. Durable on
    /// return.
    ///
    /// # Errors
    /// The file system's: the next start recovers instead.
    pub fn write_clean(&self, logs: &[CleanLog]) -> io::Result<()> {
        replace(&self.path, CLEAN_NAME, &encode_clean(logs))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster that this node is part of.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The node whose directory it is.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The directory's own id.
    pub fn directory_id(&self) -> TopicId {
        self.directory_id
    }
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { doing: "list", path: path.to_path_buf(), source };
    if path.join(FORMAT_NAME).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // What a first start that was cut short leaves; `lost+found` is the file system's.
        let ours = entry == LOCK_NAME || entry == "lost+found" || entry.ends_with(".tmp");
        let meta = entry == META_NAME && !path.join("bootstrap.checkpoint").exists();
        if !ours && !meta {
            return Err(DataDirError::Foreign { path: path.to_path_buf(), entry });
        }
    }
    Ok(())
}

/// Refuses to begin where there is hardly room for the first files: nothing is made then.
fn refuse_small(path: &Path) -> Result<(), DataDirError> {
    if path.join(FORMAT_NAME).exists() {
        return Ok(()); // full or not, what is there can be read
    }
    let there = path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    match disk_space(there) {
        Ok(space) if space.usable_bytes < NEW_DATA_DIR_BYTES_MIN => {
            Err(DataDirError::NoRoom { path: path.to_path_buf(), free_bytes: space.usable_bytes })
        }
        _ => Ok(()), // what cannot be told shows when it is written
    }
}

fn read_meta(path: &Path, node_id: NodeId) -> Result<(String, TopicId), DataDirError> {
    let damaged = |reason: &str| {
        let reason = reason.to_owned();
        DataDirError::Damaged { path: path.to_path_buf(), reason }
    };
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| {
        let path = path.to_path_buf();
        DataDirError::Io { doing: "read", path, source }
    })?;
    let value = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find(|pair| pair.0.trim() == name).map(|pair| pair.1.trim())
    };
    if value("version") != Some("1") {
        return Err(damaged("version=1 is missing"));
    }
    let cluster_id = value("cluster.id").ok_or_else(|| damaged("cluster.id is missing"))?;
    let found = value("node.id").and_then(|number| number.parse().ok()).map(NodeId);
    let found = found.ok_or_else(|| damaged("node.id is missing or no number"))?;
    if found != node_id {
        return Err(DataDirError::OtherNode { path: path.to_path_buf(), found, expected: node_id });
    }
    let directory_id = value("directory.id").and_then(|id| id.parse().ok());
    let directory_id = directory_id.ok_or_else(|| damaged("directory.id is missing or no id"))?;
    Ok((cluster_id.to_owned(), directory_id))
}

fn take_clean(path: &Path) -> io::Result<Vec<CleanLog>> {
    let clean = path.join(CLEAN_NAME);
    let text = match fs::read_to_string(&clean) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    fs::remove_file(&clean)?;
    File::open(path)?.sync_all()?;
    Ok(decode_clean(&text).unwrap_or_else(|| {
        tracing::warn!(path = %clean.display(), "clean-shutdown file not understood: recovering");
        Vec::new()
    }))
}

/// Removes partition directories whose removal was cut short.
fn remove_doomed(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let doomed = entry.file_name().to_string_lossy().ends_with(DIR_DELETED_SUFFIX);
        if doomed && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Puts `contents` under `name`, whole or not at all, and durable.
fn replace(dir: &Path, name: &str, contents: &str) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    /// Goal: a directory keeps its ids and lets one node in. Method: open twice, close, open again.
    #[test]
    fn a_second_node_is_kept_out_and_ids_stay() {
        let dir = temporary();
        let (first, clean) = DataDir::open(dir.path(), NodeId(1)).unwrap();
        assert!(clean.is_empty());
        let ids = (first.cluster_id().to_owned(), first.directory_id());
        let second = DataDir::open(dir.path(), NodeId(1));
        assert!(matches!(second, Err(DataDirError::Locked { .. })), "{second:?}");
        drop(first);
        let (again, _) = DataDir::open(dir.path(), NodeId(1)).unwrap();
        assert_eq!((again.cluster_id().to_owned(), again.directory_id()), ids);
        drop(again);
        let other = DataDir::open(dir.path(), NodeId(2));
        assert!(matches!(other, Err(DataDirError::OtherNode { .. })), "{other:?}");
    }

    /// Goal: what is not ours stays as it is. Method: a stranger's file; a newer format.
    #[test]
    fn a_foreign_or_newer_directory_is_refused() {
        let dir = temporary();
        fs::write(dir.path().join("letters.txt"), "dear").unwrap();
        let foreign = DataDir::open(dir.path(), NodeId(1));
        assert!(matches!(foreign, Err(DataDirError::Foreign { .. })), "{foreign:?}");
        assert!(!dir.path().join(LOCK_NAME).exists());
        let dir = temporary();
        drop(DataDir::open(dir.path(), NodeId(1)).unwrap());
        fs::write(dir.path().join(FORMAT_NAME), "2\n").unwrap();
        let newer = DataDir::open(dir.path(), NodeId(1));
        assert!(matches!(newer, Err(DataDirError::Format { .. })), "{newer:?}");
    }

    /// Goal: a clean stop counts once. Method: write, open, open again.
    #[test]
    fn a_clean_stop_is_believed_once() {
        let dir = temporary();
        let (first, _) = DataDir::open(dir.path(), NodeId(1)).unwrap();
        let log = CleanLog {
            dir_name: "words-0".to_owned(),
            topic_id: TopicId(5),
            start_offset: Default::default(),
            segments: Vec::new(),
            epochs: Default::default(),
            producers: None,
            corrupt: Vec::new(),
        };
        first.write_clean(std::slice::from_ref(&log)).unwrap();
        drop(first);
        let (second, clean) = DataDir::open(dir.path(), NodeId(1)).unwrap();
        assert_eq!(clean, [log]);
        drop(second);
        let (_third, clean) = DataDir::open(dir.path(), NodeId(1)).unwrap();
        assert!(clean.is_empty());
    }
}
